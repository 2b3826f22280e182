"""The forms of attention that attention.py compares, and the lower limits of their time.

Tensors have the shape (B, C, *spatial); query and key have C // 8 channels.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
from attention_peers import FORWARD_ONLY, PEERS
from torch import Tensor

from ccnet import RecurrentCrissCrossAttention, criss_cross_attention

RECURRENCE = 2


@dataclass(frozen=True)
class Problem:
    """Random tensors of one shape and dtype; every form gets the same numbers."""

    shape: tuple[int, ...]
    dtype: torch.dtype
    device: str = "cpu"
    exact: bool = False
    """Whether the tensors are float64; their values are rounded to `dtype` first."""

    @property
    def reduced(self) -> int:
        return self.shape[1] // 8

    @property
    def pixels(self) -> int:
        return self.shape[0] * math.prod(self.shape[2:])

    @property
    def score_scale(self) -> float:
        """Standard deviation of query and key that gives the scores a standard deviation of 2.

        With such scores few pixels get large weights and most get small ones.
        """
        return math.sqrt(2) * self.reduced**-0.25

    def random(self, channels: int, seed: int, scale: float = 1.0) -> Tensor:
        """Normally distributed numbers (B, channels, *spatial) in channels-last layout."""
        generator = torch.Generator(self.device).manual_seed(seed)
        shape = (self.shape[0], *self.shape[2:], channels)
        values = torch.randn(shape, generator=generator, device=self.device)
        values = values.mul_(scale).to(self.dtype)
        return (values.double() if self.exact else values).movedim(-1, 1)

    def query_key_value(self) -> list[Tensor]:
        query, key = (self.random(self.reduced, seed, self.score_scale) for seed in (0, 1))
        return [query, key, self.random(self.shape[1], 2)]

    def module(self) -> RecurrentCrissCrossAttention:
        """A module with γ = ½ and, in its first pass, the same standard deviation of the scores."""
        torch.manual_seed(0)
        module = RecurrentCrissCrossAttention(self.shape[1], RECURRENCE, dims=len(self.shape) - 2)
        attention = module.attention(0)
        with torch.no_grad():
            for conv in (attention.query_conv, attention.key_conv):
                conv.weight.normal_(std=self.score_scale * self.shape[1] ** -0.5)
            attention.gamma.fill_(0.5)
        module = module.to(self.device, self.dtype)
        return module.double() if self.exact else module


class Job:
    """One form on one problem, run as a forward pass or with its gradients.

    Args:
        level: "operator" or "module".
        form: one of OPERATORS; for a module also "recomputed", which stores only its input for the
            backward pass. If " compiled" follows the name, the form runs under torch.compile.

    Attributes:
        has_backward: whether the form can compute gradients.
    """

    def __init__(self, level: str, form: str, problem: Problem) -> None:
        self.problem = problem
        form, _, compiled = form.partition(" ")
        self.has_backward = form not in FORWARD_ONLY
        if level == "operator":
            function = OPERATORS[form]
            tensors = problem.query_key_value()
        else:
            module = problem.module()
            module.recompute = form == "recomputed"
            for attention in module.passes:
                attention.backend = "reference" if form == "reference" else "fused"
            function = partial(plain_recurrence, module) if form == "plain" else module
            tensors = [problem.random(problem.shape[1], 3)]
        lay_out = Tensor.contiguous if form in CHANNELS_FIRST else (lambda tensor: tensor)
        self.function = torch.compile(function, dynamic=False) if compiled else function
        self.inputs = [lay_out(tensor).requires_grad_() for tensor in tensors]
        self.parameters = list(module.parameters()) if level == "module" else []
        self.gradient = lay_out(problem.random(problem.shape[1], 4))

    def forward(self) -> Tensor:
        with torch.no_grad():
            return self.function(*self.inputs)

    def forward_backward(self) -> tuple[Tensor, ...]:
        out = self.function(*self.inputs)
        return out, *torch.autograd.grad(out, [*self.inputs, *self.parameters], self.gradient)

    def results(self) -> list[Tensor]:
        """The output, and the gradients of the inputs where there are any, in float64."""
        if not self.has_backward:
            return [self.forward().double()]
        return [x.double() for x in self.forward_backward()[: 1 + len(self.inputs)]]


def plain(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """The usual form: permuted copies for each axis, batched products, all weights in memory.

    The diagonal of every axis except the last is masked, so that a pixel is counted once.
    """
    axes = range(2, query.ndim)
    scores = []
    for axis in axes:
        score = lines(query, axis).mT @ lines(key, axis)  # (B, *others, L, L)
        if axis < query.ndim - 1:
            score = score + torch.diag(
                torch.full_like(score[(0,) * (query.ndim - 2)][0], -math.inf)
            )
        scores.append(score.movedim(-2, axis - 1))
    weights = torch.cat(scores, -1).softmax(-1).split(query.shape[2:], -1)
    contexts = []
    for axis, weight in zip(axes, weights, strict=True):
        context = lines(value, axis) @ weight.movedim(axis - 1, -2).contiguous().mT
        contexts.append(context.movedim(-2, 1).movedim(-1, axis))
    return sum(contexts[1:], contexts[0])


def lines(tensor: Tensor, axis: int) -> Tensor:
    """Copy the lines along one axis: (B, C, *spatial) → (B, *others, C, L)."""
    return tensor.movedim(axis, -1).movedim(1, -2).contiguous()


def non_local(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Attention to all N pixels (a different function), with the values split into C/D heads.

    Query, key and value then have the same number of channels per head, as those kernels of
    `scaled_dot_product_attention` require that do not store N² weights.
    """
    heads = value.shape[1] // query.shape[1]
    q, k = (x.flatten(2).mT.unsqueeze(1).expand(-1, heads, -1, -1) for x in (query, key))
    v = value.flatten(2).mT.unflatten(-1, (heads, -1)).transpose(1, 2)  # (B, heads, N, D)
    out = F.scaled_dot_product_attention(q, k, v, scale=1.0)
    return out.transpose(1, 2).flatten(2).mT.unflatten(-1, query.shape[2:])


