"""Compare prediction with the usual form of the network, onnxruntime, OpenVINO and torch.compile.

All forms have the same weights, and run alternately on the same image. The logits of every form
are first compared: at a small size with float64, at the size that is timed with the plain form. A
form whose error is over the budget is not timed. The rows are appended to results/inference.csv,
from which inference_report.py makes the table of docs/performance.md.

    python benchmarks/inference.py                      everything, on all cores: half an hour
    python benchmarks/inference.py --backbones resnet50 --sizes 512x1024 --forms ours
    python benchmarks/inference.py --trained FOLDER --photograph FILE

Labels of a random network are ties in many places, so how many labels agree means something only
for a trained one: --trained takes the folder of its model, and --photograph what it was trained to
see. On Linux the script restarts itself with settings that make the C library keep freed memory,
as attention.py does.
"""

import argparse
import importlib.metadata
import os
import platform
import statistics
import sys
import time
from functools import partial
from pathlib import Path

import torch
from attention import KEEP_MEMORY, processor, rms, timed
from csv_rows import append_row
from inference_forms import (
    BASELINE,
    FORMS,
    Run,
    Size,
    operations,
    photograph,
    plain_network,
    random_network,
    require_packages,
    smooth_noise,
)
from torch import Tensor
from training import bfloat16_units

from ccnet import CCNet
from ccnet.saving.run_folder import source_commit

RESULTS = Path(__file__).parent / "results" / "inference.csv"
COLUMNS = ("date", "commit", "processor", "bfloat16_units", "threads", "python", "torch")
COLUMNS += ("onnxruntime", "openvino", "backbone", "weights", "size", "form", "milliseconds")
COLUMNS += ("spread", "turns", "gain", "images_per_second", "gflop_per_second", "peak_gflops")
COLUMNS += ("error_over_plain", "largest_difference", "agreement")
BACKBONES = ("resnet50", "resnet101", "mobilenet_v2")
SIZES = ("512x1024", "769x769", "1024x2048")
SMALL = (257, 385)
"""Of the image on which the forms are compared with float64."""
ALLOWED_ERROR = 4
"""How many times as large as the plain form's, in the same dtype, a form's error may be."""
SIDE = 2048
"""Of the matrices whose product gives the peak."""


def measure(
    model: CCNet, forms: list[str], size: Size, image: Tensor, turns: int
) -> list[dict[str, object]]:
    """One row for each form."""
    runs = {name: FORMS[name].build(model, size) for name in forms}
    expected = runs[BASELINE](image)
    rows: dict[str, dict[str, object]] = {}
    for name, run in runs.items():  # which also loads and prepares what the first call needs
        found = run(image)
        rows[name] = {
            "form": name,
            "largest_difference": f"{largest_difference(found, expected):.2g}",
            "agreement": f"{(found.argmax(1) == expected.argmax(1)).double().mean():.5f}",
        }
    matrices = {dtype: torch.randn(2, SIDE, SIDE).to(dtype) for dtype in dtypes(forms)}
    products = {dtype: partial(torch.mm, *pair) for dtype, pair in matrices.items()}
    times: dict[str, list[float]] = {name: [] for name in forms}
    peaks: dict[torch.dtype, float] = dict.fromkeys(products, 0.0)
    for _ in range(turns):
        for dtype, product in products.items():
            seconds = min(timed(product, "cpu") for _ in range(5))
            peaks[dtype] = max(peaks[dtype], 2e-9 * SIDE**3 / seconds)
        for name, run in runs.items():
            times[name].append(timed(partial(run, image), "cpu"))
    gigas = 1e-9 * operations(model, size)
    for name, row in rows.items():
        low, middle, high = statistics.quantiles(times[name] * 2, n=4, method="inclusive")
        gains = [a / b for a, b in zip(times[BASELINE], times[name], strict=True)]
        row |= {
            "milliseconds": f"{1e3 * middle:.4g}",
            "spread": f"{1e3 * (high - low):.2g}",
            "turns": turns,
            "gain": f"{statistics.median(gains):.3f}",
            "images_per_second": f"{1 / middle:.3g}",
            "gflop_per_second": f"{gigas / middle:.4g}",
            "peak_gflops": f"{peaks[FORMS[name].dtype]:.4g}",
        }
    return list(rows.values())


