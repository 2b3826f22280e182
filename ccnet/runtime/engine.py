"""Where a command computes: device, processes and precision, by Lightning Fabric."""

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
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

WEEK = timedelta(days=7)
FABRIC_PRECISION = {"float32": "32-true", "bfloat16": "bf16-mixed", "float16": "16-mixed"}


@contextmanager
def process_device(device: str, devices: int | None, num_nodes: int | None) -> Iterator[str]:
    """Where this process computes; of several it is then in touch with the others."""
    if not is_launched():
        yield device
        return
    with leaving_cleanly():
        yield str(start(device, devices, num_nodes, strategy="independent").device)


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
    if picked.type == "cuda" and devices > torch.cuda.device_count():
        raise ValueError(
            f"{devices} devices asked for, and {torch.cuda.device_count()} CUDA devices are here"
        )
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
        arguments["strategy"] = DDPStrategy(process_group_backend="gloo", timeout=WEEK)
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
    if several and is_restarted() and by_torchrun():
        is_gloo = picked.type == "cpu" or strategy == "independent"
        meet_again("gloo" if is_gloo else "nccl", WEEK if strategy == "independent" else None)
    fabric.launch()
    return fabric


def meet_again(backend: str, timeout: timedelta | None) -> None:
    """Start the process group of a restart apart from what the processes before it have left.

    torchrun's agent keeps its store over a restart; without a prefix of their own the new processes
    find the addresses of the old ones there and wait for them (torch 2.13: 3 restarts of 8).
    """
    if os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True":
        return  # rank 0 opens a store of its own then
    address, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    store = dist.TCPStore(address, port, is_master=False)  # pyright: ignore[reportPrivateImportUsage]
    own = dist.PrefixStore(os.environ["TORCHELASTIC_RESTART_COUNT"], store)  # pyright: ignore[reportPrivateImportUsage]
    dist.init_process_group(
        backend,
        store=own,
        rank=int(os.environ["RANK"]),
        world_size=int(os.environ["WORLD_SIZE"]),
        timeout=timeout,
    )


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
