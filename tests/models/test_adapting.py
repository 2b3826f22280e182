"""A trained network for other classes and channels: what is kept, what is new, what is told."""

import numpy as np
import pytest
import torch

from ccnet import CCNet
from tests.conftest import small


def new_parts(model: CCNet, twin: CCNet) -> set[str]:
    own, other = model.state_dict(), twin.state_dict()
    assert list(own) == list(other)
    return {key for key in own if not torch.equal(own[key], other[key])}


CLASSIFIERS = {"head.classifier", "auxiliary_head.4"}


def test_other_classes_start_the_classifiers_anew_and_say_so(tmp_path, caplog):
    model = small(classes=("a", "b", "c"), palette=np.eye(3, dtype=np.uint8), mean=(1, 2, 3))
    model.save_pretrained(tmp_path)
    twin = CCNet.from_pretrained(tmp_path, num_classes=5)
    shapes = {key: value.shape for key, value in twin.state_dict().items()}
    assert shapes["head.classifier.weight"] == (5, 8, 1, 1)
    assert shapes["auxiliary_head.4.bias"] == (5,)
    renewed = {key.rpartition(".")[0] for key in new_parts(model, twin)}
    assert renewed == CLASSIFIERS
    assert twin.classes == tuple(f"class {index}" for index in range(5))
    assert twin.palette is None
    assert torch.equal(twin.mean, model.mean)
    assert not twin.training
    (message,) = caplog.messages
    assert message.startswith("new for 5 classes instead of 3: head.classifier.weight, ")
    assert all(part in message for part in CLASSIFIERS)
    twin.save_pretrained(tmp_path / "twin")
    images = torch.randn(1, 3, 32, 32)
    assert torch.equal(CCNet.from_pretrained(tmp_path / "twin")(images), twin(images))


def test_names_and_colors_go_with_other_classes(tmp_path):
    small().save_pretrained(tmp_path)
    twin = CCNet.from_pretrained(
        tmp_path, num_classes=2, classes=("no", "yes"), palette=((0, 0, 0), (1, 1, 1))
    )
    assert (twin.classes, twin.palette) == (("no", "yes"), ((0, 0, 0), (1, 1, 1)))


def test_as_many_classes_change_nothing(tmp_path, caplog):
    model = small(classes=("a", "b", "c"))
    model.save_pretrained(tmp_path)
    same = CCNet.from_pretrained(tmp_path, num_classes=3)
    assert new_parts(model, same) == set()
    assert same.classes == ("a", "b", "c")
    assert model.adapted() is model
    assert caplog.messages == []


@pytest.mark.parametrize("backbone", ["tiny", "resnet18", "mobilenet_v2"])
@pytest.mark.slow
def test_other_channels_change_the_first_convolution_alone(tmp_path, backbone, caplog):
    model = small(backbone, mean=(1, 2, 3), std=(4, 5, 6))
    model.save_pretrained(tmp_path)
    twin = CCNet.from_pretrained(tmp_path, in_channels=5)
    first = f"backbone.{model.backbone.first_convolution}"
    own, other = model.state_dict()[first], twin.state_dict()[first]
    rest = model.state_dict().keys() - {first}
    assert all(torch.equal(model.state_dict()[key], twin.state_dict()[key]) for key in rest)
    assert other.shape[1] == 5
    for channel in range(5):
        torch.testing.assert_close(other[:, channel], own[:, channel % 3] * 3 / 5)
    assert twin.mean.flatten().tolist() == [1, 2, 3, 1, 2]
    assert twin.std.flatten().tolist() == [4, 5, 6, 4, 5]
    assert twin.classes == model.classes
    assert f"{first}: 5 channels made from 3" in caplog.messages
    assert twin(torch.randn(1, 5, 32, 32)).shape == (1, 3, 32, 32)


@pytest.mark.usefixtures("torchvision_operators")
@pytest.mark.slow
def test_every_branch_of_a_stem_sees_the_other_channels(caplog):
    model = small("timm/repvgg_a0", auxiliary_channels=None)
    twin = model.adapted(in_channels=5)
    own, other = model.state_dict(), twin.state_dict()
    changed = {key for key in own if own[key].shape != other[key].shape}
    assert len(changed) == len(caplog.messages) == 2
    for key in changed:
        torch.testing.assert_close(other[key][:, 3], own[key][:, 0] * 3 / 5)
        assert f"{key}: 5 channels made from 3" in caplog.messages
    assert all(torch.equal(own[key], other[key]) for key in own.keys() - changed)


def test_other_names_for_as_many_classes_keep_the_classifiers_and_are_told(caplog):
    model = small(classes=("a", "b", "c"))
    twin = model.adapted(num_classes=3, classes=("d", "e", "f"))
    assert new_parts(model, twin) == set()
    assert twin.classes == ("d", "e", "f")
    assert caplog.messages == ["new names for 3 classes, trained classifiers"]


def test_an_adapted_model_keeps_its_numbers_and_its_device(tmp_path):
    model = small().double()
    assert {x.dtype for x in model.adapted(num_classes=4).parameters()} == {torch.float64}
    small().save_pretrained(tmp_path)
    loaded = CCNet.from_pretrained(tmp_path, map_location="meta")
    assert {x.device.type for x in (*loaded.parameters(), loaded.mean)} == {"meta"}


def test_a_grayscale_image_looks_to_one_channel_as_to_three():
    model = small(mean=(9, 9, 9), std=(2, 2, 2))
    twin = model.adapted(in_channels=1)
    gray = torch.randint(0, 256, (1, 1, 40, 40), dtype=torch.uint8)
    expected = model(model.normalize(gray.expand(1, 3, 40, 40)))
    torch.testing.assert_close(twin(twin.normalize(gray)), expected)


def test_channels_are_stored_and_their_number_is_checked(tmp_path):
    model = small(in_channels=4, mean=(1, 2, 3, 4), std=(1, 1, 1, 1))
    model.save_pretrained(tmp_path)
    loaded = CCNet.from_pretrained(tmp_path)
    assert loaded.in_channels == 4
    assert loaded.mean.flatten().tolist() == [1, 2, 3, 4]
    with pytest.raises(ValueError, match="mean has 3 entries for 4 channels"):
        small(in_channels=4, mean=(1, 2, 3))
    with pytest.raises(ValueError, match="in_channels must be an integer from 1 to 1024, got 0"):
        small(in_channels=0)
    with pytest.raises(ValueError, match="backbone cannot be changed; num_classes, in_channels"):
        model.adapted(backbone="resnet18")


def test_double_precision_is_kept_to_the_last_bit():
    model = small().double()
    torch.nn.init.constant_(model.head.reduction[0].weight, 1 / 3)
    twin = model.adapted(num_classes=4)
    assert torch.equal(twin.head.reduction[0].weight, model.head.reduction[0].weight)
