"""The comparison of a file with its network, against numbers made by hand."""

import math

import pytest
import torch

from ccnet.export.agreement import Agreement, compare, require_agreement
from ccnet.export.sample_images import SIZES, noise


def logits(images: torch.Tensor) -> torch.Tensor:
    """Two classes: the first where a pixel is dark."""
    first = 0.5 - images[:, :1].float() / 255
    return torch.cat([first, -first], dim=1)


def test_a_function_agrees_with_itself():
    rows = [compare(logits, lambda x: [logits(x)], part) for part in noise()]
    assert [(row.size, row.difference, row.labels) for row in rows] == [
        (s, 0.0, 1.0) for s in SIZES
    ]
    assert all(row.torch_ms > 0 and row.export_ms > 0 for row in rows)


def test_differences_are_counted_over_all_batches():
    bright = torch.full((1, 3, 2, 5), 255, dtype=torch.uint8)
    dark = torch.zeros_like(bright)

    def exported(images):
        found = logits(images)
        found[:, 0, 0, 0] += 0.25 if images is dark else 1.125  # the latter makes it another class
        return [found]

    row = compare(logits, exported, [dark, bright])
    assert row.difference == 1.125
    assert row.labels == (1.0 + 0.9) / 2


def test_large_logits_are_compared_on_their_own_scale():
    images = noise()[0]
    row = compare(lambda x: 40 * logits(x), lambda x: [40 * logits(x) + 0.1], images)
    assert row.difference == pytest.approx(0.1 / (40 * 0.5), rel=1e-3)


def test_labels_that_a_file_makes_itself_are_the_ones_compared():
    images = noise()[0]
    row = compare(logits, lambda x: [logits(x), torch.zeros(1, 161, 97)], images)
    dark = (images[0][:, 0] < 128).double().mean().item()
    assert row.difference == 0
    assert row.labels == pytest.approx(dark)


@pytest.mark.parametrize("bad", [0, 1])
def test_a_nan_is_a_difference(bad):
    batches = [torch.zeros(1, 3, 2, 2, dtype=torch.uint8) for _ in range(2)]

    def exported(images):
        return [logits(images) * (math.nan if images is batches[bad] else 1)]

    assert math.isnan(compare(logits, exported, batches).difference)


def test_only_the_first_batch_is_timed():
    batches, runs = [torch.zeros(2, 3, 4, 4, dtype=torch.uint8) for _ in range(5)], []

    def counted(images):
        runs.append(images)
        return logits(images)

    compare(counted, lambda x: [logits(x)], batches)
    counts = [sum(run is images for run in runs) for images in batches]
    assert counts == [counts[0], 1, 1, 1, 1]
    assert counts[0] > 2


@pytest.mark.parametrize(
    ("difference", "labels", "words"),
    [
        (9e-5, 0.9995, None),
        (1.1e-4, 1.0, "logits on 3 images of 40×50 differ"),
        (0.0, 0.998, r"99.800 % of the labels on 3 images of 40×50 .* 99.9 % are wanted"),
        (math.nan, 1.0, "logits on 3 images of 40×50 are nan or infinite"),
        (0.0, math.nan, "nan % of the labels"),
    ],
)
def test_every_row_of_the_comparison_must_agree(difference, labels, words):
    good = Agreement((1, 33, 33), 0.0, 1.0, 1.0, 1.0)
    rows = [good, Agreement((3, 40, 50), difference, labels, 1.0, 1.0)]
    if words is None:
        require_agreement(rows, 0.999, exact=True)
    else:
        with pytest.raises(ValueError, match=words):
            require_agreement(rows, 0.999, exact=True)


def test_logits_of_less_than_float32_are_judged_by_their_labels():
    require_agreement([Agreement((1, 33, 33), 0.1, 0.95, 1.0, 1.0)], 0.9, exact=False)
    for difference in (math.nan, math.inf):  # equal labels say nothing then
        with pytest.raises(ValueError, match="logits on 1 images of 33×33 are nan or infinite"):
            require_agreement([Agreement((1, 33, 33), difference, 1, 1.0, 1.0)], 0, exact=False)
