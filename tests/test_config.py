"""A run's configuration: read back, and changed on resuming only in what is the machine's."""

import os
import typing
from dataclasses import replace

import pytest

from ccnet.config import DataConfig, TrainConfig, read_config, resumed_config
from ccnet.flags import parse
from ccnet.runtime.files import DataError
from ccnet.runtime.values import flags_of
from ccnet.saving.run_folder import to_yaml

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
        (["--data.root=moved"], {"data": DataConfig(root="moved")}),
        (["--logger=wandb", "--pictures=0"], {"logger": "wandb", "pictures": 0}),
    ],
    ids=["other", "back to the default", "the default", "its own", "moved data", "shown"],
)
def test_where_a_run_goes_on_may_change(run, flags, changes):
    assert resumed(run, *flags) == replace(OWN, **changes)


@pytest.mark.parametrize(
    "flag",
    ["--steps=60000", "--optimizer.lr=1", "--recompute=[]", "--data.name=camvid", "--minutes=3"],
)
def test_what_a_run_computes_may_not(run, flag):
    name = flag[2:].split("=")[0].split(".")[0]
    with pytest.raises(ValueError, match=f"{name} cannot be given with it, only data.root"):
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


NUMBERS = [  # the key, a value below its range, a value above it
    *(("steps", 0, 10**10), ("batch_size", 0, 10**10), ("accumulate", 0, 10**10)),
    *(("minutes", 0, 1e10), ("pictures", -1, 17)),
    *(("validate_every", 0, 10**10), ("save_every", 0, 10**10), ("log_every", 0, 10**10)),
    *(("save_seconds", -1, 1e10), ("num_workers", -1, 1025), ("seed", -1, 2**32)),
    *(("devices", 0, 1025), ("num_nodes", 0, 65537), ("ema_decay", 0.0, 1.0)),
    *(("data.num_images", 0, 10**10), ("data.val_share", 0.0, 1.0)),
    *(("model.recurrence", -1, 101), ("model.channels", -1, 16385)),
    *(("model.reduction", 0, 16385), ("model.kernel_size", 0, 4), ("model.dropout", -0.1, 1.0)),
    *(("model.output_stride", 0, 33), ("model.auxiliary_channels", 0, 16385)),
    ("model.refinement", [0], [33]),
    *(("data.bands", [0], [1025]), ("data.value_range", [-1e31, 0.0], [0.0, 1e31])),
    *(("optimizer.lr", -0.1, 1e300), ("optimizer.head_lr_factor", -1, 1e300)),
    *(("optimizer.momentum", -0.1, 1.0), ("optimizer.weight_decay", -1e-4, 1e300)),
    *(("optimizer.power", -1, 1001), ("optimizer.final_lr", -1, 1e300)),
    *(("optimizer.warmup_steps", -1, 10**10), ("optimizer.clip_norm", 0, 1e300)),
    *(("loss.auxiliary_weight", -1, 1e300), ("loss.ohem_threshold", -0.1, 1.1)),
    *(("protocol.tile", 0, 65537), ("protocol.stride", 0, 65537), ("protocol.scales", [0], [21])),
    *(("loss.ohem_min_kept", -1, 10**13), ("loss.class_weights", [-1, 1], [1, 1e300])),
    *(("loss.focal_gamma", -1, 101), ("loss.label_smoothing", -0.1, 1.0)),
    *((f"loss.{name}", -1, 1001) for name in ("dice", "lovasz", "category_consistent")),
    ("loss.consistency.channels", 0, 4097),
    *(
        (f"loss.consistency.{name}", -1, 1001)
        for name in ("variation", "distance", "regularization")
    ),
    *((f"loss.consistency.{name}_margin", -1, 1001) for name in ("variation", "distance")),
]


def numeric(kind: object) -> bool:
    return kind in (int, float) or any(map(numeric, typing.get_args(kind)))


def test_every_number_has_its_range():
    kinds = dict(flags_of(TrainConfig))
    of_transforms = {name for name in kinds if name.startswith("data.augment")}  # have their tests
    assert {name for name in kinds if numeric(kinds[name])} - of_transforms == {
        name for name, *_ in NUMBERS
    }


