"""Arguments of the network: converted to plain Python, checked, and stored as they were given."""

import json
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from ccnet import CCNet
from ccnet.models.arguments import BACKBONE_ARGUMENTS, to_plain
from tests.conftest import small


def test_arrays_are_stored_as_well_as_tuples(tmp_path):
    model = small(
        mean=np.array([1, 2, 3]),
        std=torch.tensor([4.0, 5, 6]),
        classes=(name for name in "abc"),
        palette=np.eye(3, dtype=np.uint8),
    )
    model.save_pretrained(tmp_path)
    loaded = CCNet.from_pretrained(tmp_path)
    assert torch.equal(loaded.mean, model.mean)
    assert torch.equal(loaded.std, model.std)
    assert loaded.classes == ("a", "b", "c")
    assert loaded.palette == ((1, 0, 0), (0, 1, 0), (0, 0, 1))


@pytest.mark.parametrize(
    ("name", "given", "stored"),
    [
        ("recurrence", np.int64(3), 3),
        ("recurrence", torch.tensor(3), 3),
        ("align_corners", np.bool_(True), True),
        ("shared", torch.tensor(False), False),
        ("dropout", np.float32(0.25), 0.25),
        ("num_classes", np.array([0, 4], np.uint8).max() + 1, 5),
        ("channels", np.uint8(8), 8),
        ("kernel_size", np.int16(1), 1),
        ("activation", np.str_("leaky_relu"), "leaky_relu"),
        ("output_stride", np.int64(16), 16),
        ("ceil_mode", np.bool_(True), True),
        ("in_channels", np.int32(2), 2),
        ("auxiliary_channels", torch.tensor(4), 4),
        ("mean", np.array([1.0, 2, 3], np.float32), [1.0, 2.0, 3.0]),
        ("std", [np.float64(1), torch.tensor(2.0), 3], [1.0, 2.0, 3.0]),
        ("classes", np.array(["a", "b", "c"]), ["a", "b", "c"]),
        ("classes", OrderedDict(a=0, b=1, c=2).keys(), ["a", "b", "c"]),
        ("palette", [np.array([1, 2, 3])] * 3, [[1, 2, 3]] * 3),
        ("palette", torch.eye(3), [[1, 0, 0], [0, 1, 0], [0, 0, 1]]),
        (
            "metrics",
            {"miou": np.float64(0.5), "iou": {"class 0": torch.tensor(0.25)}, "step": np.int64(7)},
            {"miou": 0.5, "iou": {"class 0": 0.25}, "step": 7},
        ),
    ],
    ids=str,
)
def test_scalars_and_arrays_are_stored_as_plain_python(tmp_path, name, given, stored):
    backbone = "resnet18" if name in ("output_stride", "ceil_mode") else "tiny"
    options = {"num_classes": 3, "backbone": backbone, "channels": 8, "auxiliary_channels": 8}
    model = CCNet(**options | {name: given})
    got = model.arguments[name]
    assert got == stored
    assert type(got) is type(stored)
    model.save_pretrained(tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())[name] == stored
    loaded = CCNet.from_pretrained(tmp_path)
    assert loaded.arguments == model.arguments
    assert repr(loaded) == repr(model.eval())


def test_metrics_that_are_assigned_are_stored_as_plain_python(tmp_path):
    model = small()
    model.metrics = {"miou": np.float32(0.5), "iou": {"class 1": np.float64(0.25)}}
    model.save_pretrained(tmp_path)
    loaded = CCNet.from_pretrained(tmp_path)
    assert loaded.metrics == {"miou": 0.5, "iou": {"class 1": 0.25}}
    assert "25.00" in (tmp_path / "README.md").read_text()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("activation", nn.ReLU),
        ("backbone", Path("resnet18")),
        ("dropout", 1j),
        ("classes", {"a", "b", "c"}),
        ("palette", b"123"),
        ("metrics", {"miou": 0.5, "model": nn.ReLU()}),
        ("metrics", {"miou": 0.5, ("a", "b"): 1}),
        ("metrics", {"miou": float("nan")}),
        ("std", [1.0, float("nan"), 1.0]),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_what_config_json_can_not_hold_is_told_when_the_network_is_built(name, value):
    with pytest.raises(TypeError, match=rf"{name} cannot be stored in config\.json: "):
        small(**{name: value})


