"""`ccnet predict`."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from ccnet.config import Precision
from ccnet.labeling.jobs import AS_NEEDED, LABELS_ONLY, LargeImages, Products
from ccnet.polygons.files import PolygonFormat
from ccnet.prediction.protocol import AS_VALIDATED, ProtocolChoice

if TYPE_CHECKING:
    from ccnet.labeling.files import Outcome
    from ccnet.labeling.jobs import Job
    from ccnet.polygons.files import PolygonOptions


def predict(
    model: Path,
    images: list[str],
    output: Path = Path("predictions"),
    polygons: PolygonFormat | None = None,
    tolerance: float = 1.0,
    min_area: int = 16,
    overwrite: bool = False,
    num_workers: int = 1,
    device: str = "auto",
    devices: int | None = None,
    num_nodes: int | None = None,
    precision: Precision = "float32",
    products: Products = LABELS_ONLY,
    large: LargeImages = AS_NEEDED,
    views: ProtocolChoice = AS_VALIDATED,
) -> int:
    """Write label maps of images, and videos with the labels over them.

    Each image becomes one 8-bit PNG of class indices, at its own size; one that is too large for
    the memory is predicted window by window, and a TIFF then becomes a TIFF. A video becomes
    NAME.overlay.mp4. A file that the same model made of the same file is kept, so after Ctrl-C the
    same command continues. A file that cannot be read is reported and skipped, and the exit status
    is then 1. OUTPUT/manifest.jsonl says what became of each file. One command at a time writes to
    OUTPUT.

        ccnet predict runs/mine/model photos --output labels --overlay
        ccnet predict runs/mine/model photos --protocol multiscale --polygons coco
        ccnet predict runs/mine/model 'video/*.png' --precision auto --num-workers 2
        ccnet predict runs/mine/model map.tif clip.mp4 --memory 4GB

    Args:
        model: Model folder, or an id on the Hugging Face hub.
        images: Files of images and videos, folders (with all folders below them) or glob patterns.
        output: Folder for the label maps, other than that of the images.
        polygons: Also write the regions of the label maps as polygons: coco, one file
            polygons.coco.json; geojson, NAME.geojson, or labelme, NAME.json, for each image.
        tolerance: Pixels by which polygons may be simplified; 0 keeps every corner.
        min_area: Pixels of the smallest region that becomes a polygon.
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
    from ccnet.polygons.files import PolygonOptions
    from ccnet.prediction.predictor import Predictor
    from ccnet.runtime.engine import process_device
    from ccnet.runtime.processes import rank, require_num_workers
    from ccnet.runtime.progress import counting
    from ccnet.runtime.signals import StopSignals

    require_num_workers(num_workers)
    protocol = views.chosen()
    jobs = jobs_for(images, output)
    with StopSignals() as stop, process_device(device, devices, num_nodes) as own_device:
        predictor = Predictor(model, device=own_device, precision=precision, protocol=protocol)
        options = {"products": products, "large": large, "has_polygons": polygons is not None}
        options |= {"overwrite": overwrite, "num_workers": num_workers, "stop": stop}
        try:
            with counting("predicting") as progress:
                if progress is not None:
                    options |= {"progress": progress, "details": progress.part}
                outcome = predict_files(predictor, jobs, output, **options)
        except KeyboardInterrupt:
            if rank() == 0:
                print("\nstopped; the same command goes on", file=sys.stderr)
            return 130
        if rank() > 0:
            return 0
    if polygons is not None:
        form = PolygonOptions(polygons, tolerance, min_area, products.ids)
        write_regions(form, jobs, outcome, output, predictor.classes, overwrite=overwrite)
    say(outcome, output, "label maps" if all(job.way != "video" for job in jobs) else "files")
    return 1 if outcome.failures else 0


def jobs_for(images: list[str], output: Path) -> "list[Job]":
    """The images that are given, and where their labels go; checked before a model is read."""
    from ccnet.labeling.jobs import find_jobs
    from ccnet.labeling.output import require_apart, require_folder
    from ccnet.runtime.files import printable
    from ccnet.runtime.launch import is_first

    require_folder(output)
    hidden: list[Path] = []
    jobs = find_jobs(images, output, hidden)
    require_apart(images, jobs, output)
    if hidden and is_first():
        names = ", ".join(printable(path) for path in hidden[:3]) + ", ..." * bool(hidden[3:])
        print(f"left out, since hidden ({len(hidden)}): {names}", file=sys.stderr)
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
    from ccnet.polygons.files import write_polygons
    from ccnet.runtime.progress import counting

    failed = {image for image, _ in outcome.failures}
    done = [job for job in jobs if job.image not in failed]
    with counting("polygons") as progress:
        write_polygons(done, output, classes, form, overwrite=overwrite, progress=progress)


def say(outcome: "Outcome", output: Path, what: str) -> None:
    """Print what was done, and on standard error what was not and why."""
    from ccnet.runtime.files import printable

    for _, reason in outcome.failures:
        print(f"skipped {printable(reason)}", file=sys.stderr)
    print(
        f"{outcome.written} {what} written to {printable(output)}, {outcome.kept} kept, "
        f"{len(outcome.failures)} files skipped"
    )
