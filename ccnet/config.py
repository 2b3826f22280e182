"""What a training run is made of: dataclass = YAML file = command-line flags. Loads no torch."""

from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

from ccnet.datasets.transforms import RandomTransform


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
    """Arguments of `ccnet.CCNet`; the data set gives the classes."""

    backbone: str = "resnet101"
    """resnet18, 34, 50, 101 or 152, mobilenet_v2, tiny, or timm/NAME (an extra)."""
    recurrence: int = 2
    """R, the number of passes of criss-cross attention; 0 for none, 2 to reach every pixel."""
    channels: int = 512
    """Number of channels on which the attention works."""
    reduction: int = 8
    """The attention's query and key have channels // reduction channels."""
    shared: bool = True
    """All passes share one set of weights, as in the paper."""
    kernel_size: int = 3
    """Size of the head's convolutions: 3 as in the published networks, or 1."""
    activation: Literal["relu", "leaky_relu"] = "relu"
    """Activation of the heads; the authors' is leaky_relu."""
    dropout: float = 0.1
    """Probability with which a channel is dropped before a classifier."""
    output_stride: int | None = None
    """Image pixels per feature pixel: 8, 16 or 32; null for the backbone's default, 8."""
    stem: Literal["plain", "deep_32", "deep_64"] | None = None
    """First layers of a ResNet: one 7×7 convolution (plain, the default), or three 3×3 ones to 32,
    32 and 64 channels (mmsegmentation) or to 64, 64 and 128 (the authors)."""
    dilation: Literal["contract", "uniform"] | None = None
    """Dilation of a ResNet's convolution whose stride was removed: half that of the others
    (contract, the default, as mmsegmentation) or the same (uniform, the authors)."""
    ceil_mode: bool | None = None
    """Round the size after a ResNet's max pooling up, as the authors; null does not."""
    auxiliary_channels: int | None = 256
    """Width of the auxiliary head, which only helps in training; null for none."""
    auxiliary_bias: bool = False
    """The 3×3 convolution of the auxiliary head has a bias, as the authors'."""
    align_corners: bool = False
    """How logits are upsampled to the size of the image, as in PyTorch's interpolate."""
    pretrained: str | None = None
    """Weights for the backbone: imagenet (also for a ResNet-50 or -101 with stem deep_32), or a
    .safetensors or .pth file or its URL."""


@dataclass(frozen=True)
class OptimizerConfig:
    """How to learn; the defaults are the paper's for batches of 8."""

    name: Literal["sgd", "adamw"] = "sgd"
    """SGD with momentum, as in the paper, or AdamW."""
    lr: float = 1e-2
    """Peak learning rate of the backbone, and of the heads too unless head_lr_factor says more."""
    head_lr_factor: float = 1.0
    """How many times larger the heads' rate is; 10 is usual beside a pretrained backbone."""
    momentum: float = 0.9
    """Of SGD; one_cycle moves it between 0.95 and 0.85 instead (and AdamW's first beta)."""
    weight_decay: float = 1e-4
    """L2 penalty of SGD, decoupled decay of AdamW."""
    decay_norms: bool = True
    """Also of normalisation, biases and γ; false leaves those without decay."""
    schedule: Literal["poly", "one_cycle"] = "poly"
    """lr · (1 − step/steps)^power, as in the paper; or one rise and one fall by cosines."""
    power: float = 0.9
    """Of the poly schedule."""
    final_lr: float = 0.0
    """Where the poly schedule ends, for the backbone; 0 in the paper, 1e-4 in mmsegmentation."""
    warmup_steps: int = 0
    """Steps at the start of the poly schedule in which the rate rises linearly from near 0."""
    clip_norm: float | None = None
    """Largest norm of the gradient; null for no limit."""


