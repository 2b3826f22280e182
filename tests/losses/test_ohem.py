"""The threshold of OHEM, of numbers and of shares of the pixels (two processes:
tests/runtime/test_processes.py; the rule as a whole: tests/losses/test_segmentation.py)."""

import pytest
import torch

from ccnet.losses.ohem import is_hard, ohem_threshold

PROBABILITIES = torch.tensor([0.9, 0.1, 0.5, 0.3, 0.7])


def test_the_threshold_of_no_pixels_keeps_all():
    assert ohem_threshold(torch.empty(0), 0.7, 10) == 1
    assert ohem_threshold(torch.empty(0), 0.7, 0.5) == 1


@pytest.mark.parametrize(
    ("min_kept", "threshold"),
    [
        *((0, 0.2), (1, 0.2), (2, 0.3), (4, 0.7), (5, 1), (6, 1)),
        *((0.1, 0.2), (0.2, 0.2), (0.21, 0.3), (0.4, 0.3), (0.79, 0.7), (0.99, 1)),
    ],
)
def test_a_share_is_that_of_the_pixels_rounded_up(min_kept, threshold):
    assert ohem_threshold(PROBABILITIES, 0.2, min_kept).item() == pytest.approx(threshold)


def test_a_pixel_without_a_number_is_hard():
    probability = torch.tensor([[[0.1, 0.3, torch.nan, torch.inf]]])
    assert is_hard(probability, torch.tensor(0.2)).tolist() == [[[True, False, True, False]]]
