"""Measures of retrieval and answers, end to end: two layouts read, and figures that can be worked out by hand."""

from __future__ import annotations

import gzip
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from octavo.errors import FormatError, OctavoError
from octavo.evaluate.collections import Collection, read_collection
from octavo.evaluate.rag import (
    Said,
    fill,
    grounded_said,
    measure_answers,
    measure_ranking,
    own_passages,
    retrievers,
)
from octavo.generate.scripted import ScriptedModel
from octavo.retrieve.grounded import answer
from octavo.retrieve.search import Search
from octavo.retrieve.stores.store import Hit

SQUAD = {
    "version": "v2.0",
    "data": [
        {
            "title": "Water_birds",
            "paragraphs": [
                {
                    "context": "Mallards eat weed and snails.",
                    "qas": [
                        {
                            "id": "1",
                            "question": "What do mallards eat?",
                            "answers": [{"text": "weed", "answer_start": 13}],
                        },
                        {"id": "2", "question": "What do herons drink?", "answers": [], "is_impossible": True},
                    ],
                },
                {
                    "context": "Grebes dive for fish.",
                    "qas": [
                        {
                            "id": "3",
                            "question": "What do divers hunt?",
                            "answers": [{"text": "fish", "answer_start": 16}],
                        }
                    ],
                },
            ],
        }
    ],
}


@pytest.fixture
def squad(tmp_path: Path) -> Collection:
    path = tmp_path / "birds.json.gz"
    path.write_bytes(gzip.compress(json.dumps(SQUAD).encode()))
    return read_collection(path)


def beir(folder: Path) -> Path:
    folder.mkdir()
    (folder / "corpus.jsonl").write_text('{"_id": "a", "title": "T", "text": "teal"}\n{"_id": "b", "text": "owl"}\n')
    (folder / "queries.jsonl").write_text('{"_id": "q", "text": "teal"}\n{"_id": "r", "text": "owl"}\n')
    (folder / "qrels").mkdir()
    (folder / "qrels/test.tsv").write_text("query-id\tcorpus-id\tscore\nq\ta\t2\nr\tb\t0\n")
    return folder


def test_squads_layout_is_read(squad: Collection) -> None:
    assert squad.name == "birds"
    assert squad.documents["Water_birds/001"] == ("Water birds", "Grebes dive for fish.")
    assert squad.judgements == {"1": {"Water_birds/000": 1}, "2": {}, "3": {"Water_birds/001": 1}}
    assert squad.answers == {"1": ["weed"], "2": [], "3": ["fish"]}
    assert list(squad.first(2).queries) == ["1", "2"]


def test_beirs_layout_is_read_and_only_judged_questions_are_asked(tmp_path: Path) -> None:
    found = read_collection(beir(tmp_path / "birds"))
    assert found.documents == {"a": ("T", "teal"), "b": ("", "owl")}
    assert found.queries == {"q": "teal"} and found.judgements["q"] == {"a": 2} and found.answers is None


@pytest.mark.parametrize(
    ("name", "text", "because"),
    [
        ("corpus.jsonl", '{"_id": 1}\n', "line 1"),
        ("corpus.jsonl", "{\n", "line 1"),
        ("qrels/test.tsv", "q\ta\n" * 2, "query, document and grade"),
        ("queries.jsonl", "", "judges none"),
    ],
)
def test_what_is_no_collection_is_refused_with_the_place(tmp_path: Path, name: str, text: str, because: str) -> None:
    folder = beir(tmp_path / "birds")
    (folder / name).write_text(text)
    with pytest.raises(FormatError, match=because):
        read_collection(folder)


def test_files_that_are_missing_or_of_another_shape_are_named(tmp_path: Path) -> None:
    folder = beir(tmp_path / "birds")
    (tmp_path / "x.json").write_text("[]")
    with pytest.raises(FormatError, match="SQuAD"):
        read_collection(tmp_path / "x.json")
    with pytest.raises(OctavoError, match="no collection"):
        read_collection(tmp_path / "none.json")
    (folder / "qrels/test.tsv").unlink()
    with pytest.raises(FormatError, match="no judgements"):
        read_collection(folder)


def test_rankings_are_scored_over_the_questions_that_have_a_relevant_document(squad: Collection) -> None:
    search = Search(fill(squad, None, show=False))
    ranks = retrievers(search)
    assert list(ranks) == ["words"]
    row = measure_ranking(squad, "words", ranks["words"])
    assert (row.recall_1, row.recall_5, row.mrr_10, row.ndcg_10) == (0.5, 0.5, 0.5, 0.5)
    reverse = measure_ranking(squad, "other", lambda question: ranks["words"]("grebes mallards"))
    assert row.recall_100 == 0.5 and reverse.recall_5 == 1 and reverse.mrr_10 == pytest.approx(0.75)
    search.store.close()


def test_dense_and_hybrid_join_the_table_with_an_encoder(squad: Collection) -> None:
    import runpy

    toys = runpy.run_path(str(Path(__file__).parents[1] / "retrieve/toys.py"))
    encoder: Any = toys["WordEncoder"]()
    search = Search(fill(squad, encoder, show=False), encoder)
    rows = [measure_ranking(squad, name, rank) for name, rank in retrievers(search).items()]
    assert [row.retriever for row in rows] == ["words", "dense", "rrf", "hybrid"]
    assert all(row.recall_5 >= 0.5 for row in rows) and encoder.embedded >= 2 + 3
    search.store.close()


