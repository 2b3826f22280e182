"""The page of a data check."""

import html.parser
from pathlib import Path

import numpy as np
from PIL import Image

from ccnet.checking.check import check_dataset
from ccnet.datasets.folder import FolderDataset
from ccnet.report import data_page
from ccnet.report.data_page import write_data_page
from tests.report.test_contact_sheet import planted


class Reader(html.parser.HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.sources: list[str] = []
        self.text = ""

    def handle_starttag(self, tag, attrs):
        values = dict(attrs)
        assert "style" not in values, "the policy forbids it"
        if tag not in ("meta", "img", "br"):
            self.open.append(tag)
        if "src" in values:
            self.sources.append(values["src"])

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_startendtag(self, tag, attrs):
        assert tag == "rect"

    def handle_data(self, data):
        self.text += data


def read_page(path: Path) -> Reader:
    reader = Reader()
    reader.feed(path.read_text())
    assert reader.open == []
    return reader


def test_the_page_has_problems_classes_and_pairs_and_needs_no_other_file(tmp_path: Path):
    dataset = planted(tmp_path / "data")
    report = check_dataset(dataset, compare_edges=True)
    write_data_page(tmp_path / "out/data.html", {"train": (dataset, report)})
    page = read_page(tmp_path / "out/data.html")
    for part in ("Not fit for training", "<b>&", "share of labeled", "value 9", "images/4.png"):
        assert part in page.text
    assert "nothing is labeled" in page.text
    assert all(source.startswith("data:image/jpeg;base64,") for source in page.sources)
    assert len(page.sources) == 2 * 5 - 1
    assert page.text.index("images/2.png") < page.text.index("images/0.png")


def test_of_many_pairs_the_most_suspicious_are_shown(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(data_page, "NUM_PAIRS", 2)
    dataset = planted(tmp_path)
    report = check_dataset(dataset, compare_edges=True)
    write_data_page(tmp_path / "data.html", {"train": (dataset, report)})
    page = read_page(tmp_path / "data.html")
    assert "2 of 5 pairs, the most suspicious first" in page.text
    assert "images/4.png" not in page.text


def test_a_split_without_a_pair_has_a_page_too(tmp_path: Path):
    (tmp_path / "dataset.yaml").write_text("classes: [a, b]")
    for kind in ("images", "labels"):
        (tmp_path / "train" / kind).mkdir(parents=True)
    Image.fromarray(np.zeros((4, 4), np.uint8)).save(tmp_path / "train/images/lonely.png")
    dataset = FolderDataset(tmp_path, strict=False)
    write_data_page(tmp_path / "data.html", {"train": (dataset, check_dataset(dataset))})
    assert "images without a label: 1" in read_page(tmp_path / "data.html").text
