"""Reading files that anybody may have written: regular files only, of bounded size, without code.

A FIFO or a device among a user's files would make a program wait for ever, a small YAML file can
stand for gigabytes, and a text in another encoding is no text. Each of them is a `DataError` here,
which names the file, the cause and what would work.
"""

import errno
import json
import os
import reprlib
import stat
from pathlib import Path
from typing import Any, BinaryIO

MAX_TEXT = 1 << 20
"""Bytes of a text file, such as a configuration or a description, that is read as a whole."""
MAX_DEPTH = 20
"""Levels of lists and mappings inside each other."""

CAUSES = {
    errno.ENOENT: "no such file",
    errno.EACCES: "it cannot be read, since this user has no permission to",
    errno.EPERM: "it cannot be read, since this user has no permission to",
    errno.EISDIR: "it is a folder, not a file",
    errno.ENOTDIR: "no such file, since a part of its path is no folder",
    errno.ELOOP: "it is a loop of symbolic links",
    errno.ENAMETOOLONG: "its name is longer than the file system allows",
}
"""Error numbers of files that cannot be opened, and what they mean."""

KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a FIFO (named pipe)",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


class DataError(ValueError):
    """A file that cannot be used; the message names it and says what would work."""

    def __init__(self, message: str, *, path: Path | None = None):
        super().__init__(message)
        self.path = path


def open_regular(path: Path) -> BinaryIO:
    """Open a regular file, or a link to one, for reading.

    Raises:
        FileNotFoundError, PermissionError, ...: it cannot be opened.
        DataError: it is a folder, a FIFO, a socket or a device, which might never end.
    """
    require_regular(path)
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    descriptor = os.open(path, flags)  # not blocking, should a FIFO have taken its place
    try:
        _require_mode(path, os.fstat(descriptor).st_mode)
        return os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def require_regular(path: Path) -> None:
    """Raise as `open_regular` does, for files that a library opens itself."""
    _require_mode(path, os.stat(path).st_mode)  # noqa: PTH116 - also for paths given as str


def require_folder(path: Path) -> None:
    """Raise DataError, with the cause, if a path is no folder whose names can be read."""
    try:
        with os.scandir(path):
            pass
    except NotADirectoryError:
        kind = KINDS.get(stat.S_IFMT(path.stat().st_mode), "a file") if path.exists() else ""
        cause = f"it is {kind}, not a folder" if kind else CAUSES[errno.ENOTDIR]
        raise DataError(f"{path}: {cause}.", path=path) from None
    except (OSError, ValueError) as error:  # ValueError: a NUL character
        cause = cause_of(error) if isinstance(error, OSError) else str(error)
        cause = cause.replace("no such file", "no such folder").replace("read", "opened")
        raise DataError(f"{path}: {cause}.", path=path) from None


def _require_mode(path: Path, mode: int) -> None:
    if not stat.S_ISREG(mode):
        kind = KINDS.get(stat.S_IFMT(mode), "no regular file")
        raise DataError(f"{path}: it is {kind}; only regular files are read.", path=Path(path))


def cause_of(error: OSError) -> str:
    """Why a file cannot be opened, in words."""
    return CAUSES.get(error.errno or 0) or error.strerror or str(error)


def read_bytes(path: Path, max_bytes: int = MAX_TEXT) -> bytes:
    """The content of a small file.

    Raises:
        DataError: the file cannot be read, is no regular file, or is larger than `max_bytes`.
    """
    try:
        with open_regular(path) as file:
            content = file.read(max_bytes + 1)
    except OSError as error:
        raise DataError(f"{path}: {cause_of(error)}.", path=path) from error
    if len(content) > max_bytes:
        raise DataError(
            f"{path}: larger than {max_bytes:,} bytes, which no file of its kind needs.", path=path
        )
    return content


