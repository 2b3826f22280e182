"""Build the site from the pages in docs/ and the root: python docs/make_site.py

The pages keep the links that they have in the repository: pages and the files that they link to are
copied to one folder as they lie here, and Zensical makes the site of it. A warning is an error.
Afterwards every link of the site is looked up, and nothing may ask another host for anything.
"""

import argparse
import logging
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

ROOT = Path(__file__).resolve().parents[1]
LINK = re.compile(r"\]\(([^)\s]+)\)")
DOCUMENTED = re.compile(r"^::: (ccnet[\w.]*)$", re.MULTILINE)
# tags and attributes by which a page loads something at once, without a click
LOADING = {
    ("script", "src"),
    ("img", "src"),
    ("iframe", "src"),
    ("source", "src"),
    ("link", "href"),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument(
        "--output", type=Path, default=ROOT / "site", help="replaced if it is there"
    )
    output = parser.parse_args().output
    if output.exists() and not (output / "search.json").is_file():
        sys.exit(f"{output}: not a site that this program made; name another --output")
    problems = docstring_warnings(documented_names())
    with tempfile.TemporaryDirectory() as folder:
        built = build(Path(folder))
        problems += broken_links(built)
        if not problems:
            shutil.rmtree(output, ignore_errors=True)
            shutil.copytree(built, output)
    for problem in problems:
        print(problem, file=sys.stderr)
    if problems:
        sys.exit(f"{len(problems)} problems: no site was written")
    print(f"{output}: python -m http.server --directory {output}")


def build(folder: Path) -> Path:
    """Collect the pages in a folder, and make the site there.

    Raises:
        SystemExit: Zensical is missing, or it gave a warning.
    """
    for path in site_files():
        target = folder / "pages" / path.relative_to(ROOT)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)
    shutil.copyfile(ROOT / "docs" / "zensical.toml", folder / "zensical.toml")
    command = [sys.executable, "-m", "zensical", "build", "--strict", "--clean"]
    found = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = os.environ | {"PYTHONPATH": found, "NO_COLOR": "1"}
    result = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    said = result.stdout + result.stderr
    if result.returncode != 0 or re.search(r"\bwarning\b", said, re.IGNORECASE):
        sys.exit(
            f"{said}\nthe site could not be built; pip install -e '.[docs]' brings what it needs"
        )
    return folder / "site"


def pages() -> list[Path]:
    return sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), ROOT / "examples/README.md"])


def site_files() -> set[Path]:
    """The pages, the style, and all files of the repository that a page links to."""
    files = {*pages(), ROOT / "docs" / "site.css"}
    for page in pages():
        for link in LINK.findall(page.read_text()):
            path = (page.parent / urlsplit(link).path).resolve()
            if not urlsplit(link).scheme and path.is_file():
                files.add(path)
    return files


def documented_names() -> list[str]:
    """The names whose docstrings are on the pages, by lines such as `::: ccnet.CCNet`."""
    return [name for page in pages() for name in DOCUMENTED.findall(page.read_text())]


def docstring_warnings(names: list[str]) -> list[str]:
    """What Griffe finds wrong with docstrings, such as arguments that a function does not have."""
    import griffe

    package = griffe.load("ccnet", search_paths=[ROOT], try_relative_path=False)
    records: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: records.append(record.getMessage())
    logging.getLogger("griffe").addHandler(handler)
    for name in names:
        found = package[name.removeprefix("ccnet.")]
        found = found.final_target if found.is_alias else found
        if found.docstring is None:
            records.append(f"{name} has no docstring")
        for item in [found, *(m for m in found.members.values() if not m.is_alias)]:
            if item.docstring is not None and not item.name.startswith("_"):
                item.docstring.parse("google")
    logging.getLogger("griffe").removeHandler(handler)
    return records


class Page(HTMLParser):
    """The anchors of a page, and its links as (link, whether it is loaded with the page)."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.anchors: set[str] = set()
        self.links: list[tuple[str, bool]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self.anchors |= {given[name] for name in ("id", "name") if name in given}
        for name in ("href", "src"):
            if name in given:
                is_loaded = (tag, name) in LOADING and given.get("rel") != "canonical"
                self.links.append((given[name], is_loaded))


def broken_links(site: Path) -> list[str]:
    """Links of a built site that lead nowhere, and what it would load from other hosts."""
    parsed = {path: Page(path.read_text()) for path in sorted(site.rglob("*.html"))}
    problems = []
    for path, page in parsed.items():
        for link, is_loaded in page.links:
            problem = problem_of(site, path, link, is_loaded, parsed)
            if problem:
                problems.append(f"{path.relative_to(site)}: {link}: {problem}")
    problems += [
        f"{path.relative_to(site)}: loads {url}"
        for path in site.rglob("*.css")
        for url in outside_of_css(path.read_text())
    ]
    return problems


def problem_of(
    site: Path, path: Path, link: str, is_loaded: bool, parsed: dict[Path, Page]
) -> str | None:
    parts = urlsplit(link)
    if parts.scheme in ("http", "https"):
        if is_loaded:
            return "loaded from another host"
        return None if re.fullmatch(r"[\w.-]+\.[a-z]{2,}", parts.netloc) else "no address"
    if parts.scheme in ("data", "mailto"):
        return None
    if parts.scheme or parts.netloc:
        return "unknown kind of link"
    target = path
    if parts.path:
        inside = parts.path.startswith("/")
        base = site if inside else path.parent
        target = Path(os.path.normpath(base / unquote(parts.path).lstrip("/")))
    if target.is_dir():
        target /= "index.html"
    if not target.is_relative_to(site) or not target.is_file():
        return "no such file"
    anchor = unquote(parts.fragment)
    if anchor and not anchor.startswith("__") and anchor not in parsed[target].anchors:
        return "no such anchor"
    return None


def outside_of_css(text: str) -> Iterator[str]:
    return (url for url in re.findall(r"(?:url\(|@import\s)['\"]?(https?:[^'\")\s]+)", text))


if __name__ == "__main__":
    main()
