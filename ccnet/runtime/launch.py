"""One process a device: started by torch's own launcher, torchrun or SLURM."""

import ctypes
import os
import signal
import sys
from collections.abc import Sequence
from typing import Any


def launch_processes(
    devices: int | None, num_nodes: int | None, arguments: Sequence[str]
) -> int | None:
    """Run the command in the processes it asks for; the exit status, None where this is one."""
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
    if "SLURM_STEP_ID" not in os.environ:  # an allocation or batch script, not srun
        return False
    from lightning_fabric.plugins.environments.slurm import SLURMEnvironment

    return SLURMEnvironment.detect()


def by_torchrun() -> bool:
    return "TORCHELASTIC_RUN_ID" in os.environ


def is_first() -> bool:
    """Whether this process is the one that writes and speaks for all, rank 0."""
    name = "RANK" if by_torchrun() else "SLURM_PROCID"
    return not is_launched() or int(os.environ.get(name, "0")) == 0


def is_restarted() -> bool:
    """Whether torchrun (after a failure) or SLURM (after a requeue) starts this process again."""
    counts = ("TORCHELASTIC_RESTART_COUNT", "SLURM_RESTART_COUNT")
    return any(int(os.environ.get(name, "0")) > 0 for name in counts)


def launch(devices: int, num_nodes: int, arguments: Sequence[str]) -> int:
    """Run `ccnet ARGUMENTS` in one process a device of this node; returns the exit status.

    A process that fails ends the others; SIGTERM and SIGINT are handed on, and the processes have
    30 seconds to save.

    Raises ValueError for several nodes without MASTER_ADDR and NODE_RANK in the environment.
    """
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    if num_nodes > 1:
        missing = [name for name in ("MASTER_ADDR", "NODE_RANK") if name not in os.environ]
        if missing:
            raise ValueError(
                f"{num_nodes} nodes have to find each other: start this command by torchrun or "
                "srun on every node (docs/scaling.md), or set MASTER_ADDR, MASTER_PORT and "
                f"NODE_RANK there; {' and '.join(missing)} isn't set"
            )
        address = f"{os.environ['MASTER_ADDR']}:{os.environ.get('MASTER_PORT', '29500')}"
        meeting: dict[str, Any] = {"rdzv_backend": "static", "rdzv_endpoint": address}
        meeting["rdzv_configs"] = {"rank": int(os.environ["NODE_RANK"])}
    else:
        meeting = {"rdzv_backend": "c10d", "rdzv_endpoint": "localhost:0"}
    # else every process would take all cores
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, num_cores() // devices)))
    config = LaunchConfig(
        min_nodes=num_nodes,
        max_nodes=num_nodes,
        nproc_per_node=devices,
        max_restarts=0,
        monitor_interval=0.1,
        run_id="ccnet",
        **meeting,
    )
    try:
        elastic_launch(config, sys.executable)("-m", "ccnet", *arguments)
    except SignalException:
        return 130  # as one process ends, whichever signal it was
    except ChildFailedError as error:
        first, failure = error.get_first_failure()
        code = failure.exitcode
        if code < 0:
            print(
                f"ccnet: process {first} was killed by {signal.Signals(-code).name}; "
                "the others were ended",
                file=sys.stderr,
            )
        return code if code > 0 else 128 - code  # a process says itself why it fails
    return 0


def num_cores() -> int:
    """Those that this process may use: SLURM and containers allow it fewer than there are."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def end_with_launcher() -> None:
    """SIGTERM when the launcher is killed, so that none works on unseen; on Linux."""
    if by_torchrun() and sys.platform == "linux":
        set_parent_death_signal = 1  # PR_SET_PDEATHSIG of sys/prctl.h
        ctypes.CDLL(None).prctl(set_parent_death_signal, signal.SIGTERM)
