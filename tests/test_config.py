"""A run's configuration: read back, and changed on resuming only in what is the machine's."""

from dataclasses import replace

import pytest

from ccnet.config import TrainConfig, read_config, resumed_config
from ccnet.flags import parse
from ccnet.training.run_folder import to_yaml

OWN = TrainConfig(steps=100, num_workers=8, strategy="fsdp", devices=4, recompute=["head"])


@pytest.fixture
def run(tmp_path):
    (tmp_path / "config.yaml").write_text(to_yaml(OWN))
    return tmp_path


def resumed(run, *flags: str) -> TrainConfig:
    """As the command line has it."""
    _, arguments = parse(["train", "--resume", str(run), *flags])
    return resumed_config(read_config(run / "config.yaml"), arguments["config"])


def test_a_configuration_comes_back(run):
    assert read_config(run / "config.yaml") == OWN
    assert resumed(run) == OWN


@pytest.mark.parametrize(
    ("flags", "changes"),
    [
        (["--devices=2"], {"devices": 2}),
        (["--strategy=ddp", "--num_workers=2"], {"strategy": "ddp", "num_workers": 2}),
        (["--save_seconds=600"], {}),
        (["--steps=100"], {}),
    ],
    ids=["other", "back to the default", "the default", "its own"],
)
def test_where_a_run_goes_on_may_change(run, flags, changes):
    assert resumed(run, *flags) == replace(OWN, **changes)


@pytest.mark.parametrize("flag", ["--steps=60000", "--optimizer.lr=1", "--recompute=[]"])
def test_what_a_run_computes_may_not(run, flag):
    name = flag[2:].split("=")[0].split(".")[0]
    with pytest.raises(ValueError, match=f"{name} cannot be given with it, only device, devices"):
        resumed(run, flag)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"accumulate": 0}, "accumulate must be a whole number from 1"),
        ({"ema_decay": 1.0}, "ema_decay must be .* above 0 to below 1"),
    ],
)
def test_values_that_make_no_sense_are_refused(changes, said):
    with pytest.raises(ValueError, match=said):
        TrainConfig(**changes)
