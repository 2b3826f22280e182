"""CCNet: backbone → recurrent criss-cross attention → fusion → classifier (paper figure 2)."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Self, overload

import torch
import torch.fx
import torch.nn.functional as F
from huggingface_hub import ModelCard, PyTorchModelHubMixin
from huggingface_hub.constants import SAFETENSORS_SINGLE_FILE
from jaxtyping import Float, UInt8, UInt16
from safetensors.torch import save_model
from torch import Tensor, nn

from ccnet.backbones import TIMM, create_backbone
from ccnet.models.adapting import ADAPTABLE, adapted_arguments, adapted_weights
from ccnet.models.arguments import (
    BACKBONE_ARGUMENTS,
    HEAD_ARGUMENTS,
    channel_values,
    class_colors,
    class_names,
    plain_arguments,
    read_arguments,
    stored_bands,
    to_plain,
)
from ccnet.models.card import LINKS, TEMPLATE, fill_card, require_metrics
from ccnet.models.head import CCNetHead, auxiliary_head
from ccnet.models.hub import README, find_model_files
from ccnet.models.normalization import normalize_images, per_channel
from ccnet.models.refinement import finer_maps
from ccnet.published import Published, read_published
from ccnet.runtime.disk import write_whole
from ccnet.weights import build_with_weights, read_weights

torch.fx.wrap("normalize_images")  # its checks of dtype and shape need real images


class CCNet(
    nn.Module,
    PyTorchModelHubMixin,
    library_name="ccnet",
    pipeline_tag="image-segmentation",
    license="mit",
    tags=["semantic-segmentation", "criss-cross-attention"],
    **LINKS,
):
    """The network of *CCNet: Criss-Cross Attention for Semantic Segmentation*.

    `model(images)` takes normalized images (B, in_channels, H, W), with sides of at least 32, and
    returns logits (B, num_classes, H, W). `model.normalize` makes them from images of 8 or 16 bits.
    What else a user of the weights needs (normalization, names and colors) is stored with them.

    Args:
        num_classes: number of classes, 2 to 255.
        backbone: a name in `ccnet.backbones.BACKBONES`, or timm/NAME for a network of timm.
        recurrence: R, the number of passes of criss-cross attention, 0 to 16.
        channels: number of channels on which the attention works, up to 4096.
        reduction: the attention's query and key have channels // reduction channels.
        shared: whether all passes share one set of weights, as in the paper.
        kernel_size: size of the head's convolutions, 3 as in the published networks, or 1.
        activation: activation of the heads, "relu" or "leaky_relu" (slope 0.01, the authors').
        dropout: probability with which a channel is dropped before a classifier.
        backend: the `backend` of `criss_cross_attention`.
        auxiliary_channels: width of the auxiliary head on the third stage; None for no such head.
        auxiliary_bias: whether its 3×3 convolution has a bias, as in the authors' network.
        embedding_channels: width of the layer for the category consistent loss; None for none.
        align_corners: as in `torch.nn.functional.interpolate`, which upsamples the logits.
        refinement: strides of finer maps of the backbone that refine the fused features, from
            coarse to fine, such as [4, 2]: for thin objects. None, as in the paper: no refinement.
        in_channels: number of channels of the image, up to 1024; 3 are red, green and blue.
        pretrained: weights for the backbone, not stored: "imagenet", or a file or its URL.
        mean: of each channel, for values of 0 to 255, up to 10⁶. None: the backbone's own.
        std: standard deviation of each channel, at least 10⁻⁶. None: as for the mean.
        bands: `ccnet.images.bands.Bands.to_dict()`, what is read of files; None: RGB, or all.
        classes: one name per class; None numbers them.
        palette: one RGB color per class.
        metrics: scores for the model card, as `metrics` below.
        backbone_options: keyword arguments of the backbone's class, such as `output_stride` (8 in
            the paper); see `ccnet.backbones.ResNet`. None stands for the backbone's default.

    Attributes:
        arguments: what this network was built from, as config.json stores it. A subclass with
            arguments of its own adds them here.

    Raises:
        ValueError: a value does not fit; the message says which would.
        TypeError: an argument has an unknown name, or a value that config.json cannot store.
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
        auxiliary_channels: int | None = 256,
        auxiliary_bias: bool = False,
        embedding_channels: int | None = None,
        align_corners: bool = False,
        refinement: Sequence[int] | None = None,
        in_channels: int = 3,
        pretrained: str | Path | None = None,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        bands: Mapping[str, Any] | None = None,
        classes: Sequence[str] | None = None,
        palette: Sequence[Sequence[int]] | None = None,
        metrics: Mapping[str, Any] | None = None,
        **backbone_options: Any,
    ) -> None:
        super().__init__()
        self.arguments = arguments = plain_arguments(locals())
        self.num_classes, self.in_channels = arguments["num_classes"], arguments["in_channels"]
        self.align_corners, self.bands = arguments["align_corners"], stored_bands(arguments)
        self.classes = class_names(arguments["classes"], self.num_classes)
        self.palette = class_colors(arguments["palette"], self.num_classes)
        options = {name: arguments[name] for name in BACKBONE_ARGUMENTS}
        given = {name: value for name, value in options.items() if value is not None}
        self.backbone = create_backbone(
            arguments["backbone"], pretrained=pretrained, in_channels=self.in_channels, **given
        )
        *_, third_width, width = self.backbone.out_channels
        self.finer_maps = finer_maps(self.backbone.strides, arguments.get("refinement"))
        head: dict[str, Any] = {name: arguments.get(name) for name in HEAD_ARGUMENTS}
        head["finer_channels"] = [self.backbone.out_channels[index] for index in self.finer_maps]
        self.head = CCNetHead(width, self.num_classes, **head)
        self.auxiliary_head = None
        if auxiliary_channels is not None:
            options = {name: arguments[name] for name in ("activation", "dropout")}
            options["bias"] = arguments["auxiliary_bias"]
            sizes = (third_width, self.num_classes, arguments["auxiliary_channels"])
            self.auxiliary_head = auxiliary_head(*sizes, **options)
        for name, default in (("mean", self.backbone.mean), ("std", self.backbone.std)):
            arguments[name] = channel_values(name, arguments[name], default, self.in_channels)
        arguments |= {"classes": list(self.classes), "palette": to_plain("palette", self.palette)}
        self.metrics = metrics

    @overload
    def forward(
        self, images: Float[Tensor, "b c h w"], auxiliary: Literal[False] = False
    ) -> Float[Tensor, "b classes h w"]: ...

    @overload
    def forward(
        self, images: Float[Tensor, "b c h w"], auxiliary: Literal[True], embedding: bool = False
    ) -> tuple[Float[Tensor, "b _ _ _"], ...]: ...

    def forward(
        self, images: Float[Tensor, "b c h w"], auxiliary: bool = False, embedding: bool = False
    ) -> Float[Tensor, "b classes h w"] | tuple[Float[Tensor, "b _ _ _"], ...]:
        """Logits at the images' size; with `auxiliary` a tuple, also of the auxiliary head's.

        With `embedding` too, its last is (B, embedding_channels, h, w) at the size of the features.
        """
        maps = self.backbone(images)
        maps = [maps[index] for index in (-2, -1, *self.finer_maps)]  # the others are freed
        third, features, *finer = maps
        inputs, is_asked = [features, finer] if finer else [features], auxiliary and embedding
        outputs = self.head(*inputs, embedding=True) if is_asked else [self.head(*inputs)]
        logits = [outputs[0]]
        if auxiliary and self.auxiliary_head is not None:
            logits.append(self.auxiliary_head(third))
        size = images.shape[-2:]
        upsampled = tuple(
            F.interpolate(x, size, mode="bilinear", align_corners=self.align_corners)
            for x in logits
        )
        return (*upsampled, *outputs[1:]) if auxiliary else upsampled[0]

    def normalize(
        self, images: UInt8[Tensor, "b c h w"] | UInt16[Tensor, "b c h w"]
    ) -> Float[Tensor, "b c h w"]:
        """Images as the network takes them, in the dtype of its weights, on the images' device.

        The mean of each channel is subtracted and its standard deviation divided by, in float32;
        images of 16 bits are divided by 257 first. Raises ValueError for another dtype than uint8
        and uint16, and for another number of channels than the network's.
        """
        dtypes = (weight.dtype for weight in self.parameters() if weight.is_floating_point())
        dtype = next(dtypes, torch.float32)
        return normalize_images(images, self.arguments["mean"], self.arguments["std"], dtype)

    @property
    def mean(self) -> Float[Tensor, "c 1 1"]:
        """The mean of each channel that `normalize` subtracts, float32."""
        return per_channel(self.arguments["mean"], self.device)

    @property
    def std(self) -> Float[Tensor, "c 1 1"]:
        """The standard deviation of each channel that `normalize` divides by, float32."""
        return per_channel(self.arguments["std"], self.device)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.parameters()).device

    @property
    def metrics(self) -> dict[str, Any] | None:
        """Scores for config.json and the model card; may be assigned, as training does.

        "miou", and where known "iou" (by the name of the class; None for a class that did not
        occur), "pixel_accuracy" and "mean_accuracy", all from 0 to 1, "dataset", "split", "step",
        and "protocol", how images were shown to the network (`ccnet.prediction.protocol`).
        """
        return self.arguments["metrics"]

    @metrics.setter
    def metrics(self, metrics: Mapping[str, Any] | None) -> None:
        if metrics is not None:
            metrics = require_metrics(to_plain("metrics", metrics), self.classes)
        self.arguments["metrics"] = metrics

    def save_pretrained(
        self, save_directory: str | Path, *, config: Any = None, **options: Any
    ) -> str | None:
        """Write config.json, model.safetensors and a model card into a folder.

        Links in the folder are replaced, not followed. config.json goes first and comes last:
        a folder that a killed process left without it is no model folder.

        Args:
            save_directory: the folder, which is created if need be.
            config: what config.json gets; None for `arguments`.
            options: those of `huggingface_hub.PyTorchModelHubMixin.save_pretrained`.
        """
        folder = Path(save_directory)
        card = folder / README
        if card.is_symlink() and not card.exists():  # it would be written where the link leads
            card.unlink()
        config = self.arguments if config is None else config
        return super().save_pretrained(folder, config=config, **options)

    def _save_pretrained(self, save_directory: Path) -> None:
        target = save_directory / SAFETENSORS_SINGLE_FILE
        write_whole(target, lambda path: save_model(self, str(path)))

    def generate_model_card(self, **content: Any) -> ModelCard:
        """README.md of a saved model; `content` replaces values of `card.TEMPLATE`."""
        own = fill_card(self._hub_mixin_info, self.arguments)
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

        Args:
            path: the published file, or what `ccnet.published.read_published` made of it.
            recurrence: R, which the weights do not tell, since all passes share them.
            align_corners: of the upsampling. None: decided by the source and the file's name.
            changes: as for `adapted`, such as `num_classes=5`.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: the file is not a complete CCNet.
        """
        published = path
        if not isinstance(published, Published):
            published = read_published(published, recurrence, align_corners=align_corners)
        try:
            model = cls._with_weights(published.architecture, published.state)
        except ValueError as error:
            raise ValueError(
                f"{published.path} does not fit the network that it is of: {error}"
            ) from error
        return model.eval().adapted(**changes)

    @classmethod
    def from_pretrained(
        cls,
        pretrained_model_name_or_path: str | Path,
        *,
        map_location: str | torch.device = "cpu",
        revision: str | None = None,
        cache_dir: str | Path | None = None,
        force_download: bool = False,
        local_files_only: bool = False,
        token: str | bool | None = None,
        **changes: Any,
    ) -> Self:
        """A saved model, in evaluation mode.

        Args:
            pretrained_model_name_or_path: the folder of a model, that of a training run, or an id
                on the hub, such as owner/name.
            map_location: the device of the model.
            revision: branch, tag or commit on the hub, as for `huggingface_hub.hf_hub_download`.
            cache_dir: where downloaded files are kept.
            force_download: download even if the files are there.
            local_files_only: download nothing.
            token: for private models.
            changes: arguments that replace the saved ones. With `num_classes`, `in_channels` or
                `refinement` the model is `adapted`.

        Raises:
            FileNotFoundError: there is no such model.
            ValueError: its files are broken or do not fit each other.
        """
        config, weights = find_model_files(
            pretrained_model_name_or_path,
            revision=revision,
            cache_dir=cache_dir,
            force_download=force_download,
            local_files_only=local_files_only,
            token=token,
        )
        adapted = {}
        if changes.keys() & {"num_classes", "in_channels", "refinement"}:
            adapted = {name: changes.pop(name) for name in ADAPTABLE if name in changes}
        try:
            arguments = read_arguments(config)
            state = read_weights(weights).tensors
            model = cls._with_weights(arguments | changes, state)
        except (ValueError, TypeError, RuntimeError) as error:  # also of another library's files
            raise ValueError(
                f"{pretrained_model_name_or_path} holds no usable model: {error}"
            ) from error
        return model.eval().to(map_location).adapted(**adapted)

    @classmethod
    def _with_weights(cls, arguments: dict[str, Any], state: Mapping[str, Tensor]) -> Self:
        backbone = arguments.get("backbone", "")
        is_ours = cls is CCNet and isinstance(backbone, str) and not backbone.startswith(TIMM)
        return build_with_weights(lambda: cls(**arguments), state, is_all_stored=is_ours)

    def adapted(self, **changes: Any) -> Self:
        """This model for other classes, other channels or another refinement, to be fine-tuned.

        Without changes it is the model itself. What is new is logged.

        Args:
            changes: `num_classes` gives new classifiers where the number differs; `in_channels`
                adapts the convolutions that are applied to the image; another `refinement` is new,
                with its classifier; `classes`, `palette`, `mean` and `std` may go with them. Other
                names for as many classes keep the trained classifiers.
        """
        if not changes:
            return self
        dtype = next(self.parameters()).dtype
        twin = type(self)(**adapted_arguments(self.arguments, changes)).to(self.device, dtype)
        states = self.state_dict(), twin.state_dict()
        twin.load_state_dict(adapted_weights(*states, self.arguments, twin.arguments))
        return twin.train(self.training)
