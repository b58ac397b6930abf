"""The bodies of Ollama's API, and the chat or plain completion that each asks for.

Unusual: they become this server's own requests (`api/chat.py`, `api/completions.py`), so that an answer is the same by
either way in. Options that size Ollama's own memory are accepted: a server's models are sized when it starts.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, ClassVar, Literal, Self, TypeVar

from pydantic import AllowInfNan, BeforeValidator, Field, ValidationError, model_validator

from octavo.serve.api.chat import ChatRequest
from octavo.serve.api.completions import CompletionRequest
from octavo.serve.api.embeddings import EmbeddingsRequest
from octavo.serve.errors import from_validation, invalid
from octavo.serve.fields import Penalty, Refused, StopText, Strict, Text, wrong
from octavo.serve.tools import new_call_id

UNITS = {"ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
SPELLED = {"num_predict": "max_tokens", "repeat_penalty": "repetition_penalty"}
SAMPLING = (
    "seed", "top_k", "top_p", "min_p", "temperature", "repeat_penalty", "presence_penalty", "frequency_penalty", "stop",
)  # fmt: skip


def _seconds(value: Any) -> Any:
    """Seconds of a number or of a duration such as '5m' or '1h30m'; a negative one is for ever."""
    if isinstance(value, str):
        parts = re.findall(r"([\d.]+)(ms|s|m|h)", value.removeprefix("-"))
        try:
            seconds = float(value) if not parts else math.fsum(float(number) * UNITS[unit] for number, unit in parts)
        except ValueError:
            raise wrong(None, "a duration is a number of seconds, or written like 5m or 1h30m") from None
        value = -seconds if value.startswith("-") and parts else seconds
    if isinstance(value, bool) or not isinstance(value, int | float):
        return value
    return math.inf if value < 0 else float(value)


KeepAlive = Annotated[float, Field(ge=0), AllowInfNan(True), BeforeValidator(_seconds)]


class Options(Strict):
    """How to choose tokens. Accepted: repeat_last_n, as all of the context counts; the fields after it size memory."""

    refused: ClassVar[Refused] = {
        "tfs_z": (1, 1.0),
        "typical_p": (1, 1.0, 0, 0.0),
        "mirostat": (0,),
        "mirostat_tau": (5, 5.0),
        "mirostat_eta": (0.1,),
        "penalize_newline": (True,),
    }

    seed: Annotated[int, Field(ge=-(1 << 63), lt=1 << 63)] | None = None
    num_predict: Annotated[int, Field(ge=-2, lt=1 << 31)] | None = None
    top_k: Annotated[int, Field(ge=-1, lt=1 << 31)] | None = None
    top_p: Annotated[float, Field(ge=0, le=1)] | None = None
    min_p: Annotated[float, Field(ge=0, le=1)] | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    repeat_penalty: Annotated[float, Field(ge=0.01, le=100)] | None = None
    presence_penalty: Penalty | None = None
    frequency_penalty: Penalty | None = None
    stop: StopText | Annotated[list[StopText], Field(max_length=4)] | None = None
    repeat_last_n: int | None = None
    num_ctx: int | None = None
    num_keep: int | None = None
    num_batch: int | None = None
    num_gpu: int | None = None
    main_gpu: int | None = None
    num_thread: int | None = None
    numa: bool | None = None
    low_vram: bool | None = None
    f16_kv: bool | None = None
    logits_all: bool | None = None
    vocab_only: bool | None = None
    use_mmap: bool | None = None
    use_mlock: bool | None = None
    embedding_only: bool | None = None

    def sampling(self) -> dict[str, Any]:
        """The honoured ones, in OpenAI's spelling."""
        given = {SPELLED.get(name, name): getattr(self, name) for name in SAMPLING}
        return {name: value for name, value in given.items() if value is not None}

    @property
    def limit(self) -> int | None:
        """Tokens at most; None: as many as the context holds."""
        return None if self.num_predict is None or self.num_predict < 0 else self.num_predict


class Loading(Strict):
    """What every request that needs a model has."""

    model: Annotated[Text, Field(min_length=1)]
    options: Options = Options()
    keep_alive: KeepAlive | None = None


class Answering(Loading):
    """What both kinds of answers share. stream is true where nothing is said."""

    stream: bool = True
    format: Literal["", "json"] | dict[str, Any] = ""
    think: bool | Literal["low", "medium", "high", "max"] | None = None
    logprobs: bool = False
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = None

    def chat(self, messages: list[dict[str, Any]], tools: list[Any]) -> ChatRequest:
        """The chat completion that it asks for. Raises ApiError 400 that names what is wrong."""
        effort = self.think if isinstance(self.think, str) else None if self.think is None or self.think else "none"
        body: dict[str, Any] = {
            "messages": messages,
            **self.options.sampling(),
            "max_completion_tokens": self.options.limit,
            "tools": tools,
            "reasoning_effort": effort,
            "chat_template_kwargs": {"enable_thinking": self.think is True} if isinstance(self.think, bool) else None,
            "response_format": self._response_format(),
            "logprobs": self.logprobs or self.top_logprobs is not None,
            "top_logprobs": self.top_logprobs,
        }
        return validated(ChatRequest, body)

    def _response_format(self) -> dict[str, Any] | None:
        if isinstance(self.format, dict):
            return {"type": "json_schema", "json_schema": {"name": "format", "schema": self.format}}
        return {"type": "json_object"} if self.format else None


class CalledFunction(Strict):
    """A call of an earlier answer. arguments: an object, where OpenAI has JSON text."""

    index: int | None = None
    name: Text
    description: Text | None = None
    arguments: dict[str, Any] = Field(default_factory=dict)


