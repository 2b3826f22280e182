"""The page's fields and the functions of their events."""

import asyncio
import re

import pytest

from ccnet.app.loading import PageModel
from ccnet.app.storage import temporary_storage
from ccnet.app.workbench import Workbench

pytest.importorskip("gradio", reason="gradio is not installed (the extra app)")


def configuration(*names: str, has_report: bool = False) -> dict:
    """What the browser gets of a page of models that are not loaded."""
    from ccnet.app.page import build_page

    async def build():
        bench = Workbench([PageModel(name) for name in names], storage)
        return build_page(bench, has_report=has_report)

    with temporary_storage() as storage:
        return asyncio.run(build()).get_config_file()


def element_ids(page: dict) -> set[str]:
    return {part["props"].get("elem_id") for part in page["components"]}


def test_each_model_has_its_panel():
    assert {"picture-0", "shares-0", "pixel-0"} <= element_ids(configuration("a"))
    assert "picture-1" not in element_ids(configuration("a"))
    assert {"picture-1", "shares-1", "pixel-1"} <= element_ids(configuration("a", "b"))


def test_the_page_links_to_a_report_only_if_there_is_one():
    for has_report in (False, True):
        page = configuration("a", has_report=has_report)
        values = [str(part["props"].get("value")) for part in page["components"]]
        assert any("report/report.html" in value for value in values) == has_report


def test_what_computes_waits_in_one_bounded_line():
    from ccnet.app.page import MAX_WAITING, build_page

    async def build():
        return build_page(Workbench([PageModel("a")], storage))

    with temporary_storage() as storage:
        page = asyncio.run(build())
    assert page._queue.max_size == MAX_WAITING
    functions = [
        event for event in page.fns.values() if event.name not in ("wait_for_models", "choose")
    ]
    assert {event.concurrency_id for event in functions} == {"computing"}
    assert {event.concurrency_limit for event in functions} == {1}


def test_no_font_and_no_style_comes_from_elsewhere():
    from ccnet.app.page import THEME, style

    assert THEME._stylesheets == []
    assert ".swatch" in style()
    assert not re.search(r"url\(|@import|https?:", style())
