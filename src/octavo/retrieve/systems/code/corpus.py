"""Functions of Python source with what they are said to do: what CodeT5+ is trained on and searches.

By default the standard library of the interpreter that runs, which is always there. A function's text is the first
paragraph of its docstring; its code is its source without the docstring.
"""

from __future__ import annotations

import ast
import sysconfig
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from octavo.errors import OctavoError

SKIPPED = ("test", "tests", "idlelib", "lib2to3", "site-packages", "__pycache__", "turtledemo")
LEAST_WORDS = 3


@dataclass(frozen=True)
class Function:
    """path: from the folder that was read. line: of its `def`, from 1."""

    path: str
    line: int
    name: str
    text: str
    code: str


def standard_library() -> Path:
    """The folder of the running interpreter's modules."""
    return Path(sysconfig.get_path("stdlib"))


def read_functions(folder: Path) -> list[Function]:
    """Functions with a docstring of three words or more, in the order of paths and lines.

    Source that is not valid Python is passed over. Raises OctavoError where there is none.
    """
    found: list[Function] = []
    for path in sorted(folder.rglob("*.py")):
        inner = path.relative_to(folder)
        if not any(part in SKIPPED for part in inner.parts):
            found.extend(_functions(path, inner.as_posix()))
    if not found:
        raise OctavoError(f"{folder} holds no Python function with a docstring")
    return found


def _functions(path: Path, name: str) -> Iterator[Function]:
    try:
        source = path.read_text(encoding="utf-8")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of escapes in the source that is read
            tree = ast.parse(source)
    except (OSError, SyntaxError, ValueError, RecursionError):
        return
    lines = source.splitlines(keepends=True)
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            text = " ".join((ast.get_docstring(node) or "").split("\n\n")[0].split())
            if len(text.split()) >= LEAST_WORDS and len(node.body) > 1:
                yield Function(name, node.lineno, node.name, text, _code(lines, node))


def _code(lines: list[str], node: ast.FunctionDef | ast.AsyncFunctionDef) -> str:
    """Its source, dedented, without its docstring."""
    said = node.body[0]
    kept = [*lines[node.lineno - 1 : said.lineno - 1], *lines[said.end_lineno or said.lineno : node.end_lineno]]
    indent = len(kept[0]) - len(kept[0].lstrip())
    return "".join(line[indent:] if line[:indent].isspace() else line for line in kept).rstrip() + "\n"
