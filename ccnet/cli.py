"""The commands: functions whose signatures and docstrings are the flags and their help.

Nothing heavy is imported before a command runs, so that --help answers at once.
"""

import inspect
import sys
import time
from argparse import ArgumentError
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import docstring_parser
from jsonargparse import ArgumentParser, set_parsing_settings

from ccnet import __version__
from ccnet.config import TrainConfig

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
        resume: Folder of a run to go on with, by its own configuration and no other flags.
    """
    from ccnet.checkpoint import RunFolder
    from ccnet.train import train
    from ccnet.visualize import save_curves

    if resume is not None:
        if (config, run, init) != (TrainConfig(), None, None):
            raise ValueError("--resume goes on by the run's own configuration, with no other flags")
        run, config = resume, read_config(RunFolder(resume).config)
    elif run is None:
        run = Path("runs") / f"{config.data.name}-{time.strftime('%Y%m%d-%H%M%S')}"
    try:
        scores = train(config, run, init=init, resume=resume is not None)
    except KeyboardInterrupt:
        if not RunFolder(run).checkpoint.is_file():
            raise
        print(f"\nstopped; to go on: ccnet train --resume {run}", file=sys.stderr)
        return 130
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
        num_workers: Processes that read ahead.
        device: auto, cpu, cuda or mps.
        precision: float32 for figures to report; auto is bfloat16 where that is faster.
    """
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from ccnet.checkpoint import write_json
    from ccnet.datasets import open_dataset
    from ccnet.evaluate import evaluate
    from ccnet.predict import Predictor
    from ccnet.progress import CountProgress

    dataset = open_dataset(data, root, split)
    predictor = Predictor(model, device=device, precision=precision)
    with CountProgress("evaluating") as progress:
        scores = evaluate(predictor, dataset, num_workers=num_workers, progress=progress)
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
    device: str = "auto",
    precision: Precision = "float32",
) -> int:
    """Write label maps of images: one 8-bit PNG of class indices each, at the image's own size.

    A file that can't be read is reported and skipped, and the exit status is 1 at the end.

    Args:
        model: Model folder, or an id on the Hugging Face hub.
        images: Files, folders or glob patterns.
        output: Folder for the label maps.
        color: Also write NAME.color.png in the classes' colours.
        overlay: Also write NAME.overlay.png, the colours over the image.
        device: auto, cpu, cuda or mps.
        precision: float32, or auto for bfloat16 where that is faster.
    """
    from ccnet.batch import find_jobs, predict_files
    from ccnet.predict import Predictor
    from ccnet.progress import CountProgress

    jobs = find_jobs(images, output)
    predictor = Predictor(model, device=device, precision=precision)
    with CountProgress("predicting") as progress:
        failures = predict_files(predictor, jobs, color=color, overlays=overlay, progress=progress)
    for _, reason in failures:
        print(f"skipped {reason}", file=sys.stderr)
    print(f"{len(jobs) - len(failures)} label maps in {output}, {len(failures)} files skipped")
    return 1 if failures else 0


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


def export(
    model: Path,
    output: Path | None = None,
    format: Format = "onnx",
    precision: FilePrecision = "float32",
    labels: bool = False,
    normalised: bool = False,
    images: Path | None = None,
    min_agreement: float | None = None,
) -> int:
    """Write a model as one file that runs without ccnet, for images of any size.

    The file takes uint8 RGB images (B, 3, H, W) and gives logits; classes, colours and
    normalisation are in its metadata. It is compared with PyTorch at two sizes before it takes its
    place; where they differ, no file is left.

    Args:
        model: Model folder, or an id on the Hugging Face hub.
        output: The file; MODEL's name and .onnx or .pt2 unless given.
        format: onnx, torch-export, or aot for code compiled for this machine's kind of CPU.
        precision: float32; for onnx also float16, or int8 with --images.
        labels: Give the most likely classes as a second output.
        normalised: Take float32 images that are normalised already.
        images: Folder of images to compare on, and to calibrate int8 with.
        min_agreement: Share of pixels that must get PyTorch's class; 0.999 unless given, 0.99 for
            float16 and 0.9 for int8.
    """
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from ccnet.export import SUFFIXES, export
    from ccnet.predict import load_model

    if output is None:
        output = Path(model.name + SUFFIXES[format])
    rows = export(
        load_model(model),
        output,
        format,
        precision=precision,
        labels=labels,
        normalised=normalised,
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
    "export": export,
    "demo": demo,
}


# what says by itself what is wrong; ImportError names an extra that isn't installed
EXPECTED = (ValueError, OSError, FloatingPointError, NotImplementedError, ImportError)


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
        status = COMMANDS[name](**flags)
    except EXPECTED as error:
        notes = "".join(f"\n  {note}" for note in getattr(error, "__notes__", ()))
        print(f"ccnet {name}: {without_traceback(str(error))}{notes}", file=sys.stderr)
        status = 2
    except KeyboardInterrupt:
        print(f"\nccnet {name}: stopped", file=sys.stderr)
        status = 130
    sys.exit(status)


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
