"""Classes of label files that nobody has named: one for each value, named after it.

Numbers 0, 1, 2, ... become "class 0", "class 1", ...; masks of 0 and 255 have "background" and
"foreground"; colors are named by their hexadecimal value. 255 beside other numbers is ignored. What
looks like an image, soft edges or lossy compression is refused.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ccnet.classes import IGNORE_INDEX
from ccnet.legends.counting import MOST_VALUES, FoundValues, NoClassesError, count_values

BINARY = ("background", "foreground")
NUMBERED = re.compile(r"class (\d{1,5})")
COLORED = re.compile(r"#[0-9a-f]{6}")
FEWEST_FILES = 5
"""Files from which a value in only one of them is worth a warning."""
VALUES_SHOWN = 12


@dataclass(frozen=True)
class Legend:
    """What the values in label files stand for."""

    description: dict[str, Any]
    """As the keys of a dataset.yaml."""
    notes: tuple[str, ...]
    """What was found and chosen, one line each."""


def read_legend(root: Path, paths: Sequence[Path]) -> Legend:
    """Read all label files of a data set, and take each value for a class.

    Args:
        root: of the data set, for messages.
        paths: of the label files of all splits.

    Raises:
        NoClassesError: the values do not look like classes, or there is only one.
        DataError: no file can be read.
    """
    found = count_values(paths)
    if found.has_colors:
        values, ignored = sorted(found.counts, key=color_name), False
    else:
        is_binary = set(found.counts) == {0, IGNORE_INDEX}
        ignored = IGNORE_INDEX in found.counts and not is_binary
        values = sorted(set(found.counts) - ({IGNORE_INDEX} if ignored else set()))
    require_classes(root, found, values)
    names = names_of(found, values)
    description: dict[str, Any] = {"classes": list(names)}
    if found.has_colors:
        description |= {"palette": list(names), "labels": "rgb"}
    else:
        description |= {"mapping": {v: i for i, v in enumerate(values)}, "labels": "index"}
        description |= palette_of(root, found, values)
    return Legend(description, notes_on(root, found, values, names, ignored=ignored))


def legend_of_model(classes: Sequence[str]) -> Legend:
    """The legend by which labels without names are compared with a model's classes.

    A class that is named after its value stands for that value; the others are numbered in their
    order.
    """
    names = list(classes)
    if all(COLORED.fullmatch(name) for name in names):
        description: dict[str, Any] = {"classes": names, "palette": names, "labels": "rgb"}
    else:
        numbers = [NUMBERED.fullmatch(name) for name in names]
        description = {"classes": names}
        if all(numbers):
            values = [int(number[1]) for number in numbers if number is not None]
            mapping = {value: index for index, value in enumerate(values)}
            description |= {"mapping": mapping, "labels": "index"}
    note = f"there is no dataset.yaml, so labels are of the model's classes: {listed(names)}"
    return Legend(description, (note,))


def require_classes(root: Path, found: FoundValues, values: Sequence[int]) -> None:
    """Raises NoClassesError for values that do not look like classes."""
    texts = [text_of(found, value) for value in values]
    if len(values) > MOST_VALUES:
        raise NoClassesError(
            f"{root}: its {found.num_files} masks hold {len(values)} different values "
            f"({listed(texts)}), as images, soft edges or lossy compression have; without names up "
            f"to {MOST_VALUES} are taken for classes. If they are classes, name them in "
            f"{root / 'dataset.yaml'}.",
            path=root,
        )
    if len(values) < 2:
        raise NoClassesError(
            f"{root}: all {found.num_files} masks hold only the value {listed(texts)}"
            f"{' and 255, which is ignored' if IGNORE_INDEX in found.counts else ''}, so there is "
            "nothing to tell apart. If 255 is a class, name both in "
            f"{root / 'dataset.yaml'}.",
            path=root,
        )
    thin = [value for value in values if found.counts[value].is_thin]
    if len(thin) >= 3 and 2 * len(thin) > len(values):
        example = found.counts[thin[0]].example
        raise NoClassesError(
            f"{example}: {len(thin)} of the {len(values)} values of the masks "
            f"({listed([text_of(found, value) for value in thin])}) lie only in lines one pixel "
            "wide, as soft edges, lossy compression or an image have. Make the masks again as PNGs "
            f"without them; if they are classes, name them in {root / 'dataset.yaml'}.",
            path=example,
        )
    if not found.has_colors and values[-1] >= MOST_VALUES and set(values) != {0, IGNORE_INDEX}:
        pairs = ", ".join(f"{value}: name {i}" for i, value in enumerate(values[:4]))
        raise NoClassesError(
            f"{root}: its masks hold the values {listed(texts)}, with gaps as gray levels have, "
            "and not class numbers from 0 on. If they are classes, name them in "
            f"{root / 'dataset.yaml'}: `classes: [name 0, name 1, ...]` and `mapping: {{{pairs}"
            f"{', ...' if values[4:] else ''}}}`.",
            path=root,
        )


def names_of(found: FoundValues, values: Sequence[int]) -> tuple[str, ...]:
    """One name for each value that stands for a class."""
    if found.has_colors:
        return tuple(map(color_name, values))
    if list(values) == [0, IGNORE_INDEX]:
        return BINARY
    return tuple(f"class {value}" for value in values)


def palette_of(root: Path, found: FoundValues, values: Sequence[int]) -> dict[str, Any]:
    """The colors that palette PNGs show the classes in, if they have different ones.

    Raises:
        NoClassesError: two files show one number in different colors.
    """
    for value, colors in found.palettes.items():
        if len(colors) > 1:
            raise NoClassesError(
                f"{root}: the palettes of its masks show the number {value} in different colors "
                f"({listed([str(color) for color in sorted(colors)])}), so numbers or colors may "
                f"be meant. Name the classes in {root / 'dataset.yaml'}, with `labels: index` or "
                "`labels: rgb`.",
                path=root,
            )
    colors = [color for value in values for color in found.palettes.get(value, ())]
    is_whole = len(set(colors)) == len(colors) == len(values)
    return {"palette": [list(color) for color in colors]} if is_whole else {}


def notes_on(
    root: Path,
    found: FoundValues,
    values: Sequence[int],
    names: Sequence[str],
    *,
    ignored: bool,
) -> tuple[str, ...]:
    """What was found, how to name it, and what may be no class."""
    total = found.num_pixels
    parts = [
        f"{name} (value {text_of(found, value)}, {found.counts[value].pixels / total:.2%})"
        for name, value in zip(names, values, strict=True)
    ]
    rest = f"; 255 is ignored ({found.counts[IGNORE_INDEX].pixels / total:.2%})" if ignored else ""
    notes = [
        f"there is no dataset.yaml, so each value in the {found.num_files} masks is a class: "
        f"{listed(parts)}{rest}",
        f"to name the classes: `ccnet check-data {root} --write-names` writes a dataset.yaml",
    ]
    once = [value for value in values if found.counts[value].files == 1]
    if once and found.num_files >= FEWEST_FILES:
        example = found.counts[once[0]].example
        texts = listed([text_of(found, value) for value in once])
        notes.append(f"only one mask has the value {texts} (such as {example}); is it a class?")
    return tuple(notes)


def text_of(found: FoundValues, value: int) -> str:
    return color_name(value) if found.has_colors else str(value)


def color_name(code: int) -> str:
    """A color, 0xbbggrr, as "#rrggbb"."""
    return f"#{code & 255:02x}{code >> 8 & 255:02x}{code >> 16:02x}"


def listed(texts: Sequence[str]) -> str:
    more = f" and {len(texts) - VALUES_SHOWN} more" if texts[VALUES_SHOWN:] else ""
    return ", ".join(texts[:VALUES_SHOWN]) + more
