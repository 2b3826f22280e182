"""Which label belongs to which image: by equal names, or by a suffix that all labels have."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

KNOWN = (
    ("_leftImg8bit", "_gtFine_labelIds"),
    ("_leftImg8bit", "_gtFine_labelTrainIds"),
    ("_leftImg8bit", "_gtCoarse_labelIds"),
    ("_image", "_mask"),
    ("_image", "_label"),
    ("_img", "_mask"),
    ("_rgb", "_mask"),
    ("_rgb", "_label"),
    ("_sat", "_mask"),
    *(
        ("", mark + word)
        for word in ("mask", "masks", "label", "labels", "seg", "segmentation", "gt", "annotation")
        for mark in "_-."
    ),
    ("", "_labelIds"),
    ("", "_groundtruth"),
    ("", "_L"),
    ("", "_GT"),
)
"""Ends of the names of images and of their labels, without the file's suffix, as data sets have
them: Cityscapes, DeepGlobe, CamVid, Carvana, PASCAL-like exports."""
COMPANIONS = ("_color", "_instanceIds", "_gtFine_color", "_gtFine_instanceIds", "_labelColors")
"""Ends of names of pictures that lie beside labels and are none."""


@dataclass(frozen=True)
class Rule:
    """The end of an image's name is replaced by that of its label; empty ends: the same name."""

    image: str = ""
    label: str = ""

    def __str__(self) -> str:
        if (self.image, self.label) == ("", ""):
            return "the same name"
        return f"IMAGE{self.image} with IMAGE{self.label}"

    def partners(
        self, images: Mapping[str, Path], labels: Mapping[str, Path]
    ) -> Iterator[tuple[str, str]]:
        """Keys of images and labels that belong together."""
        for key, path in labels.items():
            if key.endswith(self.label) and not key.endswith("/" + self.label):
                image = key[: len(key) - len(self.label)] + self.image
                if image in images and images[image] != path:
                    yield image, key


SAME_NAME = Rule()


class AmbiguousRuleError(ValueError):
    """Several rules pair the images equally well, with different labels."""


def choose_rule(
    images: Mapping[str, Path], labels: Mapping[str, Path], *, in_one_folder: bool
) -> tuple[Rule, dict[str, str]]:
    """The rule that pairs the most images, and its pairs.

    In two folders, equal names are preferred to an equally good suffix. A suffix that is in no
    table counts where it is common to all labels and leaves no image without one.

    Args:
        images: by their path without suffix, with forward slashes.
        labels: the same; in one folder also of files that may be images.
        in_one_folder: whether images and labels share a folder.

    Returns:
        The rule, and image → label; equal names and no pair where no rule fits.

    Raises:
        AmbiguousRuleError: there are several such rules; the message names them.
    """
    plain = dict(SAME_NAME.partners(images, labels))
    if not in_one_folder and len(plain) == len(images):
        return SAME_NAME, plain
    rules = [Rule(*ends) for ends in KNOWN]
    rules += [Rule("", end) for end in common_ends(images, labels, in_one_folder=in_one_folder)]
    found = {rule: dict(rule.partners(images, labels)) for rule in dict.fromkeys(rules)}
    most = max(len(plain), *map(len, found.values()))
    best = {rule: pairs for rule, pairs in found.items() if len(pairs) == most}
    if len(plain) == most and (not in_one_folder or not best):
        return SAME_NAME, plain
    if len(plain) == most:
        best[SAME_NAME] = plain
    rule, pairs = next(iter(best.items()))
    others = [other for other, found in best.items() if found != pairs]
    if others and most:
        image = next(iter(pairs))
        names = ", ".join(labels[best[r][image]].name for r in (rule, *others) if image in best[r])
        raise AmbiguousRuleError(
            f"several files may be the label of {images[image].name}: {names}. Move the others to "
            "another folder, or list the pairs in train.txt"
        )
    return (rule, pairs) if most else (SAME_NAME, {})


def best_of(
    rules: Sequence[Rule], images: Mapping[str, Path], labels: Mapping[str, Path]
) -> tuple[Rule, dict[str, str]]:
    """The first of some rules that pairs the most images, and its pairs, image → label."""
    found = {rule: dict(rule.partners(images, labels)) for rule in rules}
    return max(found.items(), key=lambda item: len(item[1]))


def common_ends(
    images: Mapping[str, Path], labels: Mapping[str, Path], *, in_one_folder: bool
) -> list[str]:
    """Ends that the names of all labels have beyond those of their images."""
    counts: Counter[str] = Counter()
    for key in labels:
        start = key.rfind("/") + 2
        counts.update(
            key[end:]
            for end in range(start, len(key))
            if not key[end].isdecimal() and key[:end] in images
        )
    half = len(labels.keys() | images.keys()) // 2
    wanted = half if in_one_folder else max(len(images), len(labels))
    return [end for end, count in counts.items() if count == wanted and end not in COMPANIONS]


def is_companion(key: str) -> bool:
    """Whether a picture lies beside labels and is none, such as Cityscapes' colored ones."""
    return key.endswith(COMPANIONS)
