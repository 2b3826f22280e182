"""How strongly each feature acts on one, by the values too: norms of blocks of the Jacobian.

With the attention weights held fixed, R passes are affine in the features. The block between a
source pixel and the pixel u is C×C: a sum of products of value matrices, each times a number for
the source pixel. With shared weights these are the powers I, W, …, W^R, so the norms of all blocks
follow from R + 1 maps of numbers. DESIGN.md ("Explanations") has the derivation.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from ccnet.explanation.rows import Pass, mass_at, spread
from ccnet.models.attention import CrissCrossAttention

MAX_TERMS = 64
"""Products of value matrices that are formed, each C×C; passes that share weights need R + 1."""
Term = tuple[int, ...]
"""Which value convolutions are multiplied, from the last pass to the first."""


def block_norms(passes: Sequence[Pass], cell: tuple[int, int]) -> Float[Tensor, "h w"]:
    """The Frobenius norm of the C×C block of every source feature for one feature (row, column).

    Raises:
        ValueError: passes with weights of their own have more than `MAX_TERMS` subsets.
    """
    own = len({id(attention.module) for attention in passes})
    if own > 1 and 2 ** len(passes) > MAX_TERMS:
        most = MAX_TERMS.bit_length() - 1
        raise ValueError(
            f"{len(passes)} passes with weights of their own cannot be explained together; the "
            f"last {most} can (passes={most})"
        )
    terms, maps = scalar_maps(passes, cell)
    matrices = value_matrices(passes)
    columns = torch.stack([product(term, matrices).flatten() for term in terms], dim=1)
    triangle = torch.linalg.qr(columns, mode="r").R
    return torch.linalg.vector_norm(torch.einsum("jk,khw->jhw", triangle, maps), dim=0)


def scalar_maps(
    passes: Sequence[Pass], cell: tuple[int, int]
) -> tuple[list[Term], Float[Tensor, "k h w"]]:
    """The products of value matrices in the expansion, and the map of factors of each."""
    indices = convolution_indices(passes)
    maps: dict[Term, Tensor] = {(): mass_at(passes[-1], cell)[0]}
    for index, attention in reversed(list(zip(indices, passes, strict=True))):
        gathered = attention.gamma * spread(attention, torch.stack(list(maps.values())))
        for term, more in zip(list(maps), gathered, strict=True):
            longer = (*term, index)
            maps[longer] = maps[longer] + more if longer in maps else more
    return list(maps), torch.stack(list(maps.values()))


def convolution_indices(passes: Sequence[Pass]) -> list[int]:
    """For each pass the number of its value convolution, the same for shared weights."""
    known = list(dict.fromkeys(id(attention.module) for attention in passes))
    return [known.index(id(attention.module)) for attention in passes]


def value_matrices(passes: Sequence[Pass]) -> dict[int, Float[Tensor, "c c"]]:
    """The C×C matrix of each value convolution, in float64 on the CPU."""
    pairs = zip(convolution_indices(passes), passes, strict=True)
    return {index: linear_part(attention.module) for index, attention in pairs}


def linear_part(module: CrissCrossAttention) -> Float[Tensor, "c c"]:
    """What the value convolution multiplies by, without its bias.

    The layer itself is asked: one with adapters or parametrizations does more than its weight says.
    """
    conv, weight = module.value_conv, module.gamma
    with torch.no_grad():
        unit = torch.eye(module.channels, dtype=weight.dtype, device=weight.device)[..., None, None]
        columns = conv(unit) - conv(torch.zeros_like(unit[:1]))
    return columns[:, :, 0, 0].T.cpu().double()


def product(term: Term, matrices: dict[int, Tensor]) -> Float[Tensor, "c c"]:
    result = torch.eye(len(matrices[0]), dtype=torch.float64)
    for index in term:
        result = result @ matrices[index]
    return result
