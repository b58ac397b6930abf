"""Llama Guard's verdicts: read, refused as garbage, and scored as `transformers` scores the same tokens."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import tokenizers
import torch
from hypothesis import given
from hypothesis import strategies as st

from octavo.errors import UnsupportedError
from octavo.generate.lm import Scores
from octavo.generate.local import load
from octavo.generate.scripted import ScriptedModel
from octavo.guard.llama_guard import judge, read_verdict
from octavo.text.tokenizer import Tokenizer

TEMPLATE = """\
{% if messages[-1].role == 'assistant' %}{% set role = 'Agent' %}{% else %}{% set role = 'User' %}{% endif -%}
[INST] Task: Check if there is unsafe content in '{{ role }}' messages.

<BEGIN UNSAFE CONTENT CATEGORIES>
O1: Violence and Hate.
Should not
- do it.
O2: Sexual Content.
<END UNSAFE CONTENT CATEGORIES>
{% for message in messages %}{{ message.role }}: {{ message.content }}
{% endfor %}[/INST]"""
PIECES = ["safe", "unsafe", "un", " safe", " un", "\n\n", "O1", "O", ",", "\n"]


@pytest.mark.parametrize(
    ("text", "codes"),
    [
        ("safe", ()),
        ("\n\nsafe ", ()),
        (" unsafe\nO3", ("O3",)),
        ("\n\nunsafe\nS1,S10", ("S1", "S10")),
        ("unsafe\nO1, O2\n", ("O1", "O2")),
        ("unsafe", ()),
        ("safe\nO3", None),
        ("unsafe\nnothing", None),
        ("unsafe\nO1\nO2", None),
        ("Safe", None),
        ("this is safe", None),
        ("", None),
        ("unsafe O3", None),
    ],
)
def test_an_answer_is_a_verdict_or_garbage(text: str, codes: tuple[str, ...] | None) -> None:
    assert read_verdict(text) == codes


@given(st.text(max_size=30))
def test_only_the_one_word_is_safe(text: str) -> None:
    assert (read_verdict(text) == () and "unsafe" not in text) == (text.strip() == "safe")


class Scored(ScriptedModel):
    """A script whose next words have probabilities; the tokenizer has a token for each of PIECES."""

    def __init__(self, answer: str, tokenizer: Tokenizer, probabilities: Mapping[str, float]) -> None:
        super().__init__([answer])
        self.tokenizer = tokenizer
        self.probabilities = {tokenizer.encode(text, bos=False)[0]: value for text, value in probabilities.items()}
        self.scored: list[tuple[int, ...]] = []

    def stream(self, request: Any) -> Any:
        assert self.tokenizer is not None
        answer = str(self._answers[0])
        self.requests.append(request)
        return events(self.tokenizer.encode(answer, bos=False), answer)

    def score(self, text: Any, **options: Any) -> Scores:
        self.scored.append(tuple(text))
        log = torch.tensor(self.probabilities.get(text[-1], 0.0)).log().item()
        return Scores(tuple(text), (*[None] * options["start"], log))


def events(ids: list[int], text: str) -> Any:
    """One answer as a stream of events."""
    from octavo.generate.lm import Delta, Finished, Started

    yield Started(1)
    yield Delta(text, tuple(ids))
    yield Finished("stop", 1, len(ids))


def tokenizer_of(pieces: list[str]) -> tokenizers.Tokenizer:
    """Bytes and some words."""
    alphabet = sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet())
    words = {letter: at for at, letter in enumerate(alphabet)}
    backend = tokenizers.Tokenizer(tokenizers.models.BPE(words, []))
    backend.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    backend.decoder = tokenizers.decoders.ByteLevel()
    backend.add_tokens([tokenizers.AddedToken(piece, normalized=False) for piece in pieces])
    return backend


@pytest.fixture(scope="module")
def words(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    folder = tmp_path_factory.mktemp("words")
    tokenizer_of(PIECES).save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps({"chat_template": TEMPLATE}))
    return Tokenizer.from_folder(folder)


@pytest.mark.parametrize(("answer", "lead"), [("\n\nunsafe\nO1", ["\n\n"]), ("unsafe\nO1", []), (" unsafe\nO1", [])])
def test_the_score_is_of_the_word_where_it_stands(answer: str, lead: list[str], words: Tokenizer) -> None:
    model = Scored(answer, words, {"safe": 0.1, " safe": 0.02, "unsafe": 0.3, " un": 0.06})
    verdict = judge(model, [{"role": "user", "content": "hello"}])
    assert verdict.flagged and verdict.understood and verdict.score == pytest.approx(0.36 / 0.48)
    assert verdict.codes == ("O1",) and verdict.names == {"O1": "Violence and Hate"}
    prompt = words.render([{"role": "user", "content": "hello"}])
    assert "'User' messages" in prompt
    assert {ids[:-1] for ids in model.scored} == {tuple(words.encode(prompt + "".join(lead), bos=False))}
    assert not judge(model, [{"role": "user", "content": "hello"}], threshold=0.8).flagged


def test_garbage_counts_as_unsafe_and_an_answer_is_the_agents(words: Tokenizer) -> None:
    said = [{"role": "user", "content": "hello"}, {"role": "assistant", "content": "world"}]
    model = Scored("I cannot say", words, {"safe": 0.9})
    verdict = judge(model, said)
    assert verdict.flagged and not verdict.understood and verdict.score == 1
    assert "'Agent' messages" in words.decode(model.requests[0].prompt)  # type: ignore[arg-type]
    with pytest.raises(UnsupportedError, match="does not show its tokenizer"):
        judge(ScriptedModel(["safe"]), said)


@pytest.fixture(scope="module")
def chained(tmp_path_factory: pytest.TempPathFactory, words: Tokenizer) -> tuple[Path, Any]:
    """A LLaMA whose blocks do nothing and whose head answers `unsafe`, a new line, `O1` after `]`; the peer's model."""
    from transformers import AutoConfig, AutoModelForCausalLM

    folder = tmp_path_factory.mktemp("chained")
    ends = words.encode("!", bos=False)[0]
    config = AutoConfig.for_model(
        "llama", hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=4, vocab_size=320,
        max_position_embeddings=1024, eos_token_id=ends, bos_token_id=11, tie_word_embeddings=False,
    )  # fmt: skip
    torch.manual_seed(0)
    peer: Any = AutoModelForCausalLM.from_config(config)  # type: ignore[no-untyped-call]
    says = {"]": "unsafe", "unsafe": "\n", "\n": "O1", "O1": "!"}
    with torch.no_grad():
        embedding, head = peer.model.embed_tokens.weight, peer.lm_head.weight
        embedding.copy_(torch.nn.functional.normalize(torch.randn(320, 64), dim=1))
        head.copy_(0.05 * torch.randn(320, 64))
        for layer in peer.model.layers:
            layer.self_attn.o_proj.weight.zero_()
            layer.mlp.down_proj.weight.zero_()
        for text, following in says.items():
            one, other = (words.encode(each, bos=False)[0] for each in (text, following))
            head[other] += embedding[one]
        head[words.encode("safe", bos=False)[0]] += 0.8 * embedding[words.encode("]", bos=False)[0]]
    peer.save_pretrained(folder)
    words.save(folder)
    return folder, peer


