"""Sums over pixels: against a loop over pixels in float64, and where they are not smooth."""

import math

import pytest
import torch

from ccnet.losses.pixels import cross_entropy, pixel_weights, weighted_cross_entropy


def sample(dtype: torch.dtype = torch.float64) -> tuple[torch.Tensor, torch.Tensor]:
    labels = torch.randint(0, 3, (2, 4, 5))
    labels[:, 0] = 255
    return (3 * torch.randn(2, 3, 4, 5, dtype=dtype)).requires_grad_(), labels


def loop(logits, labels, weights, gamma: float, smoothing: float) -> float:
    """The definitions, pixel by pixel in Python's numbers."""
    total = 0.0
    for b, y, x in (labels != 255).nonzero().tolist():
        values = logits[b, :, y, x].tolist()
        most = max(values)
        logs = [v - most - math.log(sum(math.exp(w - most) for w in values)) for v in values]
        target = [smoothing / len(values)] * len(values)
        target[labels[b, y, x]] += 1 - smoothing
        entropy = -sum(t * log for t, log in zip(target, logs, strict=True))
        focus = (1 - math.exp(logs[labels[b, y, x]])) ** gamma
        total += weights[b, y, x].item() * focus * entropy
    return total


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("classes", [None, torch.tensor([0.5, 1.0, 3.0])], ids=["plain", "weights"])
def test_cross_entropy_is_that_of_a_loop_and_its_gradient_is_right(gamma, smoothing, classes):
    logits, labels = sample()
    weights = pixel_weights(labels, classes).double()
    options = {"focal_gamma": gamma, "label_smoothing": smoothing}
    got = weighted_cross_entropy(logits, labels, weights, **options)
    assert got.item() == pytest.approx(loop(logits, labels, weights, gamma, smoothing), rel=1e-12)
    assert torch.autograd.gradcheck(
        lambda x: weighted_cross_entropy(x, labels, weights, **options), logits
    )
    (gradient,) = torch.autograd.grad(got, logits)
    assert (gradient[:, :, 0] == 0).all()


def test_smoothing_without_class_weights_is_torchs():
    logits, labels = sample()
    expected = torch.nn.functional.cross_entropy(
        logits, labels, ignore_index=255, reduction="sum", label_smoothing=0.3
    )
    weights = pixel_weights(labels, None)
    torch.testing.assert_close(
        weighted_cross_entropy(logits, labels, weights, label_smoothing=0.3), expected
    )


@pytest.mark.parametrize("gamma", [0.1, 0.5, 1.0, 2.0])
def test_a_pixel_that_is_surely_right_has_a_finite_focal_gradient(gamma):
    logits = torch.tensor([[[[1000.0]], [[0.0]]]], requires_grad=True)
    labels = torch.zeros(1, 1, 1, dtype=torch.int64)
    loss = weighted_cross_entropy(logits, labels, torch.ones(1, 1, 1), focal_gamma=gamma)
    (gradient,) = torch.autograd.grad(loss, logits)
    assert loss.item() == 0
    assert gradient.isfinite().all()


def test_no_image_costs_nothing():
    logits = torch.randn(0, 3, 4, 5, requires_grad=True)
    labels = torch.zeros(0, 4, 5, dtype=torch.int64)
    loss = weighted_cross_entropy(logits, labels, torch.ones(0, 4, 5), focal_gamma=2.0)
    loss.backward()
    assert loss.item() == 0


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_logits_of_lower_precision_are_computed_with_in_float32(dtype):
    logits, labels = sample(dtype)
    weights = pixel_weights(labels, None)
    options = {"focal_gamma": 2.0, "label_smoothing": 0.1}
    got = weighted_cross_entropy(logits, labels, weights, **options)
    assert got.dtype == torch.float32
    assert got == weighted_cross_entropy(logits.float(), labels, weights, **options)
    assert cross_entropy(logits.double(), labels).dtype == torch.float64