def test_a_value_that_contains_itself_is_told():
    loop = []
    loop.append(loop)
    with pytest.raises(TypeError, match="palette cannot be stored"):
        to_plain("palette", loop)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"num_classes": 1}, "num_classes must be an integer from 2 to 255, got 1"),
        ({"kernel_size": 5}, "kernel_size must be 1 or 3, got 5"),
        ({"classes": ("a", "b")}, "classes has 2 entries for 3 classes"),
        ({"classes": ()}, "classes has 0 entries for 3 classes"),
        ({"palette": ((0, 0, 0),)}, "palette has 1 entries for 3 classes"),
        ({"palette": np.eye(3) / 2}, r"three integers from 0 to 255 per class, got \[0\.5, "),
        ({"palette": ((0, 0, 256),) * 3}, r"three integers from 0 to 255 per class, got"),
        ({"palette": ((0, 0),) * 3}, r"three integers from 0 to 255 per class, got \[0, 0\]"),
        ({"std": (1, 2)}, "std has 2 entries for 3 channels"),
        ({"backbone": "resnet19"}, "resnet18"),
        ({"stem": "plain"}, "tiny has no option stem"),
    ],
)
def test_arguments_that_do_not_fit_are_named(arguments, words):
    with pytest.raises(ValueError, match=words):
        CCNet(**{"num_classes": 3, "backbone": "tiny", "channels": 8, **arguments})


def test_a_misspelled_argument_is_told_with_those_there_are():
    with pytest.raises(TypeError) as caught:
        CCNet(3, "resnet18", recurence=3)
    message = str(caught.value)
    assert message.startswith(
        "CCNet has no argument 'recurence'; it has num_classes, backbone, recu"
    )
    assert message.endswith(
        "metrics, and with resnet18 also output_stride, stem, dilation, ceil_mode"
    )
    with pytest.raises(TypeError, match=r"no argument 'recurence'.* and with tiny also no other"):
        CCNet(3, "tiny", recurence=None)


def test_none_stands_for_the_backbone_s_default():
    assert set(BACKBONE_ARGUMENTS) == {"output_stride", "stem", "dilation", "ceil_mode"}
    given = small(**dict.fromkeys(BACKBONE_ARGUMENTS))  # tiny has none of these options
    assert given.arguments == small().arguments
    with torch.device("meta"):
        one, other = (small("resnet18", stem=stem) for stem in (None, "plain"))
    assert repr(one) == repr(other)


def test_a_subclass_adds_its_own_arguments(tmp_path):
    class Wide(CCNet):
        def __init__(self, factor: int = 2, **arguments):
            super().__init__(**arguments)
            self.arguments["factor"] = factor
            self.factor = factor

    Wide(4, num_classes=3, backbone="tiny", channels=8).save_pretrained(tmp_path)
    assert Wide.from_pretrained(tmp_path).factor == 4


# Limits


TYPES = ["512", True, 1.5, None, [], {}, "x" * 100_000, 10**9, 10**300, -1]


@pytest.mark.parametrize(
    ("name", "wanted", "fitting"),
    [
        ("num_classes", "an integer from 2 to 255", []),
        ("recurrence", "an integer from 0 to 16", []),
        ("channels", "an integer from 1 to 4096", []),
        ("reduction", "an integer from 1 to 4096", []),
        ("in_channels", "an integer from 1 to 1024", []),
        ("auxiliary_channels", "an integer from 1 to 4096", [None]),
        ("shared", "true or false", [True]),
        ("auxiliary_bias", "true or false", [True]),
        ("align_corners", "true or false", [True]),
        ("dropout", "a number from 0 to 1", []),
        ("backend", '"fused", "reference" or null', [None]),
        ("activation", "a word", []),
        ("backbone", "a word", []),
    ],
)
def test_values_of_other_types_or_beyond_the_limits_are_refused(name, wanted, fitting):
    for value in TYPES:
        if any(value is fits for fits in fitting) or (wanted == "a word" and type(value) is str):
            continue
        with pytest.raises(ValueError, match=rf"^{name} must be {wanted}, got ") as caught:
            CCNet(**{"num_classes": 3, "backbone": "tiny", "channels": 8, name: value})
        assert len(str(caught.value)) < 200


