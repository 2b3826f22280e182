"""What a report says, as the values of JSON: for its page and for scores.json."""

import heapq
from collections.abc import Mapping
from typing import Any

import numpy as np

from ccnet.metrics.boundary import DISTANCES
from ccnet.metrics.images import ImageCounts
from ccnet.report.evaluation import Evaluation

NUM_CONFUSIONS = 200
"""Pairs of classes for which images without a picture are named on the page."""
NAMES_PER_CONFUSION = 10
HISTOGRAM_BINS = 20


def scores_content(evaluation: Evaluation, facts: Mapping[str, str]) -> dict[str, Any]:
    """All scores of the data set; shares are 0 to 1, and None where there is nothing to divide by.

    Raises:
        ValueError: no pixel is labeled.
    """
    scores, boundary = evaluation.scores, evaluation.boundary
    ious = [row.iou for row in evaluation.counts.rows if row.iou is not None]
    return {
        "facts": dict(facts),
        "images": len(evaluation.counts.rows),
        **scores.to_dict(),
        "warnings": scores.warnings,
        "boundary_miou": boundary.mean_iou,
        "boundary_iou": dict(zip(evaluation.classes, map(number, boundary.iou), strict=True)),
        "boundary_share_of_diagonal": boundary.share,
        "mean_image_iou": float(np.mean(ious)),
        "calibration_error": evaluation.calibration.error,
        "accuracy_by_distance": bands_content(evaluation),
        "reliability": bins_content(evaluation),
        "suspected_label_errors": len(evaluation.errors.suspected()),
    }


def number(value: float) -> float | None:
    return None if np.isnan(value) else float(value)


def bands_content(evaluation: Evaluation) -> list[dict[str, Any]]:
    """Accuracy by the distance to a border in the label, in pixels; the last band has no end."""
    boundary = evaluation.boundary
    starts = [1, *(distance + 1 for distance in DISTANCES)]
    return [
        {"from": start, "to": end, "pixels": int(pixels), "accuracy": number(accuracy)}
        for start, end, pixels, accuracy in zip(
            starts,
            [*DISTANCES, None],
            boundary.band_pixels,
            boundary.band_accuracy,
            strict=True,
        )
    ]


def bins_content(evaluation: Evaluation) -> list[dict[str, Any]]:
    """Accuracy by the confidence of the predicted class."""
    found = evaluation.calibration
    return [
        {
            "from": place / found.num_bins,
            "to": (place + 1) / found.num_bins,
            "pixels": int(found.pixels[place]),
            "accuracy": number(found.accuracy[place]),
            "confidence": number(found.confidence[place]),
        }
        for place in range(found.num_bins)
    ]


def classes_content(evaluation: Evaluation) -> list[dict[str, Any]]:
    """What is known of each class, in the order of the classes."""
    total = evaluation.counts.total().numpy()
    correct, labeled, predicted = total.diagonal(), total.sum(1), total.sum(0)
    images = np.zeros(len(total), np.int64)
    for row in evaluation.counts.rows:
        images[np.unique(row.cells // row.num_classes)] += 1
    iou, boundary = evaluation.scores.iou, evaluation.boundary.iou
    return [
        {
            "name": name,
            "color": [int(channel) for channel in evaluation.palette[i]],
            "iou": iou[name],
            "boundary_iou": number(boundary[i]),
            "accuracy": number(correct[i] / labeled[i] if labeled[i] else np.nan),
            "precision": number(correct[i] / predicted[i] if predicted[i] else np.nan),
            "labeled_pixels": int(labeled[i]),
            "predicted_pixels": int(predicted[i]),
            "images": int(images[i]),
        }
        for i, name in enumerate(evaluation.classes)
    ]


def page_content(
    evaluation: Evaluation, title: str, facts: Mapping[str, str], shown: set[int]
) -> dict[str, Any]:
    """What the page shows, except its pictures.

    Args:
        evaluation: of a data set with labeled pixels.
        title: of the page.
        facts: what was evaluated and how, by name.
        shown: numbers of the images that have a picture on the page.
    """
    rows = evaluation.counts.rows
    num_cells = len(evaluation.classes) ** 2
    cell_images = np.zeros(num_cells, np.int64)
    for row in rows:
        cell_images[row.cells] += 1
    ious = [row.iou for row in rows if row.iou is not None]
    return {
        "title": title,
        **scores_content(evaluation, facts),
        "classes": classes_content(evaluation),
        "confusion": evaluation.counts.total().tolist(),
        "cell_images": cell_images.tolist(),
        "cell_names": names_of_cells(evaluation, shown),
        "histogram": np.histogram(ious, HISTOGRAM_BINS, (0, 1))[0].tolist(),
        "shown": [image_content(row) for row in rows if row.index in shown],
    }


def image_content(row: ImageCounts) -> dict[str, Any]:
    height, width = row.size
    return {
        "index": row.index,
        "name": row.name,
        "width": width,
        "height": height,
        "iou": row.iou,
        "accuracy": row.accuracy,
        "labeled_pixels": row.labeled,
        "cells": row.cells.tolist(),
        "pixels": row.pixels.tolist(),
    }


def names_of_cells(evaluation: Evaluation, shown: set[int]) -> dict[int, list[str]]:
    """For the most frequent confusions, the images without a picture that have most of each."""
    hidden = [row for row in evaluation.counts.rows if row.index not in shown]
    total = evaluation.counts.total().fill_diagonal_(0).flatten().numpy()
    frequent = [cell for cell in np.argsort(-total)[:NUM_CONFUSIONS].tolist() if total[cell]]
    best: dict[int, list[tuple[int, str]]] = {cell: [] for cell in frequent}
    for row in hidden:
        for cell, pixels in zip(row.cells.tolist(), row.pixels.tolist(), strict=True):
            if cell in best:
                best[cell].append((pixels, row.name))
                if len(best[cell]) > 4 * NAMES_PER_CONFUSION:
                    best[cell] = heapq.nlargest(NAMES_PER_CONFUSION, best[cell])
    return {
        cell: [name for _, name in heapq.nlargest(NAMES_PER_CONFUSION, found)]
        for cell, found in best.items()
        if found
    }


def errors_content(evaluation: Evaluation) -> list[dict[str, Any]]:
    """The suspected label errors, ranked; `box` is left, top, width and height in pixels."""
    return [
        {
            "rank": rank,
            "index": region.index,
            "name": region.name,
            "label": region.label,
            "prediction": region.prediction,
            "box": list(region.box),
            "pixels": region.pixels,
            "confidence": region.confidence,
            "score": region.score,
        }
        for rank, region in enumerate(evaluation.errors.suspected(), start=1)
    ]
