"""What is found in a data set: counts, problems, warnings."""

import math
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ccnet.checking.inspection import Observation
from ccnet.classes import median_frequency_weights
from ccnet.datasets.description import RawValue
from ccnet.datasets.unmapped import UnmappedValue

FEW_IMAGES = 20
"""Fewer images than this give a warning."""
MOSTLY_IGNORED = 0.5
"""A larger share of ignored pixels gives a warning."""
SMALL_PART = 1 / 8
"""Images of 16 bits that use less than this of their range cannot be trained on: they would have
fewer than 32 of 256 gray values."""
ANYWHERE = 1.1
"""Below this median agreement of borders with edges, labels may be those of other images."""
NAMES_SHOWN = 5


@dataclass(frozen=True)
class Problem:
    """A pair that cannot be used, and why."""

    name: str
    message: str


@dataclass
class DataReport:
    """What `check_dataset` found, in the order of the data set. Sizes are (height, width)."""

    root: str
    split: str
    layout: str
    classes: tuple[str, ...]
    num_pairs: int
    """Pairs that were read."""
    num_usable: int = 0
    """Pairs without a problem. All counts of pixels and images are theirs."""
    unmatched_images: list[str] = field(default_factory=list)
    unmatched_labels: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    """Files that a list file names but that do not exist."""
    hidden: list[str] = field(default_factory=list)
    """Hidden files and folders that were left out."""
    unreadable: list[Problem] = field(default_factory=list)
    size_mismatches: list[Problem] = field(default_factory=list)
    bad_values: dict[str, tuple[UnmappedValue, ...]] = field(default_factory=dict)
    """Raw label values that stand for no class, by the name of the pair."""
    sizes: Counter[tuple[int, int]] = field(default_factory=Counter)
    """Number of pairs of each size."""
    class_pixels: list[int] = field(default_factory=list)
    """Pixels of each class."""
    class_images: list[int] = field(default_factory=list)
    """Images in which each class occurs."""
    present_pixels: list[int] = field(default_factory=list)
    """Labeled pixels of the images in which each class occurs."""
    ignored_pixels: int = 0
    label_files: dict[str, str] = field(default_factory=dict)
    """The label file of each pair in `bad_values`."""
    notes: list[str] = field(default_factory=list)
    """What the description leaves open and was decided by the files."""
    open_turns: list[str] = field(default_factory=list)
    """Images with an EXIF orientation whose labels fit turned and as stored."""
    better_turned: list[str] = field(default_factory=list)
    """Those of them whose edges the label fits better if it is turned with the image."""
    num_16_bits: int = 0
    """Images that use less than half of their 16 bits."""
    highest_of_16_bits: int = 0
    """The largest value in these."""
    is_whole: bool = True
    """Whether all pairs were read, and not some of them."""
    observations: dict[int, Observation] = field(default_factory=dict, repr=False)
    """What was seen of each usable pair, by its number in the data set."""
    errors: dict[int, str] = field(default_factory=dict, repr=False)
    """Why each other pair cannot be used."""

    @property
    def frequencies(self) -> list[float]:
        """The share of each class in the labeled pixels, 0 to 1."""
        labeled = sum(self.class_pixels)
        return [pixels / labeled if labeled else 0.0 for pixels in self.class_pixels]

    @property
    def class_weights(self) -> list[float | None]:
        """The `median_frequency_weights` of the data."""
        return median_frequency_weights(self.class_pixels, self.present_pixels)

    @property
    def ignored_share(self) -> float:
        """The share of ignored pixels in all pixels, 0 to 1."""
        total = self.ignored_pixels + sum(self.class_pixels)
        return self.ignored_pixels / total if total else 0.0

    @property
    def problems(self) -> list[str]:
        """What makes the data unfit for training, one line per kind; empty if they are fit."""
        counts = {
            "listed but missing": len(self.missing),
            "images without a label": len(self.unmatched_images),
            "labels without an image": len(self.unmatched_labels),
            "unreadable": len(self.unreadable),
            "size mismatch of image and label": len(self.size_mismatches),
            "labels with values out of range": len(self.bad_values),
        }
        found = [f"{kind}: {count}" for kind, count in counts.items() if count]
        labeled = [
            name for name, count in zip(self.classes, self.class_pixels, strict=True) if count
        ]
        if not labeled:
            found.append("no labeled pixel at all")
        if len(self.classes) < 2:
            found.append(
                "one class only, and a network needs 2 to 255; if the rest is background, "
                f"write `classes: [background, {', '.join(self.classes)}]`"
            )
        elif len(labeled) == 1 and self.is_whole:
            found.append(f"all labeled pixels are {labeled[0]}{self._hint_on_ignored()}")
        if self.share_of_16_bits < SMALL_PART:
            found.append(self._sentence_on_16_bits())
        return found

    def _hint_on_ignored(self) -> str:
        if not self.ignored_pixels:
            return ", so there is nothing to tell apart"
        return (
            "; the others are ignored, and if what is ignored is a class, say so in `mapping`, as "
            f"{{0: {self.classes[0]}, 255: {self.classes[1]}}}"
        )

    @property
    def share_of_16_bits(self) -> float:
        """The share of their range that images of 16 bits use if it is below one half; else 1."""
        return (self.highest_of_16_bits + 1) / 65536 if self.num_16_bits else 1.0

    def _sentence_on_16_bits(self) -> str:
        grays = max(1, round(256 * self.share_of_16_bits))
        return (
            f"{self.num_16_bits} images of 16 bits use only 0–{self.highest_of_16_bits} of "
            f"0–65535, which leaves {grays} of 256 gray values; give the values that count, "
            f"--data.value_range [0,{self.highest_of_16_bits}], or multiply them by "
            f"{int(1 / self.share_of_16_bits)} and save them again"
        )

    @property
    def warnings(self) -> list[str]:
        """What does not prevent training but is likely to give a poor result."""
        pairs = zip(self.classes, self.class_pixels, strict=True)
        absent = [name for name, pixels in pairs if not pixels]
        found = []
        if absent and self.num_usable and self.is_whole:
            cannot = "learned" if self.split.startswith("train") else "scored"
            found.append(f"no pixel of {', '.join(absent)}: this cannot be {cannot}")
        if self.ignored_share > MOSTLY_IGNORED:
            found.append(
                f"{self.ignored_share:.0%} of the pixels are ignored; if 255 is a class, "
                "say so in `mapping`"
            )
        if 0 < self.num_pairs < FEW_IMAGES:
            found.append(f"few pairs: {self.num_pairs}")
        if self.median_edges is not None and self.median_edges < ANYWHERE and self.num_usable > 4:
            found.append(
                "the borders in the labels do not lie at edges of the images (median agreement "
                f"{self.median_edges:.2f}, and 1 is chance); are these the labels of these images?"
            )
        if self.open_turns:
            found.append(self._sentence_on_turns())
        if SMALL_PART <= self.share_of_16_bits < 1:
            found.append(self._sentence_on_16_bits())
        return found

    @property
    def median_edges(self) -> float | None:
        """The median of `Observation.edges`; None where none was judged."""
        judged = [seen.edges for seen in self.observations.values() if seen.edges is not None]
        return float(np.median(judged)) if judged else None

    def _sentence_on_turns(self) -> str:
        names = ", ".join(self.open_turns[:NAMES_SHOWN])
        rest = ", ..." if len(self.open_turns) > NAMES_SHOWN else ""
        return (
            f"{len(self.open_turns)} images have an EXIF orientation, and their labels fit turned "
            f"and unturned ({names}{rest}); by their edges {len(self.better_turned)} of these "
            "labels were drawn on the image as stored. If so, write `orientation: stored` in "
            "dataset.yaml; if not, `orientation: exif`"
        )

    @property
    def fit(self) -> bool:
        """Whether training can read every file and finds something to learn."""
        return not self.problems

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain lists, numbers and text, for JSON."""
        own = {key: v for key, v in vars(self).items() if key not in ("observations", "errors")}
        return own | {
            "classes": list(self.classes),
            "unreadable": [vars(problem) for problem in self.unreadable],
            "size_mismatches": [vars(problem) for problem in self.size_mismatches],
            "bad_values": [
                {
                    "name": name,
                    "label": self.label_files.get(name),
                    **vars(value),
                    "value": _for_json(value.value),
                }
                for name, values in self.bad_values.items()
                for value in values
            ],
            "sizes": [
                {"height": height, "width": width, "images": count}
                for (height, width), count in self.sizes.most_common()
            ],
            "frequencies": self.frequencies,
            "class_weights": self.class_weights,
            "ignored_share": self.ignored_share,
            "problems": self.problems,
            "warnings": self.warnings,
            "fit": self.fit,
        }


def _for_json(value: RawValue | float) -> RawValue | float | str:
    """The value, as text where JSON has no such number."""
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value
