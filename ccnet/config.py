"""The configuration of a run: dataclass = YAML file = command-line flags. Loads no torch."""

import json
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Annotated, Any, Literal

from ccnet.datasets import DatasetName, Division
from ccnet.datasets.transforms import RandomTransform
from ccnet.images.bands import require_choice
from ccnet.prediction.protocol import Protocol
from ccnet.runtime.files import DataError, read_yaml
from ccnet.runtime.values import MOST, Between, build, checked, require_fields

Precision = Literal["auto", "float32", "bfloat16", "float16"]
Count = Annotated[int, Between(1, MOST)]
Width = Annotated[int, Between(1, 16384)]
Share = Annotated[float, Between(0, 1)]
Finite = Annotated[float, Between(-1e30, 1e30)]
Factor = Annotated[float, Between(0, 1000)]
Rate = Annotated[float, Between(0, 1e30)]
"""A learning rate: the upper end is that of float32; `Run.save` finds a network that overflows."""


@dataclass(frozen=True)
class DataConfig:
    """What to learn from."""

    name: DatasetName = "scenes"
    """Kind of data set: procedural scenes, a folder of your own, or a published one."""
    root: str | None = None
    """Folder of the data set; the scenes need none."""
    train_split: str = "train"
    """Split to learn from; of published data sets also several joined by +, such as train+val."""
    val_split: str = "val"
    """Split to validate on. A split may also be a list file, such as runs/mine/lists/val.txt."""
    val_share: Annotated[float, Between(0, 1, excluded="both")] = 0.2
    """Share of the images to validate on, in a folder that has no val_split. An image belongs to it
    by the hash of its name."""
    group_by: str | None = None
    """Regular expression. Images in whose names it finds the same text, such as a drive or a
    patient, are not divided: its first group counts, or all of it."""
    num_images: Count = 48_000
    """Number of training images; for the scenes only."""
    augment: RandomTransform | None = None
    """Random scale, crop, mirroring and colors. Null: train on the images as they are."""
    bands: list[Annotated[int, Between(1, 1024)]] | None = None
    """Bands of the image files, counted from 1, such as [1,2,3,5]. Null: RGB of 8 bits, or all
    bands if value_range is given. The model keeps both."""
    value_range: list[Finite] | Literal["dtype", "percentiles"] | None = None
    """Values of the bands that count: [low, high], such as [0,4095]; dtype: all that the type can
    hold; percentiles: of each band, the 0.1th to 99.9th. Null: dtype, if that is no guess."""

    def __post_init__(self) -> None:
        require_fields(self, "data")
        self.division()
        require_choice(self.bands, self.value_range)

    def division(self) -> Division:
        """How images without a validation split are divided; raises ValueError if it cannot be."""
        return Division(
            val_share=self.val_share,
            group_by=self.group_by,
            train=self.train_split,
            val=self.val_split,
        )


