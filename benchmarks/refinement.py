"""What the head's refinement brings and costs, appended to results/refinement.csv.

Each form of the network (strides of the refinement, output stride, backbone) is trained in a
process of its own, for the same time or for the same steps, and its last weights are scored on
images that did not train it: the validation images of CamVid, or the test images of the thin
structures, which thin_structures.py writes. Time and memory of a step, time per image and GFLOP are
those of the same process. The number of steps that fit into the minutes follows from the time of a
step, which is measured first; --minutes 0 measures only. Rows that the CSV file already contains
are not repeated.

    python benchmarks/refinement.py --data thin FOLDER --weights FOLDER --minutes 12
    python benchmarks/refinement.py --data camvid CAMVID --weights FOLDER --forms 8 8+4+2
    python benchmarks/refinement.py --data thin FOLDER --weights FOLDER --minutes 0 \\
        --backbones mobilenet_v2 timm/tf_efficientnet_lite0 timm/tf_efficientnet_lite2
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import thin_structures
import torch
from csv_rows import append_row, read_rows
from torch.utils.flop_counter import FlopCounterMode
from torchvision_operators import allow_torchvision

from ccnet.config import LossConfig, TrainConfig, read_config
from ccnet.datasets import SegmentationDataset, open_dataset
from ccnet.prediction.evaluate import evaluate
from ccnet.prediction.predictor import Predictor
from ccnet.runtime.device import pick_precision
from ccnet.saving.run_folder import source_commit
from ccnet.training.assembly import build_loss, build_optimizer
from ccnet.training.loop import train
from ccnet.training.network import build_model

ROOT = Path(__file__).parents[1]
RESULTS = Path(__file__).parent / "results" / "refinement.csv"
KEY = ("data", "backbone", "form", "seed", "budget")
COLUMNS = (*KEY, "steps", "miou", "iou", "seconds", "seconds_per_step", "ms_per_image")
COLUMNS += ("peak_mib", "gflop", "size", "precision", "threads", "torch", "commit")
FORMS = ("8", "8+4", "8+4+2", "16", "16+4+2", "16+8+4+2")
"""Output stride, and the strides of the refinement."""
HELD_OUT = {"camvid": "val", "thin": "test"}
STEPS_TO_MEASURE = 4


def configuration(asked: dict[str, Any]) -> TrainConfig:
    """The recipe of configs/camvid.yaml with one form of the network."""
    config = read_config(ROOT / "configs" / "camvid.yaml")
    stride, *refinement = (int(part) for part in asked["form"].split("+"))
    backbone = asked["backbone"]
    weights = Path(asked["weights"], backbone.removeprefix("timm/") + "_imagenet.safetensors")
    model = replace(
        config.model,
        backbone=backbone,
        output_stride=stride,
        refinement=refinement or None,
        pretrained=str(weights),
    )
    data, loss = replace(config.data, root=asked["root"]), config.loss
    if asked["data"] == "thin":
        assert data.augment is not None
        data = replace(data, name="folder", augment=replace(data.augment, crop_size=(256, 256)))
        loss = LossConfig(class_weights=class_weights(open_dataset("folder", asked["root"])))
    one_core = {"num_workers": 0, "device": "cpu", "seed": asked["seed"]}
    return replace(config, model=model, data=data, loss=loss, **one_core)


def class_weights(dataset: SegmentationDataset) -> list[float]:
    """The cube roots of the median-frequency weights, as in configs/camvid.yaml."""
    labels = (dataset[index][1] for index in range(len(dataset)))
    counts = sum(np.bincount(label.ravel(), minlength=256) for label in labels)
    shares = counts[: len(dataset.classes)] / counts.sum()
    return [round(float(weight), 3) for weight in np.cbrt(np.median(shares) / shares)]


def measure(asked: dict[str, Any]) -> dict[str, Any]:
    """The row of one form: its costs, and its scores after training."""
    config = configuration(asked)
    training = open_dataset(config.data.name, asked["root"])
    held_out = open_dataset(config.data.name, asked["root"], HELD_OUT[asked["data"]])
    model = build_model(config, training)
    image = held_out[0][0]
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model.eval()(torch.zeros(1, 3, *image.shape[:2]))
    row = {name: asked[name] for name in KEY} | {"gflop": counter.get_total_flops() / 1e9}
    row["seconds_per_step"] = seconds_per_step(config, model, training)
    row["ms_per_image"] = 1000 * seconds_per_image(model, image)
    unit, amount = asked["budget"].split()[1], float(asked["budget"].split()[0])
    steps = int(60 * amount / row["seconds_per_step"]) if unit == "minutes" else int(amount)
    if steps > 0:
        row |= scores_after(replace(config, steps=steps, validate_every=steps), held_out)
    kibibytes = 1 if sys.platform != "darwin" else 1024
    row["peak_mib"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024 / kibibytes
    facts = {"threads": torch.get_num_threads(), "torch": torch.__version__}
    facts |= {"precision": pick_precision("auto", torch.device("cpu"))}
    facts |= {"size": "x".join(map(str, image.shape[:2])), "commit": source_commit()}
    rounded = {k: round(v, 4) if isinstance(v, float) else v for k, v in row.items()}
    return {**rounded, "steps": steps, **facts}


def scores_after(config: TrainConfig, held_out: SegmentationDataset) -> dict[str, Any]:
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        train(config, Path(folder) / "run")
        seconds = time.perf_counter() - start
        predictor = Predictor(Path(folder) / "run" / "last", device="cpu")
    scores = evaluate(predictor, held_out)
    iou = {name: None if one is None else round(one, 4) for name, one in scores.iou.items()}
    return {"miou": scores.miou, "iou": json.dumps(iou), "seconds": seconds}


def seconds_per_step(
    config: TrainConfig, model: torch.nn.Module, training: SegmentationDataset
) -> float:
    """The median time of a step with reading, as a training run makes it."""
    rng, transform = np.random.default_rng(0), config.data.augment
    assert transform is not None
    optimizer, criterion = build_optimizer(config.optimizer, model), build_loss(config)
    is_half = pick_precision("auto", torch.device("cpu")) == "bfloat16"
    model.train().to(memory_format=torch.channels_last)
    seconds = []
    for _ in range(STEPS_TO_MEASURE + 1):
        start = time.perf_counter()
        drawn = rng.integers(0, len(training), config.batch_size)
        samples = [transform(*training[int(index)], rng) for index in drawn]
        images = torch.from_numpy(np.stack([image for image, _ in samples])).movedim(-1, 1)
        labels = torch.from_numpy(np.stack([label for _, label in samples])).long()
        with torch.autocast("cpu", torch.bfloat16, is_half):
            logits = model(model.normalize(images), auxiliary=True)
        criterion(logits, labels).backward()
        optimizer.step()
        optimizer.zero_grad()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds[1:])


def seconds_per_image(model: torch.nn.Module, image: np.ndarray) -> float:
    predictor, seconds = Predictor(model, device="cpu"), []
    for _ in range(6):
        start = time.perf_counter()
        predictor.predict(image)
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds[1:])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--data", nargs=2, metavar=("KIND", "FOLDER"), help="camvid or thin, and its folder"
    )
    parser.add_argument("--weights", help="folder of BACKBONE_imagenet.safetensors")
    parser.add_argument("--minutes", type=float, default=12.0, help="of training (default: 12)")
    parser.add_argument("--steps", type=int, help="train for equal steps instead")
    parser.add_argument("--forms", nargs="+", default=list(FORMS), help=f"of {', '.join(FORMS)}")
    parser.add_argument("--backbones", nargs="+", default=["mobilenet_v2"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--output", type=Path, default=RESULTS, help="CSV file to append to")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one is not None:  # in a process of its own
        allow_torchvision()
        print(json.dumps(measure(json.loads(arguments.one))))
        return
    if arguments.data is None or arguments.weights is None:
        parser.error("--data and --weights are needed")
    kind, folder = arguments.data
    if kind not in HELD_OUT:
        parser.error(f"--data must be {' or '.join(HELD_OUT)} and a folder, got {kind}")
    if kind == "thin" and not Path(folder).exists():
        thin_structures.write(Path(folder))
    is_timed = arguments.steps is None
    budget = f"{arguments.minutes:g} minutes" if is_timed else f"{arguments.steps} steps"
    done = {tuple(row[name] for name in KEY) for row in read_rows(arguments.output)}
    for seed in arguments.seeds:
        for backbone in arguments.backbones:
            for form in arguments.forms:
                values = (kind, backbone, form, seed, budget)
                if tuple(map(str, values)) in done:
                    continue
                asked = dict(zip(KEY, values, strict=True))
                asked |= {"root": folder, "weights": arguments.weights}
                command = [sys.executable, __file__, "--one", json.dumps(asked)]
                result = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
                row = json.loads(result.stdout.splitlines()[-1])
                append_row(arguments.output, COLUMNS, row)
                print(*(f"{name}={row.get(name, '')}" for name in COLUMNS[:13]), flush=True)


if __name__ == "__main__":
    main()
