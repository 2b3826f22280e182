"""Tiles, scales and mirror images: every pixel is covered, and nothing else leaks in."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ccnet.prediction.protocol import Protocol
from ccnet.prediction.views import covering_weight, score_images, tile_profile, tile_starts

sizes = st.tuples(st.integers(1, 40), st.integers(1, 40))
protocols = st.builds(
    lambda tile, share, mirror, weights, average: Protocol(
        tile=tile,
        stride=None if tile is None else max(1, round(share * tile)),
        mirror=mirror,
        weights=weights,
        average=average,
    ),
    st.none() | st.integers(1, 50),
    st.floats(0.1, 1),
    st.booleans(),
    st.sampled_from(["flat", "gaussian"]),
    st.sampled_from(["logits", "probabilities"]),
)


def random_images(shapes, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(1, 3, *shape, generator=generator) for shape in shapes]


def pointwise(images):
    """A network that looks at single pixels: three channels to four classes."""
    weights = torch.tensor([[1.0, 0, 0], [0, 1.0, 0], [0, 0, 1.0], [-1.0, 0.5, 0.5]])
    return torch.einsum("oc,bchw->bohw", weights, images)


def blurring(images):
    """A network that looks at a neighborhood, which is not symmetric."""
    kernel = torch.arange(1.0, 26).view(1, 1, 5, 5).expand(3, 1, 5, 5) / 325
    return torch.nn.functional.conv2d(images, kernel, padding=2, groups=3)


@given(st.integers(1, 300), st.integers(1, 80), st.integers(1, 80))
@settings(deadline=None)
def test_tiles_cover_an_axis_and_stay_inside(length, tile, stride):
    stride = min(stride, tile)
    starts = tile_starts(length, tile, stride)
    covered = {place for start in starts for place in range(start, start + tile)}
    assert covered >= set(range(length))
    assert starts == sorted(set(starts))
    if length >= tile:
        assert starts[-1] == length - tile
        assert len(covered) == length
    else:
        assert starts == [0]


@given(sizes, protocols)
@settings(deadline=None)
def test_a_network_of_single_pixels_gives_what_it_gives_of_the_whole_image(size, protocol):
    (image,) = random_images([size])
    (scores,) = score_images(pointwise, [image], protocol)
    whole = pointwise(image)[0]
    if protocol.average == "probabilities":
        whole = whole.softmax(0)
    torch.testing.assert_close(scores, whole, rtol=1e-5, atol=1e-5)
    assert torch.equal(scores.argmax(0), whole.argmax(0))


@pytest.mark.slow
@given(st.lists(sizes, min_size=1, max_size=5), protocols, st.integers(1, 9))
@settings(deadline=None, max_examples=25)
def test_what_else_is_in_a_batch_does_not_matter(shapes, protocol, batch_size):
    images = random_images(shapes)
    alone = [scores for image in images for scores in score_images(blurring, [image], protocol)]
    together = list(score_images(blurring, images, protocol, batch_size))
    backwards = list(score_images(blurring, images[::-1], protocol, batch_size))[::-1]
    assert len(alone) == len(together) == len(backwards) == len(images)
    for one, two, three, image in zip(alone, together, backwards, images, strict=True):
        assert one.shape[-2:] == image.shape[-2:]
        torch.testing.assert_close(one, two, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(one, three, rtol=1e-5, atol=1e-5)


@pytest.mark.slow
@given(sizes, st.sampled_from([(1.0,), (0.5, 1.0, 1.75), (2.0,)]), st.none() | st.integers(2, 50))
@settings(deadline=None, max_examples=50)
def test_the_mirrored_image_gives_the_mirrored_scores(size, scales, tile):
    protocol = Protocol(tile=tile, scales=scales, mirror=True)
    (image,) = random_images([size])
    (scores,) = score_images(blurring, [image], protocol)
    (mirrored,) = score_images(blurring, [image.flip(-1)], protocol)
    torch.testing.assert_close(mirrored.flip(-1), scores, rtol=1e-4, atol=1e-4)
    if scales == (1.0,):
        assert torch.equal(mirrored.flip(-1).argmax(0), scores.argmax(0))


def test_the_average_is_that_of_a_plain_program():
    """The same steps written out: resize, mirror, cut, weigh, turn back, resize, average."""
    (image,) = random_images([(23, 31)])
    protocol = Protocol(tile=16, stride=9, scales=(0.75, 1.5), mirror=True, weights="gaussian")
    total = torch.zeros(3, 23, 31)
    weight = tile_profile(16, "gaussian")[:, None] * tile_profile(16, "gaussian")
    for height, width in ((17, 23), (34, 46)):
        resized = torch.nn.functional.interpolate(image, (height, width), mode="bilinear")
        for view in (resized, resized.flip(3)):
            sums, weights = torch.zeros(3, height, width), torch.zeros(height, width)
            for top in sorted({*range(0, height - 16, 9), height - 16}):
                for left in sorted({*range(0, width - 16, 9), width - 16}):
                    part = blurring(view[:, :, top : top + 16, left : left + 16])[0]
                    sums[:, top : top + 16, left : left + 16] += part * weight
                    weights[top : top + 16, left : left + 16] += weight
            mean = sums / weights
            mean = mean if view is resized else mean.flip(2)
            total += torch.nn.functional.interpolate(mean[None], (23, 31), mode="bilinear")[0] / 4
    (scores,) = score_images(blurring, [image], protocol, batch_size=7)
    torch.testing.assert_close(scores, total, rtol=1e-4, atol=1e-5)


def test_probabilities_are_averaged_where_asked_for():
    (image,) = random_images([(8, 8)])
    protocol = Protocol(mirror=True, average="probabilities")
    (scores,) = score_images(blurring, [image], protocol)
    upright = blurring(image)[0].softmax(0)
    mirrored = blurring(image.flip(3))[0].softmax(0).flip(2)
    torch.testing.assert_close(scores, (upright + mirrored) / 2)
    torch.testing.assert_close(scores.sum(0), torch.ones(8, 8))


def test_tiles_of_several_images_fill_a_batch():
    seen = []

    def network(images):
        seen.append(len(images))
        return pointwise(images)

    images = random_images([(8, 20), (20, 8), (8, 8)])
    protocol = Protocol(tile=8, stride=4)
    assert len(list(score_images(network, images, protocol, batch_size=4))) == 3
    assert seen == [4, 4, 1]


def test_weights_of_tiles_are_positive_everywhere():
    for weights in ("flat", "gaussian"):
        profile = tile_profile(769, weights)
        assert covering_weight([0, 513, 2048 - 769], profile, 2048).min() > 0
    assert tile_profile(5, "gaussian").argmax() == 2
