"""Flags made from the signatures of the commands and from the configuration of a run."""

import argparse
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import MISSING, fields, is_dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal, NoReturn, get_args, get_origin

import docstring_parser

from ccnet import __version__
from ccnet.commands import COMMANDS
from ccnet.config import read_settings, to_yaml
from ccnet.runtime.files import read_yaml, shown
from ccnet.runtime.values import build, checked, flags_of, from_text, nearest, plain, typed

DESCRIPTION = """\
Semantic segmentation with criss-cross attention (CCNet).

    ccnet demo                                          the whole path, on embedded data
    ccnet train --config configs/folder.yaml --data.root FOLDER --run runs/mine
    ccnet predict runs/mine/model PHOTOS --output labels --overlay

Words in flags may be joined by hyphens or by underscores: --num-workers is --num_workers. Every
boolean is a pair of switches: --compile and --no-compile, --model.align-corners and
--model.no-align-corners.

Exit status: 0 for success; 1 when `check-data` finds data unfit or `predict` skips a file; 2 for an
error; 130 after Ctrl-C or SIGTERM."""

OPTIONAL_WORDS = ("folder", "model")
"""Parameters with a default that are words of the command line all the same, and not flags."""
GIVEN = "given"
"""A parameter of this name gets the keys of the configuration that were given, not the defaults."""
FORMER_FLAGS = {"--normalised": "--normalized"}
"""Flags of earlier versions, which are still read, and their present names."""


def parse(arguments: Sequence[str]) -> tuple[str, dict[str, Any]]:
    """The name of a command and the arguments of its function.

    With `train --resume RUN` the configuration of the run comes first, and the flags change it.

    Raises:
        ValueError: a flag is unknown, its value is wrong, or a file of flags is.
    """
    words = normalized(arguments)
    first = next((word for word in words if not word.startswith("-")), None)
    parser = build_parser(first)
    if first not in COMMANDS:
        require_help(parser, words, first)
    words, rest = parser.parse_known_args(words)
    name: str = words.command
    kinds = flags_of_command(name)
    if rest:
        word = rest[0].partition("=")[0]
        meant = nearest(word, [f"--{flag}" for flag in kinds])
        hint = f"; `ccnet {name} --help` lists the flags"
        raise ValueError(f"there is no {' '.join(rest)[:200]}{meant or hint}")
    groups = groups_of(COMMANDS[name])
    owner = {item.name: key for key, kind in groups.items() for item in fields(kind)}
    own = {p.name: p.default for p in parameters_of(COMMANDS[name]) if p.default is not p.empty}
    settings, given = {key: {} for key in groups}, list(words.given)
    for flag, text, _ in given:
        if flag == "resume" and (resumed := Path(text, "config.yaml")).exists():
            settings["config"] = read_settings(resumed)
    for flag, text, is_more in given:
        value = from_text(kinds[flag], text, flag) if isinstance(text, str) else text
        group = owner.get(flag.partition(".")[0])
        if flag == "config":
            merge(settings["config"], read_settings(typed(Path, value, flag)))
        elif group is None:
            own[flag] = typed(kinds[flag], value, flag)
        else:
            is_file = isinstance(value, str) and is_dataclass(plain(kinds[flag]))
            value = read_yaml(typed(Path, value, flag)) if is_file else value
            assign(settings[group], flag, value, is_more=is_more)
    values = {key: checked(kind, settings[key]) for key, kind in groups.items()}
    if GIVEN in inspect.signature(COMMANDS[name]).parameters:
        own[GIVEN] = dict(values["config"])
        if own["folder"] is not None and not words.print_config:
            values["config"] = {}  # what was not given is chosen first, before all is checked
    own |= {key: build(kind, values[key]) for key, kind in groups.items()}
    if words.print_config:
        print(to_yaml(own["config"]), end="")
        raise SystemExit(0)
    return name, own


def require_help(parser: "Parser", words: Sequence[str], first: str | None) -> None:
    """Without a command there is only help; raises ValueError, which names the commands."""
    if first is None and words:
        parser.parse_args(words)  # --help and --version end the process
    wrong = "a command is missing" if first is None else f"there is no command {shown(first)}"
    meant = "" if first is None else nearest(first, list(COMMANDS))
    raise ValueError(f"{wrong}{meant or ';'} the commands are {', '.join(COMMANDS)}")


