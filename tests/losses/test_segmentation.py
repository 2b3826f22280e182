"""The loss: torch's mean where that is defined, 0 where nothing counts, OHEM's hard pixels.

And all of its terms together, over parts and over two processes.
"""

import math

import pytest
import torch
import torch.nn.functional as F

from ccnet.losses import SegmentationLoss, true_class_probability
from ccnet.losses.overlap import lovasz_sum
from ccnet.runtime.processes import num_processes, rank, sum_over_processes
from tests.conftest import in_processes
from tests.losses import test_consistency, test_overlap

WEIGHTS = [None, torch.tensor([0.5, 1.0, 3.0])]


def sample(dtype: torch.dtype = torch.float32) -> tuple[torch.Tensor, torch.Tensor]:
    labels = torch.randint(0, 3, (2, 5, 6))
    labels[:, 0] = 255
    return torch.randn(2, 3, 5, 6, dtype=dtype).requires_grad_(), labels


@pytest.mark.parametrize("weights", WEIGHTS, ids=["plain", "weighted"])
def test_loss_and_gradient_are_torchs_mean(weights):
    logits, labels = sample()
    got = SegmentationLoss(class_weights=weights)([logits], labels)
    expected = F.cross_entropy(logits, labels, weights, ignore_index=255)
    torch.testing.assert_close(got, expected)
    torch.testing.assert_close(
        torch.autograd.grad(got, logits), torch.autograd.grad(expected, logits)
    )


@pytest.mark.parametrize("weights", WEIGHTS, ids=["plain", "weighted"])
def test_ignored_pixels_do_not_count(weights):
    logits, labels = sample()
    criterion = SegmentationLoss(class_weights=weights)
    loss = criterion([logits], labels)
    torch.testing.assert_close(loss, criterion([logits[:, :, 1:]], labels[:, 1:]))
    (gradient,) = torch.autograd.grad(loss, logits)
    assert (gradient[:, :, 0] == 0).all()
    assert (gradient[:, :, 1:] != 0).all()


@pytest.mark.parametrize("ohem", [None, 0.7], ids=["all", "ohem"])
@pytest.mark.parametrize(
    ("label", "weights"),
    [
        (255, None),
        (255, torch.tensor([0.5, 1.0, 3.0])),
        (255, torch.tensor([0.0, 1.0, 1.0])),
        (0, torch.tensor([0.0, 1.0, 1.0])),
    ],
)
def test_where_nothing_has_weight_loss_and_gradient_are_zero(label, weights, ohem):
    logits, labels = sample()
    criterion = SegmentationLoss(class_weights=weights, ohem_threshold=ohem)
    loss = criterion([logits, logits], torch.full_like(labels, label))
    (gradient,) = torch.autograd.grad(loss, logits)
    assert loss.item() == 0
    assert (gradient == 0).all()


def test_loss_of_bfloat16_logits_is_computed_in_float32():
    logits, labels = sample(torch.bfloat16)
    criterion = SegmentationLoss()
    loss = criterion([logits], labels)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, criterion([logits.float()], labels), rtol=0, atol=0)
    (gradient,) = torch.autograd.grad(loss, logits)
    assert gradient.dtype == torch.bfloat16


@pytest.mark.parametrize("auxiliary_weight", [0.4, 2.0])
@pytest.mark.parametrize("weights", WEIGHTS, ids=["plain", "weighted"])
def test_auxiliary_logits_have_their_own_weight(auxiliary_weight, weights):
    main, labels = sample()
    other = torch.randn_like(main)
    criterion = SegmentationLoss(auxiliary_weight, weights)
    first, second = criterion([main], labels), criterion([other], labels)
    torch.testing.assert_close(criterion([main, other], labels), first + auxiliary_weight * second)


def authors_kept(probability: torch.Tensor, threshold: float, min_kept: int) -> torch.Tensor:
    """The rule as the authors state it, on a sorted list: all, or below the larger threshold."""
    if min_kept >= len(probability):
        return torch.ones_like(probability, dtype=torch.bool)
    if min_kept > 0:
        threshold = max(threshold, probability.sort().values[min_kept - 1].item())
    return probability <= threshold


