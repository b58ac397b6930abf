"""The fields that requests share, and the rule that none is ever ignored in silence.

Each field is honoured, documented as accepted (checked, no effect), or refused by name; a field nobody knows is refused
with the nearest known one. An explicit null counts as absent. Strict: no bool as a number, no NaN, bounded numbers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from octavo.errors import nearest
from octavo.generate.lm import Beams, LanguageModel, Sampling

Penalty = Annotated[float, Field(ge=-2, le=2)]
TokenId = Annotated[int, Field(ge=0, lt=1 << 31)]
TokenCount = Annotated[int, Field(ge=1, lt=1 << 31)]

SAMPLING_FIELDS = (
    "temperature", "top_p", "min_p", "typical_p", "repetition_penalty", "presence_penalty", "frequency_penalty",
)  # fmt: skip


Refused = Mapping[str, tuple[Any, ...]]
"""Known fields without support, each with the values that ask for nothing."""


class Strict(BaseModel):
    """An object of a request."""

    model_config = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)
    refused: ClassVar[Refused] = {}

    @model_validator(mode="before")
    @classmethod
    def _know_every_field(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        fields = cls.field_names()
        kept = {}
        for name, value in data.items():
            if name in fields:
                kept[name] = value
            elif name not in cls.refused:
                raise unknown(name, (*fields, *cls.refused))
            elif value is not None and not any(_same(value, neutral) for neutral in cls.refused[name]):
                raise unsupported(name, "is not supported by this server")
        return {name: value for name, value in kept.items() if value is not None}

    @classmethod
    def field_names(cls) -> tuple[str, ...]:
        """The honoured and accepted fields, as a request spells them."""
        return tuple(field.alias or name for name, field in cls.model_fields.items())


def _same(value: Any, neutral: Any) -> bool:
    """Equality that tells false from 0."""
    return type(value) is type(neutral) and bool(value == neutral)


def unknown(name: str, known: tuple[str, ...]) -> PydanticCustomError:
    """A field that nobody knows; `errors.from_validation` writes the sentence."""
    shown = name[:64].encode("utf-8", "replace").decode()
    clause = nearest(shown, known)
    hint = f" D{clause[3:]}" if clause else ""
    return PydanticCustomError("unknown_parameter", "unknown parameter", {"field": shown, "hint": hint})


def unsupported(name: str | None, reason: str) -> PydanticCustomError:
    """A field that is known, with a value that this server does not do. name None: the field under validation."""
    context = {"reason": reason} if name is None else {"field": name, "reason": reason}
    return PydanticCustomError("unsupported_parameter", "unsupported parameter", context)


def wrong(name: str | int | None, problem: str) -> PydanticCustomError:
    """A value that its type does not forbid and its meaning does. name None: the field under validation."""
    text = problem.replace("{", "{{").replace("}", "}}")
    return PydanticCustomError("invalid_value", text, {} if name is None else {"field": name})


def check_text(value: str, name: int | None = None) -> str:
    """Refuse half of a surrogate pair: JSON can spell it, but it is no character."""
    try:
        value.encode()
    except UnicodeEncodeError:
        raise wrong(name, "it holds half of a surrogate pair, which is no character") from None
    return value


Text = Annotated[str, AfterValidator(check_text)]
MetadataKey = Annotated[Text, Field(max_length=64)]
MetadataValue = Annotated[Text, Field(max_length=512)]
Metadata = Annotated[dict[MetadataKey, MetadataValue], Field(max_length=16)]
StopText = Annotated[Text, Field(min_length=1, max_length=1024)]


class StreamOptions(Strict):
    """include_obfuscation is accepted: it pads chunks against eavesdroppers, who are not expected on one machine."""

    include_usage: bool = False
    include_obfuscation: bool = False


class SamplingRequest(Strict):
    """How to choose tokens: the fields that all requests for text share. `user` is accepted; from top_k on they are not
    OpenAI's."""

    model: Text | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(ge=0, le=1)] | None = None
    presence_penalty: Penalty | None = None
    frequency_penalty: Penalty | None = None
    logit_bias: dict[str, Annotated[float, Field(ge=-100, le=100)]] = Field(default_factory=dict)
    seed: Annotated[int, Field(ge=-(1 << 63), lt=1 << 63)] | None = None
    user: Text | None = None
    top_k: Annotated[int, Field(ge=-1, lt=1 << 31, description="0 and -1: all tokens")] | None = None
    min_p: Annotated[float, Field(ge=0, le=1)] | None = None
    typical_p: Annotated[float, Field(ge=0, le=1)] | None = None
    repetition_penalty: Annotated[float, Field(ge=0.01, le=100)] | None = None
    stop_token_ids: Annotated[list[TokenId], Field(max_length=64)] = []
    ignore_eos: bool = False

    @model_validator(mode="after")
    def _biases_agree(self) -> Self:
        for key in self.logit_bias:
            if not (key.isascii() and key.isdigit() and len(key) < 10):
                raise wrong("logit_bias", f"the key {key[:20]!r} is not a token id")
        return self

    def sampling_for(self, model: LanguageModel, choice: int) -> Sampling:
        """How to sample the n-th answer to one prompt: what the request says over what the model's authors advise.

        A seeded request gives each answer a seed of its own, so that n answers differ and each can be had again.
        """
        given: dict[str, Any] = {name: getattr(self, name) for name in SAMPLING_FIELDS}
        given["top_k"] = None if self.top_k is None else max(0, self.top_k)
        given["seed"] = None if self.seed is None else (self.seed + choice) % (1 << 63)
        given["logit_bias"] = {int(key): bias for key, bias in self.logit_bias.items()} or None
        return replace(model.sampling, **{name: value for name, value in given.items() if value is not None})


