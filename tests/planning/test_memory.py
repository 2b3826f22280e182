"""The memory of a step, counted on the meta device."""

import pytest
import torch
from torch.autograd.graph import saved_tensors_hooks

from ccnet import CCNet
from ccnet.planning.memory import bytes_per_image

TINY = {"num_classes": 5, "backbone": "tiny", "channels": 32, "auxiliary_channels": 16}


def test_the_count_is_within_a_tenth_of_a_real_step():
    model = CCNet(**TINY)
    kept = {}

    def keep(tensor):
        kept[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    images, labels = torch.randn(2, 3, 64, 96), torch.zeros(2, 64, 96, dtype=torch.long)
    with saved_tensors_hooks(keep, lambda tensor: tensor):
        for logits in model(images, auxiliary=True):
            torch.nn.functional.cross_entropy(logits, labels)
    own = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    real = sum(t.untyped_storage().nbytes() for key, t in kept.items() if key not in own) // 2
    assert bytes_per_image(TINY, (64, 96)) == pytest.approx(real, rel=0.1)


def test_it_grows_with_the_pixels():
    small, large = (bytes_per_image(TINY, (side, side)) for side in (64, 128))
    assert large == pytest.approx(4 * small, rel=0.1)


def test_nothing_is_computed():
    assert bytes_per_image({"num_classes": 19, "backbone": "resnet101"}, (4096, 4096)) > 50 << 30
