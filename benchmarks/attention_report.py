"""Print the tables and draw the plot of attention.csv for docs/performance.md and the README.

Prints the goals and the values that were reached, then one table for each dtype, and draws
results/attention.png (results/attention.cuda.png for rows that were measured on a GPU).

    python benchmarks/attention_report.py
"""

import argparse
import csv
import math
from collections.abc import Iterator
from pathlib import Path

from attention import BIG, RESULTS, SHAPES, SMALL, SQUARES, WIDE
from matplotlib.figure import Figure

from ccnet.report.pictures import save

DTYPES = ("float32", "bfloat16", "float16")
PLOTTED = [f"1x512x{size}" for size in ("48x48", "97x97", "192x192", "384x384")]
FORMS = {  # form → label, color
    "non-local": ("attention to all pixels (non-local)", "tab:gray"),
    "plain": ("criss-cross, usual PyTorch form", "tab:orange"),
    "fused": ("criss-cross, this package", "tab:blue"),
}
SHORT = {"forward": "forward", "forward+backward": "both"}
OTHERS = ("plain", "reference", "flash-two-calls")
"""Forms that give the same result, none of which may be faster than ours."""
OVER_PRODUCTS = {"float32": 1.3, "bfloat16": 1.7}


class Rows:
    """The newest row for each (level, shape, dtype, form, passes), of the CPU or of GPUs."""

    def __init__(self, path: Path, *, gpu: bool) -> None:
        self.rows: dict[tuple[str, ...], dict[str, str]] = {}
        with path.open(newline="") as file:
            for row in csv.DictReader(file):
                if bool(row["triton"]) == gpu:
                    keys = ("level", "shape", "dtype", "form", "passes")
                    self.rows[tuple(row[key] for key in keys)] = row

    def value(self, column: str, *key: str) -> float:
        """One column of the row (level, shape, dtype, form, passes); nan if it was not measured."""
        return float(self.rows.get(key, {}).get(column) or math.nan)

    def ms(self, *key: str) -> float:
        return self.value("milliseconds", *key)

    def mib(self, column: str, *key: str) -> float:
        return self.value(column, *key, "forward+backward")

    def exponent(self, column: str, level: str, dtype: str, passes: str) -> float:
        """The exponent p of the growth of a column with the number of pixels, column ∝ pixels^p.

        A least-squares fit of log(column) to log(pixels) over the square maps; nan if fewer than
        three of them were measured.
        """
        points = []
        for shape in SQUARES:
            y = self.value(column, level, shape, dtype, "fused", passes)
            if not math.isnan(y):
                points.append((math.log(pixels(shape)), math.log(y)))
        if len(points) < 3:
            return math.nan
        mean_x, mean_y = (sum(values) / len(points) for values in zip(*points, strict=True))
        slope = sum((x - mean_x) * (y - mean_y) for x, y in points)
        return slope / sum((x - mean_x) ** 2 for x, _ in points)


def pixels(shape: str) -> int:
    batch, _, *spatial = map(int, shape.split("x"))
    return batch * math.prod(spatial)


def cpu_goals(rows: Rows) -> Iterator[tuple[str, str, float, float]]:
    """Yield (what is compared, relation "≥" or "≤", goal, value that was reached)."""
    shape = SHAPES[0]
    for passes, short in SHORT.items():
        ours = rows.ms("operator", shape, "float32", "fused", passes)
        plain = rows.ms("operator", shape, "float32", "plain", passes)
        yield f"operator, float32, {short}: plain / ours", "≥", 2.5, plain / ours
        for dtype, goal in OVER_PRODUCTS.items():
            key = ("operator", shape, dtype)
            ratio = rows.ms(*key, "fused", passes) / rows.ms(*key, "matrix products", passes)
            yield f"operator, {dtype}, {short}: ours / its matrix products", "≤", goal, ratio
        for dtype in DTYPES:
            name, ratio = worst(rows, dtype, passes)
            what = f"operator, {dtype}, {short}: ours / the fastest other form, at worst"
            yield f"{what} ({name})", "≤", 1, ratio
        key = ("operator", SMALL, "float32")
        added = rows.ms(*key, "fused", passes) - rows.ms(*key, "reference", passes)
        what = f"operator, float32, {SMALL.replace('x', '×')}, {short}: ms above the reference"
        yield what, "≤", 0.1, added
        ours = rows.ms("module", shape, "float32", "fused", passes)
        floor = rows.ms("module", shape, "float32", "matrix products", passes)
        yield f"module (R=2), float32, {short}: ours / its matrix products", "≤", 1.2, ours / floor
        plain = rows.ms("module", shape, "float32", "plain", passes)
        yield f"module, float32, {short}: plain / ours", "≥", 1.4, plain / ours
        for level in ("operator", "module"):
            times = [rows.ms(level, shape, dtype, "fused", passes) for dtype in DTYPES]
            what = f"{level}, {short}: our float32 / our bfloat16"
            yield what, "≥", 1.5, times[0] / times[1]
    yield from exponents(rows)
    saved = rows.mib("saved_mib", "module", shape, "float32", "fused")
    yield "MiB kept by one pass of the module, float32", "≤", 60, saved / 2
    saved = rows.mib("saved_mib", "module", shape, "float32", "recomputed")
    yield "MiB kept by the recomputed recurrence, float32", "≤", 20, saved


def worst(rows: Rows, dtype: str, passes: str) -> tuple[str, float]:
    """The shape at which another form comes closest to ours or is ahead, and the ratio there."""
    ratios = {}
    for shape in SHAPES:
        key = ("operator", shape, dtype)
        others = [rows.ms(*key, form, passes) for form in OTHERS]
        known = [time for time in others if not math.isnan(time)]
        ours = rows.ms(*key, "fused", passes)
        if known and not math.isnan(ours):
            ratios[shape] = ours / min(known)
    name = max(ratios, key=lambda shape: ratios[shape], default="no shape")
    return name.replace("x", "×"), ratios.get(name, math.nan)


