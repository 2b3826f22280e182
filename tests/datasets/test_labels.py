"""Label files of every form as class indices, and what is said of values without a class."""

import os
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ccnet.datasets.labels import LabelMap
from ccnet.datasets.unmapped import LabelValueError, UnmappedValue
from ccnet.runtime.files import DataError
from tests.datasets.conftest import CLASSES, COLORS, LABEL, save
from tests.images.test_opening import png
from tests.images.test_tiff import write_tiff


def save_palette(path: Path, label: np.ndarray, colors: dict[int, tuple[int, int, int]]) -> Path:
    picture = Image.fromarray(label).convert("L")
    picture.putpalette([part for i in range(256) for part in colors.get(i, (9, 9, 9))])
    path.parent.mkdir(parents=True, exist_ok=True)
    picture.save(path)
    return path


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
def test_colors_are_looked_up_in_the_palette(tmp_path: Path, keys: dict, alpha: bool):
    lookup = np.zeros((256, 3), np.uint8)
    lookup[:3] = list(COLORS.values())
    stored = lookup[LABEL]
    if alpha:
        stored = np.dstack([stored, LABEL])
    path = save(tmp_path / "a.png", stored)
    np.testing.assert_array_equal(LabelMap(**keys).read(path), LABEL)


def test_palette_png_is_read_by_its_numbers_or_on_demand_by_its_colors(tmp_path: Path):
    own = {0: (128, 64, 128), 1: (0, 0, 142), 2: (0, 0, 255), 255: (0, 0, 0)}
    path = save_palette(tmp_path / "a.png", LABEL, own)
    np.testing.assert_array_equal(LabelMap(CLASSES).read(path), LABEL)
    np.testing.assert_array_equal(LabelMap(COLORS, labels="index").read(path), LABEL)
    np.testing.assert_array_equal(LabelMap(COLORS, labels="palette").read(path), LABEL)
    by_color = LabelMap(COLORS, ignore=[[0, 0, 0]], labels="rgb").read(path)
    np.testing.assert_array_equal(by_color, np.array([1, 2, 0, *[3] * 252, 255])[LABEL])
    with pytest.raises(DataError, match=r"the value 0 is class 0 \('sky'\) by its number.*'road'"):
        LabelMap(COLORS).read(path)


def test_numbers_repeated_over_three_channels_are_read_as_index(tmp_path: Path):
    path = save(tmp_path / "a.png", np.dstack([LABEL] * 3))
    np.testing.assert_array_equal(LabelMap(CLASSES, labels="index").read(path), LABEL)


def test_black_and_white_label_is_zero_and_one(tmp_path: Path):
    path = save(tmp_path / "a.png", np.array([[True, False], [False, True]]))
    assert LabelMap(CLASSES).read(path).tolist() == [[1, 0], [0, 1]]


