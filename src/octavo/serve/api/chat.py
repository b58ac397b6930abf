"""`/v1/chat/completions`: a conversation in, the assistant's next message out.

Unusual: what chat templates of text models do not know is settled here: the developer's role becomes the system's, and
text parts are joined by line breaks, as other servers do.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Sequence
from typing import Annotated, Any, ClassVar, Literal, Self

from fastapi import APIRouter, Request, Response
from pydantic import Field, field_validator, model_validator

from octavo.generate import lm
from octavo.serve.answering import Answer, serving_of
from octavo.serve.fields import GenerationRequest, Refused, Strict, Text, TokenCount, unsupported, wrong
from octavo.serve.generation import Job
from octavo.serve.logprobs import chat_logprobs
from octavo.serve.structured import ResponseFormat, StructuredOutputs

router = APIRouter()

MetadataKey = Annotated[Text, Field(max_length=64)]
MetadataValue = Annotated[Text, Field(max_length=512)]


class CacheBreakpoint(Strict):
    """Accepted: prefixes are cached without being told where."""

    mode: Literal["explicit"]
    ttl: Literal["30m", "12h"] = "30m"


class TextPart(Strict):
    """A piece of a message's content."""

    refused: ClassVar[Refused] = {"image_url": (), "input_audio": (), "file": ()}

    type: Literal["text", "refusal"]
    text: Text | None = None
    refusal: Text | None = None
    prompt_cache_breakpoint: CacheBreakpoint | None = None

    @field_validator("type", mode="before")
    @classmethod
    def _text_only(cls, value: Any) -> Any:
        if value in ("image_url", "input_audio", "file"):
            raise unsupported(None, f"{value!r} is not what the served models read; send text")
        return value

    @model_validator(mode="after")
    def _has_its_text(self) -> Self:
        if self.said is None:
            raise wrong(self.type, "a part holds its text in the field that its type names")
        return self

    @property
    def said(self) -> str | None:
        """The text, whichever field holds it."""
        return self.text if self.type == "text" else self.refusal


class ChatMessage(Strict):
    """One message. `name` and the thinking text go to the template, which may use them."""

    refused: ClassVar[Refused] = {
        "tool_calls": ([],),
        "function_call": (),
        "audio": (),
        "tool_call_id": (),
        "annotations": ([],),
    }

    role: Literal["system", "developer", "user", "assistant"]
    content: Text | list[TextPart] | None = None
    name: Text | None = None
    refusal: Text | None = None
    reasoning_content: Text | None = None
    reasoning: Text | None = None

    @field_validator("role", mode="before")
    @classmethod
    def _no_tools(cls, value: Any) -> Any:
        if value in ("tool", "function"):
            raise unsupported(None, f"{value!r} is not supported by this server, which does not call tools")
        return value

    @model_validator(mode="after")
    def _has_content(self) -> Self:
        if self.content is None and not (self.role == "assistant" and self.refusal is not None):
            raise wrong("content", "a message needs content")
        return self

    def for_template(self) -> lm.Message:
        """The message as chat templates read it."""
        if isinstance(self.content, list):
            content = "\n".join(part.said or "" for part in self.content)
        else:
            content = self.content if self.content is not None else self.refusal or ""
        message = {"role": "system" if self.role == "developer" else self.role, "content": content}
        thoughts = self.reasoning_content if self.reasoning_content is not None else self.reasoning
        extra = {"name": self.name, "reasoning_content": thoughts}
        return message | {name: value for name, value in extra.items() if value is not None}


class PromptCacheOptions(Strict):
    """Accepted: the prefix cache is automatic."""

    mode: Literal["implicit", "explicit"] = "implicit"
    ttl: Literal["30m"] = "30m"


class Prediction(Strict):
    """Accepted: a guess at the answer may make it faster, never different."""

    type: Literal["content"]
    content: Text | list[TextPart]


