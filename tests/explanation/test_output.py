"""The folder of an explanation: files, numbers, the page."""

import json
import re

import numpy as np
import pytest
from PIL import Image

from ccnet import CCNet
from ccnet.explanation import explain
from ccnet.explanation.output import write_explanation
from tests.conftest import new_tiny_model, noise

pytestmark = pytest.mark.slow

IMAGE, _ = noise(40, 72)
POINT = (50, 21)
FACTS = {"model": "runs/<mine>", "image": "a.png"}


def test_all_files_are_written_and_the_page_holds_the_pictures(tmp_path):
    explanation = explain(new_tiny_model(2), IMAGE, POINT, to=(9, 37))
    calls = []
    page = write_explanation(
        tmp_path / "out",
        IMAGE,
        explanation,
        facts=FACTS,
        progress=lambda done, total: calls.append((done, total)),
    )
    names = {path.name for path in (tmp_path / "out").iterdir()}
    pictures = {"reach", "influence", "evidence", "entropy", "routes"}
    expected = {f"{name}.png" for name in pictures}
    expected |= {"propagation.gif", "index.html", "explanation.json", "maps.npz"}
    assert names == expected
    assert calls == [(n, 8) for n in range(1, 9)]
    for name in names:
        if name.endswith((".png", ".gif")):
            Image.open(tmp_path / "out" / name).verify()
    text = page.read_text()
    assert text.count('<img src="data:image/') == 6
    assert "runs/&lt;mine&gt;" in text
    assert not re.search(r"(src|href)=\"(?!data:)", text)


def test_the_numbers_are_those_of_the_explanation(tmp_path):
    explanation = explain(new_tiny_model(2), IMAGE, POINT, to=(9, 37))
    write_explanation(tmp_path, IMAGE, explanation, facts=FACTS, animation="none")
    content = json.loads((tmp_path / "explanation.json").read_text())
    assert content["point"] == [50, 21]
    assert content["size"] == [72, 40]
    assert content["class"] == content["probabilities"][0]["class"] == explanation.class_name
    assert content["sums"]["reach_2"] == pytest.approx(1)
    assert content["sums"]["influence"] == pytest.approx(1.5**2)
    strongest = content["strongest"]["reach_1"][0]
    assert strongest["value"] == explanation.reach[0].max()
    row, column = np.unravel_index(explanation.reach[0].argmax(), (10, 18))
    assert (strongest["x"], strongest["y"]) == (4 * column + 1.5, 4 * row + 1.5)
    weights = sum(route["weight"] for route in content["routes"])
    assert weights == pytest.approx(explanation.reach[1][9, 2])
    with np.load(tmp_path / "maps.npz") as maps:
        np.testing.assert_array_equal(maps["exact"], explanation.exact)
        np.testing.assert_array_equal(maps["reach_2"], explanation.reach[1])
        assert {"influence", "gradient", "evidence", "entropy_1"} <= set(maps.files)


def test_what_is_not_made_again_goes_and_other_files_stay(tmp_path):
    model = new_tiny_model(2)
    write_explanation(tmp_path, IMAGE, explain(model, IMAGE, POINT, to=(1, 1)), facts=FACTS)
    (tmp_path / "mine.txt").write_text("mine")
    explanation = explain(model, IMAGE, POINT)
    write_explanation(tmp_path, IMAGE, explanation, facts=FACTS, animation="mp4")
    names = {path.name for path in tmp_path.iterdir()}
    assert "mine.txt" in names
    assert "propagation.mp4" in names
    assert not {"routes.png", "propagation.gif"} & names
    assert "data:video/mp4" in (tmp_path / "index.html").read_text()


def test_names_of_classes_are_text_on_the_page(tmp_path):
    names = ["<script>", "道路 & $", "c"]
    model = CCNet(3, "tiny", channels=8, auxiliary_channels=None, classes=names).eval()
    explanation = explain(model, IMAGE, POINT)
    page = write_explanation(tmp_path, IMAGE, explanation, facts=FACTS, animation="none")
    assert "<script>" not in page.read_text()
    content = json.loads((tmp_path / "explanation.json").read_text())
    assert {item["class"] for item in content["probabilities"]} == set(names)
