import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

from ccnet.classes import IGNORE_INDEX
from ccnet.datasets.dataset import SizeMismatchError
from ccnet.datasets.description import default_palette
from ccnet.datasets.folder import EXAMPLE, FolderDataset
from ccnet.datasets.labels import LabelMap, LabelValueError, UnmappedValue
from ccnet.datasets.pairs import find_pairs
from ccnet.images.reading import DataError, read_image

CLASSES = ["sky", "road", "car"]
COLORS = {"sky": [0, 0, 255], "road": [128, 64, 128], "car": [0, 0, 142]}
LABEL = np.array([[0, 1, 2, 255], [2, 1, 0, 255]], np.uint8)
IMAGE = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)


def save(path: Path, array: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path)
    return path


def save_palette(path: Path, label: np.ndarray, colors: dict[int, tuple[int, int, int]]) -> Path:
    picture = Image.fromarray(label).convert("L")
    picture.putpalette([part for i in range(256) for part in colors.get(i, (9, 9, 9))])
    path.parent.mkdir(parents=True, exist_ok=True)
    picture.save(path)
    return path


def describe(root: Path, **keys: Any) -> None:
    root.mkdir(exist_ok=True)
    (root / "dataset.yaml").write_text(yaml.safe_dump(keys, sort_keys=False))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two pairs, one in a sub-folder, described by three class names."""
    describe(tmp_path, classes=CLASSES)
    for name in ("a", "deep/b"):
        save(tmp_path / f"train/images/{name}.png", IMAGE)
        save(tmp_path / f"train/labels/{name}.png", LABEL)
    return tmp_path


def test_folder_gives_images_labels_classes_and_names(root: Path):
    dataset = FolderDataset(root)
    image, label = dataset[0]
    assert len(dataset) == 2
    assert dataset.classes == ("sky", "road", "car")
    assert dataset.ignore_index == IGNORE_INDEX
    assert len(set(dataset.palette)) == 3
    assert [dataset.name(i) for i in range(2)] == ["train/images/a.png", "train/images/deep/b.png"]
    assert (image.dtype, label.dtype) == (np.uint8, np.uint8)
    np.testing.assert_array_equal(image, IMAGE)
    np.testing.assert_array_equal(label, LABEL)
    with pytest.raises(IndexError):
        dataset[2]


@pytest.mark.parametrize(
    ("image", "label"),
    [("train/images/a.png", "train/labels/a.png"), ("images/train/a.JPG", "labels/train/a.png")],
)
def test_either_folder_layout_is_found(tmp_path: Path, image: str, label: str):
    describe(tmp_path, classes=CLASSES)
    save(tmp_path / image, IMAGE)
    save(tmp_path / label, LABEL)
    assert [FolderDataset(tmp_path).name(0)] == [image]


@pytest.mark.parametrize("separator", [" ", ",", "\t", " , "])
def test_list_file_pairs_any_names(tmp_path: Path, separator: str):
    describe(tmp_path, classes=CLASSES)
    save(tmp_path / "photos/x.png", IMAGE)
    save(tmp_path / "masks/y.png", LABEL)
    text = f"# image and label\n\nphotos/x.png{separator}masks/y.png\n"
    (tmp_path / "train.txt").write_text(text)
    assert FolderDataset(tmp_path).name(0) == "photos/x.png"


def test_hidden_and_foreign_files_are_left_alone(root: Path):
    for name in (".DS_Store", "._a.png", "notes.txt"):
        (root / "train/images" / name).write_text("x")
    assert len(FolderDataset(root)) == 2


@pytest.mark.parametrize(
    ("keys", "stored"),
    [
        ({"mapping": {7: "sky", 8: 1, 11: "car", 0: "ignore"}}, [[7, 8, 11, 0], [11, 8, 7, 255]]),
        ({"mapping": {1: 0, 2: 1, 3: 2}, "ignore": 0}, [[1, 2, 3, 0], [3, 2, 1, 255]]),
        ({"ignore": [3, 9]}, [[0, 1, 2, 3], [2, 1, 0, 9]]),
        ({"mapping": {300: 0, 1: 1, 255: 2, 4: 255}}, [[300, 1, 255, 4], [255, 1, 300, 4]]),
        ({"mapping": {0: 0, 128: 1, 255: 2, 7: "ignore"}}, [[0, 128, 255, 7], [255, 128, 0, 7]]),
    ],
)
def test_raw_numbers_are_mapped(tmp_path: Path, keys: dict, stored: list):
    path = save(tmp_path / "a.png", np.array(stored, np.min_scalar_type(np.max(stored))))
    np.testing.assert_array_equal(LabelMap(CLASSES, **keys).read(path), LABEL)


@pytest.mark.parametrize(
    "keys",
    [
        {"classes": COLORS, "ignore": [[0, 0, 0]]},
        {"classes": CLASSES, "palette": list(COLORS.values()), "ignore": "#000000"},
        {"classes": CLASSES, "palette": COLORS, "mapping": {"#000000": "ignore"}},
        {"classes": COLORS, "mapping": {(0, 0, 0): "ignore"}, "labels": "rgb"},
    ],
)
@pytest.mark.parametrize("alpha", [False, True])
def test_colours_are_looked_up_in_the_palette(tmp_path: Path, keys: dict, alpha: bool):
    lookup = np.zeros((256, 3), np.uint8)
    lookup[:3] = list(COLORS.values())
    stored = lookup[LABEL]
    if alpha:
        stored = np.dstack([stored, LABEL])
    path = save(tmp_path / "a.png", stored)
    np.testing.assert_array_equal(LabelMap(**keys).read(path), LABEL)


def test_palette_png_is_read_by_its_numbers_or_on_demand_by_its_colours(tmp_path: Path):
    own = {0: (128, 64, 128), 1: (0, 0, 142), 2: (0, 0, 255), 255: (0, 0, 0)}
    path = save_palette(tmp_path / "a.png", LABEL, own)
    np.testing.assert_array_equal(LabelMap(CLASSES).read(path), LABEL)
    np.testing.assert_array_equal(LabelMap(COLORS, labels="index").read(path), LABEL)
    np.testing.assert_array_equal(LabelMap(COLORS, labels="palette").read(path), LABEL)
    by_color = LabelMap(COLORS, ignore=[[0, 0, 0]], labels="rgb").read(path)
    np.testing.assert_array_equal(by_color, np.array([1, 2, 0, *[3] * 252, 255])[LABEL])
    with pytest.raises(DataError, match=r"entry 0 is class 0 \('sky'\) by its number.*'road'"):
        LabelMap(COLORS).read(path)


def test_numbers_repeated_over_three_channels_are_read_as_index(tmp_path: Path):
    path = save(tmp_path / "a.png", np.dstack([LABEL] * 3))
    np.testing.assert_array_equal(LabelMap(CLASSES, labels="index").read(path), LABEL)


def test_black_and_white_label_is_zero_and_one(tmp_path: Path):
    path = save(tmp_path / "a.png", np.array([[True, False], [False, True]]))
    assert LabelMap(CLASSES).read(path).tolist() == [[1, 0], [0, 1]]


@pytest.mark.parametrize(("bits", "row"), [(2, [0, 1, 2, 0]), (4, [0, 1, 2, 1])])
def test_grey_labels_with_few_bits_keep_their_numbers(tmp_path: Path, bits: int, row: list[int]):
    packed = sum(value << bits * (3 - i) for i, value in enumerate(row))
    header = bytes([0, 0, 0, 4, 0, 0, 0, 1, bits, 0, 0, 0, 0])
    data = zlib.compress(b"\0" + packed.to_bytes(bits * 4 // 8, "big"))
    chunks = b"".join(
        len(body).to_bytes(4, "big") + kind + body + zlib.crc32(kind + body).to_bytes(4, "big")
        for kind, body in ((b"IHDR", header), (b"IDAT", data), (b"IEND", b""))
    )
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + chunks)
    assert LabelMap(CLASSES).read(tmp_path / "a.png").tolist() == [row]


def test_unmapped_number_names_file_value_position_and_count(root: Path):
    label = LABEL.copy()
    label[1, 2:] = 37
    save(root / "train/labels/a.png", label)
    with pytest.raises(
        LabelValueError,
        match=r"train/labels/a\.png: value 37 first at \(x=2, y=1\), 2 pixels: no class has it\. "
        r"Classes are 0–2, ignored 255\. Add the value to `mapping` or `ignore`",
    ) as caught:
        FolderDataset(root)[0]
    assert caught.value.path == root / "train/labels/a.png"
    assert caught.value.values == (UnmappedValue(37, 2, 1, 2),)


@pytest.mark.parametrize(
    ("keys", "stored", "message"),
    [
        ({}, [[1, 2, 3]], r"value 3 first at \(x=2, y=0\), 1 pixel:.* 1: `mapping: {1: sky"),
        ({"ignore": 9}, [[4, 5, 4]], r"value 4 .*, 2 pixels; value 5 .*ignored 9, 255"),
        ({"mapping": {7: 0}}, [[7, 0]], r"value 0 .*Classes are 7, ignored 255"),
        ({}, [list(range(10, 30))], r"value 14 .*; and 15 more"),
        ({"palette": COLORS}, [[[0, 0, 255], [1, 2, 3]]], r"colour \(1, 2, 3\) first at \(x=1"),
        ({"palette": COLORS}, [[[1, 1, 1]]], r"repeat the class number, write `labels: index`"),
        (
            {"palette": COLORS},
            [[[0, i, 1] for i in range(40)]],
            r"and 35 more: no class has it\. So many colours come from lossy",
        ),
    ],
)  # fmt: skip
def test_unmapped_values_say_what_would_work(
    tmp_path: Path, keys: dict, stored: list, message: str
):
    path = save(tmp_path / "a.png", np.array(stored, np.uint8))
    with pytest.raises(LabelValueError, match=message):
        LabelMap(CLASSES, **keys).read(path)


def test_values_beyond_16_bits_are_unmapped(tmp_path: Path):
    path = tmp_path / "a.tif"
    Image.fromarray(np.array([[0, 70000, -1]], np.int32)).save(path)
    with pytest.raises(LabelValueError, match=r"value -1 first at \(x=2, y=0\).*value 70000"):
        LabelMap(CLASSES).read(path)


@pytest.mark.parametrize(
    ("keys", "stored", "message"),
    [
        ({}, [[[1, 2, 3]]], "an RGB label needs the colour of each class"),
        ({"labels": "index"}, [[[1, 2, 3]]], "wants one number a pixel, this file has colours"),
        ({"labels": "palette"}, [[1]], "wants palette PNGs, this one is of mode 'L'"),
    ],
)
def test_label_of_the_wrong_form_is_refused(tmp_path: Path, keys: dict, stored: list, message: str):
    path = save(tmp_path / "a.png", np.array(stored, np.uint8))
    with pytest.raises(DataError, match=message):
        LabelMap(CLASSES, **keys).read(path)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({}, "`classes` is missing. For example"),
        ({"classes": CLASSES, "colours": [], "size": 3}, "unknown key 'colours', 'size'; known"),
        ({"classes": "sky"}, "must be a list of 1 to 255 names, got 'sky'"),
        ({"classes": []}, "must be a list of 1 to 255 names"),
        ({"classes": list(map(str, range(256)))}, "must be a list of 1 to 255 names"),
        ({"classes": ["sky", True]}, "class name True is not text: put it in quotes"),
        ({"classes": ["sky", "sky"]}, r"must differ.*\['sky'\]"),
        ({"classes": ["sky", "ignore"]}, "none be 'ignore'"),
        ({"classes": {"sky": [0, 0, 256]}}, r"\[0, 0, 256\] is no colour"),
        ({"classes": {"sky": "#00000g"}}, "'#00000g' is no colour"),
        ({"classes": COLORS, "palette": COLORS}, "leave out `palette`"),
        ({"classes": CLASSES, "palette": 3}, "`palette` must list a colour for each class, got 3"),
        ({"classes": CLASSES, "palette": [[0, 0, 0]]}, "has 1 colours for 3 classes"),
        ({"classes": CLASSES, "palette": {"sky": [0, 0, 0]}}, r"`palette` names \['sky'\]"),
        ({"classes": CLASSES, "palette": [[0, 0, 0]] * 3}, "'sky' and 'road' have one colour"),
        ({"classes": CLASSES, "labels": "gray"}, "`labels` is 'gray'; it can be index, palette"),
        ({"classes": CLASSES, "ignore": 0}, r"lists 0, which also stands for class 0 \('sky'\)"),
        ({"classes": CLASSES, "ignore": "void"}, "'void' is no colour"),
        ({"classes": CLASSES, "ignore": -1}, "raw label value -1 is outside 0–65535"),
        ({"classes": CLASSES, "mapping": [1]}, "`mapping` must be raw value: class"),
        ({"classes": CLASSES, "mapping": {5: "bus"}}, "sends 5 to 'bus', which is neither"),
        ({"classes": CLASSES, "mapping": {5: 3}}, r"sends 5 to 3.*sky, road, car \(0–2\)"),
    ],
)  # fmt: skip
def test_wrong_description_is_refused(root: Path, keys: dict, message: str):
    describe(root, **keys)
    with pytest.raises(DataError, match=rf"(?s)dataset\.yaml: .*{message}"):
        FolderDataset(root)


def test_missing_description_shows_an_example_and_broken_yaml_its_line(root: Path):
    (root / "dataset.yaml").write_text("classes: [sky\nroad: 3")
    with pytest.raises(DataError, match=r"(?s)not readable as YAML.*line 2"):
        FolderDataset(root)
    (root / "dataset.yaml").unlink()
    with pytest.raises(DataError, match=r"(?s)dataset\.yaml: no such file.*road: \[128, 64, 128\]"):
        FolderDataset(root)
    assert len(FolderDataset(root, classes=CLASSES)) == 2


def test_example_in_the_message_is_a_working_description(tmp_path: Path):
    described = LabelMap(**yaml.safe_load(EXAMPLE))
    assert described.classes == ("road", "building")


def test_arguments_take_the_place_of_the_file(root: Path):
    describe(root, classes=["x", "y"], palette=[[1, 1, 1], [2, 2, 2]], ignore=[2])
    dataset = FolderDataset(root, classes=COLORS, ignore=7)
    assert dataset.palette == tuple(map(tuple, COLORS.values()))
    np.testing.assert_array_equal(dataset[0][1], LABEL)
    describe(root, classes=COLORS)
    assert FolderDataset(root, palette=["#010203", "#020304", "#030405"]).palette[0] == (1, 2, 3)


def test_files_without_partner_are_named(root: Path):
    save(root / "train/images/lonely.jpg", IMAGE)
    save(root / "train/images/a.bmp", IMAGE)
    save(root / "train/labels/orphan.png", LABEL)
    save(root / "train/labels/lossy.jpg", LABEL)
    with pytest.raises(DataError) as caught:
        FolderDataset(root)
    # the first of two images of one name is paired, the second left over
    assert "images without a label (2): train/images/a.png, train/images/lonely.jpg" in str(
        caught.value
    )
    assert "labels without an image (2): train/labels/lossy.jpg, train/labels/orphan" in str(
        caught.value
    )
    assert len(FolderDataset(root, strict=False)) == 2


def test_listed_files_that_are_missing_are_named(tmp_path: Path):
    describe(tmp_path, classes=CLASSES)
    save(tmp_path / "x.png", IMAGE)
    (tmp_path / "train.txt").write_text("x.png y.png\np.png q.png\n")
    with pytest.raises(DataError, match=r"listed but missing \(3\): y\.png, p\.png, q\.png"):
        FolderDataset(tmp_path)
    assert find_pairs(tmp_path, "train").unmatched_images == (tmp_path / "x.png",)


@pytest.mark.parametrize("line", ["x.png", "a b c", "a,b,c"])
def test_list_line_that_is_no_pair_is_named(tmp_path: Path, line: str):
    (tmp_path / "train.txt").write_text(f"# header\n{line}\n")
    with pytest.raises(DataError, match=rf"train\.txt, line 2: wants two paths.*'{line}'"):
        find_pairs(tmp_path, "train")


def test_missing_root_split_or_images_say_what_was_looked_for(root: Path):
    with pytest.raises(DataError, match="nowhere: no such folder"):
        FolderDataset(root / "nowhere")
    with pytest.raises(
        DataError,
        match=r"no split 'test'. Looked for test/images \+ test/labels; images/test \+ "
        r"labels/test; test\.txt; the folder holds: dataset\.yaml, train",
    ):
        FolderDataset(root, "test")
    (root / "val/images").mkdir(parents=True)
    (root / "val/labels").mkdir()
    with pytest.raises(DataError, match="no images in there"):
        FolderDataset(root, "val")


@pytest.mark.parametrize("part", ["images", "labels"])
@pytest.mark.parametrize("damage", ["truncated", "text", "empty"])
def test_corrupt_file_is_named(root: Path, part: str, damage: str):
    path = root / "train" / part / "a.png"
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    save(path, noise)
    whole = path.read_bytes()
    path.write_bytes({"truncated": whole[:2000], "text": b"not an image", "empty": b""}[damage])
    with pytest.raises(DataError, match=rf"train/{part}/a\.png: cannot be read as an image"):
        FolderDataset(root)[0]


def test_file_that_vanished_is_named(root: Path):
    dataset = FolderDataset(root)
    (root / "train/images/a.png").unlink()
    with pytest.raises(DataError, match=r"train/images/a\.png: no such file"):
        dataset[0]


def test_size_mismatch_names_both_sizes_and_files(root: Path):
    save(root / "train/labels/a.png", LABEL[:, :3])
    with pytest.raises(
        SizeMismatchError, match=r"images/a\.png is 4×2, its label .*labels/a\.png is 3×2\. Resize"
    ):
        FolderDataset(root)[0]


def test_photograph_is_turned_upright_and_a_label_of_the_stored_size_is_explained(root: Path):
    exif = Image.Exif()
    exif[0x0112] = 6
    (root / "train/images/a.png").unlink()
    Image.fromarray(np.zeros((2, 4, 3), np.uint8)).save(root / "train/images/a.jpg", exif=exif)
    with pytest.raises(SizeMismatchError, match=r"a\.jpg is 2×4, .* is 4×2\. .*EXIF orientation"):
        FolderDataset(root)[0]
    save(root / "train/labels/a.png", LABEL.T)
    image, label = FolderDataset(root)[0]
    assert image.shape == (4, 2, 3)
    np.testing.assert_array_equal(label, LABEL.T)


@pytest.mark.parametrize(
    ("stored", "expected"),
    [
        (np.array([[0, 255]], np.uint8), [0, 255]),
        (np.array([[0, 65535]], np.uint16), [0, 255]),
        (np.array([[257, 32896]], np.uint16), [1, 128]),
        (np.array([[[7, 7, 7, 0], [9, 9, 9, 255]]], np.uint8), [7, 9]),
        (np.array([[[7, 0], [9, 255]]], np.uint8), [7, 9]),
        (np.array([[False, True]]), [0, 255]),
    ],
    ids=["grey", "16-bit", "16-bit-middle", "rgba", "grey-alpha", "1-bit"],
)
def test_images_of_any_kind_become_rgb(tmp_path: Path, stored: np.ndarray, expected: list[int]):
    image = read_image(save(tmp_path / "a.png", stored))
    assert (image.dtype, image.shape) == (np.uint8, (1, 2, 3))
    assert image[0].tolist() == [[value] * 3 for value in expected]


def test_float_image_is_refused(tmp_path: Path):
    path = save(tmp_path / "a.tif", np.zeros((2, 2), np.float32))
    with pytest.raises(DataError, match="mode 'F' has no known range"):
        read_image(path)


def test_default_palette_is_distinct_and_never_black():
    palette = default_palette(255)
    assert len({*palette, (0, 0, 0)}) == 256
    assert palette[:3] == default_palette(3)


def test_numbers_of_8_and_of_16_bits_are_read_alike_and_may_be_written_to(tmp_path: Path):
    numbers = np.arange(256, dtype=np.uint8).reshape(8, 32)
    mapping = {number: number % 3 for number in range(0, 255, 2)}
    mapping |= dict.fromkeys(range(1, 255, 2), "ignore")
    label_map = LabelMap(["a", "b", "c"], mapping=mapping)
    expected = np.where(numbers % 2 == 0, numbers % 3, 255)
    for dtype in (np.uint8, np.uint16):
        path = tmp_path / f"{np.dtype(dtype).name}.png"
        Image.fromarray(numbers.astype(dtype)).save(path)
        label = label_map.read(path)
        assert label.dtype == np.uint8
        np.testing.assert_array_equal(label, expected)
        label[0, 0] = 1
