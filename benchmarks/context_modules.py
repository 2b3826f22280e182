"""Compare the context modules of the paper's table 4 in one small network.

Pyramid pooling, ASPP, a non-local block and one or two passes of criss-cross attention take the
place of the attention in the head of CCNet; "none" leaves it empty. Backbone, head, data, their
order, optimizer, steps and the initial weights of everything else are the same for equal seeds.
Each run has a process of its own, and appends a row to results/context_modules.csv: scores on
images that did not train it, and the costs of the whole network. `map` trains nothing: it measures
the modules alone on the map of the paper's table 3, 97×97 pixels of 512 channels. Rows that the CSV
file already contains are not repeated. Times are those of the processor, not of the clock, so that
other programs do not count; run it with one thread. context_report.py makes tables and a plot.

    OMP_NUM_THREADS=1 python benchmarks/context_modules.py scenes --seeds 0 1 2
    python benchmarks/context_modules.py camvid --root CAMVID --weights mobilenet_v2.safetensors
    python benchmarks/context_modules.py map
"""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from attention_memory import extra_peak, saved_for_backward
from contexts import MODULES, context_module
from csv_rows import append_row, read_rows
from torch import Tensor, nn
from torch.utils.data import DataLoader
from torch.utils.flop_counter import FlopCounterMode

from ccnet import CCNet
from ccnet.config import TrainConfig, read_config
from ccnet.datasets import Scenes, SegmentationDataset, open_dataset
from ccnet.demo import SCENES
from ccnet.prediction.evaluate import evaluate
from ccnet.prediction.predictor import Predictor
from ccnet.runtime.device import pick_precision
from ccnet.saving.run_folder import source_commit
from ccnet.training.assembly import build_loss, build_optimizer, build_scheduler
from ccnet.training.network import build_model
from ccnet.training.samples import AugmentedDataset, TrainingBatches, new_loader

ROOT = Path(__file__).parents[1]
RESULTS = Path(__file__).parent / "results" / "context_modules.csv"
KEY = ("data", "module", "seed", "steps")
COLUMNS = (*KEY, "miou", "iou", "parameters", "gflop", "kept_mib", "peak_mib", "ms_per_image")
COLUMNS += ("ms_per_image_spread", "ms_per_step", "ms_per_step_spread", "seconds", "size")
COLUMNS += ("precision", "threads", "torch", "commit")
STEPS = {"scenes": 400, "camvid": 100, "map": 0}
MAP = (1, 512, 97, 97)
RATES = {"scenes": (3, 6, 9), "camvid": (3, 6, 9), "map": (12, 24, 36)}
"""Of ASPP: those of its paper at an output stride of 8 for the map of 97×97, and a quarter of them
for the maps of 16×16 pixels that the two trainings have.
"""
CPU = torch.device("cpu")


@dataclass(frozen=True)
class Asked:
    """One row."""

    data: str
    module: str
    seed: int
    steps: int
    root: str | None = None
    weights: str | None = None


def configuration(asked: Asked) -> TrainConfig:
    """The run of `ccnet demo`, or configs/camvid.yaml in small, both without attention."""
    if asked.data == "scenes":
        data = replace(SCENES.data, num_images=asked.steps * SCENES.batch_size)
        config = replace(SCENES, data=data)
    else:
        config = read_config(ROOT / "configs" / "camvid.yaml")
        assert config.data.augment is not None
        augment = replace(config.data.augment, crop_size=(256, 256))
        small = {"output_stride": 16, "channels": 128, "auxiliary_channels": None}
        model = replace(config.model, **small, pretrained=asked.weights)
        data = replace(config.data, root=asked.root, augment=augment)
        config = replace(config, data=data, model=model)
    model = replace(config.model, recurrence=0)
    return replace(config, model=model, steps=asked.steps, seed=asked.seed, device="cpu")


def network(asked: Asked, config: TrainConfig, training: SegmentationDataset) -> CCNet:
    """The network with the module; all weights outside of it follow from the seed alone."""
    torch.manual_seed(asked.seed)
    model = build_model(config, training)
    module = context_module(asked.module, config.model.channels, RATES[asked.data])
    model.head.set_submodule("attention", module)
    return model


def measure_training(asked: Asked) -> dict[str, Any]:
    """Train a network; its scores and costs."""
    start = time.process_time()
    config = configuration(asked)
    if asked.data == "scenes":
        training: SegmentationDataset = Scenes("train", num_images=config.data.num_images)
        held_out: SegmentationDataset = Scenes("test", num_images=500)
    else:
        training, held_out = (open_dataset("camvid", asked.root, s) for s in ("train", "val"))
    image = held_out[0][0]
    memory = memory_of_step(network(asked, config, training), config, training)
    model = network(asked, config, training)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model.eval()(torch.zeros(1, 3, *image.shape[:2]))
    per_step = train(model, config, training)
    predictor = Predictor(model, device="cpu", precision=config.precision)
    per_image = seconds_of(lambda: predictor.predict(image), 20)
    scores = evaluate(predictor, held_out)
    iou = {name: None if one is None else round(one, 4) for name, one in scores.iou.items()}
    return {
        "miou": round(scores.miou, 4),
        "iou": json.dumps(iou),
        "parameters": number_of_parameters(model),
        "gflop": counter.get_total_flops() / 1e9,
        **costs(per_image, per_step, *memory),
        "seconds": time.process_time() - start,
        "size": "x".join(map(str, image.shape[:2])),
        "precision": pick_precision(config.precision, CPU),
    }


def batches(config: TrainConfig, training: SegmentationDataset) -> DataLoader:
    """Images and labels of each step, which follow from the seed alone."""
    samples = AugmentedDataset(training, config.data.augment, config.seed)
    order = TrainingBatches(len(training), config.batch_size, config.steps, config.seed)
    return new_loader(samples, order, 0, CPU)


