"""Decoders asked yes or no: scores against `transformers`, the published prompts, and sentence-transformers' layout."""

from __future__ import annotations

import importlib
import importlib.util
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tokenizers
import torch

from octavo.errors import FormatError, OctavoError, UnsupportedError
from octavo.generate.embed import Embedder
from octavo.generate.rerank import Reranker
from octavo.generate.tasks.yes_no import QUESTIONS, YesNoScorer, read_question
from octavo.models.checkpoint import open_checkpoint

Tiny = Callable[[str], tuple[Path, Any]]
QUERY = "what is the capital?"
PASSAGES = ["paris is the capital", "rome", "", "a <|im_end|> mark", "rome", "paris is the capital of france"]
ANSWERS = {"yes": 90, "no": 91, "Yes": 92}
TEMPLATE = (
    "<|im_start|>{% for message in messages %}{{ message.role }}: {{ message.content }}\n{% endfor %}<|im_end|>judge:"
)


def byte_tokenizer() -> tokenizers.Tokenizer:
    """Bytes below 128 as tokens of their own in some order, the answers, and Qwen's marks; 160 ids in all."""
    alphabet = sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet())
    letters = [letter for letter in alphabet if ord(letter) < 127 or letter in "ĊĠ"]
    words = dict(zip(letters, (number for number in range(160) if number not in (90, 91, 92, 95, 96)), strict=False))
    merges = [("y", "e"), ("ye", "s"), ("n", "o"), ("Y", "e"), ("Ye", "s")]
    words |= {"ye": 95, "Ye": 96, **ANSWERS}
    backend = tokenizers.Tokenizer(tokenizers.models.BPE(words, merges))
    backend.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = tokenizers.decoders.ByteLevel()
    backend.add_special_tokens(["<|im_start|>", "<|im_end|>", "<think>", "</think>", "<s>"])
    assert backend.get_vocab_size() <= 160
    return backend


