"""Where one pixel of an image looks, and what that does to its class."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from ccnet.explanation.blocks import block_norms
from ccnet.explanation.grid import Grid, Pixel, View, view_around
from ccnet.explanation.rows import Pass, entropy, frozen_passes, influence, mass_at, reach, spread
from ccnet.models.ccnet import CCNet
from ccnet.prediction.batches import AnyImage, as_batch
from ccnet.prediction.predictor import Predictor

Cell = tuple[int, int]
"""Row and column of a feature."""


@dataclass(frozen=True)
class Route:
    """One of the two ways from a pixel to another in two passes, through a corner (paper figure 4).

    In the first of the two passes the corner takes up what is at `source`, in the second the
    explained pixel takes it up from the corner.
    """

    source: Cell
    corner: Cell
    first: float
    """The weight with which the corner attends to the source."""
    second: float
    """The weight with which the explained pixel attends to the corner."""

    @property
    def weight(self) -> float:
        """Of the route: the product of both."""
        return self.first * self.second


@dataclass(frozen=True)
class Explanation:
    """Where one pixel of an image looks.

    All maps have the size of the network's features, and `grid` says where these lie in the image.
    `reach` and `influence` are of the attention weights alone and leave out what the value
    convolution makes of the features; `exact` and `gradient` do not.
    """

    point: Pixel
    """(x, y) in the image."""
    cell: Cell
    """The feature there."""
    grid: Grid
    class_index: int
    """The most likely class at the point."""
    class_name: str
    class_names: tuple[str, ...]
    """Of all classes, in the order of `probabilities`."""
    probabilities: Float[np.ndarray, " classes"]
    """Of all classes at the point, in the view that is explained."""
    gamma: tuple[float, ...]
    """The factor γ of each pass that is explained, from the first to the last."""
    reach: tuple[Float[np.ndarray, "h w"], ...]
    """reach[0] is the row of A_R: what the point takes up in the last pass, a cross. reach[n] is
    that of A_R…A_{R−n}: what it draws on through n + 1 passes. Each sums to 1."""
    influence: Float[np.ndarray, "h w"]
    """The row of (I + γA_R)…(I + γA_1), with the residual connections; it sums to (1 + γ)^R."""
    exact: Float[np.ndarray, "h w"]
    """The Frobenius norm of the C×C derivative of the attention's output at the point by its input
    at each feature, with the attention weights held fixed."""
    gradient: Float[np.ndarray, "h w"]
    """The norm of the gradient of the class's score at the point by the features that enter the
    attention: of the whole rest of the network, attention weights included."""
    evidence: Float[np.ndarray, "h w"]
    """That gradient times the features, summed over channels: positive where they speak for the
    class at the point, negative where they speak against it."""
    entropy: tuple[Float[np.ndarray, "h w"], ...]
    """For each pass the entropy of every feature's own weights in nats, 0 to log(H + W − 1)."""
    routes: tuple[Route, ...] = ()
    """To a second pixel, if one is asked for and there are two passes."""
    to: Pixel | None = None


def explain(
    predictor: Predictor | CCNet,
    image: AnyImage,
    point: Pixel,
    *,
    passes: int | None = None,
    to: Pixel | None = None,
) -> Explanation:
    """Explain one pixel of an image.

    The network sees the image as the predictor's protocol shows it, upright and at the scale
    nearest to 1: as a whole, or the tile around the point. It runs once, in the precision of its
    weights; the rows of the attention are computed in float64 on the CPU. Memory beyond that of a
    prediction is linear in the number of features. Many threads may share one predictor.

    Args:
        predictor: of a model with criss-cross attention, or the model itself, which is put into
            evaluation mode.
        image: what `Predictor.predict` takes, such as an RGB array (H, W, 3) of uint8.
        point: (x, y), column and row of the pixel.
        passes: how many of the last passes to explain; influence, exact, gradient and evidence are
            then of the features that enter the first of them. None: all.
        to: (x, y) of a second pixel, to which `routes` lead.

    Raises:
        ValueError: a pixel is outside the image, the model has no criss-cross attention
            (recurrence 0) or fewer passes than asked for, or the image is unusable.
        FloatingPointError: the network gives nan or infinite scores.
    """
    if isinstance(predictor, CCNet):
        predictor = Predictor(predictor, device=str(predictor.device))
    model = predictor.model
    num_passes = require_passes(model.head.attention.recurrence, passes)
    predictor.require_evaluation_mode()
    batch = as_batch(image, model.in_channels)
    for pixel in (point, to):
        if pixel is not None:
            require_inside(pixel, batch.shape[-2:])
    with torch.inference_mode(False), torch.no_grad():
        view = view_around(predictor, batch, point)
        *maps, features = model.backbone(view.images)
        finer = [[*maps, features][index] for index in model.finer_maps]
        every, inputs = frozen_passes(model.head.attention, model.head.reduction(features))
        frozen, entering = every[-num_passes:], inputs[-num_passes]
        grid = view.grid(tuple(features.shape[-2:]), model.align_corners)
        cell = grid.cell(point)
        scores, gradient = class_gradient(model, features, finer, entering, num_passes, view)
        predictor.require_finite(scores)
        return Explanation(
            point=point,
            cell=cell,
            grid=grid,
            class_index=(index := int(scores.argmax())),
            class_name=model.classes[index],
            class_names=model.classes,
            probabilities=scores.float().softmax(0).cpu().numpy(),
            gamma=tuple(attention.gamma for attention in frozen),
            reach=tuple(row.numpy() for row in reach(frozen, cell)),
            influence=influence(frozen, cell).numpy(),
            exact=block_norms(frozen, cell).numpy(),
            gradient=to_map(torch.linalg.vector_norm(gradient, dim=0)),
            evidence=to_map((gradient * entering[0]).sum(0)),
            entropy=tuple(entropy(attention).numpy() for attention in frozen),
            routes=() if to is None else routes(frozen, cell, grid.cell(to)),
            to=to,
        )


