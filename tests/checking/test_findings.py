"""What counts say about a data set."""

import json

import pytest

from ccnet.checking.findings import DataReport


def new_report(pixels: list[int], split: str = "train", **fields) -> DataReport:
    classes = tuple("abcdefgh"[: len(pixels)])
    report = DataReport("root", split, "layout", classes, num_pairs=30, num_usable=30)
    report.class_pixels = pixels
    report.class_images = [min(30, count) for count in pixels]
    report.present_pixels = [sum(pixels) if count else 0 for count in pixels]
    for name, value in fields.items():
        setattr(report, name, value)
    return report


@pytest.mark.parametrize(
    ("report", "problems"),
    [
        (new_report([5, 5]), []),
        (new_report([0, 0]), ["no labeled pixel at all"]),
        (new_report([5, 0]), ["all labeled pixels are a, so there is nothing to tell apart"]),
        (new_report([5, 0], is_whole=False), []),
        (
            new_report([5, 0], ignored_pixels=9),
            [
                "all labeled pixels are a; the others are ignored, and if what is ignored is a "
                "class, say so in `mapping`, as {0: a, 255: b}"
            ],
        ),
        (
            new_report([5, 5], num_16_bits=3, highest_of_16_bits=4095),
            [
                "3 images of 16 bits use only 0–4095 of 0–65535, which leaves 16 of 256 gray "
                "values; give the values that count, --data.value_range [0,4095], or multiply them "
                "by 16 and save them again"
            ],
        ),
        (new_report([5, 5], num_16_bits=3, highest_of_16_bits=16383), []),
    ],
)
def test_problems_make_data_unfit(report: DataReport, problems: list[str]):
    assert report.problems == problems
    assert report.fit is (not problems)


def test_a_class_that_never_occurs_is_said_of_each_split():
    assert new_report([5, 5, 0]).warnings == ["no pixel of c: this cannot be learned"]
    assert new_report([5, 5, 0], "val").warnings == ["no pixel of c: this cannot be scored"]
    assert new_report([5, 5, 0], is_whole=False).warnings == []


def test_a_larger_part_of_16_bits_is_a_warning():
    (warning,) = new_report([5, 5], num_16_bits=3, highest_of_16_bits=16383).warnings
    assert "use only 0–16383 of 0–65535, which leaves 64 of 256 gray values; give the" in warning


def test_open_turns_are_named_with_the_verdict_of_the_edges():
    names = [f"{i}.jpg" for i in range(7)]
    (warning,) = new_report([5, 5], open_turns=names, better_turned=names[:6]).warnings
    assert warning.startswith("7 images have an EXIF orientation, and their labels fit turned")
    assert "(0.jpg, 1.jpg, 2.jpg, 3.jpg, 4.jpg, ...); by their edges 6 of these" in warning
    assert "write `orientation: stored` in dataset.yaml" in warning


def test_observations_are_not_in_the_json():
    content = new_report([5, 5]).to_dict()
    assert json.loads(json.dumps(content)) == content
    assert not {"observations", "errors"} & content.keys()
