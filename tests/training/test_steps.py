"""The pieces of a step: the verdict on it, what is restored, and what all processes agree on."""

from collections.abc import Iterator
from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch.optim import SGD
from torch.optim.lr_scheduler import LambdaLR

from ccnet.losses import SegmentationLoss
from ccnet.models.ccnet import CCNet
from ccnet.training.steps import (
    MOST_SKIPPED_IN_A_ROW,
    Verdict,
    divisors_of_step,
    forward_part,
    in_any_process,
    judge,
    mean_loss,
    read_step,
    restore_buffers,
    step_scheduler,
)

FINE, NAN, INF = 1.0, torch.nan, torch.inf
LAST = MOST_SKIPPED_IN_A_ROW - 1


@pytest.mark.parametrize(
    ("loss", "norm", "has_scaler", "may_leave_out", "num_skipped", "verdict"),
    [
        (FINE, FINE, False, False, 0, Verdict.LEARN),
        (FINE, FINE, True, True, LAST, Verdict.LEARN),
        (NAN, NAN, False, False, 0, Verdict.STOP),
        (FINE, INF, False, False, 0, Verdict.STOP),
        (FINE, INF, False, True, 0, Verdict.LEAVE_OUT),
        (INF, NAN, False, True, 0, Verdict.LEAVE_OUT),
        (NAN, NAN, False, True, LAST - 1, Verdict.LEAVE_OUT),
        (NAN, NAN, False, True, LAST, Verdict.STOP),
        (FINE, INF, True, False, 0, Verdict.HALVE_SCALE),
        (FINE, NAN, True, True, LAST - 1, Verdict.HALVE_SCALE),
        (FINE, INF, True, False, LAST, Verdict.STOP),
        (NAN, NAN, True, False, 0, Verdict.STOP),
        (NAN, NAN, True, True, 0, Verdict.LEAVE_OUT),
    ],
)
def test_a_step_is_judged_by_its_loss_and_norm(
    loss, norm, has_scaler, may_leave_out, num_skipped, verdict
):
    found = judge(
        torch.tensor(loss),
        torch.tensor(norm),
        has_scaler=has_scaler,
        may_leave_out=may_leave_out,
        num_skipped=num_skipped,
    )
    assert found is verdict


def test_a_step_is_read_in_parts_and_an_error_is_returned():
    def batches() -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        for value in range(3):
            yield torch.tensor(value), torch.tensor(value)
        raise KeyError("unreadable")

    source = batches()
    parts, seconds, error = read_step(source, 2)
    assert [int(images) for images, _ in parts] == [0, 1]
    assert seconds >= 0
    assert error is None
    parts, _, error = read_step(source, 2)
    assert parts == []
    assert isinstance(error, KeyError)


def new_run(**options: object) -> SimpleNamespace:
    """What a forward pass needs of a run."""
    sizes = {"channels": 8, "kernel_size": 1, "auxiliary_channels": 8, "dropout": 0.5}
    model = CCNet(2, "tiny", **sizes, **options)
    return SimpleNamespace(
        model=model,
        network=model,
        layout=torch.channels_last,
        config=SimpleNamespace(seed=3),
        state=SimpleNamespace(step=5),
        criterion=SegmentationLoss(ohem_threshold=0.7),
    )


def parts(number: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
    images = torch.randint(0, 256, (number, 2, 3, 32, 32), dtype=torch.uint8)
    return [(image, torch.zeros(2, 32, 32, dtype=torch.int64)) for image in images]


def test_a_forward_pass_repeats_and_depends_on_the_part_and_the_step():
    run, [(images, _)] = new_run(), parts(1)
    first, again, other_part = (forward_part(run, images, index)[0] for index in (0, 0, 1))
    run.state.step += 1
    other_step, embedding = forward_part(run, images, 0)
    assert embedding is None
    assert len(first) == 2
    assert first[0].shape == (2, 2, 32, 32)
    assert all(map(torch.equal, first, again))
    assert not torch.equal(first[0], other_part[0])
    assert not torch.equal(first[0], other_step[0])


def test_one_part_needs_no_divisors_and_ohem_ranks_several_without_a_trace():
    run = new_run()
    assert divisors_of_step(run, parts(1)) is None
    before = [buffer.clone() for buffer in run.model.buffers()]
    divisors = divisors_of_step(run, parts(3))
    assert divisors is not None
    assert divisors.auxiliary == 3 * 2 * 32 * 32
    assert divisors.threshold is not None
    assert not divisors.threshold.requires_grad
    assert all(map(torch.equal, before, run.model.buffers()))


def test_the_network_gives_its_embedding_to_a_loss_that_takes_it():
    run, batches = new_run(embedding_channels=4), parts(3)
    run.criterion = SegmentationLoss(category_consistent=1.0)
    logits, embedding = forward_part(run, batches[0][0], 0)
    assert [x.shape for x in logits] == [(2, 2, 32, 32)] * 2
    assert embedding is not None
    assert embedding.shape == (2, 4, 8, 8)
    divisors = divisors_of_step(run, batches)
    assert divisors is not None
    assert divisors.means is not None
    assert divisors.means.counts.tolist() == [[3 * 2 * 8 * 8], [0]]


def test_buffers_are_restored_in_place():
    norm = nn.BatchNorm2d(2)
    kept, before = list(norm.buffers()), [buffer.clone() for buffer in norm.buffers()]
    norm(torch.randn(4, 2, 3, 3))
    assert not torch.equal(norm.running_mean, before[0])
    restore_buffers(norm, before)
    assert all(map(torch.equal, norm.buffers(), before))
    assert all(a is b for a, b in zip(norm.buffers(), kept, strict=True))


def test_one_process_agrees_with_itself():
    assert in_any_process((True, False, True), torch.device("cpu")) == [True, False, True]
    assert mean_loss([torch.tensor(0.5), torch.tensor(0.25)]) == 0.75


def test_a_schedule_whose_first_step_was_left_out_gives_no_warning():
    optimizer = SGD([nn.Parameter(torch.zeros(1))], 1.0)
    scheduler = LambdaLR(optimizer, lambda step: 1 / (1 + step))
    step_scheduler(scheduler)
    assert scheduler.get_last_lr() == [0.5]
