"""What is measured of a data set."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from ccnet.datasets import DataError, Scenes
from ccnet.planning.facts import MAX_SAMPLES, is_thin, survey


class Drawn:
    """A data set of given labels, with black images."""

    ignore_index = 255
    classes = ("ground", "wire", "nothing")
    palette = ((0, 0, 0), (255, 0, 0), (0, 255, 0))

    def __init__(self, labels):
        self.labels = labels
        self.read = []

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, index):
        self.read.append(index)
        label = self.labels[index]
        if label is None:
            raise DataError("b.png: is broken")
        return np.zeros((*label.shape, 3), np.uint8), label

    def name(self, index):
        return f"{index}.png"


def thin_by_walking(label, width):
    """Each pixel's run in its row and in its column, counted pixel by pixel."""
    height, length = label.shape
    thin = np.zeros(label.shape, bool)
    for y in range(height):
        for x in range(length):
            if label[y, x] == 255:
                continue
            for dy, dx in ((0, 1), (1, 0)):
                size, is_cut = 1, False
                for sign in (1, -1):
                    v, u = y + sign * dy, x + sign * dx
                    while 0 <= v < height and 0 <= u < length and label[v, u] == label[y, x]:
                        size, v, u = size + 1, v + sign * dy, u + sign * dx
                    is_outside = not (0 <= v < height and 0 <= u < length)
                    is_cut |= is_outside or label[v, u] == 255
                thin[y, x] |= size < width and not is_cut
    return thin


@given(
    arrays(
        np.uint8,
        st.tuples(st.integers(1, 12), st.integers(1, 12)),
        elements=st.sampled_from([0, 1, 255]),
    ),
    st.integers(1, 6),
)
@settings(max_examples=100, deadline=None)
def test_thin_pixels_are_those_found_by_walking(label, width):
    assert (is_thin(label, width) == thin_by_walking(label, width)).all()


def test_sizes_shares_and_thin_structures_are_measured():
    wire = np.zeros((40, 60), np.uint8)
    wire[:, 30:33] = 1
    plain = np.zeros((80, 20), np.uint8)
    plain[:, 0] = 255
    found = survey(Drawn([wire, plain, plain]), Drawn([wire]))
    assert (found.num_images, found.num_validation) == (3, 1)
    assert (found.height, found.width, found.smallest_side) == (80, 20, 20)
    assert found.largest == (40, 60)
    num_labeled = 40 * 60 + 2 * 80 * 19
    assert found.shares == pytest.approx((1 - 120 / num_labeled, 120 / num_labeled, 0))
    assert found.thin_share == pytest.approx(120 / num_labeled)
    assert found.imbalance == pytest.approx((num_labeled - 120) / 120)
    assert (found.num_classes, found.short_side) == (3, 20)


def test_of_many_images_some_are_read_from_the_first_to_the_last():
    data = Drawn([np.full((2, 2), i % 2, np.uint8) for i in range(1000)])
    seen = []
    survey(data, data, progress=lambda done, total: seen.append((done, total)))
    assert seen[-1] == (MAX_SAMPLES, MAX_SAMPLES)
    assert len(set(data.read)) == MAX_SAMPLES
    assert {0, 999} <= set(data.read)


def test_a_file_that_cannot_be_used_is_an_error():
    with pytest.raises(DataError, match=r"b\.png: is broken"):
        survey(Drawn([np.zeros((4, 4), np.uint8), None]), Scenes("val"))


def test_labels_without_a_labeled_pixel_are_an_error():
    data = Drawn([np.full((4, 4), 255, np.uint8)])
    with pytest.raises(DataError, match="no pixel is labeled"):
        survey(data, data)