def test_answers_are_scored_end_to_end(squad: Collection) -> None:
    search = Search(fill(squad, None, show=False))
    rank = retrievers(search)["words"]

    def say(question: str, hits: Sequence[Hit]) -> Said:
        if not hits:
            return Said("", "", 5.0, (), 1.0)
        passage = hits[0].passage
        sure = "mallards" in question.lower()
        text = "snails and weed" if sure else ""
        return Said(text, "weed" if sure else "fish", -1.0 if sure else 2.0, ((passage.document, passage.text),), 0.5)

    row = measure_answers(squad, "words", rank, "me", say, 1)
    assert row.scores.has_answer_f1 == pytest.approx(100 * 0.5 / 2)  # 1 of 3 words, for one of two questions
    assert row.scores.no_answer == 100 and row.refused == pytest.approx(200 / 3)
    assert row.citation_precision == 100, "the one document that is cited holds the answer"
    assert row.faithfulness == pytest.approx(100 * 2.5 / 3)
    assert row.best_f1 == pytest.approx(100 * 2 / 3), "with a threshold only the first is answered, rightly"
    search.store.close()


def test_a_questions_own_passage_needs_no_search(squad: Collection) -> None:
    rank = own_passages(squad)
    assert rank is not None
    (hit,) = rank("What do herons drink?")
    assert (hit.passage.document, hit.passage.text) == ("Water_birds/000", "Mallards eat weed and snails.")
    assert own_passages(squad.first(2)) is not None
    assert own_passages(replace(squad, own=None)) is None


def test_chinese_is_scored_over_characters() -> None:
    asked = {"1": "野鴨吃什麼？", "2": "哪一年？"}
    golds = {"1": ["水草和蝸牛"], "2": ["1980年"]}
    collection = Collection("z", {"a": ("鴨", "野鴨吃水草")}, asked, {"1": {"a": 1}, "2": {"a": 1}}, golds)
    said = {"野鴨吃什麼？": "水草", "哪一年？": "1980 年"}
    row = measure_answers(collection, "w", lambda _: [], "me", lambda q, _: Said(said[q], said[q], 0.0, (), 1.0), 1)
    assert row.scores.exact == 50
    assert row.scores.f1 == row.best_f1 == pytest.approx(100 * (2 * 1 * 0.4 / 1.4 + 1) / 2)


def test_a_grounded_answer_is_scored_by_what_of_it_is_supported(squad: Collection) -> None:
    search = Search(fill(squad, None, show=False))
    hits = retrievers(search)["words"]("What do mallards eat?")
    model = ScriptedModel(["Mallards eat weed and snails [1]. Mallards also read Tolstoy [1]."])
    said = grounded_said(answer(model, "What do mallards eat?", hits))
    assert said.text == "Mallards eat weed and snails." and said.faithful == 0.5
    assert said.cited == (("Water_birds/000", "Mallards eat weed and snails."),)
    refused = grounded_said(answer(ScriptedModel(["x"]), "Who read Tolstoy?", []))
    assert refused == Said("", "", None, (), 1.0)
    search.store.close()


def test_the_command_prints_a_table_or_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from octavo.cli import main

    path = tmp_path / "birds.json"
    path.write_text(json.dumps(SQUAD))
    with pytest.raises(SystemExit) as ended:
        main(["eval", "rag", str(path), "--encoder", "none", "--json"])
    printed = json.loads(capsys.readouterr().out)
    assert ended.value.code == 0 and printed["questions"] == 3
    assert printed["rankings"][0]["retriever"] == "words" and printed["rankings"][0]["recall_1"] == 0.5
    with pytest.raises(SystemExit):
        main(["eval", "rag", str(path), "--encoder", "none"])
    assert "nDCG@10" in capsys.readouterr().out
    with pytest.raises(SystemExit) as ended:
        main(["eval", "rag", str(beir(tmp_path / "beir")), "--encoder", "none", "--model", "x"])
    assert ended.value.code == 2 and "no gold answers" in capsys.readouterr().err


def test_the_reader_that_ships_answers_and_ranks(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from octavo.cli import main

    path = tmp_path / "birds.json"
    path.write_text(json.dumps(SQUAD))
    with pytest.raises(SystemExit) as ended:
        main(["eval", "rag", str(path), "--encoder", "none", "--reader", "--json"])
    printed = json.loads(capsys.readouterr().out)
    assert ended.value.code == 0 and [row["retriever"] for row in printed["rankings"]] == ["words", "reader"]
    (words, ranked, own) = printed["answers"]
    assert words["retriever"] == "words" and ranked["retriever"] == ranked["answerer"] == "reader"
    assert own["retriever"] == "its own" and own["scores"]["has_answer_f1"] >= words["scores"]["has_answer_f1"]
    assert words["scores"]["count"] == 3 and words["scores"]["has_answer_f1"] > 0, "it reads what mallards eat"