def require_passes(recurrence: int, passes: int | None) -> int:
    if recurrence == 0:
        raise ValueError("the model has no pass of criss-cross attention (recurrence 0)")
    if passes is not None and not 1 <= passes <= recurrence:
        raise ValueError(f"passes must be 1 to {recurrence}, those of the model, got {passes}")
    return recurrence if passes is None else passes


def require_inside(pixel: Pixel, size: Sequence[int]) -> None:
    (x, y), (height, width) = pixel, size
    if not (0 <= x < width and 0 <= y < height):
        raise ValueError(
            f"the pixel {x},{y} is outside the image, which is {width} pixels wide and {height} "
            f"high: x is 0 to {width - 1} and y is 0 to {height - 1}"
        )


def class_gradient(
    model: CCNet,
    features: Tensor,
    finer: Sequence[Tensor],
    entering: Float[Tensor, "1 c h w"],
    num_passes: int,
    view: View,
) -> tuple[Float[Tensor, " classes"], Float[Tensor, "c h w"]]:
    """All scores at the point, and the gradient of the largest by what enters the passes."""
    attention = model.head.attention
    with torch.enable_grad():
        context = leaf = entering.detach().clone().requires_grad_()
        for index in range(attention.recurrence - num_passes, attention.recurrence):
            context = attention.attention(index)(context)
        logits = model.head.classify(features, context, finer)
        scores = score_at(logits, view, model.align_corners)
        (gradient,) = torch.autograd.grad(scores.max(), leaf)
    return scores.detach(), gradient[0]


def score_at(
    logits: Float[Tensor, "1 classes _ _"], view: View, align_corners: bool
) -> Float[Tensor, " classes"]:
    """The logits at one pixel of the view, as bilinear interpolation to its size gives them."""
    height, width = view.images.shape[-2:]
    lengths = [n - 1 if align_corners else n for n in (width, height)]
    offset = 0.0 if align_corners else 0.5
    place = [2 * (p + offset) / max(1, n) - 1 for p, n in zip(view.place, lengths, strict=True)]
    where = torch.tensor(place, dtype=logits.dtype, device=logits.device).view(1, 1, 1, 2)
    sampled = F.grid_sample(
        logits, where, "bilinear", padding_mode="border", align_corners=align_corners
    )
    return sampled[0, :, 0, 0]


def routes(passes: Sequence[Pass], cell: Cell, source: Cell) -> tuple[Route, ...]:
    """The routes from a source to a cell in the last two passes, through the two corners.

    They are all there are if the two lie in different rows and columns. There are none in one pass,
    and one if they are the same.
    """
    if len(passes) < 2:
        return ()
    earlier, later = passes[-2:]
    second = spread(later, mass_at(later, cell))[0]
    corners = dict.fromkeys([(cell[0], source[1]), (source[0], cell[1])])
    found = []
    for corner in corners:
        first = spread(earlier, mass_at(earlier, corner))[0]
        found.append(Route(source, corner, float(first[source]), float(second[corner])))
    return tuple(found)


def to_map(values: Float[Tensor, "h w"]) -> Float[np.ndarray, "h w"]:
    return values.detach().cpu().double().numpy()
