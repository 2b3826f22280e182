"""`ccnet app` as a command."""

import re
import signal
import urllib.request
from pathlib import Path

import pytest

from ccnet.datasets import Scenes
from tests.app.serving import png, wait_until
from tests.commands import start, status
from tests.conftest import new_tiny_model


def test_without_a_model_it_says_how_to_make_one(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert status("app") == 2
    line = capsys.readouterr().err
    assert line.count("\n") == 1
    assert "`ccnet demo` makes that one" in line


def test_a_folder_without_a_report_is_an_error(tmp_path, capsys):
    assert status("app", "model", "--report", tmp_path) == 2
    assert "there is no report.html in it; `ccnet evaluate" in capsys.readouterr().err


def test_a_folder_of_examples_has_to_be_there(tmp_path, capsys):
    assert status("app", "model", "--examples", tmp_path / "none") == 2
    assert "none: no such folder" in capsys.readouterr().err


@pytest.mark.slow
def test_a_model_that_is_missing_is_an_error_of_one_line(tmp_path, capsys):
    pytest.importorskip("gradio", reason="gradio is not installed (the extra app)")
    assert status("app", tmp_path / "none", "--port", 0, "--device", "cpu") == 2
    assert capsys.readouterr().err.startswith("ccnet app: no model folder at")


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_shows_the_demo_s_model_and_leaves_nothing_behind(tmp_path, monkeypatch, number):
    pytest.importorskip("gradio", reason="gradio is not installed (the extra app)")
    new_tiny_model().save_pretrained(tmp_path / "runs/demo/model")
    image = tmp_path / "runs/demo/images/scene.png"
    image.parent.mkdir()
    image.write_bytes(png(Scenes()[0][0]))
    monkeypatch.chdir(tmp_path)
    process = start("app", "--port", "0", "--device", "cpu", variables={"TMPDIR": str(tmp_path)})
    assert process.stdout is not None
    line = process.stdout.readline()
    url = re.match(r"(http://127\.0\.0\.1:\d+/) opens in a browser; Ctrl-C ends it", line)
    assert url is not None, line

    def answers() -> bool:
        try:
            return b"gradio" in urllib.request.urlopen(url[1], timeout=10).read()
        except OSError:
            return False

    wait_until(answers)
    (folder,) = tmp_path.glob("ccnet-app-*")
    assert len(list(Path(folder, "examples").iterdir())) == 2
    process.send_signal(number)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in output
    assert not list(tmp_path.glob("ccnet-app-*"))
