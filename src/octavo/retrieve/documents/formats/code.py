"""Source code: the text itself, with its functions and classes as symbols.

Python is parsed by its own `ast`. Other languages are read by layout: a line that opens a definition, up to the next
line that is indented no deeper and closes nothing. That is a heuristic; it needs no parser of a dozen languages, and a
unit that it misses is only a worse place to cut.
"""

from __future__ import annotations

import ast
import re
import warnings
from pathlib import Path
from typing import Final

from octavo.retrieve.documents.document import Document, Limits, Span, canonical, in_order
from octavo.retrieve.documents.encoding import decode
from octavo.retrieve.documents.formats.plain import said_of

LANGUAGES: Final[dict[str, str]] = {
    **dict.fromkeys((".py", ".pyi"), "python"),
    **dict.fromkeys((".js", ".mjs", ".cjs", ".jsx"), "javascript"),
    **dict.fromkeys((".ts", ".tsx", ".mts"), "typescript"),
    **dict.fromkeys((".c", ".h"), "c"),
    **dict.fromkeys((".cc", ".cpp", ".cxx", ".hpp", ".hh", ".cu", ".cuh"), "cpp"),
    **dict.fromkeys((".sh", ".bash"), "shell"),
    ".rs": "rust", ".go": "go", ".java": "java", ".kt": "kotlin", ".scala": "scala", ".cs": "csharp", ".swift": "swift",
    ".php": "php", ".rb": "ruby", ".lua": "lua", ".jl": "julia", ".r": "r", ".hs": "haskell", ".sql": "sql",
}  # fmt: skip
"""Suffix to language."""

_DEFINITION = re.compile(
    r"(?:(?:pub(?:\([^)]*\))?|export|default|public|private|protected|internal|static|async|abstract|final|override|"
    r"virtual|inline|unsafe|extern|open|sealed|data|partial|local|const|mut|constexpr)\s+)*"
    r"(?:fn|func|fun|function|class|struct|enum|union|trait|impl|interface|protocol|extension|namespace|module|mod|"
    r"package|object|record|def|sub|macro_rules!|create\s+(?:or\s+replace\s+)?(?:table|view|function|procedure))\b\*?\s*"
    r"(?:<[^>]*>\s*)?(?:\([^)]*\)\s*)?([\w.:$]+)?",
    re.I,
)
_ARROW = re.compile(
    r"(?:export\s+)?(?:const|let|var)\s+([\w$]+)\s*(?::[^=]+)?=\s*(?:async\s*)?(?:\([^)]*\)|[\w$]+)\s*=>"
)
_C_FUNCTION = re.compile(r"(?!(?:if|for|while|switch|return|else|do)\b)[\w:*&<>,~\[\] \t]*?[\s*&]([\w:~]+)\s*\([^;]*$")
_C_LIKE = frozenset(("c", "cpp", "java", "csharp"))
_CLOSES = re.compile(r"[})\]]|end\b|\{|else\b|where\b|fi\b|done\b|esac\b")
_LEADS = re.compile(r"//|#\[|#(?!include|define|if|endif|else|pragma)|/\*|\*|@|--")
LONGEST_DEFINITION = 500  # characters of a line


def read(path: Path, limits: Limits) -> Document:
    """The document of a source file. Raises FormatError for bytes that are no text."""
    decoded = decode(path.read_bytes())
    text = canonical(decoded.text)
    language = LANGUAGES[path.suffix.lower()]
    said = list(decoded.warnings)
    spans: tuple[Span, ...]
    if language == "python":
        try:
            spans = python_symbols(text)
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            spans = layout_symbols(text, language)
            line = f" (line {error.lineno})" if isinstance(error, SyntaxError) else ""
            said.append(f"not Python 3 that parses{line}; its functions are guessed from the layout")
    else:
        spans = layout_symbols(text, language)
    metadata = {"language": language, **said_of(decoded)}
    return Document(str(path), path.name, text, f"text/x-{language}", spans, metadata, tuple(said))


def python_symbols(text: str) -> tuple[Span, ...]:
    """Classes, their members, and functions of Python source, decorators included. Raises SyntaxError."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SyntaxWarning)  # such as an invalid escape: not ours to mend
        tree = ast.parse(text)
    starts = _line_starts(text)
    spans: list[Span] = []

    def visit(body: list[ast.stmt], names: tuple[str, ...]) -> None:
        for node in body:
            if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
                end = starts[node.end_lineno or node.lineno] if (node.end_lineno or 0) < len(starts) else len(text)
                label = (*names, node.name)
                spans.append(Span("symbol", starts[first - 1], end, ".".join(label), len(label)))
                if isinstance(node, ast.ClassDef):
                    visit(node.body, label)
            elif isinstance(node, ast.If | ast.Try):
                visit(node.body, names)

    visit(tree.body, ())
    return in_order(spans)


def layout_symbols(text: str, language: str) -> tuple[Span, ...]:
    """Definitions of any other language, found by their first line and their indentation."""
    lines = text.split("\n")
    starts = _line_starts(text)
    spans: list[Span] = []
    open_symbols: list[tuple[int, int]] = []  # (indentation, end) of the definitions that hold this line
    for number, line in enumerate(lines):
        name = _defined(line, language)
        if name is None:
            continue
        indentation = _indentation(line)
        last = _last_line(lines, number, indentation)
        open_symbols = [(depth, end) for depth, end in open_symbols if end > number and depth < indentation]
        first = number
        while first and _LEADS.match(lines[first - 1].lstrip()) and _indentation(lines[first - 1]) == indentation:
            first -= 1
        end = starts[last + 1] if last + 1 < len(starts) else len(text)
        spans.append(Span("symbol", starts[first], end, name, len(open_symbols) + 1))
        open_symbols.append((indentation, last))
    return in_order(spans)


def _defined(line: str, language: str) -> str | None:
    """The name that a line begins to define; None for any other line."""
    if len(line) > LONGEST_DEFINITION:
        return None
    bare = line.strip()
    if found := _DEFINITION.match(bare):
        return found[1] or bare[:40]
    if language in ("javascript", "typescript") and (found := _ARROW.match(bare)):
        return found[1]
    depth_allowed = language in ("java", "csharp") or not line[:1].isspace()
    if language in _C_LIKE and depth_allowed and (found := _C_FUNCTION.match(bare)):
        return found[1]
    return None


def _last_line(lines: list[str], number: int, indentation: int) -> int:
    """The last line of the definition that begins at a line: closers at its own depth belong to it."""
    last = number
    for at in range(number + 1, len(lines)):
        bare = lines[at].strip()
        if bare and _indentation(lines[at]) <= indentation:
            if _indentation(lines[at]) < indentation or not _CLOSES.match(bare):
                break
            last = at
        elif bare:
            last = at
    return last


def _indentation(line: str) -> int:
    bare = line.lstrip(" \t")
    return len(line[: len(line) - len(bare)].expandtabs(4))


def _line_starts(text: str) -> list[int]:
    return [0, *(found.end() for found in re.finditer("\n", text))]