@pytest.mark.parametrize(("bits", "row"), [(2, [0, 1, 2, 0]), (4, [0, 1, 2, 1])])
def test_gray_labels_with_few_bits_keep_their_numbers(tmp_path: Path, bits: int, row: list[int]):
    packed = sum(value << bits * (3 - i) for i, value in enumerate(row))
    header = bytes([0, 0, 0, 4, 0, 0, 0, 1, bits, 0, 0, 0, 0])
    data = zlib.compress(b"\0" + packed.to_bytes(bits * 4 // 8, "big"))
    chunks = b"".join(
        len(body).to_bytes(4, "big") + kind + body + zlib.crc32(kind + body).to_bytes(4, "big")
        for kind, body in ((b"IHDR", header), (b"IDAT", data), (b"IEND", b""))
    )
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + chunks)
    assert LabelMap(CLASSES).read(tmp_path / "a.png").tolist() == [row]


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


def test_unmapped_number_names_file_value_position_and_count(tmp_path: Path):
    label = LABEL.copy()
    label[1, 2:] = 37
    path = save(tmp_path / "a.png", label)
    with pytest.raises(
        LabelValueError,
        match=r"a\.png: value 37 first at \(x=2, y=1\), 2 pixels: no class has it\. "
        r"Classes are 0–2, ignored is 255\. Add the value to `mapping` or `ignore`",
    ) as caught:
        LabelMap(CLASSES).read(path)
    assert caught.value.path == path
    assert caught.value.values == (UnmappedValue(37, 2, 1, 2),)


@pytest.mark.parametrize(
    ("keys", "stored", "message"),
    [
        ({}, [[1, 2, 3]], r"value 3 first at \(x=2, y=0\), 1 pixel:.* 1: `mapping: {1: sky"),
        ({"ignore": 9}, [[4, 5, 4]], r"value 4 .*, 2 pixels; value 5 .*ignored is 9, 255"),
        ({"mapping": {7: 0}}, [[7, 0]], r"value 0 .*Classes are 7, ignored is 255"),
        ({}, [list(range(10, 30))], r"value 14 .*; and 15 more"),
        ({"palette": COLORS}, [[[0, 0, 255], [1, 2, 3]]], r"color \(1, 2, 3\) first at \(x=1"),
        ({"palette": COLORS}, [[[1, 1, 1]]], r"repeat the class number, write `labels: index`"),
        (
            {"palette": COLORS},
            [[[0, i, 1] for i in range(40)]],
            r"and 35 more: no class has it\. So many colors come from lossy",
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


@pytest.mark.parametrize("form", [None, "index"])
@pytest.mark.parametrize("values", [[0, 1, 2, 255], [2, 1, 0, 255]])
def test_floats_that_are_whole_numbers_are_numbers(tmp_path: Path, form, values: list[int]):
    path = tmp_path / "a.tif"
    Image.fromarray(np.array([values], np.float32)).save(path)
    assert LabelMap(CLASSES, palette=COLORS, labels=form).read(path).tolist() == [values]


@pytest.mark.parametrize("palette", [None, COLORS])
@pytest.mark.parametrize("form", [None, "index"])
@pytest.mark.parametrize(
    ("number", "text"),
    [(300, "300"), (-5, "-5"), (70000, "70000"), (1.5, "1.5"), (np.nan, "nan"), (np.inf, "inf")],
)
def test_other_floats_are_named(tmp_path: Path, palette, form, number: float, text: str):
    path = tmp_path / "a.tif"
    Image.fromarray(np.array([[0, number, 1], [2, number, 255]], np.float32)).save(path)
    with pytest.raises(
        LabelValueError, match=rf"value {text} first at \(x=1, y=0\), 2 pixels: no class has it"
    ) as caught:
        LabelMap(CLASSES, palette=palette, labels=form).read(path)
    assert [str(value.value) for value in caught.value.values] == [text]
    advice = "Add the value to" if number == 300 else "Labels are whole numbers from 0 to 65535"
    assert advice in str(caught.value)


@pytest.mark.parametrize("stored", [np.uint16, np.int32, np.float32])
def test_numbers_of_more_than_8_bits_are_no_colors(tmp_path: Path, stored: type):
    path = tmp_path / "a.tif"
    Image.fromarray(np.array([[300]], stored)).save(path)
    with pytest.raises(DataError, match="has no RGB colors of 8 bits; save the label as a PNG"):
        LabelMap(COLORS, ignore="#ffffff", labels="rgb").read(path)


@pytest.mark.parametrize("mode", ["CMYK", "LAB", "YCbCr"])
def test_other_colors_than_rgb_are_refused(tmp_path: Path, mode: str):
    picture = Image.fromarray(np.zeros((8, 8, 3), np.uint8))
    path = tmp_path / "a.tif"
    (Image.new(mode, (8, 8)) if mode == "LAB" else picture.convert(mode)).save(path)
    for form in ("index", "rgb", None):
        with pytest.raises(DataError, match=r"interpretation \d has other numbers"):
            LabelMap(COLORS, labels=form).read(path)


def test_a_label_with_losses_is_refused(tmp_path: Path):
    Image.fromarray(LABEL).save(tmp_path / "a.jpg", quality=100)
    (tmp_path / "a.jpg").rename(tmp_path / "a.png")
    with pytest.raises(DataError, match=r"a\.png: the lossy compression of a JPEG changes numbers"):
        LabelMap(CLASSES).read(tmp_path / "a.png")


def test_16_bits_in_three_channels_are_not_cut_to_8(tmp_path: Path):
    path = write_tiff(tmp_path / "a.tif", np.full((4, 4, 3), 5, np.uint16), tag262=(3, [2]))
    with pytest.raises(DataError, match="its colors have 16 bits per channel; save 8"):
        LabelMap(CLASSES, labels="index").read(path)


def test_a_palette_with_alpha_is_read_by_its_numbers_and_its_colors(tmp_path: Path):
    colors = [*COLORS.values(), (0, 0, 0)]
    table = [colors[min(i, 3)][channel] * 257 for channel in range(3) for i in range(256)]
    stored = np.dstack([LABEL, np.full_like(LABEL, 7)])
    tags = {"tag262": (3, [3]), "tag338": (3, [2]), "tag320": (3, table)}
    path = write_tiff(tmp_path / "a.tif", stored, **tags)
    with Image.open(path) as picture:
        assert picture.mode == "PA"
    np.testing.assert_array_equal(LabelMap(CLASSES).read(path), LABEL)
    by_color = LabelMap(COLORS, ignore="#000000", labels="rgb").read(path)
    np.testing.assert_array_equal(by_color, LABEL)


def test_gray_of_four_bits_in_a_tiff_keeps_its_numbers(tmp_path: Path):
    stored = np.array([[0x01, 0x21]], np.uint8)[:, :, None]
    path = write_tiff(tmp_path / "a.tif", stored, tag256=(4, [4]), tag258=(3, [4]))
    assert LabelMap(CLASSES).read(path).tolist() == [[0, 1, 2, 1]]


def test_no_more_than_a_thousand_values_are_listed(tmp_path: Path):
    path = save(tmp_path / "a.png", np.arange(3, 3003, dtype=np.uint16).reshape(30, 100))
    with pytest.raises(LabelValueError, match="; and 2994 more: no class has it") as caught:
        LabelMap(CLASSES).read(path)
    assert len(caught.value.values) == 1000


def test_a_label_of_too_many_pixels_and_one_that_is_a_fifo_are_told(tmp_path: Path):
    (tmp_path / "a.png").write_bytes(png(12000, 12000))
    with pytest.raises(DataError, match=r"a\.png: 12000×12000 pixels, more than the limit"):
        LabelMap(CLASSES).read(tmp_path / "a.png")
    os.mkfifo(tmp_path / "b.png")
    with pytest.raises(DataError, match=r"b\.png: it is a FIFO"):
        LabelMap(CLASSES).read(tmp_path / "b.png")


@pytest.mark.parametrize(
    ("keys", "stored", "message"),
    [
        ({}, [[[1, 2, 3]]], "an RGB label needs the color of each class"),
        (
            {"labels": "index"},
            [[[1, 2, 3]]],
            "needs one number per pixel, but this file has colors",
        ),
        ({"labels": "palette"}, [[1]], "needs palette PNGs, but this file has mode 'L'"),
    ],
)
def test_label_of_the_wrong_form_is_refused(tmp_path: Path, keys: dict, stored: list, message: str):
    path = save(tmp_path / "a.png", np.array(stored, np.uint8))
    with pytest.raises(DataError, match=message):
        LabelMap(CLASSES, **keys).read(path)


@pytest.mark.parametrize(
    ("form", "accepted"),
    [
        ("index", {"L", "P", "RGB of equal channels"}),
        ("palette", {"P"}),
        ("rgb", {"P", "RGB", "RGBA"}),
        (None, {"L", "P", "RGB", "RGBA"}),
    ],
)
def test_each_form_takes_its_own_kinds_of_files(tmp_path: Path, form, accepted: set[str]):
    colors = {0: (0, 0, 255), 1: (128, 64, 128), 2: (0, 0, 142), 255: (0, 0, 0)}
    palette = save_palette(tmp_path / "P.png", LABEL, colors)
    picture = Image.open(palette)
    save(tmp_path / "L.png", LABEL)
    save(tmp_path / "RGB of equal channels.png", np.dstack([LABEL] * 3))
    for mode in ("RGB", "RGBA"):
        picture.convert(mode).save(tmp_path / f"{mode}.png")
    label_map = LabelMap(COLORS, ignore=[[0, 0, 0]], labels=form)
    read = set()
    for path in tmp_path.iterdir():
        try:
            label = label_map.read(path)
        except DataError:
            continue
        np.testing.assert_array_equal(label, LABEL)
        read.add(path.stem)
    assert read == accepted


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"classes": COLORS, "palette": COLORS}, "leave out `palette`"),
        ({"classes": CLASSES, "labels": "gray"}, "`labels` is 'gray'; it can be index, palette"),
        ({"classes": CLASSES, "ignore": 0}, r"lists 0, which also stands for class 0 \('sky'\)"),
        ({"classes": COLORS, "ignore": [[0, 0, 142]]}, r"also stands for class 2 \('car'\)"),
        ({"classes": CLASSES, "mapping": {7: "car"}, "ignore": 7}, "lists 7, which also stands"),
    ],
)
def test_a_description_that_contradicts_itself_is_refused(keys: dict, message: str):
    with pytest.raises(ValueError, match=message):
        LabelMap(**keys)


