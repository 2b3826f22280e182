"""The command line: flags made from the commands' signatures, and errors as one clear line."""

import argparse
import inspect
import os
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import is_dataclass
from pathlib import Path
from typing import Any, NoReturn

import docstring_parser
from jsonargparse import ArgumentParser, DefaultHelpFormatter, Namespace, set_parsing_settings

from ccnet import __version__
from ccnet.commands import COMMANDS
from ccnet.config import TrainConfig
from ccnet.runtime.launch import is_launched, launch_processes

DESCRIPTION = """\
Semantic segmentation with criss-cross attention (CCNet).

    ccnet demo                                          the whole path, on embedded data
    ccnet train --config configs/folder.yaml --data.root FOLDER --run runs/mine
    ccnet predict runs/mine/model PHOTOS --output labels --overlay

Words in flags may be joined by hyphens or by underscores: --num-workers is --num_workers. Every
boolean is a pair of switches: --compile and --no-compile, --model.align-corners and
--model.no-align-corners.

Exit status: 0 for success; 1 when `check-data` finds data unfit or `predict` skips a file; 2 for an
error; 130 after Ctrl-C."""

FORMER_FLAGS = {"--normalised": "--normalized"}
"""Flags of earlier versions, which are still read, and their present names."""

# errors whose message explains itself; an ImportError names the extra that is not installed
EXPECTED = (
    ValueError,
    OSError,
    ArithmeticError,
    MemoryError,
    NotImplementedError,
    ImportError,
)


def main(arguments: list[str] | None = None) -> None:
    """Run one command and end the process.

    The exit status is 0 for success, 1 where the command did its work and found something wrong
    (`check-data`, `predict`), 2 for an error and 130 after Ctrl-C.

    Args:
        arguments: The words after `ccnet`; those of the process by default.
    """
    given = sys.argv[1:] if arguments is None else arguments
    parser = build_parser()
    parsed = parse(parser, given)
    name = parsed.subcommand
    try:
        flags = command_arguments(name, vars(parser.instantiate(parsed)[name]))
        status = None
        if "devices" in flags:  # `train` starts its processes itself, once its run has a name
            status = launch_processes(flags["devices"], flags["num_nodes"], given)
        if status is None:
            status = COMMANDS[name](**flags)
    except EXPECTED as error:
        print(error_line(name, error), file=sys.stderr)
        status = 2
    except KeyboardInterrupt:
        print(f"\nccnet {name}: stopped", file=sys.stderr)
        status = 130
    leave(status)


def command_arguments(name: str, flags: dict[str, Any]) -> dict[str, Any]:
    """The arguments of a command's function; the flags of `train` are gathered in a TrainConfig."""
    if name != "train":
        return dict(flags)
    parameters = inspect.signature(COMMANDS["train"]).parameters.keys() - {"config"}
    fields = {key: value for key, value in flags.items() if key not in {"config", *parameters}}
    return {"config": TrainConfig(**fields), **{key: flags[key] for key in parameters}}


def error_line(name: str, error: BaseException) -> str:
    """What a user reads of an error: the command, the process if there are several, the message."""
    process = f", process {os.environ['RANK']}" if "RANK" in os.environ else ""
    notes = "".join(f"\n  {note}" for note in getattr(error, "__notes__", ()))
    return f"ccnet {name}{process}: {without_traceback(str(error))}{notes}"


def without_traceback(message: str) -> str:
    """The message alone of an error that a data loader's worker passed on with its traceback."""
    if "Original Traceback" not in message:
        return message
    lines = message.rstrip().split("\n")
    last_frame = max(index for index, line in enumerate(lines) if line.startswith("  "))
    return re.sub(r"^[\w.]+: ", "", "\n".join(lines[last_frame + 1 :]))  # without the error's class


def leave(status: int) -> NoReturn:
    """End the process with an exit status.

    One process of several ends at once, without finalizing the interpreter: threads of gloo and
    FSDP that still wait for it would now and then abort a process whose work is done.
    """
    if is_launched():
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
    sys.exit(status)


def parse(parser: ArgumentParser, arguments: Sequence[str]) -> Namespace:
    """Parse a command and its flags.

    With `train --resume RUN` the configuration of the run comes first, and the flags change it.
    """
    arguments = normalized(arguments)
    parsed = parser.parse_args(arguments)
    resume = parsed.train.resume if parsed.subcommand == "train" else None
    own = None if resume is None else Path(resume, "config.yaml")
    if own is None or not own.is_file():
        return parsed
    after = arguments.index("train") + 1
    return parser.parse_args([*arguments[:after], f"--config={own}", *arguments[after:]])


