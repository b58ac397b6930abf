"""What is seen inside a model is what the live peer shows, and on the real SmolLM2 it is known induction heads."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import AutoModelForCausalLM, PreTrainedModel

import octavo.cli
from octavo.errors import OctavoError, UnsupportedError
from octavo.examine.inspection.findings import Head, HeadScores
from octavo.examine.inspection.report import lens_map, lens_table, pattern, report, score_map
from octavo.examine.inspection.torch_circuits import (
    ablate,
    attention_patterns,
    copy_losses,
    logit_lens,
    score_heads,
    second_copy_loss,
)
from octavo.examine.inspection.torch_inspect import inspect, repeated_tokens
from octavo.examine.inspection.torch_watching import watch
from octavo.figures.svg import to_svg
from octavo.models.checkpoint import open_checkpoint
from octavo.models.transformer import Transformer

Tiny = Callable[[str], tuple[Path, PreTrainedModel]]
TOKENS = torch.randint(0, 160, (1, 20), generator=torch.Generator().manual_seed(3))
EAGER = ("llama", "mistral-window", "gemma2", "qwen3", "gpt2", "cohere2", "smollm3", "mixtral")


def load(folder: Path) -> Transformer:
    return Transformer.from_checkpoint(open_checkpoint(folder)).requires_grad_(False)


def see_all(model: Transformer, tokens: torch.Tensor, off: Sequence[tuple[int, int]] = ()) -> dict[int, torch.Tensor]:
    seen: dict[int, torch.Tensor] = {}
    watch(model, tokens, see=lambda layer, weights: seen.update({layer: weights}), off=off)
    return seen


@pytest.mark.parametrize("name", EAGER)
def test_attention_and_the_residual_stream_are_the_peer_s(name: str, tiny: Tiny) -> None:
    folder, _ = tiny(name)
    peer = AutoModelForCausalLM.from_pretrained(folder, attn_implementation="eager").eval()
    with torch.no_grad():
        expected = peer(TOKENS, output_attentions=True, output_hidden_states=True)
    model = load(folder)
    watched = watch(model, TOKENS, residuals=True)
    seen = see_all(model, TOKENS)
    assert sorted(seen) == list(range(model.config.num_layers))
    for layer, weights in enumerate(expected.attentions):
        assert torch.allclose(seen[layer], weights, atol=1e-5), layer
        assert torch.allclose(seen[layer].sum(-1), torch.ones(()), atol=1e-5)
    assert len(watched.residuals) == len(expected.hidden_states)
    for ours, theirs in zip(watched.residuals[:-1], expected.hidden_states[:-1], strict=True):
        assert torch.allclose(ours, theirs, atol=1e-4)
    assert model.norm is not None  # the peer's last hidden state is after it
    assert torch.allclose(model.norm(watched.residuals[-1]), expected.hidden_states[-1], atol=1e-4)
    assert torch.allclose(watched.logits, expected.logits, atol=1e-4)


def test_alibi_is_seen_too(tiny: Tiny) -> None:
    """The peer's eager attention adds this bias twice, so the weights must explain what its right one computes."""
    folder, peer = tiny("falcon-rw")
    model = load(folder)
    for weights in see_all(model, TOKENS).values():
        assert torch.allclose(weights.sum(-1), torch.ones(()), atol=1e-5)
    with torch.no_grad():
        assert torch.allclose(watch(model, TOKENS).logits, peer(TOKENS).logits, atol=1e-4)


def test_a_head_that_is_off_is_as_one_whose_output_weights_are_zero(tiny: Tiny) -> None:
    folder, _ = tiny("llama")
    model, cut = load(folder).eval(), load(folder).eval()  # in training another operation may round otherwise
    width = model.config.attention.head_dim
    for layer, head in ((1, 2), (1, 0), (3, 1)):
        cut.blocks[layer].attention.o.weight[:, head * width : (head + 1) * width] = 0  # type: ignore[union-attr, index]
    off = watch(model, TOKENS, off=[(1, 2), (1, 0), (3, 1)]).logits
    assert torch.allclose(off, cut(TOKENS), atol=1e-5)
    assert not torch.allclose(off, model(TOKENS), atol=1e-2)


def test_watching_leaves_no_trace_on_the_model(tiny: Tiny) -> None:
    model = load(tiny("llama")[0])
    before = model(TOKENS)
    watch(model, TOKENS, see=lambda layer, weights: None, residuals=True, off=[(0, 0)])
    assert torch.equal(model(TOKENS), before)
    assert all(not block._forward_hooks for block in model.blocks)


