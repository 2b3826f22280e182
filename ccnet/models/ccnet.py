"""CCNet: backbone → recurrent criss-cross attention → fusion → classifier (paper figure 2)."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Self, cast, overload

import torch
import torch.nn.functional as F
from huggingface_hub import ModelCard, PyTorchModelHubMixin, hf_hub_download
from huggingface_hub.constants import SAFETENSORS_SINGLE_FILE
from jaxtyping import Float, UInt8, UInt16
from safetensors.torch import load_file
from torch import Tensor, nn

from ccnet.backbones import adapt_input, create_backbone
from ccnet.models.card import TEMPLATE, fill_card, require_metrics
from ccnet.models.head import CCNetHead, auxiliary_head
from ccnet.models.published import Published, read_published
from ccnet.weights import differences

LOG = logging.getLogger(__name__)

# What `CCNet.adapted` may change
ADAPTABLE = ("num_classes", "in_channels", "classes", "palette", "mean", "std")


class CCNet(
    nn.Module,
    PyTorchModelHubMixin,
    library_name="ccnet",
    pipeline_tag="image-segmentation",
    license="mit",
    tags=["semantic-segmentation", "criss-cross-attention"],
):
    """The network of *CCNet: Criss-Cross Attention for Semantic Segmentation*.

    `model(images)` takes normalised images (B, in_channels, H, W), sides at least 32, and returns
    logits (B, num_classes, H, W); `model.normalize` makes such images of uint8 or uint16 ones. What
    a user of the weights needs beside them (normalisation, names, colours) is stored with them.

    Args:
        num_classes: number of classes, 2 to 255.
        backbone: a name of `ccnet.backbones.BACKBONES`, or timm/NAME for a network of timm.
        recurrence, channels, reduction, shared, kernel_size, activation, dropout, backend: of
            `CCNetHead`.
        output_stride: of the backbone, 8 in the paper; None leaves the backbone's default.
        stem, dilation, ceil_mode: of a ResNet; None leaves its default.
        auxiliary_channels: width of the auxiliary head on the third stage, None for no such head.
        auxiliary_bias: whether its 3×3 convolution has a bias (the authors').
        align_corners: of the bilinear upsampling to the image.
        in_channels: channels of the images; 3 are red, green and blue.
        pretrained: weights for the backbone: "imagenet", or a file or its URL; not stored in the
            model's configuration.
        mean, std: of each channel, in units of 0 to 255; None takes what the backbone's weights
            want, in turn where there are more channels.
        classes, palette: one name and one RGB colour a class.
        metrics: scores for the model card: "miou", and where known "iou" of each class by name,
            "pixel_accuracy", "mean_accuracy", all in 0 to 1, "dataset", "split" and "step".
            Training sets them; assigning to `model.metrics` does too.
    """

    def __init__(
        self,
        num_classes: int,
        backbone: str = "resnet101",
        recurrence: int = 2,
        channels: int = 512,
        *,
        reduction: int = 8,
        shared: bool = True,
        kernel_size: int = 3,
        activation: str = "relu",
        dropout: float = 0.1,
        backend: str | None = None,
        output_stride: int | None = None,
        stem: str | None = None,
        dilation: str | None = None,
        ceil_mode: bool | None = None,
        auxiliary_channels: int | None = 256,
        auxiliary_bias: bool = False,
        align_corners: bool = False,
        in_channels: int = 3,
        pretrained: str | Path | None = None,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        classes: Sequence[str] | None = None,
        palette: Sequence[Sequence[int]] | None = None,
        metrics: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.num_classes = num_classes
        if classes is None:
            classes = [f"class {i}" for i in range(num_classes)]
        self.classes = tuple(classes)
        self.palette = None
        if palette is not None:
            self.palette = tuple((int(r), int(g), int(b)) for r, g, b in palette)
        for name, given in (("classes", self.classes), ("palette", self.palette)):
            if given is not None and len(given) != num_classes:
                raise ValueError(f"{name} has {len(given)} entries for {num_classes} classes")
        if in_channels < 1:
            raise ValueError(f"in_channels must be ≥ 1, got {in_channels}")
        self.in_channels = in_channels
        self.align_corners = align_corners
        options = {
            "in_channels": in_channels,
            "output_stride": output_stride,
            "stem": stem,
            "dilation": dilation,
            "ceil_mode": ceil_mode,
        }
        given_options = {name: value for name, value in options.items() if value is not None}
        self.backbone = create_backbone(backbone, pretrained=pretrained, **given_options)
        self.head = CCNetHead(
            self.backbone.out_channels[-1],
            num_classes,
            channels,
            recurrence,
            reduction=reduction,
            shared=shared,
            kernel_size=kernel_size,
            activation=activation,
            dropout=dropout,
            backend=backend,
        )
        self.auxiliary_head = None
        if auxiliary_channels is not None:
            self.auxiliary_head = auxiliary_head(
                self.backbone.out_channels[-2],
                num_classes,
                auxiliary_channels,
                activation=activation,
                dropout=dropout,
                bias=auxiliary_bias,
            )
        mean = in_turn(self.backbone.mean, in_channels) if mean is None else list(map(float, mean))
        std = in_turn(self.backbone.std, in_channels) if std is None else list(map(float, std))
        for name, given in (("mean", mean), ("std", std)):
            if len(given) != in_channels:
                raise ValueError(f"{name} has {len(given)} entries for {in_channels} channels")
        self.mean: Tensor
        self.std: Tensor
        self.register_buffer("mean", torch.tensor(mean).view(-1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(-1, 1, 1), persistent=False)
        # of the arguments the mixin keeps only what is JSON already, no array
        arguments = cast(dict[str, Any], self._hub_mixin_config)
        arguments |= {"mean": mean, "std": std, "classes": self.classes, "palette": self.palette}
        arguments.pop("pretrained", None)
        self.metrics = metrics

    @property
    def arguments(self) -> dict[str, Any]:
        """What this model was made of, as config.json has it."""
        return dict(cast(dict[str, Any], self._hub_mixin_config))

    @overload
    def forward(
        self, images: Float[Tensor, "b c h w"], auxiliary: Literal[False] = False
    ) -> Float[Tensor, "b classes h w"]: ...

    @overload
    def forward(
        self, images: Float[Tensor, "b c h w"], auxiliary: Literal[True]
    ) -> tuple[Float[Tensor, "b classes h w"], ...]: ...

    def forward(
        self, images: Float[Tensor, "b c h w"], auxiliary: bool = False
    ) -> Float[Tensor, "b classes h w"] | tuple[Float[Tensor, "b classes h w"], ...]:
        """Logits at the images' size; with `auxiliary` also the auxiliary head's, if any."""
        *_, third, features = self.backbone(images)
        logits = [self.head(features)]
        if auxiliary and self.auxiliary_head is not None:
            logits.append(self.auxiliary_head(third))
        size = images.shape[-2:]
        upsampled = tuple(
            F.interpolate(x, size, mode="bilinear", align_corners=self.align_corners)
            for x in logits
        )
        return upsampled if auxiliary else upsampled[0]

    def normalize(
        self, images: UInt8[Tensor, "b c h w"] | UInt16[Tensor, "b c h w"]
    ) -> Float[Tensor, "b c h w"]:
        """Images as the network takes them: minus its mean, over its deviation.

        8 bits are 0 to 255; 16 bits are divided by 257, so that 65535 is 255 too.
        """
        if images.dtype == torch.uint16:
            return (images.to(self.mean.dtype) / 257 - self.mean) / self.std
        return (images - self.mean) / self.std

    @property
    def metrics(self) -> dict[str, Any] | None:
        """Scores that go into config.json and the model card, as `CCNet` takes them."""
        return cast(dict[str, Any], self._hub_mixin_config)["metrics"]

    @metrics.setter
    def metrics(self, metrics: Mapping[str, Any] | None) -> None:
        if metrics is not None:
            metrics = require_metrics(metrics, self.classes)
        cast(dict[str, Any], self._hub_mixin_config)["metrics"] = metrics

    def generate_model_card(self, **content: Any) -> ModelCard:
        """README.md of a saved model; `content` replaces the model's own (see `card`)."""
        config = cast(dict[str, Any], self._hub_mixin_config)
        own = fill_card(self._hub_mixin_info.model_card_data, config)
        return ModelCard.from_template(template_str=TEMPLATE, **{**own, **content})

    @classmethod
    def from_published(
        cls,
        path: str | Path | Published,
        recurrence: int = 2,
        *,
        align_corners: bool | None = None,
        **changes: Any,
    ) -> Self:
        """The CCNet authors' or mmsegmentation's network with its weights, in evaluation mode.

        `ccnet.models.published.read_published` explains the arguments and reports each key; what it
        returns is taken too, as it is. `changes` are `adapted`'s, such as `num_classes=5`. Raises
        FileNotFoundError, or ValueError for a file that is no whole CCNet.
        """
        published = path
        if not isinstance(published, Published):
            published = read_published(published, recurrence, align_corners=align_corners)
        model = cls(**published.architecture)
        if problems := differences(published.state, model.state_dict()):
            raise ValueError(f"{published.path} doesn't fit the network it is of: {problems}")
        model.load_state_dict(published.state)
        return model.eval().adapted(**changes)

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | Path, **options: Any) -> Self:
        """A saved model, from a folder or the hub, in evaluation mode.

        With `num_classes` or `in_channels`, and what belongs to them, it is `adapted`. It lies on
        `map_location`, "cpu" unless given. Other options are those of Hugging Face's mixin, but for
        `strict` (weights always have to fit), or replace arguments of the saved model.
        """
        changes = {}
        if options.keys() & {"num_classes", "in_channels"}:
            changes = {name: options.pop(name) for name in ADAPTABLE if name in options}
        model = super().from_pretrained(pretrained_model_name_or_path, **options)
        return model.adapted(**changes)

    def adapted(self, **changes: Any) -> Self:
        """This model for other classes or channels, to be fine-tuned: itself without changes.

        `num_classes` starts the classifiers anew where it differs, `in_channels` adapts the
        convolutions that see the image; `classes`, `palette`, `mean` and `std` may go with them.
        Other names for as many classes leave the classifiers as trained. What is new is logged.
        """
        if not changes:
            return self
        if unknown := changes.keys() - set(ADAPTABLE):
            names = ", ".join(sorted(unknown))
            raise ValueError(f"{names} can't be changed; {', '.join(ADAPTABLE)} can")
        num_classes = changes.get("num_classes", self.num_classes)
        in_channels = changes.get("in_channels", self.in_channels)
        arguments = self.arguments
        if num_classes != self.num_classes:
            arguments |= {"classes": None, "palette": None}
        arguments["metrics"] = None  # another network's
        if in_channels != self.in_channels:
            for name in ("mean", "std"):
                arguments[name] = in_turn(getattr(self, name).flatten().tolist(), in_channels)
        twin = type(self)(**arguments | changes)
        state, fresh = self.state_dict(), twin.state_dict()
        others = [key for key in state if state[key].shape != fresh[key].shape]
        seeing = [key for key in others if key.startswith("backbone.")]  # one a branch of the stem
        for key in seeing:
            state[key] = adapt_input(state[key], twin.in_channels)
            if state[key].shape != fresh[key].shape:
                raise ValueError(f"{key} can't be made for {twin.in_channels} channels")
            LOG.warning("%s: %d channels made from %d", key, twin.in_channels, self.in_channels)
        renewed = [key for key in others if key not in seeing]
        if not renewed and twin.classes != self.classes:
            LOG.warning("new names for %d classes, trained classifiers", twin.num_classes)
        if renewed:
            text = "new for %d classes instead of %d: %s"
            LOG.warning(text, twin.num_classes, self.num_classes, ", ".join(renewed))
        twin.load_state_dict(state | {key: fresh[key] for key in renewed})
        return twin.train(self.training).to(self.mean.device, self.mean.dtype)

    @classmethod
    def _from_pretrained(
        cls,
        *,
        model_id: str,
        revision: str | None,
        cache_dir: str | Path | None,
        force_download: bool,
        local_files_only: bool,
        token: str | bool | None,
        map_location: str = "cpu",
        **arguments: Any,
    ) -> Self:
        if Path(model_id).is_dir():
            weights = str(Path(model_id, SAFETENSORS_SINGLE_FILE))
        else:
            weights = hf_hub_download(
                model_id,
                SAFETENSORS_SINGLE_FILE,
                revision=revision,
                cache_dir=cache_dir,
                force_download=force_download,
                token=token,
                local_files_only=local_files_only,
            )
        arguments.pop("pretrained", None)  # a config.json must not make anyone download
        model = cls(**arguments)
        model.load_state_dict(load_file(weights))
        return model.eval().to(map_location)


def in_turn(values: Sequence[float], in_channels: int) -> list[float]:
    """Of each channel, where `values` are those of others (red, green and blue), from the first on.

    One channel gets their average, as a grey image wants.
    """
    if in_channels == 1:
        return [sum(values) / len(values)]
    return [values[index % len(values)] for index in range(in_channels)]
