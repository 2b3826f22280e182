"""Training: reproducible, resumable, and clear about what does not fit."""

import csv
import os
import re
import signal
import subprocess
import sys
from dataclasses import replace
from itertools import count
from pathlib import Path
from unittest.mock import Mock
from zipfile import ZipFile

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from ccnet.config import DataConfig, LossConfig, OptimizerConfig, TrainConfig, read_config
from ccnet.datasets import DataError, SampleDataset, Scenes
from ccnet.demo import SCENES
from ccnet.losses import SegmentationLoss, segmentation
from ccnet.models.ccnet import CCNet
from ccnet.prediction.evaluate import evaluate
from ccnet.prediction.predictor import Predictor
from ccnet.saving.run_folder import RunFolder
from ccnet.training.loop import train
from ccnet.training.network import build_model
from ccnet.training.samples import TrainingBatches

pytestmark = pytest.mark.slow  # whole runs

ROOT = Path(__file__).parents[2]

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
    folders = {"model", "last", "logs", "checkpoints", "pictures"}
    assert names == folders | {"log.csv", "config.yaml", "run.json", "data.json", "run.lock"}
    pictures = sorted(path.name for path in (uninterrupted / "pictures").iterdir())
    assert pictures == ["step-00000003.png", "step-00000006.png"]
    assert any((uninterrupted / "logs").glob("events.*"))
    with (uninterrupted / "log.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["step"]) for row in rows if row["loss"]] == [2, 4, 6]
    assert [int(row["step"]) for row in rows if row["miou"]] == [3, 6]
    model = CCNet.from_pretrained(uninterrupted / "model")
    assert model.classes == ("ground", "red", "green", "blue")
    assert model.palette is not None


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
    handlers = [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)]
    with pytest.raises(KeyboardInterrupt):
        train(SMALL, run, transform=interrupt_in_the_fifth_step)
    assert [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)] == handlers
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


def test_a_run_of_the_first_version_resumes(tmp_path):
    """Two of its four steps were made and saved by version 0.1, which went on as told here."""
    with ZipFile(Path(__file__).parent / "run_of_version_0.1.zip") as archive:
        archive.extractall(tmp_path)
    config = read_config(tmp_path / "config.yaml")
    scores = train(config, tmp_path, resume=True)
    assert scores is not None
    assert scores.miou == pytest.approx(0.00934425, abs=0.002)
    with (tmp_path / "log.csv").open(newline="") as file:
        losses = {row["step"]: row["loss"] for row in csv.DictReader(file) if row["loss"]}
    assert {step: float(loss) for step, loss in losses.items()} == pytest.approx(
        {"1": 1.3533, "2": 1.26462, "3": 1.15221, "4": 1.22983}, rel=1e-4
    )


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
    with pytest.raises(ValueError, match="has channels 16, the configuration 24"):
        train(other, tmp_path / "other", init=uninterrupted / "last")


WILD = replace(SMALL, optimizer=OptimizerConfig(name="sgd", lr=1e30))


def test_a_loss_that_is_not_finite_stops_the_run_and_names_its_files(tmp_path):
    said = r"at step (\d), the gradient's norm \S+, the weights' \S+; its files: (.*?)\. A lower"
    with pytest.raises(FloatingPointError, match=said) as caught:
        train(WILD, tmp_path / "run")
    step, files = re.search(said, str(caught.value)).groups()
    (batch,) = TrainingBatches(40, 4, 6, SMALL.seed).parts_of(int(step))
    assert files == ", ".join(Scenes().name(index) for _, index in batch)
    kept = RunFolder(tmp_path / "run").load()
    assert all(value.isfinite().all() for value in kept["model"].values())


@pytest.mark.parametrize("precision", ["float32", "float16"])
def test_a_step_that_is_not_finite_can_be_left_out(tmp_path, monkeypatch, capsys, precision):
    """A batch whose loss is nan changes neither weights nor statistics, and the run goes on."""
    calls = count()

    def nan_in_the_third_step(self, logits, labels, divisors=None, embedding=None):
        loss = SegmentationLoss.forward(self, logits, labels, divisors, embedding)
        return loss * torch.nan if next(calls) == 2 else loss

    sometimes = type("Sometimes", (SegmentationLoss,), {"forward": nan_in_the_third_step})
    monkeypatch.setattr("ccnet.training.assembly.SegmentationLoss", sometimes)
    model = replace(SMALL.model, dropout=0.0)
    config = replace(SMALL, model=model, non_finite="skip", precision=precision, validate_every=6)
    run = tmp_path / "run"
    with pytest.raises(DataError):  # reading the fourth step
        train(replace(config, save_every=1), run, transform=failing_at(4 * 3 + 1))
    assert "left out: the loss is nan at step 2" in capsys.readouterr().err
    before, after = (RunFolder(run).read(path) for path in sorted((run / "checkpoints").iterdir()))
    assert (before["step"], after["step"]) == (2, 3)
    for name, value in before["model"].items():
        assert torch.equal(after["model"][name], value), name
    assert train(config, run, resume=True) is not None


