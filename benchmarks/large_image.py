"""Predict a TIFF of 30,000×30,000 pixels within a stated amount of memory.

Makes a synthetic, tiled and compressed TIFF window by window, predicts it in tiles of 769 with a
small network of five classes, and compares labels in a few places with those computed in memory.
The image has 2.7 GB, and the scores of all its pixels would have 18. The script appends a row to
results/large_image.csv and exits with status 1 if labels differ or the limit was exceeded.

    python benchmarks/large_image.py [--size 30000] [--memory 1GB] [--folder FOLDER] [--no-csv]

It needs 3 GB on disk and the extra `geo`. A file of an earlier call in FOLDER is used again, and a
prediction that was interrupted goes on there.
"""

import argparse
import platform
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from csv_rows import append_row
from torch import Tensor, nn

from ccnet.images.windows import (
    GDAL_CACHE,
    WindowedImage,
    import_rasterio,
    open_dataset,
    open_windows,
)
from ccnet.labeling.large import predict_large
from ccnet.prediction.protocol import Protocol
from ccnet.prediction.views import score_images
from ccnet.runtime.memory import parse_size, peak_memory
from ccnet.runtime.progress import CountProgress
from ccnet.saving.run_folder import source_commit

RESULTS = Path(__file__).parents[1] / "benchmarks" / "results" / "large_image.csv"
COLUMNS = ("date", "commit", "python", "torch", "threads", "height", "width", "file_mb", "tile")
COLUMNS += ("stride", "classes", "memory_mb", "peak_mb", "seconds", "mpixels_per_s", "equal")
NUM_CLASSES = 5
BAND = 256
CPU = torch.device("cpu")


