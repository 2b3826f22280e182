"""`ccnet convert`."""

import sys
from pathlib import Path
from typing import Literal

REPORT = "conversion.csv"


def convert(
    file: Path,
    folder: Path,
    recurrence: int = 2,
    align_corners: Literal["auto", "yes", "no"] = "auto",
    num_classes: int | None = None,
    overwrite: bool = False,
) -> int:
    """Turn published weights into a model folder.

    Reads the .pth files of the CCNet authors and of mmsegmentation. The network is inferred from
    the file; no code in the file is run. FOLDER/conversion.csv says what became of each key.

        ccnet convert CS_scenes_60000.pth models/cityscapes
        ccnet convert ccnet_r50-d8_769x769.pth models/mine --num-classes 4

    Args:
        file: The published .pth file.
        folder: New folder for the model. It appears when it is complete.
        recurrence: R, the number of passes of criss-cross attention. The weights do not tell it.
        align_corners: Whether the upsampling aligns corners. The weights do not tell it; auto
            decides by the source, the configuration in the file and its name (the 769x769 models of
            mmsegmentation need yes).
        num_classes: Replace the classifiers by new ones for this many classes, for fine-tuning.
        overwrite: Replace the model in a folder that is not empty, and keep its other files; else
            such a folder is an error.
    """
    from ccnet.models.ccnet import CCNet
    from ccnet.models.hub import MODEL_FILES
    from ccnet.published import read_published
    from ccnet.runtime.disk import repair_folder, write_folder

    if not folder.name:
        raise ValueError(f"give a new folder by its name, instead of {folder}")
    repair_folder(folder)
    if folder.exists() and not (folder.is_dir() and (overwrite or not any(folder.iterdir()))):
        raise ValueError(f"{folder} already exists; give a new folder, or --overwrite")
    print(f"reading {file}", file=sys.stderr, flush=True)
    asked = {"auto": None, "yes": True, "no": False}[align_corners]
    published = read_published(file, recurrence, align_corners=asked)
    changes = {} if num_classes is None else {"num_classes": num_classes}
    model = CCNet.from_published(published).adapted(**changes)

    def write(fresh: Path) -> None:
        model.save_pretrained(fresh)
        published.save_report(fresh / REPORT)

    write_folder(folder, write, own=(*MODEL_FILES, REPORT))
    print(published.describe())
    print(f"The model is in {folder}; {folder / REPORT} says what became of each key.")
    return 0
