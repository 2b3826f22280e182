"""What changes from step to step of a run, and what a resumed run needs of it."""

import math
from typing import Any

from torch import Tensor, nn
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.optim import Optimizer

from ccnet.config import TrainConfig
from ccnet.models.ccnet import CCNet
from ccnet.saving.checkpoint import (
    require_optimizer_state,
    require_same_make,
    require_weights,
)
from ccnet.training.network import inherited


class TrainingState:
    """The step that a run has reached, and its parts that learn or count.

    It is the same in all processes. It holds no random states: the random numbers of a step follow
    from the seed and the number of the step. A checkpoint holds full tensors whatever the strategy,
    so a run may go on with other devices.

    Args:
        model: already has the weights of the checkpoint, if there is one (`assembly.new_model`),
            because a sharded model cannot load them.
        optimizer: of the model's parameters.
        others: objects with `state_dict` and `load_state_dict` by name: the schedule, the loss
            scaler of float16, the moving average. None: the run has no such object.
    """

    def __init__(self, model: CCNet, optimizer: Optimizer, others: dict[str, Any]) -> None:
        self.model = model
        self.optimizer = optimizer
        self.others = {name: part for name, part in others.items() if part is not None}
        self.step = 0
        self.validated = 0  # step of the last validation
        self.best_miou = -math.inf
        self.skipped_in_a_row = 0
        self.unlogged: list[tuple[float, float]] = []  # loss and norm of steps since the last row

    def finish_step(self, loss: float, norm: float) -> None:
        """Count a step, of which the log's next row shows the loss and the gradient's norm."""
        self.step += 1
        self.unlogged.append((loss, norm))

    def row_is_due(self, config: TrainConfig) -> bool:
        return self.step % config.log_every == 0 or self.step == config.steps

    def validation_is_due(self, config: TrainConfig) -> bool:
        at_end = self.step == config.steps
        return self.step > self.validated and (at_end or self.step % config.validate_every == 0)

    def to_dict(self) -> dict[str, Any]:
        """The checkpoint that `load` takes. If the model is sharded, all processes must call it."""
        return {
            "model": gather_full_state(self.model.state_dict()),
            "optimizer": gather_full_state(self.optimizer.state_dict()),
            "others": {name: part.state_dict() for name, part in self.others.items()},
            "inherited": inherited(self.model),
            "step": self.step,
            "validated": self.validated,
            "best_miou": self.best_miou,
            "skipped_in_a_row": self.skipped_in_a_row,
            "unlogged": list(self.unlogged),
        }

    def load(self, checkpoint: dict[str, Any]) -> None:
        """Take over everything except the model's weights.

        Raises:
            ValueError: the run of the checkpoint had other parts than this one.
        """
        kept, wanted = set(checkpoint["others"]), set(self.others)
        if kept != wanted:
            raise ValueError(
                f"the checkpoint has {', '.join(sorted(kept))} and the run wants "
                f"{', '.join(sorted(wanted))}: a run is resumed with its own precision and options"
            )
        require_optimizer_state(checkpoint["optimizer"], self.optimizer)
        self.optimizer.load_state_dict(
            shard_optimizer_state(checkpoint["optimizer"], self.optimizer)
        )
        for name, part in self.others.items():
            state, own = checkpoint["others"][name], part.state_dict()
            if isinstance(part, nn.Module):
                require_weights(state, own)
            else:
                require_same_make(state, own, name)
                if not 0 <= state.get("last_epoch", 0) <= checkpoint["step"]:
                    raise ValueError(f"its {name} is at a later step")
            part.load_state_dict(state)
        self.step = checkpoint["step"]
        self.validated = checkpoint["validated"]
        self.best_miou = checkpoint["best_miou"]
        self.skipped_in_a_row = checkpoint["skipped_in_a_row"]
        self.unlogged = list(checkpoint["unlogged"])


def gather_full_state(state: Any) -> Any:
    """A state dict with every sharded tensor gathered from all processes.

    If a tensor is sharded, all processes must call this. Also takes a single tensor.
    """
    if isinstance(state, dict):
        return {key: gather_full_state(part) for key, part in state.items()}
    return state.full_tensor() if isinstance(state, DTensor) else state


def shard_optimizer_state(state: dict[str, Any], optimizer: Optimizer) -> dict[str, Any]:
    """An optimizer's full state, with each tensor sharded as the parameter it belongs to."""
    parameters = [p for group in optimizer.param_groups for p in group["params"]]

    def shard(value: Any, parameter: Tensor) -> Any:
        has_its_shape = isinstance(value, Tensor) and value.shape == parameter.shape
        if isinstance(parameter, DTensor) and has_its_shape:
            mesh = parameter.device_mesh
            return distribute_tensor(value.to(mesh.device_type), mesh, parameter.placements)
        return value

    sharded = {
        index: {name: shard(value, parameters[index]) for name, value in values.items()}
        for index, values in state["state"].items()
    }
    return {**state, "state": sharded}