class Call(Strict):
    """Ollama's wrapper."""

    id: Text | None = None
    type: Literal["function"] = "function"
    function: CalledFunction


class OllamaMessage(Strict):
    """One message."""

    refused: ClassVar[Refused] = {"images": ([],)}

    role: Literal["system", "user", "assistant", "tool"]
    content: Text = ""
    thinking: Text | None = None
    tool_calls: list[Call] = Field(default_factory=list)
    tool_name: Text | None = None
    tool_call_id: Text | None = None


class OllamaChat(Answering):
    """`/api/chat`. Without messages it only loads the model, or unloads it with keep_alive 0."""

    messages: list[OllamaMessage] = Field(default_factory=list)
    tools: list[dict[str, Any]] = Field(default_factory=list)

    def completion(self) -> ChatRequest:
        """The chat completion that it asks for."""
        return self.chat(list(_as_openai(self.messages)), self.tools)


class OllamaGenerate(Answering):
    """`/api/generate`. raw: the prompt is continued as it is. Without a prompt it only loads or unloads the model."""

    refused: ClassVar[Refused] = {
        "suffix": ("",), "images": ([],), "template": ("",), "context": ([],), "width": (0,), "height": (0,),
        "steps": (0,),
    }  # fmt: skip

    prompt: Text = ""
    system: Text = ""
    raw: bool = False

    @model_validator(mode="after")
    def _agree(self) -> Self:
        if self.raw and self.system:
            raise wrong("system", "a raw prompt is continued as it is, so it can have no system message")
        return self

    def templated(self) -> ChatRequest:
        """The answer to the prompt as a chat's only message."""
        said = [{"role": "system", "content": self.system}] if self.system else []
        return self.chat([*said, {"role": "user", "content": self.prompt}], [])

    def continued(self) -> CompletionRequest:
        """The continuation of the prompt."""
        limit = self.options.limit
        body: dict[str, Any] = {
            "prompt": self.prompt,
            **self.options.sampling(),
            "max_tokens": (1 << 31) - 1 if limit is None else limit,
            "structured_outputs": self._structured(),
        }
        if self.logprobs or self.top_logprobs is not None:
            raise invalid(UNSAID, "logprobs", "unsupported_parameter")
        return validated(CompletionRequest, body)

    def _structured(self) -> dict[str, Any] | None:
        if isinstance(self.format, dict):
            return {"json": self.format}
        return {"json_object": True} if self.format else None


UNSAID = "Unsupported parameter: 'logprobs' of a prompt that is continued as it is; /v1/completions has them."


class OllamaEmbed(Loading):
    """`/api/embed`. Accepted: options and keep_alive, since encoders stay in memory."""

    input: Text | list[Text]
    truncate: bool = True
    dimensions: Annotated[int, Field(ge=1)] | None = None

    def for_openai(self) -> EmbeddingsRequest:
        """The same in OpenAI's form."""
        body = {"input": self.input, "model": _plain(self.model), "truncate": self.truncate}
        return validated(EmbeddingsRequest, {**body, "dimensions": self.dimensions})


class OllamaEmbeddings(Loading):
    """`/api/embeddings`, the older form: one text."""

    prompt: Text

    def for_openai(self) -> EmbeddingsRequest:
        """The same in OpenAI's form."""
        return validated(EmbeddingsRequest, {"input": self.prompt, "model": _plain(self.model), "truncate": True})


class OllamaShow(Strict):
    """`/api/show`. Accepted: verbose, since all is shown in any case; name, the old spelling of model."""

    model: Text | None = None
    name: Text | None = None
    verbose: bool = False

    @model_validator(mode="after")
    def _has_a_model(self) -> Self:
        if not (self.model or self.name):
            raise wrong("model", "say which model")
        return self


def _plain(name: str) -> str:
    """Without ':latest', by which Ollama's clients name any model."""
    return name.removesuffix(":latest")


Body = TypeVar("Body", bound=Strict)


def validated(kind: type[Body], body: Mapping[str, Any]) -> Body:
    """A request of our own from checked parts. Raises ApiError 400."""
    try:
        return kind.model_validate({name: value for name, value in body.items() if value is not None})
    except ValidationError as error:
        raise from_validation(error.errors(), body) from None


def _as_openai(messages: Iterable[OllamaMessage]) -> Iterable[dict[str, Any]]:
    """Messages in OpenAI's shape: a result belongs to the first open call, of its tool where it names one."""
    open_calls: list[tuple[str, str]] = []
    for message in messages:
        written: dict[str, Any] = {"role": message.role, "content": message.content}
        if message.thinking:
            written["reasoning_content"] = message.thinking
        if message.tool_calls:
            calls = [(call.id or new_call_id(), call.function) for call in message.tool_calls]
            open_calls += [(identity, function.name) for identity, function in calls]
            written["tool_calls"] = [_call(identity, function) for identity, function in calls]
        if message.role == "tool":
            written["tool_call_id"] = message.tool_call_id or _answered(message.tool_name, open_calls)
        yield written


def _call(identity: str, function: CalledFunction) -> dict[str, Any]:
    arguments = json.dumps(function.arguments, ensure_ascii=False)
    return {"id": identity, "type": "function", "function": {"name": function.name, "arguments": arguments}}


def _answered(name: str | None, open_calls: list[tuple[str, str]]) -> str:
    for place, (identity, called) in enumerate(open_calls):
        if name in (None, called):
            del open_calls[place]
            return identity
    return "call_unknown"
