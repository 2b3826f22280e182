"""Flags: their help, booleans as switches, configurations in YAML, values that are refused."""

import inspect
import re
import shlex
import typing
from contextlib import redirect_stdout
from dataclasses import fields, is_dataclass
from functools import cache, reduce
from io import StringIO
from pathlib import Path

import docstring_parser
import pytest

from ccnet.commands import COMMANDS
from ccnet.config import TrainConfig
from ccnet.flags import DESCRIPTION, boolean_flags, groups_of, negative, parse
from tests.commands import ROOT, run_python, status


def booleans(owner: object, prefix: str = "") -> dict[str, bool]:
    """Names and defaults of all booleans of a function or a dataclass, however deep they lie."""
    hints = typing.get_type_hints(owner)
    if is_dataclass(owner):
        defaults = {field.name: field.default for field in fields(owner)}
    else:
        defaults = {p.name: p.default for p in inspect.signature(owner).parameters.values()}
    found = {}
    for name, default in defaults.items():
        inner = f"{prefix}{name}." if is_dataclass(owner) else ""
        for part in (hints[name], *typing.get_args(hints[name])):
            if part is bool:
                found[prefix + name] = default
            elif is_dataclass(part):
                found |= booleans(part, inner)
    return found


BOOLEANS = [
    (command, name, default)
    for command, function in COMMANDS.items()
    for name, default in booleans(function).items()
]
OF_CONFIGURATIONS = [("train", name, default) for name, default in booleans(TrainConfig).items()]


def positional(command: str) -> list[str]:
    parameters = inspect.signature(COMMANDS[command]).parameters.values()
    own = ("config", "given")
    return [p.name for p in parameters if p.default is p.empty and p.name not in own]


def value_of(command: str, name: str, *flags: str, after: bool = True) -> object:
    words = [command, *positional(command)] if after else [command]
    _, arguments = parse([*words, *flags, *([] if after else positional(command))])
    if name in arguments:
        return arguments[name]
    (group,) = (
        g for g in groups_of(COMMANDS[command]) if hasattr(arguments[g], name.split(".")[0])
    )
    return reduce(getattr, name.split("."), arguments[group])


@cache
def help_of(command: str) -> str:
    """What `ccnet COMMAND --help` prints, on one line."""
    with redirect_stdout(StringIO()) as out:
        assert status(command, "--help") == 0
    return " ".join(out.getvalue().split())


def test_booleans_are_many_and_some_are_nested():
    names = {(command, name) for command, name, _ in BOOLEANS}
    assert {("train", "compile"), ("train", "model.align_corners")} <= names
    assert {("predict", "overlay"), ("export", "labels"), ("convert", "overwrite")} <= names
    for command, _function in COMMANDS.items():
        assert {name for c, name in names if c == command} == set(boolean_flags(command))


@pytest.mark.slow
@pytest.mark.parametrize(("command", "name", "default"), BOOLEANS)
def test_every_boolean_is_a_pair_of_switches(command, name, default):
    on, off = f"--{name}", f"--{negative(name)}"
    assert value_of(command, name) is default
    for flag in (on, on.replace("_", "-")):
        assert value_of(command, name, flag) is True
    for flag in (off, off.replace("_", "-")):
        assert value_of(command, name, flag) is False
    assert value_of(command, name, off, on) is True
    assert value_of(command, name, on, off) is False


@pytest.mark.parametrize(("command", "name", "default"), BOOLEANS)
@pytest.mark.slow
def test_a_boolean_may_have_its_value_as_in_yaml(command, name, default):
    for value in (True, False):
        for text in (str(value), str(value).lower()):
            assert value_of(command, name, f"--{name}={text}") is value
            assert value_of(command, name, f"--{name}", text) is value


@pytest.mark.parametrize(("command", "name", "default"), BOOLEANS)
def test_help_shows_both_switches_and_the_default(command, name, default):
    text = help_of(command)
    (said,) = re.findall(rf"--{name}, --{negative(name)} (.*?)(?= --|$)", text)
    shown = {True: " (default: on)", False: " (default: off)", None: ""}[default]
    assert said.endswith(shown)
    assert len(said) > 10 + len(shown)
    assert "{true,false" not in text


def test_a_boolean_that_may_be_null_is_a_pair_of_switches_too(monkeypatch, capsys):
    def command(ceil_mode: bool | None = None) -> int:
        """Tell the value.

        Args:
            ceil_mode: Whether sizes are rounded up.
        """
        print(ceil_mode)
        return 0

    monkeypatch.setitem(COMMANDS, "demo", command)
    for flags, value in (
        ([], None),
        (["--ceil-mode"], True),
        (["--no-ceil-mode"], False),
        (["--ceil-mode", "null"], None),
        (["--ceil-mode=false"], False),
    ):
        assert status("demo", *flags) == 0
        assert capsys.readouterr().out == f"{value}\n"
    assert status("demo", "--help") == 0
    assert "--ceil_mode, --no_ceil_mode" in capsys.readouterr().out


@pytest.mark.parametrize("command", ["predict", "export", "convert"])
def test_a_switch_before_the_arguments_takes_none_of_them(command):
    assert value_of(command, "overwrite", "--overwrite", after=False) is True


