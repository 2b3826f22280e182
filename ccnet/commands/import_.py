"""`ccnet import`."""

from pathlib import Path

from ccnet.annotations.detection import Format
from ccnet.annotations.drawing import Overlap
from ccnet.annotations.source import Unlabeled


def import_(
    source: Path,
    folder: Path,
    format: Format | None = None,
    overlap: Overlap = "later",
    unlabeled: Unlabeled | None = None,
    link: bool = False,
) -> int:
    """Write annotations of a labeling tool as folders of images and label maps.

    Reads COCO JSON, LabelMe JSON, YOLO segmentation, Pascal VOC, CVAT's masks and Hugging Face
    metadata, and says what it found, decided and passed over. FOLDER gets the images, PNGs of class
    indices and a dataset.yaml, by the splits of the source. `ccnet train` also reads the
    annotations as they are; a folder of label maps can be looked at and corrected. After Ctrl-C or
    a kill the same command goes on. Nothing that is there is replaced.

        ccnet import annotations/instances_default.json mine
        ccnet import EXPORT mine --overlap small --unlabeled ignored

    Args:
        source: Folder with annotations, or a COCO JSON file.
        folder: Folder to write, new or left by the same command.
        format: Kind of annotations, where the source holds several.
        overlap: What is on top where shapes overlap: the later one, or the small one over the large
            one.
        unlabeled: What pixels in no shape are: background, which becomes class 0 unless the source
            has such a class, or ignored (255). Unless given, background.
        link: Give images a second name (hard link) instead of copying them.
    """
    from ccnet.annotations.detection import KINDS, open_source
    from ccnet.annotations.layout import Entry, write_layout
    from ccnet.annotations.source import Options
    from ccnet.datasets.folder import FolderDataset
    from ccnet.runtime.files import DataError, printable
    from ccnet.runtime.progress import CountProgress

    found = open_source(source, format, Options(overlap, unlabeled))
    if found is None:
        raise DataError(
            f"{source}: there are no annotations that are known: {', '.join(KINDS.values())}.",
            path=source,
        )
    print(f"{printable(source)}: {found.kind}")
    for note in found.notes:
        print(f"  {printable(note)}")
    parts = {split: FolderDataset(found.root, split, source=found) for split in found.splits}
    entries = [
        Entry(split, sample.name, sample.image, lambda part=part, i=i: part[i][1])
        for split, part in parts.items()
        for i, sample in enumerate(part.samples)
    ]
    first = next(iter(parts.values()))
    colors = zip(first.classes, first.palette, strict=True)
    description = {"classes": {name: list(color) for name, color in colors}}
    with CountProgress("importing") as progress:
        written = write_layout(folder, entries, description, link=link, progress=progress)
    counts = ", ".join(f"{split} {len(part)}" for split, part in parts.items())
    print(f"{len(entries)} images ({counts}) in {printable(folder)}, {written} files written")
    if "val" not in parts:
        print("There is no split val; `ccnet train` divides the images by their names.")
    return 0
