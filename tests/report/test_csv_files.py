"""CSV files that hold every score, and nothing that a spreadsheet would run."""

import csv

import numpy as np
import pytest

from ccnet.report.csv_files import plain, write_csv, write_csv_files
from ccnet.report.evaluation import Evaluation
from tests.report.test_evaluation import PALETTE, observed


def rows_of(path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_the_files_hold_the_scores(tmp_path):
    found = observed(range(4))
    write_csv_files(tmp_path, found)
    classes = rows_of(tmp_path / "classes.csv")
    assert {row["class"]: float(row["iou"]) for row in classes} == found.scores.iou
    images = rows_of(tmp_path / "images.csv")
    assert [row["image"] for row in images] == ["0.png", "1.png", "2.png", "3.png"]
    assert [float(row["iou"]) for row in images] == [row.iou for row in found.counts.rows]
    assert {(row["width"], row["height"]) for row in images} == {("100", "80")}
    confusion = rows_of(tmp_path / "confusion.csv")
    counts = [[int(row[name]) for name in found.classes] for row in confusion]
    assert counts == found.counts.total().tolist()


def test_label_errors_say_where_the_region_is_and_leave_room_for_a_verdict(tmp_path):
    found = observed(range(3))
    write_csv_files(tmp_path, found)
    rows = rows_of(tmp_path / "label_errors.csv")
    regions = found.errors.suspected()
    assert [row["image"] for row in rows] == [region.name for region in regions]
    assert (rows[0]["rank"], rows[0]["label"], rows[0]["prediction"]) == ("1", "sky", "road")
    box = tuple(int(rows[0][key]) for key in ("x", "y", "width", "height"))
    assert box == regions[0].box
    assert {row["verdict"] for row in rows} == {""}


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r"])
def test_text_that_a_spreadsheet_would_compute_is_marked_as_text(start):
    assert plain(f'{start}HYPERLINK("http://x")') == f'\'{start}HYPERLINK("http://x")'
    assert plain(-1.5) == -1.5


def test_strange_names_stay_in_their_cells(tmp_path):
    names = ('a,"b"\nc', "=1+1", "ünï", "</td><script>")
    found = Evaluation(names[:3], PALETTE)
    label = np.zeros((2, 2), np.uint8)
    image, confidence = np.zeros((2, 2, 3), np.uint8), np.ones((2, 2), np.float32)
    found(0, names[3] + "\udcff", image, label, label, confidence)
    write_csv_files(tmp_path, found)
    classes = [row["class"] for row in rows_of(tmp_path / "classes.csv")]
    assert classes == [names[0], "'=1+1", names[2]]
    assert rows_of(tmp_path / "images.csv")[0]["image"] == names[3] + r"\udcff"


def test_a_link_is_replaced_and_not_followed(tmp_path):
    (tmp_path / "secret").write_text("keep")
    (tmp_path / "a.csv").symlink_to(tmp_path / "secret")
    write_csv(tmp_path / "a.csv", [("x", None)])
    assert (tmp_path / "secret").read_text() == "keep"
    assert (tmp_path / "a.csv").read_bytes() == b"x,\r\n"
