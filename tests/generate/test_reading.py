"""The reader against `transformers`: the same spans and scores, by brute force over the peer's logits."""

from __future__ import annotations

import json
import runpy
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from octavo.errors import FormatError, OctavoError, UnsupportedError
from octavo.generate.tasks.reading import SETTINGS_NAME, Reader, Reading, best_span, edges_of, joined, whole_marks
from octavo.text.windows import Window

PARITY = Path(__file__).parents[1] / "parity"
QUESTION = "Which river flows through Paris?"
PASSAGES = ["The Seine flows through Paris. " * 14, "Rome lies on the Tiber.", "塞納河"]


@pytest.fixture(scope="module")
def model(minilm: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A reader of random weights with MiniLM's vocabulary and windows that a passage is longer than."""
    from transformers import BertConfig, BertForQuestionAnswering

    folder = tmp_path_factory.mktemp("reader")
    sizes = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 96}
    peer = BertForQuestionAnswering(BertConfig(max_position_embeddings=128, **sizes))
    runpy.run_path(str(PARITY / "tiny.py"))["jitter"](peer, 5)
    peer.save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(minilm / name, folder)
    settings = {"max_tokens": 70, "overlap": 2, "longest_answer": 4, "threshold": 0.5}
    (folder / SETTINGS_NAME).write_text(json.dumps(settings))
    return folder


@pytest.mark.parametrize("runner", ["torch", "kernels"])
def test_answers_equal_a_search_over_the_logits_of_transformers(runner: str, model: Path) -> None:
    with Reader.load(model, runner=runner, weights="f32") as reader:  # type: ignore[arg-type]
        readings = reader.read(QUESTION, PASSAGES)
        best = reader.answer(QUESTION, PASSAGES)
        relevance = reader.relevance(QUESTION, PASSAGES)
        against = [100.0 if number == best.passage else 1.5 for number in range(len(PASSAGES))]
        other = reader.answer(QUESTION, PASSAGES, against)
    for passage, reading in zip(PASSAGES, readings, strict=True):
        start, end, score, null = expected(model, passage)
        assert (reading.start, reading.end) == (start, end)
        assert reading.null_score == pytest.approx(null, abs=2e-4)
        assert reading.score == pytest.approx(score, abs=2e-4)
    sure = [reading.no_answer_score for reading in readings]
    assert sure == [reading.margin for reading in readings]  # no weights, so no evidence
    assert best.passage == int(np.argmin(sure)) == int(np.argmax(relevance))
    assert best.text == PASSAGES[best.passage][best.start : best.end]
    assert best.answered == (min(sure) <= 0.5)
    assert other.no_answer_score == pytest.approx(sorted(sure)[1] + 1.5)
    assert other.passage == int(np.argsort(sure)[1]) and other.answered == (sorted(sure)[1] + 1.5 <= 0.5)


