"""The command line: exit statuses, signals, errors as one clear line, and no code in values."""

import contextlib
import errno
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from subprocess import PIPE

import pytest

from ccnet.cli import error_line
from ccnet.commands import COMMANDS
from tests.commands import environment, status


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("evaluate", "nowhere", "--data", "scenes"), "no model folder at nowhere"),
        (("predict", "nowhere", "nothing.jpg"), "no images at nothing.jpg"),
        (("check-data", "nowhere"), "nowhere"),
        (("train", "--resume", "nowhere"), "no run to resume"),
        (("train", "--data.name", "camvid"), "needs `root`, the folder"),
        (("train", "--steps", "0"), "steps must be a whole number from 1 to 1000000000, got '0'"),
        (("predict", "m", "i.png", "--devices", "0"), "devices must be ≥ 1, got 0"),
        (("evaluate", "m", "--num-nodes", "2"), "2 nodes have to find each other"),
        (("train", "--device", "foo"), "got 'foo'"),
        (("train", "--device", "cuda"), "no cuda device"),
        (("train", "--resume", "runs/x", "--run", "runs/y"), "no --run or --init with it"),
    ],
    ids=lambda value: value[0] if isinstance(value, tuple) else "",
)
def test_errors_are_one_clear_line(arguments, words, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert status(*arguments) == 2
    error = capsys.readouterr().err
    assert words in error
    assert "Traceback" not in error
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("value", [0, 1, 2, 130])
def test_the_exit_status_is_the_command_s(value, monkeypatch):
    def command(number: int = value) -> int:
        """Return a status.

        Args:
            number: The status.
        """
        return number

    monkeypatch.setitem(COMMANDS, "demo", command)
    assert status("demo") == value


@pytest.mark.parametrize(
    ("error", "expected", "said"),
    [
        (ValueError("no good"), 2, "ccnet demo: no good\n"),
        (FileNotFoundError("no file"), 2, "ccnet demo: no file\n"),
        (ImportError("pip install it"), 2, "ccnet demo: pip install it\n"),
        (KeyboardInterrupt(), 130, "\nccnet demo: stopped\n"),
    ],
)
def test_an_expected_error_is_a_status_and_a_line(error, expected, said, monkeypatch, capsys):
    def command() -> int:
        """Raise the error."""
        raise error

    monkeypatch.setitem(COMMANDS, "demo", command)
    assert status("demo") == expected
    assert capsys.readouterr().err == said


def test_a_fault_of_the_program_keeps_its_traceback(monkeypatch):
    def command() -> int:
        """Raise an error that no user can mend."""
        raise AssertionError("ours")

    monkeypatch.setitem(COMMANDS, "demo", command)
    with pytest.raises(AssertionError, match="ours"):
        status("demo")


def test_an_error_line_names_the_process_and_holds_notes(monkeypatch):
    error = ValueError("bad")
    error.add_note("in part 3")
    assert error_line("train", error) == "ccnet train: bad; in part 3"
    monkeypatch.setenv("RANK", "2")
    assert error_line("train", error).startswith("ccnet train, process 2: bad")


def test_the_traceback_of_a_worker_process_is_left_out():
    message = (
        "Caught DataError in DataLoader worker process 0.\n"
        "Original Traceback (most recent call last):\n"
        '  File "worker.py", line 1, in loop\n'
        "    data = fetch(index)\n"
        "ccnet.images.reading.DataError: a.png: no such file.\n"
    )
    assert error_line("train", ValueError(message)) == "ccnet train: a.png: no such file."


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: 9"), "can't all"),
        (MemoryError(), "it ended with a MemoryError"),
        (PermissionError(errno.EACCES, "Permission denied", "a/b"), "a/b: it cannot be read, "),
        (IsADirectoryError(errno.EISDIR, "Is a directory", b"a\xff"), "a\\\\udcff: it is a folder"),
        (ValueError("x" * 10**5), "x" * 100),
        (ValueError("photo\x1b[2J\udcff.jpg: broken"), r"photo\\x1b\[2J\\udcff.jpg: broken"),
    ],
    ids=["memory of torch", "memory", "permission", "folder", "long", "control characters"],
)
def test_an_error_line_is_short_and_printable(error, said, monkeypatch, capsys):
    def command() -> int:
        """Raise the error."""
        raise error

    monkeypatch.setitem(COMMANDS, "demo", command)
    assert status("demo") == 2
    line = capsys.readouterr().err
    assert re.match(f"ccnet demo: .*{said}", line)
    assert len(line) < 2100
    assert line.count("\n") == 1