@pytest.mark.parametrize("threshold", [0.0, 0.2, 0.7, 1.0])
@pytest.mark.parametrize("min_kept", [0, 1, 17, 47, 48, 49, 1000])  # of 48 labeled pixels
def test_hard_pixels_are_those_of_the_authors_rule(threshold, min_kept):
    logits, labels = sample()
    flat, label = logits.movedim(1, -1)[labels != 255], labels[labels != 255]
    assert len(label) == 48
    each = F.cross_entropy(flat, label, reduction="none")
    kept = authors_kept((-each).exp(), threshold, min_kept)
    loss = SegmentationLoss(ohem_threshold=threshold, ohem_min_kept=min_kept)([logits], labels)
    expected = each[kept].mean() if kept.any() else each.sum() * 0
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(
        torch.autograd.grad(loss, logits), torch.autograd.grad(expected, logits)
    )


def test_hard_pixels_are_weighted_by_class_and_the_auxiliary_logits_keep_all():
    logits, labels = sample()
    weights = torch.tensor([0.5, 1.0, 3.0])
    plain = SegmentationLoss(class_weights=weights)
    hard = SegmentationLoss(class_weights=weights, ohem_threshold=0.3, ohem_min_kept=5)
    probability = true_class_probability(logits, labels)
    threshold = hard.divisors([hard.survey(labels, logits)]).threshold
    kept = labels.masked_fill(probability > threshold, 255)
    assert 5 <= (kept != 255).sum() < 48
    expected = plain([logits], kept) + 0.4 * plain([logits], labels)
    torch.testing.assert_close(hard([logits, logits], labels), expected)


@pytest.mark.parametrize("ohem", [None, 0.2], ids=["all", "ohem"])
def test_parts_with_the_step_s_divisors_add_up_to_the_whole(ohem):
    logits, labels = sample()
    labels[1, 1:4] = 255  # the parts have different numbers of pixels that count
    criterion = SegmentationLoss(ohem_threshold=ohem, ohem_min_kept=10)
    whole = criterion([logits, logits], labels)
    divisors = criterion.divisors([criterion.survey(labels, logits)])
    parts = [
        criterion([logits[i : i + 1], logits[i : i + 1]], labels[i : i + 1], divisors)
        for i in range(2)
    ]
    torch.testing.assert_close(sum(parts), whole)


def test_a_pixel_without_a_finite_probability_shows_in_the_loss():
    logits, labels = sample()
    with torch.no_grad():
        logits[0, 0, 2, 2] = torch.nan
    assert SegmentationLoss(ohem_threshold=0.7, ohem_min_kept=5)([logits], labels).isnan()


EVERYTHING = {
    "class_weights": torch.tensor([0.5, 1.0, 3.0]),
    "ohem_threshold": 0.2,
    "ohem_min_kept": 0.4,
    "focal_gamma": 1.5,
    "label_smoothing": 0.1,
    "dice": 1.0,
    "lovasz": 0.5,
    "category_consistent": 0.8,
}
ONE_BY_ONE = [
    {},
    EVERYTHING,
    *({name: EVERYTHING[name]} for name in ("dice", "lovasz", "category_consistent")),
    {"ohem_threshold": 0.2, "ohem_min_kept": 0.4},
]
NAMES = ["cross-entropy", "everything", "dice", "lovasz", "consistency", "ohem"]


def batch() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Four images, of which one has no label; logits, auxiliary ones, embedding and labels."""
    generator = torch.Generator().manual_seed(3)
    draw = lambda *shape: torch.randn(shape, generator=generator).double().requires_grad_()  # noqa: E731
    labels = torch.randint(0, 3, (4, 6, 8), generator=generator)
    labels[0, :3] = labels[1] = 255
    labels[2][labels[2] == 1] = 0
    return draw(4, 3, 6, 8), draw(4, 3, 6, 8), draw(4, 5, 3, 4), labels


def loss_of_shares(options: dict, num_parts: int) -> list[torch.Tensor]:
    """The loss and its gradients, from this process's images in some parts."""
    criterion = SegmentationLoss(**options)
    *outputs, labels = batch()
    size = 4 // (num_processes() * num_parts)
    first = rank() * num_parts * size
    parts = [slice(first + i * size, first + (i + 1) * size) for i in range(num_parts)]
    main, auxiliary, embedding = outputs
    divisors = None
    if num_parts > 1:
        surveys = [criterion.survey(labels[p], main[p], embedding[p]) for p in parts]
        divisors = criterion.divisors(surveys)
    losses = [criterion([main[p], auxiliary[p]], labels[p], divisors, embedding[p]) for p in parts]
    gradients = torch.autograd.grad(sum(losses), outputs, allow_unused=True)
    found = [torch.stack(losses).sum().detach(), *(g for g in gradients if g is not None)]
    return [sum_over_processes(value) / num_processes() for value in found]


