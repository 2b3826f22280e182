"""Criss-cross attention on NVIDIA GPUs, axis by axis: tile sizes and launches of the kernels.

Tensors are (B, *spatial, channels). Query, key and value may be slices of the channels of a wider
buffer whose pixels have equal distances; all other tensors are contiguous.
"""

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ccnet.ops import triton_kernels as kernels

LONG = 1 << 31  # the key of the tile for all longer lines
# bytes of shared memory per program: H100 and B200 have 227 KiB, other GPUs 99 or 163 KiB
MUCH = 200 << 10


class Tile(NamedTuple):
    """Numbers of queries, keys and value channels of a block, of warps and of pipeline stages."""

    rows: int
    keys: int
    channels: int
    warps: int
    stages: int


class Tiles(NamedTuple):
    """The tiles for one way to multiply. Dictionaries map the longest line to its tile.

    In the backward pass, lines longer than all of `line` take `values` and `scores`, whose rows are
    the queries or keys that get a gradient. With 64 query channels no kernel spills more than 32
    bytes of registers; benchmarks/results/kernel_resources.csv lists the resources of each.
    """

    forward: dict[int, Tile]
    line: dict[int, Tile]
    values: Tile
    scores: Tile


HALF = Tiles(
    forward={
        16: Tile(16, 16, 128, 1, 2),
        32: Tile(32, 32, 128, 2, 2),
        64: Tile(64, 64, 64, 4, 3),
        128: Tile(128, 128, 64, 8, 3),
        LONG: Tile(128, 32, 128, 8, 2),
    },
    line={
        16: Tile(16, 16, 64, 1, 2),
        32: Tile(32, 32, 64, 2, 2),
        64: Tile(64, 64, 64, 8, 2),
        128: Tile(128, 128, 32, 8, 3),
    },
    values=Tile(32, 128, 128, 8, 2),
    scores=Tile(64, 64, 64, 8, 2),
)
TILES = {
    "half": HALF,
    "half, much shared memory": HALF._replace(
        line=HALF.line | {64: Tile(64, 64, 64, 4, 2), 128: Tile(128, 128, 64, 8, 2)},
        values=Tile(64, 128, 128, 8, 2),
        scores=Tile(128, 64, 64, 8, 2),
    ),
    "tf32": Tiles(
        forward={
            16: Tile(16, 16, 64, 1, 2),
            32: Tile(32, 32, 64, 2, 2),
            64: Tile(64, 64, 32, 4, 2),
            128: Tile(64, 128, 32, 8, 2),
            LONG: Tile(64, 64, 64, 8, 2),
        },
        line={
            16: Tile(16, 16, 32, 2, 2),
            32: Tile(32, 32, 32, 4, 2),
            64: Tile(64, 64, 32, 8, 2),
        },
        values=Tile(32, 64, 64, 8, 2),
        scores=Tile(64, 32, 32, 8, 2),
    ),
    "ieee": Tiles(
        forward={
            16: Tile(16, 16, 32, 1, 1),
            32: Tile(32, 32, 32, 4, 2),
            LONG: Tile(64, 32, 64, 8, 2),
        },
        line={16: Tile(16, 16, 32, 4, 2), 32: Tile(32, 32, 16, 8, 1)},
        values=Tile(32, 64, 32, 8, 2),
        scores=Tile(32, 32, 32, 8, 2),
    ),
}
DELTA = Tile(16, 16, 128, 4, 2)


class Axis(NamedTuple):
    """A tensor seen along one axis: (outer, length, inner, channels), outer · inner lines."""

    first: bool  # the last spatial axis comes first and includes the pixel itself
    lines: int
    length: int
    inner: int


