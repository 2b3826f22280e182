"""Networks that turn an image into feature maps: dilated ResNet, MobileNetV2 and a tiny one.

"Dilated" means that the last down-samplings are left out and the convolutions after them spread
instead, so that weights learned at stride 32 give a map at stride 8 (paper, section 3.1).
"""

import inspect
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from ccnet.ops.depthwise import DilatedDepthwiseConv2d

# ImageNet's classifiers, and MobileNetV2's last 1×1 convolution, which feeds only its classifier
_CLASSIFIER_KEYS = ("fc.", "classifier.", "features.18.")
_RESNETS = {
    18: (2, 2, 2, 2),
    34: (3, 4, 6, 3),
    50: (3, 4, 6, 3),
    101: (3, 4, 23, 3),
    152: (3, 8, 36, 3),
}
_STEMS = {"plain": (64,), "deep_32": (32, 32, 64), "deep_64": (64, 64, 128)}
_OUTPUT_STRIDES = (8, 16, 32)


class Backbone(nn.Module):
    """The contract: images (B, 3, H, W), sides at least 32, to a list of maps, fine to coarse.

    `out_channels` has one entry a map. The last map has `output_stride` and goes to the attention,
    the one before it to the auxiliary head. A map's side is the image's over its stride, rounded up
    (ResNet with `ceil_mode` can have one pixel more).
    """

    out_channels: tuple[int, ...]
    output_stride: int

    def forward(self, images: Tensor) -> list[Tensor]:
        raise NotImplementedError


class ResNet(Backbone):
    """Dilated residual network; returns the maps of its four layers.

    `stem`: "plain" is one 7×7 convolution to 64 channels, with torchvision's parameter names.
    "deep_32" is three 3×3 convolutions to 32, 32, 64 channels (ResNet-v1c, mmsegmentation),
    "deep_64" to 64, 64, 128 (the CCNet authors); their names start at `stem.0`.

    `dilation`: in a layer that lost its stride and has dilation d, "uniform" dilates every 3×3
    convolution by d (the authors). "contract" leaves the one that lost the stride at d/2
    (torchvision, mmsegmentation): then the map holds the undilated network's, between whose
    pixels it adds new ones.

    `ceil_mode` rounds the max pooling's size up: 769 pixels give 97 either way, 1024 give 129.
    """

    def __init__(
        self,
        depth: int,
        *,
        output_stride: int = 8,
        stem: Literal["plain", "deep_32", "deep_64"] = "plain",
        dilation: Literal["contract", "uniform"] = "contract",
        ceil_mode: bool = False,
    ):
        super().__init__()
        _require("depth", depth, tuple(_RESNETS))
        _require("output_stride", output_stride, _OUTPUT_STRIDES)
        _require("stem", stem, tuple(_STEMS))
        _require("dilation", dilation, ("contract", "uniform"))
        block = _BasicBlock if depth < 50 else _Bottleneck
        widths = _STEMS[stem]
        if stem == "plain":
            self.stem = None
            self.conv1 = _convolution(3, widths[0], 7, stride=2)
            self.bn1 = nn.BatchNorm2d(widths[0])
            self.relu = nn.ReLU(inplace=True)
        else:
            self.stem = nn.Sequential(
                *_conv_norm_activation(3, widths[0], 3, stride=2),
                *_conv_norm_activation(widths[0], widths[1], 3),
                *_conv_norm_activation(widths[1], widths[2], 3),
            )
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1, ceil_mode=ceil_mode)
        channels, layers = widths[-1], []
        strides = _strides_and_dilations((1, 2, 2, 2), 4, output_stride)
        for index, (stride, before, after) in enumerate(strides):
            first = after if dilation == "uniform" else before
            width = 64 * 2**index
            blocks = [block(channels, width, stride, (first, after))]
            channels = width * block.expansion
            for _ in range(_RESNETS[depth][index] - 1):
                blocks.append(block(channels, width, 1, (after, after)))
            layers.append(nn.Sequential(*blocks))
        self.layer1, self.layer2, self.layer3, self.layer4 = layers
        self.out_channels = tuple(width * block.expansion for width in (64, 128, 256, 512))
        self.output_stride = output_stride
        _initialise(self)

    def forward(self, images: Tensor) -> list[Tensor]:
        if self.stem is None:
            features = self.relu(self.bn1(self.conv1(images)))
        else:
            features = self.stem(images)
        fine = self.layer1(self.maxpool(features))
        second = self.layer2(fine)
        third = self.layer3(second)
        return [fine, second, third, self.layer4(third)]


