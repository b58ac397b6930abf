"""Rotary embeddings that depend on the sequence's length, against the live peer on both sides of the boundary."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from octavo.models.checkpoint import Checkpoint, open_checkpoint
from octavo.models.runner import Row
from octavo.models.transformer import TorchRunner, Transformer

SIZES = {
    "hidden_size": 64, "intermediate_size": 112, "num_hidden_layers": 2, "num_attention_heads": 4, "vocab_size": 160,
    "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0,
}  # fmt: skip
LONGROPE = {
    "rope_type": "longrope", "rope_theta": 500.0, "original_max_position_embeddings": 16,
    "short_factor": [1.0, 1.1, 1.2, 1.5, 2.0, 3.0, 4.0, 5.0], "long_factor": [1.5, 2.0, 3.0, 4.0, 6.0, 7.0, 8.0, 9.0],
}  # fmt: skip
KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "longrope": ("phi3", {"max_position_embeddings": 64, "original_max_position_embeddings": 16,
                          "rope_parameters": LONGROPE}),
    "dynamic": ("llama", {"max_position_embeddings": 16,
                          "rope_parameters": {"rope_type": "dynamic", "rope_theta": 500.0, "factor": 4.0}}),
}  # fmt: skip


def ids(tokens: int) -> torch.Tensor:
    return torch.randint(3, 160, (1, tokens), generator=torch.Generator().manual_seed(tokens))


@pytest.fixture(params=KINDS)
def pair(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Checkpoint, Any]:
    model_type, changes = KINDS[request.param]
    torch.manual_seed(0)
    config = AutoConfig.for_model(model_type, **SIZES, **changes)
    peer = AutoModelForCausalLM.from_config(config, attn_implementation="eager").eval()
    for parameter in peer.parameters():
        parameter.data.normal_(0, 1.5 / parameter.shape[-1] ** 0.5) if parameter.ndim > 1 else None
    peer.save_pretrained(tmp_path)
    return open_checkpoint(tmp_path), peer


def test_each_length_has_the_peers_frequencies_and_rows_of_a_batch_their_own(pair: tuple[Checkpoint, Any]) -> None:
    checkpoint, peer = pair
    model = Transformer.from_checkpoint(checkpoint).requires_grad_(False)
    assert checkpoint.config.context_length == 64
    for length in (5, 16, 17, 40):
        with torch.no_grad():
            expected = peer(ids(length)).logits
        assert float((model(ids(length)) - expected).abs().max()) <= 1e-4
        padded = torch.cat((torch.cat((torch.zeros(1, 41 - length, dtype=torch.long), ids(length)), 1), ids(41)))
        mask = torch.ones_like(padded)
        mask[0, : 41 - length] = 0
        assert float((model(padded, mask)[0, 41 - length :] - expected[0]).abs().max()) <= 1e-4


def test_kept_keys_are_those_of_the_longest_sequence_that_fits(pair: tuple[Checkpoint, Any]) -> None:
    checkpoint, _ = pair
    model = Transformer.from_checkpoint(checkpoint).requires_grad_(False)
    tokens = ids(48)
    positions = torch.arange(48)[None]
    for blocks in (1, 3):  # no longer than the original length, and longer
        count = min(48, 16 * blocks)
        hidden = model.hidden(model.embed(tokens, positions)[:, :count], positions[:, :count], length=16 * blocks)
        runner = TorchRunner(model, num_blocks=blocks)
        numbers = tokens[0].numpy().astype(np.int32)
        cuts = [0, 5, 16, *range(17, count + 1)]
        rows = [Row(numbers[begin:end], begin, range(blocks), 0) for begin, end in pairwise(cuts)]
        cached = np.concatenate([runner.step([row]).logits for row in rows])
        assert np.abs(cached - model.logits(hidden)[0].numpy()).max() <= 4e-5
