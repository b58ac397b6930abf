"""Questions from files, and those that are made: the shared files' own figures, exact spans, rules that hold."""

from __future__ import annotations

import gzip
import json
import random
from pathlib import Path

import pytest

from octavo.errors import FormatError, OctavoError
from octavo.train.reading.made import cloze, elsewhere, moved, unanswerable
from octavo.train.reading.questions import Question, find_files, part_of, read_files, read_questions
from octavo.train.reading.recipe import QuestionFiles

CONTEXT = (
    "Nikola Tesla was born in Smiljan in 1856. He moved to New York in 1884 and worked for Thomas Edison. "
    "The largest of his laboratories stood in Colorado Springs, where he made lightning before 1900."
)


def ask(text: str, *golds: str) -> Question:
    return Question("q", "Tesla", text, CONTEXT, tuple((CONTEXT.index(gold), gold) for gold in golds))


def test_the_shared_files_hold_what_their_description_counts(shared: Path) -> None:
    held = read_questions(shared / "data/qa/squad2-train.json.gz")
    assert (len(held), sum(not question.golds for question in held)) == (5093, 2531)
    assert all(question.context.startswith(gold, start) for question in held for start, gold in question.golds)
    open_questions = read_questions(shared / "data/qa/nq-open-train.jsonl.gz")
    assert len(open_questions) == 2135
    assert all(question.golds for question in open_questions)


def test_held_out_articles_are_not_trained_on(tmp_path: Path) -> None:
    write(tmp_path / "some.json")
    data = QuestionFiles(path=str(tmp_path), files=("some.json",), held_out=("B",))
    files = read_files(find_files(data, Path()), data)
    assert {question.article for question in files.training} == {"A"}
    assert {question.article for question in files.validation} == {"B"}
    with pytest.raises(OctavoError, match="'Bb', which no file has"):
        read_files(tmp_path, QuestionFiles(path=str(tmp_path), files=("some.json",), held_out=("Bb",)))


def test_missing_and_foreign_files_are_told(tmp_path: Path) -> None:
    with pytest.raises(OctavoError, match=r"none\.json are not all in .*--data FOLDER"):
        find_files(QuestionFiles(path=str(tmp_path), files=("none.json",)), Path())
    (tmp_path / "some.json").write_text('{"questions": []}')
    with pytest.raises(FormatError, match="holds no questions in SQuAD's layout"):
        read_questions(tmp_path / "some.json")
    write(tmp_path / "some.json", start=3)
    with pytest.raises(FormatError, match="no answer of question A stands where it says"):
        read_questions(tmp_path / "some.json")


def write(path: Path, start: int = 0) -> None:
    articles = [
        {
            "title": title,
            "paragraphs": [
                {"context": "Rome is old.", "qas": [
                    {"id": title, "question": "What is old?", "answers": [{"text": "Rome", "answer_start": start}]}
                ]}
            ],
        }
        for title in "AB"
    ]  # fmt: skip
    path.write_text(json.dumps({"data": articles}))
    gzip.open(path.with_suffix(".json.gz"), "wt").close()


def test_a_changed_question_has_no_answer_and_is_another_question() -> None:
    questions = [
        ask("When did Tesla move to New York?", "1884"),
        ask("What was the largest laboratory?", "Colorado Springs"),
        ask("Who did he work for in 1884?", "Thomas Edison"),
    ]
    made = set()
    for seed in range(60):
        rng = random.Random(seed)
        for question in questions:
            changed = unanswerable(question, rng)
            assert changed is not None and changed.text != question.text and not changed.golds
            made.add(changed.text)
    assert "What was the smallest laboratory?" in made
    assert "When didn't Tesla move to New York?" in made
    assert any("Smiljan" in text or "Edison" in text for text in made)
    assert unanswerable(Question("q", "a", "why", CONTEXT, ()), random.Random(0)) is None


def test_a_moved_question_gets_a_text_that_lacks_every_answer() -> None:
    other = Question("o", "Tesla", "?", "Tesla moved a laboratory to New York.", ())
    same = Question("s", "Tesla", "?", "In 1884 he arrived.", ())
    questions = [ask("When did Tesla move to New York?", "1884"), other, same]
    lacking = elsewhere(questions)
    assert lacking["q"] == [other.context]
    changed = moved(questions[0], lacking, random.Random(1))
    assert changed is not None and changed.context == other.context and not changed.golds


def test_a_cloze_asks_for_words_of_the_text_without_naming_them() -> None:
    for seed in range(100):
        made = cloze("Tesla", CONTEXT, random.Random(seed))
        assert made is not None
        ((start, answer),) = made.golds
        assert CONTEXT[start : start + len(answer)] == answer
        assert answer not in made.text
    assert cloze("none", "Too short.", random.Random(0)) is None


def test_parts_of_the_articles_are_left_out_and_together_they_are_all(tmp_path: Path) -> None:
    titles = [f"article {number}" for number in range(9)]
    paragraph = {
        "context": "It is so.",
        "qas": [{"id": "1", "question": "Is it?", "answers": [], "is_impossible": True}],
    }
    tree = {"data": [{"title": title, "paragraphs": [paragraph]} for title in titles]}
    (tmp_path / "some.json").write_text(json.dumps(tree))
    left_out: list[str] = []
    for part in range(3):
        data = QuestionFiles(path=str(tmp_path), files=("some.json",), held_out=("article 0",), parts=3, left_out=part)
        files = read_files(tmp_path, data)
        assert [question.article for question in files.validation] == ["article 0"]
        gone = set(titles[1:]) - {question.article for question in files.training}
        assert gone and all(part_of(title, 3) == part for title in gone)
        left_out += gone
    assert sorted(left_out) == titles[1:]
    with pytest.raises(ValueError, match="left_out = 3 is not one of 3 parts"):
        QuestionFiles(path=".", files=("some.json",), parts=3, left_out=3)


def test_a_chinese_cloze_asks_for_what_stands_in_its_sentence() -> None:
    context = (
        "劉備在1860年由北京移居上海，並創辦了《申報週刊》。該刊物的主編為李大同，發行量達3萬份；停刊於戰爭爆發之後。"
    )
    rng, asked = random.Random(3), set()
    for _ in range(200):
        made = cloze("t", context, rng)
        assert made is not None and made.context == context
        ((start, text),) = made.golds
        assert context[start : start + len(text)] == text and text not in made.text
        asked.add(text)
        assert all(character in context + "哪一年多少什麼誰哪裡何者？" for character in made.text)
    assert {"1860年", "申報週刊", "李大同"} <= asked
