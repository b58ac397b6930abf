"""docs/lecture.md claims nothing that is not there."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
STATES = ("not yet", "part", "done")


@dataclass(frozen=True)
class Row:
    number: int
    system: str
    about: str
    state: str
    command: str
    measured: str
    test: str
    page: str


def read_rows(text: str) -> list[Row]:
    cells = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line.startswith("|")
    ]
    return [Row(int(first), *rest) for first, *rest in cells if first.isdigit()]


def faults(row: Row, commands: set[str]) -> list[str]:
    """What a row claims and does not have."""
    found = []
    if row.state not in STATES:
        found.append(f"state {row.state!r}")
    if row.state == "not yet" and (row.command or row.measured or row.test or row.page):
        found.append("a row that is not yet written has nothing to show")
    if row.state in ("part", "done"):
        command = re.fullmatch(r"`octavo (\w+).*`", row.command)
        if command is None or command[1] not in commands:
            found.append(f"command {row.command!r}")
        found += [f"test {path}" for path in [row.test.strip("`")] if not path or not (ROOT / path).is_file()]
        if not row.measured:
            found.append("no measured figure")
    if row.state == "done" and not (row.page and (ROOT / "docs" / row.page).is_file()):
        found.append(f"page {row.page!r}")
    return found


@pytest.fixture(scope="module")
def rows() -> list[Row]:
    return read_rows((ROOT / "docs/lecture.md").read_text())


@pytest.fixture(scope="module")
def commands() -> set[str]:
    text = subprocess.run([sys.executable, "-m", "octavo", "--help"], capture_output=True, text=True, check=True).stdout
    return set(re.findall(r"^  (\w+)  ", text.partition("Commands:")[2], re.M))


def test_every_system_of_the_lecture_has_its_row(rows: list[Row]) -> None:
    assert [row.number for row in rows] == list(range(1, 59))


def test_each_row_has_what_it_claims(rows: list[Row], commands: set[str]) -> None:
    wrong = {row.system: found for row in rows if (found := faults(row, commands))}
    assert wrong == {}


def test_the_readme_counts_the_rows_as_they_are(rows: list[Row]) -> None:
    counts = {state: sum(row.state == state for row in rows) for state in STATES}
    readme = re.sub(r"\s+", " ", (ROOT / "README.md").read_text())
    claim = (
        f"{counts['done']} are done, {counts['part']} are there in part, and {counts['not yet']} are not yet written"
    )
    assert claim in readme


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        (Row(1, "x", "", "done", "`octavo run X`", "1", "`tests/nowhere.py`", "lecture.md"), "test tests/nowhere.py"),
        (
            Row(1, "x", "", "done", "`octavo fly X`", "1", "`tests/conftest.py`", "lecture.md"),
            "command '`octavo fly X`'",
        ),
        (Row(1, "x", "", "done", "`octavo run X`", "1", "`tests/conftest.py`", "systems/x.md"), "page 'systems/x.md'"),
        (Row(1, "x", "", "part", "`octavo run X`", "", "`tests/conftest.py`", ""), "no measured figure"),
        (Row(1, "x", "", "soon", "", "", "", ""), "state 'soon'"),
        (Row(1, "x", "", "not yet", "`octavo run X`", "", "", ""), "nothing to show"),
    ],
)
def test_a_false_claim_is_caught(row: Row, expected: str, commands: set[str]) -> None:
    found = faults(row, commands)
    assert len(found) == 1 and expected in found[0]
