"""CKIP's own package on the same folders: the same words, parts of speech and entities."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

from octavo.generate.ckip.encoders import CkipTransformer

peer = pytest.importorskip("ckip_transformers.nlp", reason="pip install ckip-transformers")
TINY = runpy.run_path(str(Path(__file__).parents[1] / "generate/ckip/tiny_ckip.py"))
TEXTS = list(TINY["TEXTS"])
QUIET = {"show_progress": False}
DELIMITED = {**QUIET, "use_delim": True}


@pytest.mark.parametrize("kind", ["bert", "albert"])
def test_answers_are_those_of_the_original_package(kind: str, tmp_path: Path) -> None:
    folders = {}
    for task in ("ws", "pos", "ner"):
        folders[task] = str(tmp_path / task)
        TINY["make_ckip"](kind, task, tmp_path / task)
    segmenter = peer.CkipWordSegmenter(model_name=folders["ws"])
    ws, pos, ner = (CkipTransformer.load(folders[task], task, weights="f32") for task in ("ws", "pos", "ner"))
    words = segmenter(TEXTS, **QUIET)
    assert ws.words(TEXTS) == words
    assert ws.words(TEXTS, "，,。：:；;！!？?") == segmenter(TEXTS, **DELIMITED)
    words = [*words, ["土地", "  ", "，", "公有政策", "", "。", "xxx"]]
    tagger = peer.CkipPosTagger(model_name=folders["pos"])
    assert pos.tags(words) == tagger(words, **QUIET)
    assert pos.tags(words, "") == tagger(words, **{**QUIET, "use_delim": False})
    found = peer.CkipNerChunker(model_name=folders["ner"])(TEXTS, **QUIET)
    ours = [[(e.text, e.type, (e.start, e.end)) for e in row] for row in ner.entities(TEXTS)]
    assert ours == [[tuple(entity) for entity in row] for row in found]