@pytest.mark.parametrize("options", ONE_BY_ONE, ids=NAMES)
def test_the_shares_of_two_and_four_parts_add_up(options):
    whole = loss_of_shares(options, 1)
    for num_parts in (2, 4):
        torch.testing.assert_close(loss_of_shares(options, num_parts), whole)


def shares_of_all_losses() -> list[list[torch.Tensor]]:
    return [loss_of_shares(options, parts) for options in ONE_BY_ONE for parts in (1, 2)]


@pytest.mark.slow
def test_two_processes_have_the_loss_and_the_gradient_of_one():
    whole = shares_of_all_losses()
    for found in in_processes(2, shares_of_all_losses):
        torch.testing.assert_close(found, whole)


def test_the_terms_are_added_with_their_weights():
    main, auxiliary, embedding, labels = batch()
    parts = {
        "dice": test_overlap.dice(main, labels),
        "lovasz": lovasz_sum(main, labels) / 3,  # images with a label
        "category_consistent": test_consistency.loss(embedding, labels),
    }
    plain = SegmentationLoss()([main, auxiliary], labels)
    weights = {name: EVERYTHING[name] for name in parts}
    whole = SegmentationLoss(**weights)([main, auxiliary], labels, embedding=embedding)
    expected = plain + sum(weights[name] * parts[name] for name in parts)
    torch.testing.assert_close(whole, expected, check_dtype=False)


@pytest.mark.parametrize("num_images", [0, 2])
def test_all_losses_together_are_zero_where_nothing_has_a_label(num_images):
    main, auxiliary, embedding, labels = (x[:num_images] for x in batch())
    criterion = SegmentationLoss(**EVERYTHING)
    loss = criterion([main, auxiliary], torch.full_like(labels, 255), embedding=embedding)
    gradients = torch.autograd.grad(loss, [main, auxiliary, embedding])
    assert loss.item() == 0
    assert all((gradient == 0).all() for gradient in gradients)


def test_a_missing_embedding_is_told():
    main, _, _, labels = batch()
    with pytest.raises(ValueError, match=r"CCNet\(embedding_channels=16\) gives"):
        SegmentationLoss(category_consistent=1.0)([main], labels)


def test_all_losses_of_bfloat16_are_computed_in_float32():
    main, auxiliary, embedding, labels = batch()
    low = [x.detach().bfloat16().requires_grad_() for x in (main, auxiliary, embedding)]
    criterion = SegmentationLoss(**EVERYTHING)
    loss = criterion(low[:2], labels, embedding=low[2])
    assert loss.dtype == torch.float32
    assert loss == criterion([x.float() for x in low[:2]], labels, embedding=low[2].float())
    assert [g.dtype for g in torch.autograd.grad(loss, low)] == [torch.bfloat16] * 3


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"ohem_threshold": 1.5}, "0 to 1, got 1.5"),
        ({"ohem_min_kept": -1}, "0 or more, got -1"),
        ({"ohem_min_kept": 1.5}, "a whole number or a share below 1, got 1.5"),
        ({"label_smoothing": 1.0}, "0 to below 1, got 1.0"),
        ({"dice": -1.0}, "dice must be 0 or more, got -1.0"),
        ({"lovasz": math.nan}, "lovasz must be 0 or more, got nan"),
        ({"focal_gamma": math.inf}, "focal_gamma must be 0 or more, got inf"),
        ({"class_weights": torch.zeros(3)}, "class_weights must have one above 0"),
    ],
)
def test_values_that_make_no_sense_are_refused(arguments, said):
    with pytest.raises(ValueError, match=said):
        SegmentationLoss(**arguments)


def test_class_weights_move_with_the_loss_and_are_no_state():
    criterion = SegmentationLoss(class_weights=torch.tensor([0.5, 1.0, 3.0]))
    assert criterion.to("meta").class_weights.device.type == "meta"
    assert not criterion.state_dict()
    network = torch.nn.ModuleDict({"model": torch.nn.Conv2d(1, 1, 1), "criterion": criterion})
    assert set(network.state_dict()) == {"model.weight", "model.bias"}
    assert SegmentationLoss().to("meta").class_weights is None


@pytest.mark.parametrize("weight", [-1.0, math.nan, math.inf])
def test_weights_that_make_no_sense_are_refused(weight):
    with pytest.raises(ValueError, match="auxiliary_weight must be 0 or more"):
        SegmentationLoss(auxiliary_weight=weight)
    with pytest.raises(ValueError, match="class_weights must be 0 or more"):
        SegmentationLoss(class_weights=torch.tensor([1.0, weight]))
