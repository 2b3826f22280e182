"""How many steps fit into the minutes that a run may take, measured at its start and undone."""

import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from itertools import count

from ccnet.prediction.predictor import Predictor
from ccnet.runtime.processes import num_processes
from ccnet.tracking.pictures import pictured
from ccnet.training.assembly import build_optimizer, build_scheduler
from ccnet.training.run import Run, evaluation_mode
from ccnet.training.samples import Callback
from ccnet.training.start import new_batches, training_loader
from ccnet.training.steps import (
    Part,
    copy_buffers,
    divisors_of_step,
    forward_part,
    gradient_exchange,
    mean_loss,
    read_step,
    restore_buffers,
)

UNTIMED_STEPS, FEWEST_STEPS, MOST_STEPS = 2, 3, 50
"""Of a trial: first steps, which start workers and compile, and steps that are timed."""
SHARE, MOST_SECONDS = 0.05, 30.0
"""Of the minutes, and at most, that the steps of a trial take, unless the fewest take longer."""
NUM_PREDICTIONS = 3
"""Validation images that are predicted in a trial; the first is not timed."""


def fit_into_minutes(run: Run, transform: Callback | None) -> None:
    """Give a new run the number of steps that `config.minutes` leaves time for, and say so.

    From then on the run is one of that many steps, whatever they take: its schedule ends with it,
    and it is resumed like any other. All processes have to call this; process 0 measures.

    Args:
        run: has made no step. A trial leaves its weights and its random numbers as they were.
        transform: as for `ccnet.training.loop.train`.

    Raises:
        ValueError: not one step and its validation fit.
    """
    minutes, start = run.config.minutes, time.monotonic()
    assert minutes is not None
    per_step = seconds_per_step(run, min(SHARE * 60 * minutes, MOST_SECONDS))
    per_validation = seconds_per_validation(run)
    left = 60 * minutes - (time.monotonic() - start)
    steps = steps_within(left, per_step, per_validation, run.config.validate_every)
    steps = run.fabric.broadcast(steps)
    found = f"a step takes {per_step:.2g} s and a validation {per_validation:.2g} s"
    if steps < 1:
        raise ValueError(f"minutes={minutes:g} is too short: {found}; take more, or smaller steps")
    run.config = replace(run.config, steps=steps, minutes=None)
    restart(run, transform)
    run.progress.set_config(run.config)
    run.progress.print_line(f"{found}: {steps} steps in {minutes:g} minutes")


def seconds_per_step(run: Run, seconds: float) -> float:
    """Time steps without learning from them, with their reading, for so long."""
    buffers, durations = copy_buffers(run.model), []
    with closing(iter(run.loader)) as batches:
        for number in count():
            start = time.monotonic()
            try_step(run, batches)
            if number >= UNTIMED_STEPS:
                durations.append(time.monotonic() - start)
            is_enough = len(durations) >= FEWEST_STEPS and sum(durations) >= seconds
            if run.fabric.broadcast(is_enough or len(durations) == MOST_STEPS):
                break
    restore_buffers(run.model, buffers)
    return sum(durations) / len(durations)


def try_step(run: Run, batches: Iterator[Part]) -> None:
    """All of a step except clipping and the optimizer's part."""
    parts, _, error = read_step(batches, run.config.accumulate)
    if error is not None:
        raise error
    divisors = divisors_of_step(run, parts)
    losses = []
    for index, (images, labels) in enumerate(parts):
        with gradient_exchange(run, is_last=index + 1 == len(parts)):
            logits, embedding = forward_part(run, images, index)
            losses.append(run.criterion(logits, labels, divisors, embedding))
            run.fabric.backward(losses[-1])
    mean_loss(losses).item()  # waits until a GPU is done
    run.optimizer.zero_grad()


def seconds_per_validation(run: Run) -> float:
    """Time the prediction of a few validation images, for all of this process's share."""
    indices = pictured(len(run.validation_data), NUM_PREDICTIONS)
    durations = []
    with evaluation_mode(run.validated_model):
        predictor = Predictor(
            run.validated_model,
            device=str(run.fabric.device),
            precision=run.config.precision,
            protocol=run.config.protocol,
        )
        for index in indices:
            start = time.monotonic()
            (found,) = predictor.score([run.validation_data[index][0]])
            predictor.most_likely(found)
            durations.append(time.monotonic() - start)
    return min(durations) * len(run.validation_data) / num_processes()


def steps_within(
    seconds: float, per_step: float, per_validation: float, validate_every: int
) -> int:
    """The largest number of steps that, with their validations and one at the end, take so long."""
    per_round = validate_every * per_step + per_validation
    rounds, left = divmod(max(0.0, seconds), per_round)
    rest = max(0.0, left - per_validation) // per_step
    return int(rounds) * validate_every + min(int(rest), validate_every - 1)


def restart(run: Run, transform: Callback | None) -> None:
    """Begin the run again at step 0, since its configuration has another number of steps."""
    optimizer = run.state.optimizer
    fresh = build_optimizer(run.config.optimizer, run.model)
    for group, own in zip(optimizer.param_groups, fresh.param_groups, strict=True):
        group.update({name: value for name, value in own.items() if name != "params"})
    run.scheduler = build_scheduler(run.config.optimizer, optimizer, run.config.steps)
    run.state.others["scheduler"] = run.scheduler
    run.batches = new_batches(run.config, len(run.data), start=0)
    run.loader = training_loader(run.config, run.data, run.batches, transform, run.fabric)
    run.folder.write_config(run.config)
