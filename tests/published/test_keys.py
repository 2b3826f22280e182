"""Keys of published networks: what is taken over, left out, widened or refused."""

import pytest
import torch

from ccnet.published import read_published
from tests.published.conftest import AUTHORS, MMSEG, like


@pytest.mark.parametrize(
    ("case", "changes", "words"),
    [
        (MMSEG, {"decode_head.cca.gamma": [1]}, r"two keys are head\.attention\.passes\.0\.gamma"),
        (AUTHORS, {"conv1.weight": [64, 4, 3, 3]}, r"conv1\.weight of shape \(64, 4, 3, 3\).*BGR"),
    ],
)
def test_what_can_not_be_taken_over_whole_is_an_error(tmp_path, case, changes, words):
    torch.save(like(case, changes), tmp_path / "other.pth")
    with pytest.raises(ValueError, match=rf"other\.pth: {words}"):
        read_published(tmp_path / "other.pth")


def test_no_pass_leaves_the_attention_out_and_says_so(tmp_path):
    torch.save(like(AUTHORS), tmp_path / "a.pth")
    published = read_published(tmp_path / "a.pth", recurrence=0)
    assert not any("attention" in key for key in published.state)
    left_out = [c for c in published.changes if not c.key]
    assert len(left_out) == 7
    assert all("head.cca." in c.source_key for c in left_out)
    assert "7 left out" in published.describe()


@pytest.mark.slow
def test_half_precision_is_widened(tmp_path):
    state = {key: value.half() for key, value in like(MMSEG).items() if "num_b" not in key}
    torch.save(state, tmp_path / "half.pth")
    published = read_published(tmp_path / "half.pth")
    dtypes = {value.dtype for value in published.state.values()}
    assert dtypes == {torch.float32, torch.int64}
    assert f"{len(state) - 1} × float16 → float32" in published.describe()


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        (["head.reduction.0.weight"], "weights saved by this package"),
        (["backbone.layer1.0.conv1.weight", "decode_head.psp_modules.0.1.conv.weight"], "PSPNet"),
        (["backbone.stem.0.weight", "decode_head.conv_seg.weight"], "without criss-cross"),
        (["backbone.layer1.0.conv1.weight", "classifier.4.weight"], "another network on a ResNet"),
        (["conv1.weight", "layer1.0.conv1.weight", "fc.weight"], r"a backbone alone \(ResNet\)"),
        (["backbone.layer1.0.conv1.weight", "roi_head.bbox.weight"], "detector"),
        (["cls_token", "patch_embed.proj.weight"], "vision transformer"),
        (["weight", "bias"], "it begins weight, bias"),
    ],
)
def test_other_networks_are_called_by_name(tmp_path, keys, words):
    torch.save(dict.fromkeys(keys, torch.zeros(1)), tmp_path / "other.pth")
    with pytest.raises(ValueError, match=rf"other\.pth is no published CCNet.*{words}"):
        read_published(tmp_path / "other.pth")


@pytest.mark.parametrize("case", [AUTHORS, MMSEG])
@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"extra.weight": [1]}, "keys of unknown use in a CCNet: extra.weight"),
        ({"layer5.0.conv1.weight": [1]}, "keys of unknown use in a CCNet: layer5"),
    ],
)
def test_keys_of_unknown_use_are_an_error(tmp_path, case, changes, words):
    torch.save(like(case, changes), tmp_path / "more.pth")
    with pytest.raises(ValueError, match=words):
        read_published(tmp_path / "more.pth")
