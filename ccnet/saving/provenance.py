"""The data that a run is made from, its classes and images, compared when the run is resumed."""

import hashlib
import json
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ccnet.datasets import SegmentationDataset
from ccnet.runtime.disk import write_text
from ccnet.runtime.files import DataError, read_bytes, shown

LARGEST_FILE = 1 << 28
NUM_EXAMPLES = 3


@dataclass(frozen=True)
class Images:
    """The images of a split."""

    number: int
    digest: str
    """SHA-256 of their names, in Unicode's composed form (NFC), in the order of the data set."""
    names: tuple[str, ...] | None
    """None: not kept, since they are generated."""

    @classmethod
    def of(cls, data: SegmentationDataset, *, keep_names: bool) -> "Images":
        digest, names = hashlib.sha256(), []
        for index in range(len(data)):
            name = unicodedata.normalize("NFC", data.name(index))
            digest.update(name.encode("utf-8", errors="surrogateescape") + b"\0")
            names.append(name)
        return cls(len(names), digest.hexdigest(), tuple(names) if keep_names else None)

    @classmethod
    def from_plain(cls, content: dict[str, Any]) -> "Images":
        names = content["names"]
        return cls(int(content["number"]), str(content["sha256"]), names and tuple(names))

    def to_plain(self) -> dict[str, Any]:
        return {"number": self.number, "sha256": self.digest, "names": self.names}


@dataclass(frozen=True)
class Provenance:
    """Classes and images of a run; of files only the names count, relative to the data's root."""

    classes: tuple[str, ...]
    training: Images
    validation: Images
    is_given: bool = False
    """The data sets were objects of a Python program, so only such a program can resume the run."""
    accepted: tuple[dict[str, Any], ...] = field(default=(), compare=False)
    """Changes with which the run went on: their step, and what changed, in words."""

    @classmethod
    def of(
        cls,
        data: SegmentationDataset,
        validation_data: SegmentationDataset,
        name: str,
        *,
        is_given: bool,
    ) -> "Provenance":
        """The present state of two data sets.

        Args:
            data, validation_data: of a run.
            name: by which a configuration knows them; names of the scenes are not kept.
            is_given: as the attribute.
        """
        keep = is_given or name != "scenes"
        training, validation = (Images.of(x, keep_names=keep) for x in (data, validation_data))
        return cls(tuple(data.classes), training, validation, is_given)

    def write(self, path: Path) -> None:
        content = {
            "classes": self.classes,
            "training": self.training.to_plain(),
            "validation": self.validation.to_plain(),
            "is_given": self.is_given,
            "accepted": self.accepted,
        }
        write_text(path, json.dumps(content, indent=1, ensure_ascii=False) + "\n")

    def resumed_from(
        self, before: "Provenance", path: Path, step: int, *, accept_new_data: bool
    ) -> "Provenance":
        """This, as what a resumed run goes on with.

        Args:
            before: the data with which the run was made so far.
            path: of the file of `before`, for messages.
            step: from which the run goes on.
            accept_new_data: go on with other images; the change is then in `accepted`.

        Raises:
            DataError: the classes changed; or the images did, and `accept_new_data` is False.
        """
        if before.is_given and not self.is_given:
            raise DataError(
                f"{path}: the run was given its data sets by a Python program; "
                "`ccnet.training.train(..., data=..., resume=True)` resumes it",
                path=path,
            )
        if change := change_of_classes(before.classes, self.classes):
            raise DataError(
                f"{path}: the classes of the data changed since the run began: {change}; restore "
                "them, or start a new run from the model of this one with --init",
                path=path,
            )
        changes = self.changes_since(before)
        if changes and not accept_new_data:
            words = ", ".join(change.words for change in changes)
            raise DataError(
                f"{path}: the data changed since the run began: {words}; restore them, or go on "
                "with the data as they are now by --accept-new-data",
                path=path,
            )
        new = tuple({"step": step, "change": change.words} for change in changes)
        return replace(self, accepted=before.accepted + new)

    def changes_since(self, before: "Provenance") -> "list[Change]":
        """How the images differ from earlier ones."""
        return [
            Change(split, words)
            for split in ("training", "validation")
            for words in changes_of_images(getattr(before, split), getattr(self, split), split)
        ]


@dataclass(frozen=True)
class Change:
    """A difference between the images of a split, then and now."""

    split: str
    words: str


def read_provenance(path: Path) -> Provenance:
    """What `Provenance.write` has written; raises DataError if it is anything else."""
    try:
        content = json.loads(read_bytes(path, LARGEST_FILE))
        training, validation = map(Images.from_plain, (content["training"], content["validation"]))
        classes, accepted = tuple(map(str, content["classes"])), tuple(content["accepted"])
        return Provenance(classes, training, validation, bool(content["is_given"]), accepted)
    except DataError:
        raise
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError) as error:
        raise DataError(
            f"{path}: it is not what a run writes there; remove it to resume without a "
            "comparison of the data",
            path=path,
        ) from error


def change_of_classes(before: Sequence[str], now: Sequence[str]) -> str:
    """How lists of classes differ, in words; empty if they are the same."""
    if tuple(before) == tuple(now):
        return ""
    added = [name for name in now if name not in before]
    removed = [name for name in before if name not in now]
    if not added and not removed:
        index = next(i for i, name in enumerate(now) if before[i] != name)
        return f"class {index} is {shown(now[index])} and was {shown(before[index])}"
    parts = [("added", added), ("removed", removed)]
    return ", ".join(f"{word} {examples(names)}" for word, names in parts if names)


def changes_of_images(before: Images, now: Images, split: str) -> Iterator[str]:
    """How the images of a split differ, in words."""
    if (before.number, before.digest) == (now.number, now.digest):
        return
    if before.names is None or now.names is None:
        yield f"{now.number} {split} images instead of {before.number}, or with other names"
        return
    known, present = set(before.names), set(now.names)
    added = [name for name in now.names if name not in known]
    removed = [name for name in before.names if name not in present]
    for word, names in (("added to", added), ("removed from", removed)):
        if names:
            images = "image" if len(names) == 1 else "images"
            yield f"{len(names)} {images} {word} the {split} data ({examples(names)})"
    if not added and not removed:
        yield f"the {split} images are in another order, or some are listed more often"


def examples(names: Sequence[str]) -> str:
    more = f" and {len(names) - NUM_EXAMPLES} more" if names[NUM_EXAMPLES:] else ""
    return ", ".join(shown(name) for name in names[:NUM_EXAMPLES]) + more
