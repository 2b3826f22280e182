"""The command line: exit statuses, and errors as one clear line."""

import pytest

from ccnet.cli import error_line
from ccnet.commands import COMMANDS
from tests.commands import status


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
    assert error_line("train", error) == "ccnet train: bad\n  in part 3"
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
