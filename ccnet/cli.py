"""From the command line to a command: flags made of its signature, errors as one clear line."""

import inspect
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

import docstring_parser
from jsonargparse import ArgumentParser, Namespace, set_parsing_settings

from ccnet import __version__
from ccnet.commands import COMMANDS
from ccnet.config import TrainConfig
from ccnet.runtime.launch import is_launched, launch_processes

# what says by itself what is wrong; ImportError names an extra that isn't installed
EXPECTED = (
    ValueError,
    OSError,
    ArithmeticError,
    MemoryError,
    NotImplementedError,
    ImportError,
)


def main(arguments: list[str] | None = None) -> None:
    parser = build_parser()
    given = sys.argv[1:] if arguments is None else arguments
    parsed = parse(parser, [with_underscores(argument) for argument in given])
    name = parsed.subcommand
    try:
        flags = dict(vars(parser.instantiate(parsed)[name]))
        if name == "train":
            flags.pop("config")
            own = {key: flags.pop(key) for key in ("run", "init", "resume")}
            flags = {"config": TrainConfig(**flags), **own}
        status = None
        if "devices" in flags:  # `train` starts its processes itself, once its run has a name
            status = launch_processes(flags["devices"], flags["num_nodes"], given)
        if status is None:
            status = COMMANDS[name](**flags)
    except EXPECTED as error:
        notes = "".join(f"\n  {note}" for note in getattr(error, "__notes__", ()))
        where = f", process {os.environ['RANK']}" if "RANK" in os.environ else ""
        message = f"{without_traceback(str(error))}{notes}"
        print(f"ccnet {name}{where}: {message}", file=sys.stderr)
        status = 2
    except KeyboardInterrupt:
        print(f"\nccnet {name}: stopped", file=sys.stderr)
        status = 130
    leave(status)


def parse(parser: ArgumentParser, arguments: Sequence[str]) -> Namespace:
    """The flags; those of `train --resume` are changes of the run's own configuration."""
    parsed = parser.parse_args(arguments)
    resume = parsed.train.resume if parsed.subcommand == "train" else None
    own = None if resume is None else Path(resume, "config.yaml")
    if own is None or not own.is_file():
        return parsed
    after = arguments.index("train") + 1
    return parser.parse_args([*arguments[:after], f"--config={own}", *arguments[after:]])


def leave(status: int) -> NoReturn:
    """End the process; one of several ends at once, without taking the interpreter down.

    Threads of gloo and FSDP that still wait for the interpreter then abort a process now and then
    whose work is done.
    """
    if is_launched():
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
    sys.exit(status)


def without_traceback(message: str) -> str:
    """The error itself of one that a loader's worker process handed on with its traceback."""
    if "Original Traceback" not in message:
        return message
    lines = message.rstrip().split("\n")
    last_frame = max(index for index, line in enumerate(lines) if line.startswith("  "))
    return "\n".join(lines[last_frame + 1 :])


def with_underscores(argument: str) -> str:
    """--num-workers=2 means --num_workers=2."""
    flag, equals, value = argument.partition("=")
    if not flag.startswith("--"):
        return argument
    return "--" + flag[2:].replace("-", "_") + equals + value


def build_parser() -> ArgumentParser:
    set_parsing_settings(
        docstring_parse_attribute_docstrings=True, instantiate_subclass_spec_in_any=False
    )
    parser = ArgumentParser(
        prog="ccnet",
        version=__version__,
        description="Semantic segmentation with criss-cross attention (CCNet).",
    )
    commands = parser.add_subcommands()
    for name, function in COMMANDS.items():
        text = docstring_parser.parse(function.__doc__ or "")
        command = ArgumentParser(description=text.description)
        help_of = {item.arg_name: item.description for item in text.params}
        parameters = inspect.signature(function).parameters.values()
        switches = [p.name for p in parameters if p.annotation is bool]
        lists = [p.name for p in parameters if p.annotation == list[str]]
        command.add_function_arguments(
            function, as_group=False, as_positional=True, skip={"config", *switches, *lists}
        )
        for switch in switches:
            command.add_argument(f"--{switch}", action="store_true", help=help_of[switch])
        for several in lists:
            command.add_argument(several, nargs="+", help=help_of[several])
        if name == "train":
            command.add_argument("--config", action="config", help="YAML file of the flags below.")
            command.add_class_arguments(TrainConfig)
        commands.add_subcommand(name, command, help=text.short_description)
    return parser
