"""`ccnet train`."""

import shlex
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any

from ccnet.config import TrainConfig, read_config, resumed_config, to_yaml
from ccnet.runtime.launch import is_first, is_launched, launch_processes


def train(
    config: TrainConfig,
    given: dict[str, Any],
    folder: Path | None = None,
    run: Path | None = None,
    init: Path | None = None,
    resume: Path | None = None,
    accept_new_data: bool = False,
    report: bool = False,
    plan_only: bool = False,
) -> int:
    """Train a network, or resume a run that was stopped.

    With FOLDER, which holds images and labels, what is not given is chosen from the data and the
    machine, and a table says why; the best model is evaluated at the end. The network is validated,
    saved and logged on the way. Ctrl-C saves and stops; `--resume` then continues to the same
    result. The run folder gets `model` (the best validation mIoU), `last`, `log.csv`, `curves.png`,
    pictures of validation predictions, logs for TensorBoard and two saves. Every flag below is
    also a key of the YAML file that `--config` reads; flags after it replace what it says.

        ccnet train FOLDER --run runs/mine
        ccnet train --config configs/camvid.yaml --data.root FOLDER
        ccnet train --resume runs/mine --devices 2
        ccnet train --init runs/mine --data.name folder --data.root OTHER --minutes 30 --report

    Args:
        folder: Images and labels, to choose the rest for. Without it, what is not given has the
            defaults below.
        run: New folder for models, logs and saves. Unless given, runs/NAME-DATE.
        init: Model folder, run or hub id whose weights and architecture to start from. Classes with
            the names of the model's keep their part of the classifiers; others start anew.
        resume: Folder of a run to continue, with its own configuration. Only data.root (data that
            moved) and flags about the machine (device, devices, num_nodes, strategy, num_workers,
            save_every, save_seconds, pictures, logger, project) may be given as well.
        accept_new_data: With resume: go on although images were added or removed since. The result
            then depends on when that was, and cannot be made again from the configuration.
        report: At the end evaluate the best model on the validation split, and write a page to
            browse its errors into RUN/report. Always done with FOLDER.
        plan_only: With FOLDER: print the table and the configuration as YAML, and do not train.
    """
    from ccnet.saving.run_folder import RunFolder

    if accept_new_data and resume is None:
        raise ValueError("--accept-new-data belongs to --resume: a new run has no earlier data")
    if folder is not None:
        config = planned(folder, given, init, resume)
    if plan_only:
        print(to_yaml(config), end="")
        return 0
    run, config = run_to_make(config, folder, run, init, resume)
    with arguments_for_processes(config, folder, run, init, resume) as arguments:
        status = launch_processes(config.devices, config.num_nodes, arguments)
    if status is not None:
        return status
    from ccnet.report.curves import save_curves
    from ccnet.training.loop import train

    try:
        scores = train(
            config, run, init=init, resume=resume is not None, accept_new_data=accept_new_data
        )
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
    resolved = read_config(run / "config.yaml")
    config = replace(resolved, device=config.device, num_workers=config.num_workers)
    page = write_report_of(config, run) if report or folder is not None else None
    print(next_steps(config, run, page))
    return 0


def run_to_make(
    config: TrainConfig,
    folder: Path | None,
    run: Path | None,
    init: Path | None,
    resume: Path | None,
) -> tuple[Path, TrainConfig]:
    """The folder of the run and its configuration."""
    from ccnet.saving.run_folder import RunFolder

    if resume is None:
        return run or new_run_folder(config if folder is None else folder), config
    if (run, init) != (None, None):
        raise ValueError("--resume continues in the run's own folder: no --run or --init with it")
    own = RunFolder(resume).config
    if not own.exists():
        raise FileNotFoundError(f"no run to resume: there is no {own}")
    return resume, resumed_config(read_config(own), config)


def planned(
    folder: Path, given: Mapping[str, Any], init: Path | None, resume: Path | None
) -> TrainConfig:
    """The configuration that is chosen for a folder; prints what was found and chosen, and why."""
    if resume is not None:
        raise ValueError("--resume goes on by the run's own configuration: no folder with it")
    if is_launched():  # each process would look at the data, and at its own memory
        raise ValueError(
            "processes that torchrun or SLURM started need one configuration: write it with "
            f"`ccnet train {folder} --plan-only > run.yaml`, and give --config run.yaml"
        )
    from rich.console import Console

    from ccnet.models.loading import load_model
    from ccnet.planning.planner import plan_run
    from ccnet.planning.table import plan_table
    from ccnet.runtime.progress import counting

    source = None if init is None else load_model(init)
    with counting("looking at the data") as progress:
        plan = plan_run(folder, given, source=source, progress=progress)
    Console(stderr=True).print(plan_table(plan))
    return plan.config


@contextmanager
def arguments_for_processes(
    config: TrainConfig, folder: Path | None, run: Path, init: Path | None, resume: Path | None
) -> Iterator[list[str]]:
    """The command line of each process; what was chosen for a folder goes as a file."""
    if folder is None:
        yield sys.argv[1:] + [f"--run={run}"] * (resume is None)
        return
    with NamedTemporaryFile("w", suffix=".yaml", encoding="utf-8") as file:
        file.write(to_yaml(config))
        file.flush()
        started = [] if init is None else [f"--init={init}"]
        yield ["train", f"--config={file.name}", f"--run={run}", "--report", *started]


def write_report_of(config: TrainConfig, run: Path) -> Path:
    """Evaluate the best model of a run on its validation data; the path of the report's page.

    One process does this, in the precision and by the protocol of the run. Prints the scores.
    """
    from rich.console import Console

    from ccnet.commands.evaluate import scored
    from ccnet.prediction.predictor import Predictor
    from ccnet.training.assembly import open_data

    _, data = open_data(config.data)
    model = run / "model"
    predictor = Predictor(
        model, device=config.device, precision=config.precision, protocol=config.protocol
    )
    title = f"{model} on {config.data.name} {config.data.val_split}, {len(data)} images"
    facts = {"precision": config.precision, "protocol": str(predictor.protocol)}
    _, table = scored(predictor, data, title, config.num_workers, run / "report", facts)
    Console().print(table)
    return run / "report" / "report.html"


def next_steps(config: TrainConfig, run: Path, page: Path | None) -> str:
    """Commands to go on with after a run."""
    data = config.data
    root = "" if data.root is None else f" --root {shlex.quote(data.root)}"
    model = shlex.quote(str(run / "model"))
    steps = [f"predict:   ccnet predict {model} PHOTOS --output labels --overlay"]
    if page is None:
        steps.append(
            f"errors:    ccnet evaluate {model} --data {data.name}{root} --split {data.val_split} "
            "--report report"
        )
    steps.append(f"fine-tune: ccnet train --init {model} --data.name folder --data.root FOLDER")
    return "\n".join(steps)


def new_run_folder(data: TrainConfig | Path) -> Path:
    """A folder named after the data and the time."""
    if is_launched():  # each process would choose its own
        raise ValueError("give --run: processes that torchrun or SLURM started need one folder")
    name = data.resolve().name if isinstance(data, Path) else data.data.name
    return Path("runs") / f"{name}-{time.strftime('%Y%m%d-%H%M%S')}"
