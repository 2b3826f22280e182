"""Where a command computes: several processes learn what one process does."""

from dataclasses import replace

import pytest
import torch
import yaml

from ccnet.config import LossConfig, OptimizerConfig
from ccnet.runtime import engine
from ccnet.saving.run_folder import RunFolder
from ccnet.training.loop import train
from tests.commands import TEN, assert_close, run_command, write_config

OHEM = LossConfig(ohem_threshold=0.1, ohem_min_kept=500)  # too few below 0.1: processes must agree
EVERYTHING = replace(
    OHEM,
    class_weights=[0.2, 1.0, 1.0, 1.0],
    focal_gamma=1.0,
    label_smoothing=0.1,
    dice=1.0,
    lovasz=0.5,
    category_consistent=1.0,
)
# the category consistent loss has gradients ten times as large, and so have rounding errors
ALL = {"loss": EVERYTHING, "optimizer": OptimizerConfig(lr=0.005)}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("changes", "machine"),
    [
        ({}, {}),
        ({"loss": OHEM}, {}),
        ({"loss": OHEM}, {"accumulate": 2}),
        ({}, {"strategy": "fsdp", "accumulate": 2}),
        (ALL, {}),
        (ALL, {"strategy": "fsdp", "accumulate": 2}),
    ],
    ids=[
        "cross-entropy",
        "ohem",
        "ohem in two parts",
        "fsdp in two parts",
        "every loss",
        "every loss, fsdp in two parts",
    ],
)
def test_two_processes_learn_what_one_does(tmp_path, changes, machine):
    config = replace(TEN, **changes)
    train(config, tmp_path / "one")
    two = write_config(replace(config, devices=2, **machine), tmp_path / "two.yaml")
    run_command("train", two, f"--run={tmp_path / 'two'}")
    assert_close(tmp_path / "one", tmp_path / "two")
    logs = [(tmp_path / name / "log.csv").read_text().splitlines() for name in ("one", "two")]
    for one, two in zip(*logs, strict=True):
        assert one.split(",")[0] == two.split(",")[0]
    assert logs[0][-1] == logs[1][-1]  # the validation's scores


@pytest.mark.slow
@pytest.mark.parametrize(("before", "after"), [("ddp", "fsdp"), ("fsdp", "ddp")])
def test_a_run_goes_on_with_other_devices(tmp_path, before, after):
    """Stopped on two processes of one strategy, resumed on two of the other, ended on one."""
    constant = OptimizerConfig(lr=0.02, final_lr=0.02)  # so that `steps` may grow
    train(replace(TEN, optimizer=constant), tmp_path / "whole")
    config = replace(TEN, optimizer=constant, validate_every=4, devices=2, strategy=before)
    first, run = replace(config, steps=4), tmp_path / "run"
    run_command("train", write_config(first, tmp_path / "first.yaml"), f"--run={run}")
    for steps, flags in ((8, ("--devices=2", f"--strategy={after}")), (10, ("--devices=1",))):
        longer = yaml.safe_load((run / "config.yaml").read_text()) | {"steps": steps}
        (run / "config.yaml").write_text(yaml.safe_dump(longer))
        run_command("train", f"--resume={run}", *flags)
    assert RunFolder(run).load()["step"] == 10
    assert_close(tmp_path / "whole", run)


@pytest.mark.parametrize(
    ("variables", "asked", "found"),
    [
        ({}, (None, None), (1, 1)),
        ({"LOCAL_WORLD_SIZE": "8", "WORLD_SIZE": "32"}, (None, None), (8, 4)),
        ({"LOCAL_WORLD_SIZE": "8", "WORLD_SIZE": "32"}, (8, 4), (8, 4)),
        (
            {
                "SLURM_STEP_ID": "0",
                "SLURM_NTASKS": "32",
                "SLURM_NNODES": "4",
                "SLURM_JOB_NAME": "x",
            },
            (8, 4),
            (8, 4),
        ),
        ({"SLURM_NTASKS": "4", "SLURM_JOB_NAME": "no srun"}, (None, None), (1, 1)),
    ],
)
def test_processes_are_counted_as_they_were_started(monkeypatch, variables, asked, found):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert engine.count_processes(*asked) == found


@pytest.mark.parametrize("variables", [{}, {"LOCAL_WORLD_SIZE": "2", "WORLD_SIZE": "2"}])
def test_other_processes_than_were_asked_for_are_an_error(monkeypatch, variables):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ValueError, match=r"asked for 4 devices on 1 nodes, but \d processes"):
        engine.count_processes(4, None)


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ({"device": "cuda:1", "devices": 2}, "names one device"),
        ({"device": "mps", "devices": 2}, "there is one MPS device"),
        (
            {"device": "cpu", "devices": 2, "strategy": "fsdp", "precision": "float16"},
            "not in float16",
        ),
    ],
)
def test_devices_that_do_not_fit_are_refused(monkeypatch, flags, said):
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    with pytest.raises(ValueError, match=said):
        engine.start(**flags)


@pytest.mark.parametrize("precision", ["float32", "bfloat16", "float16"])
def test_float16_alone_scales_its_loss(precision):
    own = engine.start("cpu", precision=precision)
    assert own.precision == precision
    assert (own.scaler is not None) == (precision == "float16")


def test_more_devices_than_gpus_are_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(ValueError, match="4 devices asked for, and 2 CUDA devices are here"):
        engine.require_devices(torch.device("cuda"), 4, 4)
