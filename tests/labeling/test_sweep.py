"""Rows of tiles: the sums of blocks equal those of whole images, bit by bit."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ccnet.images.windows import WindowedImage
from ccnet.labeling.large import divide
from ccnet.labeling.sweep import CONFIDENCE, LABELS, Sweep, TileCount
from ccnet.prediction.protocol import Protocol
from ccnet.prediction.views import score_images

pytestmark = pytest.mark.slow

protocols = st.builds(
    lambda tile, share, **others: Protocol(tile=tile, stride=math.ceil(share * tile), **others),
    st.integers(5, 30),
    st.floats(0.3, 1),
    mirror=st.booleans(),
    weights=st.sampled_from(["flat", "gaussian"]),
    average=st.sampled_from(["logits", "probabilities"]),
)


class Blurring:
    """A network that looks at a neighborhood, which is not symmetric."""

    def normalize(self, images):
        return (images.float() - 100) / 50

    def network(self, images):
        kernel = torch.arange(1.0, 26).view(1, 1, 5, 5).expand(3, 1, 5, 5) / 325
        return torch.nn.functional.conv2d(images, kernel, padding=2, groups=3)


class InMemory(WindowedImage):
    """An image of which windows are read, and perhaps a part is absent."""

    def __init__(self, pixels, missing=None):
        self.path, self.pixels, self.missing = Path("image.tif"), pixels, missing
        self.height, self.width, self.channels = pixels.shape
        self.dtype = pixels.dtype

    def read(self, top, left, height, width):
        assert min(top, left) >= 0
        assert min(height, width) >= 1
        assert top + height <= self.height
        assert left + width <= self.width
        return self.pixels[top : top + height, left : left + width]

    def absent(self, top, left, height, width):
        missing = self.missing
        return None if missing is None else missing[top : top + height, left : left + width]


def random_pixels(height, width, dtype=np.uint8):
    rng = np.random.default_rng(height * width)
    return rng.integers(0, np.iinfo(dtype).max, (height, width, 3), dtype, endpoint=True)


def whole(pixels, protocol):
    """Labels and confidence of an image in memory."""
    scorer = Blurring()
    image = scorer.normalize(torch.from_numpy(pixels).movedim(-1, 0)[None])
    (scores,) = score_images(scorer.network, [image], protocol)
    probabilities = scores if protocol.average == "probabilities" else scores.softmax(0)
    certainty = (probabilities.amax(0) * 255).round().to(torch.uint8)
    return {LABELS: scores.argmax(0).to(torch.uint8).numpy(), CONFIDENCE: certainty.numpy()}


def swept(image, protocol, num_blocks=1, first=0, batch_size=1, count=None):
    """The results of all blocks from a part on; what is before it is 9."""
    sweep = Sweep(Blurring(), image, protocol, batch_size, with_confidence=True)
    arrays = {name: np.full((image.height, image.width), 9, np.uint8) for name in ("labels", "x")}
    arrays[CONFIDENCE] = arrays.pop("x")
    for block in divide(image.width, num_blocks):
        count = count or TileCount([0], None, None)
        parts = sweep.parts(block)[first:]
        for part, results in zip(parts, sweep.run(block, first, count), strict=True):
            top, left, height, width = part
            for name, array in arrays.items():
                array[top : top + height, left : left + width] = results[name]
    return arrays


@given(st.integers(1, 50), st.integers(1, 50), protocols, st.integers(1, 4))
@settings(deadline=None, max_examples=60)
def test_labels_and_confidence_are_those_of_images_in_memory(height, width, protocol, num_blocks):
    pixels = random_pixels(height, width)
    expected = whole(pixels, protocol)
    found = swept(InMemory(pixels), protocol, min(num_blocks, width))
    for name in (LABELS, CONFIDENCE):
        np.testing.assert_array_equal(found[name], expected[name])


@given(protocols, st.floats(0, 1))
@settings(deadline=None, max_examples=25)
def test_a_sweep_that_begins_later_gives_the_same_from_there_on(protocol, share):
    image = InMemory(random_pixels(45, 30))
    whole = swept(image, protocol)
    sweep = Sweep(Blurring(), image, protocol, 1)
    first = round(share * sweep.num_rows)
    found = swept(image, protocol, first=first)
    row = (*sweep.tops, 45)[first]
    for name in (LABELS, CONFIDENCE):
        np.testing.assert_array_equal(found[name][row:], whole[name][row:])
        assert (found[name][:row] == 9).all()


def test_sixteen_bits():
    pixels = random_pixels(40, 50, np.uint16)
    protocol = Protocol(tile=16, mirror=True)
    np.testing.assert_array_equal(
        swept(InMemory(pixels), protocol, 2)[LABELS], whole(pixels, protocol)[LABELS]
    )


@given(st.integers(1, 9))
@settings(deadline=None, max_examples=5)
def test_the_number_of_tiles_in_a_batch_changes_no_label(batch_size):
    image, protocol = InMemory(random_pixels(50, 60)), Protocol(tile=16, mirror=True)
    expected = swept(image, protocol)[LABELS]
    np.testing.assert_array_equal(swept(image, protocol, 2, 0, batch_size)[LABELS], expected)


def test_absent_pixels_are_ignored_and_tiles_of_them_are_not_computed():
    pixels, missing = random_pixels(64, 80), np.zeros((64, 80), bool)
    missing[:, :37] = True
    missing[5, 60] = True
    protocol = Protocol(tile=16, stride=10, mirror=True)
    present = swept(InMemory(pixels), protocol)
    shown = []
    network = Blurring.network

    def counted(self, images):
        shown.append(len(images))
        return network(self, images)

    Blurring.network = counted
    try:
        found = swept(InMemory(pixels, missing), protocol, 2)
    finally:
        Blurring.network = network
    np.testing.assert_array_equal(found[LABELS][~missing], present[LABELS][~missing])
    np.testing.assert_array_equal(found[CONFIDENCE][~missing], present[CONFIDENCE][~missing])
    assert (found[LABELS][missing] == 255).all()
    assert (found[CONFIDENCE][missing] == 0).all()
    sweep = Sweep(Blurring(), InMemory(pixels), protocol, 1)
    assert sum(shown) < 0.8 * sum(sweep.num_tiles(block) for block in divide(80, 2)) * 6


def test_every_tile_is_counted():
    seen = []
    image, protocol = InMemory(random_pixels(50, 60)), Protocol(tile=16, stride=12)
    sweep = Sweep(Blurring(), image, protocol, 3)
    per_row = [sweep.num_tiles(block) for block in divide(60, 2)]
    count = TileCount(per_row, lambda done, total: seen.append((done, total)), None)
    for number, block in enumerate(divide(60, 2)):
        count.start(number, 0, sweep.num_rows)
        list(sweep.run(block, 0, count))
    total = sweep.num_rows * sum(per_row)
    assert seen[-1] == (total, total)
    assert seen == sorted(seen)
