"""What the page shows for the values of its fields."""

import asyncio
import threading
from pathlib import Path

import pytest

from ccnet.app.loading import AS_VALIDATED, PageModel
from ccnet.app.storage import Storage
from ccnet.app.workbench import Workbench
from tests.app.serving import loaded

gradio = pytest.importorskip("gradio", reason="gradio is not installed (the extra app)")


@pytest.fixture
def handlers(model_folder, other_folder, tmp_path):
    from ccnet.app.handlers import Handlers

    return Handlers(Workbench(loaded(model_folder, other_folder), Storage(tmp_path)))


def click(x: float, y: float):
    return gradio.SelectData(None, {"index": [x, y], "value": None})


def test_models_are_shown_one_after_the_other(handlers, scene):
    first, second = handlers.show(str(scene), AS_VALIDATED, 50)
    assert len(first) == len(second) == 7
    assert first[0].endswith(".jpg")
    assert "<table>" in first[1]
    assert "Click into the picture" in first[2]
    assert "value" not in first[3]  # is not changed yet
    assert "<table>" in second[4]
    assert second[6]["visible"] is False


def test_a_wrong_file_takes_the_old_picture_away_and_says_why(handlers, tmp_path):
    path = tmp_path / "a.jpg"
    path.write_bytes(b"<html>")
    *_, shown = handlers.show(str(path), AS_VALIDATED, 50)
    for picture, table, pixel in (shown[:3], shown[3:6]):
        assert (picture, pixel) == (None, "")
        assert 'role="alert"' in table
        assert "a.jpg: cannot be read as an image, since it is an HTML page; download" in table


def test_without_a_file_the_page_says_what_to_do(handlers):
    *_, shown = handlers.show(None, AS_VALIDATED, 50)
    assert shown[0] is None
    assert "Choose an example" in shown[1]
    assert list(handlers.look_from_click(None, AS_VALIDATED, click(1, 1))) == []
    assert "Choose an example" in next(handlers.look(None, AS_VALIDATED, 1, 1))[0]
    with pytest.raises(gradio.Error, match="Choose an example"):
        handlers.download(None, AS_VALIDATED, 50)


def test_a_click_is_turned_into_a_pixel_of_the_image(handlers, scene):
    *_, shown = handlers.look_from_click(str(scene), AS_VALIDATED, click(12 * 20 + 5, 12 * 30 + 5))
    assert shown[:2] == [20, 30]
    assert all("Pixel (20, 30)" in panel for panel in shown[2:])


def test_a_click_after_the_file_is_gone_says_so(handlers, tmp_path):
    *_, shown = handlers.look_from_click(str(tmp_path / "a.png"), AS_VALIDATED, click(1, 1))
    assert all("a.png: the page keeps this file no longer" in panel for panel in shown[2:])


def test_memory_that_does_not_suffice_is_said(handlers, scene, monkeypatch):
    def fail(*_: object) -> None:
        raise RuntimeError("not enough memory:\n" + 1000 * "x")

    monkeypatch.setattr(type(handlers.bench.models[0].predictor), "score", fail)
    *_, shown = handlers.show(str(scene), AS_VALIDATED, 50)
    assert "not enough memory: xxx" in shown[1]
    assert len(shown[1]) < 500


def test_numbers_that_are_missing_or_outside_are_said(handlers, scene):
    for x, y, text in ((None, 3, "Both numbers"), (64, 3, "outside the image")):
        assert text in next(handlers.look(str(scene), AS_VALIDATED, x, y))[0]


def test_colors_may_be_changed_alone(handlers, scene):
    strong, weak = (handlers.recolor(str(scene), AS_VALIDATED, value) for value in (100, 0))
    assert len(strong) == 2
    assert Path(strong[0]).read_bytes() != Path(weak[0]).read_bytes()


def test_one_field_gets_the_value_itself():
    from ccnet.app.handlers import as_outputs

    assert as_outputs(["a.jpg"]) == "a.jpg"
    assert as_outputs(["a.jpg", "b.jpg"]) == ["a.jpg", "b.jpg"]


def test_files_of_both_models_are_made(handlers, scene):
    files = handlers.download(str(scene), AS_VALIDATED, 50)
    assert [name.rpartition("/")[2] for name in files["value"]] == 2 * [
        "scene.png",
        "scene.overlay.png",
        "polygons.coco.json",
    ]


def test_the_page_says_when_the_models_are_loaded(model_folder):
    from ccnet.app.handlers import Handlers

    model = PageModel(str(model_folder))
    handlers = Handlers(Workbench([model], Storage(model_folder.parent)))

    async def lines() -> list[tuple]:
        found = []
        async for shown in handlers.wait_for_models():
            if not found:
                threading.Timer(0.1, model.load, ["cpu", "float32"]).start()
            found.append(shown)
        return found

    first, last = asyncio.run(lines())
    assert "Loading" in first[0]
    assert "(4 classes)" in last[0]
    assert last[1]["choices"][0] == ("as validated: whole image", AS_VALIDATED)


def test_the_page_says_why_a_model_is_not_loaded(tmp_path):
    from ccnet.app.handlers import Handlers

    model = PageModel(str(tmp_path / "none"))
    model.load("cpu", "float32")
    handlers = Handlers(Workbench([model], Storage(tmp_path)))

    async def lines() -> list[tuple]:
        return [shown async for shown in handlers.wait_for_models()]

    ((line, _),) = asyncio.run(lines())
    assert "no model folder at" in line
    assert 'role="alert"' in line
