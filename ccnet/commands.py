"""The commands: functions whose signatures and docstrings are the flags and their help.

Nothing heavy is imported before a command runs, so that --help answers at once.
"""

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Literal

from ccnet.config import TrainConfig, read_config, resumed_config
from ccnet.runtime.launch import is_first, is_launched, launch_processes

Data = Literal["scenes", "folder", "camvid"]
Precision = Literal["auto", "float32", "bfloat16", "float16"]
Format = Literal["onnx", "torch-export", "aot"]
FilePrecision = Literal["float32", "float16", "int8"]


def train(
    config: TrainConfig,
    run: Path | None = None,
    init: Path | None = None,
    resume: Path | None = None,
) -> int:
    """Train a network; Ctrl-C saves, and --resume goes on.

    Args:
        run: New folder for models, logs and saves; runs/NAME-DATE unless given.
        init: Model folder whose weights to start from; its classes must be the data's.
        resume: Folder of a run to go on with, by its own configuration; only flags of the machine
            (device, devices, num_nodes, strategy, num_workers, save_every, save_seconds) may be
            given with it.
    """
    from ccnet.training.run_folder import RunFolder

    arguments = sys.argv[1:]
    if resume is not None:
        if (run, init) != (None, None):
            raise ValueError("--resume goes on with a run where it is: no --run or --init with it")
        run, config = resume, resumed_config(read_config(RunFolder(resume).config), config)
    elif run is None:
        if is_launched():
            raise ValueError("give --run: processes that torchrun or SLURM start need one name")
        run = Path("runs") / f"{config.data.name}-{time.strftime('%Y%m%d-%H%M%S')}"
        arguments.append(f"--run={run}")
    status = launch_processes(config.devices, config.num_nodes, arguments)
    if status is not None:
        return status
    from ccnet.report.curves import save_curves
    from ccnet.training.loop import train

    try:
        scores = train(config, run, init=init, resume=resume is not None)
    except KeyboardInterrupt:
        if not RunFolder(run).can_resume():
            raise
        if is_first():
            print(f"\nstopped; to go on: ccnet train --resume {run}", file=sys.stderr)
        return 130
    if not is_first():
        return 0
    save_curves(run / "curves.png", run / "log.csv")
    if scores is None:
        print(f"{run} had been trained to the end already")
    else:
        print(f"validation mIoU {scores.miou:.4f}; the best model is {run / 'model'}")
    return 0


