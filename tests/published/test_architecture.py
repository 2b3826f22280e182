"""What published files tell of their networks: depth, stem, classes, upsampling."""

import pytest
import torch

from ccnet import CCNet
from ccnet.classes import ADE20K, CITYSCAPES, VOC
from ccnet.published import read_published
from tests.published.conftest import AUTHORS, MMSEG, like, mmseg


@pytest.mark.parametrize(
    ("num_classes", "classes"), [(19, CITYSCAPES), (150, ADE20K), (21, VOC), (7, None)]
)
@pytest.mark.parametrize("depth", [50, 101])
@pytest.mark.slow
def test_mmsegmentations_networks_are_told_by_their_shapes(tmp_path, depth, num_classes, classes):
    state = mmseg(depth, num_classes)
    torch.save({"state_dict": state}, tmp_path / "ccnet.pth")
    published = read_published(tmp_path / "ccnet.pth")
    made = published.architecture
    assert (made["backbone"], made["stem"]) == (f"resnet{depth}", "deep_32")
    assert (made["num_classes"], made["auxiliary_channels"]) == (num_classes, 256)
    assert made["classes"] == (classes and tuple(classes))
    assert made["palette"] == (classes and tuple(classes.values()))
    with torch.device("meta"):
        wanted = CCNet(**made).state_dict()
    assert {key: value.shape for key, value in published.state.items()} == {
        key: value.shape for key, value in wanted.items()
    }
    assert {change.source_key for change in published.changes} == set(state)


def test_classes_that_only_their_number_tells_are_noted(tmp_path):
    torch.save(like(MMSEG), tmp_path / "a.pth")
    note = "classes: the file names none; its 19 are taken for road, sidewalk, ..."
    assert note in read_published(tmp_path / "a.pth").describe()
    meta = {"CLASSES": tuple(CITYSCAPES)}
    torch.save({"state_dict": like(MMSEG), "meta": meta}, tmp_path / "named.pth")
    assert "classes:" not in read_published(tmp_path / "named.pth").describe()


def test_the_authors_network_is_built_by_its_own_rules(tmp_path):
    torch.save({"model": like(AUTHORS)}, tmp_path / "a.pth")
    made = read_published(tmp_path / "a.pth").architecture
    expected = {"dilation": "uniform", "ceil_mode": True, "activation": "leaky_relu"}
    expected |= {"auxiliary_bias": True, "align_corners": True, "std": (1.0, 1.0, 1.0)}
    assert made.items() >= expected.items()
    assert made["mean"][0] == pytest.approx(122.67891434)  # red comes first


@pytest.mark.parametrize(
    ("name", "config", "asked", "expected"),
    [
        ("ccnet_r50-d8_512x1024_40k.pth", None, None, False),
        ("ccnet_r50-d8_769x769_40k.pth", None, None, True),
        ("ccnet_r50-d8_769x769_40k.pth", "dict(align_corners=False, dropout=0.1)", None, False),
        ("ccnet.pth", "align_corners=True,\n  align_corners=True", None, True),
        ("ccnet.pth", "align_corners=True, align_corners=False", None, False),
        ("ccnet.pth", "align_corners=True", False, False),
        ("ccnet.pth", None, True, True),
    ],
)
@pytest.mark.slow
def test_align_corners_follows_argument_configuration_and_name(
    tmp_path, name, config, asked, expected
):
    meta = {} if config is None else {"config": config}
    torch.save({"state_dict": like(MMSEG), "meta": meta}, tmp_path / name)
    published = read_published(tmp_path / name, align_corners=asked)
    assert published.architecture["align_corners"] is expected
    assert f"align_corners={expected}" in published.describe()


@pytest.mark.parametrize(
    "meta",
    [
        {"CLASSES": list("abcdefg"), "PALETTE": [[i, 0, 0] for i in range(7)]},
        {"dataset_meta": {"classes": tuple("abcdefg"), "palette": [(i, 0, 0) for i in range(7)]}},
    ],
    ids=["old", "new"],
)
def test_classes_that_the_file_names_come_along(tmp_path, meta):
    torch.save({"state_dict": mmseg(50, 7), "meta": meta}, tmp_path / "own.pth")
    made = read_published(tmp_path / "own.pth").architecture
    assert made["classes"] == tuple("abcdefg")
    assert [tuple(color) for color in made["palette"]] == [(i, 0, 0) for i in range(7)]


@pytest.mark.timeout(60)
def test_one_long_text_many_times_is_searched_once(tmp_path):
    text = "align_corners=True " + "x" * (1 << 20)
    meta = dict.fromkeys(map(str, range(50_000)), text)
    torch.save({"state_dict": like(MMSEG), "meta": meta}, tmp_path / "long.pth")
    assert read_published(tmp_path / "long.pth").architecture["align_corners"] is True
