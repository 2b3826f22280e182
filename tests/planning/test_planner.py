"""From a folder and flags to a configuration."""

import numpy as np
import pytest
from PIL import Image

from ccnet.config import TrainConfig
from ccnet.datasets import DataError
from ccnet.planning import pretrained
from ccnet.planning.planner import flattened, merged, nested, plan_run


@pytest.fixture(autouse=True)
def no_downloads(monkeypatch):
    monkeypatch.setattr(pretrained, "fetch", lambda url: None)


@pytest.fixture
def folder(tmp_path):
    rng = np.random.default_rng(0)
    for split, count in (("train", 5), ("val", 2)):
        for kind in ("images", "labels"):
            (tmp_path / split / kind).mkdir(parents=True)
        for i in range(count):
            pixels = rng.integers(0, 256, (70, 90, 3)).astype(np.uint8)
            Image.fromarray(pixels).save(tmp_path / split / "images" / f"{i}.png")
            label = np.zeros((70, 90), np.uint8)
            label[:5] = 1
            Image.fromarray(label).save(tmp_path / split / "labels" / f"{i}.png")
    (tmp_path / "dataset.yaml").write_text("classes: [ground, sky]")
    return tmp_path


def test_a_folder_becomes_a_run(folder):
    seen = []
    given = {"loss": {"class_weights": [1.0, 2.0]}}
    planned = plan_run(folder, given, progress=lambda done, total: seen.append((done, total)))
    config = planned.config
    assert isinstance(config, TrainConfig)
    assert (config.data.name, config.data.root) == ("folder", str(folder))
    assert config.data.augment.crop_size == (64, 64)
    assert config.model.pretrained == "imagenet"
    assert config.loss.class_weights == [1.0, 2.0]
    assert planned.classes == ("ground", "sky")
    assert planned.facts.num_images == 5
    assert seen[-1] == (5, 5)


def test_what_is_given_is_kept(folder):
    given = {
        "model": {"backbone": "tiny", "pretrained": None},
        "data": {"augment": {"crop_size": [32, 48]}},
        "loss": {"class_weights": None},
        "steps": 7,
    }
    planned = plan_run(folder, given)
    assert planned.config.model.backbone == "tiny"
    assert planned.config.model.pretrained is None
    assert planned.config.data.augment.crop_size == (32, 48)
    assert planned.config.data.augment.brightness == 0.3
    assert planned.config.steps == 7
    assert not {flag for flag, _ in flattened(given)} & {c.flag for c in planned.choices}


def test_part_of_the_transform_is_given_and_the_rest_chosen(folder):
    config = plan_run(folder, {"data": {"augment": {"scale": [0.9, 1.1]}}}).config
    assert config.data.augment.scale == (0.9, 1.1)
    assert config.data.augment.crop_size == (64, 64)


def test_a_folder_that_cannot_be_used_is_an_error(tmp_path):
    with pytest.raises(DataError):
        plan_run(tmp_path, {})


def test_nested_keys_and_flags_are_the_same():
    settings = merged({"model": {"backbone": "tiny"}, "steps": 3}, {"model": {"channels": 8}})
    assert settings == {"model": {"backbone": "tiny", "channels": 8}, "steps": 3}
    assert dict(flattened(settings)) == {"model.backbone": "tiny", "model.channels": 8, "steps": 3}
    assert nested("model.backbone", "tiny") == {"model": {"backbone": "tiny"}}
    assert merged({"a": {"b": 1}}, {"a": None}) == {"a": None}
