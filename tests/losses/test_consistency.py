"""The category consistent loss: a loop in float64, the knees of φ, empty and single classes."""

import math

import pytest
import torch

from ccnet.losses.consistency import CategoryConsistency, labels_at, pixels_of_classes

NUM_CLASSES = 4
LOSS = CategoryConsistency()


def sample(
    spread: float = 1.0, dtype: torch.dtype = torch.float64
) -> tuple[torch.Tensor, torch.Tensor]:
    """Features at half the size of the labels; class 3 never occurs, a row is ignored."""
    labels = torch.randint(0, 3, (2, 3, 4)).repeat_interleave(2, 1).repeat_interleave(2, 2)
    labels[:, :2] = 255
    return (spread * torch.randn(2, 5, 3, 4, dtype=dtype)).requires_grad_(), labels


def loss(embedding, labels, constants: CategoryConsistency = LOSS) -> torch.Tensor:
    means = constants.class_means([pixels_of_classes(embedding.detach(), labels, NUM_CLASSES)])
    return constants.share(embedding, labels, means)


def phi(d: float, low: float, high: float) -> float:
    if d <= low:
        return 0.0
    return (d - low) ** 2 if d <= high else d - high + (high - low) ** 2


def loop(embedding, labels, constants: CategoryConsistency = LOSS) -> float:
    features: dict[int, list[list[float]]] = {}
    for b, y, x in torch.ones_like(embedding[:, 0]).nonzero().tolist():
        label = labels[b, 2 * y, 2 * x].item()
        if label != 255:
            features.setdefault(label, []).append(embedding[b, :, y, x].tolist())
    if not features:
        return 0.0
    means = {
        c: [sum(values) / len(own) for values in zip(*own, strict=True)]
        for c, own in features.items()
    }
    low, high = constants.variation_margin, constants.distance_margin
    variation = [
        sum(phi(math.dist(f, means[c]), low, high) for f in own) / len(own)
        for c, own in features.items()
    ]
    pairs = [(a, b) for a in means for b in means if a != b]
    apart = [max(0.0, 2 * high - math.dist(means[a], means[b])) ** 2 for a, b in pairs]
    lengths = [math.hypot(*mean) for mean in means.values()]
    return (
        constants.variation * sum(variation) / len(means)
        + constants.distance * (sum(apart) / len(pairs) if pairs else 0.0)
        + constants.regularization * sum(lengths) / len(means)
    )


@pytest.mark.parametrize("spread", [0.1, 1.0, 3.0], ids=["near", "both", "far"])
@pytest.mark.parametrize(
    "constants",
    [LOSS, CategoryConsistency(0.7, 1.3, 0.2, 0.4, 1.1), CategoryConsistency(1, 0, 0, 0, 0)],
    ids=["paper", "others", "linear"],
)
def test_loss_is_that_of_a_loop(spread, constants):
    embedding, labels = sample(spread)
    got = loss(embedding, labels, constants).item()
    assert got == pytest.approx(loop(embedding, labels, constants), rel=1e-12)


def direct(embedding, labels, constants=LOSS) -> torch.Tensor:
    """The definition with the means as functions of the features."""
    features, members = pixels_of_classes(embedding, labels, NUM_CLASSES)
    counts = members.sum(0)[:, None]
    means = members.T @ features / counts.clamp(min=1)
    within = constants.within(features, members, means, counts)
    return within + constants.between(means, counts[:, 0] > 0)


@pytest.mark.parametrize("spread", [0.3, 1.0, 3.0])
def test_gradient_is_that_through_the_means_too(spread):
    embedding, labels = sample(spread)
    assert torch.autograd.gradcheck(lambda x: direct(x, labels), embedding)
    expected = torch.autograd.grad(direct(embedding, labels), embedding)
    got = torch.autograd.grad(loss(embedding, labels), embedding)
    torch.testing.assert_close(got, expected, rtol=1e-9, atol=1e-12)
    assert (got[0][:, :, 0] == 0).all()


@pytest.mark.parametrize("at", [0.5, 1.5])
@pytest.mark.parametrize("side", [-1e-9, 0.0, 1e-9])
def test_knees(at, side):
    """Two pixels of one class at ±d from their mean; φ is continuous, its slope is not at δd."""
    d = at + side
    only = CategoryConsistency(1.0, 0.0, 0.0)
    embedding = torch.tensor([[[[d, -d]]]], dtype=torch.float64).requires_grad_()
    labels = torch.zeros(1, 1, 2, dtype=torch.int64)
    value = loss(embedding, labels, only)
    assert value.item() == pytest.approx(phi(d, 0.5, 1.5), abs=1e-12)
    slope = torch.autograd.grad(value, embedding)[0][0, 0, 0, 0].item() * 2
    expected = {0.5: 0.0, 1.5: 1.0 if side > 0 else 2.0}[at]
    assert slope == pytest.approx(expected, abs=1e-8)


def test_one_class_has_no_distance_and_absent_classes_have_no_say():
    embedding, _ = sample()
    labels = torch.full((2, 6, 8), 2)
    got = loss(embedding, labels).item()
    assert got == pytest.approx(loop(embedding, labels), rel=1e-12)
    (gradient,) = torch.autograd.grad(loss(embedding, labels), embedding)
    assert gradient.isfinite().all()


@pytest.mark.parametrize("num_images", [0, 2])
def test_without_a_labeled_pixel_loss_and_gradient_are_zero(num_images):
    embedding = sample()[0][:num_images]
    value = loss(embedding, torch.full((num_images, 6, 8), 255))
    (gradient,) = torch.autograd.grad(value, embedding)
    assert value.item() == 0
    assert (gradient == 0).all()


def test_features_that_are_equal_have_a_finite_gradient():
    """Every distance is 0, where a norm has no derivative."""
    embedding = torch.zeros(1, 3, 2, 2, requires_grad=True)
    labels = torch.tensor([[[0, 1], [1, 0]]])
    value = loss(embedding, labels)
    (gradient,) = torch.autograd.grad(value, embedding)
    assert value.item() == pytest.approx(9.0)  # (2 δd)²
    assert gradient.isfinite().all()


def test_shares_add_up():
    embedding, labels = sample()
    labels[1, 2:4] = 255  # the parts have different numbers of pixels
    whole = loss(embedding, labels)
    parts = [(embedding[i : i + 1], labels[i : i + 1]) for i in range(2)]
    means = LOSS.class_means([pixels_of_classes(x.detach(), y, NUM_CLASSES) for x, y in parts])
    shares = sum(LOSS.share(x, y, means) for x, y in parts)
    torch.testing.assert_close(shares, whole)
    torch.testing.assert_close(
        torch.autograd.grad(shares, embedding), torch.autograd.grad(whole, embedding)
    )


def test_features_of_bfloat16_are_computed_with_in_float32():
    embedding, labels = sample(dtype=torch.bfloat16)
    got = loss(embedding, labels)
    assert got.dtype == torch.float32
    assert got == loss(embedding.float(), labels)


def test_labels_are_taken_at_the_centers():
    labels = torch.arange(12).view(1, 2, 6)
    assert labels_at(labels, (1, 2)).tolist() == [[[7, 10]]]
    assert labels_at(labels, (2, 6)).tolist() == labels.tolist()
    assert labels_at(labels[:, :1, :2], (1, 4)).tolist() == [[[0, 0, 1, 1]]]


def test_margins_in_the_wrong_order_are_refused():
    with pytest.raises(ValueError, match=r"0 ≤ variation_margin ≤ distance_margin, got 2\.0 and"):
        CategoryConsistency(variation_margin=2.0)
