"""Criss-cross attention as layers (paper sections 3.2 and 3.3)."""

from typing import cast

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from ccnet.models.recompute import recompute
from ccnet.ops import criss_cross_attention

CONVOLUTIONS = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
ONES = {dims: (1,) * dims for dims in CONVOLUTIONS}
ZEROS = {dims: (0,) * dims for dims in CONVOLUTIONS}
SPATIAL_AXES = ("T", "H", "W")


class CrissCrossAttention(nn.Module):
    """One pass: every pixel gathers from its row and column, H'_u = γ Σ_i A_{i,u} v_i + H_u.

    Query, key and value are 1×1 convolutions with bias. Query and key have
    max(1, channels // reduction) channels. γ is learned and starts at 0, so that a new module is
    the identity.

    Like `nn.Conv2d`, the module accepts features with and without a batch: (B, C, *spatial) and
    (C, *spatial).

    Args:
        channels: the number C of channels of the input and of the output.
        reduction: how many times fewer channels query and key have.
        dims: the number of spatial axes, 1, 2 or 3.
        backend: the form of the operator, as for `criss_cross_attention`.

    Raises:
        ValueError: an argument is out of range or, in a call, the features have other axes or
            another number of channels.
    """

    def __init__(
        self, channels: int, reduction: int = 8, dims: int = 2, *, backend: str | None = None
    ) -> None:
        super().__init__()
        if channels < 1 or reduction < 1:
            raise ValueError(f"channels and reduction must be ≥ 1, got {channels} and {reduction}")
        require_dims(dims)
        conv = CONVOLUTIONS[dims]
        reduced = max(1, channels // reduction)
        self.channels = channels
        self.dims = dims
        self.query_conv = conv(channels, reduced, 1)
        self.key_conv = conv(channels, reduced, 1)
        self.value_conv = conv(channels, channels, 1)
        self.gamma = nn.Parameter(torch.zeros(1))
        self.backend = backend

    def forward(self, features: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        if is_unbatched(features, self.channels, self.dims):
            return self.forward(features.unsqueeze(0)).squeeze(0)
        query, key, value = self.project(features)
        context = criss_cross_attention(query, key, value, backend=self.backend)
        return context + features

    def project(self, features: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Query, key (B, D, *spatial) and γ·value (B, C, *spatial).

        Attention is linear in the values, so γ may scale the values instead of the context.

        Where calling the three convolutions would be nothing but three products, one product
        computes all of them. Otherwise the convolutions are called, so that their hooks,
        parametrizations and replacements have their effect. This includes tracing by `torch.fx`.
        """
        convs = (self.query_conv, self.key_conv, self.value_conv)
        if isinstance(features, Tensor) and all(is_plain(conv, self.dims) for conv in convs):
            return self.project_jointly(features)
        query, key, value = (conv(features) for conv in convs)
        return query, key, self.gamma * value

    def project_jointly(self, features: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """One product, of which the three results are slices; γ scales the value's weights."""
        convs = (self.query_conv, self.key_conv, self.value_conv)
        weights, biases = zip(*((conv.weight.flatten(1), conv.bias) for conv in convs), strict=True)
        weight = torch.cat([*weights[:2], self.gamma * weights[2]])  # [2D + C, C]
        bias = torch.cat([*biases[:2], self.gamma * biases[2]])
        projected = F.linear(features.movedim(1, -1), weight, bias).movedim(-1, 1)
        query, key, value = projected.split([conv.out_channels for conv in convs], dim=1)
        return query, key, value

    def extra_repr(self) -> str:
        return f"backend={self.backend!r}"


class RecurrentCrissCrossAttention(nn.Module):
    """R passes of criss-cross attention (paper section 3.3).

    With two passes every pixel is reached from every pixel of a map.

    Args:
        channels: the number C of channels of the input and of the output.
        recurrence: the number of passes, R ≥ 0. With 0 the module is the identity and has no
            parameters.
        reduction: how many times fewer channels query and key have.
        dims: the number of spatial axes, 1, 2 or 3.
        shared: whether all passes share one set of weights, as in the paper.
        backend: the form of the operator, as for `criss_cross_attention`.
        recompute: save only the input for the backward pass, which then runs all passes again.
            At (1, 512, 97, 97) in float32 this saves 18 MiB instead of 61 MiB per pass, and
            gives the same gradient.
    """

    def __init__(
        self,
        channels: int,
        recurrence: int = 2,
        reduction: int = 8,
        dims: int = 2,
        shared: bool = True,
        *,
        backend: str | None = None,
        recompute: bool = False,
    ) -> None:
        super().__init__()
        if recurrence < 0:
            raise ValueError(f"recurrence must be ≥ 0, got {recurrence}")
        require_dims(dims)
        self.channels = channels
        self.dims = dims
        self.recurrence = recurrence
        self.recompute = recompute
        num_modules = min(1, recurrence) if shared else recurrence
        self.passes = nn.ModuleList(
            CrissCrossAttention(channels, reduction, dims, backend=backend)
            for _ in range(num_modules)
        )

    def forward(self, features: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        if is_unbatched(features, self.channels, self.dims):
            return self.forward(features.unsqueeze(0)).squeeze(0)
        if self.recompute and self.recurrence > 0:
            return recompute(self.all_passes, features)
        return self.all_passes(features)

    def all_passes(self, features: Tensor) -> Tensor:
        for index in range(self.recurrence):
            features = self.attention(index)(features)
        return features

    def attention(self, index: int) -> CrissCrossAttention:
        """The module of one pass. It is the same one for all passes if the weights are shared."""
        return cast(CrissCrossAttention, self.passes[index % len(self.passes)])

    def extra_repr(self) -> str:
        return f"recurrence={self.recurrence}, recompute={self.recompute}"


def require_dims(dims: int) -> None:
    if dims not in CONVOLUTIONS:
        raise ValueError(f"dims must be 1, 2 or 3, got {dims}")


def is_unbatched(features: Tensor, channels: int, dims: int) -> bool:
    """Whether features are (C, *spatial) instead of (B, C, *spatial); an error for other shapes."""
    if not isinstance(features, Tensor):  # torch.fx traces with proxies, whose shape is not known
        return False
    unbatched = features.ndim == dims + 1
    if features.ndim not in (dims + 1, dims + 2) or features.shape[-dims - 1] != channels:
        axes = ", ".join([str(channels), *SPATIAL_AXES[-dims:]])
        raise ValueError(f"expected (B, {axes}) or ({axes}), got {tuple(features.shape)}")
    return unbatched


def is_plain(conv: nn.Module, dims: int) -> bool:
    """Whether calling the module only multiplies by its weight and adds its bias, per pixel."""
    if type(conv) is not CONVOLUTIONS[dims]:  # a parametrization changes the type as well
        return False
    conv = cast(nn.Conv2d, conv)
    return (
        conv.kernel_size == conv.stride == conv.dilation == ONES[dims]
        and conv.padding == ZEROS[dims]
        and conv.padding_mode == "zeros"
        and conv.groups == 1
        and conv.bias is not None
        and "forward" not in vars(conv)
        and not has_hooks(conv)
    )


def has_hooks(module: nn.Module) -> bool:
    """Whether a call of the module runs a hook, its own or a global one.

    The dictionaries are private: PyTorch has no public function that tells.
    """
    every = torch.nn.modules.module
    return bool(
        module._forward_pre_hooks
        or module._forward_hooks
        or module._backward_pre_hooks
        or module._backward_hooks
        or every._global_forward_pre_hooks
        or every._global_forward_hooks
        or every._global_backward_pre_hooks
        or every._global_backward_hooks
    )