def forward(query: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The attention (B, *spatial, C) and, per pixel, peak = max(scores) and Σ exp(score − peak)."""
    out = value.new_empty(value.shape)
    peak, total, new_peak, new_total = (
        query.new_empty(query.shape[:-1], dtype=torch.float32) for _ in range(4)
    )
    if out.numel() == 0:
        return out, peak, total
    tiles, constants = tiles_of(query), constants_of(query, value)
    with torch.cuda.device_of(query):
        for axis in axes(value):
            tile = fitting(tiles.forward, axis.length)
            if query.shape[-1] > 64:  # with three stages of values: more than 99 KiB
                tile = tile._replace(stages=min(tile.stages, 2))
            channels, blocks = tile_channels(tile, value), ceiling(axis.length, tile.rows)
            chunks = ceiling(value.shape[-1], channels)
            programs = axis.lines * blocks
            # with few lines, programs share the channels, so that every multiprocessor has two
            group_chunks = max(1, min(chunks, chunks * programs // (2 * processors(query))))
            groups = ceiling(chunks, group_chunks)
            launch(
                kernels.forward_axis,
                programs * groups,
                tile,
                *(query, key, value, out, peak, total, new_peak, new_total),
                *(axis.length, axis.inner, pitch(query), pitch(key), pitch(value)),
                *(blocks, groups, group_chunks),
                FIRST=axis.first,
                WHOLE=axis.length <= tile.keys,
                ROWS=tile.rows,
                KEYS=tile.keys,
                CHANNELS=channels,
                **constants,
            )
            peak, total, new_peak, new_total = new_peak, new_total, peak, total
    return out, peak, total


def backward(
    grad: Tensor,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    out: Tensor,
    peak: Tensor,
    total: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of query, key and value. Every axis adds its part, given the joint statistics."""
    grads = [x.new_empty(x.shape) for x in (query, key, value)]
    statistics = [peak, total, peak.new_empty(peak.shape)]
    if out.numel() > 0:
        line_tiles = line_tiles_of(query)
        with torch.cuda.device_of(query):
            for axis in axes(value):
                if axis.length <= max(line_tiles, default=0):
                    tile = fitting(line_tiles, axis.length)
                    short_lines(axis, tile, grad, query, key, value, out, statistics, grads)
                else:
                    if axis.first:
                        delta(grad, out, statistics[-1])
                    long_lines(axis, grad, query, key, value, statistics, grads)
    return grads[0], grads[1], grads[2]


def short_lines(
    axis: Axis,
    tile: Tile,
    grad: Tensor,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    out: Tensor,
    statistics: list[Tensor],
    grads: list[Tensor],
) -> None:
    """The gradients along an axis whose lines fit into a tile, and on the first axis also delta."""
    launch(
        kernels.backward_line,
        axis.lines,
        tile,
        *(grad, query, key, value, out, *statistics, *grads),
        *(axis.length, axis.inner, pitch(query), pitch(key), pitch(value)),
        FIRST=axis.first,
        KEYS=tile.keys,
        CHANNELS=tile_channels(tile, value),
        **constants_of(query, value),
    )


def delta(grad: Tensor, out: Tensor, result: Tensor) -> None:
    """⟨grad, out⟩ of every pixel, if the lines of the first axis are too long for `short_lines`."""
    pixels, channels = result.numel(), out.shape[-1]
    launch(
        kernels.backward_delta,
        ceiling(pixels, DELTA.rows),
        DELTA,
        *(grad, out, result, pixels),
        C=channels,
        ROWS=DELTA.rows,
        CHANNELS=tile_channels(DELTA, out),
    )


def long_lines(
    axis: Axis,
    grad: Tensor,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    statistics: list[Tensor],
    grads: list[Tensor],
) -> None:
    """The gradients along an axis whose lines are longer than a tile, each by its own kernel."""
    tiles, constants = tiles_of(query), constants_of(query, value)
    query_grad, key_grad, value_grad = grads
    tile = tiles.values
    channels, blocks = tile_channels(tile, value), ceiling(axis.length, tile.keys)
    groups = ceiling(value.shape[-1], channels)
    launch(
        kernels.backward_values,
        axis.lines * blocks * groups,
        tile,
        *(grad, query, key, *statistics[:2], value_grad, axis.length, axis.inner),
        *(pitch(query), pitch(key), blocks, groups),
        FIRST=axis.first,
        KEYS=tile.keys,
        ROWS=tile.rows,
        CHANNELS=channels,
        **constants,
    )
    tile = tiles.scores
    channels = tile_channels(tile, value)
    sides = (query, grad), (key, value)
    for of_keys, own_grad in enumerate((query_grad, key_grad)):
        own, other = sides[of_keys], sides[1 - of_keys]
        blocks = ceiling(axis.length, tile.rows)
        launch(
            kernels.backward_scores,
            axis.lines * blocks,
            tile,
            *(*own, *other, *statistics, own_grad, axis.length, axis.inner),
            *(pitch(x) for x in (*own, *other)),
            *(blocks, ceiling(value.shape[-1], channels)),
            FIRST=axis.first,
            OF_KEYS=bool(of_keys),
            OWN=tile.rows,
            OTHERS=tile.keys,
            CHANNELS=channels,
            **constants,
        )


def launch(kernel: Any, programs: int, tile: Tile, *arguments: Any, **constants: Any) -> None:
    kernel[(programs,)](*arguments, **constants, num_warps=tile.warps, num_stages=tile.stages)


def axes(tensor: Tensor) -> Iterator[Axis]:
    """The spatial axes in the order in which they are processed.

    On an axis of length 1 a pixel is alone with itself. Only the first axis includes the pixel
    itself, so the others of length 1 are skipped.
    """
    spatial = range(1, tensor.ndim - 1)
    for index in reversed(spatial):
        first, length = index == spatial[-1], tensor.shape[index]
        inner = math.prod(tensor.shape[index + 1 : -1])
        if first or length > 1:
            yield Axis(first, math.prod(tensor.shape[:index]) * inner, length, inner)


def pitch(tensor: Tensor) -> int:
    """The stride from one pixel to the next.

    Axes of length 1 are skipped: their stride is arbitrary.
    """
    for axis in reversed(range(tensor.ndim - 1)):
        if tensor.shape[axis] > 1:
            return tensor.stride(axis)
    return tensor.shape[-1]


def tiles_of(tensor: Tensor) -> Tiles:
    if tensor.dtype == torch.float32:
        return TILES[float_products()]
    much = tensor.is_cuda and properties(tensor).shared_memory_per_block_optin > MUCH
    return TILES["half, much shared memory" if much else "half"]


def line_tiles_of(query: Tensor) -> dict[int, Tile]:
    """The tiles for whole lines that fit into shared memory.

    With more than 64 query channels, the longest lines need more than most GPUs have.
    """
    tiles = tiles_of(query)
    if query.shape[-1] <= 64 or tiles is TILES["half, much shared memory"]:
        return tiles.line
    return {length: tile for length, tile in tiles.line.items() if length < max(tiles.line)}


def float_products() -> str:
    """How torch multiplies float32 matrices, which is a setting of the user."""
    return "tf32" if torch.backends.cuda.matmul.fp32_precision == "tf32" else "ieee"


def processors(tensor: Tensor) -> int:
    return properties(tensor).multi_processor_count if tensor.is_cuda else 1  # Triton's interpreter


def properties(tensor: Tensor) -> Any:
    return torch.cuda.get_device_properties(tensor.device)


def fitting(tiles: dict[int, Tile], length: int) -> Tile:
    return next(tile for longest, tile in tiles.items() if length <= longest)


def tile_channels(tile: Tile, value: Tensor) -> int:
    return min(tile.channels, padded(value.shape[-1]))


def padded(channels: int) -> int:
    """The number of channels in a block: the sides are powers of two, and at least 16."""
    return max(16, 1 << (channels - 1).bit_length())


def constants_of(query: Tensor, value: Tensor) -> dict[str, Any]:
    """Compile-time constants. PRECISION only matters for float32; the same value for all other
    dtypes avoids compiling their kernels twice.
    """
    depth = query.shape[-1]
    precision = float_products() if query.dtype == torch.float32 else "ieee"
    return {"D": depth, "C": value.shape[-1], "DEPTH": padded(depth), "PRECISION": precision}


def ceiling(numerator: int, denominator: int) -> int:
    return -(-numerator // denominator)