def test_too_many_steps_left_out_in_a_row_stop_the_run(tmp_path):
    wild = replace(WILD, non_finite="skip", steps=30, validate_every=30)
    with pytest.raises(FloatingPointError, match="the loss is"):
        train(wild, tmp_path / "run")
    assert RunFolder(tmp_path / "run").load()["step"] == 0


@pytest.mark.parametrize(
    "loss",
    [
        LossConfig(),
        LossConfig(ohem_threshold=0.1, ohem_min_kept=500),
        LossConfig(dice=1.0, lovasz=0.5, category_consistent=1.0),
    ],
    ids=["cross-entropy", "ohem", "dice, lovasz and consistency"],
)
def test_accumulation_is_exact(tmp_path, loss):
    """Two and four parts of a batch learn what the whole batch does."""
    model = replace(SMALL.model, dropout=0.0)
    sgd = OptimizerConfig(lr=0.05)
    config = replace(SMALL, loss=loss, model=model, optimizer=sgd, freeze_norms=True, batch_size=8)
    for parts in (1, 2, 4):
        train(replace(config, accumulate=parts), tmp_path / str(parts))
    for parts in "24":
        for name, value in weights(tmp_path / "1").items():
            torch.testing.assert_close(
                weights(tmp_path / parts)[name], value, rtol=0, atol=1e-6, msg=name
            )


def test_ohem_over_parts_draws_the_same_dropout_twice(tmp_path, monkeypatch):
    """The pass that ranks the pixels sees the probabilities that the pass that learns sees."""
    seen = []
    probability = segmentation.true_class_probability

    def record(logits, labels):
        seen.append(probability(logits, labels))
        return seen[-1]

    monkeypatch.setattr("ccnet.losses.segmentation.true_class_probability", record)
    loss = LossConfig(ohem_threshold=0.7, ohem_min_kept=500)
    model = replace(SMALL.model, dropout=0.5)
    one = replace(SMALL, loss=loss, model=model, steps=1, validate_every=1, accumulate=2)
    train(one, tmp_path / "run")
    assert len(seen) == 4
    for ranked, learned in zip(seen[:2], seen[2:], strict=True):
        assert torch.equal(ranked, learned)


def test_recomputing_parts_changes_nothing(uninterrupted, tmp_path):
    names = ["backbone.conv1", "backbone.conv2", "head.attention", "head.dropout", "auxiliary_head"]
    train(replace(SMALL, recompute=names), tmp_path / "run")
    assert_same_weights(uninterrupted, tmp_path / "run")


def test_frozen_parts_and_norms_stay_as_they_were(tmp_path):
    for index, frozen in enumerate(({"freeze": ["backbone.conv1"]}, {"freeze_norms": True})):
        run = tmp_path / str(index)
        train(replace(SMALL, save_every=6, validate_every=6, **frozen), run)
        first = torch.load(min((run / "checkpoints").iterdir()), weights_only=True)["model"]
        changed = {
            name for name, value in weights(run).items() if not torch.equal(value, first[name])
        }
        norm = {"weight", "bias", "running_mean", "running_var", "num_batches_tracked"}
        norms = {f"head.reduction.1.{leaf}" for leaf in norm}
        assert changed & norms == (norms if index == 0 else set())
        assert any("conv1" in name for name in changed) == (index == 1)
        assert "head.classifier.weight" in changed


def test_the_moving_average_is_what_is_validated_and_kept(tmp_path):
    train(replace(SMALL, ema_decay=0.5), tmp_path / "run")
    state = RunFolder(tmp_path / "run").load()
    kept = weights(tmp_path / "run")
    average = {
        key.removeprefix("module."): value
        for key, value in state["others"]["average"].items()
        if key != "n_averaged"
    }
    assert state["others"]["average"]["n_averaged"] == SMALL.steps
    for name, value in kept.items():
        assert torch.equal(value, average[name]), name
    assert not torch.equal(kept["head.classifier.weight"], state["model"]["head.classifier.weight"])


