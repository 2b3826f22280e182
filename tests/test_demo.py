"""The demo: what it makes, what it says, and the pixel that it explains."""

import json
import re
import shlex
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ccnet import demo
from ccnet.datasets import Scenes
from ccnet.flags import parse
from tests.commands import ROOT, status


@pytest.mark.slow
def test_the_demo_trains_evaluates_predicts_and_shows(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(demo, "SCENES", replace(demo.SCENES, steps=4, validate_every=4))
    run = tmp_path / "demo"
    assert status("demo", "--run", run) == 0
    for name in ("held_out.png", "attention.png", "curves.png"):
        Image.open(run / name).verify()
    assert 0 <= json.loads((run / "metrics.json").read_text())["miou"] <= 1
    assert len(list((run / "predictions").glob("*.color.png"))) == 3
    said = capsys.readouterr().out
    assert "Try next" in said
    for name in re.findall(r"^  ([\w./]+) {2,}", said, re.MULTILINE):
        assert (run / name).exists()


@pytest.fixture
def report(tmp_path: Path) -> str:
    (tmp_path / "metrics.json").write_text('{"miou": 0.98765}')
    return demo.report(tmp_path)


def test_the_report_has_the_score_and_its_data(report):
    assert "mIoU 0.9877 on 256 held-out scenes" in report


def test_what_the_report_says_to_try_are_commands(report, monkeypatch):
    monkeypatch.chdir(ROOT)
    commands = re.findall(r"^  (ccnet .*)$", report, re.MULTILINE)
    assert len(commands) == 6
    for command in commands:
        parse(shlex.split(command)[1:])


def test_the_shown_scenes_have_all_classes_between_them():
    scenes = Scenes("test")
    labels = np.concatenate([scenes[index][1] for index in demo.first_of_each_color(scenes)])
    assert set(np.unique(labels).tolist()) == {0, 1, 2, 3, 255}


@pytest.mark.parametrize("index", range(10))
def test_the_explained_pixel_is_a_shape_that_one_pass_cannot_connect_to_the_beacon(index):
    image, label = Scenes("test")[index]
    x, y = demo.pixel_far_from_beacon(image, label)
    assert 0 < label[y, x] < 255
    rows, columns = (np.ptp(image.astype(int), axis=2) > 60).nonzero()
    assert not rows.min() <= y <= rows.max()
    assert not columns.min() <= x <= columns.max()
