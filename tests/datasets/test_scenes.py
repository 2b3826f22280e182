"""The embedded scenes are repeatable, and need context from elsewhere in the image."""

import numpy as np
import pytest

from ccnet.datasets import Scenes

COLORFUL = 60  # difference between channels: noise stays below, the beacon is above


def classes_in(label: np.ndarray) -> set[int]:
    return set(np.unique(label).tolist()) - {0, 255}


def test_a_scene_follows_from_seed_split_and_index_alone():
    forth = [Scenes("val", num_images=5)[index] for index in range(5)]
    scenes = Scenes("val", num_images=300)
    for index in reversed(range(5)):
        for array, other in zip(scenes[index], forth[index], strict=True):
            np.testing.assert_array_equal(array, other)
    assert not np.array_equal(Scenes("val", seed=1)[0][0], forth[0][0])
    assert not np.array_equal(forth[1][0], forth[0][0])


def test_splits_and_seeds_share_no_image():
    data = [Scenes(split, seed=seed) for split in ("train", "val", "test") for seed in (0, 1)]
    images = [scenes[index][0].tobytes() for scenes in data for index in range(20)]
    assert len(set(images)) == len(images) == 120


@pytest.mark.parametrize(
    ("options", "side"), [({}, 64), ({"cells": 5, "cell": 12}, 60), ({"cell": 16}, 128)]
)
def test_image_and_label_have_the_grids_size(options, side):
    image, label = Scenes(**options)[0]
    assert (image.dtype, image.shape) == (np.uint8, (side, side, 3))
    assert (label.dtype, label.shape) == (np.uint8, (side, side))


def test_labels_are_classes_or_ignored():
    scenes = Scenes(num_images=40)
    assert len(scenes.classes) == len(scenes.palette) == 4
    assert set(np.unique([label for _, label in scenes]).tolist()) == {0, 1, 2, 3, 255}


def test_all_shapes_of_a_scene_have_the_class_of_the_beacons_color():
    scenes = Scenes(num_images=60)
    seen = set()
    for image, label in scenes:
        beacon = np.ptp(image.astype(int), axis=2) > COLORFUL
        rows, columns = beacon.nonzero()
        assert beacon.sum() == 64
        assert (np.ptp(rows), np.ptp(columns)) == (7, 7)
        assert (label[beacon] == 255).all()
        distance = np.abs(image[beacon].mean(axis=0) - np.array(scenes.palette[1:])).sum(axis=1)
        assert classes_in(label) == {distance.argmin() + 1}
        seen |= classes_in(label)
    assert seen == {1, 2, 3}


def test_a_scene_is_gray_except_for_the_beacon():
    for image, label in Scenes(num_images=40):
        assert np.ptp(image[label != 255].astype(int), axis=1).max() < COLORFUL


def test_shapes_look_the_same_whatever_their_class():
    sums = {1: [], 2: [], 3: []}
    for image, label in Scenes(num_images=240):
        (color,) = classes_in(label)
        pixels = image[label == color].astype(float)
        tint = (pixels - pixels.mean(axis=1, keepdims=True)).mean(axis=0)
        sums[color].append([*tint, pixels.mean(), pixels.std(), len(pixels)])
    means = np.array([np.mean(rows, axis=0) for rows in sums.values()])
    errors = np.array([np.std(rows, axis=0) / len(rows) ** 0.5 for rows in sums.values()])
    assert (np.ptp(means, axis=0) < 4 * np.sqrt((errors**2).sum(axis=0))).all()
    assert np.abs(means[:, :3]).max() < 0.3


def test_another_color_changes_only_the_beacon():
    class Recolored(Scenes):
        palette = ((90, 90, 90), (0, 0, 0), (0, 0, 0), (0, 0, 0))

    for (image, label), (other, other_label) in zip(
        Scenes(num_images=10), Recolored(num_images=10), strict=True
    ):
        np.testing.assert_array_equal(label, other_label)
        rows, columns = (image != other).any(axis=2).nonzero()
        assert max(np.ptp(rows), np.ptp(columns)) <= 7


def test_borders_between_shapes_and_ground_are_ignored():
    for _, label in Scenes(num_images=20):
        for one, other in ((label[1:], label[:-1]), (label[:, 1:], label[:, :-1])):
            labeled = (one != 255) & (other != 255)
            assert (one[labeled] == other[labeled]).all()


def test_names_tell_split_and_index():
    assert Scenes("test").name(7) == "test-000007"
    assert len(Scenes(num_images=12)) == 12


@pytest.mark.parametrize("index", [-1, 3, 300])
def test_an_index_outside_is_an_error(index):
    with pytest.raises(IndexError, match=f"no scene {index} among 3"):
        Scenes(num_images=3)[index]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"num_shapes": 64}, "64 shapes and a beacon do not fit a grid of 8×8"),
        ({"num_shapes": 4, "cells": 2}, "4 shapes and a beacon do not fit a grid of 2×2"),
        ({"split": "training"}, "split must be one of train, val, test, got 'training'"),
    ],
)
def test_arguments_that_do_not_fit_are_named(arguments, words):
    with pytest.raises(ValueError, match=words):
        Scenes(**arguments)


def test_a_full_grid_works():
    _, label = Scenes(cells=2, num_shapes=3)[0]
    assert classes_in(label)