class GenerationRequest(SamplingRequest):
    """The fields that chat and plain completions share; from min_tokens on they are vLLM's.

    With use_beam_search the best n of best_of beams are answered, and how to sample has no effect.
    """

    refused: ClassVar[Refused] = {"moderation": ()}

    n: Annotated[int, Field(ge=1, le=16)] = 1
    stream: bool = False
    stream_options: StreamOptions | None = None
    stop: StopText | Annotated[list[StopText], Field(max_length=4)] = []
    best_of: Annotated[int, Field(ge=1, le=16)] | None = None
    min_tokens: Annotated[int, Field(ge=0, lt=1 << 31)] = 0
    skip_special_tokens: bool = True
    include_stop_str_in_output: bool = False
    prompt_logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    return_token_ids: bool = False
    thinking_token_budget: Annotated[int, Field(ge=0, lt=1 << 31)] | None = None
    cache_salt: Annotated[Text, Field(min_length=1, max_length=1024)] | None = None
    priority: Annotated[int, Field(ge=-(1 << 31), lt=1 << 31)] = 0
    use_beam_search: bool = False
    length_penalty: Annotated[float, Field(ge=-10, le=10)] = 1.0
    early_stopping: bool | Literal["never"] = False

    @model_validator(mode="after")
    def _agree(self) -> Self:
        if self.stream_options is not None and not self.stream:
            raise wrong("stream_options", "it is only allowed when stream is true")
        if self.prompt_logprobs is not None and self.stream:
            raise wrong("prompt_logprobs", "it is only allowed when stream is false")
        if self.best_of is not None and self.best_of < self.n:
            raise wrong("best_of", "it must be at least n")
        return self

    @property
    def searches(self) -> int:
        """How many requests to the model make the n answers to a prompt: a beam search makes them all."""
        return 1 if self.use_beam_search else self.n

    @property
    def stops(self) -> tuple[str, ...]:
        """The stop texts."""
        return (self.stop,) if isinstance(self.stop, str) else tuple(self.stop)

    def options(self) -> dict[str, Any]:
        """The fields of a `generate.lm.Request` that these say."""
        width = self.best_of or self.n
        beams = Beams(width, self.length_penalty, self.early_stopping, self.n) if self.use_beam_search else None
        return {
            "stop": self.stops,
            "stop_token_ids": tuple(self.stop_token_ids),
            "ignore_eos": self.ignore_eos,
            "min_tokens": self.min_tokens,
            "include_stop": self.include_stop_str_in_output,
            "prompt_logprobs": self.prompt_logprobs,
            "cache_salt": self.cache_salt or "",
            "priority": self.priority,
            "thinking": self.thinking_token_budget,
            "beams": beams,
        }
