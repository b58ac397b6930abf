"""`/v1/chat/completions`: a conversation in, the assistant's next message out.

Calls of tools and thoughts are read out of the model's text (`text/tool_calls.py`) and written as OpenAI writes them:
a call's name once, then its arguments as they come.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Annotated, Any, ClassVar, Literal, Self

from fastapi import APIRouter, Request, Response
from pydantic import Field, model_validator

from octavo.generate import lm
from octavo.generate.constrain import Constraint
from octavo.serve.answering import Answer, EventStream, Usage, serving_of
from octavo.serve.api import stored
from octavo.serve.fields import GenerationRequest, Refused, Strict, Text, TokenCount, wrong
from octavo.serve.generation import Job
from octavo.serve.logprobs import TokenIds, chat_logprobs, prompt_logprobs
from octavo.serve.messages import ChatMessage, TextPart
from octavo.serve.structured import ResponseFormat, StructuredOutputs
from octavo.serve.tools import Function, Named, NamedTool, Tool, ToolChoice, Tools, new_call_id, opens_thoughts, reader
from octavo.text.tool_calls import CallArguments, CallStarted, Content, Piece, Thought

router = APIRouter()

MetadataKey = Annotated[Text, Field(max_length=64)]
MetadataValue = Annotated[Text, Field(max_length=512)]


class PromptCacheOptions(Strict):
    """Accepted: the prefix cache is automatic."""

    mode: Literal["implicit", "explicit"] = "implicit"
    ttl: Literal["30m"] = "30m"


class Prediction(Strict):
    """A text that the answer may repeat: it may make it faster, never different."""

    type: Literal["content"]
    content: Text | list[TextPart]

    @property
    def text(self) -> str:
        """Its parts together."""
        return self.content if isinstance(self.content, str) else "".join(part.text or "" for part in self.content)


class ChatRequest(GenerationRequest):
    """The body. metadata is kept with a stored completion. Accepted without effect: service_tier to verbosity."""

    refused: ClassVar[Refused] = {
        **GenerationRequest.refused,
        "audio": (),
        "modalities": (["text"],),
        "web_search_options": (),
        "chat_template": (),
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
    reasoning_effort: Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"] | None = None
    add_generation_prompt: bool = True
    continue_final_message: bool = False
    chat_template_kwargs: dict[Text, Any] = Field(default_factory=dict)
    tools: list[Tool] = Field(default_factory=list, max_length=128)
    tool_choice: ToolChoice | None = None
    parallel_tool_calls: bool = True
    functions: list[Function] = Field(default_factory=list, max_length=128)
    function_call: Literal["none", "auto"] | Named | None = None
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
        if self.continue_final_message and (self.add_generation_prompt or self.messages[-1].role != "assistant"):
            reason = "it goes on with the assistant's last message, and needs add_generation_prompt false"
            raise wrong("continue_final_message", reason)
        for name in ("messages", "tools", "add_generation_prompt", "continue_final_message", "template_name"):
            if name in self.chat_template_kwargs:
                raise wrong("chat_template_kwargs", f"{name!r} has a field of its own")
        if self.best_of is not None and not self.use_beam_search:
            raise wrong("best_of", "in a chat it is only allowed with use_beam_search")
        must_call = self.offered.mode == "required"
        if (formed or self.structured_outputs is not None) and must_call:
            raise wrong("tool_choice", "an answer that must be a call cannot have another form too")
        return self

    @cached_property
    def offered(self) -> Tools:
        """The tools, of the new fields or the old ones."""
        if self.tools or self.tool_choice is not None:
            functions = [tool.function for tool in self.tools]
            return Tools.of(functions, self.tool_choice, parallel=self.parallel_tool_calls)
        old: ToolChoice | None
        if isinstance(self.function_call, Named):
            old = NamedTool(type="function", function=self.function_call)
        else:
            old = self.function_call if self.functions else None
        return Tools.of(self.functions, old, parallel=False)

    def requests(self, model: lm.LanguageModel) -> list[lm.Request]:
        """The answers to make."""
        template = None if model.tokenizer is None else model.tokenizer.chat_template
        messages = self.offered.told([message.for_template() for message in self.messages], template)
        effort = self.reasoning_effort
        thinking = {} if effort is None else {"reasoning_effort": effort, "enable_thinking": effort != "none"}
        opening = {} if self.add_generation_prompt else {"add_generation_prompt": False}
        if self.continue_final_message:
            opening = {"continue_final_message": True}
        variables = {**self.offered.variables(template), **thinking, **opening, **self.chat_template_kwargs}
        form = self.structured_outputs or self.response_format
        constraint = self.offered.constraint(template, model.tokenizer) or (form.constraint if form else None)
        return [self._request(model, choice, messages, variables, constraint) for choice in range(self.searches)]

    def _request(
        self,
        model: lm.LanguageModel,
        choice: int,
        messages: Sequence[lm.Message],
        variables: Mapping[str, Any],
        constraint: Constraint | None,
    ) -> lm.Request:
        asked = self.max_completion_tokens if self.max_completion_tokens is not None else self.max_tokens
        return lm.Request(
            prompt=messages,
            max_tokens=asked,
            sampling=self.sampling_for(model, choice),
            logprobs=(self.top_logprobs or 0) if self.logprobs else None,
            # The marks around a call are special tokens in some models.
            skip_special=self.skip_special_tokens and not self.offered.used,
            template=variables,
            constraint=constraint,
            prediction="" if self.prediction is None else self.prediction.text,
            **self.options(),
        )


class ChatShape:
    """How chat completions are written. opened: the prompt ended inside the model's thoughts."""

    prompt_param = "messages"

    def __init__(self, body: ChatRequest, model: lm.LanguageModel, *, opened: bool) -> None:
        template = None if model.tokenizer is None else model.tokenizer.chat_template
        self.usage = Usage(body.n, predicts=body.prediction is not None)
        self._answers = body.n
        self.include_usage = body.stream_options is not None and body.stream_options.include_usage
        self._with_logprobs = body.logprobs
        self._tokenizer = model.tokenizer
        self._old = bool(body.functions)
        self._readers = [reader(body.offered, template, opened=opened) for _ in range(body.n)]
        self._called = [False] * body.n
        self._deltas_of: list[list[dict[str, Any]]] = [[] for _ in range(body.n)]
        self._tokens_of: list[list[lm.TokenLogprob]] = [[] for _ in range(body.n)]
        self._reasons = [""] * body.n
        self._ids = TokenIds() if body.return_token_ids else None
        self._first: dict[str, Any] = {}
        """What is around the choices in a stream's first chunk alone."""
        self._fixed: dict[str, Any] = {
            "id": f"chatcmpl-{secrets.token_hex(12)}",
            "created": int(time.time()),
            "model": model.name,
        }
        if body.service_tier is not None:
            self._fixed["service_tier"] = "default"

    def envelope(self, *, streamed: bool) -> dict[str, Any]:
        """The fields around the choices."""
        if streamed:
            return {**self._fixed, "object": "chat.completion.chunk", **self._first}
        prompt = {} if self._ids is None else {"prompt_token_ids": self._ids.prompts[0]}
        return {**self._fixed, "object": "chat.completion", **prompt}

    def pieces(self, index: int, event: lm.Event | lm.Scores) -> list[dict[str, Any]]:
        """Role first, then text, thoughts and calls, then why it ended."""
        pieces = self._pieces(index, event)
        if self._ids is not None and not isinstance(event, lm.Scores):
            pieces = pieces or [self._piece(index, {})]
            pieces[0] |= self._ids.of_event(index, event)
            self._first = {"prompt_token_ids": self._ids.prompts[index]} if isinstance(event, lm.Started) else {}
        return pieces

    def _pieces(self, index: int, event: lm.Event | lm.Scores) -> list[dict[str, Any]]:
        if isinstance(event, lm.Started):
            return [self._piece(index, {"role": "assistant", "content": ""})]
        if isinstance(event, lm.Finished):
            deltas = self._deltas(index, self._readers[index].flush())
            pieces = [self._piece(index, delta) for delta in deltas]
            self._reasons[index] = self._reason(index, event)
            return [*pieces, self._piece(index, {}, finish_reason=self._reasons[index])]
        if isinstance(event, lm.Scores):
            self._fixed["prompt_logprobs"] = prompt_logprobs(event, self._tokenizer)
            return []
        self._tokens_of[index] += event.logprobs
        logprobs = chat_logprobs(event.logprobs) if event.logprobs else None
        answer = self._readers[index]
        before = answer.thinking
        deltas = self._deltas(index, answer.push(event.text))
        if before or answer.thinking:
            self.usage.thoughts += len(event.token_ids)
        if logprobs is not None and not deltas:
            deltas = [{"content": ""}]
        pieces = [self._piece(index, delta) for delta in deltas]
        if pieces:
            pieces[0]["logprobs"] = logprobs
        return pieces

    def whole(self, index: int, events: Sequence[lm.Event | lm.Scores]) -> dict[str, Any]:
        """The choice of a finished answer."""
        for event in events:
            self.pieces(index, event)
        return self._choice(index)

    def completion(self, usage: dict[str, Any]) -> dict[str, Any]:
        """The whole answer, of pieces already given out: what a client would put together."""
        choices = [self._choice(index) for index in range(self._answers)]
        return {**self.envelope(streamed=False), "choices": choices, "usage": usage}

    def _choice(self, index: int) -> dict[str, Any]:
        return {
            "index": index,
            "message": _message(self._deltas_of[index]),
            "logprobs": chat_logprobs(self._tokens_of[index]) if self._with_logprobs else None,
            "finish_reason": self._reasons[index],
            **({} if self._ids is None else self._ids.of_answer(index)),
        }

    def _reason(self, index: int, finished: lm.Finished) -> str:
        if self._called[index] and finished.reason == "stop":
            return "function_call" if self._old else "tool_calls"
        return finished.reason

    def _deltas(self, index: int, read: Sequence[Piece]) -> list[dict[str, Any]]:
        deltas: list[dict[str, Any]] = []
        for piece in read:
            match piece:
                case Content(text):
                    deltas.append({"content": text})
                case Thought(text):
                    deltas.append({"reasoning_content": text, "reasoning": text})
                case CallStarted(number, name):
                    self._called[index] = True
                    deltas.append(self._call(number, {"name": name, "arguments": ""}, new=True))
                case CallArguments(number, text):
                    deltas.append(self._call(number, {"arguments": text}, new=False))
        self._deltas_of[index] += deltas
        return deltas

    def _call(self, number: int, function: dict[str, str], *, new: bool) -> dict[str, Any]:
        if self._old:
            return {"function_call": function}
        identity = {"id": new_call_id(), "type": "function"} if new else {}
        return {"tool_calls": [{"index": number, **identity, "function": function}]}

    def _piece(self, index: int, delta: dict[str, Any], *, finish_reason: str | None = None) -> dict[str, Any]:
        return {"index": index, "delta": delta, "logprobs": None, "finish_reason": finish_reason}