def expected_score(peer: Any, words: Tokenizer, said: Any) -> float:
    """Of the first token, by the peer's logits."""
    starts = [{words.encode(lead + word, bos=False)[0] for lead in ("", " ")} for word in ("unsafe", "safe")]
    with torch.no_grad():
        chances = torch.softmax(peer(torch.tensor([words.encode_chat(said)])).logits[0, -1].double(), 0)
    bad, good = (float(sum(chances[token] for token in tokens)) for tokens in starts)
    return bad / (bad + good)


def test_a_real_run_answers_and_scores_as_transformers_does(chained: tuple[Path, Any], words: Tokenizer) -> None:
    folder, peer = chained
    said = [{"role": "user", "content": "hello"}]
    with load(str(folder), runner="torch") as model:
        verdict = judge(model, said)
    assert verdict.text == "unsafe\nO1" and verdict.codes == ("O1",) and verdict.flagged
    expected = expected_score(peer, words, said)
    assert 0.5 < expected < 0.999 and verdict.score == pytest.approx(expected, abs=1e-5)


def test_the_command_judges_lines_and_answers(
    chained: tuple[Path, Any], words: Tokenizer, capsys: pytest.CaptureFixture[str]
) -> None:
    from octavo.cli import main

    def run(*arguments: str) -> str:
        with pytest.raises(SystemExit) as ended:
            main(["guard", str(chained[0]), *arguments])
        captured = capsys.readouterr()
        assert ended.value.code == (2 if captured.err else 0)
        return captured.err or captured.out

    said = [{"role": "user", "content": "hello"}]
    row = json.loads(run("hello", "--runner", "torch", "--json"))
    assert row.pop("score") == pytest.approx(expected_score(chained[1], words, said), abs=1e-5)
    categories = [{"code": "O1", "name": "Violence and Hate"}]
    assert row == {"text": "hello", "verdict": "unsafe", "categories": categories, "understood": True}
    assert run("hello", "there", "--answer", "x").startswith("octavo: error: give a text to judge")
    line = run("hello", "--answer", "a word", "--threshold", "1")
    assert line.startswith("safe    ") and line.endswith("(O1 Violence and Hate)\n")
