"""List the resources that each CUDA kernel needs, compiled ahead of time; no GPU is needed.

Records which kernels the forward and the backward pass launch for every entry of the tile table,
compiles exactly those for each target, and writes their registers, spills, shared memory and matrix
instructions to results/kernel_resources.csv, one row per binary. Rows of the same Triton version,
target, dtype, D and C are replaced.

    python benchmarks/kernel_resources.py [--targets 90] [--dtypes bfloat16] [--lengths 128]
"""

import argparse
import csv
import re
import subprocess
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from ccnet.ops import triton as operator
from ccnet.ops import triton_kernels

RESULTS = Path(__file__).parent / "results" / "kernel_resources.csv"
TOOLS = Path(triton.__file__).parent / "backends" / "nvidia" / "bin"
TARGETS = {80: "half", 86: "half", 89: "half", 90: "half, much shared memory"}
TARGETS |= {100: "half, much shared memory", 120: "half"}
DTYPES = {
    "bfloat16": (torch.bfloat16, None),
    "float16": (torch.float16, None),
    "float32 tf32": (torch.float32, "tf32"),
    "float32 ieee": (torch.float32, "ieee"),
}
POINTERS = {torch.bfloat16: "*bf16", torch.float16: "*fp16", torch.float32: "*fp32"}
MATRIX = re.compile(r"\b(HGMMA|UTC[A-Z]*MMA|HMMA|FFMA2?)\b")
COLUMNS = ("triton", "target", "dtype", "kernel", "axis", "length", "D", "C", "tile", "warps")
COLUMNS += ("stages", "registers", "spilled_bytes", "spill_stores", "shared_bytes", "instructions")
Launch = tuple[Any, operator.Tile, tuple, dict[str, Any]]


def launches(tiles: operator.Tiles, dtype: torch.dtype, length: int, sizes: tuple[int, int]):
    """The launches of forward and backward on a (1, length, length) map: both kinds of axis.

    Replaces `launch` of ccnet.ops.triton by a function that records its arguments.
    """
    recorded: list[Launch] = []
    operator.tiles_of = lambda _: tiles
    operator.launch = lambda kernel, _, tile, *arguments, **constants: recorded.append(
        (kernel, tile, arguments, constants)
    )
    query, key, value = (
        torch.empty(1, length, length, channels, dtype=dtype, device="meta")
        for channels in (sizes[0], *sizes)
    )
    out, peak, total = operator.forward(query, key, value)
    operator.backward(torch.empty_like(out), query, key, value, out, peak, total)
    return recorded


def compiled(launch: Launch, target: int) -> Any:
    """The binary that the just-in-time compiler would make for a launch."""
    kernel, tile, arguments, constants = launch
    signature: dict[str, str] = dict.fromkeys(kernel.arg_names, "constexpr")
    aligned = {}
    for index, (name, argument) in enumerate(zip(kernel.arg_names, arguments, strict=False)):
        is_tensor = isinstance(argument, torch.Tensor)
        signature[name] = POINTERS[argument.dtype] if is_tensor else "i32"
        if is_tensor or (name not in triton_kernels.SIZES and argument % 16 == 0):
            aligned[(index,)] = [["tt.divisibility", 16]]
    options = {"num_warps": tile.warps, "num_stages": tile.stages}
    source = ASTSource(kernel, signature, constants, aligned)
    return triton.compile(source, target=GPUTarget("cuda", target, 32), options=options)


def resources(binary: Any) -> dict[str, object]:
    """Columns of one row, as the CUDA tools read them from the binary."""
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(binary.asm["cubin"])
        file.flush()
        usage = output(TOOLS / "cuobjdump", "-res-usage", file.name)
        code = output(TOOLS / "nvdisasm", "-c", file.name)
    instructions = Counter(MATRIX.findall(code))
    if len(instructions) > 1:  # the FFMA next to matrix instructions only merge and scale
        instructions.pop("FFMA", None)
    return {
        "registers": number(r"REG:(\d+)", usage),
        "spilled_bytes": number(r"STACK:(\d+)", usage) + number(r"LOCAL:(\d+)", usage),
        "spill_stores": len(re.findall(r"\bSTL\b", code)),
        "shared_bytes": binary.metadata.shared,
        "instructions": " ".join(f"{name}:{count}" for name, count in sorted(instructions.items())),
    }


def output(*command: str | Path) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def number(pattern: str, text: str) -> int:
    match = re.search(pattern, text)
    assert match is not None, text
    return int(match[1])


def rows(
    target: int, dtype: str, lengths: list[int] | None, sizes: tuple[int, int]
) -> Iterator[dict[str, object]]:
    """Rows of every entry of the tile table, each at the longest line that uses it."""
    element, precision = DTYPES[dtype]
    tiles = operator.TILES[precision or TARGETS[target]]
    operator.float_products = lambda: precision or "ieee"
    longest = {*tiles.forward, *tiles.line, 1000} - {operator.LONG}
    for length in sorted(longest if lengths is None else lengths):
        done = set()
        for launch in launches(tiles, element, length, sizes):
            kernel, tile, _, constants = launch
            name = kernel.__name__.removesuffix("_axis").removeprefix("backward_")
            if name == "scores":
                name += " of keys" if constants["OF_KEYS"] else " of queries"
            first = constants.get("FIRST", True)
            if (name, first) in done:
                continue
            done.add((name, first))
            yield {
                "triton": triton.__version__,
                "target": f"sm_{target}",
                "dtype": dtype,
                "kernel": name,
                "axis": "first" if first else "later",
                "length": length,
                "D": sizes[0],
                "C": sizes[1],
                "tile": f"{tile.rows}x{tile.keys}x{constants['CHANNELS']}",
                "warps": tile.warps,
                "stages": tile.stages,
                **resources(compiled(launch, target)),
            }


def write(path: Path, new: list[dict[str, object]]) -> None:
    """Write the new rows in place of those with the same Triton version, target, dtype, D and C."""

    def group(row: dict) -> tuple:
        return tuple(str(row[name]) for name in ("triton", "target", "dtype", "D", "C"))

    replaced, kept = {group(row) for row in new}, []
    if path.exists():
        with path.open(newline="") as file:
            kept = [row for row in csv.DictReader(file) if group(row) not in replaced]
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(sorted([*kept, *new], key=lambda row: str(group(row))))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument(
        "--targets",
        type=int,
        nargs="+",
        default=list(TARGETS),
        choices=TARGETS,
        help="compute capabilities to compile for: 90 is sm_90",
    )
    parser.add_argument(
        "--dtypes",
        nargs="+",
        default=list(DTYPES),
        choices=DTYPES,
        metavar="DTYPE",
        help="dtypes of the tensors, for float32 with the precision of the matrix products: "
        + ", ".join(f'"{name}"' for name in DTYPES),
    )
    parser.add_argument(
        "--lengths",
        type=int,
        nargs="+",
        help="lengths of the lines in pixels (default: one for every entry of the tile table)",
    )
    parser.add_argument(
        "--sizes",
        type=int,
        nargs=2,
        default=(64, 512),
        metavar=("D", "C"),
        help="channels of query and key, and of the values (default: 64 512)",
    )
    parser.add_argument("--output", type=Path, default=RESULTS, help="CSV file to write to")
    arguments = parser.parse_args()
    for target in arguments.targets:
        for dtype in arguments.dtypes:
            new = list(rows(target, dtype, arguments.lengths, tuple(arguments.sizes)))
            write(arguments.output, new)
            for row in new:
                print(*row.values(), sep=", ")


if __name__ == "__main__":
    main()
