"""The tables that commands print hold every figure, and cut only long lists."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from ccnet.checking.check import check_dataset
from ccnet.export.agreement import Agreement
from ccnet.metrics import Scores
from ccnet.metrics.comparison import compare_counts
from ccnet.metrics.images import CountsOfImages
from ccnet.report.tables import agreement_table, comparison_table, data_summary, scores_table


def shown(renderable: object) -> str:
    console = Console(width=200)
    with console.capture() as capture:
        console.print(renderable)
    return capture.get()


def add_pair(root: Path, name: str, label: list[list[int]]) -> None:
    target = np.array(label, np.uint8)
    for kind, array in (("images", np.zeros((*target.shape, 3), np.uint8)), ("labels", target)):
        path = root / "train" / kind / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(array).save(path)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "dataset.yaml").write_text("classes: [sky, road, car]")
    add_pair(tmp_path, "a", [[0, 0, 0, 1]])
    add_pair(tmp_path, "b", [[1, 1, 255, 255]])
    return tmp_path


def test_fit_data_are_said_to_be_fit(root):
    text = shown(data_summary(check_dataset(root)))
    assert text.rstrip().endswith("\nfit for training")
    # sky has 3 of the 4 labeled pixels of its images, road 3 of 6; the median is 0.625
    for row in (["0 sky", "3", "50.00%", "1", "0.8333"], ["1 road", "3", "50.00%", "2", "1.2500"]):
        assert any(all(cell in line for cell in row) for line in text.splitlines())
    assert "(25.00% of all)" in text


def test_data_summary_tells_every_problem(root):
    add_pair(root, "c", [[7, 0, 7, 0]])
    Image.new("RGB", (4, 1)).save(root / "train/images/lonely.png")
    text = shown(data_summary(check_dataset(root)))
    for part in (
        "3 pairs, 2 usable; sizes 4×1 (2)",
        "images without a label: train/images/lonely.png",
        "train/labels/c.png: value 7 first at (x=0, y=0), 2 pixels: no class has it",
        "warning: no pixel of car",
        "not fit for training: images without a label: 1; labels with values out of range: 1",
    ):
        assert part in text


def test_what_was_decided_is_noted(root):
    (root / "dataset.yaml").write_text("classes: [background, thing]")
    for name in "ab":
        add_pair(root, name, [[0, 255]])
    text = " ".join(shown(data_summary(check_dataset(root))).split())
    assert "note: 255 is 'thing', since there are two classes" in text


def test_long_lists_are_cut_in_the_text_only(root):
    for i in range(14):
        add_pair(root, f"bad{i}", [[100 + i]])
    report = check_dataset(root)
    assert len(report.to_dict()["bad_values"]) == 14
    assert "and 4 more like these" in shown(data_summary(report))


def test_scores_are_percent_and_a_class_without_pixels_is_absent():
    iou = {"road": 0.5, "sky": 0.5, "[b]unicorn": None}
    scores = Scores(0.5, 0.9, 0.75, iou, {"road": 7, "sky": 9, "[b]unicorn": 0})
    text = shown(scores_table(scores, "a model on [some] data"))
    assert "warning: mIoU is over 2 of 3 classes; never seen: [b]unicorn" in " ".join(text.split())
    lines = text.splitlines()
    assert "a model on [some] data" in lines[0]
    for name, cell in (
        ("road", "50.00"),
        ("[b]unicorn", "absent"),
        ("mean (mIoU) over 2 of 3 classes", "50.00"),
        ("pixel accuracy", "90.00"),
        ("mean accuracy", "75.00"),
    ):
        assert any(name in line and cell in line for line in lines)


def test_scores_of_all_classes_have_no_caption():
    scores = Scores(0.5, 0.9, 0.75, {"road": 0.5, "sky": 0.5}, {"road": 7, "sky": 9})
    text = shown(scores_table(scores, "a model"))
    assert "warning" not in text
    assert "mean (mIoU) " in text
    assert "over" not in text


def test_a_comparison_tells_the_difference_and_what_it_is_worth():
    label = np.array([[0, 0, 1, 1]], np.uint8)
    models = CountsOfImages(3), CountsOfImages(3)
    for index, name in enumerate(("[red]same.png", "differs.png")):
        models[0].add(index, name, label, label)
        models[1].add(index, name, label, np.array([[0, 0, 1, index ^ 1]], np.uint8))
    comparison = compare_counts(*models, ("road", "sky", "car"), num_resampled=100)
    text = shown(comparison_table(comparison, ("[a]", "b"), "on val"))
    for row in (
        ["A: [a]", "B: b", "B − A"],
        ["road", "100.00", "80.00", "-20.00"],
        ["car", "absent", "absent"],
        ["mean (mIoU)", "100.00", "77.50", "-22.50"],
        ["mIoU of B − A: -22.50, 95 % interval", "100 times 2 images"],
        ["warning: mIoU is over 2 of 3 classes; never seen: car"],
        ["differs.png", "100.00", "58.33", "-41.67"],
        ["[red]same.png", "100.00", "100.00", "+0.00"],
    ):
        assert any(all(cell in line for cell in row) for line in text.splitlines()), row
    assert text.index("differs.png") < text.index("[red]same.png")
    assert "these images do not tell which model is better" in text


def test_agreement_has_a_row_per_size():
    rows = [Agreement((1, 161, 97), 1e-6, 1.0, 20.0, 5.0), Agreement((3, 96, 129), 0.5, 0.9, 3, 2)]
    text = shown(agreement_table(rows, "model.onnx"))
    for row in (["161×97", "1.0e-06", "100.000"], ["96×129", "5.0e-01", "90.000", "3.0", "2.0"]):
        assert any(all(cell in line for cell in row) for line in text.splitlines())


def test_names_send_nothing_to_the_terminal():
    rows = [Agreement((1, 2, 3), 0.0, 1.0, 1.0, 1.0)]
    printed = shown(agreement_table(rows, "a\x1b]0;title\x07\udcff.onnx"))
    assert r"a\x1b]0;title\x07\udcff.onnx" in printed
    assert all(character.isprintable() for character in printed.replace("\n", ""))
