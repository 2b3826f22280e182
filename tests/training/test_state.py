"""A run's state: what doesn't fit is told before anything is taken over."""

import pytest
from torch.optim import SGD
from torch.optim.lr_scheduler import LambdaLR

from ccnet.models.ccnet import CCNet
from ccnet.training.state import TrainingState


def new_state(**others: object) -> TrainingState:
    model = CCNet(2, "tiny", channels=8, kernel_size=1, auxiliary_channels=None)
    optimizer = SGD(model.parameters(), 0.1)
    return TrainingState(
        model, optimizer, {"scheduler": LambdaLR(optimizer, lambda _: 1.0), **others}
    )


def test_a_state_comes_back():
    first, second = new_state(), new_state()
    first.step, first.validated, first.best_miou = 7, 5, 0.25
    first.skipped_in_a_row, first.unlogged = 2, [(0.5, 1.0), (0.25, 2.0)]
    second.load(first.to_dict())
    for name in ("step", "validated", "best_miou", "skipped_in_a_row", "unlogged"):
        assert getattr(second, name) == getattr(first, name)
    second.unlogged.clear()
    assert len(first.unlogged) == 2


def test_a_checkpoint_of_other_options_is_refused():
    average = LambdaLR(SGD(new_state().model.parameters(), 0.1), lambda _: 1.0)
    said = "has average, scheduler and the run wants scheduler"
    with pytest.raises(ValueError, match=said):
        new_state().load(new_state(average=average).to_dict())
