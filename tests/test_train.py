"""Training: reproducible, resumable, and clear about what doesn't fit."""

import csv
import os
import signal
import subprocess
import sys
from dataclasses import replace
from itertools import count
from pathlib import Path
from unittest.mock import Mock

import pytest
import torch
from safetensors.torch import load_file

from ccnet.checkpoint import RunFolder
from ccnet.config import DataConfig, LossConfig, OptimizerConfig, TrainConfig
from ccnet.datasets import DataError, Scenes
from ccnet.demo import SCENES
from ccnet.models import CCNet
from ccnet.train import (
    build_model,
    build_model_from,
    build_optimizer,
    build_scheduler,
    inherited,
    train,
)

ROOT = Path(__file__).parents[1]

SMALL = replace(
    SCENES,
    data=DataConfig(num_images=40),
    model=replace(SCENES.model, channels=16, dropout=0.1, auxiliary_channels=8),
    steps=6,
    batch_size=4,
    validate_every=3,
    log_every=2,
)


def weights(run: Path) -> dict[str, torch.Tensor]:
    return load_file(run / "last" / "model.safetensors")


def assert_same_weights(first: Path, second: Path) -> None:
    for (name, a), b in zip(weights(first).items(), weights(second).values(), strict=True):
        assert torch.equal(a, b), name


def failing_at(call: int):
    """A transform that changes nothing and fails at one of its calls, counted from 1."""
    calls = count(1)

    def transform(image, label):
        if next(calls) == call:
            raise DataError("photo.jpg: cannot be read")
        return image, label

    return transform


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory) -> Path:
    run = tmp_path_factory.mktemp("runs") / "whole"
    train(SMALL, run)
    return run


def test_a_run_leaves_models_logs_and_what_made_it(uninterrupted):
    names = {path.name for path in uninterrupted.iterdir()}
    assert names == {"model", "last", "log.csv", "logs", "config.yaml", "run.json", "checkpoint.pt"}
    assert any((uninterrupted / "logs").glob("events.*"))
    with (uninterrupted / "log.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["step"]) for row in rows if row["loss"]] == [2, 4, 6]
    assert [int(row["step"]) for row in rows if row["miou"]] == [3, 6]
    model = CCNet.from_pretrained(uninterrupted / "model")
    assert model.classes == ("ground", "red", "green", "blue")
    assert model.palette is not None


@pytest.mark.slow
def test_loader_workers_change_nothing(uninterrupted, tmp_path):
    train(replace(SMALL, num_workers=2), tmp_path / "run")
    assert_same_weights(uninterrupted, tmp_path / "run")


def test_another_seed_gives_other_weights(uninterrupted, tmp_path):
    train(replace(SMALL, seed=1), tmp_path / "run")
    first, second = weights(uninterrupted), weights(tmp_path / "run")
    assert any(not torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["SIGINT", "SIGTERM"])
def test_an_interrupted_run_saves_and_resumes_to_the_same_weights(uninterrupted, tmp_path, number):
    calls = count(1)

    def interrupt_in_the_fifth_step(image, label):
        if next(calls) == 4 * 4 + 1:
            os.kill(os.getpid(), number)
        return image, label

    run = tmp_path / "run"
    with pytest.raises(KeyboardInterrupt):
        train(SMALL, run, transform=interrupt_in_the_fifth_step)
    handlers = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    assert handlers == (signal.default_int_handler, signal.SIG_DFL)
    train(SMALL, run, resume=True)
    assert_same_weights(uninterrupted, run)
    steps = [row.split(",")[0] for row in (run / "log.csv").read_text().splitlines()[1:]]
    assert steps == ["2", "3", "4", "6", "6"]


def test_a_run_that_failed_before_its_first_validation_resumes(uninterrupted, tmp_path):
    run = tmp_path / "run"
    with pytest.raises(DataError):
        train(SMALL, run, transform=failing_at(5))
    train(SMALL, run, resume=True)
    assert_same_weights(uninterrupted, run)


def test_a_finished_run_resumes_to_nothing(uninterrupted):
    before = (uninterrupted / "log.csv").read_text()
    assert train(SMALL, uninterrupted, resume=True) is None
    assert (uninterrupted / "log.csv").read_text() == before


def test_a_used_folder_is_refused(uninterrupted):
    with pytest.raises(FileExistsError, match="not empty"):
        train(SMALL, uninterrupted)


def test_training_starts_from_given_weights(uninterrupted, tmp_path):
    still = replace(SMALL, steps=1, optimizer=OptimizerConfig(name="sgd", lr=0.0))
    train(still, tmp_path / "run", init=uninterrupted / "last")
    started = weights(tmp_path / "run")
    for name, value in weights(uninterrupted).items():
        if "running" not in name and "num_batches" not in name:
            assert torch.equal(started[name], value), name
    other = replace(still, model=replace(still.model, channels=24))
    with pytest.raises(ValueError, match="don't fit the network"):
        train(other, tmp_path / "other", init=uninterrupted / "last")


def test_a_loss_that_is_not_finite_stops_the_run(tmp_path):
    wild = replace(SMALL, optimizer=OptimizerConfig(name="sgd", lr=1e30))
    with pytest.raises(FloatingPointError, match=r"the loss is \S+ at step \d"):
        train(wild, tmp_path / "run")


@pytest.mark.parametrize(
    "changes",
    [
        {"precision": "bfloat16"},
        {"channels_last": False},
        {"optimizer": OptimizerConfig(clip_norm=1.0)},  # and the poly schedule
        {"model": replace(SMALL.model, recurrence=0, auxiliary_channels=None)},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_other_settings_train(changes, tmp_path):
    config = replace(SMALL, steps=2, validate_every=2, **changes)
    scores = train(config, tmp_path / "run")
    assert scores is not None
    assert 0 <= scores.miou <= 1
    assert train(config, tmp_path / "run", resume=True) is None


def test_class_weights_must_be_one_a_class(tmp_path):
    config = replace(SMALL, loss=LossConfig(class_weights=[1.0, 2.0]))
    with pytest.raises(ValueError, match="2 class weights for 4 classes"):
        train(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_the_poly_schedule_is_the_paper_s():
    model = CCNet(2, "tiny", channels=8, kernel_size=1, auxiliary_channels=None)
    config = OptimizerConfig()
    optimizer = build_optimizer(config, model)
    scheduler = build_scheduler(config, optimizer, 10)
    rates = []
    for _ in range(10):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    assert rates == pytest.approx([1e-2 * (1 - step / 10) ** 0.9 for step in range(10)])


def test_settings_out_of_range_are_refused():
    with pytest.raises(ValueError, match="steps must be ≥ 1, got 0"):
        TrainConfig(steps=0)


def test_a_start_from_other_classes_is_refused(uninterrupted, tmp_path):
    model = CCNet.from_pretrained(uninterrupted / "last")
    model.classes = ("ground", "green", "red", "blue")
    with pytest.raises(ValueError, match="class 1 of the model is 'green', of the data 'red'"):
        build_model_from(model, SMALL, Scenes())


def test_a_start_takes_the_normalisation_along_and_a_resumed_run_keeps_it(tmp_path):
    source = build_model(SMALL, Scenes(), mean=[0.0] * 3, std=[255.0] * 3)
    source.save_pretrained(tmp_path / "source")
    run = tmp_path / "run"
    with pytest.raises(DataError):
        train(SMALL, run, init=tmp_path / "source", transform=failing_at(1))
    train(SMALL, run, resume=True)
    assert CCNet.from_pretrained(run / "last").std.flatten().tolist() == [255.0] * 3


def test_a_start_keeps_the_architecture_that_no_flag_gives(tmp_path):
    model = replace(SMALL.model, backbone="resnet18", channels=8)
    config = replace(SMALL, model=model)
    rules = {"stem": "deep_32", "dilation": "uniform", "ceil_mode": True, "auxiliary_bias": True}
    source = build_model(config, Scenes(), **rules)
    started = build_model_from(source, config, Scenes())
    assert started.arguments.items() >= rules.items()
    torch.testing.assert_close(started.state_dict(), source.state_dict())
    assert inherited(started) == inherited(source)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"activation": "leaky_relu"}, "activation leaky_relu, the configuration relu; model.act"),
        ({"in_channels": 5}, "takes 5 channels, data has 3"),
    ],
)
def test_a_start_from_another_network_is_refused(changes, words):
    source = build_model(SMALL, Scenes(), **changes)
    with pytest.raises(ValueError, match=words):
        build_model_from(source, SMALL, Scenes())


