"""The bands that a run learns from."""

import pytest

from ccnet.config import DataConfig, TrainConfig
from ccnet.datasets import Scenes
from ccnet.datasets.folder import FolderDataset
from ccnet.datasets.transforms import RandomTransform
from ccnet.models.ccnet import CCNet
from ccnet.training.bands import BandsOfRun, choose_bands_of_run, with_bands
from ccnet.training.network import build_model_from, inherited
from tests.banded import write_folder


def config_of(**data):
    return TrainConfig(data=DataConfig(**data))


def test_bands_of_the_configuration_of_a_save_and_of_a_model(tmp_path):
    data = FolderDataset(write_folder(tmp_path / "data", "tif"), "train")
    assert choose_bands_of_run(config_of(), data, None, None) == BandsOfRun()
    asked = config_of(bands=[1, 5], value_range=[0.0, 4095.0])
    found = choose_bands_of_run(asked, data, None, None)
    assert found.bands.numbers == (1, 5)
    assert found.arguments["in_channels"] == len(found.arguments["mean"]) == 2
    assert found.applied(data)[0][0].shape == (48, 48, 2)
    model = CCNet(2, "tiny", channels=8, **found.arguments)
    assert choose_bands_of_run(config_of(), data, model, None) == found
    save = {"inherited": inherited(model)}
    assert choose_bands_of_run(config_of(), data, None, save) == found


def test_what_does_not_fit_bands_is_refused(tmp_path):
    data = FolderDataset(write_folder(tmp_path / "data", "tif"), "train")
    colors = RandomTransform((32, 32), saturation=0.3)
    asked = config_of(value_range="percentiles", augment=colors)
    with pytest.raises(ValueError, match=r"data\.augment\.saturation and hue are of RGB"):
        choose_bands_of_run(asked, data, None, None)
    with pytest.raises(ValueError, match="are of image files"):
        choose_bands_of_run(config_of(bands=[1]), Scenes(), None, None)
    found = choose_bands_of_run(config_of(value_range="percentiles"), data, None, None)
    with pytest.raises(ValueError, match="are of image files"):
        with_bands(Scenes(), found.bands)


def test_a_model_of_rgb_is_adapted_to_bands(tmp_path):
    data = FolderDataset(write_folder(tmp_path / "data", "tif"), "train")
    found = choose_bands_of_run(config_of(value_range="percentiles"), data, None, None)
    model = CCNet(2, "tiny", channels=8, classes=data.classes)
    config = TrainConfig()
    config = config.__class__(model=config.model.__class__(backbone="tiny", channels=8))
    fitted = build_model_from(model, config, data, found.arguments)
    assert (fitted.in_channels, fitted.bands) == (5, found.bands)