class MobileNetV2(Backbone):
    """Inverted residuals at width 1.0, for processors without an accelerator.

    Returns the last map of each stride, five in all, the coarsest with 320 channels. The network's
    own last 1×1 convolution, to 1280 channels, is left out: it feeds the ImageNet classifier, and
    would make the head's 3×3 convolutions four times dearer. Parameter names are torchvision's;
    the dilation is ResNet's "contract".
    """

    _STAGES = (1, 3, 6, 13, 17)

    def __init__(self, *, output_stride: int = 8):
        super().__init__()
        _require("output_stride", output_stride, _OUTPUT_STRIDES)
        # Table 2 of Sandler et al. (2018): expansion, channels and number of the blocks, stride
        expansions, widths = (1, 6, 6, 6, 6, 6, 6), (16, 24, 32, 64, 96, 160, 320)
        counts, strides = (1, 2, 3, 4, 3, 3, 1), (1, 2, 2, 2, 1, 2, 1)
        features: list[nn.Module] = [
            nn.Sequential(*_conv_norm_activation(3, 32, 3, stride=2, activation=nn.ReLU6))
        ]
        channels = 32
        spread = _strides_and_dilations(strides, 2, output_stride)
        rows = zip(expansions, widths, counts, spread, strict=True)
        for expansion, width, count, (stride, before, after) in rows:
            features.append(_InvertedResidual(channels, width, stride, before, expansion))
            for _ in range(count - 1):
                features.append(_InvertedResidual(width, width, 1, after, expansion))
            channels = width
        self.features = nn.Sequential(*features)
        self.out_channels = (16, 24, 32, 96, 320)
        self.output_stride = output_stride
        _initialise(self)

    def forward(self, images: Tensor) -> list[Tensor]:
        maps = []
        for index, block in enumerate(self.features):
            images = block(images)
            if index in self._STAGES:
                maps.append(images)
        return maps