def assign(settings: dict[str, Any], flag: str, value: Any, *, is_more: bool) -> None:
    """Set a key of nested mappings by its dotted name; a mapping changes the one that is there."""
    *owners, last = flag.split(".")
    for owner in owners:
        if not isinstance(settings.get(owner), dict):
            settings[owner] = {}
        settings = settings[owner]
    if is_more and isinstance(value, list):
        value = [*(settings.get(last) or []), *value]
    merge(settings, {last: value})


def merge(settings: dict[str, Any], others: Mapping[str, Any]) -> None:
    """Add or replace the keys of nested mappings."""
    for key, value in others.items():
        if isinstance(value, dict) and isinstance(settings.get(key), dict):
            merge(settings[key], value)
        else:
            settings[key] = value


def normalized(arguments: Sequence[str]) -> list[str]:
    """The arguments in the spelling that the parser reads.

    `--num-workers` becomes `--num_workers`, `--compile` becomes `--compile=true` and `--no-compile`
    becomes `--compile=false`. A boolean may also have its value, as in a YAML file: `--compile
    false` and `--compile=false` are left as they are.
    """
    command = next((word for word in arguments if word in COMMANDS), None)
    switches = {}
    for name in () if command is None else boolean_flags(command):
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


def flags_of_command(name: str) -> dict[str, Any]:
    """The flags and positional arguments of a command, with the annotations of their values."""
    kinds = {p.name: p.annotation for p in parameters_of(COMMANDS[name])}
    for group, kind in groups_of(COMMANDS[name]).items():
        del kinds[group]
        kinds |= dict(flags_of(kind))
    if name == "train":
        kinds["config"] = Path
    return kinds


def parameters_of(function: Callable[..., int]) -> list[inspect.Parameter]:
    """The parameters that a user gives."""
    return [p for p in inspect.signature(function).parameters.values() if p.name != GIVEN]


def groups_of(function: Callable[..., int]) -> dict[str, Any]:
    """The parameters that are dataclasses: their fields are flags of the command itself."""
    return {p.name: p.annotation for p in parameters_of(function) if is_dataclass(p.annotation)}


def boolean_flags(command: str) -> Iterator[str]:
    """Names of the boolean flags of a command, as in `model.align_corners`."""
    return (name for name, kind in flags_of_command(command).items() if plain(kind) is bool)


def negative(name: str) -> str:
    """The flag that switches a boolean off: `no_compile`, `model.no_align_corners`."""
    owner, dot, own = name.rpartition(".")
    return f"{owner}{dot}no_{own}"


class Parser(argparse.ArgumentParser):
    """A parser whose errors are a ValueError of one line, without the usage."""

    def error(self, message: str) -> NoReturn:
        message = message.replace("the following arguments are required: ", "there is no ")
        raise ValueError(f"{message}; `{self.prog} --help` explains what to write")

    def _print_message(self, message: str, file: Any = None) -> None:
        print(message, end="", file=file)  # argparse passes over its errors


class Given(argparse.Action):
    """Appends (name, value, whether it adds to a list) to `given` in the namespace."""

    def __call__(
        self, parser: Any, namespace: Any, values: Any, option_string: str | None = None
    ) -> None:
        more = (option_string or "").endswith("+")
        namespace.given = [*getattr(namespace, "given", []), (self.dest, values, more)]


class HelpFormatter(argparse.RawDescriptionHelpFormatter):
    """Descriptions as they are written, and a boolean as its pair of switches."""

    def _format_action_invocation(self, action: argparse.Action) -> str:
        if action.metavar != "{true,false}":
            return super()._format_action_invocation(action)
        return f"--{action.dest}, --{negative(action.dest)}"


def build_parser(chosen: str | None) -> Parser:
    """The parser of `ccnet`, with a subcommand for each of `COMMANDS`; the chosen one has flags."""
    parser = Parser("ccnet", "ccnet COMMAND [flags]", DESCRIPTION, formatter_class=HelpFormatter)
    parser.add_argument("--version", action="version", version=f"ccnet {__version__}")
    commands = parser.add_subparsers(
        prog="ccnet",
        title="commands",
        description="`ccnet COMMAND --help` explains each.",
        dest="command",
        required=True,
        metavar=", ".join(COMMANDS),
    )
    for name, function in COMMANDS.items():
        text = docstring_parser.parse(function.__doc__ or "")
        words = [usage_of(word, nargs) for word, nargs in positional(function)]
        command = commands.add_parser(
            name,
            help=text.short_description,
            usage=" ".join(["ccnet", name, *words, "[flags]"]),
            description=text.description,
            formatter_class=HelpFormatter,
            allow_abbrev=False,
            argument_default=argparse.SUPPRESS,
        )
        command.set_defaults(given=[], print_config=False)
        if name == chosen:
            add_flags_of_function(command, name, function)
    return parser