@dataclass(frozen=True)
class ModelConfig:
    """Arguments of `ccnet.CCNet`; the data set gives the classes."""

    backbone: str = "resnet101"
    """resnet18, 34, 50, 101 or 152, mobilenet_v2, tiny, or timm/NAME (an extra)."""
    recurrence: Annotated[int, Between(0, 100)] = 2
    """R, the number of passes of criss-cross attention; 0 for none, 2 to reach every pixel."""
    channels: Width = 512
    """Number of channels on which the attention works."""
    reduction: Width = 8
    """The attention's query and key have channels // reduction channels."""
    shared: bool = True
    """All passes share one set of weights, as in the paper."""
    kernel_size: Annotated[int, Between(1, 3)] = 3
    """Size of the head's convolutions: 3 as in the published networks, or 1."""
    activation: Literal["relu", "leaky_relu"] = "relu"
    """Activation of the heads; the authors' is leaky_relu."""
    dropout: Annotated[float, Between(0, 1, excluded="high")] = 0.1
    """Probability with which a channel is dropped before a classifier."""
    output_stride: Annotated[int, Between(1, 32)] | None = None
    """Image pixels per feature pixel: 8, 16 or 32; null for the backbone's default, 8."""
    stem: Literal["plain", "deep_32", "deep_64"] | None = None
    """First layers of a ResNet: one 7×7 convolution (plain, the default), or three 3×3 ones to 32,
    32 and 64 channels (mmsegmentation) or to 64, 64 and 128 (the authors)."""
    dilation: Literal["contract", "uniform"] | None = None
    """Dilation of a ResNet's convolution whose stride was removed: half that of the others
    (contract, the default, as mmsegmentation) or the same (uniform, the authors)."""
    ceil_mode: bool | None = None
    """Round the size after a ResNet's max pooling up, as the authors; null does not."""
    auxiliary_channels: Width | None = 256
    """Width of the auxiliary head, which only helps in training; null for none."""
    auxiliary_bias: bool = False
    """The 3×3 convolution of the auxiliary head has a bias, as the authors'."""
    align_corners: bool = False
    """How logits are upsampled to the size of the image, as in PyTorch's interpolate."""
    refinement: list[Annotated[int, Between(1, 32)]] | None = None
    """Strides of finer maps of the backbone that refine the features before the classifier, from
    coarse to fine, such as [4] or [4, 2]: for objects thinner than the output stride. Null, as in
    the paper: none."""
    pretrained: str | None = None
    """Weights for the backbone: imagenet (also for a ResNet-50 or -101 with stem deep_32), or a
    .safetensors or .pth file or its URL."""

    def __post_init__(self) -> None:
        require_fields(self, "model")


@dataclass(frozen=True)
class OptimizerConfig:
    """How to learn; the defaults are the paper's for batches of 8."""

    name: Literal["sgd", "adamw"] = "sgd"
    """SGD with momentum, as in the paper, or AdamW."""
    lr: Rate = 1e-2
    """Peak learning rate of the backbone; that of the heads is head_lr_factor times as large."""
    head_lr_factor: Factor = 1.0
    """Learning rate of the heads divided by that of the backbone; 10 is usual with a pretrained
    backbone."""
    momentum: Annotated[float, Between(0, 1, excluded="high")] = 0.9
    """Momentum of SGD. The one_cycle schedule replaces it by 0.95 to 0.85, and AdamW's first beta
    too."""
    weight_decay: Factor = 1e-4
    """L2 penalty of SGD, decoupled weight decay of AdamW."""
    decay_norms: bool = True
    """Also decay the parameters of normalization, biases and γ."""
    schedule: Literal["poly", "one_cycle"] = "poly"
    """poly: lr · (1 − step/steps)^power, as in the paper. one_cycle: a rise and a fall, both
    cosines."""
    power: Factor = 0.9
    """Exponent of the poly schedule."""
    final_lr: Rate = 0.0
    """Learning rate of the backbone at the end of the poly schedule; 0 in the paper, 1e-4 in
    mmsegmentation."""
    warmup_steps: Annotated[int, Between(0, MOST)] = 0
    """Steps at the start of the poly schedule in which the rate rises linearly from almost 0."""
    clip_norm: Annotated[float, Between(0, MOST, excluded="low")] | None = None
    """Largest norm of the gradient. Null: no limit."""

    def __post_init__(self) -> None:
        require_fields(self, "optimizer")


@dataclass(frozen=True)
class ConsistencyConfig:
    """Constants of the category consistent loss; the defaults are the paper's."""

    channels: Annotated[int, Between(1, 4096)] = 16
    """Width of the 1×1 convolution of the attention's output whose features are compared."""
    variation: Factor = 1.0
    """α, the weight of the distances of features to the mean of their class."""
    distance: Factor = 1.0
    """β, the weight of the distances between the means of classes."""
    regularization: Factor = 1e-3
    """γ, the weight of the lengths of the means."""
    variation_margin: Factor = 0.5
    """δ_v, the distance to the mean of its class up to which a feature costs nothing."""
    distance_margin: Factor = 1.5
    """δ_d, half the distance from which on two means cost nothing; at least variation_margin."""

    def __post_init__(self) -> None:
        require_fields(self, "loss.consistency")
        if self.variation_margin > self.distance_margin:
            raise ValueError(
                "loss.consistency.variation_margin must be at most distance_margin, "
                f"{self.distance_margin}, got {self.variation_margin}"
            )