def test_an_unreadable_sample_saves_what_was_learned(uninterrupted, tmp_path):
    run = tmp_path / "run"
    with pytest.raises(DataError, match=r"photo\.jpg"):
        train(SMALL, run, transform=failing_at(4 * 4 + 1))
    assert RunFolder(run).load()["step"] == 4
    train(SMALL, run, resume=True)
    assert_same_weights(uninterrupted, run)


def test_a_run_stopped_in_its_last_validation_resumes_with_it(uninterrupted, tmp_path, monkeypatch):
    run = tmp_path / "run"
    once = replace(SMALL, validate_every=SMALL.steps)
    with monkeypatch.context() as patch:
        patch.setattr(
            "ccnet.train.evaluate", Mock(side_effect=DataError("val.jpg: cannot be read"))
        )
        with pytest.raises(DataError, match=r"val\.jpg"):
            train(once, run)
    assert RunFolder(run).load()["step"] == SMALL.steps
    assert train(once, run, resume=True) is not None
    assert_same_weights(uninterrupted, run)
    assert (run / "model" / "model.safetensors").exists()


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["SIGINT", "SIGTERM"])
def test_a_signal_to_the_whole_group_saves_with_loader_workers_too(tmp_path, number):
    run = tmp_path / "run"
    flags = "--model.backbone=tiny --model.channels=16 --steps=100000 --validate-every=5 "
    flags += "--model.auxiliary_channels=null --num-workers=2 --device=cpu --precision=float32"
    command = [sys.executable, "-m", "ccnet", "train", "--run", str(run), *flags.split()]
    with subprocess.Popen(
        command, start_new_session=True, stderr=subprocess.PIPE, text=True, cwd=ROOT
    ) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if "step 10 " in line:
                break
        os.killpg(process.pid, number)
        errors = process.stderr.read()
    assert process.returncode == 130, errors
    assert "ccnet train --resume" in errors
    assert "Traceback" not in errors
    assert RunFolder(run).load()["step"] >= 10
