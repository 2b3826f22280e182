"""`ccnet split`."""

from pathlib import Path


def split(
    folder: Path,
    val_share: float = 0.2,
    test_share: float = 0.0,
    group_by: str | None = None,
) -> int:
    """Divide images without splits, and write the lists train.txt and val.txt.

    An image belongs to a split by the hash of its name, so that the split is the same on every
    machine, and images that are added later move none. Lists win over folders when the data are
    read. Lists that this command did not write are not replaced. `ccnet train` divides in the same
    way without any list.

        ccnet split FOLDER
        ccnet split FOLDER --val-share 0.1 --test-share 0.1 --group-by 'patient(\\d+)'

    Args:
        folder: Folder of images and labels, without a split val.
        val_share: Share of the images, or of the groups, to validate on, 0 to 1.
        test_share: Share of those to test on, which becomes test.txt.
        group_by: Regular expression. Images in whose names it finds the same text, such as a drive
            or a patient, stay together: its first group counts, or all of it.
    """
    from rich.console import Console

    from ccnet.datasets import Division
    from ccnet.layouts.split_lists import undivided, write_splits
    from ccnet.report.tables import split_table
    from ccnet.runtime.files import printable

    division = Division(val_share, test_share, group_by)
    whole = undivided(folder)
    counts = write_splits(folder, whole, division)
    for note in whole.notes:
        print(printable(note))
    Console().print(split_table(counts, f"{folder} · {whole.layout}"))
    return 0