@pytest.mark.parametrize("flags", [["--compile=maybe"], ["--compile=3"]])
def test_another_value_of_a_boolean_is_refused_by_its_name(flags, capsys):
    assert status("train", *flags) == 2
    assert "compile must be true or false, got" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "value"), [("[1, 2.5]", [1.0, 2.5]), ("auto", "auto"), ("null", None)]
)
def test_a_flag_may_take_a_list_or_a_word(text, value):
    _, arguments = parse(["train", f"--loss.class-weights={text}"])
    assert arguments["config"].loss.class_weights == value


def test_switches_change_a_configuration_file(tmp_path):
    file = tmp_path / "c.yaml"
    file.write_text("compile: true\nchannels_last: false\nmodel: {align_corners: true}")
    name = "model.align_corners"
    for flags, found in (([], True), (["--model.no-align-corners"], False)):
        assert value_of("train", name, f"--config={file}", *flags) is found
    assert value_of("train", "compile", f"--config={file}", "--no-compile") is False
    assert value_of("train", "compile", f"--config={file}") is True
    assert value_of("train", "channels_last", f"--config={file}", "--channels-last") is True


@pytest.mark.parametrize(("command", "name", "default"), OF_CONFIGURATIONS)
@pytest.mark.slow
def test_resuming_keeps_the_run_s_booleans_unless_a_switch_is_given(
    command, name, default, tmp_path
):
    *owner, own = name.split(".")
    text = f"{own}: {str(not default).lower()}"
    (tmp_path / "config.yaml").write_text(f"{owner[0]}: {{{text}}}" if owner else text)
    resume = f"--resume={tmp_path}"
    assert value_of(command, name, resume) is (not default)
    switch = f"--{name}" if default else f"--{negative(name)}"
    assert value_of(command, name, resume, switch) is bool(default)
    assert value_of(command, name, switch, resume) is bool(default)


def test_a_word_may_be_left_out(monkeypatch):
    assert parse(["train"])[1]["folder"] is None
    assert parse(["train", "--steps=3"])[1]["folder"] is None
    for words in (["photos", "--steps=3"], ["--steps=3", "photos"]):
        _, arguments = parse(["train", *words])
        assert arguments["folder"] == Path("photos")
        assert arguments["given"] == {"steps": 3}  # the rest is chosen later
    assert "usage: ccnet train [folder] [flags]" in help_of("train")


@pytest.mark.parametrize(
    "words", [["--num-workers", "3"], ["--num_workers=3"], ["--num-workers=3"]], ids=" ".join
)
def test_words_of_a_flag_are_joined_by_hyphens_or_underscores(words):
    assert value_of("train", "num_workers", *words) == 3


@pytest.mark.parametrize("words", [["--run=a-b_c"], ["--run", "a-b_c"]], ids=" ".join)
def test_values_keep_their_hyphens(words):
    assert value_of("train", "run", *words) == Path("a-b_c")


def examples(text: str) -> list[str]:
    """The commands that a text shows, indented."""
    return re.findall(r"^ +(ccnet .*?)(?: {3,}.*)?$", text, re.MULTILINE)


@pytest.mark.parametrize("command", COMMANDS)
def test_help_teaches_every_command(command):
    text = docstring_parser.parse(COMMANDS[command].__doc__ or "")
    shown = help_of(command)
    assert len(text.short_description) < 80
    assert text.short_description in shown
    assert 2 <= len(examples(text.long_description)) <= 4
    assert all(example in shown for example in examples(text.long_description))
    parameters = inspect.signature(COMMANDS[command]).parameters.keys()
    parameters -= {*groups_of(COMMANDS[command]), "given"}
    assert {item.arg_name for item in text.params} == parameters
    for item in text.params:
        assert " ".join(item.description.split()) in shown.replace("fine- tuning", "fine-tuning")


EXAMPLES = [
    *examples(DESCRIPTION),
    *(e for function in COMMANDS.values() for e in examples(function.__doc__ or "")),
]


@pytest.mark.parametrize("example", EXAMPLES)
def test_every_example_of_the_help_is_a_command(example, monkeypatch):
    monkeypatch.chdir(ROOT)
    parse(shlex.split(example)[1:])


def test_help_lists_every_command_with_its_summary(capsys):
    assert status("--help") == 0
    out = " ".join(capsys.readouterr().out.split())
    for command, function in COMMANDS.items():
        summary = docstring_parser.parse(function.__doc__ or "").short_description
        assert f"{command} {summary}" in out
    assert "--no-compile" in out


def test_the_help_of_no_command_loads_torch():
    program = """
import sys
from ccnet.cli import main
from ccnet.commands import COMMANDS
from ccnet.config import TrainConfig
for command in COMMANDS:
    try:
        main([command, "--help"])
    except SystemExit as stop:
        assert stop.code == 0, command
print("torch" in sys.modules)
"""
    assert run_python(program).split()[-1] == "False"


@pytest.mark.parametrize("arguments", [("train", "--stepz", "3"), ("train", "--steps", "many")])
def test_wrong_flags_are_refused(arguments, capsys):
    assert status(*arguments) == 2
    assert arguments[1].strip("-") in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [(), ("predicts",)], ids=["none", "misspelled"])
def test_without_a_command_those_there_are_are_named(arguments, capsys):
    assert status(*arguments) == 2
    error = capsys.readouterr().err
    assert all(command in error for command in ("train", "predict"))
