"""`inspect`: everything that is looked at inside a decoder, for one text and for random tokens written twice."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from octavo import settings
from octavo.errors import OctavoError, UnsupportedError
from octavo.examine.inspection.findings import Head, Inspection
from octavo.examine.inspection.torch_circuits import Ids, ablate, attention_patterns, logit_lens, score_heads
from octavo.examine.sizing.cost import count_parameters
from octavo.models.checkpoint import Checkpoint
from octavo.models.memory import free_memory
from octavo.models.transformer import Transformer
from octavo.nn.config import TransformerConfig
from octavo.text.tokenizer import Tokenizer

MAX_TEXT = 128
"""Tokens of a text that are looked at: what people can read in a picture."""
COPY_LENGTH, SEQUENCES, DRAWS = 50, 4, 3


def inspect(
    checkpoint: Checkpoint, text: str, *, heads: Sequence[Head] = (), count: int = 3, seed: int = 0
) -> Inspection:
    """Look inside a decoder in float32. heads: whose patterns are kept, beside those of the `count` best of each score.

    Raises UnsupportedError for what is no decoder, OctavoError for a head that is not there, a text that is empty or
    too long, or a model that does not fit the memory.
    """
    _check(checkpoint, heads)
    tokenizer = checkpoint.tokenizer()
    ids = tokenizer.encode(text)
    limit = min(MAX_TEXT, checkpoint.config.context_length)
    if not 1 <= len(ids) <= limit:
        raise OctavoError(f"the text has {len(ids)} tokens; give 1 to {limit} to look at", param="text")
    torch.set_num_threads(settings.threads())
    model = Transformer.from_checkpoint(checkpoint).requires_grad_(False)
    sequences = repeated_tokens(tokenizer, checkpoint.config, seed=seed)
    scores = score_heads(model, sequences)
    lens = tuple(logit_lens(model, ids))
    used = {*ids, *(token for layer in lens for token in layer.tokens)}
    shown = dict.fromkeys([*heads, *scores.top("induction", count), *scores.top("previous", count)])
    return Inspection(
        checkpoint.name,
        tuple(ids),
        {token: tokenizer.token_bytes(token).decode(errors="replace") for token in sorted(used)},
        scores,
        ablate(model, sequences, scores, count=count, draws=DRAWS, seed=seed),
        lens,
        attention_patterns(model, ids, list(shown)),
    )


def repeated_tokens(tokenizer: Tokenizer, config: TransformerConfig, *, seed: int) -> Ids:
    """(SEQUENCES, 2 * length) random tokens, no special ones among them, written twice each."""
    length = min(COPY_LENGTH, config.context_length // 2)
    plain = [
        token for token in range(min(tokenizer.vocab_size, config.vocab_size)) if token not in tokenizer.special_ids
    ]
    drawn = np.random.default_rng(seed).choice(np.array(plain, np.int64), (SEQUENCES, length))
    return np.concatenate((drawn, drawn), axis=1)


def _check(checkpoint: Checkpoint, heads: Sequence[Head]) -> None:
    config, free = checkpoint.config, free_memory()
    if config.encoder is not None:
        raise UnsupportedError(f"{checkpoint.name} is an encoder; induction heads and the lens are a decoder's")
    for head in heads:
        if not (head.layer < config.num_layers and head.head < config.attention.num_heads):
            raise OctavoError(
                f"there is no head {head}; {checkpoint.name} has 0.0 to "
                f"{config.num_layers - 1}.{config.attention.num_heads - 1}",
                param="head",
            )
    needed = 4 * count_parameters(config).total
    if free is not None and needed > free:
        raise OctavoError(
            f"{checkpoint.name} needs {needed / 1e9:.1f} GB in float32 and {free / 1e9:.1f} GB are free; "
            "close programs, or look into a smaller model"
        )
