"""Saves of another make: each is refused with the file's name before any of it is used."""

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from ccnet.config import OptimizerConfig
from ccnet.demo import SCENES
from ccnet.runtime.files import DataError
from ccnet.saving.checkpoint import changes, is_plain_tensor, naming, require_same_make
from ccnet.saving.run_folder import RunFolder
from ccnet.training.run import Run
from ccnet.training.start import set_up

SMALL = replace(
    SCENES,
    model=replace(SCENES.model, channels=8, auxiliary_channels=8),
    optimizer=OptimizerConfig(name="adamw", lr=0.01),
    ema_decay=0.5,
    steps=4,
    batch_size=2,
)


def one_step(run: Run) -> None:
    """Gives the optimizer a state, and saves."""
    for parameter in run.model.parameters():
        parameter.grad = torch.ones_like(parameter)
    run.optimizer.step()
    run.scheduler.step()
    run.state.step = 1
    run.save()


@pytest.fixture(scope="module")
def saved(tmp_path_factory) -> dict:
    run = set_up(SMALL, tmp_path_factory.mktemp("run") / "run")
    one_step(run)
    run.progress.curves.close()
    return run.folder.load()


def resume(content: dict, path: Path, **changes: object) -> Run:
    folder = RunFolder(path)
    folder.create(SMALL)
    folder.save(content)
    return set_up(replace(SMALL, **changes), path, resume=True)


def test_what_a_run_saved_is_taken(saved, tmp_path):
    run = resume(saved, tmp_path)
    run.progress.curves.close()
    assert run.state.step == 1


def with_value(content: object, keys: tuple, value: object) -> object:
    """A copy of nested mappings and lists with another value in one place."""
    if not keys:
        return value
    copy = dict(content) if isinstance(content, dict) else list(content)
    old = copy.get(keys[0]) if isinstance(copy, dict) else copy[keys[0]]
    copy[keys[0]] = with_value(old, keys[1:], value)
    return copy


BIAS = "head.classifier.bias"
HUGE = torch.zeros(1).expand(10**6, 10**6)
GROUP = ("optimizer", "param_groups", 0)


@pytest.mark.unchecked
@pytest.mark.parametrize(
    ("keys", "value", "said"),
    [
        (("model", BIAS), torch.zeros(5), "1 of another shape"),
        (("model", BIAS), HUGE, "1 of another shape"),
        (("model", BIAS), torch.zeros(4, dtype=torch.float64), f"{BIAS} has another form"),
        (("model", BIAS), torch.full((4,), math.nan), f"{BIAS} has another form, or is not finite"),
        (("model", BIAS), torch.zeros(4).to_sparse(), "is no tensor in plain memory"),
        (("model", BIAS), "x", "is no tensor"),
        (("model",), {}, "missing"),
        (("model",), [1], "its model must be a mapping"),
        (("optimizer",), {}, "optimizer.param_groups has another form"),
        ((*GROUP, "lr"), math.nan, "lr has another form, or is not finite"),
        ((*GROUP, "lr"), "x", "lr has another form"),
        ((*GROUP, "params"), [7], "params has another form"),
        ((*GROUP, "step"), 5, "has another form"),
        (("optimizer", "state"), [], "its optimizer has other parameters"),
        (("optimizer", "state", 999), {}, "its optimizer has other parameters"),
        (("optimizer", "state", 0), {"momentum_buffer": HUGE}, "its optimizer is not AdamW"),
        (("optimizer", "state", 0, "exp_avg"), HUGE, "exp_avg has another form"),
        (("optimizer", "state", 0, "exp_avg"), 3, "exp_avg"),
        (("others", "scheduler", "last_epoch"), 10**6, "scheduler is at a later step"),
        (("others", "scheduler", "step"), 5, "scheduler has another form"),
        (("others", "average", "n_averaged"), torch.zeros(3), "another shape"),
        (("others", "scaler"), {}, "the checkpoint has average, scaler, scheduler and the run"),
        (("inherited", "in_channels"), 10**9, "in_channels must be at most 16384"),
        (("inherited", "in_channels"), 5, "other channels than 3"),
        (("inherited", "mean"), [math.nan] * 3, "mean must be at most"),
        (("inherited", "mean"), [0.5, {}, 0.5], "its model has the argument 'mean'"),
        (("inherited", "hello"), 1, "its model has the argument 'hello'"),
        (("validated",), 2, "its validated must be 0 to 1, got 2"),
        (("skipped_in_a_row",), "x", "its skipped_in_a_row must be"),
        (("best_miou",), math.nan, "its best_miou must be 0 to 1, got nan"),
        (("unlogged",), [(1.0, 2.0)] * 99, "its unlogged must be pairs"),
        (("unlogged",), [3], "its unlogged must be pairs"),
        (("config", "optimizer", "power"), 0.5, "optimizer.power is 0.9 and was 0.5"),
    ],
    ids=lambda value: ".".join(map(str, value)) if isinstance(value, tuple) else None,
)
def test_a_save_of_another_make_is_named(saved, tmp_path, keys, value, said):
    with pytest.raises(DataError, match=rf"step-00000001\.\w+\.pt does not fit .*{said}") as caught:
        resume(with_value(saved, keys, value), tmp_path)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < len(str(tmp_path)) + 700


