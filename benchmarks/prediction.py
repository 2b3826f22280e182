"""Measure how much of the network's own rate `ccnet predict` reaches on a folder of images.

Writes JPEGs of two sizes, and then, in turns and in one process with the same threads, lets the
network alone compute the logits of such images, and predicts the folder: decoding, the network,
labels, and PNGs on the disk. The script appends a row for each size to results/prediction.csv.

    python benchmarks/prediction.py [--images 30] [--turns 3] [--threads N] [--no-csv]
"""

import argparse
import platform
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from csv_rows import append_row
from PIL import Image

from ccnet import CCNet, Predictor
from ccnet.labeling.files import predict_files
from ccnet.labeling.jobs import find_jobs
from ccnet.prediction.batches import as_batch
from ccnet.saving.run_folder import source_commit

RESULTS = Path(__file__).parents[1] / "benchmarks" / "results" / "prediction.csv"
COLUMNS = ("date", "commit", "python", "torch", "device", "threads", "backbone", "classes")
COLUMNS += ("height", "width", "images", "turns", "network_per_s", "predict_per_s", "share")
SIZES = ((360, 480), (512, 1024))
NUM_CLASSES = 19


def write_images(folder: Path, size: tuple[int, int], number: int) -> None:
    """Pictures with edges and a little noise, which compress as photographs do."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    down, across = np.mgrid[: size[0], : size[1]].astype(np.float32)
    for index in range(number):
        waves = np.sin(across / (17 + index)) * np.cos(down / (23 + index))
        edges = (across // 40 + down // 30 + index) % 3 * 30
        pixels = 120 + 60 * waves + edges + rng.normal(0, 6, size)
        colors = np.stack([pixels, np.roll(pixels, 50, 0), np.roll(pixels, 80, 1)], axis=2)
        picture = Image.fromarray(colors.clip(0, 255).astype(np.uint8))
        picture.save(folder / f"{index:03d}.jpg", quality=90)


def network_rate(predictor: Predictor, folder: Path) -> float:
    """Images per second of the network alone, whose input is in memory."""
    images = [
        predictor.model.normalize(predictor.to_device(as_batch(path)))
        for path in sorted(folder.iterdir())
    ]
    begin = time.monotonic()
    for start in range(0, len(images), predictor.batch_size):
        predictor.run_network(torch.cat(images[start : start + predictor.batch_size]))
    if predictor.device.type == "cuda":
        torch.cuda.synchronize()
    return len(images) / (time.monotonic() - begin)


def predict_rate(predictor: Predictor, folder: Path) -> float:
    """Images per second of the whole way from files to files."""
    with tempfile.TemporaryDirectory() as output:
        jobs = find_jobs([folder], Path(output))
        begin = time.monotonic()
        outcome = predict_files(predictor, jobs, Path(output))
        seconds = time.monotonic() - begin
    assert outcome.written == len(jobs)
    return len(jobs) / seconds


def measure(
    predictor: Predictor, backbone: str, size: tuple[int, int], number: int, turns: int
) -> dict[str, object]:
    rates: dict[str, list[float]] = {"network": [], "predict": []}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary, "images")
        write_images(folder, size, number)
        predictor.run_network(
            predictor.model.normalize(torch.zeros(1, 3, *size, dtype=torch.uint8))
        )
        for _ in range(turns):
            rates["network"].append(network_rate(predictor, folder))
            rates["predict"].append(predict_rate(predictor, folder))
    network, whole = (statistics.median(rates[name]) for name in ("network", "predict"))
    return {
        "date": time.strftime("%Y-%m-%d"),
        "commit": source_commit(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "device": predictor.device.type,
        "threads": torch.get_num_threads(),
        "backbone": backbone,
        "classes": NUM_CLASSES,
        "height": size[0],
        "width": size[1],
        "images": number,
        "turns": turns,
        "network_per_s": round(network, 2),
        "predict_per_s": round(whole, 2),
        "share": round(whole / network, 3),
    }


def main(given: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--images", type=int, default=30, help="in a folder")
    parser.add_argument("--turns", type=int, default=3, help="of network and prediction")
    parser.add_argument("--threads", type=int, help="of the network (default: torch's)")
    parser.add_argument("--backbone", default="mobilenet_v2")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--no-csv", action="store_true", help="do not append rows to the results")
    arguments = parser.parse_args(given)
    if arguments.threads is not None:
        torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    predictor = Predictor(CCNet(NUM_CLASSES, arguments.backbone), device=arguments.device)
    rows = []
    for size in SIZES:
        row = measure(predictor, arguments.backbone, size, arguments.images, arguments.turns)
        rows.append(row)
        print(*(f"{name} {row[name]}" for name in COLUMNS[5:]), sep=", ", flush=True)
    if not arguments.no_csv:
        for row in rows:
            append_row(RESULTS, COLUMNS, row)


if __name__ == "__main__":
    main()
