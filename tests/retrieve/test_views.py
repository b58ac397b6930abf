"""What a reader is given of a passage: columns' names beside their cells, and every character known by its place."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from octavo.generate.tasks.reading import Reader
from octavo.retrieve.documents import Document
from octavo.retrieve.documents.formats.markdown import find_spans
from octavo.retrieve.passages import Splitting, prepare
from octavo.retrieve.reader import read
from octavo.retrieve.stores.store import Hit, Passage, Place
from octavo.retrieve.views import View, view

TABLE = (
    "| Model | Released | Licence |\n| --- | :-: | --- |\n| T5 | 2019/10 | [Apache 2.0](https://example.org/a_(b)c) |\n"
    "| Bloom | 2022/11 |  |\n|[Falcon](http://x.org)<!--7-->|2023/05| Apache \\| 2.0 |\n"
)
CELLS = st.lists(st.sampled_from(["", "a", "b c", "[link](http://x)", "鴨子", " ", "\\|", "x:y", "--"]), max_size=5)
LINES = st.one_of(CELLS.map("|".join), CELLS.map(lambda cells: f"| {' | '.join(cells)} |"), st.just("prose."))


def passage(text: str, context: str = "") -> Passage:
    return Passage("models.md", "abc", Place(40, 40 + len(text), line=2, context=context), text)


def check(made: View, text: str) -> None:
    """Each character that may be answered with is the passage's own, in the passage's order."""
    passed = {at for start, end in made.unsaid for at in range(start, end)}
    said = [at for at in range(len(made.text)) if at not in passed]
    assert len(made.places) == len(made.text)
    assert [made.text[at] for at in said] == [text[made.places[at]] for at in said]
    places = [made.places[at] for at in said]
    assert places == sorted(set(places))
    bounds = [place for found in made.unsaid for place in found]
    assert bounds == sorted(bounds)


def test_a_row_is_read_with_the_names_of_its_columns() -> None:
    made = view(passage(TABLE, "Models > Open\nModel | Released | Licence"))
    assert made.text == (
        "Models > Open\n\nModel: T5; Released: 2019/10; Licence: Apache 2.0.\n\n"
        "Model: Bloom; Released: 2022/11.\n\nModel: Falcon; Released: 2023/05; Licence: Apache \\| 2.0.\n\n"
    )
    check(made, TABLE)
    start = made.text.index("Apache 2.0")
    assert TABLE[slice(*made.range(start, start + 10))] == "Apache 2.0"


def test_a_passage_without_a_table_is_read_as_it_is() -> None:
    assert view(passage(TABLE)).text == TABLE
    made = view(passage("Ducks | geese.", "Birds"))
    assert made.text == "Birds\n\nDucks | geese." and made.unsaid == [(0, 7)]
    assert made.range(7, 12) == (0, 5)


def test_two_tables_have_their_own_names() -> None:
    text = "A | B\n1 | 2\n\nC | D\n3 | 4"
    assert view(passage(text, "t\nA | B\nC | D")).text == "t\n\nA: 1; B: 2.\n\n\nC: 3; D: 4.\n\n"


@given(st.lists(LINES, max_size=8).map("\n".join), st.sampled_from(["", "a", "a\nb | c", "a\nb | c\nd |  | e"]))
def test_every_character_has_its_place(text: str, context: str) -> None:
    check(view(passage(text, context)), text)


def test_each_passage_of_a_long_table_has_its_names_and_whole_rows() -> None:
    rows = "".join(f"| name {number} | {number * 7} | {'x' * 40} |\n" for number in range(60))
    wide = f"| wide | {'word ' * 100}| 77 |\n"
    text = f"Before.\n\n| Name | Size | Mark |\n|---|---|---|\n{rows}{wide}| last | 1 | 2 |\n\nAfter.\n"
    document = Document("t.md", "Table", text, "text/markdown", find_spans(text))
    prepared = prepare("t.md", "", document, Splitting(400, 40), None)
    seen = [(place.context, text[place.start : place.end]) for place in prepared.places]
    assert max(len(said) for _, said in seen) <= 400
    within = [(context, said) for context, said in seen if "name " in said]
    assert all(context == "Table\nName | Size | Mark" for context, _ in within)
    assert all(line.count("|") == 4 for _, said in within for line in said.split("\n"))
    last = next((context, said) for context, said in seen if said.endswith("77 |"))
    assert last[0] == "Table > wide\nSize | Mark"
    assert "Mark: 77" in view(passage(last[1], last[0])).text
    assert (seen[0][0], seen[-1][0]) == ("Table", "Table")


def test_a_cell_is_found_by_its_columns_name_and_cited_where_it_stands() -> None:
    rows = [("T5", "2019/10", "Apache 2.0", "512"), ("YaLM-100B", "2022/06", "MIT", "1024")]
    text = "| Model | Released | Licence | Context length |\n|---|---|---|---|\n"
    text += "".join(f"| {' | '.join(row)} |\n" for row in rows)
    hit = Hit(passage(text, "Models\nModel | Released | Licence | Context length"), 1.0)
    with Reader.load() as reader:
        for question, wanted in (
            ("When was YaLM-100B released?", "2022/06"),
            ("What is the context length of YaLM-100B?", "1024"),
        ):
            found = read(reader, question, [hit])
            assert text[found.start : found.end] == found.text == wanted
            assert found.start > text.index("YaLM")


def test_what_is_unsaid_is_no_answer(tmp_path: Path) -> None:
    text = "The Seine flows through Paris."
    with Reader.load() as reader:
        plain = reader.answer("Which river flows through Paris?", [text])
        assert plain.text == "Seine" or plain.text == "The Seine"
        other = reader.answer("Which river flows through Paris?", [text], None, [[(0, 9)]])
        assert other.start >= 9
        none = reader.read("Which river flows through Paris?", [text], [[(0, len(text))]])[0]
        assert none.no_answer_score == float("inf")


@pytest.mark.parametrize("columns", ["", "Only"])
def test_a_table_of_one_column_or_without_names_is_read_as_it_is(columns: str) -> None:
    assert view(passage("a\nb", f"t\n{columns}" if columns else "t")).text.endswith("a\nb")
