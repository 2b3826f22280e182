"""`ccnet train`."""

import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
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
    plan_only: bool = False,
) -> int:
    """Train a network, or resume a run that was stopped.

    With FOLDER, which holds images and labels, what is not given is chosen from the data and the
    machine, and a table says why. The network is validated, saved and logged on the way. Ctrl-C saves and stops; `--resume` then
    continues to the same result. The run folder gets `model` (the best validation mIoU), `last`,
    `log.csv`, `curves.png`, logs for TensorBoard and two saves. Every flag below is also a key of
    the YAML file that `--config` reads; flags after it replace what it says.

        ccnet train FOLDER
        ccnet train FOLDER --model.backbone resnet18 --steps 2000 --run runs/mine
        ccnet train --config configs/camvid.yaml --data.root FOLDER
        ccnet train --resume runs/mine --devices 2

    Args:
        folder: Images and labels, to choose the rest for. Without it, what is not given has the
            defaults below.
        run: New folder for models, logs and saves. Unless given, runs/NAME-DATE.
        init: Model folder whose weights to start from. Its classes must be those of the data set.
        resume: Folder of a run to continue, with its own configuration. Only flags about the
            machine (device, devices, num_nodes, strategy, num_workers, save_every, save_seconds)
            may be given as well.
        plan_only: With FOLDER: print the table and the configuration as YAML, and do not train.
    """
    from ccnet.training.run_folder import RunFolder

    arguments = sys.argv[1:]
    if folder is not None:
        config = planned(folder, given, resume)
    if plan_only:
        print(to_yaml(config), end="")
        return 0
    if resume is not None:
        if (run, init) != (None, None):
            raise ValueError(
                "--resume continues in the run's own folder: no --run or --init with it"
            )
        run, own = resume, RunFolder(resume).config
        if not own.exists():
            raise FileNotFoundError(f"no run to resume: there is no {own}")
        config = resumed_config(read_config(own), config)
    elif run is None:
        run = new_run_folder(config)
        arguments.append(f"--run={run}")
    with plan_for_processes(config, folder, arguments) as arguments:
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


def planned(folder: Path, given: Mapping[str, Any], resume: Path | None) -> TrainConfig:
    """The configuration that is chosen for a folder; prints what was found and chosen, and why."""
    if resume is not None:
        raise ValueError("--resume goes on by the run's own configuration: no folder with it")
    if is_launched():  # each process would look at the data, and another memory
        raise ValueError(
            "processes that torchrun or SLURM started need one configuration: write it with "
            f"`ccnet train {folder} --plan_only > run.yaml`, and give --config run.yaml"
        )
    from rich.console import Console

    from ccnet.planning.planner import plan_run
    from ccnet.planning.table import plan_table
    from ccnet.runtime.progress import counting

    with counting("looking at the data") as progress:
        plan = plan_run(folder, given, progress=progress)
    Console(stderr=True).print(plan_table(plan))
    return plan.config


@contextmanager
def arguments_for_processes(
    config: TrainConfig, folder: Path | None, run: Path, init: Path | None
) -> Iterator[list[str]]:
    """The command line of each process; what was chosen for a folder goes as a file."""
    named = [f"--run={run}", *([] if init is None else [f"--init={init}"])]
    if folder is None:
        yield [*sys.argv[1:], *named]
        return
    with NamedTemporaryFile("w", suffix=".yaml", encoding="utf-8") as file:
        file.write(to_yaml(config))
        file.flush()
        yield ["train", f"--config={file.name}", *named]


def new_run_folder(config: TrainConfig) -> Path:
    """A folder named after the data set and the time."""
    if is_launched():  # each process would choose its own
        raise ValueError("give --run: processes that torchrun or SLURM started need one folder")
    return Path("runs") / f"{config.data.name}-{time.strftime('%Y%m%d-%H%M%S')}"