def test_an_import_that_a_signal_breaks_off_is_a_stop(monkeypatch, capsys):
    def command() -> int:
        """Be stopped, as while a module in C is imported."""
        with contextlib.suppress(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGTERM)
        raise ImportError("initialization failed")

    monkeypatch.setitem(COMMANDS, "demo", command)
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    assert status("demo") == 130
    assert capsys.readouterr().err == "\nccnet demo: stopped\n"
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["SIGINT", "SIGTERM"])
@pytest.mark.parametrize("seconds", [0.06, 0.15, 0.3, 0.6])
@pytest.mark.slow
def test_a_signal_while_modules_are_imported_is_a_line(number, seconds, tmp_path):
    """What happens before the package's first line is Python's own."""
    program = "import time; from ccnet.__main__ import main; print('begun', flush=True); main()"
    command = [sys.executable, "-c", program, "demo", "--run", str(tmp_path / "run")]
    process = subprocess.Popen(command, env=environment(), stdout=PIPE, stderr=PIPE, text=True)
    assert process.stdout is not None
    process.stdout.readline()
    time.sleep(seconds)
    process.send_signal(number)
    _, error = process.communicate(timeout=120)
    assert process.returncode == 130, error
    assert "Traceback" not in error
    assert "stopped" in error


def run_shell(line: str, folder: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """A line of the shell in which `$CCNET` is the command, run in a folder."""
    variables = {**environment(), "CCNET": f"{sys.executable} -m ccnet", **variables}
    return subprocess.run(
        ["bash", "-c", line], cwd=folder, env=variables, capture_output=True, text=True, check=False
    )


@pytest.mark.slow
def test_output_that_nobody_takes_is_one_line(tmp_path):
    for line, said in (
        ("$CCNET --help > /dev/full", "standard output, or a file, takes no more"),
        ("$CCNET --help >&-", "standard output is closed"),
        (
            "set -o pipefail; (sleep 1; $CCNET --help) | true",
            "standard output, or a file, takes no more",
        ),
    ):
        for unbuffered in ("", "1"):
            result = run_shell(line, tmp_path, PYTHONUNBUFFERED=unbuffered)
            assert result.returncode == 2, line
        assert said in result.stderr
        assert result.stderr.count("\n") == 1, result.stderr
    result = run_shell("$CCNET --help 2>&-", tmp_path)
    assert (result.returncode, result.stderr) == (2, "")
    assert "standard error is closed" in result.stdout
    assert run_shell("$CCNET nothing 2> /dev/full", tmp_path).returncode == 2


@pytest.mark.slow
def test_modules_in_the_current_folder_are_not_imported(tmp_path):
    for name in ("yaml", "numpy", "docstring_parser", "argparse", "hostile"):
        (tmp_path / f"{name}.py").write_text(f"print('{name} ran')")
    for word in ("--version", "train --print_config", "train --model hostile.Model"):
        result = run_shell(f"$CCNET {word}", tmp_path)
        assert " ran" not in result.stdout + result.stderr, word
        assert "Traceback" not in result.stderr


CODE = "hostile_module_of_the_test"
WAYS = [
    f"model: {{class_path: {CODE}.Model}}",
    f"class_path: {CODE}.Model",
    f"data: {{augment: {{class_path: {CODE}.Model, init_args: {{crop_size: [4, 4]}}}}}}",
    f"data: {{augment: {CODE}.Model}}",
    f"data: {CODE}.Model",
    f"optimizer: {CODE}.Model",
    f"optimizer: !!python/object/apply:{CODE}.Model []",
    f"model: !!python/name:{CODE}.Model ''",
    f"__path__: {CODE}.Model",
    f"model: {{__path__: {CODE}.py, dict_kwargs: {{a: 1}}}}",
    f"recompute: [!!python/module:{CODE} '']",
    f"model: {{backbone: {CODE}.Model}}",
]
FLAGS = [
    *(["--model", f"{CODE}.Model"], ["--model.class_path", f"{CODE}.Model"]),
    *(["--data.augment", f"{CODE}.Model"], ["--data.augment.help", f"{CODE}.Model"]),
    *(["--data.augment.class_path", f"{CODE}.Model"], ["--data.augment.init_args.x", "1"]),
    *(["--config", f"{{model: {{class_path: {CODE}.Model}}}}"], ["--optimizer", CODE]),
    *(["--run", f"{CODE}.Model", "--steps", "x"], ["--data.name", f"{CODE}.Model"]),
]


@pytest.mark.parametrize("way", WAYS)
def test_no_file_of_flags_runs_code(way, tmp_path, monkeypatch, capsys):
    place_trap(tmp_path, monkeypatch)
    (tmp_path / "config.yaml").write_text(f"{way}\nsteps: 0\n")
    for words in (["--config=config.yaml"], ["--resume=."], ["--model=config.yaml"]):
        assert status("train", *words) == 2
        assert re.fullmatch(r"ccnet train: .*\n", capsys.readouterr().err)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("words", FLAGS, ids=" ".join)
def test_no_flag_runs_code(words, tmp_path, monkeypatch, capsys):
    place_trap(tmp_path, monkeypatch)
    assert status("train", *words) == 2
    assert re.fullmatch(r"ccnet train: .*\n", capsys.readouterr().err)
    assert not (tmp_path / "ran").exists()


def place_trap(folder: Path, monkeypatch) -> None:
    """A module that leaves a file when it is imported, where Python looks for modules first."""
    (folder / f"{CODE}.py").write_text(f"open({str(folder / 'ran')!r}, 'w')\nclass Model: pass\n")
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(str(folder))