def exponents(rows: Rows) -> Iterator[tuple[str, str, float, float]]:
    """Goals for the growth of time and memory with the number of pixels N."""
    for dtype in DTYPES[:2]:
        time = rows.exponent("milliseconds", "operator", dtype, "forward")
        yield f"exponent of time in N, forward, {dtype}", "≤", 1.6, time
        memory = rows.exponent("saved_mib", "operator", dtype, "forward+backward")
        yield f"exponent of memory kept in N, {dtype}", "≤", 1.05, memory


def gpu_goals(rows: Rows) -> Iterator[tuple[str, str, float, float]]:
    """As `cpu_goals`, for the operator in bfloat16 on a GPU."""

    def ratio(form: str, passes: str, shape: str = BIG) -> float:
        key = ("operator", shape, "bfloat16")
        return rows.ms(*key, form, passes) / rows.ms(*key, "fused", passes)

    over_limit = 1 / ratio("bytes, one pass per axis", "forward")
    yield "forward: ours / bytes, one pass per axis", "≤", 2, over_limit
    yield "both: plain / ours", "≥", 6, ratio("plain", "forward+backward")
    yield "both: compiled plain / ours", "≥", 3, ratio("plain compiled", "forward+backward")
    key = ("operator", BIG, "bfloat16")
    peaks = [rows.mib("extra_peak_mib", *key, form) for form in ("plain", "fused")]
    yield "extra peak memory: plain / ours", "≥", 5, peaks[0] / peaks[1]
    yield "forward: non-local / ours", "≥", 8, ratio("non-local", "forward")
    yield "both: non-local / ours", "≥", 8, ratio("non-local", "forward+backward")
    yield f"forward at {WIDE}: non-local / ours", "≥", 25, ratio("non-local", "forward", WIDE)
    yield from exponents(rows)


def goals_table(goals: Iterator[tuple[str, str, float, float]]) -> Iterator[str]:
    yield from ("| | goal | reached |", "|---|---|---|")
    for what, relation, goal, reached in goals:
        met = reached >= goal if relation == "≥" else reached <= goal
        value = "not measured" if math.isnan(reached) else f"{reached:.3g}"
        yield f"| {what} | {relation} {goal:g} | {f'**{value}**' if met else value} |"


def times_table(rows: Rows, dtype: str) -> Iterator[str]:
    """One row for each shape: milliseconds of forward and backward together, then memory in MiB."""
    forms = ("plain", "plain compiled", "reference", "flash-two-calls", "non-local", "fused")
    forms += ("matrix products",)
    names = {"fused": "ours", "flash-two-calls": "flash, two calls"}
    header = " | ".join(names.get(form, form) for form in forms)
    yield f"| {dtype}, both passes, ms | {header} | extra MiB: plain | ours | kept: plain | ours |"
    yield "|---" * (len(forms) + 5) + "|"
    for shape in SHAPES:
        key = ("operator", shape, dtype)
        if math.isnan(rows.ms(*key, "fused", "forward+backward")):
            continue
        cells = [number(rows.ms(*key, form, "forward+backward")) for form in forms]
        for column in ("extra_peak_mib", "saved_mib"):
            cells += [number(rows.mib(column, *key, form)) for form in ("plain", "fused")]
        yield f"| {shape.replace('x', '×')} | {' | '.join(cells)} |"


def number(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:.3g}" if value < 1000 else f"{value:.0f}"


def plot(rows: Rows, dtype: str, device: str, path: Path) -> None:
    """Plot time and extra memory of one forward pass over the number of pixels of the map."""
    figure = Figure(figsize=(10, 4.2), layout="constrained")
    time, memory = figure.subplots(1, 2)
    sizes = [pixels(shape) for shape in PLOTTED]
    for form, (label, color) in FORMS.items():
        keys = [("operator", shape, dtype, form) for shape in PLOTTED]
        style = {"marker": "o", "color": color, "label": label}
        time.plot(sizes, [rows.ms(*key, "forward") for key in keys], **style)
        peaks = [rows.value("extra_peak_mib", *key, "forward") for key in keys]
        memory.plot(sizes, peaks, **style)
    time.set(ylabel="milliseconds", title="time of one forward pass")
    memory.set(ylabel="MiB", title="peak memory without inputs and output")
    for axis in (time, memory):
        axis.set(xscale="log", yscale="log", xlabel="size of the feature map, pixels")
        ticks = [shape.removeprefix("1x512x").replace("x", "×") for shape in PLOTTED]
        axis.set_xticks(sizes, ticks)
        axis.minorticks_off()
        axis.yaxis.set_major_formatter("{x:,.0f}")
        axis.grid(alpha=0.3)
    figure.suptitle(f"Attention over one feature map of 512 channels, {dtype}, {device}")
    figure.legend(*time.get_legend_handles_labels(), loc="outside lower center", ncols=3)
    save(figure, path)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.parse_args()
    for gpu, goals in ((False, cpu_goals), (True, gpu_goals)):
        rows = Rows(RESULTS, gpu=gpu)
        if rows.rows:
            print(*goals_table(goals(rows)), "", sep="\n")
            for dtype in DTYPES[:2]:
                print(*times_table(rows, dtype), "", sep="\n")
            suffix, device = (".cuda.png", "one GPU") if gpu else (".png", "two CPU cores")
            plot(rows, "bfloat16" if gpu else "float32", device, RESULTS.with_suffix(suffix))


if __name__ == "__main__":
    main()
