"""3×3 convolutions with fewer multiplications (Winograd 1980; Lavin and Gray 2016)."""

import math
from collections.abc import Iterator, Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

ROOT = math.sqrt(0.5)
POINTS = {2: (0, 1, -1), 4: (0, ROOT, -ROOT, 2 * ROOT, -2 * ROOT)}
"""Where the polynomials of tiles of 2×2 and 4×4 pixels are evaluated, besides infinity. With these
points for 4×4, instead of the usual 0, ±1 and ±2, rounding errors are half as large."""
FEWEST_PIXELS = 1024
"""Smaller maps take the direct convolution, which is faster there."""
PRODUCT_BYTES = 2**25
"""Of the products that are in memory at once. glibc returns larger blocks to the system; getting
them again costs a page fault for every 4 KiB, a sixth of the time of the products."""


class WinogradConv2d(nn.Conv2d):
    """A convolution as matrix products over tiles of its output, for inference.

    Tiles of 4×4 pixels take a quarter of the direct form's multiplications, tiles of 2×2 take 4/9
    of them. Rounding errors in float32 are those of the direct form with 2×2, and with 4×4 a
    millionth of the output's root mean square. In bfloat16 they are twice those of the direct form
    with 2×2; 4×4 is too inaccurate there. The factors of the weight take 16/9 and 4 times its
    memory, besides the weight, which small maps are convolved with directly.

    Args:
        direct: the convolution, for which `is_winograd` holds. Its weight is shared.
        tile: side of a tile, 2 or 4.
    """

    factors: Tensor  # [n, n, C, O], where n = tile + 2
    from_products: Tensor  # [tile², n²]

    def __init__(self, direct: nn.Conv2d, tile: int) -> None:
        padding, dilation = int(direct.padding[0]), direct.dilation[0]
        super().__init__(
            direct.in_channels,
            direct.out_channels,
            3,
            padding=padding,
            dilation=dilation,
            device="meta",
        )
        self.weight, self.bias = direct.weight, direct.bias
        self.tile = tile
        outputs, filters = matrices(tile)
        weight = direct.weight.detach()
        taps = weight.permute(2, 3, 1, 0).double().flatten(2).flatten(0, 1)  # [9, C·O]
        factors = weight.new_empty((tile + 2) ** 2, *weight.shape[1::-1])
        for factor, row in zip(factors, torch.kron(filters, filters).to(taps), strict=True):
            factor.copy_((row @ taps).view_as(factor))
        self.register_buffer("factors", factors.unflatten(0, (tile + 2, tile + 2)), False)
        self.register_buffer("from_products", torch.kron(outputs, outputs).to(weight), False)

    @torch.compiler.disable  # hundreds of small steps
    def forward(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, input: Float[Tensor, "b c _ _"]
    ) -> Float[Tensor, "b o _ _"]:
        step, size = self.dilation[0], input.shape[-2:]
        padding = int(self.padding[0])
        height, width = (side + 2 * (padding - step) for side in size)
        if height * width < FEWEST_PIXELS:
            return super().forward(input)
        with torch.autocast(input.device.type, enabled=False):
            # every step-th row and column form a map of their own, whose convolution is not dilated
            rows, columns = (-(-side // (step * self.tile)) for side in (height, width))
            sides = ((tiles * self.tile + 2) * step for tiles in (rows, columns))
            padded = self.factors.new_zeros(input.shape[0], *sides, input.shape[1])
            inside = padded[:, padding : padding + size[0], padding : padding + size[1]]
            inside.copy_(input.movedim(1, -1))
            maps = padded.unflatten(2, (-1, step)).unflatten(1, (-1, step))
            tiled = self.convolve(maps, rows, columns)
        out = tiled.flatten(4, 6).flatten(1, 3)[:, :height, :width]
        return out.movedim(-1, 1).contiguous(memory_format=torch.channels_last)

    def convolve(self, maps: Tensor, rows: int, columns: int) -> Tensor:
        """[B, height, step, width, step, C] to [B, rows, tile, step, columns, tile, step, O]."""
        batch, _, step, _, _, _ = maps.shape
        tile = self.tile
        out = maps.new_empty(batch, rows, tile, step, columns, tile, step, self.out_channels)
        in_a_row = batch * step * columns * step
        row_bytes = (tile + 2) ** 2 * in_a_row * self.out_channels * maps.element_size()
        rows_at_once = min(rows, max(1, PRODUCT_BYTES // row_bytes))
        space = maps.new_empty((tile + 2) ** 2 * rows_at_once * in_a_row * self.out_channels)
        for some in out.split(rows_at_once, 1):
            count = some.shape[1]
            products = self.multiply(maps, count, columns, space).flatten(2).flatten(0, 1)
            pixels = (self.from_products @ products).view(
                tile, tile, batch, count, step, columns, step, -1
            )
            pixels = pixels.permute(2, 3, 0, 4, 5, 1, 6, 7)
            some.copy_(pixels) if self.bias is None else torch.add(pixels, self.bias, out=some)
            maps = maps[:, count * tile :]
        return out

    def multiply(self, maps: Tensor, rows: int, columns: int, space: Tensor) -> Tensor:
        """The products [n, n, tiles, O] of the first rows of tiles, in `space`."""
        batch, _, step, _, _, channels = maps.shape
        tile, n = self.tile, self.tile + 2
        tiles = batch * rows * step * columns * step
        shape = (n, n, tiles, self.out_channels)
        products = space[: math.prod(shape)].view(shape)
        across = transformed([maps[:, i::tile][:, :rows] for i in range(n)])
        for part, weights, results in zip(across, self.factors, products, strict=True):
            along = transformed([part[:, :, :, i::tile][:, :, :, :columns] for i in range(n)])
            for pixels, weight, result in zip(along, weights, results, strict=True):
                torch.mm(pixels.reshape(tiles, channels), weight, out=result)
        return products


def is_winograd(conv: nn.Conv2d, fewest_channels: int) -> bool:
    """Whether `WinogradConv2d` knows this kind of convolution, and is faster for it."""
    return (
        conv.kernel_size == (3, 3)
        and conv.stride == (1, 1)
        and conv.groups == 1
        and conv.padding_mode == "zeros"
        and conv.dilation[0] == conv.dilation[1]
        and conv.padding in ((0, 0), conv.dilation)
        and min(conv.in_channels, conv.out_channels) >= fewest_channels
    )


def transformed(parts: Sequence[Tensor]) -> Iterator[Tensor]:
    """What is multiplied along one axis, for each point, from the pixels of a tile and its border.

    A point p stands for the product of all (x − q), where q are the other points, and infinity for
    the product of all. Points p and −p share their even and odd terms.
    """
    if len(parts) == 4:
        yield parts[2] - parts[0]
        yield parts[2] + parts[1]
        yield parts[2] - parts[1]
        yield parts[3] - parts[1]
        return
    yield torch.sub(parts[4], parts[2], alpha=2.5).add_(parts[0])
    for point, other in ((ROOT, 2), (2 * ROOT, 0.5)):  # and the square of the other pair
        even = torch.sub(parts[4], parts[2], alpha=other)
        odd = torch.sub(parts[3], parts[1], alpha=other)
        yield torch.add(even, odd, alpha=point)
        yield even.sub_(odd, alpha=point)
    yield torch.sub(parts[5], parts[3], alpha=2.5).add_(parts[1])


def matrices(tile: int) -> tuple[Float[Tensor, "tile n"], Float[Tensor, "n 3"]]:
    """From products to the pixels of a tile, and from a filter to its factors; along one axis.

    With the matrix B of `transformed`, outputs @ ((filters @ f) · (B @ x)) is the correlation of
    three numbers f with tile + 2 numbers x.
    """
    points = torch.tensor(POINTS[tile], dtype=torch.float64)
    last = torch.eye(len(points) + 1, dtype=torch.float64)[-1]
    outputs = torch.cat([points ** torch.arange(tile)[:, None], last[-tile:, None]], dim=1)
    differences = points[:, None] - points + torch.eye(len(points))
    filters = points[:, None] ** torch.arange(3) / differences.prod(1, keepdim=True)
    return outputs, torch.cat([filters, last[None, -3:]])
