"""What writes an answer from a source that holds a passage: an encoder-decoder that reads it, or a decoder after it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

from octavo.generate.encoder_decoder.torch_seq2seq import start_of
from octavo.generate.encoder_decoder.torch_steps import Steps, padded, steps
from octavo.models.checkpoint import Checkpoint, open_checkpoint
from octavo.models.transformer import Transformer
from octavo.text.tokenizer import Tokenizer

Ids = Sequence[int]


class Generator:
    """A model with its tokenizer. start_id: what begins an encoder-decoder's answers; end_ids: any of them ends one."""

    def __init__(self, model: Transformer, tokenizer: Tokenizer, start_id: int, end_ids: Sequence[int]) -> None:
        self.model = model
        self.tokenizer = tokenizer
        self.start_id = start_id
        self.end_ids = tuple(end_ids)

    @classmethod
    def load(cls, path: Path) -> Generator:
        """From a checkpoint of either kind."""
        checkpoint = open_checkpoint(path)
        return cls.of(checkpoint, Transformer.from_checkpoint(checkpoint))

    @classmethod
    def of(cls, checkpoint: Checkpoint, model: Transformer) -> Generator:
        """With a checkpoint's tokenizer and special tokens."""
        start = 0 if checkpoint.config.memory is None else start_of(checkpoint)
        return cls(model, checkpoint.tokenizer(), start, checkpoint.generation.eos_token_ids)

    @property
    def reads_prompts(self) -> bool:
        """Whether it is a decoder, whose source is the text before the answer."""
        return self.model.memory is None

    def source(self, text: str, longest: int) -> list[int]:
        """A source's ids. A decoder's prompt keeps its end, an encoder's source its beginning."""
        ids = self.tokenizer.encode(text)
        return ids[-longest:] if self.reads_prompts else ids[:longest]

    def target(self, answer: str) -> list[int]:
        """An answer's ids and its end."""
        written = " " + answer if self.reads_prompts else answer
        return [*self.tokenizer.encode(written, special=False, bos=False), *self.end_ids[:1]]

    def logits(self, sources: Sequence[Ids], targets: Sequence[Ids]) -> Tensor:
        """(rows, longest target, vocab_size): what is said of each token of each target; past its end, anything."""
        device = self.model.embed_tokens.weight.device
        if not self.reads_prompts:
            memory = self.model.remember(*padded(sources, device))
            begun, _ = padded([[self.start_id, *target[:-1]] for target in targets], device)
            logits: Tensor = self.model(begun, memory=memory)
            return logits
        whole, _ = padded([[*source, *target[:-1]] for source, target in zip(sources, targets, strict=True)], device)
        logits = self.model(whole)
        ends = torch.tensor([len(source) - 1 for source in sources], device=device)
        longest = max(len(target) for target in targets)
        places = (ends[:, None] + torch.arange(longest, device=device)).clamp(max=whole.shape[1] - 1)
        return logits[torch.arange(len(logits), device=device)[:, None], places]

    def log_probs(self, sources: Sequence[Ids], targets: Sequence[Ids]) -> Tensor:
        """(rows, longest target) fp32: of each token of each target; past its end, 0."""
        tokens, own = padded(targets, self.model.embed_tokens.weight.device)
        scores = functional.log_softmax(self.logits(sources, targets).float(), dim=-1)
        return scores.gather(-1, tokens[..., None])[..., 0] * own

    def steps(self, sources: Sequence[Ids]) -> Steps:
        """Ready to answer the sources."""
        return steps(self.model, sources, self.start_id)