def fused(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    return criss_cross_attention(query, key, value, backend="fused")


def reference(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    return criss_cross_attention(query, key, value, backend="reference")


def plain_recurrence(module: RecurrentCrissCrossAttention, features: Tensor) -> Tensor:
    """The recurrent module as it is usually written, with three convolutions in each pass."""
    for index in range(module.recurrence):
        attention = module.attention(index)
        query, key, value = (
            conv(features)
            for conv in (attention.query_conv, attention.key_conv, attention.value_conv)
        )
        features = attention.gamma * plain(query, key, value) + features
    return features


def non_local_flops(problem: Problem, backward: bool) -> float:
    """Floating-point operations of `non_local`; backward has 2.5 times those of forward."""
    pixels = math.prod(problem.shape[2:])
    forward = 2 * problem.shape[0] * pixels**2 * 2 * problem.shape[1]
    return forward * (3.5 if backward else 1)


def matrix_products(problem: Problem, level: str, backward: bool) -> tuple[Callable[[], None], int]:
    """A lower limit of the time: the matrix products of the fused form alone, on contiguous lines.

    Returns:
        A function that computes them, and its number of floating-point operations.
    """
    products, flops = [], 0

    def add(left: Tensor, right: Tensor) -> None:
        nonlocal flops
        out = left.new_empty(*left.shape[:-1], right.shape[-1])
        products.append((left, right, out))
        flops += 2 * out.numel() * left.shape[-1]

    def matrices(*shape: int) -> Tensor:
        return torch.rand(shape).to(problem.device, problem.dtype)

    channels, reduced = problem.shape[1], problem.reduced
    for length in problem.shape[2:]:
        count = problem.pixels // length
        q = k = matrices(count, length, reduced)
        v = grad = matrices(count, length, channels)
        weights = matrices(count, length, length)
        add(q, k.mT)
        add(weights, v)
        if backward:
            add(q, k.mT)
            add(grad, v.mT)
            add(weights.mT, grad)
            add(weights, k)
            add(weights.mT, q)
    if level == "module":
        features = matrices(1, problem.pixels, channels)
        weight = matrices(1, channels + 2 * reduced, channels)
        projected = matrices(1, problem.pixels, channels + 2 * reduced)
        add(features, weight.mT)
        if backward:
            add(projected, weight)
            add(projected.mT, features)
    repeats = RECURRENCE if level == "module" else 1

    def run() -> None:
        for _ in range(repeats):
            for left, right, out in products:
                torch.bmm(left, right, out=out)

    return run, flops * repeats


def moved_bytes(problem: Problem, backward: bool) -> tuple[int, int]:
    """Bytes that have to be read and written: with every tensor once, and with one pass per axis.

    In the forward pass each axis reads q, k and v and writes `out`; every axis except the first
    also reads `out`. In the backward pass each axis reads q, k, v and the gradient and writes dq,
    dk and dv. The first axis also reads `out`, for its inner products with the gradient; every
    other axis also reads dq, dk and dv, to which it adds.
    """
    one = problem.pixels * torch.finfo(problem.dtype).bits // 8
    value, small = one * problem.shape[1], 2 * one * problem.reduced
    axes = len(problem.shape[2:])
    once = small + 2 * value
    per_axis = axes * (small + 2 * value) + (axes - 1) * value
    if backward:
        once += 2 * small + 4 * value
        per_axis += value + axes * (2 * small + 3 * value) + (axes - 1) * (small + value)
    return once, per_axis


OPERATORS = {"fused": fused, "plain": plain, "reference": reference, "non-local": non_local}
OPERATORS |= PEERS
CHANNELS_FIRST = ("plain",)  # gets the layout that its users have; the others get channels-last
