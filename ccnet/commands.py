"""The commands: functions whose signatures and docstrings are their flags and their help.

What is slow to import, torch above all, is imported when a command runs, so that `--help` answers
at once. A command returns its exit status.
"""

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Literal

from ccnet.config import TrainConfig, read_config, resumed_config
from ccnet.datasets import DatasetName
from ccnet.runtime.launch import is_first, is_launched, launch_processes

Precision = Literal["auto", "float32", "bfloat16", "float16"]
Format = Literal["onnx", "torch-export", "aot"]
FilePrecision = Literal["float32", "float16", "int8"]


def train(
    config: TrainConfig,
    run: Path | None = None,
    init: Path | None = None,
    resume: Path | None = None,
) -> int:
    """Train a network, or resume a run that was stopped.

    The network is validated, saved and logged on the way. Ctrl-C saves and stops; `--resume` then
    continues to the same result. The run folder gets `model` (the best validation mIoU), `last`,
    `log.csv`, `curves.png`, logs for TensorBoard and two saves. Every flag below is also a key of
    the YAML file that `--config` reads; flags after it replace what it says.

        ccnet train --config configs/folder.yaml --data.root FOLDER --run runs/mine
        ccnet train --resume runs/mine --devices 2

    Args:
        run: New folder for models, logs and saves. Unless given, runs/NAME-DATE.
        init: Model folder whose weights to start from. Its classes must be those of the data set.
        resume: Folder of a run to continue, with its own configuration. Only flags about the
            machine (device, devices, num_nodes, strategy, num_workers, save_every, save_seconds)
            may be given as well.
    """
    from ccnet.training.run_folder import RunFolder

    arguments = sys.argv[1:]
    if resume is not None:
        if (run, init) != (None, None):
            raise ValueError(
                "--resume continues in the run's own folder: no --run or --init with it"
            )
        run, config = resume, resumed_config(read_config(RunFolder(resume).config), config)
    elif run is None:
        run = new_run_folder(config)
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
            print(f"\nstopped; to continue: ccnet train --resume {run}", file=sys.stderr)
        return 130
    if not is_first():
        return 0
    save_curves(run / "curves.png", run / "log.csv")
    if scores is None:
        print(f"{run} is already trained to the end")
    else:
        print(f"validation mIoU {scores.miou:.4f}; the best model is {run / 'model'}")
    return 0


def new_run_folder(config: TrainConfig) -> Path:
    """A folder named after the data set and the time."""
    if is_launched():  # each process would choose its own
        raise ValueError("give --run: processes that torchrun or SLURM started need one folder")
    return Path("runs") / f"{config.data.name}-{time.strftime('%Y%m%d-%H%M%S')}"


def evaluate(
    model: Path,
    data: DatasetName = "folder",
    root: Path | None = None,
    split: str = "val",
    output: Path | None = None,
    num_workers: int = 0,
    device: str = "auto",
    devices: int | None = None,
    num_nodes: int | None = None,
    precision: Precision = "float32",
) -> int:
    """Score a model on a data set.

    Prints the intersection over union (IoU) of each class, their mean (mIoU), and pixel and mean
    accuracy. All labeled pixels are counted in one confusion matrix, at the size of each image.

        ccnet evaluate runs/mine/model --root FOLDER
        ccnet evaluate runs/demo/model --data scenes --split test --output scores.json

    Args:
        model: Model folder, or an id on the Hugging Face hub.
        data: Kind of data set. A folder is described by its dataset.yaml.
        root: Folder of the data set. The scenes need none.
        split: Part of the data set.
        output: JSON file to write the scores to, each 0 to 1.
        num_workers: Processes per device that read images ahead. 0 reads in the main process.
        device: Where to compute: auto (the best device there is), cpu, cuda or mps.
        devices: Processes per machine, one per device. Unless given, as many as torchrun or SLURM
            started; 1 without them.
        num_nodes: Machines. Unless given, as many as torchrun or SLURM started; 1 without them.
        precision: Number format of the network. Report figures in float32; auto is bfloat16 where
            that is faster, else float32.
    """
    from rich.console import Console

    from ccnet.datasets import open_dataset
    from ccnet.prediction.evaluate import evaluate
    from ccnet.prediction.predictor import Predictor
    from ccnet.report.tables import scores_table
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
    title = f"{model} on {data} {split}, {len(dataset)} images"
    Console().print(scores_table(scores, title))
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
    """Write label maps of images.

    Each image becomes one 8-bit PNG of class indices, at its own size. A label map that the same
    model made of the same file is kept, so after Ctrl-C the same command continues. A file that
    cannot be read is reported and skipped, and the exit status is then 1. OUTPUT/manifest.jsonl
    says what became of each file.

        ccnet predict runs/mine/model photos --output labels --overlay
        ccnet predict runs/mine/model 'video/*.png' --precision auto --num-workers 2

    Args:
        model: Model folder, or an id on the Hugging Face hub.
        images: Image files, folders (with all folders below them) or glob patterns.
        output: Folder for the label maps.
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
    data: DatasetName = "folder",
    split: str | None = None,
    output: Path | None = None,
) -> int:
    """Say what is wrong with a data set before it is trained on.

    Reads every pair and lists unreadable files, images and labels without a partner, sizes that
    differ and label values that stand for no class. Prints image sizes, the share of each class and
    median-frequency class weights. The exit status is 1 if the data are unfit for training.

        ccnet check-data FOLDER
        ccnet check-data FOLDER --data camvid --split train --output report.json

    Args:
        root: Folder of the data set.
        data: Kind of data set. A folder is described by its dataset.yaml.
        split: Part of the data set. Unless given, train and val, since training needs both.
        output: JSON file to write the reports to, by split, with the lists that are cut in print.
    """
    from rich.console import Console

    from ccnet.datasets import open_dataset
    from ccnet.datasets.check import check_dataset
    from ccnet.report.tables import data_summary
    from ccnet.runtime.disk import write_json
    from ccnet.runtime.progress import CountProgress

    reports = {}
    for part in ("train", "val") if split is None else (split,):
        dataset = open_dataset(data, root, part, strict=False)
        with CountProgress(f"checking {part}") as progress:
            reports[part] = check_dataset(dataset, part, progress=progress)
        Console().print(data_summary(reports[part]))
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


def export(
    model: Path,
    output: Path | None = None,
    format: Format = "onnx",
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
    logits. Its metadata hold the classes, the colors and the normalization. It is compared with
    PyTorch at two sizes first; if they disagree, no file is written.

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
    if output.exists() and not overwrite:
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


def demo(run: Path = Path("runs/demo"), seed: int = 0) -> int:
    """Run the whole path on embedded scenes, in a minute or two.

    Trains a small network without any download, evaluates it on scenes that it has not seen,
    predicts some of them, and draws where a pixel looks.

        ccnet demo
        ccnet demo --run runs/second --seed 1

    Args:
        run: New folder for everything that the demo makes.
        seed: Seed of the weights and of the order of the scenes.
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