class Tiny(Backbone):
    """Two 3×3 convolutions with stride 2: trains in seconds, and sees 7×7 pixels.

    So small a receptive field is the point: whatever a network on top of it knows about the rest of
    the image came through the attention.
    """

    def __init__(self, channels: int = 64):
        super().__init__()
        if channels < 2:
            raise ValueError(f"channels is {channels}; at least 2 are needed")
        self.out_channels = (channels // 2, channels)
        self.output_stride = 4
        self.conv1 = nn.Sequential(*_conv_norm_activation(3, channels // 2, 3, stride=2))
        self.conv2 = nn.Sequential(*_conv_norm_activation(channels // 2, channels, 3, stride=2))
        _initialise(self)

    def forward(self, images: Tensor) -> list[Tensor]:
        fine = self.conv1(images)
        return [fine, self.conv2(fine)]


_BUILDERS: dict[str, Callable[..., Backbone]] = {
    **{f"resnet{depth}": partial(ResNet, depth) for depth in _RESNETS},
    "mobilenet_v2": MobileNetV2,
    "tiny": Tiny,
}
BACKBONES = tuple(_BUILDERS)


def create_backbone(name: str, *, pretrained: str | Path | None = None, **options: Any) -> Backbone:
    """Build a backbone by its name in `BACKBONES`; the options are its class's.

    `pretrained`: a file for `load_pretrained`; without one the weights are random. Raises
    ValueError for an unknown name or option, and for a value that the backbone has not.
    """
    _require("backbone", name, BACKBONES)
    build = _BUILDERS[name]
    known = tuple(inspect.signature(build).parameters)
    if unknown := [option for option in options if option not in known]:
        raise ValueError(f"{name} has no option {', '.join(unknown)}; it has {', '.join(known)}")
    backbone = build(**options)
    if pretrained is not None:
        load_pretrained(backbone, pretrained)
    return backbone


def load_pretrained(backbone: Backbone, path: str | Path) -> None:
    """Fill the backbone in place with the weights of a .safetensors, .pth or .pt file.

    The state dict may be bare or under "state_dict" or "model", its keys may start with "module."
    or "backbone."; an ImageNet classifier is left out. Everything else has to match. Nothing in the
    file is run. Raises FileNotFoundError, or ValueError for a file that is broken or doesn't fit.
    """
    wanted = backbone.state_dict()
    given = {
        key: value
        for key, value in _read_state(Path(path)).items()
        if key in wanted or not key.startswith(_CLASSIFIER_KEYS)
    }
    problems = {
        "missing": [
            key for key in wanted if key not in given and not key.endswith("num_batches_tracked")
        ],
        "unexpected": [key for key in given if key not in wanted],
        "of another shape": [
            f"{key} {tuple(value.shape)} for {tuple(wanted[key].shape)}"
            for key, value in given.items()
            if key in wanted and value.shape != wanted[key].shape
        ],
    }
    counts = [
        f"{len(keys)} {kind} ({', '.join(keys[:3])}{', ...' if len(keys) > 3 else ''})"
        for kind, keys in problems.items()
        if keys
    ]
    if counts:
        raise ValueError(f"{path} doesn't fit {type(backbone).__name__}: {'; '.join(counts)}")
    backbone.load_state_dict(given, strict=False)


def _read_state(path: Path) -> dict[str, Tensor]:
    if path.suffix not in (".safetensors", ".pth", ".pt"):
        raise ValueError(f"{path}: weights are read from .safetensors, .pth or .pt files")
    if not path.is_file():
        raise FileNotFoundError(f"no weight file at {path}")
    try:
        if path.suffix == ".safetensors":
            state = load_file(path)
        else:
            state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a broken file can raise anything
        raise ValueError(f"{path} can't be read as weights ({type(error).__name__})") from error
    for wrapper in ("state_dict", "model"):
        if isinstance(state, Mapping) and isinstance(state.get(wrapper), Mapping):
            state = state[wrapper]
    if not isinstance(state, Mapping) or not all(
        isinstance(key, str) and isinstance(value, Tensor) for key, value in state.items()
    ):
        raise ValueError(f"{path} holds something other than a state dict of tensors")
    return {
        key.removeprefix("module.").removeprefix("backbone."): value for key, value in state.items()
    }


class _BasicBlock(nn.Module):
    expansion = 1

    def __init__(self, in_channels: int, width: int, stride: int, dilations: tuple[int, int]):
        super().__init__()
        self.conv1 = _convolution(in_channels, width, 3, stride=stride, dilation=dilations[0])
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = _convolution(width, width, 3, dilation=dilations[1])
        self.bn2 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = _shortcut(in_channels, width, stride)

    def forward(self, features: Tensor) -> Tensor:
        update = self.relu(self.bn1(self.conv1(features)))
        update = self.bn2(self.conv2(update))
        return self.relu(update + self.downsample(features))


class _Bottleneck(nn.Module):
    expansion = 4

    def __init__(self, in_channels: int, width: int, stride: int, dilations: tuple[int, int]):
        super().__init__()
        self.conv1 = _convolution(in_channels, width, 1)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = _convolution(width, width, 3, stride=stride, dilation=dilations[0])
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = _convolution(width, 4 * width, 1)
        self.bn3 = nn.BatchNorm2d(4 * width)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = _shortcut(in_channels, 4 * width, stride)

    def forward(self, features: Tensor) -> Tensor:
        update = self.relu(self.bn1(self.conv1(features)))
        update = self.relu(self.bn2(self.conv2(update)))
        update = self.bn3(self.conv3(update))
        return self.relu(update + self.downsample(features))


class _InvertedResidual(nn.Module):
    def __init__(self, in_channels: int, width: int, stride: int, dilation: int, expansion: int):
        super().__init__()
        hidden = in_channels * expansion
        step = partial(_conv_norm_activation, activation=nn.ReLU6)
        depthwise = step(hidden, hidden, 3, stride=stride, dilation=dilation, groups=hidden)
        steps = [depthwise] if expansion == 1 else [step(in_channels, hidden, 1), depthwise]
        self.conv = nn.Sequential(
            *(nn.Sequential(*layers) for layers in steps),
            _convolution(hidden, width, 1),
            nn.BatchNorm2d(width),
        )
        # Both from the published network: a block that once had a stride has other channels too
        self.is_residual = in_channels == width

    def forward(self, features: Tensor) -> Tensor:
        update = self.conv(features)
        return features + update if self.is_residual else update


def _strides_and_dilations(
    strides: tuple[int, ...], stride_before: int, output_stride: int
) -> Iterator[tuple[int, int, int]]:
    """For each stage: the stride it keeps, and the dilation before and after a stride it loses."""
    reached, dilation = stride_before, 1
    for stride in strides:
        if reached * stride <= output_stride:
            reached *= stride
            yield stride, dilation, dilation
        else:
            yield 1, dilation, dilation * stride
            dilation *= stride


def _convolution(
    in_channels: int,
    out_channels: int,
    kernel_size: int,
    *,
    stride: int = 1,
    dilation: int = 1,
    groups: int = 1,
) -> nn.Conv2d:
    is_dilated_depthwise = dilation > 1 and groups > 1
    kind = DilatedDepthwiseConv2d if is_dilated_depthwise else nn.Conv2d
    padding = dilation * (kernel_size // 2)
    return kind(
        in_channels, out_channels, kernel_size, stride, padding, dilation, groups, bias=False
    )


def _conv_norm_activation(
    in_channels: int,
    out_channels: int,
    kernel_size: int,
    *,
    activation: type[nn.ReLU] | type[nn.ReLU6] = nn.ReLU,
    **options: int,
) -> list[nn.Module]:
    return [
        _convolution(in_channels, out_channels, kernel_size, **options),
        nn.BatchNorm2d(out_channels),
        activation(inplace=True),
    ]


def _shortcut(in_channels: int, out_channels: int, stride: int) -> nn.Module:
    if stride == 1 and in_channels == out_channels:
        return nn.Identity()
    return nn.Sequential(
        _convolution(in_channels, out_channels, 1, stride=stride), nn.BatchNorm2d(out_channels)
    )


def _initialise(network: nn.Module) -> None:
    """As torchvision; batch norm starts at scale 1 and offset 0 by itself."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")


def _require(what: str, value: object, known: tuple[object, ...]) -> None:
    if value not in known:
        raise ValueError(f"{what} is {value!r}; known are {', '.join(map(str, known))}")
