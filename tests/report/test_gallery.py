"""Pictures that can be decoded to what they were made of, and which of them are kept."""

import base64
import io
import random
import zlib

import numpy as np
import pytest
from PIL import Image

from ccnet.images.colors import as_rgb
from ccnet.report.gallery import Gallery, Picture, new_picture, packed

EMPTY = Picture(1, 1, b"", b"", b"")


def unpacked(content: bytes, width: int) -> np.ndarray:
    """What the page's program does, byte by byte."""
    values = bytearray(zlib.decompress(content))
    for place in range(width, len(values)):
        values[place] ^= values[place - width]
    return np.frombuffer(values, np.uint8).reshape(-1, width)


def sample(height: int = 30, width: int = 40) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    image = np.full((height, width, 3), (200, 100, 50), np.uint8)
    return image, *rng.integers(0, 256, (2, height, width), np.uint8)


def test_a_small_picture_keeps_every_label_and_about_the_colors():
    image, label, prediction = sample()
    picture = new_picture(image, label, prediction)
    assert (picture.width, picture.height) == (40, 30)
    np.testing.assert_array_equal(unpacked(picture.label, 40), label)
    np.testing.assert_array_equal(unpacked(picture.prediction, 40), prediction)
    decoded = np.asarray(Image.open(io.BytesIO(picture.image)).convert("RGB"))
    assert decoded.shape == image.shape
    assert np.abs(decoded.astype(int) - image).max() < 8


def test_a_large_picture_is_reduced_and_its_labels_are_those_in_the_middle():
    image, label, prediction = sample(90, 300)
    picture = new_picture(image, label, prediction, longest_side=100)
    assert (picture.width, picture.height) == (100, 30)
    np.testing.assert_array_equal(unpacked(picture.label, 100), label[1::3, 1::3])
    assert Image.open(io.BytesIO(picture.image)).size == (100, 30)


def test_a_very_flat_image_keeps_a_row():
    picture = new_picture(*sample(1, 2000), longest_side=100)
    assert (picture.width, picture.height) == (100, 1)


def test_the_page_gets_text_of_the_counted_length():
    picture = new_picture(*sample())
    content = picture.to_dict()
    image = content["image"].removeprefix("data:image/jpeg;base64,")
    assert base64.b64decode(image) == picture.image
    assert base64.b64decode(content["label"]) == picture.label
    assert picture.num_bytes == sum(map(len, (image, content["label"], content["prediction"])))


@pytest.mark.parametrize("channels", [1, 2, 3, 4, 7])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_images_of_any_channels_and_16_bits_can_be_looked_at(channels, dtype):
    image = np.arange(channels, dtype=dtype).reshape(1, 1, channels).repeat(2, 1)
    if dtype == np.uint16:
        image *= 257
    expected = [0, 1, 2] if channels >= 3 else [0, 0, 0]
    assert as_rgb(image).tolist() == [[expected, expected]]


def test_labels_of_real_scenes_take_few_bytes():
    label = np.zeros((360, 480), np.uint8)
    label[100:200, 50:400] = 3
    assert len(packed(label)) < 500


def kept(gallery: Gallery) -> set[int]:
    assert gallery.keys.keys() == gallery.pictures.keys()
    return set(gallery.pictures)


def filled(scores: dict[int, float | None], order: list[int], limit: int) -> Gallery:
    gallery = Gallery(limit)
    for index in order:
        gallery.add(index, scores[index], lambda: EMPTY)
        assert len(gallery.pictures) <= limit
    return gallery


SCORES: dict[int, float | None] = {i: random.Random(i).random() for i in range(100)}


def test_few_images_are_all_kept():
    assert kept(filled(SCORES, list(range(20)), limit=20)) == set(range(20))


def test_of_many_the_worst_half_the_best_quarter_and_some_others_are_kept():
    found = kept(filled(SCORES, list(range(100)), limit=20))
    ranked = sorted(SCORES, key=lambda i: SCORES[i] or 0)
    assert {*ranked[:10], *ranked[-5:]} < found
    assert len(found) > 15


@pytest.mark.parametrize("seed", range(5))
def test_the_choice_depends_neither_on_the_order_nor_on_the_processes(seed):
    order = list(range(100))
    whole = kept(filled(SCORES, order, limit=20))
    random.Random(seed).shuffle(order)
    assert kept(filled(SCORES, order, limit=20)) == whole
    first, second = (filled(SCORES, part, 20) for part in (order[:33], order[33:]))
    first.merge(second)
    assert kept(first) == whole


def test_another_seed_chooses_other_images():
    galleries = Gallery(20, seed=0), Gallery(20, seed=1)
    for gallery in galleries:
        for index, iou in SCORES.items():
            gallery.add(index, iou, lambda: EMPTY)
    assert kept(galleries[0]) != kept(galleries[1])


def test_pictures_are_made_of_kept_images_only():
    made = []
    gallery = Gallery(4)
    for index in range(100):
        gallery.add(index, 0.5, lambda index=index: made.append(index) or EMPTY)
    assert set(gallery.pictures) <= set(made)
    assert len(made) < 40


def test_an_image_without_a_score_is_not_among_the_worst():
    scores = {**SCORES, 7: None}
    gallery = filled(scores, list(range(20)), limit=20)
    assert gallery.ranked()[0] == min(
        range(20), key=lambda i: 2 if scores[i] is None else SCORES[i]
    )
    assert gallery.worst()[-1] == gallery.best()[0] == 7
    assert sorted(gallery.ranked()) == list(range(20))
