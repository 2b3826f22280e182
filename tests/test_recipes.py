"""The recipes in configs/: each holds only differences, says what to expect, and trains."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ccnet.config import TrainConfig, read_config, read_settings
from ccnet.training.loop import train
from tests.named_data import WRITERS

RECIPES = sorted(Path(__file__).parents[1].joinpath("configs").glob("*.yaml"))


each_recipe = pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)


def same_as_default(settings: dict[str, Any], default: Any, owner: str = "") -> list[str]:
    """The keys of a recipe whose values are the defaults anyway."""
    found = []
    for key, value in settings.items():
        own = getattr(default, key)
        if isinstance(value, dict) and own is not None:
            found += same_as_default(value, own, f"{owner}{key}.")
        elif value == own:
            found.append(f"{owner}{key}")
    return found


@each_recipe
def test_a_recipe_holds_only_differences_from_the_defaults(path):
    assert not same_as_default(read_settings(path), TrainConfig())
    read_config(path)  # with values that fit each other


@each_recipe
def test_a_recipe_says_how_it_is_used_and_what_to_expect(path):
    lines = path.read_text().splitlines()
    words = " ".join(line for line in lines if line.startswith("#"))
    assert "--data.root FOLDER" in words
    if path.stem != "folder":
        assert "mIoU" in words or "no score" in words
        assert "expect" in words or "reach" in words


@pytest.mark.slow
@each_recipe
def test_a_recipe_trains_three_steps_on_its_data_set(path, tmp_path):
    """With a tiny backbone, small crops and tiles; loss, optimizer and schedule are its own."""
    config = read_config(path)
    WRITERS[config.data.name](tmp_path / "data")
    augment = config.data.augment
    assert augment is not None
    tiles = {} if config.protocol.tile is None else {"tile": 40, "stride": 24}
    small = replace(
        config,
        data=replace(
            config.data,
            root=str(tmp_path / "data"),
            augment=replace(augment, crop_size=(40, 40)),
        ),
        model=replace(config.model, **TINY),
        protocol=replace(config.protocol, **tiles),
        steps=3,
        batch_size=4,
        validate_every=3,
        num_workers=0,
        device="cpu",
    )
    scores = train(small, tmp_path / "run")
    assert scores is not None
    assert 0 <= scores.miou <= 1
    log = (tmp_path / "run/log.csv").read_text()
    assert "nan" not in log


TINY = {
    "backbone": "tiny",
    "pretrained": None,
    "channels": 16,
    "auxiliary_channels": 8,
    "stem": None,
    "output_stride": None,
    "refinement": None,
    "dilation": None,
    "ceil_mode": None,
}
"""What a recipe's network becomes; options of a ResNet go with it."""