@pytest.mark.parametrize("name", ["ceil_mode", "output_stride", "stem", "dilation"])
def test_options_of_the_backbone_have_types_and_limits(name):
    for value in ([], {}, 1.5, 10**9, "x" * 100_000):
        with pytest.raises(ValueError, match=rf"^{name} ") as caught:
            CCNet(3, "resnet18", channels=8, **{name: value})
        assert len(str(caught.value)) < 300


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"classes": "abc"}, "classes must be a list, got 'abc'"),
        ({"classes": [1, 2, 3]}, "classes must be names of at most 200 characters, got 1"),
        ({"classes": ["a", "b", "x" * 300]}, "classes must be names of at most 200"),
        ({"classes": ["a"] * 1_000_000}, "classes has 1000000 entries for 3 classes"),
        ({"palette": 7}, "palette must be a list, got 7"),
        ({"palette": [1, 2, 3]}, "palette wants three integers from 0 to 255 per class, got 1"),
        ({"palette": [[0, 0, True]] * 3}, "palette wants three integers"),
        ({"palette": ["abc"] * 3}, "palette wants three integers"),
        ({"palette": [[[0] * 1000] * 3] * 3}, "palette wants three integers"),
        ({"mean": 5.0}, "mean must be a list, got 5.0"),
        ({"mean": [1, 2, None]}, r"mean must be numbers from -1e\+06 to 1e\+06, got None"),
        ({"mean": [1, 2, 1e30]}, r"mean must be numbers from -1e\+06 to 1e\+06, got 1e\+30"),
        ({"std": [1, 2, 0]}, r"std must be numbers from 1e-06 to 1e\+06, got 0"),
        ({"std": [1, 2, -3]}, r"std must be numbers from 1e-06 to 1e\+06, got -3"),
        ({"std": [1, 2, 1e300]}, "std must be numbers"),
        ({"std": [1, 2, 1e-300]}, "std must be numbers"),
        ({"std": ["1", 2, 3]}, "std must be numbers"),
        ({"std": [True, 2, 3]}, "std must be numbers"),
        ({"metrics": [1]}, r'metrics must have a number "miou", got \[1\]'),
        ({"metrics": {"miou": 0.5, "iou": [1]}}, "the iou of metrics must have one number per"),
        ({"metrics": {"miou": 0.5, "iou": {"class 0": "x"}}}, "'class 0' of metrics must be a num"),
        ({"metrics": {"miou": 0.5, "step": "x"}}, "'step' of metrics must be a number, got 'x'"),
        ({"metrics": {"miou": 0.5, "dataset": [1]}}, "dataset of metrics must be a text, got"),
    ],
)
def test_lists_and_scores_are_checked(arguments, words):
    with pytest.raises(ValueError, match=words) as caught:
        CCNet(**{"num_classes": 3, "backbone": "tiny", "channels": 8, **arguments})
    assert len(str(caught.value)) < 300


def test_nan_as_a_mean_is_refused():
    for value in (float("nan"), float("inf")):
        with pytest.raises(TypeError, match=r"mean cannot be stored in config\.json"):
            small(mean=[value, 1.0, 1.0])


def test_many_unknown_arguments_are_summed_up():
    with pytest.raises(TypeError, match=r"no argument .* and 997 more; it has") as caught:
        CCNet(3, "tiny", **{f"{i}{'y' * 500}": i for i in range(1000)})
    assert len(str(caught.value)) < 1000
