"""`ccnet predict`."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from ccnet.config import Precision
from ccnet.labeling.jobs import IdName
from ccnet.labeling.polygon_files import PolygonFormat
from ccnet.prediction.protocol import Average, ProtocolName, TileWeights

if TYPE_CHECKING:
    from ccnet.labeling.files import Outcome
    from ccnet.labeling.jobs import Job
    from ccnet.labeling.polygon_files import PolygonOptions


def predict(
    model: Path,
    images: list[str],
    output: Path = Path("predictions"),
    color: bool = False,
    overlay: bool = False,
    confidence: bool = False,
    probabilities: bool = False,
    ids: IdName | None = None,
    polygons: PolygonFormat | None = None,
    tolerance: float = 1.0,
    min_area: int = 16,
    protocol: ProtocolName | None = None,
    tile: int | None = None,
    stride: int | None = None,
    scales: list[float] | None = None,
    mirror: bool | None = None,
    weights: TileWeights | None = None,
    average: Average | None = None,
    overwrite: bool = False,
    num_workers: int = 1,
    device: str = "auto",
    devices: int | None = None,
    num_nodes: int | None = None,
    precision: Precision = "float32",
) -> int:
    """Write label maps of images.

    Each image becomes one 8-bit PNG of class indices, at its own size. A label map that the same
    model made of the same file is kept, so after Ctrl-C the same command continues. A file that
    cannot be read is reported and skipped, and the exit status is then 1. OUTPUT/manifest.jsonl
    says what became of each file. One command at a time writes to OUTPUT.

        ccnet predict runs/mine/model photos --output labels --overlay
        ccnet predict runs/mine/model photos --protocol multiscale --polygons coco
        ccnet predict runs/mine/model 'video/*.png' --precision auto --num-workers 2

    Args:
        model: Model folder, or an id on the Hugging Face hub.
        images: Image files, folders (with all folders below them) or glob patterns.
        output: Folder for the label maps, other than that of the images.
        color: Also write NAME.color.png, the labels in the colors of the classes.
        overlay: Also write NAME.overlay.png, these colors over the image.
        confidence: Also write NAME.confidence.png, the probability of each pixel's label, 0 to 255.
        probabilities: Also write NAME.probabilities.npy, those of all classes (classes, height,
            width) in float16.
        ids: Write the values that the files of a data set have, instead of indices: cityscapes (its
            labelIds, for its server), ade20k (1 to 150) or voc (a PNG with its palette).
        polygons: Also write the regions of the label maps as polygons: coco, one file
            polygons.coco.json; geojson, NAME.geojson, or labelme, NAME.json, for each image.
        tolerance: Pixels by which polygons may be simplified; 0 keeps every corner.
        min_area: Pixels of the smallest region that becomes a polygon.
        protocol: How images are shown to the network: whole; sliding, in tiles of 769 every 513
            pixels; multiscale, such tiles at scales 0.75 to 2 and mirrored too, both as in the
            paper; or mmsegmentation, its whole images at scales 0.5 to 1.75 and mirrored too.
            Unless given, that of the model's validation, and tiles for very large images.
        tile: Side of the tiles in pixels; with it and the next five flags parts of the protocol are
            changed.
        stride: Pixels from one tile to the next; two thirds of the tile unless given.
        scales: Factors by which images are resized, such as '[0.5, 1]'.
        mirror: Also show the mirror image.
        weights: Weights of a tile's pixels in the average: flat, or gaussian, for its center.
        average: What is averaged: logits or probabilities.
        overwrite: Replace files in OUTPUT that this command did not write; else they are an error.
        num_workers: Threads per device that read images ahead, while another one writes files. 0
            reads and writes in the main thread.
        device: Where to compute: auto (the best device there is), cpu, cuda or mps.
        devices: Processes per machine, one per device. Unless given, as many as torchrun or SLURM
            started; 1 without them.
        num_nodes: Machines. Unless given, as many as torchrun or SLURM started; 1 without them.
        precision: Number format of the network; auto is bfloat16 where that is faster, or float32.
    """
    from ccnet.labeling.files import predict_files
    from ccnet.labeling.jobs import Products
    from ccnet.labeling.polygon_files import PolygonOptions
    from ccnet.prediction.predictor import Predictor
    from ccnet.prediction.protocol import choose_protocol
    from ccnet.runtime.engine import process_device
    from ccnet.runtime.processes import rank, require_num_workers
    from ccnet.runtime.progress import counting
    from ccnet.runtime.signals import StopSignals

    require_num_workers(num_workers)
    changes = {"tile": tile, "stride": stride, "scales": scales, "mirror": mirror}
    asked = choose_protocol(protocol, **changes, weights=weights, average=average)
    products = Products(color, overlay, confidence, probabilities, ids)
    jobs = jobs_for(images, output)
    with StopSignals() as stop, process_device(device, devices, num_nodes) as own_device:
        predictor = Predictor(model, device=own_device, precision=precision, protocol=asked)
        options = {"overwrite": overwrite, "num_workers": num_workers, "stop": stop}
        try:
            with counting("predicting") as progress:
                outcome = predict_files(
                    predictor, jobs, output, products=products, progress=progress, **options
                )
        except KeyboardInterrupt:
            if rank() == 0:
                print("\nstopped; the same command goes on", file=sys.stderr)
            return 130
        if rank() > 0:
            return 0
    if polygons is not None:
        form = PolygonOptions(polygons, tolerance, min_area, ids)
        write_regions(form, jobs, outcome, output, predictor.classes, overwrite=overwrite)
    say(outcome, output)
    return 1 if outcome.failures else 0


def jobs_for(images: list[str], output: Path) -> "list[Job]":
    """The images that are given, and where their labels go; checked before a model is read."""
    from ccnet.labeling.jobs import find_jobs
    from ccnet.labeling.output import require_apart, require_folder

    require_folder(output)
    jobs = find_jobs(images, output)
    require_apart(images, jobs, output)
    return jobs


def write_regions(
    form: "PolygonOptions",
    jobs: "list[Job]",
    outcome: "Outcome",
    output: Path,
    classes: tuple[str, ...],
    *,
    overwrite: bool,
) -> None:
    """Write the polygons of the label maps that are there, those of failed images left out."""
    from ccnet.labeling.polygon_files import write_polygons
    from ccnet.runtime.progress import counting

    failed = {image for image, _ in outcome.failures}
    done = [job for job in jobs if job.image not in failed]
    with counting("polygons") as progress:
        write_polygons(done, output, classes, form, overwrite=overwrite, progress=progress)


def say(outcome: "Outcome", output: Path) -> None:
    """Print what was done, and on standard error what was not and why."""
    from ccnet.runtime.files import printable

    for _, reason in outcome.failures:
        print(f"skipped {printable(reason)}", file=sys.stderr)
    print(
        f"{outcome.written} label maps written to {printable(output)}, {outcome.kept} kept, "
        f"{len(outcome.failures)} files skipped"
    )
