"""The blocks of code in a page of the documentation, in order."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), *(ROOT / "examples").glob("*.md")]
)
PROGRAMS = ("ccnet", "make", "pip", "python", "srun", "torchrun", "uv")
BLOCK = re.compile(
    r"^```(?P<language>\w*)\n(?P<fenced>.*?)^```$"
    r"|(?<=\n\n)(?P<indented>(?: {4,}\S[^\n]*\n(?:\n(?= {4}))?)+)",
    re.MULTILINE | re.DOTALL,
)
"""A fenced block, or lines that are indented by four blanks or more after an empty line."""


@dataclass(frozen=True)
class Block:
    """A block of code: its kind, its text without indentation, and the line where it begins."""

    kind: str
    """python, yaml, text (what the block before prints), commands, or what is only read:
    files (a listing), equation, arrows, batch (a SLURM script)."""
    text: str
    line: int


def blocks_of(page: Path) -> Iterator[Block]:
    """Raises ValueError for a block of no known kind, so that none is passed over in silence."""
    text = page.read_text()
    for match in BLOCK.finditer(text):
        line = text[: match.start()].count("\n") + 1
        if (fenced := match["fenced"]) is not None:
            if match["language"] not in ("python", "yaml", "text"):
                raise ValueError(f"{page.name}:{line}: a block of {match['language'] or 'nothing'}")
            yield Block(match["language"], fenced, line)
        elif (indented := match["indented"]) and not is_in_list(text, match.start()):
            yield Block(kind_of(indented, f"{page.name}:{line}"), unindented(indented), line)


def is_in_list(text: str, start: int) -> bool:
    """Whether the indented lines are a paragraph of a list item, which has prose and no code."""
    indent = len(text[start:]) - len(text[start:].lstrip(" "))
    before = text[:start].rstrip("\n").rpartition("\n\n")[2]
    return indent < 6 and re.match(r"(?:[-*]|\d+\.) ", before) is not None


def unindented(text: str) -> str:
    lines = text.splitlines()
    width = min(len(line) - len(line.lstrip()) for line in lines if line)
    return "\n".join(line[width:] for line in lines) + "\n"


def kind_of(indented: str, place: str) -> str:
    first = indented.split()[0]
    if first in PROGRAMS or (first == "#" and commands_of(unindented(indented))):
        return "commands"
    if first == "#SBATCH":
        return "batch"
    if first.startswith("FOLDER/"):
        return "files"
    if " → " in indented and "=" not in indented:
        return "arrows"
    if " = " in indented or "Σ" in indented or "·" in indented:
        return "equation"
    raise ValueError(f"{place}: a block of no known kind, which begins with {first}")


def commands_of(text: str) -> list[str]:
    """The commands of a block, with lines that go on joined and without comments."""
    lines = re.sub(r"\\\n\s*", " ", text).splitlines()
    commands = (re.sub(r"(?:^|\s+)#(?:\s.*)?$", "", line).strip() for line in lines)
    return [command for command in commands if command]