class ChatRequest(GenerationRequest):
    """The body. Accepted without effect: store, metadata, and the fields from service_tier on."""

    refused: ClassVar[Refused] = {
        **GenerationRequest.refused,
        "audio": (),
        "modalities": (["text"],),
        "web_search_options": (),
        "tools": ([],),
        "tool_choice": ("none", "auto"),
        "parallel_tool_calls": (True, False),
        "functions": ([],),
        "function_call": ("none", "auto"),
        "reasoning_effort": ("none",),
        "chat_template": (),
        "chat_template_kwargs": ({},),
        "add_generation_prompt": (True,),
        "continue_final_message": (False,),
    }

    messages: Annotated[list[ChatMessage], Field(min_length=1)]
    max_completion_tokens: TokenCount | None = None
    max_tokens: TokenCount | None = None
    logprobs: bool = False
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    store: bool = False
    metadata: dict[MetadataKey, MetadataValue] = Field(default_factory=dict, max_length=16)
    service_tier: Literal["auto", "default", "flex", "scale", "priority", "fast"] | None = None
    safety_identifier: Annotated[Text, Field(max_length=128)] | None = None
    prompt_cache_key: Text | None = None
    prompt_cache_options: PromptCacheOptions | None = None
    prompt_cache_retention: Literal["in_memory", "24h"] | None = None
    verbosity: Literal["low", "medium", "high"] = "medium"
    prediction: Prediction | None = None
    response_format: ResponseFormat | None = None
    structured_outputs: StructuredOutputs | None = None

    @model_validator(mode="after")
    def _chat_agrees(self) -> Self:
        new, old = self.max_completion_tokens, self.max_tokens
        if new is not None and old is not None and new != old:
            raise wrong("max_tokens", f"it is the old name of max_completion_tokens, which says {new}")
        if self.top_logprobs is not None and not self.logprobs:
            raise wrong("top_logprobs", "it is only allowed when logprobs is true")
        formed = self.response_format is not None and self.response_format.type != "text"
        if formed and self.structured_outputs is not None:
            raise wrong("structured_outputs", "it is not allowed beside a response_format")
        return self

    def jobs(self, model: lm.LanguageModel) -> list[Job]:
        """The answers to make."""
        return [Job(self._request(model, choice)) for choice in range(self.n)]

    def _request(self, model: lm.LanguageModel, choice: int) -> lm.Request:
        asked = self.max_completion_tokens if self.max_completion_tokens is not None else self.max_tokens
        return lm.Request(
            prompt=[message.for_template() for message in self.messages],
            max_tokens=asked,
            sampling=self.sampling_for(model, choice),
            stop=self.stops,
            stop_token_ids=tuple(self.stop_token_ids),
            ignore_eos=self.ignore_eos,
            logprobs=(self.top_logprobs or 0) if self.logprobs else None,
            constraint=form.constraint if (form := self.structured_outputs or self.response_format) else None,
        )


class ChatShape:
    """How chat completions are written."""

    prompt_param = "messages"

    def __init__(self, body: ChatRequest, model: str) -> None:
        self.answers_a_prompt = body.n
        self.include_usage = body.stream_options is not None and body.stream_options.include_usage
        self._with_logprobs = body.logprobs
        self._fixed: dict[str, Any] = {
            "id": f"chatcmpl-{secrets.token_hex(12)}",
            "created": int(time.time()),
            "model": model,
        }
        if body.service_tier is not None:
            self._fixed["service_tier"] = "default"

    def envelope(self, *, streamed: bool) -> dict[str, Any]:
        """The fields around the choices."""
        return {**self._fixed, "object": "chat.completion.chunk" if streamed else "chat.completion"}

    def pieces(self, index: int, event: lm.Event | lm.Scores) -> list[dict[str, Any]]:
        """Role first, then text, then why it ended."""
        if isinstance(event, lm.Started):
            return [self._piece(index, {"role": "assistant", "content": ""})]
        if isinstance(event, lm.Finished):
            return [self._piece(index, {}, finish_reason=event.reason)]
        assert isinstance(event, lm.Delta)
        logprobs = chat_logprobs(event.logprobs) if event.logprobs else None
        if not event.text and logprobs is None:
            return []
        return [self._piece(index, {"content": event.text}, logprobs=logprobs)]

    def _piece(
        self, index: int, delta: dict[str, Any], *, logprobs: Any = None, finish_reason: str | None = None
    ) -> dict[str, Any]:
        return {"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": finish_reason}

    def whole(self, index: int, events: Sequence[lm.Event | lm.Scores]) -> dict[str, Any]:
        """The choice of a finished answer."""
        deltas = [event for event in events if isinstance(event, lm.Delta)]
        finished = events[-1]
        assert isinstance(finished, lm.Finished)
        text = "".join(delta.text for delta in deltas)
        tokens = [token for delta in deltas for token in delta.logprobs]
        return {
            "index": index,
            "message": {"role": "assistant", "content": text, "refusal": None},
            "logprobs": chat_logprobs(tokens) if self._with_logprobs else None,
            "finish_reason": finished.reason,
        }


@router.post("/v1/chat/completions")
async def create_chat_completion(body: ChatRequest, request: Request) -> Response:
    """Answer a conversation, whole or as a stream of server-sent events."""
    serving = serving_of(request)
    model = await serving.find(body.model)
    return Answer(serving, model, body.jobs(model), ChatShape(body, model.name), body.stream)
