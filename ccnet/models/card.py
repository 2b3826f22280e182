"""The model card: what a saved network is, how to use it, and its scores."""

from collections.abc import Mapping, Sequence
from typing import Any

from huggingface_hub import EvalResult, ModelCardData
from huggingface_hub.hub_mixin import MixinInfo

from ccnet.images.bands import Bands
from ccnet.models.arguments import is_number, stored_bands
from ccnet.runtime.files import shown

LINKS = {
    "repo_url": "https://github.example/ccnet/criss-cross",
    "docs_url": "https://github.example/ccnet/criss-cross/tree/main/docs",
    "paper_url": "https://arxiv.org/abs/1811.11721",
}
"""As in pyproject.toml, which says what the address of the repository stands for."""

# A Jinja template for huggingface_hub; it does not depend on the machine or the date
TEMPLATE = """\
---
{{ card_data }}
---

# CCNet with {{ backbone }}

Semantic segmentation with criss-cross attention
([paper]({{ paper_url }}), [code]({{ repo_url }}), [documentation]({{ docs_url }})):
{{ classes | length }} classes, {{ recurrence }} passes of attention.

```python
from ccnet import Predictor

labels = Predictor("FOLDER_OR_ID").predict(image)  # {{ image }} to classes (H, W)
```
{% if bands %}
Images hold several bands: {{ bands }}.
{% endif %}
`config.json` holds what the weights need: architecture, normalization, class names and colors.
{% if metrics %}
## Scores

{% if measured_on %}On {{ measured_on }}, in %:
{% else %}In %:
{% endif %}
| class | IoU |
|---|---|
{% for name in classes if name in metrics.get("iou", {}) -%}{% set iou = metrics["iou"][name] -%}
| {{ name | replace("|", "&#124;") }} | {{ "not there" if iou is none else "%.2f" % (100 * iou) }} |
{% endfor -%}
| **mean (mIoU)** | **{{ "%.2f" % (100 * metrics["miou"]) }}** |
{% else %}
Classes: {{ classes | join(", ") }}. No scores were stored with this model.
{% endif %}"""
SCORES = {
    "miou": ("mean_iou", "mIoU"),
    "pixel_accuracy": ("accuracy", "pixel accuracy"),
    "mean_accuracy": ("mean_accuracy", "mean accuracy"),
}


def require_metrics(metrics: Any, classes: Sequence[str]) -> dict[str, Any]:
    """A copy of the metrics, which are plain values.

    Raises ValueError without a number "miou", for scores that are no numbers, and for classes that
    the model does not have.
    """
    if not isinstance(metrics, Mapping) or not is_number(metrics.get("miou")):
        raise ValueError(f'metrics must have a number "miou", got {shown(metrics)}')
    ious = metrics.get("iou", {})
    if not isinstance(ious, Mapping):
        raise ValueError(f"the iou of metrics must have one number per class, got {shown(ious)}")
    if unknown := [name for name in ious if name not in classes]:
        more = f" and {len(unknown) - 3} more" if unknown[3:] else ""
        names = ", ".join(shown(name) for name in unknown[:3])
        raise ValueError(f"metrics have classes that the model does not: {names}{more}")
    for name, value in (*ious.items(), *((key, metrics.get(key)) for key in (*SCORES, "step"))):
        if value is not None and not is_number(value):
            raise ValueError(f"{shown(name)} of metrics must be a number, got {shown(value)}")
    for name in ("dataset", "split"):
        if not isinstance(metrics.get(name, ""), str | None):
            raise ValueError(f"{name} of metrics must be a text, got {shown(metrics[name])}")
    return dict(metrics)


def fill_card(info: MixinInfo, config: Mapping[str, Any]) -> dict[str, Any]:
    """The values for `TEMPLATE`.

    Args:
        info: metadata and links that all cards share; it is not changed.
        config: the arguments of the network, with the metrics under "metrics".
    """
    metrics = config.get("metrics")
    content = ModelCardData(**info.model_card_data.to_dict())
    measured_on = ""
    if metrics is not None:
        parts = [f"{metrics[key]}" for key in ("dataset", "split") if metrics.get(key) is not None]
        if metrics.get("step") is not None:
            parts.append(f"after {metrics['step']} steps of training")
        measured_on = ", ".join(parts)
        content.model_name = f"CCNet {config['backbone']}"
        content.eval_results = evaluation_results(metrics, config["classes"])
    bands = stored_bands(config)
    return {
        "card_data": content,
        "image": accepted_image(config["in_channels"], bands),
        "bands": bands,
        "backbone": config["backbone"],
        "recurrence": config["recurrence"],
        "classes": config["classes"],
        "metrics": metrics,
        "measured_on": measured_on,
        **{name: getattr(info, name) for name in LINKS},
    }


def accepted_image(channels: int, bands: Bands | None) -> str:
    """What `Predictor.predict` takes, in a few words."""
    if bands is not None:
        return f"{bands.dtype} (H, W, {bands.of}), or the path of a file,"
    return {1: "gray", 3: "RGB"}.get(channels, "an image") + f" (H, W, {channels})"


def evaluation_results(metrics: Mapping[str, Any], classes: Sequence[str]) -> list[EvalResult]:
    """The scores in the form of the hub's model index, without classes that never occurred.

    They are in the order of the classes, since config.json sorts its keys.
    """
    values = [(*SCORES[key], metrics[key]) for key in SCORES if metrics.get(key) is not None]
    ious = metrics.get("iou", {})
    known = [name for name in classes if ious.get(name) is not None]
    values += [("iou", f"IoU of {name}", ious[name]) for name in known]
    dataset = metrics.get("dataset")
    if dataset is None:
        dataset = "unknown"
    return [
        EvalResult(
            task_type="image-segmentation",
            dataset_type=dataset,
            dataset_name=dataset,
            dataset_split=metrics.get("split"),
            metric_type=kind,
            metric_name=name,
            metric_value=value,
        )
        for kind, name, value in values
    ]
