"""The head: its parts in the paper's order, its features from any encoder, and its limits."""

import pytest
import torch

from ccnet import CCNetHead
from ccnet.models.head import auxiliary_head


@pytest.mark.parametrize("kernel_size", [1, 3])
def test_the_head_takes_any_features(kernel_size):
    head = CCNetHead(12, 5, 8, 3, kernel_size=kernel_size, shared=False).eval()
    assert head(torch.randn(2, 12, 7, 10)).shape == (2, 5, 7, 10)
    assert {part[0].kernel_size for part in (head.reduction, head.smoothing, head.fusion)} == {
        (kernel_size, kernel_size)
    }
    assert len(head.attention.passes) == 3


def test_the_fusion_sees_the_features_and_after_them_their_context():
    head, features = CCNetHead(12, 5, 8).eval(), torch.randn(1, 12, 4, 4)
    seen = []
    head.fusion.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    head(features)
    assert torch.equal(seen[0][:, :12], features)
    assert seen[0].shape == (1, 12 + 8, 4, 4)


def test_the_embedding_is_a_projection_of_the_attention_s_output():
    head, features = CCNetHead(12, 5, 8, embedding_channels=3).eval(), torch.randn(2, 12, 7, 10)
    seen = []
    head.attention.register_forward_hook(lambda _module, _inputs, output: seen.append(output))
    logits, embedding = head(features, embedding=True)
    assert torch.equal(logits, head(features))
    assert head.embedding is not None
    assert torch.equal(embedding, head.embedding(seen[0]))
    assert embedding.shape == (2, 3, 7, 10)
    with pytest.raises(ValueError, match="no embedding; CCNet\\(embedding_channels=16\\) has one"):
        CCNetHead(12, 5, 8)(features, embedding=True)


def test_the_passes_share_their_weights_unless_told_otherwise():
    assert len(CCNetHead(12, 5, 8, 3).attention.passes) == 1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"num_classes": 1}, "num_classes must be 2 to 255, got 1"),
        ({"num_classes": 256}, "num_classes must be 2 to 255, got 256"),
        ({"kernel_size": 5}, "kernel_size must be 1 or 3, got 5"),
        ({"activation": "gelu"}, "activation is 'gelu'; known are relu, relu6, leaky_relu"),
    ],
)
def test_arguments_that_do_not_fit_are_named(arguments, words):
    with pytest.raises(ValueError, match=words):
        CCNetHead(**{"in_channels": 12, "num_classes": 5, "channels": 8, **arguments})


@pytest.mark.parametrize("bias", [True, False])
def test_the_auxiliary_head_keeps_the_size_and_has_a_bias_as_asked(bias):
    head = auxiliary_head(12, 5, 8, activation="leaky_relu", dropout=0.5, bias=bias).eval()
    assert head(torch.randn(2, 12, 7, 10)).shape == (2, 5, 7, 10)
    assert (head[0].bias is not None) == bias
    assert [type(layer).__name__ for layer in head] == [
        "Conv2d",
        "BatchNorm2d",
        "LeakyReLU",
        "Dropout2d",
        "Conv2d",
    ]
