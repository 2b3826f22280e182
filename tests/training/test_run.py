"""A run as it is set up, saved and validated."""

from dataclasses import replace

import pytest
import torch

from ccnet.config import DataConfig, LossConfig, read_config
from ccnet.datasets import Scenes
from ccnet.demo import SCENES
from ccnet.models.ccnet import CCNet
from ccnet.saving.run_folder import RunFolder
from ccnet.training.run import Run, evaluation_mode
from ccnet.training.start import set_up

SMALL = replace(
    SCENES,
    data=DataConfig(num_images=40),
    model=replace(SCENES.model, channels=8, auxiliary_channels=8, dropout=0.1),
    steps=4,
    batch_size=2,
    validate_every=2,
)


@pytest.fixture
def set_up_run(tmp_path, monkeypatch):
    """Sets up runs, which validate on two scenes and are closed at the end of the test."""
    monkeypatch.setattr("ccnet.training.assembly.Scenes", short_scenes)
    runs = []

    def set_up_one(name: str = "run", **changes: object) -> Run:
        resume = bool(changes.pop("resume", False))
        runs.append(set_up(replace(SMALL, **changes), tmp_path / name, resume=resume))
        return runs[-1]

    yield set_up_one
    for run in runs:
        run.progress.curves.close()


def short_scenes(split: str, num_images: int = 2) -> Scenes:
    return Scenes(split, num_images=num_images)


def modes(run: Run) -> dict[str, bool]:
    return {
        f"{model}.{name}": module.training
        for model in ("model", "validated_model", "network")
        for name, module in getattr(run, model).named_modules()
    }


def test_measured_class_weights_are_written_and_a_resumed_run_takes_them(
    set_up_run, tmp_path, monkeypatch
):
    loss = LossConfig(class_weights="auto")
    first = set_up_run(loss=loss)
    weights = first.config.loss.class_weights
    assert len(weights) == 4
    first.save()
    own = read_config(tmp_path / "run" / "config.yaml")
    assert own.loss.class_weights == weights
    monkeypatch.setattr("ccnet.training.assembly.measured_weights", pytest.fail)
    for given in (own.loss, loss):  # torchrun starts a process again with the flags of the start
        resumed = set_up_run(resume=True, loss=given)
        assert resumed.config.loss.class_weights == weights
        assert resumed.criterion.class_weights.tolist() == pytest.approx(weights)
        resumed.save()


def test_ohem_that_does_nothing_is_told_at_the_start(set_up_run, capsys):
    set_up_run(loss=LossConfig(ohem_threshold=0.7, ohem_min_kept=100_000))
    assert "ohem_min_kept is 100000, and a batch of 2 images of 64×64" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("changes", "in_evaluation"),
    [
        ({}, 0),
        ({"freeze": ["backbone.conv1"]}, 1),
        ({"freeze_norms": True}, 6),
        ({"freeze": ["head.reduction"], "ema_decay": 0.5}, 1),
        ({"recompute": ["backbone.conv1", "head.attention"]}, 0),
    ],
    ids=["all learn", "frozen part", "frozen norms", "moving average", "recomputed"],
)
def test_a_validation_leaves_every_module_in_its_mode(set_up_run, changes, in_evaluation):
    run = set_up_run(**changes)
    before = modes(run)
    learned = [module for module in run.model.modules() if not module.training]
    assert len(learned) == in_evaluation
    seen = []
    run.validated_model.register_forward_hook(
        lambda module, *_: seen.extend(part.training for part in module.modules())
    )
    statistics = [buffer.clone() for buffer in run.validated_model.buffers()]
    run.validate()
    assert seen
    assert not any(seen)
    assert modes(run) == before
    assert all(map(torch.equal, statistics, run.validated_model.buffers()))


def test_modes_come_back_after_an_error():
    model = CCNet(2, "tiny", channels=8, kernel_size=1, auxiliary_channels=None)
    model.train()
    model.backbone.conv1[1].eval()
    before = [module.training for module in model.modules()]

    def fail_in_evaluation() -> None:
        with evaluation_mode(model):
            assert not any(module.training for module in model.modules())
            raise ValueError("unreadable")

    with pytest.raises(ValueError, match="unreadable"):
        fail_in_evaluation()
    assert [module.training for module in model.modules()] == before


def test_a_validation_writes_the_model_and_keeps_the_best(set_up_run):
    run = set_up_run()
    scores = run.validate()
    assert (run.saved_step, run.state.validated) == (0, 0)
    for folder in (run.folder.best_model, run.folder.last_model):
        assert CCNet.from_pretrained(folder).metrics["miou"] == pytest.approx(scores.miou)
    best = run.folder.best_model.stat().st_ino
    run.validate()  # not better
    assert run.folder.best_model.stat().st_ino == best
    assert run.state.best_miou == scores.miou


def test_a_save_is_due_after_steps_or_seconds(set_up_run, monkeypatch):
    run = set_up_run(save_every=3, save_seconds=60.0)
    run.save()
    assert run.saved_step == 0
    assert not run.save_is_due()
    run.state.step = 2
    assert not run.save_is_due()
    run.saved_time -= 61
    assert run.save_is_due()
    run.save()
    assert not run.save_is_due()
    run.state.step = 5
    assert run.save_is_due()


def test_a_run_that_is_resumed_has_the_state_of_its_save(set_up_run):
    run = set_up_run(ema_decay=0.5, seed=1)
    assert run.saved_step == -1
    with torch.no_grad():
        for parameter in run.model.parameters():
            parameter.add_(1)
    run.state.step = 3
    run.save()
    resumed = set_up_run(ema_decay=0.5, seed=1, resume=True)
    assert (resumed.state.step, resumed.saved_step) == (3, 3)
    assert len(resumed.batches) == 1
    for name, value in run.model.state_dict().items():
        assert torch.equal(resumed.model.state_dict()[name], value), name


def test_automatic_precision_is_resolved_once(set_up_run, monkeypatch):
    monkeypatch.setattr("ccnet.runtime.device.bfloat16_is_fast", lambda _: True)
    run = set_up_run(precision="auto")
    assert run.config.precision == "bfloat16"
    assert "precision: bfloat16" in run.folder.config.read_text()


def test_nothing_is_written_before_everything_is_set_up(tmp_path):
    with pytest.raises(ValueError, match="batch_size 2 cannot be shared"):
        set_up(replace(SMALL, accumulate=3), tmp_path / "run")
    assert not RunFolder(tmp_path / "run").path.exists()


def test_a_network_that_is_not_finite_is_neither_saved_nor_validated(set_up_run):
    run = set_up_run()
    run.save()
    with torch.no_grad():
        run.model.head.classifier.bias[0] = torch.nan
    run.state.step = 1
    for write in (run.save, run.validate):
        with pytest.raises(FloatingPointError, match=r"not finite \(head\.classifier\.bias\)"):
            write()
    assert run.folder.load()["step"] == 0
    assert not run.folder.last_model.exists()