def read_text(path: Path, max_bytes: int = MAX_TEXT) -> str:
    """The content of a small text file in UTF-8, with or without a byte order mark.

    Raises:
        DataError: as `read_bytes`, or the content is not UTF-8.
    """
    content = read_bytes(path, max_bytes)
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise DataError(
            f"{path}, line {line}: not text in UTF-8; save the file in this encoding.", path=path
        ) from None


def read_yaml(path: Path) -> Any:
    """The value in a YAML file of plain scalars, lists and mappings.

    Raises:
        DataError: as `read_text`, the text is not YAML, or it has aliases (which can stand for
            gigabytes), a key twice, or more than `MAX_DEPTH` levels.
    """
    return parse_yaml(read_text(path), path)


def parse_yaml(text: str, path: Path) -> Any:
    """The value of a YAML text, read from `path`; raises DataError as `read_yaml`."""
    import yaml

    try:
        return yaml.load(text, _plain_loader())
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = "" if mark is None else f", line {mark.line + 1}"
        problem = error.problem or error.context or "not valid"
        raise DataError(f"{path}{place}: cannot be read as YAML: {problem}.", path=path) from None
    except Exception as error:  # a constructor of PyYAML may raise anything on a wrong value
        reason = str(error).partition("\n")[0][:200] or type(error).__name__
        raise DataError(f"{path}: cannot be read as YAML: {reason}.", path=path) from None


def _plain_loader() -> type:
    """PyYAML's SafeLoader without aliases, repeated keys and deep nesting."""
    import yaml

    class PlainLoader(yaml.SafeLoader):
        depth = 0

        def compose_node(self, parent: Any, index: Any) -> Any:
            mark = self.peek_event().start_mark
            if self.check_event(yaml.AliasEvent):
                raise yaml.MarkedYAMLError(problem="aliases are not read", problem_mark=mark)
            self.depth += 1
            if self.depth > MAX_DEPTH:
                problem = f"more than {MAX_DEPTH} levels of lists and mappings"
                raise yaml.MarkedYAMLError(problem=problem, problem_mark=mark)
            node = super().compose_node(parent, index)
            self.depth -= 1
            return node

        def construct_mapping(self, node: Any, deep: bool = False) -> Any:
            keys = [(key.tag, key.value) for key, _ in node.value if isinstance(key.value, str)]
            for index, key in enumerate(keys):
                if key in keys[:index]:
                    raise yaml.MarkedYAMLError(
                        problem=f"the key {shown(key[1])} is there twice",
                        problem_mark=node.start_mark,
                    )
            return super().construct_mapping(node, deep)

    return PlainLoader


def read_json(path: Path, max_bytes: int = MAX_TEXT) -> Any:
    """The value in a JSON file.

    Raises:
        DataError: as `read_text`, the text is not JSON, or it has nan, infinity or a key twice.
    """
    text = read_text(path, max_bytes)
    try:
        return json.loads(text, parse_constant=_refuse_constant, object_pairs_hook=_without_repeats)
    except (ValueError, RecursionError) as error:
        reason = "too many levels" if isinstance(error, RecursionError) else str(error)
        raise DataError(f"{path}: cannot be read as JSON: {reason}.", path=path) from None


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is no number of JSON")


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) < len(pairs):
        keys = [key for key, _ in pairs]
        repeated = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"the key {shown(repeated)} is there twice")
    return content


def shown(value: object) -> str:
    """A value as it is quoted in a message: its repr, shortened where it is long or nested."""
    short = reprlib.Repr()
    short.maxlevel, short.maxstring, short.maxother = 3, 80, 80
    short.maxlist = short.maxtuple = short.maxdict = 8
    try:
        return short.repr(value)
    except ValueError:  # Python writes no whole number of more than 4300 digits
        return f"a {type(value).__name__} with a very long number"


def printable(text: object) -> str:
    """Text for a terminal: line breaks, control characters and what is no Unicode as escapes."""
    return "".join(
        character if character.isprintable() else repr(character)[1:-1] for character in str(text)
    )