def _message(deltas: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """One message of a stream's deltas."""
    calls: list[dict[str, Any]] = []
    old: dict[str, str] = {}
    for delta in deltas:
        for call in delta.get("tool_calls", ()):
            if "id" in call:
                calls.append({"id": call["id"], "type": "function", "function": dict(call["function"])})
            else:
                calls[-1]["function"]["arguments"] += call["function"]["arguments"]
        for key, piece in delta.get("function_call", {}).items():
            old[key] = old.get(key, "") + piece
    text = "".join(delta.get("content", "") for delta in deltas)
    thoughts = "".join(delta.get("reasoning_content", "") for delta in deltas)
    message: dict[str, Any] = {"role": "assistant", "content": text, "refusal": None}
    if calls or old:
        message["content"] = text or None
    if calls:
        message["tool_calls"] = calls
    if old:
        message["function_call"] = old
    if thoughts:
        message |= {"reasoning_content": thoughts, "reasoning": thoughts}
    return message


@router.post("/v1/chat/completions")
async def create_chat_completion(body: ChatRequest, request: Request) -> Response:
    """Answer a conversation, whole or as a stream of server-sent events."""
    serving = serving_of(request)
    model = await serving.find(body.model)
    requests = body.requests(model)
    # A template may take two seconds, in which others' answers would stand still.
    opened = await asyncio.to_thread(opens_thoughts, model.tokenizer, requests[0])
    shape = ChatShape(body, model, opened=opened)
    keeps = body.store and serving.settings.store

    def keep(usage: dict[str, Any]) -> None:
        if keeps:
            stored.keep(serving, shape.completion(usage), body.metadata, requests[0])

    return Answer(serving, model, [Job(made) for made in requests], EventStream(shape), body.stream, keep)
