"""Where a command runs: devices, processes and precision, by Lightning Fabric and torchrun."""

import ctypes
import os
import signal
import sys
import warnings
from collections.abc import Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from ccnet.predict import pick_device, pick_precision

if TYPE_CHECKING:
    from lightning_fabric import Fabric

FABRIC_PRECISION = {"float32": "32-true", "bfloat16": "bf16-mixed", "float16": "16-mixed"}


def is_launched() -> bool:
    """Whether this process is one of several that torchrun or SLURM's srun started."""
    if torch.distributed.is_available() and torch.distributed.is_torchelastic_launched():
        return True
    if "SLURM_NTASKS" not in os.environ:
        return False
    from lightning_fabric.plugins.environments.slurm import SLURMEnvironment

    return SLURMEnvironment.detect()


def is_first() -> bool:
    """Whether this process is the one that writes and speaks for all, rank 0."""
    name = "RANK" if torch.distributed.is_torchelastic_launched() else "SLURM_PROCID"
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
                "srun on every node (README, Scaling), or set MASTER_ADDR, MASTER_PORT and "
                f"NODE_RANK there; {' and '.join(missing)} isn't set"
            )
        address = f"{os.environ['MASTER_ADDR']}:{os.environ.get('MASTER_PORT', '29500')}"
        meeting: dict[str, Any] = {"rdzv_backend": "static", "rdzv_endpoint": address}
        meeting["rdzv_configs"] = {"rank": int(os.environ["NODE_RANK"])}
    else:
        meeting = {"rdzv_backend": "c10d", "rdzv_endpoint": "localhost:0"}
    # torchrun's own default: each process its share of the cores, unless the user has said more
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // devices)))
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


def start(
    device: str = "auto",
    devices: int | None = None,
    num_nodes: int | None = None,
    strategy: str = "ddp",
    precision: str = "float32",
) -> "Fabric":
    """Fabric on this process's device, in touch with the other processes if there are any.

    Args:
        device: auto, cpu, cuda, cuda:N or mps.
        devices, num_nodes: None for what torchrun or SLURM started, else 1.
        strategy: of several processes: "ddp" keeps a whole model in each, "fsdp" a part;
            "independent" ones train nothing and wait for each other, a week if need be.
        precision: of autocast: float32, bfloat16, float16, or auto.

    Raises:
        ValueError: no such device, or not as many processes as asked for.
    """
    end_with_launcher()
    from lightning_fabric import Fabric
    from lightning_fabric.plugins import MixedPrecision
    from lightning_fabric.strategies.ddp import DDPStrategy
    from lightning_fabric.strategies.model_parallel import ModelParallelStrategy

    picked = pick_device(device)
    precision = pick_precision(precision, picked)
    devices, num_nodes = count_processes(devices, num_nodes)
    several = devices * num_nodes > 1
    if several and picked.type == "mps":
        raise ValueError("there is one MPS device; --devices 1 would work")
    if several and picked.index is not None:
        raise ValueError(f"device={picked} names one device, devices={devices} asks for several")
    arguments: dict[str, Any] = {"precision": FABRIC_PRECISION[precision]}
    if precision == "float16":
        if strategy == "fsdp" and several:
            raise ValueError("fsdp trains in float32 or bfloat16, not in float16")
        scaler = torch.amp.GradScaler(picked.type)
        arguments = {"plugins": MixedPrecision("16-mixed", picked.type, scaler)}
    if several and strategy == "fsdp":
        size = devices * num_nodes
        arguments["strategy"] = ModelParallelStrategy(
            shard, data_parallel_size=size, tensor_parallel_size=1
        )
    elif several and strategy == "independent":  # gloo sees at once when a process is gone
        arguments["strategy"] = DDPStrategy(process_group_backend="gloo", timeout=timedelta(days=7))
    elif several:
        arguments["strategy"] = DDPStrategy()
    fabric = Fabric(
        accelerator=picked.type,
        devices=devices if picked.index is None else [picked.index],
        num_nodes=num_nodes,
        **arguments,
    )
    # a 1×1 kernel has the same memory in either layout, which DDP can't know
    warnings.filterwarnings("ignore", "Grad strides do not match bucket view strides")
    fabric.launch()
    return fabric


def end_with_launcher() -> None:
    """SIGTERM when the launcher is killed, so that none works on unseen; on Linux."""
    launched = torch.distributed.is_torchelastic_launched()
    if launched and sys.platform == "linux":
        set_parent_death_signal = 1  # PR_SET_PDEATHSIG of sys/prctl.h
        ctypes.CDLL(None).prctl(set_parent_death_signal, signal.SIGTERM)


def count_processes(devices: int | None, num_nodes: int | None) -> tuple[int, int]:
    """Processes a node and nodes: what was started, which may not differ from what is asked for."""
    if "LOCAL_WORLD_SIZE" in os.environ and "WORLD_SIZE" in os.environ:  # torchrun
        local = int(os.environ["LOCAL_WORLD_SIZE"])
        started = local, int(os.environ["WORLD_SIZE"]) // local
    elif is_launched():  # SLURM
        nodes = int(os.environ.get("SLURM_NNODES", "1"))
        started = int(os.environ["SLURM_NTASKS"]) // nodes, nodes
    else:
        started = 1, 1
    asked = (
        started[0] if devices is None else devices,
        started[1] if num_nodes is None else num_nodes,
    )
    if asked != started:
        raise ValueError(
            f"asked for {asked[0]} devices on {asked[1]} nodes, but {started[0]} processes on "
            f"{started[1]} nodes were started; `ccnet ... --devices N` starts them by itself"
        )
    return asked


def shard(model: nn.Module, mesh: Any) -> nn.Module:
    """Parameters, gradients and optimizer states in parts over the processes (FSDP2)."""
    from torch.distributed.fsdp import fully_shard

    for stage in (*model.get_submodule("backbone").children(), model.get_submodule("head")):
        if any(True for _ in stage.parameters()):
            fully_shard(stage, mesh=mesh["data_parallel"])
    fully_shard(model, mesh=mesh["data_parallel"])
    return model


def scaler(fabric: "Fabric") -> torch.amp.GradScaler | None:
    """The loss scaler of float16; None with another precision."""
    return getattr(fabric.strategy.precision, "scaler", None)


def precision_of(fabric: "Fabric") -> str:
    """What `start` took: float32, bfloat16 or float16."""
    names = {name: key for key, name in FABRIC_PRECISION.items()}
    return names[fabric.strategy.precision.precision]
