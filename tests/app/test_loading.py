"""Models that are loaded in the background, and one predictor for many threads."""

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from ccnet.app.loading import (
    AS_VALIDATED,
    PageModel,
    load_in_background,
    protocols_of,
    with_protocol,
)
from ccnet.prediction.protocol import PROTOCOLS
from tests.app.serving import loaded
from tests.conftest import noise


def test_who_asks_for_a_predictor_waits_until_it_is_loaded(model_folder):
    model, got = PageModel(str(model_folder)), []
    thread = threading.Thread(target=lambda: got.append(model.predictor))
    thread.start()
    assert not got
    model.load("cpu", "float32")
    thread.join(30)
    assert got == [model.predictor]


def test_a_model_that_cannot_be_loaded_is_reported_and_asking_for_it_raises(tmp_path):
    models, errors = [PageModel(str(tmp_path / name)) for name in "ab"], []
    load_in_background(models, "cpu", "float32", lambda: errors.append(1)).join(30)
    assert errors == [1]
    for model in models:
        with pytest.raises(FileNotFoundError, match="no model folder at"):
            _ = model.predictor


def test_another_protocol_shares_the_network(predictor):
    other = with_protocol(predictor, "sliding")
    assert other.network is predictor.network
    assert other.protocol == PROTOCOLS["sliding"]
    assert other.is_protocol_given
    assert predictor.protocol == PROTOCOLS["whole"]
    assert with_protocol(predictor, AS_VALIDATED) is predictor
    with pytest.raises(ValueError, match="there is no protocol 'none'; there are as validated, wh"):
        with_protocol(predictor, "none")


def test_each_offered_protocol_can_be_chosen(predictor):
    for description, name in protocols_of(predictor):
        assert str(with_protocol(predictor, name).protocol) in description


@pytest.mark.slow
@pytest.mark.parametrize("protocol", ["whole", "mmsegmentation"])
def test_many_threads_get_the_labels_that_one_gets(model_folder, protocol):
    (model,) = loaded(model_folder)
    images = [noise(40 + 8 * n, 64, n)[0] for n in range(6)]
    alone = [with_protocol(model.predictor, protocol).predict(image) for image in images]
    (fresh,) = loaded(model_folder)  # whose network is prepared while threads ask for it

    def predict(number: int) -> np.ndarray:
        return with_protocol(fresh.predictor, protocol).predict(images[number % len(images)])

    with ThreadPoolExecutor(6) as pool:
        together = list(pool.map(predict, range(18)))
    for number, labels in enumerate(together):
        np.testing.assert_array_equal(labels, alone[number % len(images)])
