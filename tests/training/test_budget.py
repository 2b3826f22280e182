"""The number of steps that fit into minutes."""

from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file

from ccnet.config import DataConfig, OptimizerConfig, read_config
from ccnet.demo import SCENES
from ccnet.training.budget import fit_into_minutes, steps_within
from ccnet.training.loop import train
from ccnet.training.start import set_up

SMALL = replace(
    SCENES,
    data=DataConfig(num_images=40),
    model=replace(SCENES.model, channels=8, dropout=0.1, auxiliary_channels=8),
    batch_size=2,
    validate_every=3,
    pictures=0,
)


@pytest.mark.parametrize(
    ("seconds", "every", "steps"),
    [
        (100, 10, 42),  # 4 rounds of 10 · 2 + 3 s leave 8 s: 2 steps and the last validation
        (23, 10, 10),
        (22, 10, 9),
        (22, 1000, 9),
        (4.9, 10, 0),
        (-1, 10, 0),
    ],
)
def test_steps_and_their_validations_fill_the_time(seconds, every, steps):
    assert steps_within(seconds, 2.0, 3.0, every) == steps
    took = [2.0 * n + 3.0 * -(-n // every) for n in (steps, steps + 1)]
    assert took[0] <= max(seconds, 0) < took[1]


@pytest.mark.parametrize(
    "optimizer",
    [SCENES.optimizer, OptimizerConfig(warmup_steps=2)],
    ids=["one_cycle", "poly"],
)
@pytest.mark.slow
def test_a_run_of_minutes_is_the_run_of_its_steps(tmp_path, monkeypatch, optimizer):
    """Measuring leaves no trace in the weights, and the written configuration repeats them."""
    monkeypatch.setattr("ccnet.training.budget.steps_within", lambda *_: 6)
    config = replace(SMALL, optimizer=optimizer, minutes=0.05)
    train(config, tmp_path / "timed")
    own = read_config(tmp_path / "timed" / "config.yaml")
    assert own == replace(config, steps=6, minutes=None)
    train(own, tmp_path / "counted")
    first, second = (
        load_file(tmp_path / name / "last" / "model.safetensors") for name in ("timed", "counted")
    )
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert train(own, tmp_path / "timed", resume=True) is None


def test_the_number_of_steps_is_written_before_the_first_step_and_said(
    tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr("ccnet.training.budget.seconds_per_step", lambda *_: 0.1)
    monkeypatch.setattr("ccnet.training.budget.seconds_per_validation", lambda _: 2.0)
    run = set_up(replace(SMALL, minutes=2.0, validate_every=100), tmp_path / "run")
    with run.progress:
        fit_into_minutes(run, None)
    assert 970 <= run.config.steps <= 1000
    assert read_config(run.folder.config) == run.config
    assert (len(run.batches), len(run.loader)) == (run.config.steps,) * 2
    assert run.scheduler.total_steps == run.config.steps
    said = capsys.readouterr().err
    assert f"a step takes 0.1 s and a validation 2 s: {run.config.steps} steps in 2 min" in said


def test_a_real_measurement_gives_times_and_leaves_weights(tmp_path):
    run = set_up(replace(SMALL, minutes=0.2), tmp_path / "run")
    run.validation_data.num_images = 4
    before = {name: value.clone() for name, value in run.model.state_dict().items()}
    with run.progress:
        fit_into_minutes(run, None)
    assert run.config.steps > 10
    assert all(torch.equal(before[name], value) for name, value in run.model.state_dict().items())
    assert all(parameter.grad is None for parameter in run.model.parameters())
    assert run.model.training


def test_too_short_a_time_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("ccnet.training.budget.seconds_per_validation", lambda _: 100.0)
    run = set_up(replace(SMALL, minutes=0.1), tmp_path / "run")
    with run.progress, pytest.raises(ValueError, match=r"minutes=0\.1 is too short: a step takes"):
        fit_into_minutes(run, None)