def loss_of(model: CCNet, config: TrainConfig) -> Callable[[Tensor, Tensor], Tensor]:
    """The loss of a batch, as a training run computes it."""
    criterion = build_loss(config)
    is_half = pick_precision(config.precision, CPU) == "bfloat16"
    model.train().to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]

    def loss(images: Tensor, labels: Tensor) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16, is_half):
            logits = model(model.normalize(images), auxiliary=True)
        return criterion(logits, labels)

    return loss


def train(model: CCNet, config: TrainConfig, training: SegmentationDataset) -> list[float]:
    """Make all steps; returns the seconds of each, without the reading of its images."""
    optimizer, loss = build_optimizer(config.optimizer, model), loss_of(model, config)
    scheduler = build_scheduler(config.optimizer, optimizer, config.steps)
    torch.manual_seed(config.seed)  # of dropout
    seconds = []
    for images, labels in batches(config, training):
        start = time.process_time()
        loss(images, labels).backward()
        optimizer.step()
        optimizer.zero_grad()
        scheduler.step()
        seconds.append(time.process_time() - start)
    return seconds


def memory_of_step(
    model: CCNet, config: TrainConfig, training: SegmentationDataset
) -> tuple[int, int]:
    """Bytes that a step saves for its backward pass, and its peak without the gradients."""
    parameters, loss = list(model.parameters()), loss_of(model, config)
    images, labels = next(iter(batches(config, training)))
    kept = saved_for_backward(lambda: loss(images, labels), parameters)
    peak = extra_peak(lambda: torch.autograd.grad(loss(images, labels), parameters), "cpu")
    return kept, peak


def measure_map(asked: Asked) -> dict[str, Any]:
    """The costs of a module alone; norms have fixed statistics, as one image gives none at 1×1."""
    torch.manual_seed(asked.seed)
    module = context_module(asked.module, MAP[1], RATES["map"]).eval()
    features = torch.randn(MAP).to(memory_format=torch.channels_last).requires_grad_()
    gradient, parameters = torch.randn_like(features), list(module.parameters())

    def both() -> tuple[Tensor, ...]:
        return torch.autograd.grad(module(features), [features, *parameters], gradient)

    with torch.no_grad():
        with FlopCounterMode(display=False) as counter:
            module(features)
        per_image = seconds_of(lambda: module(features), 9)
    per_step = seconds_of(both, 5)
    kept = saved_for_backward(lambda: module(features), [*parameters, features])
    return {
        "parameters": number_of_parameters(module),
        "gflop": counter.get_total_flops() / 1e9,
        **costs(per_image, per_step, kept, extra_peak(both, "cpu")),
        "size": "x".join(map(str, MAP)),
        "precision": "float32",
    }


def costs(per_image: list[float], per_step: list[float], kept: int, peak: int) -> dict[str, float]:
    """Medians and interquartile ranges in ms, bytes in MiB."""
    found = {"kept_mib": kept / 2**20, "peak_mib": peak / 2**20}
    for name, seconds in (("ms_per_image", per_image), ("ms_per_step", per_step)):
        low, middle, high = np.percentile(seconds, (25, 50, 75))
        found |= {name: 1000 * float(middle), f"{name}_spread": 1000 * float(high - low)}
    return found


def seconds_of(call: Callable[[], object], times: int) -> list[float]:
    """The seconds of each call, after one that is not counted."""
    seconds = []
    for _ in range(times + 1):
        start = time.process_time()
        call()
        seconds.append(time.process_time() - start)
    return seconds[1:]


def number_of_parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def measure(asked: Asked) -> dict[str, Any]:
    """The row of one run."""
    row = measure_map(asked) if asked.data == "map" else measure_training(asked)
    facts = {"threads": torch.get_num_threads(), "torch": torch.__version__}
    rounded = {
        k: round(v, 3) if isinstance(v, float) and k != "miou" else v for k, v in row.items()
    }
    key = {name: getattr(asked, name) for name in KEY}
    return {**key, **rounded, **facts, "commit": source_commit()}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", choices=tuple(STEPS), nargs="?", help="what to measure")
    parser.add_argument("--root", help="folder of CamVid")
    parser.add_argument("--weights", help="file of ImageNet weights of MobileNetV2, for CamVid")
    parser.add_argument("--modules", nargs="+", help="by default all")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--steps", type=int, help="of the trainings (default: 400 and 100)")
    parser.add_argument("--output", type=Path, default=RESULTS, help="CSV file to append to")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one is not None:  # in a process of its own
        print(json.dumps(measure(Asked(**json.loads(arguments.one)))))
        return
    data = arguments.data
    if data is None or (data == "camvid" and None in (arguments.root, arguments.weights)):
        parser.error("give scenes, map, or camvid with --root and --weights")
    modules = arguments.modules or MODULES
    steps = STEPS[data] if data == "map" or arguments.steps is None else arguments.steps
    done = {tuple(row[name] for name in KEY) for row in read_rows(arguments.output)}
    for seed in arguments.seeds:
        for module in modules:
            if (data, module, str(seed), str(steps)) in done:
                continue
            asked = Asked(data, module, seed, steps, arguments.root, arguments.weights)
            command = [sys.executable, __file__, "--one", json.dumps(asdict(asked))]
            result = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
            row = json.loads(result.stdout.splitlines()[-1])
            append_row(arguments.output, COLUMNS, row)
            print(*(f"{name}={row.get(name, '')}" for name in COLUMNS[:15]), flush=True)


if __name__ == "__main__":
    main()