@pytest.mark.parametrize(("name", "low", "high"), NUMBERS, ids=[name for name, *_ in NUMBERS])
def test_numbers_out_of_range_are_named_by_their_key(name, low, high, tmp_path):
    for value in (low, high, ".nan", ".inf", "-.inf", "true", "[[]]", "{a: b}", "x"):
        *owners, key = name.split(".")
        text = f"{{{key}: {value}}}"
        for owner in reversed(owners):
            text = f"{{{owner}: {text}}}"
        (tmp_path / "c.yaml").write_text(text)
        with pytest.raises(ValueError, match=rf"c\.yaml: {name}\S* must be "):
            read_config(tmp_path / "c.yaml")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"steps:", r"c\.yaml: steps must be a whole number .*, got nothing \(null\)"),
        (b"model:", r"c\.yaml: model must be a mapping with keys such as backbone, got nothing"),
        (b"", r"c\.yaml: the configuration must be a mapping"),
        (b"- 3", r"c\.yaml: the configuration must be a mapping"),
        (b"stepz: 3", r"c\.yaml: there is no key stepz; did you mean steps\?"),
        (b"device: \xff", r"c\.yaml, line 1: not text in UTF-8"),
        (b"device: 7", r"c\.yaml: device must be text, got 7"),
        (b'data: {root: "a\\0b"}', r"c\.yaml: data\.root contains a NUL character"),
        (b"data: {root: ''}", r"c\.yaml: data\.root is empty"),
        (b"freeze: &a [x]\nrecompute: *a", r"c\.yaml, line 2: .*aliases are not read"),
        (b"freeze: head", r"c\.yaml: freeze must be a list in brackets, each item text, got"),
        (b"data: {augment: {}}", r"c\.yaml: data\.augment\.crop_size is missing"),
        (b"loss: {class_weights: [0, 0]}", r"c\.yaml: loss\.class_weights must have one above 0"),
        *(
            (
                f"loss: {{class_weights: [1, {value}, 2]}}".encode(),
                rf"c\.yaml: loss\.class_weights\[1\] must be a number from 0 to 1000, got {said}$",
            )
            for value, said in {
                "null": r"nothing \(null\)",  # as check-data prints it for an absent class
                ".nan": "nan",
                ".inf": "inf",
                "-1": "-1",
            }.items()
        ),
        (
            b"loss: {class_weights: automatic}",
            r"loss\.class_weights must be a list in brackets, each item a number from 0 to 1000 or "
            r"auto or null, got 'automatic'$",
        ),
        (
            b"loss: {ohem_min_kept: 1.5}",
            r"c\.yaml: loss\.ohem_min_kept must be a whole number of pixels or a share below 1",
        ),
        (
            b"loss: {consistency: {variation_margin: 2}}",
            r"variation_margin must be at most distance_margin, 1\.5, got 2",
        ),
        (b"compile: maybe", r"c\.yaml: compile must be true or false, got 'maybe'"),
        (b"strategy: [ddp]", r"c\.yaml: strategy must be ddp or fsdp, got \['ddp'\]"),
    ],
    ids=lambda value: value.decode(errors="replace") if isinstance(value, bytes) else "",
)
def test_a_file_that_is_no_configuration_is_one_line(content, said, tmp_path):
    (tmp_path / "c.yaml").write_bytes(content)
    with pytest.raises(DataError, match=said) as caught:
        read_config(tmp_path / "c.yaml")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["fifo", "folder", "nothing"])
def test_what_is_no_file_is_not_waited_for(name, tmp_path):
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "folder").mkdir()
    with pytest.raises(DataError, match=f"{name}: (it is a|no such file)"):
        read_config(tmp_path / name)


def test_numbers_may_be_written_as_people_write_them(tmp_path):
    (tmp_path / "c.yaml").write_text("steps: 60_000\noptimizer: {lr: 1e-3, power: 1}")
    config = read_config(tmp_path / "c.yaml")
    assert (config.steps, config.optimizer.lr, config.optimizer.power) == (60_000, 1e-3, 1.0)
