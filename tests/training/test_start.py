"""How a run starts: in a new folder, from its save, with data that changed or moved."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from ccnet.config import DataConfig, TrainConfig, read_config
from ccnet.datasets import DataError, Scenes
from ccnet.demo import SCENES
from ccnet.saving.provenance import read_provenance
from ccnet.saving.run_folder import RunFolder
from ccnet.training.run import Run
from ccnet.training.start import set_up


@pytest.fixture
def data(tmp_path):
    """Writes images of a class list to a folder; the names of its training images."""

    def write(*names: str, classes: tuple[str, ...] = ("ground", "thing"), folder: str = "data"):
        root = tmp_path / folder
        for split, stems in (("train", names), ("val", ("x", "y"))):
            for kind, array in (("images", np.zeros((32, 32, 3))), ("labels", np.eye(32))):
                (root / split / kind).mkdir(parents=True, exist_ok=True)
                for old in (root / split / kind).iterdir():
                    old.unlink()
                for stem in stems:
                    path = root / split / kind / f"{stem}.png"
                    Image.fromarray(array.astype(np.uint8)).save(path)
        (root / "dataset.yaml").write_text(yaml.safe_dump({"classes": list(classes)}))
        return replace(
            SCENES,
            data=DataConfig("folder", str(root)),
            model=replace(SCENES.model, channels=8),
            loss=replace(SCENES.loss, class_weights=None),
            steps=4,
            batch_size=2,
            pictures=0,
        )

    return write


@pytest.fixture
def start(tmp_path):
    """Sets up the run of a configuration; its logs are closed at the end of the test."""
    runs = []

    def start_one(config: TrainConfig, name: str = "run", **options) -> Run:
        runs.append(set_up(config, tmp_path / name, **options))
        return runs[-1]

    yield start_one
    for run in runs:
        run.progress.curves.close()


def saved_at(run: Run, step: int) -> Run:
    run.state.step = step
    run.save()
    return run


def test_a_run_keeps_its_classes_and_the_names_of_its_images(data, start):
    run = start(data("a", "b"))
    found = read_provenance(run.folder.data)
    assert found.classes == ("ground", "thing")
    assert found.training.names == ("train/images/a.png", "train/images/b.png")
    assert found.validation.number == 2
    scenes = read_provenance(start(replace(SCENES, steps=1), "scenes").folder.data)
    assert scenes.training.number == SCENES.data.num_images
    assert scenes.training.names is None


@pytest.mark.parametrize(
    ("classes", "words"),
    [
        (("ground", "thing", "bird"), "added 'bird'"),
        (("thing", "ground"), "class 0 is 'thing' and was 'ground'"),
    ],
)
def test_a_run_is_not_resumed_with_other_classes(data, start, classes, words):
    run = saved_at(start(data("a", "b")), 2)
    before = run.folder.data.read_bytes()
    config = data("a", "b", classes=classes)
    for accept in (False, True):
        with pytest.raises(DataError, match=rf"data\.json: the classes of the data .*{words};"):
            start(config, resume=True, accept_new_data=accept)
    assert run.folder.data.read_bytes() == before


def test_a_run_is_resumed_with_other_images_only_if_they_are_accepted(data, start):
    run = start(data("a", "b"))
    run.state.best_miou = 0.5
    saved_at(run, 2)
    config = data("a", "b", "c")
    with pytest.raises(DataError, match=r"1 image added to the training data \('train/images/c"):
        start(config, resume=True)
    resumed = start(config, resume=True, accept_new_data=True)
    assert resumed.saved_step == -1  # it is saved at once
    assert resumed.state.best_miou == 0.5
    (change,) = read_provenance(run.folder.data).accepted
    assert change["step"] == 2
    saved_at(resumed, 3)
    assert start(config, resume=True).saved_step == 3


def test_scores_on_other_validation_images_do_not_count_as_the_best(data, start):
    run = start(data("a", "b"))
    run.state.best_miou = 0.5
    saved_at(run, 2)
    for kind in ("images", "labels"):
        (run.folder.path.parent / "data" / "val" / kind / "y.png").unlink()
    resumed = start(run.config, resume=True, accept_new_data=True)
    assert resumed.state.best_miou == -np.inf


def test_data_that_moved_are_accepted_and_data_that_are_others_are_not(data, start, tmp_path):
    run = saved_at(start(data("a", "b")), 2)
    (tmp_path / "data").rename(tmp_path / "moved")
    moved = DataConfig("folder", str(tmp_path / "moved"))
    start(replace(run.config, data=moved), resume=True)
    assert read_config(run.folder.config).data == moved
    start(read_config(run.folder.config), resume=True)
    other = data("a", "z", folder="other")
    with pytest.raises(DataError, match="1 image added to the training data"):
        start(other, resume=True)
    assert read_config(run.folder.config).data == moved


def test_a_run_of_an_earlier_version_resumes_and_says_that_nothing_is_compared(data, start, capsys):
    run = saved_at(start(data("a", "b")), 2)
    run.folder.data.unlink()
    resumed = start(data("a", "b", "c"), resume=True)
    assert "has no data.json: it was made by an earlier version" in capsys.readouterr().err
    assert resumed.saved_step == 2
    assert read_provenance(run.folder.data).training.number == 3


def test_data_sets_may_be_objects(start, tmp_path):
    config = replace(SCENES, steps=2, batch_size=2, pictures=0)
    sets = Scenes("train", num_images=6, seed=3), Scenes("val", num_images=2, seed=3)
    run = start(config, data=sets)
    assert run.data is sets[0]
    run.validate()
    assert run.model.metrics is not None
    assert (run.model.metrics["dataset"], run.model.metrics["split"]) == ("Scenes", "validation")
    with pytest.raises(DataError, match="was given its data sets by a Python program"):
        start(config, resume=True)
    assert start(config, data=sets, resume=True).saved_step == 0


def test_a_restarted_run_goes_on_by_the_configuration_that_it_wrote(start, monkeypatch):
    """torchrun starts it again by the same flags, which may leave steps to a measurement."""
    config = replace(SCENES, steps=4, batch_size=2, pictures=0)
    saved_at(start(config), 2)
    monkeypatch.setattr("ccnet.training.start.is_restarted", lambda: True)
    again = replace(config, steps=60, minutes=3.0, num_workers=1)
    resumed = start(again)
    assert (resumed.config.steps, resumed.config.minutes) == (4, None)
    assert resumed.config.num_workers == 1


def test_a_start_from_a_model_writes_its_architecture(start, tmp_path, capsys):
    model = replace(SCENES.model, channels=8)
    source = start(replace(SCENES, steps=2, batch_size=2, model=model, pictures=0))
    with torch.no_grad():
        source.model.head.classifier.bias.fill_(3.0)
    source.validation_data = Scenes("val", num_images=3)
    source.validate()
    plain = TrainConfig(steps=2, batch_size=2, num_workers=0, device="cpu", pictures=0)
    run = start(plain, "fine", init=source.folder.best_model)
    assert read_config(run.folder.config).model == replace(model)
    assert run.model.head.classifier.bias.tolist() == [3.0] * 4
    assert "model: tiny, 8 channels, recurrence 2; all of its classes" in capsys.readouterr().err
    run.save()
    assert start(read_config(run.folder.config), "fine", resume=True).saved_step == 0


def test_a_picture_of_predictions_is_drawn_at_a_validation(start):
    run = start(replace(SCENES, steps=4, batch_size=2, validate_every=2), data=None)
    run.validation_data = Scenes("val", num_images=3)
    run.state.step = 2
    run.validate()
    (path,) = run.folder.pictures.iterdir()
    assert path.name == "step-00000002.png"
    with Image.open(path) as picture:
        assert picture.size[1] > picture.size[0]  # three rows and a legend
    assert RunFolder(run.folder.path).can_resume()