def evaluate(
    model: Path,
    data: Data = "folder",
    root: Path | None = None,
    split: str = "val",
    output: Path | None = None,
    num_workers: int = 0,
    device: str = "auto",
    devices: int | None = None,
    num_nodes: int | None = None,
    precision: Precision = "float32",
) -> int:
    """Score a model on a data set: mIoU, IoU of each class, pixel and mean accuracy.

    All pixels with a label count together, in one confusion matrix, at each image's own size.

    Args:
        model: Model folder, or an id on the Hugging Face hub.
        data: Kind of data set; a folder has a dataset.yaml.
        root: Folder of the data set; the scenes need none.
        split: Part of the data set.
        output: JSON file for the scores.
        num_workers: Processes that read ahead, for each device.
        device: auto, cpu, cuda or mps.
        devices: Processes a node, one a device; null for what torchrun or SLURM started, else 1.
        num_nodes: Machines; null for what torchrun or SLURM started, else 1.
        precision: float32 for figures to report; auto is bfloat16 where that is faster.
    """
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from ccnet.datasets import open_dataset
    from ccnet.prediction.evaluate import evaluate
    from ccnet.prediction.predictor import Predictor
    from ccnet.runtime.disk import write_json
    from ccnet.runtime.engine import process_device
    from ccnet.runtime.processes import rank
    from ccnet.runtime.progress import counting

    dataset = open_dataset(data, root, split)
    with process_device(device, devices, num_nodes) as own_device:
        predictor = Predictor(model, device=own_device, precision=precision)
        with counting("evaluating") as progress:
            scores = evaluate(predictor, dataset, num_workers=num_workers, progress=progress)
        if rank() > 0:
            return 0
    title = Text(f"{model} on {data} {split}, {len(dataset)} images")
    table = Table("class", "IoU %", title=title)
    for name, iou in scores.iou.items():
        table.add_row(Text(name), "not there" if iou is None else f"{100 * iou:.2f}")
    table.add_section()
    table.add_row("mean (mIoU)", f"{100 * scores.miou:.2f}")
    table.add_row("pixel accuracy", f"{100 * scores.pixel_accuracy:.2f}")
    table.add_row("mean accuracy", f"{100 * scores.mean_accuracy:.2f}")
    Console().print(table)
    if output is not None:
        facts = {"model": str(model), "data": data, "split": split, "precision": precision}
        write_json(output, {**facts, "images": len(dataset), **scores.to_dict()})
    return 0


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
    """Write label maps of images: one 8-bit PNG of class indices each, at the image's own size.

    What the same model made of the same file is kept: after Ctrl-C or a kill the same command goes
    on. A file that can't be read is reported and skipped, and the exit status is 1 at the end.
    OUTPUT/manifest.jsonl says what became of each file.

    Args:
        model: Model folder, or an id on the Hugging Face hub.
        images: Files, folders or glob patterns.
        output: Folder for the label maps.
        color: Also write NAME.color.png in the classes' colours.
        overlay: Also write NAME.overlay.png, the colours over the image.
        overwrite: Also write over files that this command didn't make.
        num_workers: Threads that read ahead, for each device.
        device: auto, cpu, cuda or mps.
        devices: Processes a node, one a device; null for what torchrun or SLURM started, else 1.
        num_nodes: Machines; null for what torchrun or SLURM started, else 1.
        precision: float32, or auto for bfloat16 where that is faster.
    """
    from ccnet.prediction.files import predict_files
    from ccnet.prediction.jobs import find_jobs
    from ccnet.prediction.predictor import Predictor
    from ccnet.runtime.engine import process_device
    from ccnet.runtime.processes import rank
    from ccnet.runtime.progress import counting
    from ccnet.runtime.signals import StopSignals

    jobs = find_jobs(images, output)
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
            print(f"skipped {reason}", file=sys.stderr)
        print(
            f"{outcome.written} label maps written to {output}, {outcome.kept} kept, "
            f"{len(outcome.failures)} files skipped"
        )
    return 1 if first and outcome.failures else 0


def check_data(
    root: Path,
    data: Data = "folder",
    split: str | None = None,
    output: Path | None = None,
) -> int:
    """Say what is wrong with a data set before it is trained on; exit status 1 if it isn't fit.

    Counts, unreadable files, pairs that don't match, sizes, values out of range, class frequencies
    and the median-frequency class weights that follow.

    Args:
        root: Folder of the data set.
        data: Kind of data set; a folder has a dataset.yaml.
        split: Part of the data set; train and val unless given, since training needs both.
        output: JSON file for the reports, by split.
    """
    import rich

    from ccnet.datasets import open_dataset
    from ccnet.datasets.check import check_dataset
    from ccnet.runtime.disk import write_json
    from ccnet.runtime.progress import CountProgress

    reports = {}
    for part in ("train", "val") if split is None else (split,):
        dataset = open_dataset(data, root, part, strict=False)
        with CountProgress(f"checking {part}") as progress:
            reports[part] = check_dataset(dataset, part, progress=progress)
        rich.print(reports[part])
    if output is not None:
        write_json(output, {part: report.to_dict() for part, report in reports.items()})
    return 0 if all(report.fit for report in reports.values()) else 1


