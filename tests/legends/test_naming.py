"""Classes that are found in label files: their names and colors, and what is no class."""

import numpy as np
import pytest
from PIL import Image, ImageFilter

from ccnet.datasets.folder import FolderDataset
from ccnet.datasets.labels import LabelMap
from ccnet.legends.counting import NoClassesError
from ccnet.legends.naming import legend_of_model, read_legend


def block_map(*values, dtype=np.uint8):
    """A mask of blocks with these values."""
    return np.kron(np.array([values]), np.ones((8, 8))).astype(dtype)


def save(folder, *masks):
    folder.mkdir(exist_ok=True)
    for index, mask in enumerate(masks):
        picture = Image.fromarray(mask) if isinstance(mask, np.ndarray) else mask
        picture.save(folder / f"{index}.png")
    return sorted(folder.iterdir())


def labels_of(folder, *masks):
    """The legend of masks, and the first mask read by it."""
    paths = save(folder, *masks)
    legend = read_legend(folder, paths)
    return legend, LabelMap(**legend.description).read(paths[0])


def test_numbers_are_classes_and_255_is_ignored(tmp_path):
    legend, label = labels_of(tmp_path, block_map(0, 1, 255), block_map(2, 1, 0))
    assert legend.description["classes"] == ["class 0", "class 1", "class 2"]
    np.testing.assert_array_equal(label, block_map(0, 1, 255))
    assert "class 0 (value 0, 33.33%), class 1 (value 1, 33.33%)" in legend.notes[0]
    assert legend.notes[0].endswith("255 is ignored (16.67%)")
    assert "--write-names" in legend.notes[1]


def test_numbers_with_gaps_keep_them_in_their_names(tmp_path):
    legend, label = labels_of(tmp_path, block_map(1, 2, 7))
    assert legend.description["classes"] == ["class 1", "class 2", "class 7"]
    np.testing.assert_array_equal(label, block_map(0, 1, 2))


def test_0_and_255_are_background_and_foreground(tmp_path):
    legend, label = labels_of(tmp_path, block_map(0, 255))
    assert legend.description["classes"] == ["background", "foreground"]
    np.testing.assert_array_equal(label, block_map(0, 1))
    _, label = labels_of(tmp_path, np.repeat(block_map(0, 255)[:, :, None], 3, axis=2))
    np.testing.assert_array_equal(label, block_map(0, 1))


def test_colors_have_their_hexadecimal_names(tmp_path):
    mask = np.zeros((8, 16, 3), np.uint8)
    mask[:, 8:] = [255, 128, 0]
    legend, label = labels_of(tmp_path, mask)
    assert legend.description["classes"] == ["#000000", "#ff8000"]
    np.testing.assert_array_equal(label, block_map(0, 1))
    assert LabelMap(**legend.description).palette == ((0, 0, 0), (255, 128, 0))


def paletted(mask, colors):
    picture = Image.fromarray(mask).convert("P")
    picture.putpalette(colors)
    return picture


def test_a_palette_gives_the_colors(tmp_path):
    legend, label = labels_of(tmp_path, paletted(block_map(0, 1), [0, 0, 0, 9, 8, 7]))
    np.testing.assert_array_equal(label, block_map(0, 1))
    assert LabelMap(**legend.description).palette == ((0, 0, 0), (9, 8, 7))
    masks = [paletted(block_map(0, 1), [0, 0, 0, *color]) for color in ((9, 8, 7), (1, 1, 1))]
    with pytest.raises(NoClassesError, match="show the number 1 in different colors"):
        labels_of(tmp_path, *masks)


def soft():
    """A mask of two gray levels whose edges were smoothed."""
    disc = Image.new("L", (64, 64))
    disc.paste(40, (16, 16, 48, 48))
    return disc.rotate(20).filter(ImageFilter.GaussianBlur(1.5))


@pytest.mark.parametrize(
    ("masks", "said"),
    [
        ([block_map(0, 0)], "hold only the value 0, so there is nothing to tell apart"),
        ([block_map(1, 255)], "hold only the value 1 and 255, which is ignored"),
        ([block_map(0, 85, 170, 255)], r"0, 85, 170, with gaps as gray levels.*mapping: \{0: name"),
        ([block_map(0, 100)], "values 0, 100, with gaps"),
        ([soft()], r"0\.png: \d+ of the \d+ values of the masks .* lie only in lines one pixel"),
        ([block_map(*range(40)), block_map(*range(40, 70))], "hold 70 different values"),
    ],
)
def test_what_looks_like_no_classes_is_refused(tmp_path, masks, said):
    with pytest.raises(NoClassesError, match=said):
        labels_of(tmp_path, *masks)


def test_a_value_of_one_mask_only_is_a_warning(tmp_path):
    legend, _ = labels_of(tmp_path, block_map(0, 1, 9), *[block_map(0, 1)] * 4)
    assert "only one mask has the value 9" in legend.notes[2]
    assert "0.png" in legend.notes[2]


def test_labels_are_compared_with_the_classes_of_a_model(tmp_path):
    for names, mask, expected in (
        (["class 1", "class 7"], block_map(7, 1), block_map(1, 0)),
        (["background", "foreground"], block_map(0, 255), block_map(0, 1)),
        (["road", "sky"], block_map(0, 1), block_map(0, 1)),
    ):
        legend = legend_of_model(names)
        paths = save(tmp_path, mask)
        found = LabelMap(**legend.description).settled(paths).read(paths[0])
        np.testing.assert_array_equal(found, expected)
        assert legend.notes[0].endswith(", ".join(names))
    colored = legend_of_model(["#000000", "#ff8000"]).description
    assert (colored["labels"], colored["palette"]) == ("rgb", ["#000000", "#ff8000"])


def test_all_splits_of_a_folder_have_the_same_classes(tmp_path):
    for split, values in (("train", (0, 1)), ("val", (0, 2))):
        for kind in ("images", "labels"):
            (tmp_path / split / kind).mkdir(parents=True)
            Image.fromarray(block_map(*values)).save(tmp_path / split / kind / "a.png")
    train, val = (FolderDataset(tmp_path, split) for split in ("train", "val"))
    assert train.classes == val.classes == ("class 0", "class 1", "class 2")
    assert any("there is no dataset.yaml" in note for note in train.notes)
    with pytest.raises(ValueError, match="no class has it"):
        FolderDataset(tmp_path, "val", unnamed=("class 0", "class 1"))[0]