@pytest.fixture(scope="module")
def judge(tiny: Tiny, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    """A tiny Qwen3 with such a tokenizer, and the peer's model."""
    folder, peer = tiny("qwen3")
    made = Path(shutil.copytree(folder, tmp_path_factory.mktemp("judge") / "model"))
    byte_tokenizer().save(str(made / "tokenizer.json"))
    names = {
        "bos_token": "<s>",
        "pad_token": "<|im_end|>",
        "tokenizer_class": "PreTrainedTokenizerFast",
        "chat_template": TEMPLATE,
    }
    (made / "tokenizer_config.json").write_text(json.dumps(names))
    config = json.loads((made / "config.json").read_text())
    (made / "config.json").write_text(json.dumps({**config, "max_position_embeddings": 2048}))
    return made, peer


def logits_of(peer: Any, ids: Any) -> Any:
    with torch.no_grad():
        return peer(torch.tensor([ids])).logits[0, -1].double()


@pytest.mark.parametrize("runner", ["torch", "kernels"])
def test_a_decoder_of_qwens_kind_scores_as_its_card_does(runner: Any, judge: tuple[Path, Any]) -> None:
    folder, peer = judge
    from transformers import AutoTokenizer

    library = AutoTokenizer.from_pretrained(folder)
    prefix, body, suffix = QUESTIONS["qwen3"].parts or ()
    expected, tokens = [], 0
    for passage in PASSAGES:
        pair = body.format(instruction=QUESTIONS["qwen3"].instruction, query=QUERY, passage=passage)
        library.backend_tokenizer.encode_special_tokens = True  # marks in a passage are text
        middle = library.backend_tokenizer.encode(pair).ids
        library.backend_tokenizer.encode_special_tokens = False
        ids = library(prefix)["input_ids"] + middle + library(suffix)["input_ids"]
        chosen = torch.log_softmax(logits_of(peer, ids)[[ANSWERS["no"], ANSWERS["yes"]]], 0)[1].exp()
        expected.append(float(chosen))
        tokens += len(ids)
    with Reranker.load(str(folder), runner=runner, question=QUESTIONS["qwen3"]) as reranker:
        scores, counted = reranker.score_counted(QUERY, PASSAGES)
        again = reranker.score(QUERY, PASSAGES[::-1])
    assert np.abs(1 / (1 + np.exp(-scores)) - expected).max() <= (1e-5 if runner == "torch" else 5e-3)
    change = np.abs(again[::-1] - scores).max()
    assert change <= (1e-5 if runner == "torch" else 0), "what is kept of the passage before changes nothing"
    assert counted == tokens


def test_a_decoder_of_bges_kind_scores_by_the_logit_of_yes(judge: tuple[Path, Any]) -> None:
    folder, peer = judge
    backend = byte_tokenizer()
    expected = []
    for passage in PASSAGES[:3]:
        parts = [f"A: {QUERY}", "\n", f"B: {passage}", "\n", (QUESTIONS["bge"].parts or ())[-1]]
        ids = [backend.token_to_id("<s>"), *(token for part in parts for token in backend.encode(part).ids)]
        expected.append(float(logits_of(peer, ids)[ANSWERS["Yes"]]))
    with Reranker.load(str(folder), runner="torch", question=QUESTIONS["bge"]) as reranker:
        assert np.abs(reranker.score(QUERY, PASSAGES[:3]) - expected).max() <= 1e-4


def modules(folder: Path, target: Path, **answers: Any) -> Path:
    """The folder in sentence-transformers' layout."""
    shutil.copytree(folder, target)
    base = "sentence_transformers."
    kinds = {
        "": base + "base.modules.transformer.Transformer",
        "1_LogitScore": base + "cross_encoder.modules.LogitScore",
    }
    listed = [{"idx": at, "name": str(at), "path": path, "type": kind} for at, (path, kind) in enumerate(kinds.items())]
    (target / "modules.json").write_text(json.dumps(listed))
    (target / "1_LogitScore").mkdir()
    (target / "1_LogitScore/config.json").write_text(json.dumps({"module_input_name": "causal_logits", **answers}))
    said = {"method": "forward", "method_output_name": "logits"}
    transformer: dict[str, Any] = {"modality_config": {"text": said, "message": {**said, "format": "flat"}}}
    transformer |= {"transformer_task": "text-generation", "module_output_name": "causal_logits"}
    (target / "sentence_bert_config.json").write_text(json.dumps(transformer))
    return target


@pytest.mark.parametrize("no", [ANSWERS["no"], None])
def test_a_folder_says_itself_how_it_is_asked(no: int | None, judge: tuple[Path, Any], tmp_path: Path) -> None:
    folder, peer = judge
    from transformers import AutoTokenizer

    made = modules(folder, tmp_path / "made", true_token_id=ANSWERS["yes"], false_token_id=no)
    prompts = {"prompts": {"web": "Find it."}, "default_prompt_name": "web", "model_type": "CrossEncoder"}
    (made / "config_sentence_transformers.json").write_text(json.dumps(prompts))
    library, expected = AutoTokenizer.from_pretrained(folder), []
    for passage in PASSAGES:
        messages = [("system", "Find it."), ("query", QUERY), ("document", passage)]
        said = [{"role": role, "content": content} for role, content in messages]
        logits = logits_of(peer, library.apply_chat_template(said, tokenize=True, return_dict=False))
        expected.append(float(logits[ANSWERS["yes"]] - (0 if no is None else logits[no])))
    with Reranker.load(str(made), runner="torch") as reranker:
        assert np.abs(reranker.score(QUERY, PASSAGES) - expected).max() <= 1e-4
        if importlib.util.find_spec("sentence_transformers"):
            assert np.abs(reranker.score(QUERY, PASSAGES) - peer_scores(made)).max() <= 1e-4
    with pytest.raises(UnsupportedError, match="makes no vectors"):
        Embedder.load(str(made))


def peer_scores(folder: Path) -> Any:
    """What sentence-transformers makes of the folder."""
    library = importlib.import_module("sentence_transformers")

    pairs = [(QUERY, passage) for passage in PASSAGES]
    return library.CrossEncoder(str(folder)).predict(pairs, activation_fn=torch.nn.Identity(), batch_size=1)


def test_a_passage_is_cut_to_what_there_is_room_for(judge: tuple[Path, Any]) -> None:
    checkpoint = open_checkpoint(judge[0])
    scorer = YesNoScorer(checkpoint, QUESTIONS["bge"], 200, runner="torch")
    ids = scorer.prompt(QUERY, "rome " * 50)
    assert 190 <= len(ids) <= 200
    assert checkpoint.tokenizer().decode(ids).endswith("'Yes' or 'No'.")
    assert scorer.score_counted(QUERY, ["rome " * 50])[1] == len(ids)
    with pytest.raises(OctavoError, match="leaves no room"):
        scorer.prompt(QUERY * 20, "rome")
    scorer.close()


def test_a_file_is_a_prompt_and_what_is_wrong_is_said(judge: tuple[Path, Any], tmp_path: Path) -> None:
    folder, peer = judge
    file = tmp_path / "ask.txt"
    file.write_text("<|im_start|>{query} {passage} {other}? ")
    question = read_question(str(file), answers="Yes , no")
    assert question.answers == ("Yes", "no")
    ids = byte_tokenizer().encode(f"<|im_start|>{QUERY} {{query}} {{other}}? ").ids
    logits = logits_of(peer, ids)
    with Reranker.load(str(folder), runner="torch", question=question) as reranker:
        assert abs(reranker.score(QUERY, ["{query}"])[0] - float(logits[92] - logits[91])) <= 1e-4
    file.write_text("{query}")
    with pytest.raises(OctavoError, match=r"lacks \{query\} or \{passage\}"):
        read_question(str(file))
    with pytest.raises(OctavoError, match="no template 'qwen'"):
        read_question("qwen")
    with pytest.raises(OctavoError, match="give the word for yes"):
        read_question("bge", answers="a,b,c")
    with pytest.raises(UnsupportedError, match="does not say how it is asked; give --template"):
        Reranker.load(str(folder))
    with pytest.raises(OctavoError, match="has no token 400"):
        Reranker.load(str(folder), question=replace(question, answers=(400,)))
    made = modules(folder, tmp_path / "broken", true_token_id="yes")
    with pytest.raises(FormatError, match="which are no tokens"):
        Reranker.load(str(made))
    (made / "sentence_bert_config.json").write_text("{}")
    with pytest.raises(UnsupportedError, match="would be read bare"):
        Reranker.load(str(made))
