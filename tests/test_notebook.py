"""The notebook of examples/: it runs, and its committed outputs are small and do not vary."""

import re
from pathlib import Path

import pytest

nbformat = pytest.importorskip("nbformat", reason="needs nbclient and ipykernel: the dev extra")
pytest.importorskip("nbclient", reason="needs nbclient and ipykernel: the dev extra")
pytest.importorskip("ipykernel", reason="needs nbclient and ipykernel: the dev extra")

from tests.notebook import METADATA, NOTEBOOK, executed, stripped

ROOT = Path(__file__).parents[1]


def read(path: Path = NOTEBOOK):
    return nbformat.read(path, as_version=4)


def kinds(notebook) -> list[list[str]]:
    """Of each code cell the kinds of its outputs."""
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    return [
        [name for output in cell.outputs for name in sorted(output.get("data", ["text"]))]
        for cell in cells
    ]


def texts(notebook) -> str:
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    return "\n".join(output.get("text", "") for output in outputs)


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_the_notebook_runs_and_shows_what_was_committed():
    found = executed()
    assert kinds(found) == kinds(read())
    (miou,) = re.findall(r"best mean IoU .*: (0\.\d+)", texts(found))
    assert float(miou) > 0.9


@pytest.mark.slow
def test_a_notebook_that_does_not_run_is_an_error(tmp_path):
    from nbclient.exceptions import CellExecutionError

    for source in ("raise OSError", "!false", "!ccnet train --no-such-flag\nprint('more')"):
        notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source)])
        nbformat.write(notebook, tmp_path / "wrong.ipynb")
        with pytest.raises(CellExecutionError):
            executed(tmp_path / "wrong.ipynb")


def test_the_committed_notebook_has_no_times_versions_or_paths():
    notebook = read()
    assert notebook == stripped(read())
    assert notebook.metadata == METADATA
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert all(
        cell.outputs for cell in code if "\nprint(" in cell.source or "subplots" in cell.source
    )
    assert not re.search(
        r"Traceback|Warning|\x1b|/home/|/root/|/tmp/|site-packages", texts(notebook)
    )
    assert NOTEBOOK.stat().st_size < 300_000


def test_what_varies_is_taken_out():
    output = nbformat.v4.new_output("execute_result", {"text/plain": "3", "text/html": "<p>"})
    bar = [
        nbformat.v4.new_output("stream", text=text)
        for text in ("1/2\r2", "/2\x1b[?25h\r\n", "end\n")
    ]
    output.execution_count, output.metadata = 7, {"time": "now"}
    cell = nbformat.v4.new_code_cell("3", execution_count=7, outputs=[*bar, output])
    cell.metadata = {"execution": {"iopub.execute_input": "2026-01-01"}}
    notebook = nbformat.v4.new_notebook(
        cells=[cell], metadata={"language_info": {"name": "python", "version": "3"}}
    )
    (found,) = stripped(notebook).cells
    assert found.execution_count is None is found.outputs[1].execution_count
    assert found.metadata == found.outputs[1].metadata == {}
    assert found.outputs[0].text == "2/2\nend\n"
    assert found.outputs[1].data == {"text/plain": "3"}


def test_pages_that_the_notebook_names_exist():
    for page in re.findall(r"`(docs/\S+\.md)`", str(read().cells)):
        assert (ROOT / page).exists()
