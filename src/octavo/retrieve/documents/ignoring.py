"""Which files a folder wants passed over: `.gitignore` and `.octavoignore`, by git's rules (gitignore(5)).

The last pattern that matches decides, a deeper file after a shallower one; `!` brings a file back, but not out of a
folder that is itself passed over (the walk never enters it).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

FILES = (".gitignore", ".octavoignore")
MAX_BYTES = 1 << 20


@dataclass(frozen=True)
class Pattern:
    """One line: the folder that it speaks of, and the paths below it (`/` between parts) that it means."""

    home: Path
    expression: re.Pattern[str]
    folders_only: bool
    keep: bool


@dataclass(frozen=True)
class Ignore:
    """The patterns that hold in a folder, in order of their say."""

    patterns: tuple[Pattern, ...] = ()

    def within(self, folder: Path) -> Ignore:
        """These patterns and those of the folder's own files."""
        lines: list[Pattern] = []
        for name in FILES:
            file = folder / name
            if file.is_file() and file.stat().st_size <= MAX_BYTES:
                text = file.read_text(encoding="utf-8", errors="surrogateescape")
                lines += [made for line in text.split("\n") if (made := parse(line, folder)) is not None]
        return Ignore((*self.patterns, *lines)) if lines else self

    def matches(self, path: Path, *, is_folder: bool) -> bool:
        """Whether a path is to be passed over."""
        for pattern in reversed(self.patterns):
            if pattern.folders_only and not is_folder:
                continue
            if pattern.expression.fullmatch(path.relative_to(pattern.home).as_posix()):
                return not pattern.keep
        return False


def parse(line: str, home: Path) -> Pattern | None:
    """The pattern that a line of an ignore file states; None for a blank line, a comment, or a broken pattern."""
    line = re.sub(r"(?<!\\) +$", "", line.removesuffix("\r"))
    if not line or line.startswith("#"):
        return None
    keep = line.startswith("!")
    line = line.removeprefix("!")
    folders_only = line.endswith("/")
    line = line.removesuffix("/")
    anchored = "/" in line
    expression = translate(line.removeprefix("/"))
    if expression is None or not line:
        return None
    return Pattern(home, re.compile(expression if anchored else f"(?:.*/)?{expression}", re.S), folders_only, keep)


def translate(glob: str) -> str | None:
    """A gitignore pattern as a regular expression of the whole relative path; None for a bracket without its end."""
    expression, position = "", 0
    while position < len(glob):
        rest = glob[position:]
        starts_part = position == 0 or glob[position - 1] == "/"
        if starts_part and rest.startswith("**/"):
            expression, position = expression + "(?:.*/)?", position + 3
        elif starts_part and rest == "**":
            expression, position = expression + ".+", position + 2
        elif rest[0] == "*":
            expression, position = expression + "[^/]*", position + len(rest) - len(rest.lstrip("*"))
        elif rest[0] == "?":
            expression, position = expression + "[^/]", position + 1
        elif rest[0] == "[":
            bracket = re.match(r"\[([!^]?)(\]?(?:\\.|[^\]\\])*)\]", rest, re.S)
            if bracket is None:
                return None
            body = re.sub(r"\\(.)", r"\1", bracket[2]).replace("\\", r"\\").replace("]", r"\]").replace("[", r"\[")
            expression += f"(?!/)[{'^' if bracket[1] else ''}{body.replace('^', chr(92) + '^')}]"
            position += bracket.end()
        else:
            escaped = rest[0] == "\\" and len(rest) > 1
            expression, position = expression + re.escape(rest[escaped]), position + 1 + escaped
    return expression
