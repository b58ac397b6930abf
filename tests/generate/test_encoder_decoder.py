"""Answers step by step: a padded batch of prompts as each alone, and the beams of the peer."""

from __future__ import annotations

import runpy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from octavo.generate.encoder_decoder.torch_beams import beam_search, log_probability, without_end
from octavo.generate.encoder_decoder.torch_steps import Steps, padded, steps
from octavo.generate.lm import Beams
from octavo.generate.tasks.completion import Limits
from octavo.models.checkpoint import open_checkpoint
from octavo.models.transformer import Transformer

VARIANTS = runpy.run_path(str(Path(__file__).parents[1] / "parity/tiny_seq2seq.py"))["VARIANTS"]
PROMPTS = [[5, 9, 11, 30, 2], [7, 8], [40]]
Tiny = Callable[[str], tuple[Path, Any]]


@pytest.mark.parametrize("name", ["llama", "gpt2", "bloom"])
@torch.no_grad()
def test_a_padded_batch_of_prompts_goes_on_as_each_prompt_alone(name: str, tiny: Tiny) -> None:
    model = Transformer.from_checkpoint(open_checkpoint(tiny(name)[0])).requires_grad_(False)
    together = steps(model, PROMPTS, 0)
    texts = [list(prompt) for prompt in PROMPTS]
    for token in (3, 17, 21):
        for row, text in enumerate(texts):
            assert (together.logits[row] - model(torch.tensor([text]))[0, -1]).abs().max() <= 1e-4
        together.advance(torch.full((len(texts),), token))
        texts = [[*text, token] for text in texts]
    together.keep(torch.tensor([2, 0, 2]))
    together.advance(torch.tensor([4, 5, 6]))
    for row, (place, token) in enumerate([(2, 4), (0, 5), (2, 6)]):
        alone = model(torch.tensor([[*texts[place], token]]))[0, -1]
        assert (together.logits[row] - alone).abs().max() <= 1e-4


@pytest.mark.parametrize("name", ["t5", "t5 v1.1", "marian"])
@pytest.mark.parametrize("penalty", [1.0, 0.0])
def test_beams_are_the_peer_s(name: str, penalty: float, tmp_path: Path) -> None:
    torch.manual_seed(5)
    peer = VARIANTS[name]().eval()
    with torch.no_grad():
        for key, tensor in (*peer.named_parameters(), *peer.named_buffers()):
            if "embed_positions" not in key and tensor.is_floating_point():
                tensor.add_(torch.randn_like(tensor) * 0.15)
    peer.save_pretrained(tmp_path)
    model = Transformer.from_checkpoint(open_checkpoint(tmp_path)).requires_grad_(False)
    source, ends = [12, 30, 31, 7, 90, 1], [17, 44, 81, 60, 5]
    given = {"max_new_tokens": 9, "do_sample": False, "num_beams": 4, "eos_token_id": ends, "pad_token_id": 0}
    expected = peer.generate(
        input_ids=torch.tensor([source]), decoder_start_token_id=0, length_penalty=penalty, num_return_sequences=4,
        return_dict_in_generate=True, output_scores=True, **given,
    )  # fmt: skip
    beams = Beams(4, length_penalty=penalty)
    found = beam_search(steps(model, [source], 0), beams, Limits(frozenset(ends), 9))
    wanted = []
    for row in expected.sequences[:, 1:].tolist():
        end = next((place + 1 for place, token in enumerate(row) if token in ends), len(row))
        wanted.append(row[:end])
    assert [list(hypothesis.tokens) for hypothesis in found] == wanted
    assert [h.score for h in found] == pytest.approx(expected.sequences_scores.tolist(), abs=1e-4)
    assert without_end(found[0], ends) == tuple(token for token in wanted[0] if token not in ends)
    assert log_probability(found[0], beams) == pytest.approx(found[0].score * len(wanted[0]) ** penalty)


def test_what_starts_an_answer_may_be_longer_than_a_token(tiny: Tiny) -> None:
    model = Transformer.from_checkpoint(open_checkpoint(tiny("llama")[0])).requires_grad_(False)
    tokens, mask = padded(PROMPTS)
    assert tokens.shape == (3, 5) and mask.sum(1).tolist() == [5, 2, 1]
    assert torch.equal(Steps(model, tokens, mask).logits, steps(model, PROMPTS, 0).logits)
