"""`/tokenize`, `/detokenize` and `/tokenizer_info`: the model's tokenizer over HTTP, in vLLM's shapes.

Evaluation harnesses use them to count and cut as the model does. They are served with and without `/v1` before them,
since clients join them to either address.
"""

from __future__ import annotations

import asyncio
from typing import Annotated, Any, Self

from fastapi import APIRouter, Request
from pydantic import Field, model_validator

from octavo.errors import UnsupportedError
from octavo.generate.lm import LanguageModel
from octavo.serve.answering import serving_of
from octavo.serve.errors import invalid
from octavo.serve.fields import Strict, Text, TokenId, wrong
from octavo.serve.messages import ChatMessage
from octavo.text.tokenizer import Tokenizer

router = APIRouter()


class TokenizeRequest(Strict):
    """Text, or a conversation as the model's template renders it."""

    model: Text | None = None
    prompt: Text | None = None
    messages: Annotated[list[ChatMessage], Field(min_length=1)] | None = None
    add_special_tokens: bool = True
    add_generation_prompt: bool = True
    return_token_strs: bool = False

    @model_validator(mode="after")
    def _has_one_input(self) -> Self:
        if (self.prompt is None) == (self.messages is None):
            raise wrong("prompt", "give either a prompt or messages")
        return self


class DetokenizeRequest(Strict):
    """Token ids."""

    model: Text | None = None
    tokens: Annotated[list[TokenId], Field(max_length=1 << 20)]


@router.post("/tokenize")
@router.post("/v1/tokenize", include_in_schema=False)
async def tokenize(body: TokenizeRequest, request: Request) -> dict[str, Any]:
    """The ids of a text, their count, and the model's context length."""
    model, tokenizer = await _tokenizer_of(request, body.model)
    ids = await asyncio.to_thread(_encoded, tokenizer, body)  # a long text would stop everyone else's answers
    answer: dict[str, Any] = {"count": len(ids), "max_model_len": model.context_length, "tokens": ids}
    return {**answer, "token_strs": [tokenizer.token_text(token) for token in ids] if body.return_token_strs else None}


def _encoded(tokenizer: Tokenizer, body: TokenizeRequest) -> list[int]:
    if body.prompt is not None:
        return tokenizer.encode(body.prompt, bos=None if body.add_special_tokens else False)
    assert body.messages is not None
    messages = [message.for_template() for message in body.messages]
    return tokenizer.encode_chat(messages, add_generation_prompt=body.add_generation_prompt)


@router.post("/detokenize")
@router.post("/v1/detokenize", include_in_schema=False)
async def detokenize(body: DetokenizeRequest, request: Request) -> dict[str, Any]:
    """The text of ids, special tokens included."""
    _, tokenizer = await _tokenizer_of(request, body.model)
    for place, token in enumerate(body.tokens):
        if token >= tokenizer.vocab_size:
            most = tokenizer.vocab_size - 1
            raise invalid(f"Token id {token} does not exist; ids are 0 to {most}.", f"tokens.{place}")
    return {"prompt": await asyncio.to_thread(tokenizer.decode, body.tokens, skip_special=False)}


@router.get("/tokenizer_info")
@router.get("/v1/tokenizer_info", include_in_schema=False)
async def tokenizer_info(request: Request) -> dict[str, Any]:
    """The special tokens and the chat template."""
    model, tokenizer = await _tokenizer_of(request, None)
    special = {"bos_token": tokenizer.bos_id, "eos_token": tokenizer.eos_id, "pad_token": tokenizer.pad_id}
    return {
        "tokenizer_class": "Octavo",
        "model_max_length": model.context_length,
        "vocab_size": tokenizer.vocab_size,
        "chat_template": tokenizer.chat_template,
        **{
            name: None if token is None else tokenizer.decode([token], skip_special=False)
            for name, token in special.items()
        },
    }


async def _tokenizer_of(request: Request, name: str | None) -> tuple[LanguageModel, Tokenizer]:
    model = await serving_of(request).find(name)
    if model.tokenizer is None:
        raise UnsupportedError(f"the tokenizer of {model.name!r} is not at hand here", param="model")
    return model, model.tokenizer