@pytest.mark.parametrize("name", ["model", "unlogged", "others"])
def test_a_save_without_a_part_is_named(saved, tmp_path, name):
    content = {key: value for key, value in saved.items() if key != name}
    with pytest.raises(DataError, match=f"has no {name}: another version wrote it"):
        resume(content, tmp_path)


OTHERS = [
    {"optimizer": OptimizerConfig(name="sgd")},
    {"model": replace(SMALL.model, channels=16)},
    {"ema_decay": None},
    {"optimizer": OptimizerConfig(name="adamw", lr=0.02)},
    {"batch_size": 4},
]


@pytest.mark.parametrize("changes", OTHERS, ids=str)
def test_another_configuration_is_named(saved, tmp_path, changes):
    with pytest.raises(DataError, match=r"\.pt does not fit .* config\.yaml was changed since"):
        resume(saved, tmp_path, **changes)


@pytest.mark.parametrize("changes", OTHERS[:3], ids=str)
def test_another_network_is_named_also_for_a_save_of_the_first_version(saved, tmp_path, changes):
    content = {key: value for key, value in saved.items() if key != "config"}
    with pytest.raises(DataError, match=r"\.pt does not fit the run"):
        resume(content, tmp_path, **changes)


def test_forms_are_compared_without_following_what_is_nested():
    bomb: list = []
    for _ in range(60):
        bomb = [bomb, bomb]
    for wanted in (1.0, "x", None, True, [1], {"a": 1}, torch.zeros(1)):
        with pytest.raises(ValueError, match="its x has another form"):
            require_same_make(bomb, wanted, "x")
    require_same_make({"a": (1, 2.0)}, {"a": [1.0, 2], "b": None}, "x")


def test_only_plain_tensors_are_taken():
    meta, sparse = torch.zeros(2, device="meta"), torch.zeros(2).to_sparse()
    assert is_plain_tensor(torch.zeros(2))
    assert not any(map(is_plain_tensor, (meta, sparse, [0.0], None)))


def test_changes_are_told_in_words():
    before = {"steps": 4, "optimizer": {"lr": 0.1}, "old": 1}
    assert list(changes(before, {"steps": 4, "optimizer": {"lr": 0.2}, "new": 2})) == [
        ("optimizer.lr", "optimizer.lr is 0.2 and was 0.1")
    ]


def test_a_run_may_be_made_longer_and_says_so(saved, tmp_path, capsys):
    run = resume(saved, tmp_path, steps=8)
    run.progress.curves.close()
    assert "warning: config.yaml was changed since the last save: steps is 8 and was 4" in (
        capsys.readouterr().err
    )


def test_errors_without_a_save_keep_their_kind():
    with pytest.raises(KeyError), naming(None):
        raise KeyError("x")
    with pytest.raises(DataError, match=r"a\.pt does not fit the run: 'x'"), naming(Path("a.pt")):
        raise KeyError("x")
