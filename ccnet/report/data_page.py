"""A page of a data set: what its check found, class frequencies, images under their labels."""

import base64
import html
import io
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
from PIL import Image

from ccnet.checking.findings import DataReport
from ccnet.checking.suspects import Suspect, chosen, ranked
from ccnet.datasets.dataset import SegmentationDataset
from ccnet.images.colors import IGNORED_COLOR
from ccnet.report.contact_sheet import new_tile
from ccnet.report.gallery import JPEG_QUALITY
from ccnet.report.page import digest, part_of_page
from ccnet.runtime.disk import write_whole
from ccnet.runtime.files import printable

NUM_PAIRS = 200
"""Pairs of each split on the page."""
STYLE = """
.pairs { display: grid; gap: 1rem; grid-template-columns: repeat(auto-fill, minmax(20rem, 1fr)); }
.pairs figure {
  margin: 0; background: var(--panel); border: 1px solid var(--line); padding: .5rem;
}
.pairs img { width: 50%; vertical-align: top; }
.pairs figcaption { overflow-wrap: anywhere; font-size: .85rem; }
.suspicious { color: var(--mark); }
td svg { display: block; }
"""


def write_data_page(
    path: Path, checked: Mapping[str, tuple[SegmentationDataset, DataReport]]
) -> None:
    """Write a page that needs no other file and makes no request.

    Of each split it has the problems and warnings, a table of the classes, and up to `NUM_PAIRS`
    pairs, about 40 kB each: the image, and the label over it. The most suspicious come first.

    Args:
        path: HTML file; missing folders are made.
        checked: Split → data set and its report, made with `compare_edges`.
    """
    roots = {report.root for _, report in checked.values()}
    title = html.escape(printable(f"Data check: {', '.join(sorted(roots))}"))
    style = part_of_page("page.css") + STYLE
    policy = (
        "default-src 'none'; img-src data:; base-uri 'none'; form-action 'none'; "
        f"style-src '{digest(style)}'"
    )

    def write(partial: Path) -> None:
        with partial.open("w", encoding="utf-8") as file:
            file.write(
                '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
                f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
                '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
                f"<title>{title}</title>\n<style>{style}</style>\n</head>\n<body>\n"
                f'<header><p class="kind">Data check</p><h1>{title}</h1></header>\n<main>\n'
            )
            for split, (dataset, report) in checked.items():
                file.writelines(section(split, dataset, report))
            file.write("</main>\n</body>\n</html>\n")

    write_whole(path, write)


def section(split: str, dataset: SegmentationDataset, report: DataReport) -> Iterator[str]:
    """The part of the page on one split, in pieces."""
    yield f"<section><h2>{escaped(split)}</h2>\n"
    yield f"<p>{report.num_pairs} pairs, {report.num_usable} usable; {escaped(report.layout)}</p>\n"
    for problem in report.problems:
        yield f'<p class="warning"><strong>Not fit for training:</strong> {escaped(problem)}</p>\n'
    for sentence in [*report.notes, *report.warnings]:
        yield f'<p class="warning">{escaped(sentence)}</p>\n'
    yield class_table(dataset, report)
    suspects = ranked(report)
    pairs = chosen(suspects, NUM_PAIRS)
    if len(pairs) < len(suspects):
        yield f"<p>{len(pairs)} of {len(suspects)} pairs, the most suspicious first.</p>\n"
    yield '<div class="pairs">\n'
    for suspect in pairs:
        yield figure(dataset, suspect)
    yield "</div></section>\n"


def class_table(dataset: SegmentationDataset, report: DataReport) -> str:
    """Color, pixels, share and images of each class; bars show the shares."""
    shares = report.frequencies
    top = max([*shares, report.ignored_share, 1e-9])
    rows = [
        (name, dataset.palette[c], report.class_pixels[c], shares[c], str(report.class_images[c]))
        for c, name in enumerate(report.classes)
    ]
    rows.append(("ignored (share of all)", IGNORED_COLOR, report.ignored_pixels,
                 report.ignored_share, ""))  # fmt: skip
    lines = []
    for name, color, pixels, share, images in rows:
        shown = "#" + bytes(color).hex()
        bar = (
            f'<svg width="220" height="14" role="img" aria-label="{share:.2%}">'
            f'<rect x="0" y="1" width="12" height="12" fill="{shown}" stroke="gray"/>'
            f'<rect x="18" y="1" width="{200 * share / top:.1f}" height="12" fill="{shown}" '
            'stroke="gray"/></svg>'
        )
        lines.append(
            f"<tr><th>{escaped(name)}</th><td>{bar}</td><td>{share:.2%}</td>"
            f"<td>{pixels:,}</td><td>{images}</td></tr>\n"
        )
    head = "<tr><th>class</th><th></th><th>share of labeled</th><th>pixels</th><th>images</th></tr>"
    return f'<div class="scroll"><table class="compact">\n{head}\n{"".join(lines)}</table></div>\n'


def figure(dataset: SegmentationDataset, suspect: Suspect) -> str:
    """One pair, with its name and what is suspicious about it."""
    tile = new_tile(dataset, suspect)
    pictures = [tile.image] if tile.labeled is None else [tile.image, tile.labeled]
    texts = ["image", "label over the image"]
    shown = "".join(
        f'<img src="{as_jpeg(picture)}" alt="{text}" loading="lazy">'
        for picture, text in zip(pictures, texts, strict=False)
    )
    reasons = "; ".join(suspect.reasons)
    return (
        f"<figure>{shown}<figcaption>{escaped(dataset.name(suspect.index))}"
        f'<br><span class="suspicious">{escaped(reasons)}</span></figcaption></figure>\n'
    )


def as_jpeg(picture: np.ndarray) -> str:
    """A picture as the address of an image in a page."""
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "JPEG", quality=JPEG_QUALITY)
    return f"data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode()}"


def escaped(text: str) -> str:
    return html.escape(printable(text))
