"""The model card: what a saved network is, how to use it, and how good it was on which data."""

from collections.abc import Mapping, Sequence
from typing import Any

from huggingface_hub import EvalResult, ModelCardData

# Jinja's, which huggingface_hub fills in; nothing of it depends on the machine or the day
TEMPLATE = """\
---
{{ card_data }}
---

# CCNet with {{ backbone }}

Semantic segmentation with criss-cross attention
([paper](https://arxiv.org/abs/1811.11721)): {{ classes | length }} classes,
{{ recurrence }} passes of attention.

```python
from ccnet import Predictor

labels = Predictor("FOLDER_OR_ID").predict(image)  # RGB (H, W, 3) to classes (H, W)
```

`config.json` holds all that the weights need: architecture, normalisation, class names and colours.
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


def require_metrics(metrics: Mapping[str, Any], classes: Sequence[str]) -> dict[str, Any]:
    """A copy of metrics, once they are fit for a card: with "miou", and with known classes."""
    if not isinstance(metrics.get("miou"), int | float):
        raise ValueError(f'metrics must have a number "miou", got {dict(metrics)}')
    if unknown := [name for name in metrics.get("iou", {}) if name not in classes]:
        raise ValueError(f"metrics have classes that the model doesn't: {', '.join(unknown)}")
    return dict(metrics)


def fill_card(data: ModelCardData, config: Mapping[str, Any]) -> dict[str, Any]:
    """What `ModelCard.from_template` needs beside the template.

    Args:
        data: of the library; it isn't changed.
        config: arguments of the network, with "metrics" as `CCNet` describes them.
    """
    metrics = config.get("metrics")
    content = ModelCardData(**data.to_dict())
    measured_on = ""
    if metrics is not None:
        parts = [f"{metrics[key]}" for key in ("dataset", "split") if metrics.get(key) is not None]
        if metrics.get("step") is not None:
            parts.append(f"after {metrics['step']} steps of training")
        measured_on = ", ".join(parts)
        content.model_name = f"CCNet {config['backbone']}"
        content.eval_results = evaluation_results(metrics, config["classes"])
    return {
        "card_data": content,
        "backbone": config["backbone"],
        "recurrence": config["recurrence"],
        "classes": config["classes"],
        "metrics": metrics,
        "measured_on": measured_on,
    }


def evaluation_results(metrics: Mapping[str, Any], classes: Sequence[str]) -> list[EvalResult]:
    """The scores as the hub's model-index has them; a class that never occurred has none.

    In the order of the classes, not the dictionary's: config.json has its keys sorted.
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
