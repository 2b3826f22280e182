"""Dice and Lovász: against loops in float64, with absent classes, ignored pixels and no images."""

from itertools import pairwise, product

import pytest
import torch

from ccnet.losses.overlap import dice_share, jaccard_steps, lovasz_sum, overlap_sums

NUM_CLASSES = 4


def sample(dtype: torch.dtype = torch.float64) -> tuple[torch.Tensor, torch.Tensor]:
    """Class 3 never occurs, class 2 in the first image alone; a row of each is ignored."""
    labels = torch.randint(0, 2, (2, 4, 5))
    labels[0, 1, :3] = 2
    labels[:, 0] = 255
    return torch.randn(2, NUM_CLASSES, 4, 5, dtype=dtype).requires_grad_(), labels


def dice(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    sums = overlap_sums(logits, labels)
    return dice_share(sums, sums.detach())


def pixels(logits, labels):
    """(label, probabilities) of each labeled pixel."""
    probability = logits.detach().double().softmax(1)
    for place in (labels != 255).nonzero().tolist():
        b, y, x = place
        yield labels[b, y, x].item(), probability[b, :, y, x].tolist()


def dice_loop(logits, labels) -> float:
    losses = []
    for c in range(NUM_CLASSES):
        shared = predicted = labeled = 0.0
        for label, p in pixels(logits, labels):
            shared += p[c] * (label == c)
            predicted += p[c]
            labeled += label == c
        if labeled:
            losses.append(1 - 2 * shared / (predicted + labeled))
    return sum(losses) / len(losses) if losses else 0.0


def lovasz_loop(logits, labels) -> float:
    """Berman et al.'s equation 9: Σ m_i g_i, g_i by differences of 1 − IoU of sets of pixels."""
    total = 0.0
    for b in range(len(logits)):
        own = list(pixels(logits[b : b + 1], labels[b : b + 1]))
        losses = []
        for c in sorted({label for label, _ in own}):
            truth = {i for i, (label, _) in enumerate(own) if label == c}
            errors = [abs((label == c) - p[c]) for label, p in own]
            order = sorted(range(len(own)), key=lambda i, errors=errors: -errors[i])
            loss, before = 0.0, 0.0
            for k, i in enumerate(order):
                wrong = set(order[: k + 1])
                now = len(wrong) / len(truth | wrong)  # 1 − IoU = |wrong| / |truth ∪ wrong|
                loss += errors[i] * (now - before)
                before = now
            losses.append(loss)
        total += sum(losses) / len(losses) if losses else 0.0
    return total


@pytest.mark.parametrize(
    ("loss", "oracle"), [(dice, dice_loop), (lovasz_sum, lovasz_loop)], ids=["dice", "lovasz"]
)
class TestOverlap:
    def test_loss_is_that_of_a_loop_and_its_gradient_is_right(self, loss, oracle):
        logits, labels = sample()
        got = loss(logits, labels)
        assert got.item() == pytest.approx(oracle(logits, labels), rel=1e-12)
        if loss is lovasz_sum:  # of Dice the sums of the batch are constants: see below
            assert torch.autograd.gradcheck(lambda x: loss(x, labels), logits)
        (gradient,) = torch.autograd.grad(got, logits)
        assert (gradient[:, :, 0] == 0).all()
        assert (gradient[:, :, 1:] != 0).all()

    def test_one_class_alone(self, loss, oracle):
        logits, _ = sample()
        labels = torch.full((2, 4, 5), 1)
        assert loss(logits, labels).item() == pytest.approx(oracle(logits, labels), rel=1e-12)

    @pytest.mark.parametrize("num_images", [0, 2])
    def test_without_a_labeled_pixel_loss_and_gradient_are_zero(self, loss, oracle, num_images):
        logits = sample()[0][:num_images]
        value = loss(logits, torch.full((num_images, 4, 5), 255))
        (gradient,) = torch.autograd.grad(value, logits)
        assert value.item() == 0
        assert (gradient == 0).all()

    @pytest.mark.parametrize("sure", [1e3, -1e3])
    def test_certain_predictions_cost_nothing_or_all(self, loss, oracle, sure):
        labels = torch.tensor([[[0, 1, 255]]])
        scores = torch.nn.functional.one_hot(labels.clamp(max=1), 2).movedim(-1, 1) * sure
        logits = scores.float().requires_grad_()
        value = loss(logits, labels)
        (gradient,) = torch.autograd.grad(value, logits)
        assert value.item() == (0 if sure > 0 else 1)
        assert gradient.isfinite().all()

    def test_logits_of_bfloat16_are_computed_with_in_float32(self, loss, oracle):
        logits, labels = sample(torch.bfloat16)
        got = loss(logits, labels)
        assert got.dtype == torch.float32
        assert got == loss(logits.float(), labels)

    def test_a_logit_that_is_no_number_shows(self, loss, oracle):
        logits, labels = sample()
        with torch.no_grad():
            logits[0, 0, 2, 2] = torch.nan
        assert loss(logits, labels).isnan()


def test_gradient_of_dice_is_that_of_the_loss_of_the_batch():
    logits, labels = sample()

    def direct(x: torch.Tensor) -> torch.Tensor:
        shared, predicted, labeled = overlap_sums(x, labels)
        occurs = labeled > 0
        return (1 - 2 * shared / (predicted + labeled))[occurs].mean()

    assert torch.autograd.gradcheck(direct, logits)
    expected = torch.autograd.grad(direct(logits), logits)
    torch.testing.assert_close(torch.autograd.grad(dice(logits, labels), logits), expected)


def test_shares_of_dice_add_up():
    logits, labels = sample()
    whole = dice(logits, labels)
    every = overlap_sums(logits, labels).detach()
    shares = [dice_share(overlap_sums(logits[i : i + 1], labels[i : i + 1]), every) for i in (0, 1)]
    torch.testing.assert_close(sum(shares), whole)
    torch.testing.assert_close(
        torch.autograd.grad(sum(shares), logits), torch.autograd.grad(whole, logits)
    )


@pytest.mark.parametrize("members", list(product([False, True], repeat=4))[1:])
def test_steps_are_differences_of_the_jaccard_loss(members):
    truth = {i for i, member in enumerate(members) if member}
    losses = [len(wrong) / len(truth | wrong) for k in range(5) for wrong in [set(range(k))]]
    steps = jaccard_steps(torch.tensor([members]), torch.float64)[0].tolist()
    expected = [after - before for before, after in pairwise(losses)]
    assert steps == pytest.approx(expected, abs=1e-15)


def test_steps_of_many_pixels_keep_their_digits_in_float32():
    is_class = torch.rand(1, 100_000) < 0.3
    exact = jaccard_steps(is_class, torch.float64)
    torch.testing.assert_close(
        jaccard_steps(is_class, torch.float32).double(), exact, rtol=1e-6, atol=0
    )
    assert exact.sum().item() == pytest.approx(1)
