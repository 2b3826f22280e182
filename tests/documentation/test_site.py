"""The site: built without a warning, no broken link, nothing is asked of other hosts."""

import functools
import http.server
import importlib.util
import re
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from tests.browser import chromium
from tests.documentation.blocks import PAGES, ROOT


@pytest.fixture(scope="module")
def make_site() -> ModuleType:
    """docs/make_site.py as a module."""
    spec = importlib.util.spec_from_file_location("make_site", ROOT / "docs" / "make_site.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def site(make_site, tmp_path_factory) -> Path:
    pytest.importorskip("zensical", reason="the extra docs is not installed")
    pytest.importorskip("mkdocstrings_handlers.python", reason="the extra docs is not installed")
    return make_site.build(tmp_path_factory.mktemp("build"))


def test_every_page_is_in_the_navigation():
    configured = re.findall(r'= "([\w./-]+\.md)"', (ROOT / "docs" / "zensical.toml").read_text())
    assert sorted(configured) == sorted(str(page.relative_to(ROOT)) for page in PAGES)


def test_the_pages_and_what_they_link_to_are_collected(make_site):
    files = {str(path.relative_to(ROOT)) for path in make_site.site_files()}
    assert {str(page.relative_to(ROOT)) for page in PAGES} <= files
    assert {"docs/scenes.png", "benchmarks/results/attention.csv", "configs/folder.yaml"} <= files
    assert "pyproject.toml" not in files


@pytest.mark.parametrize(
    ("html", "problem"),
    [
        ('<a href="b/">', None),
        ('<a href="b/#there">', None),
        ('<a href="#here"><p id="here">', None),
        ('<a href="/b/">', None),
        ('<a href="https://example.org/x">', None),
        ('<img src="data:image/png;base64,">', None),
        ('<a href="c/">', "a.html: c/: no such file"),
        ('<a href="b/#nowhere">', "a.html: b/#nowhere: no such anchor"),
        ('<a href="../outside.html">', "a.html: ../outside.html: no such file"),
        ('<img src="missing.png">', "a.html: missing.png: no such file"),
        ('<script src="https://cdn.example.org/x.js">', "loaded from another host"),
        ('<link rel="stylesheet" href="http://fonts.example.org/">', "loaded from another host"),
        ('<a href="https:///x">', "no address"),
        ('<a href="javascript:x()">', "unknown kind of link"),
    ],
)
def test_broken_links_are_found(make_site, tmp_path, html, problem):
    (tmp_path / "a.html").write_text(html)
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "index.html").write_text('<h1 id="there">There</h1>')
    found = make_site.broken_links(tmp_path)
    assert found == [] if problem is None else len(found) == 1 and problem in found[0]


def test_a_style_that_loads_a_font_is_found(make_site, tmp_path):
    (tmp_path / "a.css").write_text("@import 'https://fonts.example.org/a.css'; b { color: red }")
    assert make_site.broken_links(tmp_path) == ["a.css: loads https://fonts.example.org/a.css"]


def test_docstrings_on_the_pages_fit_their_signatures(make_site):
    pytest.importorskip("griffe", reason="the extra docs is not installed")
    names = make_site.documented_names()
    assert len(names) > 25
    assert make_site.docstring_warnings(names) == []


def test_a_docstring_of_another_argument_is_found(make_site, tmp_path, monkeypatch):
    pytest.importorskip("griffe", reason="the extra docs is not installed")
    package = tmp_path / "ccnet"
    package.mkdir()
    text = 'def f(a: int) -> None:\n    """Do.\n\n    Args:\n        b: another.\n    """\n'
    (package / "__init__.py").write_text(text)
    monkeypatch.setattr(make_site, "ROOT", tmp_path)
    assert any("'b' does not appear" in w for w in make_site.docstring_warnings(["ccnet.f"]))


@pytest.mark.slow
def test_the_site_has_every_page_and_no_broken_link(make_site, site):
    assert make_site.broken_links(site) == []
    for page in PAGES:
        name = page.relative_to(ROOT).with_suffix("")
        folder = name.parent if name.name == "README" else name
        assert (site / folder / "index.html").is_file()
    api = (site / "docs" / "api" / "index.html").read_text()
    assert all(f'id="{name}"' in api for name in make_site.documented_names())


@pytest.mark.slow
def test_a_warning_ends_the_build(make_site, tmp_path, monkeypatch):
    pytest.importorskip("zensical", reason="the extra docs is not installed")
    files = make_site.site_files() - {ROOT / "docs" / "training.md"}
    monkeypatch.setattr(make_site, "site_files", lambda: files)
    with pytest.raises(SystemExit, match="page does not exist"):
        make_site.build(tmp_path)


@pytest.mark.slow
def test_a_folder_that_is_no_site_is_not_replaced(make_site, tmp_path, monkeypatch):
    (tmp_path / "mine.txt").write_text("mine")
    monkeypatch.setattr(sys, "argv", ["make_site.py", "--output", str(tmp_path)])
    with pytest.raises(SystemExit, match="not a site that this program made"):
        make_site.main()
    assert (tmp_path / "mine.txt").read_text() == "mine"


@pytest.fixture
def browser() -> Iterator:
    with chromium() as browser:
        yield browser


@pytest.fixture
def address(site) -> Iterator[str]:
    """Where the site is served, as by `python -m http.server`."""
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=site)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


@pytest.mark.slow
@pytest.mark.parametrize("width", [1280, 400])
def test_pages_fit_and_ask_no_other_host_for_anything(browser, address, width):
    scheme = "light" if width > 1000 else "dark"
    page = browser.new_page(viewport={"width": width, "height": 800}, color_scheme=scheme)
    asked, said = [], []
    page.on("request", lambda request: asked.append(request.url))
    page.on("console", lambda message: said.append(message.text))
    for name in PAGES:
        place = name.relative_to(ROOT).with_suffix("")
        page.goto(f"{address}{place.parent if place.name == 'README' else place}/")
        page.wait_for_load_state("networkidle")
        assert page.evaluate("document.documentElement.scrollWidth") <= width, name
    assert [url for url in asked if not url.startswith(address)] == []
    assert said == []


@pytest.mark.slow
def test_the_search_finds_a_page_without_a_network(browser, address):
    page = browser.new_page()
    page.goto(address)
    page.keyboard.press("Control+k")
    page.keyboard.type("Lovász", delay=20)
    page.get_by_role("link", name=re.compile("Train")).first.wait_for(timeout=20_000)
