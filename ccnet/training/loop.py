"""Training: one visible loop on Lightning Fabric."""

from contextlib import closing
from pathlib import Path

from ccnet.config import TrainConfig
from ccnet.metrics import Scores
from ccnet.runtime.lock import FolderLock
from ccnet.runtime.processes import leaving_cleanly
from ccnet.runtime.signals import StopSignals
from ccnet.saving.run_folder import LOCK
from ccnet.training.budget import fit_into_minutes
from ccnet.training.failures import explaining_out_of_memory
from ccnet.training.run import DataSets, Run
from ccnet.training.samples import Callback
from ccnet.training.start import set_up
from ccnet.training.steps import (
    Verdict,
    clip_gradient,
    copy_buffers,
    divisors_of_step,
    forward_part,
    gradient_exchange,
    judge,
    learn,
    leave_out,
    mean_loss,
    read_step,
    save_or_stop,
    step_scheduler,
)


def train(
    config: TrainConfig,
    run: str | Path,
    *,
    init: str | Path | None = None,
    resume: bool = False,
    transform: Callback | None = None,
    data: DataSets | None = None,
    accept_new_data: bool = False,
) -> Scores | None:
    """Train a CCNet.

    SIGINT (Ctrl-C) and SIGTERM save after the current step, then raise KeyboardInterrupt. If there
    are several processes (`ccnet.runtime.engine`), each of them has to make this call; process 0
    alone writes files.

    Args:
        config: of the run; to resume a run, its own configuration.
        run: folder for everything that the run writes (see `ccnet.saving.run_folder`).
        init: folder of a model to start from. The run takes over its weights, its normalization
            and its architecture; options of `config.model` other than the defaults must agree with
            it. The classifiers keep the rows of classes that the data have too, by name.
        resume: go on with the run in this folder from its last save. A process that torchrun or
            SLURM has started again does so without being asked.
        transform: callable(image, label) → (image, label) on uint8 arrays (H, W, 3) and (H, W),
            used instead of `config.data.augment`.
        data: training and validation data, used instead of those that `config.data` names.
        accept_new_data: resume although images were added or removed since the run began.

    Returns:
        The scores of the last validation; None if the run had already been trained to its end.

    Raises:
        FileExistsError: the folder is not empty and `resume` is False.
        BlockingIOError: another process writes the run.
        FloatingPointError: a loss, a gradient or a weight was not finite; the last save is kept.
        MemoryError: a step does not fit into the memory; the message says what takes less.
        ValueError: the data, the weights and the configuration do not fit together.
    """
    lock = FolderLock(Path(run, LOCK))
    with leaving_cleanly(), explaining_out_of_memory(config), lock:
        return train_to_the_end(
            set_up(
                config,
                run,
                init=init,
                resume=resume,
                transform=transform,
                data=data,
                accept_new_data=accept_new_data,
                lock=lock,
            ),
            transform,
        )


def train_to_the_end(run: Run, transform: Callback | None) -> Scores | None:
    """Make all steps that are left of a run; returns the scores of the last validation."""
    with run.progress:
        if run.config.minutes is not None:
            fit_into_minutes(run, transform)
        if run.saved_step < 0:
            run.save()
        return make_steps(run)


def make_steps(run: Run) -> Scores | None:
    """The loop: all steps that are left, with saves and validations."""
    config, state, scores = run.config, run.state, None
    with StopSignals() as stop, closing(iter(run.loader)) as batches:
        if state.validation_is_due(config):  # the run was stopped during one
            scores = run.validate()
        while state.step < config.steps:
            parts, seconds_waited, error = read_step(batches, config.accumulate)
            save_or_stop(run, stop_requested=stop.requested, error=error)

            buffers = copy_buffers(run.model)
            divisors = divisors_of_step(run, parts)
            losses = []
            for index, (images, labels) in enumerate(parts):
                with gradient_exchange(run, is_last=index + 1 == len(parts)):
                    logits, embedding = forward_part(run, images, index)
                    loss = run.criterion(logits, labels, divisors, embedding)
                    run.fabric.backward(loss)
                losses.append(loss.detach())

            loss, norm = mean_loss(losses), clip_gradient(run)
            verdict = judge(
                loss,
                norm,
                has_scaler=run.scaler is not None,
                may_leave_out=config.non_finite == "skip",
                num_skipped=state.skipped_in_a_row,
            )
            if verdict is Verdict.LEARN:
                learn(run)
            else:
                leave_out(run, verdict, loss, norm, losses, buffers)
            run.optimizer.zero_grad()
            lr = run.scheduler.get_last_lr()[0]
            step_scheduler(run.scheduler)

            state.finish_step(loss.item(), norm.item())
            run.progress.finish_step(state.step, seconds_waited)
            if state.row_is_due(config):
                run.progress.log_row(state.step, state.unlogged, float(lr))
                state.unlogged.clear()
            if state.validation_is_due(config):
                run.save()  # so that the steps are kept whatever happens in the validation
                scores = run.validate()
    return scores