@dataclass(frozen=True)
class LossConfig:
    """What to minimize: cross-entropy, averaged over the labeled pixels of a batch, and more."""

    auxiliary_weight: Factor = 0.4
    """Weight of the auxiliary head's cross-entropy."""
    class_weights: list[Factor] | Literal["auto"] | None = None
    """One weight per class for the cross-entropy, or auto: the cube roots of median-frequency
    weights, measured from the training labels at the start. Null: equal."""
    ohem_threshold: Share | None = None
    """Count only pixels whose true class has at most this probability (OHEM); the CCNet authors
    take 0.7. Null: count all."""
    ohem_min_kept: Annotated[float, Between(0, 10**12)] = 0.08
    """With ohem_threshold: the hardest pixels of a batch that count in any case; below 1 their
    share of the labeled pixels, otherwise their number."""
    focal_gamma: Annotated[float, Between(0, 100)] = 0.0
    """γ of the focal loss: each pixel's cross-entropy is multiplied by (1 − p)^γ, p the probability
    of its true class; 2 is usual, 0 is off."""
    label_smoothing: Annotated[float, Between(0, 1, excluded="high")] = 0.0
    """Share of the label that is spread over all classes; 0.1 is usual, 0 is off."""
    dice: Factor = 0.0
    """Weight of the Dice loss of the batch, in which every class counts alike."""
    lovasz: Factor = 0.0
    """Weight of the Lovász-softmax loss, which follows the IoU of the classes of each image."""
    category_consistent: Factor = 0.0
    """Weight of the category consistent loss of the journal version of the paper, which takes 1."""
    consistency: ConsistencyConfig = field(default_factory=ConsistencyConfig)
    """Constants of the category consistent loss."""

    def __post_init__(self) -> None:
        require_fields(self, "loss")
        if self.class_weights is not None and not any(self.class_weights):
            raise ValueError("loss.class_weights must have one above 0, or nothing is learned")
        if self.ohem_min_kept > 1 and self.ohem_min_kept != int(self.ohem_min_kept):
            raise ValueError(
                "loss.ohem_min_kept must be a whole number of pixels or a share below 1, got "
                f"{self.ohem_min_kept}"
            )


