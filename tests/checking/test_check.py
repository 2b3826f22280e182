"""What `ccnet check-data` finds in data sets with every kind of fault."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ccnet.checking.check import check_dataset
from ccnet.datasets.folder import FolderDataset
from ccnet.datasets.unmapped import UnmappedValue
from ccnet.runtime.files import DataError


def save(path: Path, array: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array.astype(np.uint8)).save(path)


def add_pair(root: Path, name: str, label: list[list[int]], size: tuple[int, int] | None = None):
    target = np.array(label)
    save(root / f"train/images/{name}.png", np.zeros((*(size or target.shape), 3)))
    save(root / f"train/labels/{name}.png", target)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "dataset.yaml").write_text("classes: [sky, road, car]")
    add_pair(tmp_path, "a", [[0, 0, 0, 1]])
    add_pair(tmp_path, "b", [[1, 1, 255, 255]])
    return tmp_path


def test_clean_data_is_fit_and_counted(root: Path):
    report = check_dataset(root)
    assert report.fit
    assert report.problems == []
    assert (report.num_pairs, report.num_usable) == (2, 2)
    assert report.layout == "train/images + train/labels"
    assert report.sizes == {(1, 4): 2}
    assert report.class_pixels == [3, 3, 0]
    assert report.class_images == [1, 2, 0]
    assert report.ignored_pixels == 2
    assert report.frequencies == [0.5, 0.5, 0]


def test_weights_are_median_frequency_over_the_images_with_the_class(root: Path):
    # sky 3 of 4 pixels, road 3 of 6; median 0.625
    assert check_dataset(root).class_weights == pytest.approx([0.625 / 0.75, 0.625 / 0.5, None])


def test_every_problem_is_collected(root: Path):
    add_pair(root, "c", [[7, 0, 7, 0]])
    add_pair(root, "d", [[0, 9, 8, 0]])
    add_pair(root, "e", [[0, 1]], size=(2, 2))
    add_pair(root, "f", [[0, 1]])
    (root / "train/images/f.png").write_bytes(b"broken")
    save(root / "train/images/lonely.png", np.zeros((1, 4, 3)))
    save(root / "train/labels/orphan.png", np.zeros((1, 4)))
    report = check_dataset(root)
    assert not report.fit
    assert (report.num_pairs, report.num_usable) == (6, 2)
    assert report.bad_values == {
        "train/images/c.png": (UnmappedValue(7, 0, 0, 2),),
        "train/images/d.png": (UnmappedValue(8, 2, 0, 1), UnmappedValue(9, 1, 0, 1)),
    }
    assert [problem.name for problem in report.size_mismatches] == ["train/images/e.png"]
    assert [problem.name for problem in report.unreadable] == ["train/images/f.png"]
    assert report.unmatched_images == ["train/images/lonely.png"]
    assert report.unmatched_labels == ["train/labels/orphan.png"]
    assert report.problems == [
        "images without a label: 1",
        "labels without an image: 1",
        "unreadable: 1",
        "size mismatch of image and label: 1",
        "labels with values out of range: 2",
    ]
    assert report.class_pixels == [3, 3, 0]


def test_files_that_cannot_be_opened_are_listed(root: Path):
    (root / "train/images/gone.png").symlink_to("nothing")
    save(root / "train/labels/gone.png", np.zeros((1, 4)))
    (root / "train/labels/b.png").unlink()
    os.mkfifo(root / "train/labels/b.png")
    report = check_dataset(root)
    assert [problem.name for problem in report.unreadable] == [
        "train/images/gone.png",
        "train/labels/b.png",
    ]
    assert "a link to nothing, which does not exist" in report.unreadable[0].message
    assert "unreadable: 2" in report.problems
    assert report.num_usable == 1


@pytest.mark.parametrize(("number", "text"), [(np.nan, "nan"), (1.5, 1.5), (-np.inf, "-inf")])
def test_bad_values_of_any_kind_are_json(root: Path, number: float, text: object):
    (root / "train/labels/a.png").unlink()
    label = np.array([[0, 0, 0, number]], np.float32)
    Image.fromarray(label).save(root / "train/labels/a.png", format="TIFF")
    report = check_dataset(root)
    read = json.loads(json.dumps(report.to_dict(), allow_nan=False))
    assert [value["value"] for value in read["bad_values"]] == [text]


def test_report_is_json(root: Path):
    add_pair(root, "c", [[7, 0, 7, 0]])
    save(root / "train/images/lonely.png", np.zeros((1, 4, 3)))
    report = check_dataset(root)
    read = json.loads(json.dumps(report.to_dict()))
    assert read["fit"] is False
    assert read["bad_values"][0] == {
        "name": "train/images/c.png",
        "label": "train/labels/c.png",
        "value": 7,
        "x": 0,
        "y": 0,
        "pixels": 2,
    }
    assert read["sizes"] == [{"height": 1, "width": 4, "images": 2}]


@pytest.mark.parametrize(
    ("label", "warning"),
    [
        ([[0, 1, 2, 2]], "few pairs: 1"),
        ([[0, 1, 1, 1]], "no pixel of car: this cannot be learned"),
        (
            [[0, 1, 255, 255, 255, 255, 255, 255]],
            "75% of the pixels are ignored; if 255 is a class",
        ),
    ],
)
def test_warnings_leave_the_data_fit(tmp_path: Path, label: list, warning: str):
    (tmp_path / "dataset.yaml").write_text("classes: [sky, road, car]")
    add_pair(tmp_path, "a", label)
    report = check_dataset(tmp_path)
    assert report.fit
    assert any(warning in line for line in report.warnings)


def test_nothing_labeled_is_unfit(tmp_path: Path):
    (tmp_path / "dataset.yaml").write_text("classes: [sky, road]")
    add_pair(tmp_path, "a", [[255, 255]])
    assert check_dataset(tmp_path).problems == ["no labeled pixel at all"]


def test_one_class_alone_is_unfit(root: Path):
    (root / "dataset.yaml").write_text("classes: [only]\nmapping: {0: only, 1: only, 2: only}\n")
    (problem,) = check_dataset(root).problems
    assert problem.startswith("one class only, and a network needs 2 to 255; if the rest is")


def test_progress_counts_up_to_the_total(root: Path):
    calls = []
    check_dataset(root, progress=lambda done, total: calls.append((done, total)))
    assert calls == [(1, 2), (2, 2)]


def test_labels_without_names_of_one_value_are_an_error_not_a_report(tmp_path: Path):
    add_pair(tmp_path, "a", [[0]])
    with pytest.raises(
        DataError, match=r"masks hold only the value 0, so there is nothing to tell"
    ):
        check_dataset(tmp_path)


def test_a_split_of_an_opened_data_set_is_reported(root: Path):
    report = check_dataset(FolderDataset(root, strict=False), "train", num_threads=1)
    assert (report.root, report.split, report.num_usable) == (str(root), "train", 2)


class Arrays:
    """A data set that is not made of files."""

    classes = ("a", "b")
    palette = ((0, 0, 0), (1, 1, 1))
    ignore_index = 255

    def __len__(self) -> int:
        return 3

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        if index == 2:
            raise OSError("disk on fire")
        return np.zeros((1, 2, 3), np.uint8), np.array([[0, index * 5]], np.uint8)

    def name(self, index: int) -> str:
        return f"sample {index}"


def test_any_data_set_can_be_checked():
    report = check_dataset(Arrays())
    assert report.bad_values == {"sample 1": (UnmappedValue(5, 1, 0, 1),)}
    assert [problem.message for problem in report.unreadable] == ["sample 2: OSError: disk on fire"]
    assert report.class_pixels == [2, 0]
