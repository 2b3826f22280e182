"""Class weights measured from labels: what each class gets, and what is said about it."""

import numpy as np
import pytest

from ccnet.checking.check import check_dataset
from ccnet.datasets import Scenes
from ccnet.losses import class_weights
from ccnet.losses.class_weights import measured_weights
from tests.conftest import in_processes


class Labels:
    """A data set of given labels, of which the classes are numbered."""

    palette, ignore_index = (), 255

    def __init__(self, num_classes: int, *labels: list[int]) -> None:
        self.classes = tuple(f"class {index}" for index in range(num_classes))
        self.labels = [np.array([label], np.uint8) for label in labels]

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        label = self.labels[index]
        return np.zeros((*label.shape, 3), np.uint8), label

    def name(self, index: int) -> str:
        return f"{index}.png"


def test_weights_are_cube_roots_of_those_that_check_data_prints(capsys):
    data = Scenes("train", num_images=30)
    printed = check_dataset(data).class_weights
    assert None not in printed
    expected = [weight ** (1 / 3) for weight in printed]
    assert measured_weights(data) == pytest.approx(expected, rel=5e-3)
    assert "class weights of 30 of 30 images: ground 0." in capsys.readouterr().err


def test_an_absent_class_is_said_and_has_a_number(capsys):
    weights = measured_weights(Labels(4, [0, 0, 0, 2, 255], [0, 0, 2, 2]))
    # of shares 5/8 and 3/8 the median is 1/2
    assert weights == pytest.approx([(4 / 5) ** (1 / 3), 1, (4 / 3) ** (1 / 3), 1], rel=5e-3)
    said = capsys.readouterr().err
    assert "class 1 1, " in said
    assert "warning: no pixel of class 1, class 3 in these labels: the weight is 1" in said


def test_of_many_images_a_part_is_read(monkeypatch, capsys):
    monkeypatch.setattr(class_weights, "MOST_IMAGES", 3)
    assert measured_weights(Labels(2, [0, 1], [9], [0, 1], [9], [0, 1])) == [1, 1]
    assert "class weights of 3 of 5 images" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        ([[255, 255]], "no pixel of the training labels has a class; `ccnet check-data` says"),
        ([[0, 1], [1, 7]], "1.png: its label holds 7; there are 2 classes, 0 to 1, and 255"),
    ],
)
def test_labels_that_cannot_be_weighed_are_an_error(labels, said):
    with pytest.raises(ValueError, match=said):
        measured_weights(Labels(2, *labels))


def weights_of_a_share() -> list[float]:
    return measured_weights(Labels(3, [0, 0, 1], [0, 0, 0, 2], [1, 1, 2, 255]))


@pytest.mark.slow
def test_two_processes_measure_what_one_does():
    assert in_processes(2, weights_of_a_share) == [weights_of_a_share()] * 2