def test_the_lens_ends_with_the_model_s_own_answer(tiny: Tiny) -> None:
    model = load(tiny("gemma2")[0])
    lens = logit_lens(model, TOKENS[0].tolist())
    probabilities = model(TOKENS)[0].softmax(-1)
    assert [layer.layer for layer in lens] == list(range(model.config.num_layers + 1))
    assert lens[-1].tokens == tuple(probabilities.argmax(-1).tolist())
    assert lens[-1].final_probabilities == lens[-1].probabilities and set(lens[-1].final_ranks) == {0}
    assert np.allclose(lens[-1].probabilities, probabilities.max(-1).values, atol=1e-5)
    assert any(rank > 0 for rank in lens[0].final_ranks)


def test_scores_are_read_off_the_right_diagonals() -> None:
    """An attention by hand: each head looks at one place alone."""
    length, tokens = 5, 10

    class Config:
        num_layers = 1

        class attention:
            num_heads = 3

    def fake(model: Any, row: torch.Tensor, *, see: Any = None, **unused: Any) -> Any:
        weights = torch.zeros(1, 3, tokens, tokens)
        for query in range(length, tokens):
            weights[0, 0, query, query - length + 1] = 1
            weights[0, 2, query, query - length] = 1
        for query in range(1, tokens):
            weights[0, 1, query, query - 1] = 1
        see(0, weights)
        return type("W", (), {"logits": torch.zeros(1, tokens, 7)})

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("octavo.examine.inspection.torch_circuits.watch", fake)
        model: Any = type("Model", (), {"config": Config})
        scores = score_heads(model, np.zeros((2, tokens), np.int64))
    assert scores.induction.tolist() == [[1, 0, 0]] and scores.duplicate.tolist() == [[0, 0, 1]]
    assert scores.previous.tolist() == [[0, 1, 0]]
    assert scores.first_copy_loss == pytest.approx(np.log(7)) == scores.second_copy_loss


def lcg_sequences() -> np.ndarray[Any, np.dtype[np.int64]]:
    """The golden file's recipe: 64 tokens from a congruential generator, twice, for the seeds 1 to 4."""
    rows = []
    for seed in range(1, 5):
        state, row = seed, []
        for _ in range(64):
            state = (1664525 * state + 1013904223) % 2**32
            row.append(1000 + (state >> 8) % 40000)
        rows.append(row + row)
    return np.array(rows, np.int64)


@pytest.fixture(scope="module")
def real(smollm2: Path) -> Transformer:
    return load(smollm2)


@pytest.fixture(scope="module")
def scores(real: Transformer) -> HeadScores:
    return score_heads(real, lcg_sequences())


def test_smollm2_has_the_induction_and_previous_token_heads_of_the_golden_file(
    scores: HeadScores, golden: dict[str, Any]
) -> None:
    expected = golden["circuits"]["induction"]
    assert lcg_sequences()[:, :6].tolist() == expected["first_tokens_per_seed"]
    for score, key in (("induction", "top_induction"), ("previous", "top_previous_token")):
        found = scores.top(score, len(expected[key]))  # type: ignore[arg-type]
        assert found == [(layer, head) for layer, head, _ in expected[key]]
        for layer, head, value in expected[key]:
            assert getattr(scores, score)[layer, head] == pytest.approx(value, abs=0.005)
    losses = np.mean(expected["mean_nll_first_copy_second_copy_per_seed"], axis=0)
    assert (scores.first_copy_loss, scores.second_copy_loss) == pytest.approx(tuple(losses), abs=0.005)