class SmallNetwork(nn.Module):
    """Scores at an eighth of the resolution, enlarged, as those of larger networks."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.Sequential(
            nn.Conv2d(3, 16, 8, stride=8, padding=4),
            nn.ReLU(),
            nn.Conv2d(16, 16, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(16, NUM_CLASSES, 1),
        ).requires_grad_(False)

    def balance(self, image: WindowedImage) -> None:
        """Change the last layer so that every class is the most likely one somewhere."""
        side = min(image.height, image.width, 1024)
        pixels = torch.from_numpy(image.read(0, 0, side, side)).movedim(-1, 0)[None]
        last = self.layers[-1]
        assert isinstance(last, nn.Conv2d)
        assert last.bias is not None
        scores = self.layers(self.normalize(pixels))
        spread = scores.std((0, 2, 3))
        last.bias.sub_(scores.mean((0, 2, 3))).div_(spread)
        last.weight.div_(spread[:, None, None, None])

    def normalize(self, images: Tensor) -> Tensor:
        return (images.float() - 120) / 60

    def network(self, images: Tensor) -> Tensor:
        return F.interpolate(self.layers(images), images.shape[-2:], mode="bilinear")


def write_image(path: Path, size: int) -> None:
    """Waves of several lengths in three colors with a little noise, in compressed tiles."""
    rasterio = import_rasterio(path)
    rng = np.random.default_rng(0)
    across = np.arange(size, dtype=np.float32) / 97
    options = {"height": size, "width": size, "count": 3, "dtype": "uint8", "tiled": True}
    options |= {"compress": "deflate", "zlevel": 1, "crs": "EPSG:32632", "bigtiff": "if_safer"}
    options |= {"transform": rasterio.Affine(0.2, 0, 3e5, 0, -0.2, 5e6), "photometric": "RGB"}
    fresh = path.with_suffix(".new")
    with (
        rasterio.Env(GDAL_CACHEMAX=GDAL_CACHE),
        open_dataset(rasterio, fresh, "w", **options) as dataset,
    ):
        for top in range(0, size, BAND):
            down = np.arange(top, min(top + BAND, size), dtype=np.float32)[:, None] / 131
            noise = rng.integers(0, 16, (len(down), size), np.uint8)
            for color in range(3):
                waves = np.sin(across + color * down) * np.cos(down / (color + 2))
                pixels = (120 + 100 * waves).astype(np.uint8) & 0xF0 | noise
                window = rasterio.windows.Window(0, top, size, len(down))
                dataset.write(pixels, color + 1, window=window)
    fresh.replace(path)


def is_right(
    network: SmallNetwork, image: WindowedImage, output: Path, protocol: Protocol, place: int
) -> bool:
    """Whether labels around a tile vary and are those of a part of the image in memory.

    Pixels near the border of a part are covered by fewer tiles than in the image. Where two scores
    are equal up to rounding, a process that had another number of threads may have decided
    otherwise, if the prediction goes on from there.
    """
    assert protocol.tile is not None
    start, side = place * protocol.step, protocol.tile + 2 * protocol.step
    pixels = torch.from_numpy(image.read(start, start, side, side)).movedim(-1, 0)[None]
    (scores,) = score_images(network.network, [network.normalize(pixels)], protocol)
    inner = slice(protocol.tile - protocol.step, side - (protocol.tile - protocol.step))
    with open_windows(output, 1) as labels:
        found = labels.read(start, start, side, side)[inner, inner, 0]
    (largest, second), classes = scores[:, inner, inner].topk(2, dim=0)
    is_same = torch.from_numpy(found) == classes[0]
    return len(np.unique(found)) > 2 and bool((is_same | (largest - second < 1e-5)).all())


def measure(folder: Path, size: int, memory: int, protocol: Protocol) -> dict[str, object]:
    source, output = folder / f"image_{size}.tif", folder / f"labels_{size}.tif"
    if not source.exists():
        write_image(source, size)
    output.unlink(missing_ok=True)
    network = SmallNetwork()
    with open_windows(source) as image, CountProgress("tiles") as progress:
        network.balance(image)
        begin = time.monotonic()
        predict_large(
            network, image, output, protocol, stamp="benchmark", memory=memory, progress=progress
        )
        seconds, peak = time.monotonic() - begin, peak_memory(CPU)
        last = (size - (protocol.tile or 0)) // protocol.step - 3  # before the shifted tiles
        places = sorted({0, last // 3, last})
        is_equal = all(is_right(network, image, output, protocol, place) for place in places)
    return {
        "date": time.strftime("%Y-%m-%d"),
        "commit": source_commit(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "height": size,
        "width": size,
        "file_mb": round(source.stat().st_size / 1e6),
        "tile": protocol.tile,
        "stride": protocol.step,
        "classes": NUM_CLASSES,
        "memory_mb": round(memory / 1e6),
        "peak_mb": round(peak / 1e6),
        "seconds": round(seconds, 1),
        "mpixels_per_s": round(size * size / seconds / 1e6, 2),
        "equal": is_equal,
    }


def main(given: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--size", type=int, default=30_000, help="height and width in pixels")
    parser.add_argument("--memory", default="1GB", help="limit of the process (default: 1GB)")
    parser.add_argument("--tile", type=int, default=769, help="of the protocol (default: 769)")
    parser.add_argument("--folder", type=Path, help="where the files are kept (default: nowhere)")
    parser.add_argument("--no-csv", action="store_true", help="do not append a row to the results")
    arguments = parser.parse_args(given)
    protocol = Protocol(tile=arguments.tile)
    if arguments.size < 4 * arguments.tile:
        parser.error(f"--size must be at least four tiles, {4 * arguments.tile}")
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        row = measure(folder, arguments.size, parse_size(arguments.memory), protocol)
    for name, value in row.items():
        print(f"{name:14}{value}")
    if not arguments.no_csv:
        append_row(RESULTS, COLUMNS, row)
    is_within = int(str(row["peak_mb"])) <= int(str(row["memory_mb"]))
    return 0 if row["equal"] and is_within else 1


if __name__ == "__main__":
    sys.exit(main())
