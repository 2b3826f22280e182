"""The commands: functions whose signatures and docstrings are the flags and their help.

Nothing heavy is imported before a command runs, so that --help answers at once.
"""

import inspect
import os
import sys
import time
from argparse import ArgumentError
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields, replace
from pathlib import Path
from typing import Literal

import docstring_parser
from jsonargparse import ArgumentParser, set_parsing_settings

from ccnet import __version__
from ccnet.config import OF_THE_MACHINE, TrainConfig

Data = Literal["scenes", "folder", "camvid"]
Precision = Literal["auto", "float32", "bfloat16", "float16"]


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
    from ccnet.checkpoint import RunFolder

    if resume is not None:
        if (run, init) != (None, None):
            raise ValueError("--resume goes on with a run where it is: no --run or --init with it")
        run, config = resume, resumed_config(read_config(RunFolder(resume).config), config)
    elif run is None:
        run = Path("runs") / f"{config.data.name}-{time.strftime('%Y%m%d-%H%M%S')}"
    status = launch_processes(config.devices, config.num_nodes, sys.argv[1:])
    if status is not None:
        return status
    from ccnet.engine import is_first
    from ccnet.train import train
    from ccnet.visualize import save_curves

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

    from ccnet.checkpoint import write_json
    from ccnet.datasets import open_dataset
    from ccnet.evaluate import evaluate
    from ccnet.predict import Predictor
    from ccnet.processes import rank
    from ccnet.progress import counting

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
    from ccnet.batch import predict_files
    from ccnet.jobs import find_jobs
    from ccnet.predict import Predictor
    from ccnet.processes import rank
    from ccnet.progress import counting
    from ccnet.signals import StopSignals

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

    from ccnet.check import check_dataset
    from ccnet.checkpoint import write_json
    from ccnet.datasets import open_dataset
    from ccnet.progress import CountProgress

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
    from ccnet.models import CCNet
    from ccnet.published import read_published

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
    "demo": demo,
}


def main(arguments: list[str] | None = None) -> None:
    parser = build_parser()
    given = sys.argv[1:] if arguments is None else arguments
    parsed = parser.parse_args([with_underscores(argument) for argument in given])
    name = parsed.subcommand
    try:
        flags = dict(vars(parser.instantiate(parsed)[name]))
        if name == "train":
            flags.pop("config")
            own = {key: flags.pop(key) for key in ("run", "init", "resume")}
            flags = {"config": TrainConfig(**flags), **own}
        status = launch_processes(flags.get("devices"), flags.get("num_nodes"), given)
        if status is None:
            status = COMMANDS[name](**flags)
    except (ValueError, OSError, ArithmeticError, MemoryError, NotImplementedError) as error:
        notes = "".join(f"\n  {note}" for note in getattr(error, "__notes__", ()))
        where = f", process {os.environ['RANK']}" if "RANK" in os.environ else ""
        message = f"{without_traceback(str(error))}{notes}"
        print(f"ccnet {name}{where}: {message}", file=sys.stderr)
        status = 2
    except KeyboardInterrupt:
        print(f"\nccnet {name}: stopped", file=sys.stderr)
        status = 130
    sys.exit(status)


def launch_processes(
    devices: int | None, num_nodes: int | None, arguments: Sequence[str]
) -> int | None:
    """Run the command in the processes it asks for; the exit status, None where this is one."""
    for name, count in (("devices", devices), ("num_nodes", num_nodes)):
        if count is not None and count < 1:
            raise ValueError(f"{name} must be ≥ 1, got {count}")
    if (devices or 1) * (num_nodes or 1) == 1:
        return None
    from ccnet import engine

    if engine.is_launched():
        return None
    return engine.launch(devices or 1, num_nodes or 1, arguments)


@contextmanager
def process_device(device: str, devices: int | None, num_nodes: int | None) -> Iterator[str]:
    """Where this process computes; of several it is then in touch with the others."""
    from ccnet import engine
    from ccnet.processes import leaving_cleanly

    if not engine.is_launched():
        yield device
        return
    with leaving_cleanly():
        yield str(engine.start(device, devices, num_nodes, strategy="independent").device)


def without_traceback(message: str) -> str:
    """The error itself of one that a loader's worker process handed on with its traceback."""
    if "Original Traceback" not in message:
        return message
    lines = message.rstrip().split("\n")
    last_frame = max(index for index, line in enumerate(lines) if line.startswith("  "))
    return "\n".join(lines[last_frame + 1 :])


def with_underscores(argument: str) -> str:
    """--num-workers=2 means --num_workers=2."""
    flag, equals, value = argument.partition("=")
    if not flag.startswith("--"):
        return argument
    return "--" + flag[2:].replace("-", "_") + equals + value


def build_parser() -> ArgumentParser:
    set_parsing_settings(
        docstring_parse_attribute_docstrings=True, instantiate_subclass_spec_in_any=False
    )
    parser = ArgumentParser(
        prog="ccnet",
        version=__version__,
        description="Semantic segmentation with criss-cross attention (CCNet).",
    )
    commands = parser.add_subcommands()
    for name, function in COMMANDS.items():
        text = docstring_parser.parse(function.__doc__ or "")
        command = ArgumentParser(description=text.description)
        help_of = {item.arg_name: item.description for item in text.params}
        parameters = inspect.signature(function).parameters.values()
        switches = [p.name for p in parameters if p.annotation is bool]
        lists = [p.name for p in parameters if p.annotation == list[str]]
        command.add_function_arguments(
            function, as_group=False, as_positional=True, skip={"config", *switches, *lists}
        )
        for switch in switches:
            command.add_argument(f"--{switch}", action="store_true", help=help_of[switch])
        for several in lists:
            command.add_argument(several, nargs="+", help=help_of[several])
        if name == "train":
            command.add_argument("--config", action="config", help="YAML file of the flags below.")
            command.add_class_arguments(TrainConfig)
        commands.add_subcommand(name, command, help=text.short_description)
    return parser


def resumed_config(own: TrainConfig, given: TrainConfig) -> TrainConfig:
    """The run's own configuration with what was given of the machine.

    Raises ValueError for a flag that would change what the run computes.
    """
    default = TrainConfig()
    changed = {
        field.name: getattr(given, field.name)
        for field in fields(given)
        if getattr(given, field.name) != getattr(default, field.name)
    }
    if others := [name for name in changed if name not in OF_THE_MACHINE]:
        raise ValueError(
            f"--resume goes on by the run's own configuration: {', '.join(others)} can't be given "
            f"with it, only {', '.join(OF_THE_MACHINE)}"
        )
    return replace(own, **changed)


def read_config(path: Path) -> TrainConfig:
    """The configuration of a run. Raises FileNotFoundError, or ValueError for what doesn't fit."""
    if not path.is_file():
        raise FileNotFoundError(f"no run to resume: there is no {path}")
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(TrainConfig)
    try:
        return TrainConfig(**vars(parser.instantiate(parser.parse_path(path))))
    except ArgumentError as error:
        raise ValueError(f"{path}: {error}") from error
