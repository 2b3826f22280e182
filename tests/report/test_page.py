"""The page is one file that asks for nothing else, whatever the names on it are."""

import base64
import hashlib
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from ccnet.report.evaluation import Evaluation
from ccnet.report.page import write_report
from tests.report.test_evaluation import PALETTE, observed

HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(2)>&lt;\u2028\udcff"
FILES = {
    *("report.html", "scores.json", "classes.csv"),
    *("images.csv", "confusion.csv", "label_errors.csv"),
}


class Page(HTMLParser):
    """The elements of a page, and the text of its scripts by their ids."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: dict[str | None, str] = {}
        self.open: str | bool | None = False
        self.style = ""
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag == "script":
            self.open = dict(attrs).get("id")
            self.scripts[self.open] = ""
        elif tag == "style":
            self.open = True

    def handle_endtag(self, tag):
        if tag in ("script", "style"):
            self.open = False

    def handle_data(self, data):
        if self.open is True:
            self.style += data
        elif self.open is not False:
            self.scripts[self.open] += data

    def content(self) -> dict:
        return json.loads(self.scripts["content"])


def test_the_files_of_a_report(tmp_path):
    page = write_report(tmp_path / "new" / "report", observed(range(3)), title="t", facts={})
    assert page == tmp_path / "new" / "report" / "report.html"
    assert {path.name for path in page.parent.iterdir()} == FILES
    scores = json.loads((page.parent / "scores.json").read_text())
    assert scores["miou"] == observed(range(3)).scores.miou


def test_the_page_refers_to_nothing_outside_itself(tmp_path):
    path = write_report(tmp_path, observed(range(3)), title="t", facts={})
    page = Page(path)
    for tag, attributes in page.elements:
        assert tag not in ("link", "iframe", "object", "embed", "base", "form")
        assert "src" not in attributes
        assert attributes.get("href", "#").startswith("#")
        assert not [name for name in attributes if name.startswith("on") or name == "style"]
    assert "url(" not in page.style
    assert "@import" not in page.style
    urls = set(re.findall(r"\bhttps?://[^\"'\s)]+", path.read_text()))
    assert urls == {"http://www.w3.org/2000/svg"}  # a name of SVG, which is not requested


def test_only_the_program_of_the_page_may_run(tmp_path):
    page = Page(write_report(tmp_path, observed(range(2)), title="t", facts={}))
    (policy,) = [a["content"] for tag, a in page.elements if "http-equiv" in a]
    assert policy is not None
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    assert rules["default-src"] == "'none'"
    assert rules["img-src"] == "data:"
    for rule, text in (("script-src", page.scripts[None]), ("style-src", page.style)):
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert rules[rule] == f"'sha256-{digest}'"


def test_hostile_names_stay_text(tmp_path):
    found = Evaluation((HOSTILE, "b", "c"), PALETTE)
    label = np.zeros((4, 4), np.uint8)
    label[0] = 1
    image, confidence = np.zeros((4, 4, 3), np.uint8), np.ones((4, 4), np.float32)
    found(0, HOSTILE, image, label, 0 * label, confidence)
    harmless = Page(write_report(tmp_path / "a", observed(range(1)), title="t", facts={"k": "v"}))
    path = write_report(tmp_path / "b", found, title=HOSTILE[:-1], facts={HOSTILE: HOSTILE})
    page = Page(path)
    content = page.content()
    assert content["classes"][0]["name"] == HOSTILE
    assert content["shown"][0]["name"] == HOSTILE
    assert content["facts"] == {HOSTILE: HOSTILE}
    tags = [tag for tag, a in page.elements if "id" not in a or not a["id"].startswith("crop-")]
    others = [tag for tag, a in harmless.elements if not (a.get("id") or "").startswith("crop-")]
    assert tags == others
    assert page.scripts[None] == harmless.scripts[None]


def test_the_page_takes_no_more_than_its_bound_and_says_what_is_missing(tmp_path):
    found = observed(range(30))
    sizes = [picture.num_bytes for picture in found.gallery.pictures.values()]
    whole = Page(write_report(tmp_path / "a", found, title="t", facts={})).content()
    assert len(whole["shown"]) == 30
    room = 5 * max(sizes) / 0.8
    path = write_report(tmp_path / "b", found, title="t", facts={}, max_bytes=int(room))
    page = Page(path)
    content = page.content()
    shown = [image["index"] for image in content["shown"]]
    assert 5 <= len(shown) < 10
    assert content["images"] == 30
    assert {f"image-{index}" for index in shown} == {
        name for name in page.scripts if name and name.startswith("image-")
    }
    assert set(shown) == set(found.gallery.ranked()[: len(shown)])
    pictures = [text for name, text in page.scripts.items() if name and "-" in name]
    assert sum(map(len, pictures)) < room + 100 * len(pictures)


@pytest.mark.slow
def test_of_many_images_a_bounded_number_has_pictures(tmp_path):
    found = observed(range(40), max_images=8)
    content = Page(write_report(tmp_path, found, title="t", facts={})).content()
    assert len(content["shown"]) <= 8
    assert content["images"] == 40
    assert content["cell_names"]


def test_every_suspected_error_with_a_crop_has_its_picture(tmp_path):
    found = observed(range(5))
    page = Page(write_report(tmp_path, found, title="t", facts={}))
    errors = page.content()["errors"]
    assert len(errors) == len(found.errors.suspected()) >= 5
    for error in errors:
        picture = json.loads(page.scripts[f"crop-{error['rank']}"])
        assert error["size"] == [picture["width"], picture["height"]]
        assert len(error["place"]) == 4


def test_a_second_report_replaces_the_first_and_leaves_other_files(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    first = write_report(tmp_path, observed(range(1)), title="one", facts={}).read_text()
    second = write_report(tmp_path, observed(range(2)), title="two", facts={}).read_text()
    assert "<title>one</title>" in first
    assert "<title>two</title>" in second
    assert {path.name for path in tmp_path.iterdir()} == FILES | {"notes.txt"}


def test_nothing_labeled_leaves_the_former_report(tmp_path):
    before = write_report(tmp_path, observed(range(1)), title="one", facts={}).read_text()
    found = Evaluation(("a", "b", "c"), PALETTE)
    with pytest.raises(ValueError, match="no pixel has a label"):
        write_report(tmp_path, found, title="two", facts={})
    assert (tmp_path / "report.html").read_text() == before
