"""CKIP Tagger's published layout, read without TensorFlow, against answers of ckiptagger's own program.

`published/` holds what `make_published.py` wrote: checkpoints of TensorFlow with random weights, and the answers.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from octavo.errors import FormatError, ModelNotFoundError, OctavoError, UnsupportedError
from octavo.generate.ckip.dictionary import Dictionary, joined
from octavo.generate.ckip.labels import normalized
from octavo.generate.ckip.pipeline import Options, entities_of, open_ckip
from octavo.generate.ckip.recurrent import DELIMITERS, CkipTagger
from octavo.models.formats.tensor_bundle import read_bundle
from octavo.models.recurrent.tagger_files import open_tagger, save_tagger
from octavo.models.tables.tagger_keys import PUBLISHED

FOLDER = Path(__file__).parent / "published"
ANSWERS: dict[str, Any] = json.loads((FOLDER / "answers.json").read_text(encoding="utf-8"))
SENTENCES: list[str] = ANSWERS["sentences"]


@pytest.fixture(scope="module")
def ws() -> CkipTagger:
    return CkipTagger.load(FOLDER, "ws")


@pytest.fixture(scope="module")
def pos() -> CkipTagger:
    return CkipTagger.load(FOLDER, "pos")


@pytest.fixture(scope="module")
def ner() -> CkipTagger:
    return CkipTagger.load(FOLDER, "ner")


def test_words_are_those_of_the_original_program(ws: CkipTagger) -> None:
    assert ws.words(SENTENCES) == ANSWERS["words"]
    assert ws.words(SENTENCES, DELIMITERS) == ANSWERS["words_segmented"]
    assert ANSWERS["words"] != ANSWERS["words_segmented"]


def test_dictionaries_change_words_as_in_the_original_program() -> None:
    recommended, coerced = Dictionary(ANSWERS["recommended"]), Dictionary(ANSWERS["coerced"])
    for given_, expected in (
        ({"recommended": recommended}, "words_recommended"),
        ({"coerced": coerced}, "words_coerced"),
        ({"recommended": recommended, "coerced": coerced}, "words_both"),
    ):
        assert [joined(words, **given_) for words in ANSWERS["words"]] == ANSWERS[expected]
        assert ANSWERS[expected] != ANSWERS["words"]


def test_parts_of_speech_are_those_of_the_original_program(pos: CkipTagger) -> None:
    assert pos.tags(ANSWERS["words"]) == ANSWERS["tags"]
    assert pos.tags(ANSWERS["words"], "") == ANSWERS["tags_unsegmented"]


def test_entities_are_those_of_the_original_program(ner: CkipTagger) -> None:
    found = ner.entities(ANSWERS["words"], ANSWERS["tags"])
    assert [[[e.start, e.end, e.type, e.text] for e in row] for row in found] == ANSWERS["entities"]
    longer = [entity for row in ANSWERS["entities"] for entity in row if entity[1] - entity[0] > 1]
    assert len(longer) > 5, "the answers have entities of several characters"


def test_scores_are_those_of_tensorflow(ws: CkipTagger, pos: CkipTagger, ner: CkipTagger) -> None:
    words, tags = ANSWERS["words"][0], ANSWERS["tags"][0]
    first = normalized(SENTENCES[0])[0]
    for model, row in ((ws, ws.row(list(first))), (pos, pos.row(words)), (ner, ner.row(words, tags))):
        assert np.abs(model.scores([row])[0] - np.array(ANSWERS["scores"][model.task])).max() <= 2e-5


def test_a_batch_gives_what_each_sentence_gives_alone(ws: CkipTagger, pos: CkipTagger, ner: CkipTagger) -> None:
    assert [ws.words([sentence])[0] for sentence in SENTENCES] == ANSWERS["words"]
    assert [pos.tags([words])[0] for words in ANSWERS["words"]] == ANSWERS["tags"]
    pairs = zip(ANSWERS["words"], ANSWERS["tags"], strict=True)
    together = ner.entities(ANSWERS["words"], ANSWERS["tags"])
    assert [ner.entities([words], [tags])[0] for words, tags in pairs] == together


@given(
    st.text(
        st.sampled_from("土地公有政策，。 　\t\u200d👩é\u0301½㎏ABc12.,?") | st.characters(exclude_categories=["Cs"])
    )
)
@settings(max_examples=150, deadline=None)
def test_words_add_up_to_the_text(text: str) -> None:
    model = CkipTagger.load(FOLDER, "ws")
    coerced = Dictionary({"公有": 1, "é\u0301": 2, " 　": 1})
    for words in (model.words([text])[0], model.words([text], DELIMITERS)[0]):
        assert "".join(words) == text and all(words)
        again = joined(words, coerced, coerced)
        assert "".join(again) == text and all(again)


def test_our_own_folder_gives_the_same(tmp_path: Path, pos: CkipTagger, ner: CkipTagger) -> None:
    for task in ("ws", "pos", "ner"):
        files = open_tagger(FOLDER, task)
        tables = [sorted(table, key=lambda text, own=table: own[text]) for table in (files.characters, files.words)]
        save_tagger(tmp_path / task, files.config, files.tensors, *tables)
    assert CkipTagger.load(tmp_path / "ws", "ws").words(SENTENCES) == ANSWERS["words"]
    assert CkipTagger.load(tmp_path / "pos", "pos").tags(ANSWERS["words"]) == ANSWERS["tags"]
    found = CkipTagger.load(tmp_path / "ner", "ner").entities(ANSWERS["words"], ANSWERS["tags"])
    assert found == ner.entities(ANSWERS["words"], ANSWERS["tags"])
    with pytest.raises(UnsupportedError, match="for pos, not for ws"):
        open_ckip(str(tmp_path / "pos"), "ws")


def test_what_does_not_fit_is_refused_by_name(ner: CkipTagger) -> None:
    with pytest.raises(OctavoError, match=r"called 'Naa', did you mean 'Na'"):
        ner.entities([["土地"]], [["Naa"]])
    with pytest.raises(OctavoError, match="give a model for each"):
        entities_of(ner, ["土地"])
    with pytest.raises(UnsupportedError, match="has no max_length"):
        open_ckip(str(FOLDER), "ws", Options(max_length=100))


def test_damaged_checkpoints_are_refused(tmp_path: Path) -> None:
    prefix = tmp_path / Path(PUBLISHED["ws"]).name
    for suffix in (".index", ".data-00000-of-00001"):
        shutil.copy(FOLDER / f"{PUBLISHED['ws']}{suffix}", f"{prefix}{suffix}")
    whole = Path(f"{prefix}.index").read_bytes()
    random, sound = np.random.default_rng(0), 0
    for _ in range(500):
        broken = bytearray(whole)
        for place in random.integers(0, len(whole), random.integers(1, 5)):
            broken[place] = random.integers(0, 256)
        Path(f"{prefix}.index").write_bytes(broken[: random.integers(1, len(whole)) if random.random() < 0.1 else None])
        try:
            found = read_bundle(prefix)
        except FormatError:
            continue
        sound += 1
        for entry in found.values():
            assert entry.offset + entry.nbytes <= entry.file.size
            if entry.encoding is not None:
                entry.read()
    assert 20 < sound < 450, "some damage changes numbers, most breaks the table"
    Path(f"{prefix}.index").write_bytes(whole)
    with Path(f"{prefix}.data-00000-of-00001").open("r+b") as data:
        data.truncate(100)
    with pytest.raises(FormatError, match="ends outside"):
        read_bundle(prefix)
    with pytest.raises(ModelNotFoundError):
        read_bundle(tmp_path / "absent")


@pytest.mark.parametrize(
    ("key", "value"), [("task", "dep"), ("hidden_size", 1.5), ("num_layers", -1), ("gates", 4), ("labels", [1, 2])]
)
def test_a_false_config_is_refused(key: str, value: object, tmp_path: Path) -> None:
    files = open_tagger(FOLDER, "ws")
    save_tagger(tmp_path / "ws", files.config, files.tensors, list(files.characters), [])
    path = tmp_path / "ws/config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), key: value}))
    with pytest.raises(FormatError):
        open_tagger(tmp_path / "ws", "ws")
