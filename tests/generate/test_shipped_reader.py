"""The reader that comes with the package: small, without torch, right on plain questions and, slowly, on SQuAD 2.0."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from octavo.generate.tasks.reading import SHIPPED, Reader
from octavo.metrics.answers import score_answers
from octavo.train.reading.questions import read_questions

PASSAGES = [
    "Geese fly south in autumn and rest on lakes.",
    "Mallards eat weed and snails. A hen lays 13 eggs, which hatch after 28 days.",
    "The treaty between the two cities was signed in 1843 by Anna Berg.",
    "中華民國首都位於臺北市，人口約兩百五十萬。",
]


@pytest.fixture(scope="module")
def reader() -> Iterator[Reader]:
    with Reader.load() as loaded:
        yield loaded


def test_it_is_small_and_says_what_it_was_trained_on() -> None:
    assert sum(file.stat().st_size for file in SHIPPED.iterdir()) <= 25_000_000
    assert {file.suffix for file in SHIPPED.iterdir()} == {".json", ".md", ".safetensors", ".txt"}
    card = (SHIPPED / "README.md").read_text(encoding="utf-8")
    for source in ("SQuAD 2.0", "Natural Questions", "DRCD", "CC BY-SA 4.0", "recipes/reader.toml"):
        assert source in card


@pytest.mark.parametrize(
    ("question", "passage", "answer"),
    [
        ("What do mallards eat?", 1, "weed and snails"),
        ("When do geese fly south?", 0, "autumn"),
        ("When was the treaty signed?", 2, "1843"),
        ("Who signed the treaty?", 2, "Anna Berg"),
        ("中華民國的首都在哪裡？", 3, "臺北市"),
    ],
)
def test_it_answers_a_plain_question_from_the_passage_that_says_so(
    question: str, passage: int, answer: str, reader: Reader
) -> None:
    found = reader.answer(question, PASSAGES)
    assert (found.answered, found.passage) == (True, passage)
    assert answer in found.text and len(found.text) <= len(answer) + 8


@pytest.mark.parametrize("question", ["Who founded the city of Rome?", "When was the treaty of Verdun signed in 843?"])
def test_it_says_when_no_passage_answers(question: str, reader: Reader) -> None:
    assert not reader.answer(question, PASSAGES).answered


def test_it_needs_no_torch() -> None:
    code = (
        "import sys\nfrom octavo.retrieve.reader import Reader\n"
        "with Reader.load() as reader:\n    reader.answer('who?', ['Anna came.'])\n"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.slow
def test_it_answers_squad_at_least_eight_points_above_answering_nothing(reader: Reader, shared: Path) -> None:
    questions = read_questions(shared / "data/qa/squad2-dev.json.gz")
    answers = {}
    for question in questions:
        found = reader.answer(question.text, [question.context])
        answers[question.id] = found.text if found.answered else ""
    scores = score_answers(answers, {question.id: [text for _, text in question.golds] for question in questions})
    assert scores.f1 >= 58.24
    assert scores.has_answer_f1 is not None and scores.has_answer_f1 >= 45
