"""Fusion-in-Decoder against the peer's T5 with the states of its encoder joined, and the laws of fusing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from transformers.modeling_outputs import BaseModelOutput

from octavo.errors import UnsupportedError
from octavo.generate.encoder_decoder.torch_beams import beam_search, without_end
from octavo.generate.encoder_decoder.torch_steps import Steps
from octavo.generate.lm import Beams
from octavo.generate.tasks.completion import Limits
from octavo.models.checkpoint import open_checkpoint
from octavo.models.transformer import Transformer
from octavo.retrieve.systems.answering import evaluate, open_system
from octavo.retrieve.systems.recipes import FidRecipe
from octavo.retrieve.systems.torch_fid import distillation, fused, fused_logits, relevance
from octavo.retrieve.systems.torch_generator import Generator
from octavo.retrieve.systems.torch_training import train_fid
from octavo.train.metrics import Event, Stepped
from octavo.train.recipe import load_any

BOUND = 1e-5
END, PAD = 1, 0


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> tuple[Generator, Any]:
    torch.manual_seed(6)
    config = transformers.T5Config(
        vocab_size=120, d_model=40, d_kv=8, d_ff=64, num_layers=3, num_heads=4,
        relative_attention_num_buckets=8, relative_attention_max_distance=20, decoder_start_token_id=PAD,
        eos_token_id=END, pad_token_id=PAD,
    )  # fmt: skip
    peer = transformers.T5ForConditionalGeneration(config).eval()
    with torch.no_grad():
        for parameter in peer.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.3)
    folder = tmp_path_factory.mktemp("t5")
    peer.save_pretrained(folder)
    model = Transformer.from_checkpoint(open_checkpoint(folder)).requires_grad_(False)
    return Generator(model, None, PAD, [END]), peer  # type: ignore[arg-type]


def problem() -> tuple[list[list[list[int]]], list[list[int]]]:
    random = np.random.Generator(np.random.PCG64(3))

    def ids(count: int) -> list[int]:
        return [int(token) for token in random.integers(2, 120, count)]

    return [[ids(size) for size in sizes] for sizes in ((12, 5, 9), (7, 11, 10))], [[*ids(6), END], [*ids(3), END]]


def padded(rows: list[list[int]]) -> tuple[torch.Tensor, torch.Tensor]:
    longest = max(map(len, rows))
    mask = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in rows])
    return torch.tensor([[*row, *[PAD] * (longest - len(row))] for row in rows]), mask


def joined(peer: Any, sources: list[list[list[int]]]) -> dict[str, Any]:
    """As FiD's own code: the encoder over each passage, its states one after another."""
    tokens, mask = padded([source for row in sources for source in row])
    states = peer.encoder(input_ids=tokens, attention_mask=mask).last_hidden_state
    joint = states.view(len(sources), -1, states.shape[-1])
    return {"encoder_outputs": BaseModelOutput(joint), "attention_mask": mask.view(len(sources), -1)}


@torch.no_grad()
def test_logits_are_the_peer_s_over_joined_states(both: tuple[Generator, Any]) -> None:
    generator, peer = both
    sources, targets = problem()
    begun, own = padded([[PAD, *target[:-1]] for target in targets])
    expected = peer(**joined(peer, sources), decoder_input_ids=begun).logits
    found = fused_logits(generator, sources, targets)
    assert ((found - expected) * own[..., None]).abs().max() <= 5e-5 and expected.std() > 1


@torch.no_grad()
def test_answers_are_the_peer_s(both: tuple[Generator, Any]) -> None:
    generator, peer = both
    sources, _ = problem()
    for row in sources:
        given = joined(peer, [row])
        wanted = peer.generate(**given, num_beams=3, max_new_tokens=8, do_sample=False)[0, 1:].tolist()
        first = torch.full((1, 1), PAD)
        state = Steps(generator.model, first, memory=fused(generator.model, [row]))
        best, *_ = beam_search(state, Beams(3), Limits(frozenset([END]), 8))
        assert list(without_end(best, [END])) == [token for token in wanted if token not in (PAD, END)]


@torch.no_grad()
def test_one_passage_is_plain_t5(both: tuple[Generator, Any]) -> None:
    generator, _ = both
    sources, targets = problem()
    one = [row[:1] for row in sources]
    plain = generator.logits([row[0] for row in one], targets)
    assert (fused_logits(generator, one, targets) - plain).abs().max() <= BOUND


