"""Rows make sense alone; functions and classes are found where they stand."""

from __future__ import annotations

import ast
import json
from pathlib import Path

import pytest

from octavo.errors import FormatError
from octavo.retrieve.documents import read
from octavo.retrieve.documents.formats.code import layout_symbols, python_symbols


def test_a_csv_row_carries_the_names_of_its_columns(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text('name;born;note\nAda;1815;"a; b\nc"\nAlan;1912;\n')
    document = read(path)
    assert document.text == "name: Ada\nborn: 1815\nnote: a; b\nc\n\nname: Alan\nborn: 1912"
    assert [(span.kind, span.label) for span in document.spans] == [("row", "1"), ("row", "2")]


def test_a_tsv_and_a_single_row_are_read(tmp_path: Path) -> None:
    (tmp_path / "a.tsv").write_text("x\ty\n1\t2\t3\n")
    assert read(tmp_path / "a.tsv").text == "x: 1\ny: 2\n3"
    (tmp_path / "b.csv").write_text("only,names\n")
    assert read(tmp_path / "b.csv").text == "only\nnames"


def test_json_lines_are_flattened_and_broken_ones_reported(tmp_path: Path) -> None:
    rows = [{"a": {"b": 1}, "c": ["x", "y"]}, {"d": [{"e": True}], "f": None}]
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps(rows[0]) + "\n{oops\n" + json.dumps(rows[1]) + "\n" + "[" * 100000 + "\n")
    document = read(path)
    assert document.text == "a.b: 1\nc: x, y\n\nd.0.e: true"
    assert document.warnings == ("2 of its lines are not JSON and left out (line 2, 4)",)
    path.write_text("no json\n")
    with pytest.raises(FormatError, match="line 1 is not JSON"):
        read(path)


def test_every_definition_of_the_standard_library_s_modules_is_found() -> None:
    for module in (ast, json):
        source = Path(module.__file__).read_text(encoding="utf-8")
        spans = python_symbols(source)
        for span in spans:
            first = source[span.start : span.end].lstrip().split("\n")
            name = span.label.rpartition(".")[2]
            assert any(f"def {name}" in line or f"class {name}" in line for line in first)
            assert span.start == 0 or source[span.start - 1] == "\n"
        guessed = {(span.label.rpartition(".")[2], span.end) for span in layout_symbols(source, "python")}
        parsed = {(span.label.rpartition(".")[2], span.end) for span in spans}
        assert len(parsed & guessed) > 0.9 * len(parsed)


def test_python_that_does_not_parse_is_read_with_a_warning(tmp_path: Path) -> None:
    path = tmp_path / "old.py"
    path.write_text("def f():\n    print 'two'\n\ndef g():\n    pass\n")
    document = read(path)
    assert [span.label for span in document.spans] == ["f", "g"]
    assert "line 2" in document.warnings[0]


RUST = """use std::fmt;

/// A point.
#[derive(Debug)]
pub struct Point { x: i32 }

impl Point {
    pub fn new() -> Self
    {
        Point { x: 0 }
    }
}

fn main() {
    println!("{}", 1);
}
"""
JAVASCRIPT = "export const add = (a, b) =>\n  a + b\nasync function go() {\n  await x()\n}\n"
C = "static int add(int a, int b)\n{\n\treturn a + b;\n}\n\nint x = 3;\n"
GO = "func (s *Server) Run(port int) error {\n\treturn nil\n}\n"


@pytest.mark.parametrize(
    ("language", "source", "expected"),
    [
        ("rust", RUST, ["Point", "Point", "new", "main"]),
        ("javascript", JAVASCRIPT, ["add", "go"]),
        ("c", C, ["add"]),
        ("go", GO, ["Run"]),
    ],
)
def test_other_languages_are_read_by_layout(language: str, source: str, expected: list[str]) -> None:
    spans = layout_symbols(source, language)
    assert [span.label for span in spans] == expected
    texts = [source[span.start : span.end] for span in spans]
    if language == "rust":
        assert texts[0].startswith("/// A point.\n#[derive") and texts[1].endswith("    }\n}\n")
        assert spans[2].level == 2 and texts[2].strip().endswith("}")
    if language == "c":
        assert texts == ["static int add(int a, int b)\n{\n\treturn a + b;\n}\n"]


def test_lines_end_at_newlines_alone(tmp_path: Path) -> None:
    path = tmp_path / "a.rs"
    path.write_text("// a\u2028b\x0cc\n\nfn go() {\n    x\n}\n\nfn on() {}\n")
    document = read(path)
    assert [document.text[span.start : span.end] for span in document.spans] == [
        "fn go() {\n    x\n}\n",
        "fn on() {}\n",
    ]


def test_a_lone_surrogate_does_not_reach_the_text(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"a": "x\\ud800y"}\n')
    assert read(path).text == "a: x\ufffdy"
