"""`/v1/embeddings`: OpenAI's shape, over the server's encoders.

Unusual: a text longer than the encoder takes is refused, as OpenAI does, unless `truncate` says to cut it. `input_type`
(query, passage, document) puts the encoder's own prompt before each text; it is not OpenAI's.
"""

from __future__ import annotations

import asyncio
import base64
from typing import Annotated, Any, Literal

import numpy as np
from fastapi import APIRouter, Request
from pydantic import BeforeValidator, Field

from octavo.errors import ContextLengthError
from octavo.generate.embed import Embedder, Kind, normalized
from octavo.models.encoders.runner import Floats
from octavo.serve.answering import serving_of
from octavo.serve.errors import invalid
from octavo.serve.fields import Strict, Text, TokenId, wrong
from octavo.serve.generation import in_turn

router = APIRouter()

MAX_INPUTS = 2048


def _check_input(value: Any) -> Any:
    """Refuse what is empty or too much in words of its own: of a union's complaints none would say it."""
    if value == "" or value == []:
        raise wrong(None, "it is empty; give a text or a list of them")
    if isinstance(value, list) and not all(isinstance(item, int) for item in value):
        if len(value) > MAX_INPUTS:
            raise wrong(None, f"it has {len(value)} texts; a request takes {MAX_INPUTS}")
        empty = next((index for index, item in enumerate(value) if item in ("", [])), None)
        if empty is not None:
            raise wrong(empty, "it is empty")
    return value


Input = Annotated[Text | list[TokenId] | list[Text] | list[list[TokenId]], BeforeValidator(_check_input)]
KINDS: dict[str, Kind] = {"query": "query", "passage": "passage", "document": "passage"}


class EmbeddingsRequest(Strict):
    """`user` is accepted."""

    input: Input
    model: Text | None = None
    encoding_format: Literal["float", "base64"] = "float"
    dimensions: Annotated[int, Field(ge=1, lt=1 << 31)] | None = None
    user: str | None = None
    input_type: Literal["query", "passage", "document"] | None = None
    truncate: bool = False


@router.post("/v1/embeddings")
async def create_embeddings(body: EmbeddingsRequest, request: Request) -> dict[str, Any]:
    """A vector for each text or list of token ids."""
    serving = serving_of(request)
    serving.require_ready()
    embedder = await serving.encoders.embedder(body.model)
    if body.dimensions is not None and body.dimensions > embedder.dimensions:
        raise invalid(
            f"Invalid value for 'dimensions': {embedder.name} has {embedder.dimensions}, not {body.dimensions}.",
            "dimensions",
        )
    async with in_turn(serving.admission, request.receive):
        vectors, tokens = await asyncio.to_thread(_embed, embedder, body)
    data = [
        {"object": "embedding", "index": index, "embedding": _written(vector, body.encoding_format)}
        for index, vector in enumerate(vectors)
    ]
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    return {"object": "list", "data": data, "model": body.model or embedder.name, "usage": usage}


def _embed(embedder: Embedder, body: EmbeddingsRequest) -> tuple[Floats, int]:
    rows = _rows(embedder, body)
    for index, row in enumerate(rows):
        if len(row) > embedder.max_tokens:
            raise ContextLengthError(
                f"input {index} has {len(row)} tokens and {embedder.name} takes {embedder.max_tokens}; shorten it, or "
                "set truncate to cut it",
                param="input",
            )
    vectors = embedder.embed_tokens(rows)
    if body.dimensions is not None and body.dimensions < embedder.dimensions:
        vectors = normalized(vectors[:, : body.dimensions])
    return vectors, sum(map(len, rows))


def _rows(embedder: Embedder, body: EmbeddingsRequest) -> list[list[int]]:
    """Each text's token ids, cut where the request says so."""
    given = body.input
    one = isinstance(given, str) or isinstance(given[0], int)
    items: list[Any] = [given] if one else list(given)
    limit = embedder.max_tokens if body.truncate else None
    if not isinstance(items[0], str):
        return [row[:limit] for row in items]
    prompt = embedder.prompts[KINDS[body.input_type] if body.input_type else "plain"]
    return [item.ids for item in embedder.tokenizer.encode_batch([prompt + text for text in items], max_tokens=limit)]


def _written(vector: Floats, encoding_format: str) -> list[float] | str:
    if encoding_format == "float":
        return [float(value) for value in vector]
    return base64.b64encode(np.ascontiguousarray(vector, "<f4").tobytes()).decode()