def test_255_is_ignored_unless_it_is_a_class():
    assert LabelMap(CLASSES).targets[255] == 255
    assert LabelMap(CLASSES, mapping={255: "car"}).targets == {255: 2}


def test_a_label_is_turned_upright_by_its_own_orientation(tmp_path: Path):
    exif = Image.Exif()
    exif[0x0112] = 6  # turn clockwise by 90° to view
    Image.fromarray(LABEL).save(tmp_path / "a.png", exif=exif)
    np.testing.assert_array_equal(LabelMap(CLASSES).read(tmp_path / "a.png"), np.rot90(LABEL, -1))


BINARY = ["background", "thing"]
GRAYS = {"black": [0, 0, 0], "white": [255, 255, 255]}


def save_all(folder: Path, *labels: list) -> list[Path]:
    arrays = [np.array(label, np.uint8) for label in labels]
    return [save(folder / f"{i}.png", array) for i, array in enumerate(arrays)]


def test_255_is_the_second_of_two_classes_where_labels_hold_only_0_and_255(tmp_path: Path):
    paths = save_all(tmp_path, [[0, 0]], [[0, 255]], [[255, 255]])
    assert LabelMap(BINARY).read(paths[1]).tolist() == [[0, 255]]
    label_map = LabelMap(BINARY).settled(paths)
    assert [label_map.read(path).tolist() for path in paths] == [[[0, 0]], [[0, 1]], [[1, 1]]]
    assert "mapping: {0: background, 255: thing}" in str(label_map.note)


