"""The recipes in configs/: each holds only differences, says what to expect, and trains."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from ccnet.config import DataConfig, ModelConfig, TrainConfig, read_config, read_settings
from ccnet.datasets import DATASETS, DataError, Scenes
from ccnet.training.loop import train

RECIPES = sorted(Path(__file__).parents[1].joinpath("configs").glob("*.yaml"))


def readable(path: Path) -> Any:
    """A recipe as a parameter; one of a data set that there is not yet is expected to fail."""
    is_known = yaml.safe_load(path.read_text())["data"]["name"] in DATASETS
    later = pytest.mark.xfail(raises=DataError, strict=True, reason="a data set that is to come")
    return pytest.param(path, id=path.stem, marks=[] if is_known else [later])


each_recipe = pytest.mark.parametrize("path", [readable(path) for path in RECIPES])


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


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_a_recipe_says_how_it_is_used_and_what_to_expect(path):
    lines = path.read_text().splitlines()
    words = " ".join(line for line in lines if line.startswith("#"))
    assert "--data.root FOLDER" in words
    if path.stem != "folder":
        assert "mIoU" in words or "no score" in words
        assert "expect" in words or "reach" in words


@pytest.mark.slow
@each_recipe
def test_a_recipe_trains_three_steps_of_a_small_network(path, tmp_path, monkeypatch):
    """On the scenes, with small crops; loss, schedule, transform and all else are its own."""
    monkeypatch.setattr("ccnet.training.assembly.Scenes", short_scenes)
    config = read_config(path)
    assert config.data.augment is not None
    rates = min(config.optimizer.warmup_steps, 1)
    small = replace(
        config,
        data=DataConfig(augment=replace(config.data.augment, crop_size=(48, 48))),
        model=ModelConfig("tiny", channels=16, kernel_size=1, auxiliary_channels=8),
        optimizer=replace(config.optimizer, warmup_steps=rates),
        loss=replace(config.loss, class_weights=config.loss.class_weights and "auto"),
        steps=3,
        batch_size=4,
        validate_every=3,
        num_workers=0,
        device="cpu",
    )
    scores = train(small, tmp_path / "run")
    assert scores is not None
    assert 0 <= scores.miou <= 1


def short_scenes(split: str, num_images: int = 2) -> Scenes:
    return Scenes(split, num_images=min(num_images, 12))
