"""Scores of confusion matrices that can be computed by hand."""

import pytest
import torch

from ccnet.metrics import ConfusionMatrix, scores
from ccnet.metrics.confusion import require_labels_of_several_classes

CLASSES = ("road", "tree", "car")
LABEL = torch.tensor([[0, 0, 0, 1], [1, 1, 255, 255]])
PREDICTION = torch.tensor([[0, 0, 1, 1], [1, 0, 2, 0]])


def matrix_of(prediction: torch.Tensor, label: torch.Tensor, num_classes: int = 3):
    confusion = ConfusionMatrix(num_classes)
    confusion.update(prediction[None], label[None])
    return confusion


def test_scores_are_those_computed_by_hand():
    found = scores(torch.tensor([[5, 1, 0], [2, 3, 1], [0, 0, 4]]), CLASSES)
    iou = {"road": 5 / 8, "tree": 3 / 7, "car": 4 / 5}
    assert found.iou == pytest.approx(iou)
    assert found.miou == pytest.approx(sum(iou.values()) / 3)
    assert found.pixel_accuracy == pytest.approx(12 / 16)
    assert found.mean_accuracy == pytest.approx((5 / 6 + 3 / 6 + 4 / 4) / 3)
    assert found.to_dict() == {
        "miou": found.miou,
        "pixel_accuracy": found.pixel_accuracy,
        "mean_accuracy": found.mean_accuracy,
        "iou": found.iou,
        "pixels": {"road": 6, "tree": 6, "car": 4},
        "unpredicted": [],
        "absent": [],
    }
    assert found.warnings == []


def test_ignored_pixels_are_left_out_whatever_is_predicted_there():
    confusion = matrix_of(PREDICTION, LABEL)
    assert confusion.counts.tolist() == [[2, 1, 0], [1, 2, 0], [0, 0, 0]]
    assert scores(confusion.counts, CLASSES).pixel_accuracy == pytest.approx(4 / 6)


def test_a_class_that_never_occurs_has_no_score_and_is_left_out_of_the_mean():
    found = scores(matrix_of(PREDICTION, LABEL).counts, CLASSES)
    assert found.iou == {"road": 0.5, "tree": 0.5, "car": None}
    assert found.miou == 0.5
    assert found.mean_accuracy == pytest.approx(2 / 3)
    assert found.absent == ("car",)
    assert found.to_dict()["absent"] == ["car"]
    assert found.warnings == ["mIoU is over 2 of 3 classes; never seen: car"]


def test_a_class_that_is_only_predicted_counts_zero():
    prediction = PREDICTION.clone()
    prediction[0, 0] = 2
    found = scores(matrix_of(prediction, LABEL).counts, CLASSES)
    assert found.iou == pytest.approx({"road": 1 / 4, "tree": 1 / 2, "car": 0})
    assert found.miou == pytest.approx(1 / 4)
    assert found.mean_accuracy == pytest.approx((1 / 3 + 2 / 3) / 2)
    assert found.labeled == ("road", "tree")
    assert found.warnings == ["predicted, but never labeled, so that the IoU is 0: car"]
    require_labels_of_several_classes(found)


def test_a_class_that_is_never_predicted_counts_zero_and_is_said():
    prediction, label = torch.tensor([[0, 1], [1, 255]]), torch.tensor([[0, 1], [2, 255]])
    found = scores(matrix_of(prediction, label).counts, CLASSES)
    assert found.iou == {"road": 1.0, "tree": 0.5, "car": 0.0}
    assert found.to_dict()["unpredicted"] == ["car"]
    assert found.warnings == ["labeled, but never predicted, so that the IoU is 0: car"]


def test_a_binary_mask_whose_255_is_read_as_ignored_is_no_success():
    label = torch.tensor([[0, 0, 255], [0, 255, 255]])
    found = scores(matrix_of(torch.zeros_like(label), label, 2).counts, ("background", "cell"))
    assert found.miou == 1.0
    assert found.warnings == [
        "mIoU is over 1 of 2 classes; never seen: cell",
        "every labeled pixel is background, so the scores do not tell whether the model can "
        "distinguish classes",
    ]
    with pytest.raises(ValueError, match=r"every labeled pixel is 'background'.*mapping: \{0: 0"):
        require_labels_of_several_classes(found)


def test_a_model_of_one_class_may_have_labels_of_one_class():
    found = scores(torch.tensor([[5]]), ("cell",))
    assert found.warnings == []
    require_labels_of_several_classes(found)


def test_batches_add_up_to_one_pass():
    labels, predictions = torch.randint(0, 3, (2, 6, 4, 5))
    labels[torch.rand(labels.shape) < 0.2] = 255
    whole, parts = ConfusionMatrix(3), ConfusionMatrix(3)
    whole.update(predictions, labels)
    for part in (slice(0, 1), slice(1, 4), slice(4, 6)):
        parts.update(predictions[part], labels[part])
    assert torch.equal(parts.counts, whole.counts)
    assert whole.counts.sum() == (labels != 255).sum()


@pytest.mark.parametrize("wrong", [3, -1, 256])
def test_a_label_that_is_no_class_is_an_error(wrong):
    labels = torch.tensor([[0, wrong, 255]])
    with pytest.raises(ValueError, match=f"labels are 0 to 2 or 255, got {wrong}"):
        matrix_of(torch.zeros_like(labels), labels)


def test_a_matrix_of_another_size_is_refused():
    with pytest.raises(ValueError, match=r"expected a 3×3 matrix, got \(2, 2\)"):
        scores(torch.eye(2, dtype=torch.int64), CLASSES)


def test_nothing_labeled_is_an_error():
    with pytest.raises(ValueError, match="no pixel has a label"):
        scores(torch.zeros(3, 3, dtype=torch.int64), CLASSES)
