"""CKIP Transformers' character rule and heads: against the peer's classes, as laws, and without torch."""

from __future__ import annotations

import runpy
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import PreTrainedModel

from octavo.errors import OctavoError, UnsupportedError
from octavo.generate.ckip.characters import DELIMITERS, CharacterReader
from octavo.generate.ckip.encoders import CkipTransformer, check_labels
from octavo.generate.ckip.labels import WHITESPACE, strict_entities
from octavo.nn.recurrent.tagger_config import TaggerTask
from octavo.text.tokenizer import Tokenizer

TINY = runpy.run_path(str(Path(__file__).with_name("tiny_ckip.py")))
TEXTS: list[str] = TINY["TEXTS"]
LONGEST: int = TINY["LONGEST"]
every_kind = pytest.mark.parametrize("kind", ["bert", "albert"])
every_runner = pytest.mark.parametrize("runner", ["kernels", "torch"])

Made = Callable[[str, TaggerTask], tuple[Path, PreTrainedModel]]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    @cache
    def of(kind: str, task: TaggerTask) -> tuple[Path, PreTrainedModel]:
        folder = tmp_path_factory.mktemp(f"{kind}-{task}")
        return folder, TINY["make_ckip"](kind, task, folder)

    return of


def load(folder: Path, task: TaggerTask, runner: str | None = None, **given_: object) -> CkipTransformer:
    return CkipTransformer.load(str(folder), task, runner=runner, weights="f32", **given_)  # type: ignore[arg-type]


@every_kind
@every_runner
def test_words_are_cut_where_the_peer_s_logits_say(kind: str, runner: str, made: Made) -> None:
    folder, peer = made(kind, "ws")
    model = load(folder, "ws", runner)
    cut_once = 0
    for text, words in zip(TEXTS, model.words(TEXTS), strict=True):
        labels = [
            label for at in range(0, len(text), LONGEST) for label in TINY["peer_labels"](peer, text[at : at + LONGEST])
        ]
        expected = {0, len(text)} | {place for place, label in enumerate(labels) if label == 0}
        edges = {sum(map(len, words[:count])) for count in range(len(words) + 1)}
        assert edges == expected
        cut_once += len(words) > 1
    assert cut_once >= 3, "the tiny model cuts"


@every_kind
@every_runner
def test_a_word_has_the_label_of_its_first_character(kind: str, runner: str, made: Made) -> None:
    folder, peer = made(kind, "pos")
    words = ["土地公", "有", "  ", "政策", "x", "", "？", "還是", "👩\u200d👧"]
    model = load(folder, "pos", runner)
    labels = TINY["peer_labels"](peer, "".join(words[:7])) + TINY["peer_labels"](peer, "".join(words[7:]))
    starts = [sum(map(len, words[:index])) for index in range(len(words))]
    expected = [TINY["LABELS"]["pos"][labels[start]] for start in starts]
    expected[2] = expected[5] = WHITESPACE
    assert model.tags([words]) == [expected]
    whole = TINY["peer_labels"](peer, "".join(words))
    assert model.tags([words], "")[0][-1] == TINY["LABELS"]["pos"][whole[starts[-1]]]


@every_kind
@every_runner
def test_entities_are_those_of_the_peer_s_labels(kind: str, runner: str, made: Made) -> None:
    folder, peer = made(kind, "ner")
    found = load(folder, "ner", runner).entities(TEXTS)
    for text, entities in zip(TEXTS, found, strict=True):
        labels = [
            label for at in range(0, len(text), LONGEST) for label in TINY["peer_labels"](peer, text[at : at + LONGEST])
        ]
        assert entities == strict_entities(text, [TINY["ENTITIES"][label] for label in labels])
        assert all(text[entity.start : entity.end] == entity.text for entity in entities)


@every_kind
def test_a_batch_gives_what_each_text_gives_alone(kind: str, made: Made) -> None:
    ws, pos = load(made(kind, "ws")[0], "ws"), load(made(kind, "pos")[0], "pos")
    words = ws.words(TEXTS)
    assert [ws.words([text])[0] for text in TEXTS] == words
    assert [pos.tags([sentence])[0] for sentence in words] == pos.tags(words)
    assert ws.words([]) == [] and ws.words([""]) == [[]]


def test_words_add_up_to_the_text(made: Made) -> None:
    model = load(made("bert", "ws")[0], "ws")
    known = st.sampled_from("土地公有政策，。 　\t\u200d👩\ufe0fé\u0301ABc12.,?")

    @given(st.lists(st.text(known | st.characters(exclude_categories=["Cs"]), max_size=60), max_size=4))
    @settings(max_examples=100, deadline=None)
    def law(texts: list[str]) -> None:
        for delimiters in ("", DELIMITERS):
            for text, words in zip(texts, model.words(texts, delimiters), strict=True):
                assert "".join(words) == text and all(words)

    law()


def test_each_character_is_a_token_as_it_is_written(made: Made) -> None:
    tokenizer = Tokenizer.from_folder(made("bert", "ws")[0])
    reader = CharacterReader(tokenizer, 64)
    first, last, unknown = (tokenizer.token_id(text) for text in ("[CLS]", "[SEP]", "[UNK]"))
    one, big, small = (tokenizer.token_id(text) for text in "一Aa")
    assert reader.ids("一Aa 👩\u200d") == [one, big, small, unknown, unknown, unknown]
    assert reader.pieces(["一A", "a"]).rows == [[first, one, big, last], [first, small, last]]
    assert reader.pieces(["一A", "a"]).places == [[1, 2], [5]]


def test_sentences_are_cut_to_fit_and_after_delimiters(made: Made) -> None:
    tokenizer = Tokenizer.from_folder(made("bert", "ws")[0])
    reader = CharacterReader(tokenizer, 64, max_length=3)
    assert [len(row) - 2 for row in reader.pieces(["一二三一，二三"]).rows] == [3, 3, 1]
    assert [len(row) - 2 for row in reader.pieces(["一二三一，二三"], DELIMITERS).rows] == [3, 2, 2]
    assert [len(row) - 2 for row in reader.pieces([["一二", "三一", "，", "二"]]).rows] == [2, 3, 1]
    assert [len(row) - 2 for row in reader.pieces([["一", "二三一二三", "二"]]).rows] == [1, 3, 1]
    assert reader.pieces([["一", "", "二"]]).places == [[1, None, 2]]
    for wrong in (0, 63):
        with pytest.raises(OctavoError, match=f"max_length is {wrong}; this model takes 1 to {LONGEST}"):
            CharacterReader(tokenizer, 64, wrong)


def test_a_model_of_another_task_is_refused_by_its_labels(made: Made) -> None:
    for task, other in (("ws", "ner"), ("ner", "pos"), ("pos", "ws"), ("pos", "ner")):
        with pytest.raises(UnsupportedError, match=f"labels tokens as .*; {other} needs"):
            load(made("bert", task)[0], other)  # type: ignore[arg-type]
    check_labels(["LABEL_0", "LABEL_1"], "ws", "x")
    check_labels(["O", "B-A", "I-A", "E-A", "S-A"], "ner", "x")


@every_kind
def test_the_kernels_need_no_torch(kind: str, made: Made) -> None:
    code = f"""
import sys
from octavo.generate.ckip.encoders import CkipTransformer
model = CkipTransformer.load({str(made(kind, "ws")[0])!r}, "ws")
print(len(model.words(["土地公有政策"])), model.runner.name.split()[0], "torch" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "1 kernels False\n"
