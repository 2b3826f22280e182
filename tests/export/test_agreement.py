"""The comparison of a file with its network, against numbers made by hand."""

import math

import numpy as np
import pytest
import torch
from PIL import Image

from ccnet.export.agreement import SIZES, compare, noise, photographs


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


def test_photographs_are_taken_at_the_first_one_s_size_and_half_of_it():
    images = [np.full((h, w, 5), 7, np.uint8) for h, w in ((50, 80), (64, 64))]
    sizes = [[tuple(image.shape) for image in part] for part in photographs(images)]
    assert sizes == [[(1, 5, 50, 80)] * 2, [(1, 5, 32, 40)] * 2]
    assert all((image == 7).all() for part in photographs(images) for image in part)


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ((64, 96), [(65, 97), (32, 48)]),
        ((128, 192), [(128, 192), (65, 97)]),
        ((20, 50), [(32, 50), (32, 32)]),
    ],
)
def test_photographs_never_have_the_size_that_was_traced(size, expected):
    parts = photographs([np.zeros((*size, 3), np.uint8)])
    assert [tuple(image.shape[2:]) for (image,) in parts] == expected


def test_channels_are_resized_as_pillow_resizes_a_picture():
    image = np.random.default_rng(0).integers(0, 256, (50, 80, 3), np.uint8)
    half = photographs([image])[1][0]
    expected = np.array(Image.fromarray(image).resize((40, 32)))
    np.testing.assert_array_equal(half[0].movedim(0, -1), expected)


def test_only_the_first_batch_is_timed():
    batches, runs = [torch.zeros(2, 3, 4, 4, dtype=torch.uint8) for _ in range(5)], []

    def counted(images):
        runs.append(images)
        return logits(images)

    compare(counted, lambda x: [logits(x)], batches)
    counts = [sum(run is images for run in runs) for images in batches]
    assert counts == [counts[0], 1, 1, 1, 1]
    assert counts[0] > 2
