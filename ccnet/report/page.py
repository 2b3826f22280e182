"""The report of an evaluation: one HTML page that needs no other file, with JSON and CSV beside."""

import base64
import hashlib
import html
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any, TextIO

from ccnet.report.content import errors_content, page_content, scores_content
from ccnet.report.csv_files import write_csv_files
from ccnet.report.evaluation import Evaluation
from ccnet.report.gallery import Picture
from ccnet.runtime.disk import write_text, write_whole

MAX_BYTES = 40_000_000
"""Pictures on the page take at most this, as text."""
SHARE_OF_CROPS = 0.2
MAX_ERRORS = 500
"""Suspected label errors on the page; the CSV has all."""
PROGRAM = ("viewer.js", "charts.js", "page.js")


def write_report(
    folder: Path | str,
    evaluation: Evaluation,
    *,
    title: str,
    facts: Mapping[str, str],
    max_bytes: int = MAX_BYTES,
) -> Path:
    """Write a page to browse the errors of a model, and all its scores as JSON and CSV.

    report.html opens from disk and makes no request. scores.json, classes.csv, images.csv,
    confusion.csv and label_errors.csv are beside it. Files of these names are replaced, the page
    last; others stay.

    Args:
        folder: where to write; made if it is missing.
        evaluation: what was observed, of all processes (`Evaluation.gathered`).
        title: of the page, such as the names of model and data.
        facts: what was evaluated and how, such as {"precision": "float32"}.
        max_bytes: of the pictures on the page; those of less interest are left out, which the page
            says.

    Returns:
        The path of report.html.

    Raises:
        ValueError: no pixel is labeled.
        OSError: a file cannot be written.
    """
    folder = Path(folder)
    content = scores_content(evaluation, facts)
    write_text(folder / "scores.json", json.dumps(content, indent=2, allow_nan=False) + "\n")
    write_csv_files(folder, evaluation)
    page = folder / "report.html"

    def write(path: Path) -> None:
        with path.open("w", encoding="utf-8", errors="backslashreplace") as file:
            write_page(file, evaluation, title, facts, max_bytes)

    write_whole(page, write)
    return page


def write_page(
    file: TextIO, evaluation: Evaluation, title: str, facts: Mapping[str, str], max_bytes: int
) -> None:
    """Fill the template, picture by picture."""
    style = part_of_page("page.css")
    program = "\n".join(map(part_of_page, PROGRAM))
    fields = {
        "title": html.escape(title),
        "policy": f"default-src 'none'; img-src data:; base-uri 'none'; form-action 'none'; "
        f"style-src '{digest(style)}'; script-src '{digest(program)}'",
        "style": style,
        "program": program,
    }
    for place, part in enumerate(re.split(r"\{\{(\w+)\}\}", part_of_page("page.html"))):
        if place % 2 == 0:
            file.write(part)
        elif part == "data":
            file.writelines(data_blocks(evaluation, title, facts, max_bytes))
        else:
            file.write(fields[part])


def part_of_page(name: str) -> str:
    return (files("ccnet.report") / name).read_text(encoding="utf-8")


def data_blocks(
    evaluation: Evaluation, title: str, facts: Mapping[str, str], max_bytes: int
) -> Iterator[str]:
    """What the page's program reads: the content, and each picture by itself."""
    pictures = evaluation.gallery.pictures
    images = first_that_fit(
        [(index, pictures[index]) for index in evaluation.gallery.ranked()],
        (1 - SHARE_OF_CROPS) * max_bytes,
    )
    errors = errors_content(evaluation)[:MAX_ERRORS]
    regions = evaluation.errors.suspected()[:MAX_ERRORS]
    crops = first_that_fit(
        [
            (rank, evaluation.crops[region].picture)
            for rank, region in enumerate(regions, start=1)
            if region in evaluation.crops
        ],
        SHARE_OF_CROPS * max_bytes,
    )
    for error, region in zip(errors, regions, strict=True):
        if picture := crops.get(error["rank"]):
            error["size"] = [picture.width, picture.height]
            error["place"] = list(evaluation.crops[region].box)
    content = page_content(evaluation, title, facts, set(images))
    yield data_block("content", content | {"errors": errors})
    for index, picture in images.items():
        yield data_block(f"image-{index}", picture.to_dict())
    for rank, picture in crops.items():
        yield data_block(f"crop-{rank}", picture.to_dict())


def first_that_fit(pictures: Iterable[tuple[int, Picture]], room: float) -> dict[int, Picture]:
    """The first pictures, up to the one with which they would take more than `room` bytes."""
    chosen = {}
    for key, picture in pictures:
        room -= picture.num_bytes
        if room < 0:
            break
        chosen[key] = picture
    return chosen


def data_block(name: str, content: Mapping[str, Any]) -> str:
    """A script element with JSON in it, which a browser does not run."""
    text = json.dumps(content, separators=(",", ":"), allow_nan=False)
    for character in "<>&":  # so that nothing in it can end the element
        text = text.replace(character, f"\\u{ord(character):04x}")
    return f'<script type="application/json" id="{name}">{text}</script>\n'


def digest(text: str) -> str:
    """What a content security policy calls an inline style or script by."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
