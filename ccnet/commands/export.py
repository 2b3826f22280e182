"""`ccnet export`."""

import os
from pathlib import Path

from ccnet.export.names import FilePrecision, FormatName


def export(
    model: Path,
    output: Path | None = None,
    format: FormatName = "onnx",
    precision: FilePrecision = "float32",
    labels: bool = False,
    normalized: bool = False,
    size: tuple[int, int] | None = None,
    images: Path | None = None,
    min_agreement: float | None = None,
    overwrite: bool = False,
) -> int:
    """Write a model as one file that runs without ccnet.

    The file takes uint8 images (batch, channels, height, width), mostly RGB, of any size and gives
    logits. That of a model of chosen bands takes float32 images of these bands, in the values of
    its image files, and scales them. The metadata hold the classes, the colors, the normalization
    and the bands. It is compared with PyTorch at two sizes first; if they disagree, no file is
    written.

        ccnet export runs/mine/model --output model.onnx
        ccnet export runs/mine/model --precision int8 --images photos

    Args:
        model: Model folder, or an id on the Hugging Face hub.
        output: The file. Unless given, the name of MODEL with .onnx or .pt2.
        format: onnx, torch-export, or aot, which is compiled for the CPU of this machine.
        precision: Number format of the weights: float32, or for onnx also float16 and int8, which
            needs --images.
        labels: Add the most likely classes as a second output.
        normalized: Take float32 images that are already normalized.
        size: Height and width, such as '[512, 512]', of the only images that the file takes. For
            backbones that PyTorch cannot export for any size.
        images: Folder of images to compare on, and to calibrate int8 with. Unless given, noise.
        min_agreement: Smallest share of pixels, 0 to 1, that must get the class that PyTorch gives.
            Unless given, 0.999 for float32, 0.99 for float16 and 0.9 for int8.
        overwrite: Replace an existing file; else that is an error.
    """
    from rich.console import Console

    from ccnet.export.exporter import export
    from ccnet.export.formats import FORMATS
    from ccnet.models.loading import load_model
    from ccnet.report.tables import agreement_table

    if output is None:
        name = model.resolve().name if model.is_dir() else model.name
        output = Path(name + FORMATS[format].suffix)
    if os.path.lexists(output) and not overwrite:
        raise ValueError(f"{output} is there already; give a new file, or --overwrite")
    rows = export(
        load_model(model),
        output,
        format,
        precision=precision,
        labels=labels,
        normalized=normalized,
        size=size,
        images=images,
        min_agreement=min_agreement,
    )
    title = f"{output}, {format} in {precision}, compared with PyTorch in float32"
    Console().print(agreement_table(rows, title))
    return 0