@pytest.mark.unchecked  # torch traces the annotated code
@pytest.mark.parametrize("weight", [0.0, 1.0], ids=["plain", "with an embedding"])
def test_a_compiled_network_takes_changing_sizes(tmp_path, weight):
    """Crops of three sizes in a run, and validation at a fourth; losses as without compilation."""
    sizes = count()

    def crop(image, label):
        side = 32 + 16 * (next(sizes) // 4 % 3)
        return image[:side, :side], label[:side, :side]

    losses = []
    model = replace(SMALL.model, dropout=0.0)  # a compiled one draws other numbers
    for compiled in (False, True):
        run = tmp_path / str(compiled)
        sizes = count()
        config = replace(SMALL, model=model, loss=LossConfig(category_consistent=weight))
        train(replace(config, compile=compiled, log_every=1), run, transform=crop)
        with (run / "log.csv").open(newline="") as file:
            losses.append([float(row["loss"]) for row in csv.DictReader(file) if row["loss"]])
    assert losses[1] == pytest.approx(losses[0], rel=1e-3)


def test_a_run_with_every_loss_resumes_to_the_same_weights(tmp_path):
    loss = LossConfig(class_weights="auto", dice=1.0, lovasz=0.5, category_consistent=1.0)
    config = replace(SMALL, loss=loss, accumulate=2)
    train(config, tmp_path / "whole")
    with pytest.raises(DataError):
        train(config, tmp_path / "run", transform=failing_at(17))
    own = read_config(tmp_path / "run" / "config.yaml")
    assert own.loss == read_config(tmp_path / "whole" / "config.yaml").loss
    train(own, tmp_path / "run", resume=True)
    assert_same_weights(tmp_path / "whole", tmp_path / "run")


def test_a_run_that_lacked_memory_resumes(tmp_path, monkeypatch):
    def fail(*_, **__):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    with monkeypatch.context() as patch:
        patch.setattr(CCNet, "forward", fail)
        with pytest.raises(MemoryError, match=r"crops of whole images, batch_size 4"):
            train(SMALL, tmp_path / "run")
    assert train(SMALL, tmp_path / "run", resume=True) is not None


def test_a_batch_that_cannot_be_shared_is_refused(tmp_path):
    with pytest.raises(ValueError, match="batch_size 4 cannot be shared by 1 processes in 3 parts"):
        train(replace(SMALL, accumulate=3), tmp_path / "run")


@pytest.mark.parametrize(
    "changes",
    [
        {"precision": "bfloat16"},
        {"precision": "float16"},
        {"channels_last": False},
        {"optimizer": OptimizerConfig(clip_norm=1.0)},  # and the poly schedule
        {"model": replace(SMALL.model, recurrence=0, auxiliary_channels=None)},
        {"ema_decay": 0.9, "recompute": ["backbone.conv1", "head"]},
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


def test_settings_out_of_range_are_refused():
    with pytest.raises(ValueError, match=r"steps must be a whole number from 1 to .*, got 0"):
        TrainConfig(steps=0)


def test_a_start_takes_the_normalization_along_and_a_resumed_run_keeps_it(tmp_path):
    source = build_model(SMALL, Scenes(), mean=[0.0] * 3, std=[255.0] * 3)
    source.save_pretrained(tmp_path / "source")
    run = tmp_path / "run"
    with pytest.raises(DataError):
        train(SMALL, run, init=tmp_path / "source", transform=failing_at(1))
    train(SMALL, run, resume=True)
    assert CCNet.from_pretrained(run / "last").std.flatten().tolist() == [255.0] * 3


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
            "ccnet.training.run.evaluate", Mock(side_effect=DataError("val.jpg: cannot be read"))
        )
        with pytest.raises(DataError, match=r"val\.jpg"):
            train(once, run)
    assert RunFolder(run).load()["step"] == SMALL.steps
    assert train(once, run, resume=True) is not None
    assert_same_weights(uninterrupted, run)
    assert (run / "model" / "model.safetensors").exists()


class Torch(torch.utils.data.Dataset):
    """A data set as a user of PyTorch has it: normalized to 0–1, channels first."""

    def __init__(self, split: str, number: int) -> None:
        self.scenes = Scenes(split, num_images=number)

    def __len__(self) -> int:
        return len(self.scenes)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        image, label = self.scenes[index]
        return torch.from_numpy(image).movedim(2, 0) / 255, torch.from_numpy(label).long()


def test_a_data_set_of_pytorch_is_trained_on_and_scored(tmp_path):
    sets = [SampleDataset(Torch(*part), Scenes.classes) for part in (("train", 40), ("val", 6))]
    scores = train(SMALL, tmp_path / "own", data=(sets[0], sets[1]))
    assert scores is not None
    scenes = Scenes("train", num_images=40), Scenes("val", num_images=6)
    assert train(SMALL, tmp_path / "scenes", data=scenes) == scores
    assert_same_weights(tmp_path / "own", tmp_path / "scenes")
    predictor = Predictor(tmp_path / "own/last", device="cpu")
    assert evaluate(predictor, sets[1]).miou == pytest.approx(scores.miou, abs=1e-4)


def test_an_unreadable_file_ends_a_process_that_has_workers(tmp_path):
    for split in ("train", "val"):
        for kind, mode in (("images", "RGB"), ("labels", "L")):
            (tmp_path / split / kind).mkdir(parents=True)
            Image.new(mode, (32, 32)).save(tmp_path / split / kind / "0.png")
    (tmp_path / "train" / "images" / "0.png").write_bytes(b"no image")
    (tmp_path / "dataset.yaml").write_text("classes: [a, b]\n")
    flags = "--data.name=folder --model.backbone=tiny --model.auxiliary_channels=null "
    flags += f"--data.root={tmp_path} --run={tmp_path / 'run'} --num-workers=1 --device=cpu"
    command = [sys.executable, "-m", "ccnet", "train", *flags.split()]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, timeout=120, check=False)
    assert result.returncode == 2
    assert b"0.png: cannot be read as an image" in result.stderr


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
