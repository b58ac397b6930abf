"""`/v1/rerank`: passages by how well they answer a query, in the shape that Cohere, Jina and vLLM share.

The logit of a cross-encoder, or of a decoder that is asked yes or no, becomes a relevance between 0 and 1; with an
embedder it is the cosine, at least 0, and with BGE-M3 what its three heads say together.
"""

from __future__ import annotations

import asyncio
import uuid
from typing import Annotated, Any

import numpy as np
from fastapi import APIRouter, Request
from pydantic import Field

from octavo.generate.embed import Embedder, normalized
from octavo.generate.rerank import ranked, relevance
from octavo.models.encoders.runner import Floats
from octavo.serve.answering import serving_of
from octavo.serve.encoders.pool import Encoder
from octavo.serve.fields import Strict, Text
from octavo.serve.generation import in_turn

router = APIRouter()

MAX_DOCUMENTS = 2048
FullText = Annotated[Text, Field(min_length=1)]


class Document(Strict):
    """A passage as an object."""

    text: FullText


class RerankRequest(Strict):
    """return_documents: whether the passages come back with their scores."""

    query: FullText
    documents: Annotated[list[FullText | Document], Field(min_length=1, max_length=MAX_DOCUMENTS)]
    model: Text | None = None
    top_n: Annotated[int, Field(ge=1, lt=1 << 31)] | None = None
    return_documents: bool = True


@router.post("/v1/rerank")
@router.post("/v2/rerank", include_in_schema=False)
@router.post("/rerank", include_in_schema=False)
async def rerank(body: RerankRequest, request: Request) -> dict[str, Any]:
    """The passages, the most relevant first."""
    serving = serving_of(request)
    serving.require_ready()
    encoder = await serving.encoders.ranking(body.model)
    texts = [document if isinstance(document, str) else document.text for document in body.documents]
    async with in_turn(serving.admission, request.receive):
        scores, tokens = await asyncio.to_thread(_scores, encoder, body.query, texts)
    results = [
        {
            "index": place.index,
            "relevance_score": place.score,
            **({"document": {"text": texts[place.index]}} if body.return_documents else {}),
        }
        for place in ranked(scores, body.top_n)
    ]
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    return {"id": f"rerank-{uuid.uuid4().hex}", "model": body.model or encoder.name, "results": results, "usage": usage}


def _scores(encoder: Encoder, query: str, texts: list[str]) -> tuple[Floats, int]:
    if not isinstance(encoder, Embedder):
        scores, tokens = encoder.score_counted(query, texts)
        return scores if encoder.bounded else relevance(scores), tokens
    asked, passages = encoder.embed([query], kind="query"), encoder.embed(texts, kind="passage")
    cosines = normalized(passages) @ normalized(asked)[0]
    return np.maximum(cosines, 0), encoder.count_tokens([query, *texts])