def dtypes(forms: list[str]) -> set[torch.dtype]:
    return {FORMS[name].dtype for name in forms}


def largest_difference(found: Tensor, expected: Tensor) -> float:
    """In units of the largest logit."""
    return ((found - expected).abs().max() / expected.abs().max()).item()


def error_ratios(model: CCNet, forms: list[str], image: Tensor) -> dict[str, float]:
    """The error of each form against float64, over that of the plain form in the same dtype.

    Raises RuntimeError if a ratio is above `ALLOWED_ERROR`.
    """
    size = tuple(image.shape[2:])
    with torch.inference_mode():
        exact = plain_network(model).double()(image.double())

    def error(name: str) -> float:
        run: Run = FORMS[name].build(model, size)  # pyright: ignore[reportArgumentType]
        return rms(run(image) - exact)

    plain = {dtype: error(f"{BASELINE}{suffix(dtype)}") for dtype in dtypes(forms)}
    ratios = {name: error(name) / plain[FORMS[name].dtype] for name in forms}
    for name, ratio in ratios.items():
        if not ratio <= ALLOWED_ERROR:
            raise RuntimeError(f"not timed: the error of {name} is {ratio:.2f} times the plain one")
    return ratios


def suffix(dtype: torch.dtype) -> str:
    return "" if dtype == torch.float32 else f" {str(dtype).removeprefix('torch.')}"


def facts() -> dict[str, object]:
    """The columns that are the same in all rows of one call."""
    return {
        "date": time.strftime("%Y-%m-%d %H:%M"),
        "commit": source_commit(),
        "processor": processor(),
        "bfloat16_units": bfloat16_units(),
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        **{name: version(name) for name in ("onnxruntime", "openvino")},
    }


def version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return ""


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--backbones", nargs="*", choices=BACKBONES, default=BACKBONES, help="with random weights"
    )
    parser.add_argument("--trained", type=Path, help="folder of a trained model")
    parser.add_argument("--photograph", type=Path, help="what the trained model sees")
    parser.add_argument("--sizes", nargs="+", default=SIZES, metavar="HxW", help="of the image")
    parser.add_argument(
        "--forms", nargs="+", choices=FORMS, default=list(FORMS), metavar="FORM", help="to compare"
    )
    parser.add_argument("--turns", type=int, default=5, help="how often each form is timed")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="of every form")
    parser.add_argument("--output", type=Path, default=RESULTS, help="CSV file to append to")
    arguments = parser.parse_args()
    if (arguments.trained is None) != (arguments.photograph is None):
        parser.error("--trained and --photograph belong together")
    return arguments


def main() -> None:
    arguments = parse()
    if platform.system() == "Linux" and not KEEP_MEMORY.items() <= os.environ.items():
        os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, **KEEP_MEMORY})
    forms = [BASELINE, *(form for form in arguments.forms if form != BASELINE)]
    require_packages(forms)
    torch.set_num_threads(arguments.threads)
    networks = {(name, "random"): partial(random_network, name) for name in arguments.backbones}
    if arguments.trained is not None:
        load = partial(CCNet.from_pretrained, arguments.trained)
        networks[load().arguments["backbone"], "trained"] = load
    common = facts()
    for (backbone, weights), build in networks.items():
        model = build()

        def image(size: Size, model: CCNet = model, is_trained: bool = weights == "trained"):
            return (
                photograph(model, arguments.photograph, size) if is_trained else smooth_noise(size)
            )

        ratios = error_ratios(model, forms, image(SMALL))
        for text in arguments.sizes:
            size = tuple(map(int, text.split("x")))
            torch.compiler.reset()
            for row in measure(model, forms, size, image(size), arguments.turns):
                row["error_over_plain"] = f"{ratios[str(row['form'])]:.2f}"
                row |= {**common, "backbone": backbone, "weights": weights, "size": text}
                append_row(arguments.output, COLUMNS, row)
                print(*(str(row[key]).ljust(13) for key in COLUMNS[9:]), flush=True)


if __name__ == "__main__":
    main()
