"""RAG (Lewis et al. 2020, arXiv 2005.11401): the retrieved passage is a latent variable, summed over in the answer.

p(z|x) is the softmax, over the k passages found, of inner products of the question's vector with the passages'. RAG-
Sequence lets one passage speak for the whole answer, p(y|x) = sum_z p(z|x) prod_i p(y_i|x,z,y_<i); RAG-Token lets each
token have its own, p(y|x) = prod_i sum_z p(z|x) p(y_i|x,z,y_<i). All sums are of logarithms. The passages' vectors are
given, so that gradients reach the question encoder and the generator and never the index.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from octavo.generate.encoder_decoder.torch_beams import beam_search, log_probability, without_end
from octavo.generate.lm import Beams
from octavo.generate.tasks.completion import Limits
from octavo.retrieve.systems.torch_asking import Asking, AskingObjective
from octavo.retrieve.systems.torch_generator import Generator, Ids

Marginal = Literal["sequence", "token"]
Decoding = Literal["thorough", "fast"]
"""Of a validation batch, which is as long as a decoder's."""


def sequence_log_prob(document: Tensor, tokens: Tensor) -> Tensor:
    """RAG-Sequence. document: (batch, k), log p(z|x). tokens: (batch, k, longest), 0 past the end -> (batch,)."""
    return torch.logsumexp(document + tokens.sum(-1), dim=1)


def token_log_prob(document: Tensor, tokens: Tensor, own: Tensor) -> Tensor:
    """RAG-Token. own: (batch, longest), which tokens are the answer's -> (batch,)."""
    mixed = torch.logsumexp(document[..., None] + tokens, dim=1)
    return (mixed * own).sum(-1)


def answer_log_prob(
    generator: Generator, sources: Sequence[Sequence[Ids]], targets: Sequence[Ids], scores: Tensor, marginal: Marginal
) -> Tensor:
    """(batch,): log p(y|x). sources: k a question, each a passage with the question. scores: (batch, k), d(z) q(x)."""
    width = scores.shape[1]
    flat = [source for row in sources for source in row]
    repeated = [target for target in targets for _ in range(width)]
    tokens = generator.log_probs(flat, repeated).view(len(targets), width, -1)
    document = scores.float().log_softmax(-1)
    if marginal == "sequence":
        return sequence_log_prob(document, tokens)
    lengths = torch.tensor([len(target) for target in targets], device=scores.device)
    own = torch.arange(tokens.shape[-1], device=scores.device)[None] < lengths[:, None]
    return token_log_prob(document, tokens, own)


class Mixture:
    """RAG-Token's rows: each is k rows of the generator, a passage each, whose next tokens are mixed by p(z|x)."""

    def __init__(self, generator: Generator, sources: Sequence[Ids], scores: Tensor) -> None:
        """Of one question. scores: (k,)."""
        self._steps = generator.steps(sources)
        self._document = scores.float().log_softmax(-1)[:, None]
        self._width = len(sources)
        self._mix()

    def _mix(self) -> None:
        parts = self._steps.logits.float().log_softmax(-1)
        parts = parts.view(-1, self._width, parts.shape[-1])
        self.logits = torch.logsumexp(parts + self._document, dim=1)

    def advance(self, tokens: Tensor) -> None:
        """As `Stepping`."""
        self._steps.advance(tokens.repeat_interleave(self._width))
        self._mix()

    def keep(self, rows: Tensor) -> None:
        """As `Stepping`."""
        within = torch.arange(self._width, device=rows.device)
        self._steps.keep((rows[:, None] * self._width + within).flatten())
        self.logits = self.logits[rows]


@dataclass(frozen=True)
class Answer:
    """ids: without the end. log_prob: of the answer with its end, summed over the passages."""

    ids: tuple[int, ...]
    log_prob: float


@torch.inference_mode()
def decode(
    generator: Generator,
    sources: Sequence[Ids],
    scores: Tensor,
    *,
    marginal: Marginal,
    beams: Beams,
    max_tokens: int,
    decoding: Decoding = "thorough",
) -> list[Answer]:
    """The best answers to one question, best first. sources: k, a passage each. scores: (k,).

    Token: a beam over the mixture. Sequence: a beam a passage makes the hypotheses; thorough scores each under every
    passage, fast takes a passage whose beam did not hold it as giving it nothing. An answer's rank is its probability.
    """
    limits = Limits(frozenset(generator.end_ids), max_tokens)
    if marginal == "token":
        found = beam_search(Mixture(generator, sources, scores), beams, limits)
        return [Answer(tuple(without_end(h, generator.end_ids)), log_probability(h, beams)) for h in found]
    document = scores.float().log_softmax(-1)
    beamed: dict[tuple[int, ...], Tensor] = {}  # hypothesis -> log p(z|x) p(y|x,z), of the passages that proposed it
    for place, source in enumerate(sources):
        for hypothesis in beam_search(generator.steps([source]), beams, limits):
            row = beamed.setdefault(hypothesis.tokens, torch.full((len(sources),), -torch.inf))
            row[place] = document[place].cpu() + log_probability(hypothesis, beams)
    targets = list(beamed)
    if decoding == "fast":
        totals = torch.stack([beamed[target] for target in targets]).logsumexp(-1)
    else:
        totals = torch.cat([answer_log_prob(generator, [sources], [y], scores[None], "sequence") for y in targets])
    order = totals.argsort(descending=True).tolist()
    return [Answer(_without(targets[at], generator.end_ids), float(totals[at])) for at in order]


def _without(tokens: tuple[int, ...], end_ids: Sequence[int]) -> tuple[int, ...]:
    return tokens[:-1] if tokens and tokens[-1] in end_ids else tokens


class RagObjective(AskingObjective):
    """-log p(y|x) of a question's first answer."""

    def part(self, model: Asking, texts: Sequence[str], targets: Sequence[Ids]) -> Tensor:
        """As `AskingObjective.part`."""
        products, found = model.find(texts)
        sources = model.sources(texts, found)
        return -answer_log_prob(model.writer, sources, targets, products, model.settings.marginal).sum()


def answer(model: Asking, question: str) -> tuple[Answer, Tensor, list[int]]:
    """The best answer, and the passages that it was sought in: p(z|x) of each, (k,), and their numbers."""
    with torch.inference_mode():
        products, found = model.find([question])
        settings = model.settings
        best, *_ = decode(
            model.writer, model.sources([question], found)[0], products[0], marginal=settings.marginal,
            beams=Beams(settings.beams), max_tokens=settings.answer_tokens, decoding=settings.decoding,
        )  # fmt: skip
        return best, products[0].softmax(-1), found[0].tolist()
