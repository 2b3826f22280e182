"""What a dataset.yaml may hold: names, colors, raw values."""

import pytest

from ccnet.datasets.description import (
    class_colors,
    class_names,
    default_palette,
    read_color,
    read_ignored,
    read_mapping,
    without_numbers,
)

CLASSES = ("sky", "road", "car")


def test_default_palette_is_distinct_and_never_black():
    palette = default_palette(255)
    assert len({*palette, (0, 0, 0)}) == 256
    assert palette[:3] == default_palette(3)


@pytest.mark.parametrize("num_classes", [1, 2, 19, 150, 255])
def test_default_palette_has_one_distinct_color_per_class(num_classes):
    palette = default_palette(num_classes)
    assert len(set(palette)) == len(palette) == num_classes
    assert all(0 <= part <= 255 for color in palette for part in color)


@pytest.mark.parametrize(
    "color", [[128, 64, 0], (128, 64, 0), "#804000"], ids=["list", "tuple", "hexadecimal"]
)
def test_a_color_has_three_spellings(color):
    assert read_color(color) == (128, 64, 0)


@pytest.mark.parametrize(
    "color",
    [[0, 0, 256], [0, 0, -1], [0, 0], [0, 0, 0, 0], [0, 0, 0.5], [True, 0, 0], "#00000g", "#000",
     "red", 7, None],
    ids=str,
)  # fmt: skip
def test_what_is_no_color_is_refused(color):
    with pytest.raises(ValueError, match=r"is not a color: write \[r, g, b\]"):
        read_color(color)


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        ("sky", "must be a list of 1 to 255 names, got 'sky'"),
        (3, "must be a list of 1 to 255 names, got 3"),
        ([], "must be a list of 1 to 255 names"),
        ({"sky", "road"}, "must be a list of 1 to 255 names"),
        (b"sky", "must be a list of 1 to 255 names"),
        (10**6 * ["sky"], "must be a list of 1 to 255 names, got .{0,120}$"),
        (["sky", 1.5], "class name 1.5 is not text"),
        (list(map(str, range(256))), "must be a list of 1 to 255 names"),
        (["sky", True], "class name True is not text: put it in quotes"),
        (["sky", ""], "class name '' is not text"),
        (["sky", "sky"], r"must differ.*\['sky'\]"),
        (["sky", "ignore"], "none be 'ignore'"),
    ],
)
def test_wrong_class_names_are_refused(classes, message):
    with pytest.raises(ValueError, match=message):
        class_names(classes)


def test_255_classes_are_the_most():
    assert len(class_names([f"class {i}" for i in range(255)])) == 255


@pytest.mark.parametrize(
    "palette",
    [["#010203", [4, 5, 6], (7, 8, 9)], {"car": "#070809", "sky": "#010203", "road": "#040506"}],
    ids=["list", "mapping"],
)
def test_colors_are_in_the_order_of_the_classes(palette):
    assert class_colors(palette, CLASSES) == ((1, 2, 3), (4, 5, 6), (7, 8, 9))


@pytest.mark.parametrize(
    ("palette", "message"),
    [
        (3, "`palette` must list a color for each class, got 3"),
        ([[0, 0, 0]], "has 1 colors for 3 classes"),
        ({"sky": [0, 0, 0]}, r"`palette` names \['sky'\]"),
        ([[0, 0, 0]] * 3, "'sky' and 'road' have the same color"),
        ([[0, 0, 256]] * 3, r"\[0, 0, 256\] is not a color"),
    ],
)
def test_wrong_palettes_are_refused(palette, message):
    with pytest.raises(ValueError, match=message):
        class_colors(palette, CLASSES)


@pytest.mark.parametrize(
    ("ignore", "values"),
    [
        (None, []),
        (0, [0]),
        ([2, 65535], [2, 65535]),
        ("#000102", [(0, 1, 2)]),
        ([[0, 1, 2], 3], [(0, 1, 2), 3]),
    ],
    ids=str,
)
def test_ignored_values_are_numbers_and_colors(ignore, values):
    assert read_ignored(ignore) == values


@pytest.mark.parametrize(
    ("ignore", "message"),
    [
        ("void", "'void' is not a color"),
        (-1, "raw label value -1 is outside 0–65535"),
        ([65536], "raw label value 65536 is outside"),
        (True, "True is neither a whole number 0–65535 nor a color"),
        (1.5, "1.5 is neither"),
        ({1: 2}, "{1: 2} is neither"),
        pytest.param(16**5000, "is outside 0–65535", id="very long"),
    ],
)
def test_wrong_ignored_values_are_refused(ignore, message):
    with pytest.raises(ValueError, match=message):
        read_ignored(ignore)


def test_a_mapping_goes_to_names_indices_and_ignore():
    mapping = {7: "sky", 8: 1, "#00008e": "car", (1, 1, 1): "ignore", 9: 255}
    assert read_mapping(mapping, CLASSES) == {7: 0, 8: 1, (0, 0, 142): 2, (1, 1, 1): 255, 9: 255}


@pytest.mark.parametrize(
    ("mapping", "message"),
    [
        ([1], "`mapping` must be raw value: class"),
        ({5: "bus"}, "sends 5 to 'bus', which is neither"),
        ({5: 3}, r"sends 5 to 3.*sky, road, car \(0–2\)"),
        ({5: True}, "sends 5 to True"),
        ({-5: "sky"}, "raw label value -5 is outside"),
        ({"road": 0}, "'road' is not a color"),
    ],
)
def test_wrong_mappings_are_refused(mapping, message):
    with pytest.raises(ValueError, match=message):
        read_mapping(mapping, CLASSES)


@pytest.mark.parametrize(
    "classes",
    [
        {0: "road", 1: "sky"},
        {1: "sky", 0: "road"},
        {"0": "road", "1": "sky"},
        {"road": 0, "sky": 1},
        ["road", "sky"],
    ],
    ids=str,
)
def test_numbered_classes_are_a_list_of_names(classes):
    assert without_numbers(classes) == ["road", "sky"]


@pytest.mark.parametrize(
    "classes",
    [{"road": [0, 0, 0]}, {"road": "#000000"}, {"road": "red"}, {7: [0] * 3}, {}, None],
    ids=str,
)  # fmt: skip
def test_other_classes_are_left_as_they_are(classes):
    assert without_numbers(classes) == classes


@pytest.mark.parametrize("numbers", [(1, 2), (0, 2), (-1, 0)])
def test_numbers_of_classes_have_no_gap(numbers):
    classes = dict(zip(numbers, ("road", "sky"), strict=True))
    with pytest.raises(ValueError, match=r"without a gap; got .*write `mapping: {number: name"):
        without_numbers(classes)
