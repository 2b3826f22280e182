"""What changes from step to step of a training run and a resumed one needs."""

import math
from typing import Any

from torch import Tensor
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.optim import Optimizer

from ccnet.config import TrainConfig
from ccnet.models.ccnet import CCNet
from ccnet.training.assembly import inherited

KEYS = ("model", "optimizer", "others", "inherited", "step", "validated", "best_miou")
KEYS += ("skipped_in_a_row", "unlogged")


class TrainingState:
    """The step, and the parts of a run that learn or count; the same in all processes.

    There are no random states in it: a step's randomness follows from the seed and its number. A
    checkpoint has whole tensors whatever the strategy, so a run may go on with other devices.

    Args:
        model: that has a checkpoint's weights already (`assembly.new_model`), since a sharded one
            takes none.
        optimizer: of its parameters.
        others: anything with `state_dict` and `load_state_dict`: schedule, scaler, moving average.
    """

    def __init__(self, model: CCNet, optimizer: Optimizer, others: dict[str, Any]) -> None:
        self.model = model
        self.optimizer = optimizer
        self.others = others
        self.step = 0
        self.validated = 0  # step of the last validation
        self.best_miou = -math.inf
        self.skipped_in_a_row = 0
        self.unlogged: list[tuple[float, float]] = []  # loss and norm of steps since the last row

    def row_is_due(self, config: TrainConfig) -> bool:
        return self.step % config.log_every == 0 or self.step == config.steps

    def validation_is_due(self, config: TrainConfig) -> bool:
        at_end = self.step == config.steps
        return self.step > self.validated and (at_end or self.step % config.validate_every == 0)

    def to_dict(self) -> dict[str, Any]:
        """For `load`; where the model is sharded all processes have to call it together."""
        return {
            "model": whole(self.model.state_dict()),
            "optimizer": whole(self.optimizer.state_dict()),
            "others": {name: part.state_dict() for name, part in self.others.items()},
            "inherited": inherited(self.model),
            "step": self.step,
            "validated": self.validated,
            "best_miou": self.best_miou,
            "skipped_in_a_row": self.skipped_in_a_row,
            "unlogged": list(self.unlogged),
        }

    def load(self, checkpoint: dict[str, Any]) -> None:
        """Everything but the model's weights.

        Raises ValueError where the run kept what this one doesn't have, or the other way round.
        """
        if missing := [name for name in KEYS if name not in checkpoint]:
            raise ValueError(
                f"the checkpoint has no {', '.join(missing)}: another version wrote it"
            )
        kept, wanted = set(checkpoint["others"]), set(self.others)
        if kept != wanted:
            raise ValueError(
                f"the checkpoint has {', '.join(sorted(kept))} and the run wants "
                f"{', '.join(sorted(wanted))}: a run is resumed with its own precision and options"
            )
        self.optimizer.load_state_dict(in_parts(checkpoint["optimizer"], self.optimizer))
        for name, part in self.others.items():
            part.load_state_dict(checkpoint["others"][name])
        self.step = checkpoint["step"]
        self.validated = checkpoint["validated"]
        self.best_miou = checkpoint["best_miou"]
        self.skipped_in_a_row = checkpoint["skipped_in_a_row"]
        self.unlogged = list(checkpoint["unlogged"])


def whole(value: Any) -> Any:
    """The same structure with every sharded tensor put together."""
    if isinstance(value, dict):
        return {key: whole(part) for key, part in value.items()}
    return value.full_tensor() if isinstance(value, DTensor) else value


def in_parts(state: dict[str, Any], optimizer: Optimizer) -> dict[str, Any]:
    """An optimizer's state, its tensors sharded as the parameters that they belong to are."""
    parameters = [p for group in optimizer.param_groups for p in group["params"]]

    def part(value: Any, parameter: Tensor) -> Any:
        is_alike = isinstance(value, Tensor) and value.shape == parameter.shape
        if isinstance(parameter, DTensor) and is_alike:
            mesh = parameter.device_mesh
            return distribute_tensor(value.to(mesh.device_type), mesh, parameter.placements)
        return value

    parts = {
        index: {name: part(value, parameters[index]) for name, value in values.items()}
        for index, values in state["state"].items()
    }
    return {**state, "state": parts}