@dataclass(frozen=True)
class TrainConfig:
    """A training run."""

    data: DataConfig = field(default_factory=DataConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    protocol: Protocol = field(default_factory=Protocol)
    """How images are shown to the network in validations. It is stored with the model, for which it
    is then the default."""
    steps: Count = 60_000
    """Number of optimizer steps."""
    minutes: Annotated[float, Between(0, MOST, excluded="low")] | None = None
    """Minutes that steps and validations should take. At the start some steps and predictions are
    timed and undone, and `steps` becomes the number that fits; config.yaml then has that number
    and no `minutes`, so it makes the same run again. Null: `steps` counts."""
    batch_size: Count = 8
    """Images per step, of all devices together."""
    accumulate: Count = 1
    """Number of parts in which a device takes its images of a step; more parts need less memory.
    The gradient is the same except for batch normalization and dropout, which see one part at a
    time."""
    validate_every: Count = 1000
    """Steps between validations; each one also saves."""
    save_every: Count = 1000
    """Largest number of steps between saves; the last two saves are kept."""
    save_seconds: Annotated[float, Between(0, MOST)] = 600.0
    """Largest number of seconds between saves."""
    log_every: Count = 10
    """Steps between rows of the log."""
    pictures: Annotated[int, Between(0, 16)] = 4
    """Validation images of which each validation draws image, label and prediction, into pictures/
    of the run folder and for TensorBoard; at most 64 pictures per run."""
    logger: Literal["wandb", "mlflow", "trackio"] | None = None
    """A tracker (an extra) that gets what log.csv and TensorBoard get. Null: none."""
    project: str = "ccnet"
    """Project or experiment of the run in the tracker."""
    num_workers: Annotated[int, Between(0, 1024)] = 2
    """Processes per device that read and transform images. 0: the training process reads."""
    device: str = "auto"
    """auto, cpu, cuda, cuda:N or mps."""
    devices: Annotated[int, Between(1, 1024)] | None = None
    """Processes per node, one per device. Null: as many as torchrun or SLURM started, and 1 without
    them."""
    num_nodes: Annotated[int, Between(1, 65536)] | None = None
    """Machines. Null: as many as torchrun or SLURM use, and 1 without them."""
    strategy: Literal["ddp", "fsdp"] = "ddp"
    """With several devices. ddp: each device has the whole model. fsdp: each device has a part of
    the weights, gradients and optimizer states."""
    sync_norms: bool = True
    """Batch normalization over the images of all CUDA devices; on CPUs each process normalizes its
    own."""
    precision: Precision = "auto"
    """Precision of autocast. auto: bfloat16 where the hardware multiplies it faster, otherwise
    float32."""
    channels_last: bool = True
    """Keep images and features in channels-last memory, which is faster on CPUs and GPUs."""
    compile: bool = False
    """Compile the network with torch.compile, for images of varying size."""
    recompute: list[str] = field(default_factory=list)
    """Modules that keep only their input for the backward pass and are run again in it (activation
    checkpointing), such as [backbone.layer3, head.attention]: less memory, more time."""
    freeze: list[str] = field(default_factory=list)
    """Modules that do not learn, such as [backbone.conv1, backbone.bn1, backbone.layer1]."""
    freeze_norms: bool = False
    """Keep statistics, scale and offset of all batch normalization as they are."""
    ema_decay: Annotated[float, Between(0, 1, excluded="both")] | None = None
    """Validate and write an exponential moving average of the weights, with this decay per step.
    Null: the weights themselves."""
    non_finite: Literal["stop", "skip"] = "stop"
    """What to do if a loss or a gradient is infinite or nan. stop: end the run. skip: leave the
    step out, and end the run after 20 such steps in a row."""
    seed: Annotated[int, Between(0, 2**32 - 1)] = 0
    """Seed of the initial weights, the order of the images, their transforms, and dropout."""

    def __post_init__(self) -> None:
        require_fields(self)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    def to_plain(self) -> dict[str, Any]:
        """What a YAML file holds: `to_dict` with lists instead of tuples."""
        return json.loads(json.dumps(self.to_dict()))


OF_THE_MACHINE = ("device", "devices", "num_nodes", "strategy", "num_workers", "save_every")
OF_THE_MACHINE += ("save_seconds", "pictures", "logger", "project")
"""Options that may change when a run is resumed: where it computes and what it shows."""


def to_yaml(config: TrainConfig) -> str:
    """The text of a YAML file that `read_config` reads."""
    import yaml

    return yaml.safe_dump(config.to_plain(), sort_keys=False, allow_unicode=True)


def read_config(path: Path) -> TrainConfig:
    """Read a configuration; what the file leaves out has its default.

    Raises:
        DataError: the file cannot be read, or it holds something else than a configuration of this
            version.
    """
    try:
        return build(TrainConfig, read_settings(path))
    except ValueError as error:
        raise error if isinstance(error, DataError) else DataError(f"{path}: {error}") from error


def read_settings(path: Path) -> dict[str, Any]:
    """The keys of a YAML file of a configuration, with checked values; raises as `read_config`."""
    content = read_yaml(path)
    try:
        return checked(TrainConfig, content)
    except ValueError as error:
        raise DataError(f"{path}: {error}", path=path) from error


def resumed_config(own: TrainConfig, given: TrainConfig) -> TrainConfig:
    """The configuration with which a run goes on: `given`, if only the options that may differ do.

    Args:
        own: the run's configuration.
        given: the same, changed by the flags of `ccnet train --resume`.

    Raises:
        ValueError: a flag would change what the run computes.
    """
    moved = replace(own, data=replace(own.data, root=given.data.root))
    changed = [f.name for f in fields(own) if getattr(given, f.name) != getattr(moved, f.name)]
    if others := [name for name in changed if name not in OF_THE_MACHINE]:
        raise ValueError(
            f"--resume goes on by the run's own configuration: {', '.join(others)} cannot be given "
            f"with it, only data.root (data that moved), {', '.join(OF_THE_MACHINE)}"
        )
    return given
