"""The loss: torch's mean where that is defined, 0 where nothing counts."""

import pytest
import torch
import torch.nn.functional as F

from ccnet.losses import cross_entropy, segmentation_loss

WEIGHTS = [None, torch.tensor([0.5, 1.0, 3.0])]


def sample(dtype: torch.dtype = torch.float32) -> tuple[torch.Tensor, torch.Tensor]:
    labels = torch.randint(0, 3, (2, 5, 6))
    labels[:, 0] = 255
    return torch.randn(2, 3, 5, 6, dtype=dtype).requires_grad_(), labels


@pytest.mark.parametrize("weights", WEIGHTS, ids=["plain", "weighted"])
def test_loss_and_gradient_are_torchs_mean(weights):
    logits, labels = sample()
    got = cross_entropy(logits, labels, weights)
    expected = F.cross_entropy(logits, labels, weights, ignore_index=255)
    torch.testing.assert_close(got, expected)
    torch.testing.assert_close(
        torch.autograd.grad(got, logits), torch.autograd.grad(expected, logits)
    )


@pytest.mark.parametrize("weights", WEIGHTS, ids=["plain", "weighted"])
def test_ignored_pixels_do_not_count(weights):
    logits, labels = sample()
    loss = cross_entropy(logits, labels, weights)
    torch.testing.assert_close(loss, cross_entropy(logits[:, :, 1:], labels[:, 1:], weights))
    (gradient,) = torch.autograd.grad(loss, logits)
    assert (gradient[:, :, 0] == 0).all()
    assert (gradient[:, :, 1:] != 0).all()


@pytest.mark.parametrize(
    ("label", "weights"),
    [
        (255, None),
        (255, torch.tensor([0.5, 1.0, 3.0])),
        (255, torch.tensor([0.0, 1.0, 1.0])),
        (0, torch.tensor([0.0, 1.0, 1.0])),
    ],
)
def test_where_nothing_has_weight_loss_and_gradient_are_zero(label, weights):
    logits, labels = sample()
    loss = cross_entropy(logits, torch.full_like(labels, label), weights)
    (gradient,) = torch.autograd.grad(loss, logits)
    assert loss.item() == 0
    assert (gradient == 0).all()


def test_loss_of_bfloat16_logits_is_computed_in_float32():
    logits, labels = sample(torch.bfloat16)
    loss = cross_entropy(logits, labels)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, cross_entropy(logits.float(), labels), rtol=0, atol=0)
    (gradient,) = torch.autograd.grad(loss, logits)
    assert gradient.dtype == torch.bfloat16


def test_auxiliary_logits_weigh_less():
    main, labels = sample()
    other = torch.randn_like(main)
    losses = [cross_entropy(x, labels) for x in (main, other)]
    torch.testing.assert_close(segmentation_loss([main], labels), losses[0])
    torch.testing.assert_close(
        segmentation_loss([main, other], labels), losses[0] + 0.4 * losses[1]
    )
    torch.testing.assert_close(
        segmentation_loss([main, other], labels, auxiliary_weight=2), losses[0] + 2 * losses[1]
    )


def test_class_weights_reach_both_losses():
    main, labels = sample()
    weights = torch.tensor([0.5, 1.0, 3.0])
    torch.testing.assert_close(
        segmentation_loss([main, main], labels, class_weights=weights),
        1.4 * cross_entropy(main, labels, weights),
    )
