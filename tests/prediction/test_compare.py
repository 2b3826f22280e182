"""Two predictors compared on one data set, by one process or two."""

import pytest
import torch

from ccnet import Predictor
from ccnet.datasets import Scenes
from ccnet.prediction.compare import compare
from ccnet.prediction.evaluate import evaluate
from tests.conftest import in_processes, new_tiny_model

DATA = Scenes("val", num_images=5)


def two_predictors() -> tuple[Predictor, Predictor]:
    predictors = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        predictors.append(Predictor(new_tiny_model(), device="cpu"))
    return predictors[0], predictors[1]


def compare_two():
    return compare(*two_predictors(), DATA, num_resampled=200)


def test_both_models_have_the_scores_of_an_evaluation():
    a, b = two_predictors()
    seen = []
    found = compare(a, b, DATA, num_resampled=200, progress=lambda *count: seen.append(count))
    assert found.scores == (evaluate(a, DATA), evaluate(b, DATA))
    assert found.difference == found.scores[1].miou - found.scores[0].miou != 0
    assert {image.name for image in found.images} == {DATA.name(i) for i in range(5)}
    assert seen == [(done, 10) for done in range(1, 11)]


def test_a_model_does_not_differ_from_itself():
    a, _ = two_predictors()
    found = compare(a, a, DATA, num_resampled=50)
    assert (found.difference, found.p_value) == (0, 1)
    assert all(image.difference == 0 for image in found.images)


@pytest.mark.slow
def test_two_processes_find_what_one_does():
    alone = compare_two()
    assert in_processes(2, compare_two) == [alone, alone]
