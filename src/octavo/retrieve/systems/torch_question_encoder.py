"""The question's side of a retriever, as a module that learns: an encoder and how its states become one vector.

Unusual: the vector is not scaled to length 1, as the passages' are: its length is the temperature of p(z|x), and the
order of the passages does not depend on it. Source: Karpukhin et al. 2020 (DPR, arXiv 2004.04906).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from octavo.errors import UnsupportedError
from octavo.generate.encoder_decoder.torch_steps import padded
from octavo.models.checkpoint import open_checkpoint
from octavo.models.formats.sentence_transformers import read_layout
from octavo.models.transformer import Transformer
from octavo.text.tokenizer import Tokenizer


class QuestionEncoder(nn.Module):
    """body: the encoder. pooling: whether its states are averaged, or the first is taken, as DPR does."""

    def __init__(
        self,
        body: Transformer,
        tokenizer: Tokenizer,
        *,
        pooling: str,
        max_tokens: int,
        prompt: str = "",
        family: str = "bert",
    ) -> None:
        super().__init__()
        self.body = body
        self.tokenizer = tokenizer
        self.family = family
        self._pooling = pooling
        self._max_tokens = max_tokens
        self._prompt = prompt

    @classmethod
    def load(cls, path: Path, **facts: Any) -> QuestionEncoder:
        """From a sentence-transformers folder or a plain encoder's. facts: what `facts()` gave, over the folder's own.

        Raises UnsupportedError for other poolings.
        """
        layout = read_layout(path)
        checkpoint = open_checkpoint(layout.body)
        if checkpoint.config.encoder is None or layout.poolings not in (("mean",), ("cls",)):
            raise UnsupportedError(f"{path} is no encoder with mean or CLS pooling; give such as all-minilm-l6-v2")
        longest = checkpoint.config.context_length
        own = {
            "pooling": layout.poolings[0],
            "max_tokens": min(layout.max_tokens or longest, longest),
            "prompt": layout.prompts.get("query", ""),
        }
        body = Transformer.from_checkpoint(checkpoint)
        return cls(body, checkpoint.tokenizer(), **{**own, **facts}, family=checkpoint.family)

    def facts(self) -> dict[str, Any]:
        """What a plain encoder's folder does not say."""
        return {"pooling": self._pooling, "max_tokens": self._max_tokens, "prompt": self._prompt}

    def encode(self, questions: Sequence[str]) -> list[list[int]]:
        """Token ids of each question."""
        prompted = [self._prompt + question for question in questions]
        return [item.ids for item in self.tokenizer.encode_batch(prompted, max_tokens=self._max_tokens)]

    def forward(self, questions: Sequence[Sequence[int]]) -> Tensor:
        """Token ids of questions -> (questions, hidden_size), q(x)."""
        tokens, mask = padded(questions, self.body.embed_tokens.weight.device)
        hidden: Tensor = self.body(tokens, mask)
        if self._pooling == "cls":
            return hidden[:, 0]
        return (hidden * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)