@dataclass(frozen=True)
class LossConfig:
    """What to minimise: cross-entropy over the pixels of a batch that aren't ignored."""

    auxiliary_weight: float = 0.4
    """Of the auxiliary head's cross-entropy."""
    class_weights: list[float] | None = None
    """One weight a class (`ccnet check-data` prints median-frequency ones); null for equal."""
    ohem_threshold: float | None = None
    """Count only pixels whose class has at most this probability (OHEM); the authors' is 0.7."""
    ohem_min_kept: int = 100_000
    """With ohem_threshold: the hardest pixels of a batch that count whatever their probability."""


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
    """Images a step, those of all devices together."""
    accumulate: int = 1
    """Parts in which a device takes its images of a step, for less memory; the result is the same
    but for batch normalisation and dropout, which are a part's own."""
    validate_every: int = 1000
    """Steps between validations, which also save."""
    save_every: int = 1000
    """Steps between saves at most; the last two are kept."""
    save_seconds: float = 600.0
    """Seconds between saves at most."""
    log_every: int = 10
    """Steps between rows of the log."""
    num_workers: int = 2
    """Processes of each device that read and transform images; 0 for none but the main one."""
    device: str = "auto"
    """auto, cpu, cuda or mps."""
    devices: int | None = None
    """Processes a node, one a device; null for what torchrun or SLURM started, else 1."""
    num_nodes: int | None = None
    """Machines; null for what torchrun or SLURM started, else 1."""
    strategy: Literal["ddp", "fsdp"] = "ddp"
    """Of several devices: each has the whole model, or a part of its weights and gradients."""
    sync_norms: bool = True
    """Batch normalisation sees the images of all devices (on CUDA; a CPU process sees its own)."""
    precision: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """Autocast's; auto takes bfloat16 where the hardware multiplies it faster, else float32."""
    channels_last: bool = True
    """Keep images and features in channels-last memory, which is faster on CPUs and GPUs."""
    compile: bool = False
    """Compile the network with torch.compile, for sizes that may change."""
    recompute: list[str] = field(default_factory=list)
    """Parts that keep only their input for the backward pass and run again in it (activation
    checkpointing), such as [backbone.layer3, head.attention]: less memory, more time."""
    freeze: list[str] = field(default_factory=list)
    """Parts that don't learn, such as [backbone.conv1, backbone.bn1, backbone.layer1]."""
    freeze_norms: bool = False
    """Batch normalisation keeps statistics, scale and offset as they are, in the whole network."""
    ema_decay: float | None = None
    """Validate and keep an exponential moving average of the weights, with this decay a step."""
    non_finite: Literal["stop", "skip"] = "stop"
    """Where a loss or gradient is inf or nan: stop, or leave the step out (20 in a row stop)."""
    seed: int = 0
    """Of weights, order, transforms and dropout."""

    def __post_init__(self) -> None:
        for name in (
            "steps",
            "batch_size",
            "accumulate",
            "validate_every",
            "save_every",
            "log_every",
        ):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be ≥ 1, got {getattr(self, name)}")
        if self.ema_decay is not None and not 0 < self.ema_decay < 1:
            raise ValueError(f"ema_decay must be between 0 and 1, got {self.ema_decay}")

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


OF_THE_MACHINE = (
    "device",
    "devices",
    "num_nodes",
    "strategy",
    "num_workers",
    "save_every",
    "save_seconds",
)
"""What of a run may differ when it is resumed: not what it computes, but where."""


def read_config(path: Path) -> TrainConfig:
    """The configuration of a run. Raises FileNotFoundError, or ValueError for what doesn't fit."""
    if not path.is_file():
        raise FileNotFoundError(f"no run to resume: there is no {path}")
    from jsonargparse import ArgumentError, ArgumentParser

    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(TrainConfig)
    try:
        return TrainConfig(**vars(parser.instantiate(parser.parse_path(path))))
    except ArgumentError as error:
        raise ValueError(f"{path}: {error}") from error


def resumed_config(own: TrainConfig, given: TrainConfig) -> TrainConfig:
    """`given`, which is a run's own configuration but for flags of the machine.

    Raises ValueError for a flag that would change what the run computes.
    """
    changed = [f.name for f in fields(own) if getattr(given, f.name) != getattr(own, f.name)]
    if others := [name for name in changed if name not in OF_THE_MACHINE]:
        raise ValueError(
            f"--resume goes on by the run's own configuration: {', '.join(others)} can't be given "
            f"with it, only {', '.join(OF_THE_MACHINE)}"
        )
    return given
