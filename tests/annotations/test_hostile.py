"""Annotations changed at random: they are read, or refused in one line that names a file."""

import copy
import json
import random
from itertools import chain
from pathlib import Path
from typing import Any

import pytest

from ccnet.annotations.detection import open_source
from ccnet.annotations.drawing import Drawing
from ccnet.runtime.files import DataError
from tests.annotated import HEIGHT, WIDTH, coco_content, labelme_content, save_image
from tests.annotations.test_rle import compressed

VALUES = (
    None, True, 0, -1, 3, 17, 2**70, 0.5, -1e300, 1e9, "", "a", "a.png", "../a.png", "\ud800.png",
    "x" * 5000, "a\0", "o" * 99, [], {}, [[]], [[1, 2, 3]], [1, 2], [[1, 2], [3, 4], [5, 6]],
    {"counts": "x", "size": [HEIGHT, WIDTH]}, {"counts": [], "size": [0, 0]}, [None], [{}],
    [{"id": 1}], "background", "ignore", [[0, 0, 1e7, 0, 1e7, 1e7]], [[float("inf")] * 6],
)  # fmt: skip


def masked_content() -> dict[str, Any]:
    content = coco_content("ab")
    total = HEIGHT * WIDTH
    size = [HEIGHT, WIDTH]
    content["annotations"][0]["segmentation"] = {"counts": [10, 90, total - 100], "size": size}
    text = compressed([10, 90, total - 100])
    content["annotations"][1] |= {"segmentation": {"counts": text, "size": size}, "iscrowd": 1}
    return content


def places(value: Any) -> list[tuple[Any, Any]]:
    """Every list or mapping with a key of it."""
    keys = list(value) if isinstance(value, dict) else range(len(value))
    found = [(value, key) for key in keys]
    for key in keys:
        if isinstance(value[key], dict | list):
            found += places(value[key])
    return found


def change(content: Any, rng: random.Random) -> Any:
    content = copy.deepcopy(content)
    for _ in range(rng.choice((1, 1, 2))):
        found = places(content)
        if not found:
            break
        owner, key = rng.choice(found)
        if rng.random() < 0.2:
            del owner[key]
        else:
            owner[key] = copy.deepcopy(rng.choice(VALUES))
    return content


def outcome(root: Path) -> str:
    """The error of reading and drawing all annotations in a folder; no text without an error."""
    try:
        source = open_source(root)
        for sample in [] if source is None else chain.from_iterable(source.splits.values()):
            assert isinstance(sample.label, Drawing)
            sample.label.draw((HEIGHT, WIDTH))
    except DataError as error:
        return str(error)
    return ""


def require_short_errors(root: Path, outcomes: list[str]) -> None:
    errors = [text for text in outcomes if text]
    assert len(outcomes) / 8 < len(errors) < len(outcomes) * 7 / 8
    for error in errors:
        assert error.startswith(str(root))
        assert "\n" not in error
        assert len(error) < 700


@pytest.mark.parametrize(
    "content",
    [coco_content("ab"), masked_content(), labelme_content("a")],
    ids=["coco", "coco masks", "labelme"],
)
@pytest.mark.parametrize("number", [150, pytest.param(3000, marks=pytest.mark.slow)])
def test_changed_json_is_read_or_refused(tmp_path: Path, content: Any, number: int):
    rng = random.Random(number)
    save_image(tmp_path / "a.png"), save_image(tmp_path / "b.png")
    outcomes = []
    for _ in range(number):
        (tmp_path / "a.json").write_text(json.dumps(change(content, rng)))
        outcomes.append(outcome(tmp_path))
    require_short_errors(tmp_path, outcomes)


LINE = "1 0.1 0.1 0.5 0.2 0.4 0.9"


def test_changed_lines_of_yolo_are_read_or_refused(tmp_path: Path):
    rng = random.Random(0)
    save_image(tmp_path / "images/train/a.png")
    (tmp_path / "labels/train").mkdir(parents=True)
    (tmp_path / "data.yaml").write_text("names: [a, b]\ntrain: images/train\n")
    outcomes = []
    for _ in range(300):
        text = list(LINE)
        for _ in range(rng.randrange(1, 4)):
            text[rng.randrange(len(text))] = rng.choice("0123456789.-e \n\t\0äx")
        (tmp_path / "labels/train/a.txt").write_text("".join(text))
        outcomes.append(outcome(tmp_path))
    require_short_errors(tmp_path, outcomes)