@pytest.mark.parametrize(
    "labels", [[[[0, 1]], [[0, 255]]], [[[0, 0]]], [[[255, 255]]], [[[0, 7]], [[0, 255]]]]
)
def test_255_stays_ignored_where_other_numbers_say_so_or_0_is_missing(tmp_path: Path, labels):
    label_map = LabelMap(BINARY).settled(save_all(tmp_path, *labels))
    assert label_map.targets[255] == 255
    assert label_map.note is None


@pytest.mark.parametrize(
    "keys", [{"ignore": 255}, {"ignore": [7, 255]}, {"mapping": {0: 0, 1: 1, 255: "ignore"}}]
)
def test_255_stays_ignored_where_the_description_says_so(tmp_path: Path, keys: dict):
    label_map = LabelMap(BINARY, **keys).settled(save_all(tmp_path, [[0, 255]]))
    assert label_map.targets[255] == 255


def test_a_1_among_labels_of_0_and_255_is_an_error_that_says_why(tmp_path: Path):
    paths = save_all(tmp_path, [[0, 255]], [[0, 1]])
    label_map = LabelMap(BINARY).settled(paths[:1])
    with pytest.raises(LabelValueError, match=r"1\.png: value 1 .*255 is 'thing', since there are"):
        label_map.read(paths[1])


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16", "I", "F"])
@pytest.mark.parametrize("high", [1, 255])
def test_black_and_white_masks_of_every_mode_are_two_classes(tmp_path: Path, mode: str, high: int):
    mask = np.array([[0, high], [high, 0]], np.uint8)
    if mode == "1":
        picture = Image.fromarray(mask > 0)
    elif mode in ("I;16", "I", "F"):
        dtype = {"I;16": np.uint16, "I": np.int32, "F": np.float32}[mode]
        picture = Image.fromarray(mask.astype(dtype))
    elif mode == "P":
        picture = Image.fromarray(mask)
        picture.putpalette([part for i in range(256) for part in (i, i, i)])
    else:
        picture = Image.fromarray(mask).convert(mode)
    assert picture.mode == mode
    path = tmp_path / ("a.tif" if mode in ("I", "F") else "a.png")
    picture.save(path)
    assert LabelMap(BINARY).settled([path]).read(path).tolist() == [[0, 1], [1, 0]]


@pytest.mark.parametrize("dtype", [bool, np.uint8, np.int64, np.uint16, np.float32, np.float64])
def test_arrays_are_labels_too(tmp_path: Path, dtype: type):
    high = 1 if dtype is bool else 255
    np.save(tmp_path / "a.npy", np.array([[0, high], [high, 0]], dtype))
    label_map = LabelMap(BINARY).settled([tmp_path / "a.npy"])
    assert label_map.read(tmp_path / "a.npy").tolist() == [[0, 1], [1, 0]]


@pytest.mark.parametrize(
    ("colors", "stored", "expected"),
    [
        (GRAYS, [[0, 255]], [[0, 1]]),
        (dict(reversed(GRAYS.items())), [[0, 255]], [[1, 0]]),
        (GRAYS, [[0, 1, 255]], [[0, 1, 255]]),
        (GRAYS | {"gray": [128] * 3}, [[0, 128, 255]], [[0, 2, 1]]),
        (GRAYS | {"gray": [128] * 3}, [[0, 1, 2]], [[0, 1, 2]]),
    ],
)
@pytest.mark.parametrize("mode", ["L", "LA"])
def test_gray_labels_of_gray_colors_are_read_as_their_values_say(
    tmp_path: Path, colors: dict, stored: list, expected: list, mode: str
):
    path = tmp_path / "a.png"
    Image.fromarray(np.array(stored, np.uint8)).convert(mode).save(path)
    label_map = LabelMap(colors).settled([path])
    assert label_map.read(path).tolist() == expected
    assert label_map.note is not None


