"""One process per device, started by torch's own launcher, by torchrun, or by SLURM.

torchrun documents the variables TORCHELASTIC_RUN_ID and TORCHELASTIC_RESTART_COUNT. They are read
here and not through torch, which `ccnet --help` does not load.
"""

import ctypes
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ccnet.runtime.signals import handlers_restored


def launch_processes(
    devices: int | None, num_nodes: int | None, arguments: Sequence[str]
) -> int | None:
    """Run `ccnet ARGUMENTS` in several processes if more than one is asked for.

    Returns:
        The exit status, or None if this process does the work itself: because only one is asked
        for, or because it is one of several that a launcher has started.

    Raises:
        ValueError: a number is below 1, or nodes do not know how to find each other.
    """
    for name, count in (("devices", devices), ("num_nodes", num_nodes)):
        if count is not None and count < 1:
            raise ValueError(f"{name} must be ≥ 1, got {count}")
    if (devices or 1) * (num_nodes or 1) == 1 or is_launched():
        return None
    return launch(devices or 1, num_nodes or 1, arguments)


def is_launched() -> bool:
    """Whether this process is one of several that torchrun or SLURM's srun started."""
    if by_torchrun():
        return True
    if "SLURM_STEP_ID" not in os.environ:  # an allocation or a batch script, but not srun
        return False
    from lightning_fabric.plugins.environments.slurm import SLURMEnvironment

    return SLURMEnvironment.detect()


def by_torchrun() -> bool:
    """Whether torchrun, or torch's launcher in `launch`, started this process."""
    return "TORCHELASTIC_RUN_ID" in os.environ


def is_first() -> bool:
    """Whether this is process 0, which writes files and prints results for all of them."""
    name = "RANK" if by_torchrun() else "SLURM_PROCID"
    return not is_launched() or int(os.environ.get(name, "0")) == 0


def is_restarted() -> bool:
    """Whether torchrun (after a failure) or SLURM (after a requeue) started this job again."""
    counts = ("TORCHELASTIC_RESTART_COUNT", "SLURM_RESTART_COUNT")
    return any(int(os.environ.get(name, "0")) > 0 for name in counts)


def launch(devices: int, num_nodes: int, arguments: Sequence[str]) -> int:
    """Run `ccnet ARGUMENTS` in one process per device of this node, and return the exit status.

    If a process fails, the others are ended. SIGTERM and SIGINT are passed on to all processes,
    which then have 30 seconds to save.

    Raises:
        ValueError: there are several nodes, but MASTER_ADDR or NODE_RANK is not set.
    """
    from torch.distributed.elastic.multiprocessing import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    # otherwise each process would start as many threads as there are cores
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, num_cores() // devices)))
    config = LaunchConfig(
        min_nodes=num_nodes,
        max_nodes=num_nodes,
        nproc_per_node=devices,
        max_restarts=0,
        monitor_interval=0.1,
        run_id="ccnet",
        **rendezvous(num_nodes),
    )
    try:
        with handlers_restored():
            elastic_launch(config, sys.executable)(*program(), *arguments)
    except SignalException:
        return 130  # what a single process returns, for either signal
    except ChildFailedError as error:
        first, failure = error.get_first_failure()
        code = failure.exitcode
        if code < 0:
            print(
                f"ccnet: process {first} was killed by {signal.Signals(-code).name}; "
                "the others were ended",
                file=sys.stderr,
            )
        return code if code > 0 else 128 - code  # a process that fails prints its own error
    return 0


def program() -> list[str]:
    """What Python runs in each process: ccnet as in this process, not a folder of this name here.

    `python -m` imports from the current folder first, which this process does only if it was
    started in the same way.
    """
    imports_from_here = {"", str(Path.cwd())} & set(sys.path)
    return ["-m", "ccnet"] if imports_from_here else ["-P", "-m", "ccnet"]


def rendezvous(num_nodes: int) -> dict[str, Any]:
    """Where the nodes find each other, as arguments of torch's LaunchConfig."""
    if num_nodes == 1:
        return {"rdzv_backend": "c10d", "rdzv_endpoint": "localhost:0"}
    missing = [name for name in ("MASTER_ADDR", "NODE_RANK") if name not in os.environ]
    if missing:
        raise ValueError(
            f"{num_nodes} nodes have to find each other: start this command by torchrun or srun on "
            "every node (docs/scaling.md), or set MASTER_ADDR, MASTER_PORT and NODE_RANK there; "
            f"{' and '.join(missing)} is not set"
        )
    address = f"{os.environ['MASTER_ADDR']}:{os.environ.get('MASTER_PORT', '29500')}"
    return {
        "rdzv_backend": "static",
        "rdzv_endpoint": address,
        "rdzv_configs": {"rank": int(os.environ["NODE_RANK"])},
    }


def num_cores() -> int:
    """The cores that this process may use; SLURM and containers allow fewer than there are."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def end_with_launcher() -> None:
    """Ask Linux for a SIGTERM when torchrun is killed, so that no process goes on without it."""
    if by_torchrun() and sys.platform == "linux":
        set_parent_death_signal = 1  # PR_SET_PDEATHSIG in sys/prctl.h
        ctypes.CDLL(None).prctl(set_parent_death_signal, signal.SIGTERM)
