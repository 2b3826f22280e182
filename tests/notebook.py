"""Runs the notebook of examples/ and writes it back with its outputs, without what varies.

python -m tests.notebook
"""

import base64
import io
import os
import re
import sys
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient
from PIL import Image

NOTEBOOK = Path(__file__).parents[1] / "examples" / "own_data.ipynb"
METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}
"""All that stays: versions of the machine and times of execution would change with each run."""
KINDS = ("image/png", "text/plain")
OVERWRITTEN = re.compile(r"[^\n]*\r(?!\n)|\x1b\[[0-9;?]*[A-Za-z]")
"""What a progress bar drew over, and codes of a terminal."""
SUCCEEDED = "\nassert _exit_code == 0, f'the command ended with status {_exit_code}'"


def executed(path: Path = NOTEBOOK) -> Any:
    """The notebook with the outputs of a run by this Python.

    Raises:
        CellExecutionError: a cell raises an error, or a command fails.
    """
    notebook = nbformat.read(path, as_version=4)
    sources = [cell.source for cell in notebook.cells]
    for cell in notebook.cells:
        if cell.cell_type == "code" and re.search(r"^!", cell.source, re.MULTILINE):
            cell.source += SUCCEEDED
    environment = {
        **os.environ,
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
        "PYTHONWARNINGS": "ignore:IProgress not found",  # of a Jupyter without widgets
    }
    NotebookClient(notebook, timeout=600, kernel_name="python3").execute(env=environment)
    for cell, source in zip(notebook.cells, sources, strict=True):
        cell.source = source
    return stripped(notebook)


def stripped(notebook: Any) -> Any:
    """The notebook without times, versions, counts of execution and what was overwritten."""
    notebook.metadata = nbformat.from_dict(METADATA)
    for number, cell in enumerate(notebook.cells):
        cell.id, cell.metadata = f"cell-{number:02}", nbformat.from_dict({})
        if cell.cell_type == "code":
            cell.execution_count = None
            cell.outputs = joined([plain(output) for output in cell.outputs])
    return notebook


def plain(output: Any) -> Any:
    """An output without what varies; pictures have few colors."""
    if output.output_type == "execute_result":
        output.execution_count = None
    if "data" in output:
        output.metadata = nbformat.from_dict({})
        output.data = {kind: value for kind, value in output.data.items() if kind in KINDS}
        if "image/png" in output.data:
            output.data["image/png"] = with_few_colors(output.data["image/png"])
    return output


def with_few_colors(png: str) -> str:
    picture, content = Image.open(io.BytesIO(base64.b64decode(png))), io.BytesIO()
    if picture.mode == "P":  # it has few already
        return png
    picture.convert("RGB").quantize(64, dither=Image.Dither.NONE).save(
        content, "png", optimize=True
    )
    return base64.b64encode(content.getvalue()).decode()


def joined(outputs: list[Any]) -> list[Any]:
    """Texts that follow each other on one stream as one; what was overwritten is gone."""
    kept: list[Any] = []
    for output in outputs:
        if kept and kept[-1].get("name") == output.get("name") is not None:
            kept[-1].text += output.text
        else:
            kept.append(output)
    for output in kept:
        if "text" in output:
            output.text = OVERWRITTEN.sub("", output.text.replace("\r\n", "\n"))
    return [output for output in kept if output.get("text") != ""]


if __name__ == "__main__":
    nbformat.write(executed(), NOTEBOOK)
