"""What a training run is made of: dataclass = YAML file = command-line flags. Loads no torch."""

from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from ccnet.transforms import RandomTransform


@dataclass(frozen=True)
class DataConfig:
    """What to learn from."""

    name: Literal["scenes", "folder", "camvid"] = "scenes"
    """Embedded procedural scenes; a folder with a dataset.yaml; CamVid."""
    root: str | None = None
    """Folder of the data set; the scenes need none."""
    train_split: str = "train"
    """Split to learn from."""
    val_split: str = "val"
    """Split to validate on."""
    num_images: int = 48_000
    """Different training scenes (scenes only)."""
    augment: RandomTransform | None = None
    """Random scale, crop, mirror and colour; null trains on the images as they are."""


@dataclass(frozen=True)
class ModelConfig:
    """Arguments of `ccnet.CCNet`, which explains them all; the data set gives the classes."""

    backbone: str = "resnet101"
    """resnet18, 34, 50, 101 or 152, mobilenet_v2, tiny, or timm/NAME (an extra)."""
    recurrence: int = 2
    """R, passes of criss-cross attention; 0 for none, 2 to see the whole image."""
    channels: int = 512
    """Channels that the attention works on."""
    kernel_size: int = 3
    """Of the head's convolutions: 3 as published, or 1."""
    activation: Literal["relu", "leaky_relu"] = "relu"
    """Of the heads."""
    dropout: float = 0.1
    """Probability that a channel is left out before the classifier."""
    output_stride: int | None = None
    """Image pixels a feature pixel, 8, 16 or 32; null for the backbone's default, 8."""
    auxiliary_channels: int | None = 256
    """Width of the auxiliary head, which helps in training only; null for none."""
    align_corners: bool = False
    """Of the upsampling to the image."""
    pretrained: str | None = None
    """Weights for the backbone: imagenet, or a .safetensors or .pth file or its URL."""


@dataclass(frozen=True)
class OptimizerConfig:
    """How to learn; the defaults are the paper's for batches of 8."""

    name: Literal["sgd", "adamw"] = "sgd"
    """SGD with momentum, as in the paper, or AdamW."""
    lr: float = 1e-2
    """Peak learning rate."""
    momentum: float = 0.9
    """Of SGD; one_cycle moves it between 0.95 and 0.85 instead (and AdamW's first beta)."""
    weight_decay: float = 1e-4
    """L2 penalty of SGD, decoupled decay of AdamW."""
    schedule: Literal["poly", "one_cycle"] = "poly"
    """lr · (1 − step/steps)^power, as in the paper; or one rise and one fall by cosines."""
    power: float = 0.9
    """Of the poly schedule."""
    clip_norm: float | None = None
    """Largest norm of the gradient; null for no limit."""


@dataclass(frozen=True)
class LossConfig:
    """What to minimise: cross-entropy over the pixels that aren't ignored."""

    auxiliary_weight: float = 0.4
    """Of the auxiliary head's cross-entropy."""
    class_weights: list[float] | None = None
    """One weight a class (`ccnet check-data` prints median-frequency ones); null for equal."""


@dataclass(frozen=True)
class TrainConfig:
    """A training run."""

    data: DataConfig = field(default_factory=DataConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    steps: int = 60_000
    """Optimizer steps."""
    batch_size: int = 8
    """Images a step."""
    validate_every: int = 1000
    """Steps between validations, which also save."""
    log_every: int = 10
    """Steps between rows of the log."""
    num_workers: int = 2
    """Processes that read and transform images; 0 for none but the main one."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """Autocast's; auto takes bfloat16 where the hardware multiplies it faster, else float32."""
    channels_last: bool = True
    """Keep images and features in channels-last memory, which is faster on CPUs and GPUs."""
    device: str = "auto"
    """auto, cpu, cuda or mps."""
    seed: int = 0
    """Of weights, order, transforms and dropout."""

    def __post_init__(self) -> None:
        for name in ("steps", "batch_size", "validate_every", "log_every"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be ≥ 1, got {getattr(self, name)}")

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)
