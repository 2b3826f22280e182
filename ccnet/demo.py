"""The whole path on the embedded scenes in a minute or two: train, evaluate, predict, explain."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np

from ccnet.config import DataConfig, LossConfig, ModelConfig, OptimizerConfig, TrainConfig
from ccnet.datasets import Scenes
from ccnet.explanation import explain
from ccnet.explanation.panels import save_figure
from ccnet.explanation.pictures import reach_figure
from ccnet.labeling.files import predict_files
from ccnet.labeling.jobs import Products, find_jobs
from ccnet.labeling.stamp import encode_plain_png
from ccnet.metrics import Scores
from ccnet.prediction.evaluate import evaluate
from ccnet.prediction.predictor import Predictor
from ccnet.report.curves import save_curves
from ccnet.report.pictures import save_comparison
from ccnet.runtime.disk import write_json, write_whole
from ccnet.runtime.progress import CountProgress
from ccnet.training.loop import train

STEPS, BATCH = 800, 32
SCENES = TrainConfig(
    data=DataConfig(num_images=STEPS * BATCH),
    model=ModelConfig(
        backbone="tiny", channels=64, kernel_size=1, dropout=0.0, auxiliary_channels=None
    ),
    optimizer=OptimizerConfig(name="adamw", lr=2e-3, schedule="one_cycle"),
    loss=LossConfig(class_weights=[0.1, 1.0, 1.0, 1.0]),
    steps=STEPS,
    batch_size=BATCH,
    validate_every=200,
    num_workers=0,
    precision="float32",
    device="cpu",
)
"""The run of `ccnet demo`, and of the tests that need a real one."""


def demo(run: Path, seed: int = 0) -> Scores:
    """Train on the scenes, and write the model, scores, label maps and pictures to a new folder.

    Returns:
        The scores on the test split, which neither trained nor chose the model.
    """
    train(replace(SCENES, seed=seed), run)
    predictor = Predictor(run / "model", device="cpu")
    held_out = Scenes("test")
    with CountProgress("evaluating") as progress:
        scores = evaluate(predictor, held_out, progress=progress)
    write_json(run / "metrics.json", scores.to_dict())

    shown = first_of_each_color(held_out)
    images = run / "images"
    for index in shown:
        content = encode_plain_png(held_out[index][0])
        write_whole(images / f"{held_out.name(index)}.png", lambda p, c=content: p.write_bytes(c))
    predictions = run / "predictions"
    jobs = find_jobs([images], predictions)
    assert not predict_files(predictor, jobs, predictions, products=Products(color=True)).failures

    samples = [held_out[index] for index in shown]
    save_comparison(
        run / "held_out.png",
        [(image, label, predictor.predict(image)) for image, label in samples],
        held_out.classes,
        held_out.palette,
    )
    rows = []
    for image, label in samples:
        beacon, pixel = beacon_in(image), pixel_far_from_beacon(image, label)
        rows.append((image, explain(predictor, image, pixel, to=beacon)))
    save_figure(reach_figure(*rows), run / "attention.png")
    save_curves(run / "curves.png", run / "log.csv")
    return scores


def first_of_each_color(scenes: Scenes) -> list[int]:
    """The index of the first scene with a red, a green and a blue beacon."""
    first: dict[int, int] = {}
    for index in range(len(scenes)):
        _, label = scenes[index]
        first.setdefault(int(label[label != Scenes.ignore_index].max()), index)
    return sorted(first.values())


def beacon_in(image: np.ndarray) -> tuple[int, int]:
    """(x, y) of the middle of the one colored square of a scene."""
    colorfulness = np.ptp(image.astype(int), axis=2)
    y, x = np.argwhere(colorfulness > colorfulness.max() / 2).mean(axis=0).round()
    return int(x), int(y)


def pixel_far_from_beacon(image: np.ndarray, label: np.ndarray) -> tuple[int, int]:
    """(x, y) of the shape pixel that is farthest from both the row and the column of the beacon.

    One pass of criss-cross attention cannot reach the beacon from there; two passes can.
    """
    shapes = np.argwhere((label > 0) & (label != Scenes.ignore_index))
    y, x = shapes[np.abs(shapes - beacon_in(image)[::-1]).min(axis=1).argmax()]
    return int(x), int(y)


def report(run: Path) -> str:
    """What the demo made, and what to try next."""
    scores = json.loads((run / "metrics.json").read_text())
    return f"""
mIoU {scores["miou"]:.4f} on {len(Scenes("test"))} held-out scenes (metrics.json)

In {run}:
  held_out.png     held-out images beside their labels and the predictions
  attention.png    where a pixel (ring) looks in one pass of attention and in two; the square
                   marks the colored beacon, which it has to find
  curves.png       training loss and validation mIoU; log.csv has the figures
  model/           the trained network: config.json and model.safetensors
  images/          the held-out images that were predicted
  predictions/     their label maps

Try next:
  ccnet predict {run}/model {run}/images --output runs/labels --overlay
  ccnet evaluate {run}/model --data scenes --split val
  ccnet explain {run}/model {run}/images/{Scenes("test").name(0)}.png --at 20,20 --to 50,50

With your own images in FOLDER:
  ccnet check-data FOLDER
  ccnet train --config configs/folder.yaml --data.root FOLDER --run runs/mine
  ccnet predict runs/mine/model PHOTOS --output runs/labels --overlay
"""