def test_what_was_read_is_not_read_again(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Reader.load(model, runner="kernels", weights="f32") as reader:
        first = reader.read(QUESTION, PASSAGES)
        encoded: list[int] = []
        encode = reader._runner.encode
        monkeypatch.setattr(reader._runner, "encode", lambda rows: (encoded.append(len(rows)), encode(rows))[1])
        again = reader.read(QUESTION, [PASSAGES[2], PASSAGES[0], PASSAGES[2]])
        assert again == [first[2], first[0], first[2]] and encoded == []
        other = reader.read(QUESTION, [PASSAGES[1], "The Rhine."], [[(5, 16)], []])
        assert sum(encoded) == 2 and other[0] != first[1], "without its answer a passage is read anew"
        monkeypatch.setattr("octavo.generate.tasks.reading.KEPT", 1)
        reader.read(QUESTION, ["The Elbe."])
        assert reader.read(QUESTION, PASSAGES) == first and len(reader._kept) == 1


@torch.no_grad()
def expected(model: Path, passage: str) -> tuple[int, int, float, float]:
    """Every span of up to four tokens of every window, by the peer."""
    from transformers import AutoTokenizer, BertForQuestionAnswering

    tokenizer = AutoTokenizer.from_pretrained(model)
    peer = BertForQuestionAnswering.from_pretrained(model).eval()
    best, null = (0, 0, -np.inf), np.inf
    windows = tokenizer(
        QUESTION, passage, truncation="only_second", max_length=70, stride=2,
        return_overflowing_tokens=True, return_offsets_mapping=True,
    )  # fmt: skip
    for ids, types, offsets in zip(
        windows["input_ids"], windows["token_type_ids"], windows["offset_mapping"], strict=True
    ):
        output = peer(input_ids=torch.tensor([ids]), token_type_ids=torch.tensor([types]))
        starts, ends = output.start_logits[0].numpy(), output.end_logits[0].numpy()
        null = min(null, float(starts[0] + ends[0]))
        text = [index for index, kind in enumerate(types) if kind == 1][:-1]
        for first in text:
            for last in range(first, min(first + 4, len(ids) - 1)):
                if starts[first] + ends[last] > best[2]:
                    best = (offsets[first][0], offsets[last][1], float(starts[first] + ends[last]))
    return (*best, null)


@given(
    st.lists(st.tuples(st.floats(-9, 9, width=32), st.floats(-9, 9, width=32), st.booleans()), min_size=1, max_size=12),
    st.integers(1, 5),
)
def test_the_best_span_is_the_best_of_all_that_lie_in_one_part(
    tokens: list[tuple[float, float, bool]], longest: int
) -> None:
    scores, count = [token[:2] for token in tokens], len(tokens)
    parts = np.cumsum([token[2] for token in tokens])
    window = Window([0] * (count + 3), [0] * (count + 3), 2, [(index * 2, index * 2 + 1) for index in range(count)])
    table = np.array([(1.0, 2.0), (99.0, 99.0), *scores, (99.0, 99.0)], np.float32)
    found = best_span(table, window, longest, parts)
    spans = [(i, j) for i in range(count) for j in range(i, min(i + longest, count)) if parts[i] == parts[j]]
    sums = [scores[i][0] + scores[j][1] for i, j in spans]
    assert found.score == pytest.approx(max(sums), abs=1e-5)
    assert found.null_score == 3
    assert 0 < found.end - found.start < 2 * longest


def test_an_answer_reaches_over_no_blank_line_and_no_edge_of_a_cell(model: Path) -> None:
    text = "on the Seine\n \nin Paris | 2023 | by\nthe Rhine"
    with Reader.load(model, weights="f32") as reader:
        runs = [reader.read(QUESTION, [text[:end]])[0] for end in range(1, len(text))]
    found = {text[run.start : run.end] for run in runs}
    assert len(found) > 3 and not any("\n \n" in span or "|" in span.strip("|") for span in found)
    assert edges_of("a\n \nb|c") == [1, 4, 5, 6]


def test_two_windows_give_the_likelier_span_and_the_less_sure_lack_of_one() -> None:
    one, other = Reading(0, 3, 5.0, 1.0), Reading(9, 12, 7.0, 4.0)
    assert joined(one, other) == joined(other, one) == Reading(9, 12, 7.0, 1.0)
    assert joined(None, one) == one


def test_what_is_no_reader_is_refused(minilm: Path, model: Path, tmp_path: Path) -> None:
    with pytest.raises(UnsupportedError, match="does not mark answers"):
        Reader.load(minilm)
    with Reader.load(model, weights="f32") as reader:
        with pytest.raises(OctavoError, match="no passage to read"):
            reader.answer("who?", [])
        assert not reader.answer("who?", ["", " "]).answered
        assert reader.knows("who?") and not reader.knows("首都是哪裡")
    folder = tmp_path / "copy"
    shutil.copytree(model, folder)
    (folder / SETTINGS_NAME).write_text('{"treshold": 1}')
    with pytest.raises(FormatError, match="says treshold = 1; it knows"):
        Reader.load(folder)
    (folder / SETTINGS_NAME).write_text('{"max_tokens": 500}')
    with pytest.raises(FormatError, match="do not fit the model"):
        Reader.load(folder)
    (folder / SETTINGS_NAME).write_text('{"weights": [1, 2]}')
    with pytest.raises(FormatError, match="weights that are not 8 numbers"):
        Reader.load(folder)


def test_evidence_changes_which_passage_answers(model: Path, tmp_path: Path) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(model, folder)
    # Only a missing name counts, and one is enough to hold the answer back.
    (folder / SETTINGS_NAME).write_text('{"max_tokens": 128, "overlap": 8, "weights": [0, 5, 0, 0, 0, 0, 0, -2]}')
    with Reader.load(folder, weights="f32") as reader:
        found = reader.answer("Which river flows through Paris?", ["Rome lies on the Tiber.", "Paris has a river."])
        lacking = reader.answer("Which river flows through Oslo?", ["Rome lies on the Tiber.", "Paris has a river."])
    assert (found.passage, found.answered, found.no_answer_score) == (1, True, -2)
    assert (lacking.answered, lacking.no_answer_score) == (False, 3)


@pytest.mark.parametrize(
    ("text", "marked", "kept"),
    [
        ("It is `i32` here", "i32`", "i32"),
        ("the prompt (Pdb) shows", "Pdb)", "Pdb"),
        ("the prompt (Pdb) shows", "(Pdb)", "(Pdb)"),
        ("a length of [2048](link)", "[2048", "2048"),
        ("with \"'utf-8'\" encoding", "'utf-8'", "'utf-8'"),
        ("the dogs' tails", "dogs'", "dogs"),
        ("f(x) or (y", "f(x)", "f(x)"),
        ("「三國」志", "三國」", "三國"),
        ('a " alone', '"', '"'),
    ],
)
def test_a_bracket_or_quote_that_lost_its_other_half_is_left_out(text: str, marked: str, kept: str) -> None:
    start = text.index(marked)
    found = whole_marks(text, Reading(start, start + len(marked), 1.0, 0.0))
    assert text[found.start : found.end] == kept
