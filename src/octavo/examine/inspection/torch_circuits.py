"""Induction heads and the logit lens of a decoder.

On random tokens written twice, r + r, nothing but copying can tell what comes next. An induction head attends from a
token of the second copy to the one after its first occurrence; a previous-token head attends one back, and lets it find
that place. Sources: Elhage et al. 2021 ("A Mathematical Framework for Transformer Circuits"), Olsson et al. 2022
(arXiv 2209.11895); the logit lens: nostalgebraist 2020 ("interpreting GPT").
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from octavo.examine.inspection.findings import Ablation, Head, HeadScores, LensLayer
from octavo.examine.inspection.torch_watching import Heads, watch
from octavo.models.transformer import Transformer

Ids = NDArray[np.int64]


def score_heads(model: Transformer, sequences: Ids) -> HeadScores:
    """Every head's scores, means over sequences (count, 2 * length) of random tokens written twice."""
    length = sequences.shape[1] // 2
    shape = (3, model.config.num_layers, model.config.attention.num_heads)
    sums = np.zeros(shape)

    def see(layer: int, weights: Tensor) -> None:
        sums[0, layer] += _mean_of_diagonal(weights, length - 1, first=length)
        sums[1, layer] += _mean_of_diagonal(weights, 1, first=1)
        sums[2, layer] += _mean_of_diagonal(weights, length, first=length)

    losses = []
    for row in sequences:
        tokens = torch.from_numpy(row)[None]
        losses.append(copy_losses(watch(model, tokens, see=see).logits, tokens))
    first, second = np.mean(losses, axis=0)
    induction, previous, duplicate = sums / len(sequences)
    return HeadScores(induction, previous, duplicate, float(first), float(second))


def copy_losses(logits: Tensor, tokens: Tensor) -> tuple[float, float]:
    """The mean loss in nats over the first copy and over the second. tokens: (1, 2 * length).

    The second copy's first token is not in it: that a repetition begins can not be known.
    """
    losses = functional.cross_entropy(logits[0, :-1].float(), tokens[0, 1:], reduction="none")
    length = tokens.shape[1] // 2
    return float(losses[: length - 1].mean()), float(losses[length:].mean())


def second_copy_loss(model: Transformer, sequences: Ids, off: Heads) -> float:
    """The mean loss over the second copies while some heads are off."""
    rows = [torch.from_numpy(row)[None] for row in sequences]
    return float(np.mean([copy_losses(watch(model, row, off=off).logits, row)[1] for row in rows]))


def ablate(model: Transformer, sequences: Ids, scores: HeadScores, *, count: int, draws: int, seed: int) -> Ablation:
    """The loss without the `count` best induction heads, and, `draws` times, without as many drawn from the others."""
    best = [(head.layer, head.head) for head in scores.top("induction", count)]
    layers, heads = scores.induction.shape
    others = [(layer, head) for layer in range(layers) for head in range(heads) if (layer, head) not in best]
    generator = np.random.default_rng(seed)
    losses = []
    for _ in range(draws):
        drawn = [others[index] for index in generator.choice(len(others), min(count, len(others)), replace=False)]
        losses.append(second_copy_loss(model, sequences, drawn))
    return Ablation(
        tuple(Head(*head) for head in best),
        scores.second_copy_loss,
        second_copy_loss(model, sequences, best),
        tuple(losses),
    )


def logit_lens(model: Transformer, ids: Sequence[int]) -> list[LensLayer]:
    """What the stream would say after each block if the model ended there, at every position.

    The final norm is applied once to each; entry 0 is the embeddings alone.
    """
    watched = watch(model, torch.tensor([list(ids)]), residuals=True)
    final = watched.logits[0].argmax(-1)
    return [_lens_layer(model, layer, x[0], final) for layer, x in enumerate(watched.residuals)]


@torch.inference_mode()
def _lens_layer(model: Transformer, layer: int, stream: Tensor, final: Tensor) -> LensLayer:
    logits = model.logits(stream if model.norm is None else model.norm(stream)).float()
    probabilities = logits.softmax(-1)
    own = logits.gather(1, final[:, None])
    return LensLayer(
        layer,
        tuple(logits.argmax(-1).tolist()),
        tuple(probabilities.max(-1).values.tolist()),
        tuple(probabilities.gather(1, final[:, None])[:, 0].tolist()),
        tuple((logits > own).sum(-1).tolist()),
    )


def attention_patterns(model: Transformer, ids: Sequence[int], heads: Heads) -> dict[Head, NDArray[np.float32]]:
    """(tokens, tokens) weights of some heads on a text; row: the token that attends."""
    found: dict[Head, NDArray[np.float32]] = {}

    def see(layer: int, weights: Tensor) -> None:
        found.update({Head(*head): weights[0, head[1]].float().numpy() for head in heads if head[0] == layer})

    watch(model, torch.tensor([list(ids)]), see=see)
    return {Head(*head): found[Head(*head)] for head in heads}


def _mean_of_diagonal(weights: Tensor, back: int, *, first: int) -> NDArray[np.float64]:
    """(heads,): how much queries from `first` on attend `back` positions back. weights: (1, heads, tokens, tokens)."""
    queries = torch.arange(first, weights.shape[-1])
    result: NDArray[np.float64] = weights[0, :, queries, queries - back].double().mean(-1).numpy()
    return result