def positional(function: Callable[..., int]) -> list[tuple[str, str | None]]:
    """The arguments that are words, and how many they take, as argparse says it; lists come last.

    These are the parameters without a default, and `OPTIONAL_WORDS`.
    """
    groups = groups_of(function)
    own = [p for p in parameters_of(function) if p.name not in groups]
    words = [p for p in own if p.default is p.empty or p.name in OPTIONAL_WORDS]
    nargs = {p.name: "+" if p.annotation == list[str] else None for p in words}
    nargs |= {p.name: "?" for p in words if p.default is not p.empty}
    return sorted(nargs.items(), key=lambda item: item[1] == "+")


def usage_of(word: str, nargs: str | None) -> str:
    return {None: word, "+": f"{word} [{word} ...]", "?": f"[{word}]"}[nargs]


def add_flags_of_function(parser: Parser, name: str, function: Callable[..., int]) -> None:
    """Flags from a function's parameters: those without a default are positional arguments."""
    text = docstring_parser.parse(function.__doc__ or "")
    help_of = {item.arg_name: item.description or "" for item in text.params}
    groups = groups_of(function)
    words = dict(positional(function))
    for word, nargs in words.items():
        help = help_of[word].replace("%", "%%")
        parser.add_argument(word, action=Given, help=help, nargs=nargs)
    for p in parameters_of(function):
        if p.name not in words and p.name not in groups:
            add_flag(parser, p.name, p.annotation, p.default, help_of.get(p.name, ""))
    if name == "train":
        add_flag(parser, "config", Path, None, "YAML file with any flags below.")
        help = "Print the configuration as YAML and exit."
        parser.add_argument("--print_config", action="store_true", help=help)
    for kind in groups.values():
        add_flags_of_dataclass(parser, kind)


def add_flags_of_dataclass(parser: Parser, kind: Any, owner: str = "") -> None:
    """A group of flags for a dataclass, and one for each dataclass in it."""
    text = docstring_of(kind)
    help_of = {item.arg_name: item.description or "" for item in text.params}
    group = parser.add_argument_group((text.short_description or owner).rstrip("."))
    if owner:
        add_flag(group, owner, kind, None, "The keys below as a mapping, or a YAML file of them.")
    kinds = dict(flags_of(kind))
    inner = [item for item in fields(kind) if is_dataclass(plain(kinds[item.name]))]
    for item in fields(kind):
        if item not in inner:
            default = item.default if item.default_factory is MISSING else None
            help = help_of.get(item.name, "")
            add_flag(
                group, f"{owner}{'.' * bool(owner)}{item.name}", kinds[item.name], default, help
            )
    for item in inner:
        name = f"{owner}{'.' * bool(owner)}{item.name}"
        add_flags_of_dataclass(parser, plain(kinds[item.name]), name)


@cache
def docstring_of(kind: type) -> docstring_parser.Docstring:
    """Of a dataclass with its fields, whose texts are only in its source."""
    return docstring_parser.parse_from_object(kind)


def add_flag(group: Any, name: str, kind: Any, default: Any, text: str) -> None:
    """One flag, whose value is read by `parse`."""
    kind, metavar = plain(kind), name.rpartition(".")[2].upper()
    options = [f"--{name}"]
    if kind is bool:
        metavar = "{true,false}"
        default = default if default is None else "on" if default else "off"
    elif get_origin(kind) is Literal:
        metavar = "{" + ",".join(map(str, get_args(kind))) + "}"
    elif get_origin(kind) is list:
        metavar, options = "[ITEM,...]", [f"--{name}", f"--{name}+"]
    if default not in (None, MISSING):
        text += f" (default: {list(default) if isinstance(default, tuple) else default})"
    help = text.replace("%", "%%")
    group.add_argument(*options, action=Given, dest=name, metavar=metavar, help=help)