def normalized(arguments: Sequence[str]) -> list[str]:
    """The arguments in the spelling that the parser reads.

    `--num-workers` becomes `--num_workers`, `--compile` becomes `--compile=true` and `--no-compile`
    becomes `--compile=false`. A boolean may also have its value, as in a YAML file: `--compile
    false` and `--compile=false` are left as they are.
    """
    command = next((word for word in arguments if word in COMMANDS), None)
    switches = {}
    for name in () if command is None else boolean_flags(COMMANDS[command]):
        switches |= {f"--{name}": f"--{name}=true", f"--{negative(name)}": f"--{name}=false"}
    words = [with_underscores(word) for word in arguments]
    has_value = [word.lower() in ("true", "false", "null") for word in [*words[1:], ""]]
    return [
        word if valued else switches.get(word, word)
        for word, valued in zip(words, has_value, strict=False)
    ]


def with_underscores(word: str) -> str:
    """The flag --num-workers=2 as --num_workers=2; every other word as it is."""
    flag, equals, value = word.partition("=")
    if not flag.startswith("--"):
        return word
    flag = FORMER_FLAGS.get(flag, flag)
    return "--" + flag[2:].replace("-", "_") + equals + value


def boolean_flags(function: Callable[..., Any], owner: str = "") -> Iterator[str]:
    """Names of the boolean flags of a function or a dataclass, as in `model.align_corners`."""
    for parameter in inspect.signature(function).parameters.values():
        if parameter.annotation in (bool, bool | None):
            yield owner + parameter.name
        elif parameter.annotation is TrainConfig:  # its fields are flags of the command itself
            yield from boolean_flags(TrainConfig)
        elif isinstance(parameter.annotation, type) and is_dataclass(parameter.annotation):
            yield from boolean_flags(parameter.annotation, f"{owner}{parameter.name}.")


def negative(name: str) -> str:
    """The flag that switches a boolean off: `no_compile`, `model.no_align_corners`."""
    owner, dot, own = name.rpartition(".")
    return f"{owner}{dot}no_{own}"


class HelpFormatter(DefaultHelpFormatter, argparse.RawDescriptionHelpFormatter):
    """Descriptions as they are written, a boolean as its pair of switches, defaults, no types."""

    def _format_action_invocation(self, action: argparse.Action) -> str:
        if action.metavar not in ("{true,false}", "{true,false,null}"):  # those of a boolean
            return super()._format_action_invocation(action)
        (flag,) = action.option_strings
        return f"{flag}, --{negative(flag.removeprefix('--'))}"

    def _get_help_string(self, action: argparse.Action) -> str:
        if action.default is argparse.SUPPRESS:  # --help itself
            return super()._get_help_string(action)
        text = action.help or ""
        if isinstance(action.default, bool):
            return f"{text} (default: {'on' if action.default else 'off'})"
        if not action.option_strings or action.default in (None, []):
            return text
        return f"{text} (default: %(default)s)"


def build_parser() -> ArgumentParser:
    """The parser of `ccnet`, with a subcommand for each of `COMMANDS`."""
    set_parsing_settings(
        docstring_parse_attribute_docstrings=True, instantiate_subclass_spec_in_any=False
    )
    parser = ArgumentParser(
        prog="ccnet",
        usage="ccnet COMMAND [flags]",
        version=__version__,
        formatter_class=HelpFormatter,
        description=DESCRIPTION,
    )
    commands = parser.add_subcommands(
        prog="ccnet", title="commands", description="`ccnet COMMAND --help` explains each."
    )
    for name, function in COMMANDS.items():
        summary = docstring_parser.parse(function.__doc__ or "").short_description
        commands.add_subcommand(name, build_command_parser(name, function), help=summary)
    return parser


def build_command_parser(name: str, function: Callable[..., int]) -> ArgumentParser:
    """Flags from a function's parameters: those without a default are positional arguments."""
    text = docstring_parser.parse(function.__doc__ or "")
    help_of = {item.arg_name: item.description for item in text.params}
    parameters = inspect.signature(function).parameters.values()
    lists = [p.name for p in parameters if p.annotation == list[str]]
    required = [p.name for p in parameters if p.default is p.empty and p.name != "config"]
    words = [f"{p} [{p} ...]" if p in lists else p for p in required]
    parser = ArgumentParser(
        usage=" ".join(["ccnet", name, *words, "[flags]"]),
        description=text.description,
        formatter_class=HelpFormatter,
    )
    parser.add_function_arguments(
        function, as_group=False, as_positional=True, skip={"config", *lists}
    )
    for several in lists:
        parser.add_argument(several, nargs="+", help=help_of[several])
    if name == "train":
        parser.add_argument("--config", action="config", help="YAML file with any flags below.")
        parser.add_class_arguments(TrainConfig)
    return parser