@torch.no_grad()
def test_the_order_of_passages_changes_nothing(both: tuple[Generator, Any]) -> None:
    generator, _ = both
    sources, targets = problem()
    before = fused_logits(generator, sources, targets)
    for order in ((2, 0, 1), (1, 2, 0), (0, 2, 1)):
        turned = [[row[place] for place in order] for row in sources]
        assert (fused_logits(generator, turned, targets) - before).abs().max() <= BOUND * 5
        moved = relevance(generator, fused(generator.model, turned), 3)
        assert (moved - relevance(generator, fused(generator.model, sources), 3)[:, list(order)]).abs().max() <= BOUND
    other = [[row[0], row[1], row[0]] for row in sources]
    assert (fused_logits(generator, other, targets) - before).abs().max() > 1e-2, "but which they are does"


@torch.no_grad()
def test_relevance_is_the_mean_score_of_the_first_token(both: tuple[Generator, Any]) -> None:
    generator, peer = both
    sources, _ = problem()
    kept: dict[str, list[torch.Tensor]] = {"q": [], "k": []}
    hooks = [
        block.layer[1]
        .EncDecAttention.get_submodule(name)
        .register_forward_hook(lambda module, given, out, name=name: kept[name].append(out))
        for block in peer.decoder.block
        for name in ("q", "k")
    ]
    given = joined(peer, sources)
    peer(**given, decoder_input_ids=torch.full((2, 1), PAD), use_cache=False)
    for hook in hooks:
        hook.remove()
    means = []
    for q, k in zip(kept["q"], kept["k"], strict=True):
        heads = [part.view(2, -1, 4, 8).transpose(1, 2) for part in (q, k)]
        means.append((heads[0] @ heads[1].transpose(2, 3))[:, :, 0].mean(1))
    mask = given["attention_mask"].view(2, 3, -1)
    expected = (torch.stack(means).mean(0).view(2, 3, -1) * mask).sum(-1) / mask.sum(-1)
    found = relevance(generator, fused(generator.model, sources), 3)
    assert (found - expected).abs().max() <= BOUND * 10 and expected.std() > 0.1


def test_distillation_moves_the_retriever_towards_the_reader() -> None:
    wanted = torch.tensor([[0.5, 2.0, -1.0], [0.0, 0.0, 3.0]])
    products = torch.zeros(2, 3, requires_grad=True)
    by_hand = sum(float(p * (p.log() - torch.tensor(1 / 3).log())) for row in wanted.softmax(-1) for p in row)
    assert float(distillation(products.detach(), wanted)) == pytest.approx(by_hand, abs=1e-6)
    assert float(distillation(wanted, wanted)) == pytest.approx(0, abs=1e-6)
    distillation(products, wanted).backward()
    assert products.grad is not None
    assert torch.equal(products.grad.argmin(-1), wanted.argmax(-1)), "the most useful passage's product grows most"


def test_a_decoder_is_refused(tiny: Any) -> None:
    model = Transformer.from_checkpoint(open_checkpoint(tiny("llama")[0]))
    with pytest.raises(UnsupportedError, match="must be a T5"):
        fused(model, [[[1, 2]]])


RECIPE = """
objective = "fid"
[data]
path = "questions.json"
held_out = 0.2
[retriever]
encoder = "{encoder}"
passages = 3
rate_scale = 0.3
[generator]
num_layers = 1
hidden_size = 32
intermediate_size = 48
vocab_size = 358
source_tokens = 80
[fid]
distil = {distil}
[optimizer]
learning_rate = 1e-2
[schedule]
warmup_steps = 2
[training]
steps = 16
batch_size = 4
log_every = 1
threads = 1
"""


@pytest.mark.parametrize("distil", ["true", "false"])
def test_a_run_learns_and_leaves_a_folder_that_answers(
    distil: str, tmp_path: Path, tiny_encoder: Path, questions: Path
) -> None:
    (tmp_path / "fid.toml").write_text(RECIPE.format(encoder=tiny_encoder, distil=distil))
    events: list[Event] = []
    wanted = load_any(tmp_path / "fid.toml", {"fid": FidRecipe})
    result = train_fid(wanted, questions, tmp_path / "run", on_event=events.append)
    losses = [event.loss for event in events if isinstance(event, Stepped)]
    assert np.mean(losses[-4:]) < 0.75 * np.mean(losses[:4])
    assert result.model is not None
    system = open_system(result.model, "fid", passages=6)
    scores = evaluate(system, questions)
    assert (scores.count, scores.recall) == (1, 100.0)
    reply = system.answer("Which country has Oslo as its capital?")
    assert sum(read.weight for read in reply.passages) == pytest.approx(1, abs=1e-5) and len(reply.passages) == 6
    before = Transformer.from_checkpoint(open_checkpoint(tiny_encoder)).blocks[0].attention.q.weight
    after = system.model.question_encoder.body.blocks[0].attention.q.weight
    assert torch.equal(before, after) == (distil == "false"), "only distillation teaches the retriever"