@pytest.mark.parametrize("value", [0, 255])
def test_a_gray_value_that_means_two_classes_is_refused(tmp_path: Path, value: int):
    colors = dict(reversed(GRAYS.items()))
    path = save(tmp_path / "a.png", np.full((1, 2), value, np.uint8))
    with pytest.raises(
        DataError, match=rf"the value {value} is .* by its number but has the color"
    ):
        LabelMap(colors).read(path)


@pytest.mark.parametrize("high", [False, True])
def test_one_bit_labels_of_black_and_white_are_read_if_colors_and_numbers_agree(
    tmp_path: Path, high: bool
):
    path = save(tmp_path / "a.png", np.array([[high, high]]))
    assert LabelMap(GRAYS).settled([path]).read(path).tolist() == [[int(high)] * 2]
    with pytest.raises(DataError, match="Say which counts: `labels: index`"):
        LabelMap(dict(reversed(GRAYS.items()))).settled([path]).read(path)


def test_equal_channels_without_colors_are_numbers(tmp_path: Path):
    path = save(tmp_path / "a.png", np.dstack([LABEL] * 3))
    np.testing.assert_array_equal(LabelMap(CLASSES).read(path), LABEL)


@pytest.mark.parametrize(
    ("classes", "stored", "message"),
    [
        (CLASSES, [[0, 128, 255]], r"write `mapping: {0: sky, 128: road, 255: car}`"),
        (CLASSES, [[0, 127]], r"write `mapping: {0: sky, 127: road, 255: car}`"),
        (["a", "b", "c", "d"], [[85, 170, 0]], r"`mapping: {0: a, 85: b, 170: c, 255: d}`"),
        (CLASSES, [[10, 20, 30]], r"`mapping: {10: sky, 20: road, 30: car}`"),
        (BINARY, [range(0, 256, 5)], r"soft edges, smooth resizing or lossy.*from 128 on to 255"),
        (CLASSES, [range(0, 256, 5)], r"So many gray values come from soft edges"),
    ],
)
def test_gray_values_that_are_no_numbers_of_classes_are_explained(
    tmp_path: Path, classes: list, stored: list, message: str
):
    stored = [list(row) for row in stored]
    for mode in ("L", "RGB"):
        path = tmp_path / f"{mode}.png"
        Image.fromarray(np.array(stored, np.uint8)).convert(mode).save(path)
        with pytest.raises(LabelValueError, match=message):
            LabelMap(classes).settled([path]).read(path)


@pytest.mark.parametrize("suffix", [".tif", ".npy"])
def test_a_mask_of_shares_is_told_to_be_rounded(tmp_path: Path, suffix: str):
    mask = np.array([[0, 0.25, 1]], np.float32)
    path = tmp_path / f"a{suffix}"
    np.save(path, mask) if suffix == ".npy" else Image.fromarray(mask).save(path)
    with pytest.raises(LabelValueError, match=r"value 0\.25 .*are shares or soft edges.*round"):
        LabelMap(BINARY).settled([path]).read(path)


def test_of_many_labels_some_are_read_to_settle_255(tmp_path: Path, monkeypatch):
    opened = []
    original = LabelMap._numbers_of
    monkeypatch.setattr(LabelMap, "_numbers_of", lambda s, p: opened.append(p) or original(s, p))
    (path,) = save_all(tmp_path, [[0, 255]])
    assert LabelMap(BINARY).settled([path] * 1000).targets[255] == 1
    assert 50 <= len(opened) <= 64
    opened.clear()
    (path,) = save_all(tmp_path, [[0, 1]])
    LabelMap(BINARY).settled([path] * 1000)
    assert len(opened) == 1


def test_255_may_be_no_value_at_all(tmp_path: Path):
    (known, foreign) = save_all(tmp_path, [[0, 1]], [[1, 255]])
    label_map = LabelMap(["a", "b"]).without_255()
    assert label_map.read(known).tolist() == [[0, 1]]
    with pytest.raises(LabelValueError, match="value 255 first"):
        label_map.read(foreign)
    assert LabelMap(["a", "b"]).read(foreign).tolist() == [[1, 255]]
