"""`ccnet convert`."""

import sys
from pathlib import Path
from typing import Literal


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
        folder: New folder for the model.
        recurrence: R, the number of passes of criss-cross attention. The weights do not tell it.
        align_corners: Whether the upsampling aligns corners. The weights do not tell it; auto
            decides by the source, the configuration in the file and its name (the 769x769 models of
            mmsegmentation need yes).
        num_classes: Replace the classifiers by new ones for this many classes, for fine-tuning.
        overwrite: Write into a folder that is not empty; else that is an error.
    """
    from ccnet.models.ccnet import CCNet
    from ccnet.models.published import read_published

    if folder.is_file() or (not overwrite and folder.is_dir() and any(folder.iterdir())):
        raise ValueError(f"{folder} already exists; give a new folder, or --overwrite")
    print(f"reading {file}", file=sys.stderr, flush=True)
    asked = {"auto": None, "yes": True, "no": False}[align_corners]
    published = read_published(file, recurrence, align_corners=asked)
    changes = {} if num_classes is None else {"num_classes": num_classes}
    model = CCNet.from_published(published).adapted(**changes)
    model.save_pretrained(folder)
    published.save_report(folder / "conversion.csv")
    print(published.describe())
    print(f"The model is in {folder}; {folder / 'conversion.csv'} says what became of each key.")
    return 0
