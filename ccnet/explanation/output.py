"""An explanation as a folder: pictures, an animation, numbers and a page that shows them all."""

import base64
import html
import io
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ccnet.explanation.animation import AnimationFormat, save_animation
from ccnet.explanation.explaining import Explanation
from ccnet.explanation.panels import Picture, save_figure
from ccnet.explanation.pictures import (
    entropy_figure,
    evidence_figure,
    influence_figure,
    reach_figure,
)
from ccnet.explanation.routes import routes_figure
from ccnet.runtime.disk import remove, write_json, write_text, write_whole

PAGE = "index.html"
TITLES = {
    "reach.png": "Where the pixel looks",
    "propagation.gif": "The same, step by step",
    "propagation.mp4": "The same, step by step",
    "routes.png": "How a second pixel gets there",
    "influence.png": "How strongly every place acts",
    "evidence.png": "What speaks for the class",
    "entropy.png": "How widely all pixels look",
}
"""All pictures that there may be, in the order of the page."""
NUM_STRONGEST = 10
MEDIA = {".png": "image/png", ".gif": "image/gif", ".mp4": "video/mp4"}
STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 75rem; margin: 2rem auto; padding: 0 1rem;
  color: #222; background: #fff }
img, video { max-width: 100%; height: auto }
table { border-collapse: collapse } td, th { padding: .15rem 1rem .15rem 0; text-align: left }
"""


def write_explanation(
    folder: Path,
    image: Picture,
    explanation: Explanation,
    *,
    facts: Mapping[str, str],
    animation: AnimationFormat = "gif",
    progress: Callable[[int, int], object] | None = None,
) -> Path:
    """Write the pictures, explanation.json, maps.npz and a page.

    Files of these names are replaced, the page last; other files in the folder stay.

    Args:
        folder: made if it is missing.
        image: the whole image as RGB, as `ccnet.report.gallery.as_rgb` gives it.
        explanation: what `explain` found in it.
        facts: what was explained, such as {"model": ..., "image": ...}.
        animation: its format, or "none".
        progress: called with the number of files that are done, and of all.

    Returns:
        The path of the page.

    Raises:
        ImportError: an MP4 is asked for, and PyAV is not installed.
        OSError: a file cannot be written.
    """
    writers: dict[str, Callable[[Path], object]] = {
        "reach.png": lambda path: save_figure(reach_figure((image, explanation)), path),
        "influence.png": lambda path: save_figure(influence_figure(image, explanation), path),
        "evidence.png": lambda path: save_figure(evidence_figure(image, explanation), path),
        "entropy.png": lambda path: save_figure(entropy_figure(image, explanation), path),
    }
    if explanation.to is not None:
        writers["routes.png"] = lambda path: save_figure(routes_figure(image, explanation), path)
    if animation != "none":
        name = f"propagation.{animation}"
        writers[name] = lambda path: save_animation(path, image, explanation)
    writers["maps.npz"] = lambda path: write_maps(path, explanation)
    content = {**facts, **to_json(image, explanation)}
    writers["explanation.json"] = lambda path: write_json(path, content)
    for name in {PAGE, *TITLES} - writers.keys():
        remove(folder / name)
    for done, (name, write) in enumerate(writers.items(), start=1):
        write(folder / name)
        if progress is not None:
            progress(done, len(writers))
    pictures = [name for name in TITLES if name in writers]
    write_text(folder / PAGE, page(folder, pictures, explanation, facts))
    return folder / PAGE


def write_maps(path: Path, explanation: Explanation) -> None:
    buffer, maps = io.BytesIO(), dict[str, Any](maps_of(explanation))
    np.savez_compressed(buffer, **maps)
    write_whole(path, lambda file: file.write_bytes(buffer.getbuffer()))


def maps_of(explanation: Explanation) -> dict[str, np.ndarray]:
    """All maps by their names: reach_1 to reach_R, entropy_1 to entropy_R, and the others."""
    reach = {f"reach_{n}": map for n, map in enumerate(explanation.reach, start=1)}
    entropy = {f"entropy_{n}": map for n, map in enumerate(explanation.entropy, start=1)}
    others = {
        name: getattr(explanation, name) for name in ("influence", "exact", "gradient", "evidence")
    }
    return {**reach, **others, **entropy}


def to_json(image: Picture, explanation: Explanation) -> dict[str, Any]:
    """The numbers of an explanation as JSON has them; places are (x, y) in the image."""
    order = np.argsort(-explanation.probabilities, kind="stable")
    rows, columns = explanation.influence.shape
    left, right, bottom, top = explanation.grid.extent()
    measures = {
        name: map for name, map in maps_of(explanation).items() if not name.startswith("entropy")
    }
    return {
        "size": [image.shape[1], image.shape[0]],
        "point": list(explanation.point),
        "class": explanation.class_name,
        "probabilities": [
            {
                "class": explanation.class_names[i],
                "probability": float(explanation.probabilities[i]),
            }
            for i in order
        ],
        "passes": len(explanation.reach),
        "gamma": list(explanation.gamma),
        "features": {"height": rows, "width": columns, "cell": list(explanation.cell)},
        "seen": {"left": left, "top": top, "right": right, "bottom": bottom},
        "entropy_of_the_pixel": [float(map[explanation.cell]) for map in explanation.entropy],
        "sums": {name: float(map.sum()) for name, map in measures.items()},
        "strongest": {name: strongest(explanation, map) for name, map in measures.items()},
        "to": None if explanation.to is None else list(explanation.to),
        "routes": [
            {
                "corner": list(explanation.grid.center(route.corner)),
                "first": route.first,
                "second": route.second,
                "weight": route.weight,
            }
            for route in explanation.routes
        ],
    }


def strongest(explanation: Explanation, map: np.ndarray) -> list[dict[str, float]]:
    """The places with the values farthest from 0, the pixel itself among them."""
    found = []
    for index in np.argsort(-np.abs(map), axis=None, kind="stable")[:NUM_STRONGEST]:
        row, column = divmod(int(index), map.shape[1])
        x, y = explanation.grid.center((row, column))
        found.append({"x": x, "y": y, "value": float(map[row, column])})
    return found


def page(
    folder: Path, pictures: list[str], explanation: Explanation, facts: Mapping[str, str]
) -> str:
    """One HTML page that holds all pictures and needs no other file and no network."""
    (x, y), name = explanation.point, html.escape(explanation.class_name)
    share = float(explanation.probabilities[explanation.class_index])
    rows = {
        **facts,
        "γ of each pass": ", ".join(f"{gamma:.3g}" for gamma in explanation.gamma),
    }
    table = "".join(
        f"<tr><th>{html.escape(key)}</th><td>{html.escape(value)}</td></tr>"
        for key, value in rows.items()
    )
    sections = "".join(
        f"<h2>{TITLES[name]}</h2>\n{embedded(folder / name, TITLES[name])}\n" for name in pictures
    )
    return f"""<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<meta http-equiv="Content-Security-Policy"
  content="default-src 'none'; img-src data:; media-src data:; style-src 'unsafe-inline'">
<title>Pixel ({x}, {y}): {name}</title>
<style>{STYLE}</style>
<h1>Why is pixel ({x}, {y}) “{name}”?</h1>
<p>The network gives this pixel the class “{name}” with a probability of {100 * share:.1f} %.
The pictures show from where in the image it took what it knows. x counts from the left, y from the
top.</p>
<table>{table}</table>
{sections}
<p>explanation.json has the numbers, maps.npz all maps at the size of the network's features.</p>
</html>
"""


def embedded(path: Path, title: str) -> str:
    data = base64.b64encode(path.read_bytes()).decode()
    source = f"data:{MEDIA[path.suffix]};base64,{data}"
    if path.suffix == ".mp4":
        return f'<video src="{source}" controls loop autoplay muted></video>'
    return f'<img src="{source}" alt="{html.escape(title)}">'