def convert(
    file: Path,
    folder: Path,
    recurrence: int = 2,
    align_corners: Literal["auto", "yes", "no"] = "auto",
    num_classes: int | None = None,
    overwrite: bool = False,
) -> int:
    """Turn published weights, the CCNet authors' or mmsegmentation's, into a model folder.

    The network is inferred from the file, of which nothing is run. What became of each key is in
    the folder's conversion.csv.

    Args:
        file: The published .pth file.
        folder: New folder for the model.
        recurrence: R, passes of criss-cross attention, which the weights don't tell.
        align_corners: Of the upsampling, which the weights don't tell; auto goes by the source, the
            configuration in the file, and its name (mmsegmentation's 769x769 models want yes).
        num_classes: Start the classifiers anew for that many classes, to fine-tune.
        overwrite: Write into a folder that isn't empty.
    """
    from ccnet.models.ccnet import CCNet
    from ccnet.models.published import read_published

    if folder.is_file() or (not overwrite and folder.is_dir() and any(folder.iterdir())):
        raise ValueError(f"{folder} is there already; give a new folder, or --overwrite")
    print(f"reading {file}", file=sys.stderr, flush=True)
    asked = {"auto": None, "yes": True, "no": False}[align_corners]
    published = read_published(file, recurrence, align_corners=asked)
    changes = {} if num_classes is None else {"num_classes": num_classes}
    model = CCNet.from_published(published).adapted(**changes)
    model.save_pretrained(folder)
    published.save_report(folder / "conversion.csv")
    print(published.describe())
    print(f"model in {folder}, each key's fate in {folder / 'conversion.csv'}")
    return 0


def export(
    model: Path,
    output: Path | None = None,
    format: Format = "onnx",
    precision: FilePrecision = "float32",
    labels: bool = False,
    normalized: bool = False,
    normalised: bool = False,
    size: tuple[int, int] | None = None,
    images: Path | None = None,
    min_agreement: float | None = None,
    overwrite: bool = False,
) -> int:
    """Write a model as one file that runs without ccnet, for images of any size.

    The file takes uint8 images (B, channels, H, W), mostly RGB, and gives logits; classes, colours
    and normalisation are in its metadata. It is compared with PyTorch at two sizes before it takes
    its place; where they differ, no file is left.

    Args:
        model: Model folder, or an id on the Hugging Face hub.
        output: The file; MODEL's name and .onnx or .pt2 unless given.
        format: onnx, torch-export, or aot for code compiled for this machine's kind of CPU.
        precision: float32; for onnx also float16, or int8 with --images.
        labels: Give the most likely classes as a second output.
        normalized: Take float32 images that are already normalized.
        normalised: The former spelling of --normalized.
        size: Height and width, such as '[512, 512]', of the only images that the file takes. For
            backbones that PyTorch cannot export for any size.
        images: Folder of images to compare on, and to calibrate int8 with.
        min_agreement: Share of pixels that must get PyTorch's class; 0.999 unless given, 0.99 for
            float16 and 0.9 for int8.
        overwrite: Replace a file that is there.
    """
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from ccnet.export.exporter import export
    from ccnet.export.formats import FORMATS
    from ccnet.models.loading import load_model

    if output is None:
        name = model.resolve().name if model.is_dir() else model.name
        output = Path(name + FORMATS[format].suffix)
    if output.exists() and not overwrite:
        raise ValueError(f"{output} is there already; give a new file, or --overwrite")
    rows = export(
        load_model(model),
        output,
        format,
        precision=precision,
        labels=labels,
        normalized=normalized or normalised,
        size=size,
        images=images,
        min_agreement=min_agreement,
    )
    table = Table(title=Text(f"{output}, {format} in {precision}, beside PyTorch in float32"))
    for column in ("images", "size", "largest difference", "same class %", "PyTorch ms", "file ms"):
        table.add_column(column, justify="right")
    for row in rows:
        batch, height, width = row.size
        numbers = f"{100 * row.labels:.3f}", f"{row.torch_ms:.1f}", f"{row.export_ms:.1f}"
        table.add_row(str(batch), f"{height}×{width}", f"{row.difference:.1e}", *numbers)
    Console().print(table)
    return 0


def demo(run: Path = Path("runs/demo"), seed: int = 0) -> int:
    """Train on embedded scenes in about a minute, evaluate, predict, and show where pixels look.

    Args:
        run: New folder for all that it makes.
        seed: Of the weights and the order of the scenes.
    """
    from ccnet.demo import demo, report

    demo(run, seed)
    print(report(run))
    return 0


COMMANDS: dict[str, Callable[..., int]] = {
    "train": train,
    "evaluate": evaluate,
    "predict": predict,
    "check-data": check_data,
    "convert": convert,
    "export": export,
    "demo": demo,
}
