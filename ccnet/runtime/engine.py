"""The device, the other processes and the precision of a command, through Lightning Fabric."""

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist
from torch import nn

from ccnet.runtime.device import pick_device, pick_precision
from ccnet.runtime.launch import by_torchrun, end_with_launcher, is_launched, is_restarted
from ccnet.runtime.processes import leaving_cleanly

if TYPE_CHECKING:
    from lightning_fabric import Fabric
    from lightning_fabric.strategies.strategy import Strategy

WEEK = timedelta(days=7)
FABRIC_PRECISION = {"float32": "32-true", "bfloat16": "bf16-mixed", "float16": "16-mixed"}


@dataclass(frozen=True)
class Engine:
    """Fabric on the device of this process, and the precision that it computes with."""

    fabric: "Fabric"
    precision: str
    """float32, bfloat16 or float16."""
    scaler: torch.amp.GradScaler | None
    """The loss scaler of float16; None in another precision."""


@contextmanager
def process_device(device: str, devices: int | None, num_nodes: int | None) -> Iterator[str]:
    """The device of this process, as `start` takes its arguments, for work without training.

    If it is one of several processes, they are connected inside the block.
    """
    if not is_launched():
        yield device
        return
    with leaving_cleanly():
        yield str(start(device, devices, num_nodes, strategy="independent").fabric.device)


def start(
    device: str = "auto",
    devices: int | None = None,
    num_nodes: int | None = None,
    strategy: str = "ddp",
    precision: str = "float32",
) -> Engine:
    """Set up the device of this process and, if there are others, the connection to them.

    Args:
        device: auto, cpu, cuda, cuda:N or mps.
        devices: processes per node. None: as many as torchrun or SLURM started; 1 without them.
        num_nodes: machines. None: as many as torchrun or SLURM use; 1 without them.
        strategy: of several processes. "ddp": each has a whole model. "fsdp": each has a part of
            every weight. "independent": they do not train, and may wait a week for each other.
        precision: of autocast: float32, bfloat16, float16, or auto.

    Raises:
        ValueError: there is no such device, the number of processes is not the one that was
            started, or the arguments contradict each other.
    """
    end_with_launcher()
    from lightning_fabric import Fabric
    from lightning_fabric.plugins import MixedPrecision

    picked = pick_device(device)
    precision = pick_precision(precision, picked)
    devices, num_nodes = count_processes(devices, num_nodes)
    num_processes = devices * num_nodes
    require_devices(picked, devices, num_processes)
    arguments: dict[str, Any] = {"precision": FABRIC_PRECISION[precision]}
    scaler = None
    if precision == "float16":
        if strategy == "fsdp" and num_processes > 1:
            raise ValueError("fsdp trains in float32 or bfloat16, not in float16")
        scaler = torch.amp.GradScaler(picked.type)
        arguments = {"plugins": MixedPrecision("16-mixed", picked.type, scaler)}
    if num_processes > 1:
        arguments["strategy"] = distribution(strategy, num_processes)
    fabric = Fabric(
        accelerator=picked.type,
        devices=devices if picked.index is None else [picked.index],
        num_nodes=num_nodes,
        **arguments,
    )
    # a 1×1 kernel occupies the same memory in both layouts, but DDP compares the strides
    warnings.filterwarnings("ignore", "Grad strides do not match bucket view strides")
    if num_processes > 1 and is_restarted() and by_torchrun():
        is_independent = strategy == "independent"
        backend = "gloo" if picked.type == "cpu" or is_independent else "nccl"
        connect_after_restart(backend, WEEK if is_independent else None)
    fabric.launch()
    return Engine(fabric, precision, scaler)


def require_devices(device: torch.device, devices: int, num_processes: int) -> None:
    """Raise ValueError if the processes of a node cannot each have a device of the kind."""
    if num_processes > 1 and device.type == "mps":
        raise ValueError("there is one MPS device; --devices 1 would work")
    if device.type == "cuda" and devices > torch.cuda.device_count():
        raise ValueError(
            f"{devices} devices asked for, and {torch.cuda.device_count()} CUDA devices are here"
        )
    if num_processes > 1 and device.index is not None:
        raise ValueError(f"device={device} names one device, devices={devices} asks for several")


def distribution(strategy: str, num_processes: int) -> "Strategy":
    """Fabric's object for a strategy of several processes, as `start` names them."""
    from lightning_fabric.strategies.ddp import DDPStrategy
    from lightning_fabric.strategies.model_parallel import ModelParallelStrategy

    if strategy == "fsdp":
        return ModelParallelStrategy(
            shard, data_parallel_size=num_processes, tensor_parallel_size=1
        )
    if strategy == "independent":  # gloo notices at once when a process is gone
        return DDPStrategy(process_group_backend="gloo", timeout=WEEK)
    return DDPStrategy()


def connect_after_restart(backend: str, timeout: timedelta | None) -> None:
    """Make the process group of processes that torchrun has started again.

    torchrun's agent keeps its key-value store over a restart. Without a prefix of their own the new
    processes find the addresses of the previous ones in it, and wait for them (torch 2.13: 3 of 8
    restarts).
    """
    # documented names that torch.distributed does not list as exported
    rendezvous, prefix_store = dist.rendezvous, dist.PrefixStore  # pyright: ignore[reportPrivateImportUsage]
    store, rank, world_size = next(rendezvous("env://"))
    own = prefix_store(os.environ["TORCHELASTIC_RESTART_COUNT"], store)
    dist.init_process_group(backend, store=own, rank=rank, world_size=world_size, timeout=timeout)


def count_processes(devices: int | None, num_nodes: int | None) -> tuple[int, int]:
    """The processes per node and the nodes that were started.

    Raises:
        ValueError: `devices` or `num_nodes` is given and is another number.
    """
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
    """Distribute parameters, gradients and optimizer states over the processes (FSDP2)."""
    from torch.distributed.fsdp import fully_shard

    for stage in (*model.get_submodule("backbone").children(), model.get_submodule("head")):
        if any(True for _ in stage.parameters()):
            fully_shard(stage, mesh=mesh["data_parallel"])
    fully_shard(model, mesh=mesh["data_parallel"])
    return model
