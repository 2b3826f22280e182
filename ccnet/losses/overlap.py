"""Losses that measure the overlap of prediction and label class by class: Dice and Lovász.

Every class that occurs has the same say, however few pixels it has. Neither is a sum over pixels.
The Dice loss is that of the global batch: given the batch's sums, each part of it adds the gradient
of the loss with respect to the sums, times its own sums. The Lovász loss is a mean over images.
"""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ccnet.classes import IGNORE_INDEX
from ccnet.losses.pixels import at_least_float32


def overlap_sums(
    logits: Float[Tensor, "b classes h w"], labels: Int[Tensor, "b h w"]
) -> Float[Tensor, "3 classes"]:
    """Σ p·y, Σ p and Σ y of each class over the labeled pixels: what `dice_share` is made of.

    Here p is the softmax probability of the class, and y is 1 where it is the label and otherwise
    0. In float32 for logits of lower precision.
    """
    probability = at_least_float32(logits).softmax(1)
    classes = torch.arange(logits.shape[1], device=labels.device).view(-1, 1, 1)
    is_class = labels.unsqueeze(1) == classes
    is_labeled = (labels != IGNORE_INDEX).unsqueeze(1)
    return torch.stack(
        [
            probability.where(is_class, 0).sum((0, 2, 3)),
            probability.where(is_labeled, 0).sum((0, 2, 3)),
            is_class.sum((0, 2, 3)).to(probability.dtype),
        ]
    )


def dice_share(
    own: Float[Tensor, "3 classes"], every: Float[Tensor, "3 classes"]
) -> Float[Tensor, ""]:
    """A part's share of the Dice loss of a batch; the shares of all parts add up to the loss.

    The loss is the mean of 1 − 2 Σ p·y / (Σ p + Σ y) over the classes that occur in the labels; 0
    if none does. It is the soft Dice loss of Milletari et al. 2016 ("V-Net", section 3) with sums
    instead of sums of squares in the denominator, as Sudre et al. 2017 ("Generalised Dice overlap
    as a deep learning loss function for highly unbalanced segmentations", equation of DL2) have it.

    Args:
        own: `overlap_sums` of the part, with gradient.
        every: the sums of these over all parts of all processes, without gradient.
    """
    shared, predicted, labeled = every
    own_shared, own_predicted, own_labeled = own
    occurs = labeled > 0
    both = (predicted + labeled).where(occurs, 1)
    through_predicted = 2 * shared / both**2 * (own_predicted - own_predicted.detach())
    each = own_labeled / labeled.where(occurs, 1) - 2 * own_shared / both + through_predicted
    return (each * occurs).sum() / occurs.sum().clamp(min=1)


def lovasz_sum(
    logits: Float[Tensor, "b classes h w"], labels: Int[Tensor, "b h w"]
) -> Float[Tensor, ""]:
    """The Lovász-softmax loss of each image, added up; 0 for an image without a labeled pixel.

    The loss of an image is the mean, over the classes that occur in its label, of the Lovász
    extension of 1 − IoU at the errors |y − p| of the labeled pixels (Berman et al. 2018, "The
    Lovász-Softmax loss", equations 9, 11 and 12). In float32 for logits of lower precision.
    """
    total = at_least_float32(logits[:0]).sum()
    for image_logits, label in zip(logits, labels, strict=True):
        label, is_labeled = label.flatten(), label.flatten() != IGNORE_INDEX
        classes = label[is_labeled].unique()
        if not len(classes):
            continue
        probability = at_least_float32(image_logits).softmax(0)[classes].flatten(1)
        is_class = label == classes[:, None]
        errors = (is_class.to(probability.dtype) - probability).abs()
        errors, order = errors.where(is_labeled, -1).sort(1, descending=True)  # ignored ones last
        steps = jaccard_steps(is_class.gather(1, order), errors.dtype)
        total = total + (errors.clamp(min=0) * steps).sum(1).mean()
    return total


def jaccard_steps(
    is_class: Bool[Tensor, "classes pixels"], dtype: torch.dtype
) -> Float[Tensor, "classes pixels"]:
    """By how much 1 − IoU grows with each pixel that becomes wrong, one after the other.

    Without the cancellation of a difference of two values of 1 − IoU, which are close to each other
    where there are many pixels.

    Args:
        is_class: whether the pixel belongs to the class, in the order in which they become wrong;
            at least one does.
        dtype: of the result.
    """
    seen = is_class.cumsum(1)
    others_seen = torch.arange(1, is_class.shape[1] + 1, device=is_class.device) - seen
    total = seen[:, -1:]
    shared, union = (total - seen).to(dtype), (total + others_seen).to(dtype)
    return torch.where(is_class, 1 / union, shared / union / (union - 1))
