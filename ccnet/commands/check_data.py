"""`ccnet check-data`."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from ccnet.datasets import DatasetName

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ccnet.datasets import SegmentationDataset
    from ccnet.images.bands import Bands


def check_data(
    root: Path,
    data: DatasetName = "folder",
    split: str | None = None,
    output: Path | None = None,
    val_share: float = 0.2,
    group_by: str | None = None,
    picture: Path | None = None,
    report: Path | None = None,
    write_names: bool = False,
) -> int:
    """Say what is wrong with a data set before it is trained on.

    Reads every pair and lists unreadable files, images and labels without a partner, sizes that
    differ and label values that stand for no class. Prints image sizes, the share of each class and
    median-frequency class weights. Images that are no photographs are read with all of their bands,
    which is said. The exit status is 1 if the data are unfit for training.

        ccnet check-data FOLDER
        ccnet check-data FOLDER --picture sheet.png
        ccnet check-data FOLDER --write-names
        ccnet check-data FOLDER --data camvid --split train --output report.json

    Args:
        root: Folder of the data set.
        data: Kind of data set: a folder of your own, or a published one by its name.
        split: Part of the data set. Unless given, train and val, since training needs both.
        output: JSON file to write the reports to, by split, with the lists that are cut in print.
        picture: PNG file to draw a contact sheet to: class frequencies, and images with their
            labels, the most suspicious first.
        report: Folder to write data.html to, a page of the same with many more images.
        val_share: Share of the images that is the split val of a folder without one, 0 to 1.
        group_by: Regular expression: images in whose names it finds the same text stay together.
        write_names: Write a dataset.yaml with the classes that were found, to rename them in it.
    """
    from rich.console import Console

    from ccnet.checking.check import check_dataset
    from ccnet.datasets import Division, open_dataset
    from ccnet.datasets.pairs import PairedDataset
    from ccnet.report.tables import data_summary
    from ccnet.runtime.disk import require_replaceable, write_json
    from ccnet.runtime.progress import CountProgress

    page = None if report is None else report / "data.html"
    for path in (output, picture, page):
        if path is not None:
            require_replaceable(path)
    checked, division = {}, Division(val_share, group_by=group_by)
    bands = None
    for part in ("train", "val") if split is None else (split,):
        dataset = open_dataset(data, root, part, strict=False, division=division)
        if not checked:
            bands = bands_to_check(dataset)
        if isinstance(dataset, PairedDataset):
            dataset = dataset.with_bands(bands)
        with CountProgress(f"checking {part}") as progress:
            compare_edges = picture is not None or page is not None
            found = check_dataset(dataset, part, compare_edges=compare_edges, progress=progress)
        Console().print(data_summary(found))
        checked[part] = dataset, found
    if write_names:
        write_description(dataset for dataset, _ in checked.values())
    if output is not None:
        write_json(output, {part: found.to_dict() for part, (_, found) in checked.items()})
    if picture is not None:
        from ccnet.report.contact_sheet import save_contact_sheet

        save_contact_sheet(picture, checked)
    if page is not None:
        from ccnet.report.data_page import write_data_page

        write_data_page(page, checked)
        print(f"the page is {page}")
    return 0 if all(found.fit for _, found in checked.values()) else 1


def bands_to_check(dataset: "SegmentationDataset") -> "Bands | None":
    """The bands of images that are no photographs, which are measured and printed; else None."""
    from ccnet.checking.band_choice import choose_bands
    from ccnet.checking.band_values import measure_bands
    from ccnet.datasets.pairs import PairedDataset
    from ccnet.runtime.progress import CountProgress

    choice = choose_bands(dataset)
    if choice is None or not isinstance(dataset, PairedDataset):
        return None
    with CountProgress("measuring bands") as progress:
        found = measure_bands(dataset, None, choice.value_range, progress=progress)
    print(f"note: {choice.reason}", file=sys.stderr)
    print(f"note: {found.bands}", file=sys.stderr)
    return found.bands


def write_description(datasets: "Iterable[SegmentationDataset]") -> None:
    """Write how labels without names are read as the dataset.yaml of their folder.

    Raises:
        ValueError: the classes have names already.
    """
    import yaml

    from ccnet.datasets.folder import DESCRIPTION, FolderDataset
    from ccnet.runtime.disk import write_text

    dataset = next(iter(datasets))
    if not isinstance(dataset, FolderDataset) or dataset.legend is None:
        raise ValueError("--write-names is for label files without names; these have names already")
    path = dataset.root / DESCRIPTION
    text = yaml.safe_dump(dataset.legend.description, sort_keys=False, allow_unicode=True)
    write_text(path, f"# rename the classes here; their order counts\n{text}")
    print(f"wrote {path}")