def test_without_its_induction_heads_smollm2_can_hardly_copy_and_without_others_it_can(
    real: Transformer, scores: HeadScores, golden: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    expected = golden["circuits"]["ablation"]
    found = ablate(real, lcg_sequences(), scores, count=3, draws=2, seed=0)
    with capsys.disabled():
        print(  # noqa: T201
            f"\nSmolLM2, loss on repeated random tokens: {found.whole:.3f}; without {', '.join(map(str, found.heads))} "
            f"{found.without_best:.3f}; without three others {', '.join(f'{x:.3f}' for x in found.without_random)}"
        )
    assert found.heads == (Head(18, 6), Head(17, 3), Head(17, 4))
    assert found.whole == pytest.approx(expected["none"], abs=0.005)
    assert found.without_best == pytest.approx(expected["heads 18.6 17.3 17.4"], abs=0.005)
    assert second_copy_loss(real, lcg_sequences(), [(18, 0), (17, 0), (17, 1)]) == pytest.approx(
        expected["control 18.0 17.0 17.1"], abs=0.005
    )
    assert found.without_best - found.whole > 5 * max(loss - found.whole for loss in found.without_random)


def test_the_lens_of_smollm2_sees_paris_at_the_end_alone(real: Transformer, golden: dict[str, Any]) -> None:
    lens = logit_lens(real, [504, 3575, 282, 4649, 314])
    for layer, (token, probability, rank) in zip(lens, golden["circuits"]["logit_lens"]["per_layer"], strict=True):
        assert layer.tokens[-1] == token
        assert layer.final_probabilities[-1] == pytest.approx(probability, abs=0.005)
        assert layer.final_ranks[-1] == pytest.approx(rank, abs=max(1, rank // 100))


def test_an_induction_head_of_smollm2_looks_after_the_first_john(real: Transformer, smollm2: Path) -> None:
    tokenizer = open_checkpoint(smollm2).tokenizer()
    ids = tokenizer.encode("When Mary and John went to the store, John")
    weights = attention_patterns(real, ids, [(17, 4)])[Head(17, 4)]
    first, second = (index for index, token in enumerate(ids) if tokenizer.decode([token]) == " John")
    assert weights[second].argmax() == first + 1


@pytest.fixture(scope="module")
def found(stories: Path) -> Any:
    return inspect(open_checkpoint(stories), "Once upon a time, Tom & <Ada>", heads=[Head(4, 7)], count=2)


def test_a_report_has_every_map_and_is_well_formed(found: Any) -> None:
    assert Head(4, 7) in found.patterns and len(found.patterns) >= 3
    for drawing in (
        lens_map(found), pattern(Head(4, 7), found.patterns[Head(4, 7)], found.words),
        *(score_map(found.scores, score) for score in ("induction", "previous", "duplicate")),
    ):  # fmt: skip
        ET.fromstring(to_svg(drawing))
    assert len(lens_table(found).rows) == 6 and len(report(found)) >= 12
    assert sum(np.isclose(weights.sum(-1), 1, atol=1e-5).all() for weights in found.patterns.values()) == len(
        found.patterns
    )


def test_the_command_prints_draws_and_speaks_json(
    stories: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OCTAVO_THREADS", "1")

    def run(*arguments: str) -> tuple[object, str, str]:
        with pytest.raises(SystemExit) as stopped:
            octavo.cli.main(["inspect", str(stories), "Once upon a time", *arguments])
        printed = capsys.readouterr()
        return stopped.value.code, printed.out, printed.err

    code, text, _ = run("--out", str(tmp_path / "in.html"))
    assert code == 0 and "second copy" in text and "without 2 random" not in text and "likeliest" in text
    page = (tmp_path / "in.html").read_text()
    assert page.count("<svg") >= 8 and "<script" not in page and "Logit lens" in page
    assert run("--out", str(tmp_path / "in.png"))[0] == 0
    with Image.open(tmp_path / "in.png") as image:
        assert image.format == "PNG" and image.size[1] > 2000
    facts = json.loads(run("--json", "--head", "0.0")[1])
    assert np.shape(facts["scores"]["induction"]) == (5, 8) and "0.0" in facts["patterns"]
    assert run("--head", "5.0")[2].count("there is no head 5.0; stories260K has 0.0 to 4.7") == 1
    assert "should read LAYER.HEAD" in run("--head", "five")[2]
    assert ".html or .png" in run("--out", str(tmp_path / "in.svg"))[2]


def test_what_cannot_be_looked_at_is_refused_in_a_sentence(stories: Path) -> None:
    checkpoint = open_checkpoint(stories)
    with pytest.raises(OctavoError, match=r"the text has \d+ tokens; give 1 to 128"):
        inspect(checkpoint, "word " * 400)
    sequences = repeated_tokens(checkpoint.tokenizer(), checkpoint.config, seed=1)
    assert sequences.shape == (4, 100) and np.array_equal(sequences[:, :50], sequences[:, 50:])
    assert not set(sequences.ravel().tolist()) & checkpoint.tokenizer().special_ids


def test_losses_of_the_copies_are_those_of_their_tokens() -> None:
    tokens = torch.tensor([[1, 2, 3, 1, 2, 3]])
    logits = torch.zeros(1, 6, 4)
    logits[0, 3, 2] = logits[0, 4, 3] = 50.0
    first, second = copy_losses(logits, tokens)
    assert first == pytest.approx(np.log(4)) and second == pytest.approx(0, abs=1e-6)


def test_an_encoder_is_refused() -> None:
    class Stub:
        name = "bert"
        config = type("C", (), {"encoder": object()})

    stub: Any = Stub()
    with pytest.raises(UnsupportedError, match="is an encoder"):
        inspect(stub, "x")
