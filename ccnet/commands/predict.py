"""`ccnet predict`."""

import sys
from pathlib import Path

from ccnet.config import Precision


def predict(
    model: Path,
    images: list[str],
    output: Path = Path("predictions"),
    color: bool = False,
    overlay: bool = False,
    overwrite: bool = False,
    num_workers: int = 0,
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
        ccnet predict runs/mine/model 'video/*.png' --precision auto --num-workers 2

    Args:
        model: Model folder, or an id on the Hugging Face hub.
        images: Image files, folders (with all folders below them) or glob patterns.
        output: Folder for the label maps, other than that of the images.
        color: Also write NAME.color.png, the labels in the colors of the classes.
        overlay: Also write NAME.overlay.png, these colors over the image.
        overwrite: Replace files in OUTPUT that this command did not write; else they are an error.
        num_workers: Threads per device that read images ahead. 0 reads in the main thread.
        device: Where to compute: auto (the best device there is), cpu, cuda or mps.
        devices: Processes per machine, one per device. Unless given, as many as torchrun or SLURM
            started; 1 without them.
        num_nodes: Machines. Unless given, as many as torchrun or SLURM started; 1 without them.
        precision: Number format of the network; auto is bfloat16 where that is faster, or float32.
    """
    from ccnet.labeling.files import predict_files
    from ccnet.labeling.jobs import find_jobs
    from ccnet.labeling.output import require_apart, require_folder
    from ccnet.prediction.predictor import Predictor
    from ccnet.runtime.engine import process_device
    from ccnet.runtime.files import printable
    from ccnet.runtime.processes import rank, require_num_workers
    from ccnet.runtime.progress import counting
    from ccnet.runtime.signals import StopSignals

    require_num_workers(num_workers)
    require_folder(output)
    jobs = find_jobs(images, output)
    require_apart(images, jobs, output)
    with StopSignals() as stop, process_device(device, devices, num_nodes) as own_device:
        predictor = Predictor(model, device=own_device, precision=precision)
        try:
            with counting("predicting") as progress:
                outcome = predict_files(
                    predictor,
                    jobs,
                    output,
                    color=color,
                    overlays=overlay,
                    overwrite=overwrite,
                    num_workers=num_workers,
                    progress=progress,
                    stop=stop,
                )
        except KeyboardInterrupt:
            if rank() == 0:
                print("\nstopped; the same command goes on", file=sys.stderr)
            return 130
        first = rank() == 0
    if first:
        for _, reason in outcome.failures:
            print(f"skipped {printable(reason)}", file=sys.stderr)
        print(
            f"{outcome.written} label maps written to {printable(output)}, {outcome.kept} kept, "
            f"{len(outcome.failures)} files skipped"
        )
    return 1 if first and outcome.failures else 0
