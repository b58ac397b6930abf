"""Fusion-in-Decoder (Izacard and Grave 2020, arXiv 2007.01282): passages are encoded apart, and read all at once.

Each passage is encoded with the question alone, so that the encoder's work grows with their number and not its square;
the decoder's cross-attention then reads the states of all of them as one memory. That has no positions in T5, so the
order of the passages changes nothing. What the cross-attention looks at says which passage was of use: its scores
before the softmax, averaged over layers, heads and a passage's tokens, teach the retriever (arXiv 2012.04584).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor
from torch.nn import functional

from octavo.errors import UnsupportedError
from octavo.generate.encoder_decoder.torch_beams import beam_search, log_probability, without_end
from octavo.generate.encoder_decoder.torch_steps import Steps, padded
from octavo.generate.lm import Beams
from octavo.generate.tasks.completion import Limits
from octavo.models.transformer import Transformer
from octavo.nn.attention import Attention
from octavo.nn.block import Memory
from octavo.retrieve.systems.torch_asking import Asking, AskingObjective
from octavo.retrieve.systems.torch_generator import Generator, Ids
from octavo.retrieve.systems.torch_rag import Answer


def fused(model: Transformer, sources: Sequence[Sequence[Ids]]) -> list[Memory]:
    """What each block reads of all passages of a question: (batch, heads, passages * tokens, head_dim), and a mask.

    sources: as many passages a question, each with the question. Raises UnsupportedError for a decoder.
    """
    if model.memory is None:
        raise UnsupportedError(
            "Fusion-in-Decoder fuses what an encoder made; generator.model must be a T5, not a decoder"
        )
    width = len(sources[0])
    tokens, mask = padded([source for row in sources for source in row], model.embed_tokens.weight.device)
    memory = model.remember(tokens, mask)
    seen = mask.view(len(sources), -1)
    return [(_joined(k, width), _joined(v, width), seen) for k, v, _ in memory]


def _joined(states: Tensor, width: int) -> Tensor:
    """(batch * passages, heads, tokens, head_dim) -> (batch, heads, passages * tokens, head_dim)."""
    rows, heads, tokens, head_dim = states.shape
    return states.view(rows // width, width, heads, tokens, head_dim).transpose(1, 2).flatten(2, 3)


def fused_logits(generator: Generator, sources: Sequence[Sequence[Ids]], targets: Sequence[Ids]) -> Tensor:
    """(batch, longest target, vocab_size): what is said of each token of each target; past its end, anything."""
    return _read(generator, fused(generator.model, sources), targets)


def _read(generator: Generator, memory: Sequence[Memory], targets: Sequence[Ids]) -> Tensor:
    device = generator.model.embed_tokens.weight.device
    begun, _ = padded([[generator.start_id, *target[:-1]] for target in targets], device)
    logits: Tensor = generator.model(begun, memory=memory)
    return logits


def relevance(generator: Generator, memory: Sequence[Memory], passages: int) -> Tensor:
    """(batch, passages): the mean score, before the softmax, of the first decoded token for each passage's tokens.

    Over all layers, heads and tokens that are not padding. memory: what `fused` gave.
    """
    model, rows = generator.model, len(memory[0][0])
    with _queries(model) as queries:
        Steps(model, torch.full((rows, 1), generator.start_id, device=memory[0][0].device), memory=memory)
    total = torch.zeros((), device=memory[0][0].device)
    for query, (keys, _, _), block in zip(queries, memory, model.blocks, strict=True):
        reader = block.get_submodule("cross_attention")
        assert isinstance(reader, Attention), "the model reads a memory"
        q = query.view(rows, 1, -1, reader.head_dim).transpose(1, 2)
        scale = reader.scoring.scale or reader.head_dim**-0.5
        groups = q.shape[1] // keys.shape[1]
        total = total + (q @ keys.repeat_interleave(groups, dim=1).transpose(2, 3))[:, :, 0].mean(1) * scale
    seen = memory[0][2]
    assert seen is not None, "fused memories are masked"
    scores = (total / len(memory) * seen).view(rows, passages, -1)
    return scores.sum(-1) / seen.view(rows, passages, -1).sum(-1)


@contextmanager
def _queries(model: Transformer) -> Iterator[list[Tensor]]:
    """While it lasts, what each block's cross-attention asks is kept."""
    kept: list[Tensor] = []
    layers = [block.get_submodule("cross_attention.q") for block in model.blocks]
    hooks = [layer.register_forward_hook(lambda module, given, out: kept.append(out)) for layer in layers]
    try:
        yield kept
    finally:
        for hook in hooks:
            hook.remove()


class FidObjective(AskingObjective):
    """Cross-entropy of a question's first answer; with settings.distil, the retriever's divergence from the reader too.

    The divergence is KL(softmax of `relevance`, softmax of q(x) d(z)), summed over questions.
    """

    def part(self, model: Asking, texts: Sequence[str], targets: Sequence[Ids]) -> Tensor:
        """As `AskingObjective.part`."""
        products, found = model.find(texts)
        memory = fused(model.generator, model.sources(texts, found))
        tokens, own = padded(targets, products.device)
        logits = _read(model.writer, memory, targets).float()
        loss = (functional.cross_entropy(logits.transpose(1, 2), tokens, reduction="none") * own).sum()
        if not model.settings.distil:
            return loss
        with torch.no_grad():
            wanted = relevance(model.writer, memory, found.shape[1]).float()
        return loss + distillation(products, wanted)


def distillation(products: Tensor, wanted: Tensor) -> Tensor:
    """KL(softmax of wanted, softmax of products), summed over rows. Both (rows, passages)."""
    return functional.kl_div(products.float().log_softmax(-1), wanted.log_softmax(-1), reduction="sum", log_target=True)


def answer(model: Asking, question: str) -> tuple[Answer, Tensor, list[int]]:
    """The best answer; of each passage that was read, its share of the softmax of `relevance`, and its number."""
    with torch.inference_mode():
        _, found = model.find([question])
        memory = fused(model.generator, model.sources([question], found))
        writer, beams = model.writer, Beams(model.settings.beams)
        first = torch.full((1, 1), writer.start_id, device=found.device)
        limits = Limits(frozenset(writer.end_ids), model.settings.answer_tokens)
        best, *_ = beam_search(Steps(model.generator, first, memory=memory), beams, limits)
        shares = relevance(writer, memory, found.shape[1])[0].softmax(-1)
        ids = tuple(without_end(best, writer.end_ids))
        return Answer(ids, log_probability(best, beams)), shares, found[0].tolist()
