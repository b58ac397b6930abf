"""`/v1/decisions`: questions about an input, answered by probabilities instead of text.

Unusual: nothing is sampled. Each possible answer is scored as what the model would say next, its end included, and the
scores are normalised over the possible answers of a question: exactly the model's probability of each, given that it
answers with one of them. A score's number is the expectation of its levels' places, the first being 0.
"""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from threading import Event
from typing import Annotated, Any, Literal, Self

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse
from pydantic import Discriminator, Field, Tag, field_validator, model_validator

from octavo.errors import OctavoError, UnsupportedError
from octavo.generate import lm
from octavo.serve.answering import serving_of
from octavo.serve.api.chat import PromptCacheOptions
from octavo.serve.errors import as_api_error
from octavo.serve.fields import Strict, Text, unsupported, wrong
from octavo.serve.generation import ClientLeft, in_turn
from octavo.serve.responses.items import as_objects, check_item, messages_of
from octavo.text.tokenizer import Tokenizer

router = APIRouter()

AT_ONCE = 8
"""Answers that are scored at the same time."""


class InstructionPart(Strict):
    """Text, or data that is shown as JSON."""

    type: Literal["input_text", "input_json"]
    text: Text | None = None
    json_value: Any = Field(None, alias="json")

    @field_validator("type", mode="before")
    @classmethod
    def _no_images(cls, value: Any) -> Any:
        if value == "input_image":
            raise unsupported(None, "'input_image' is not what the served models read; send text")
        return value

    @property
    def said(self) -> str:
        """The part as text."""
        return self.text or "" if self.type == "input_text" else json.dumps(self.json_value, ensure_ascii=False)


class Asked(Strict):
    """What all questions have."""

    instructions: Annotated[Text, Field(min_length=1)] | Annotated[list[InstructionPart], Field(min_length=1)]
    name: Text | None = None

    @property
    def text(self) -> str:
        """The instructions as text."""
        given = self.instructions
        return given if isinstance(given, str) else "\n".join(part.said for part in given)


class Predicate(Asked):
    """Whether a statement about the input is true."""

    type: Literal["predicate"]

    @property
    def options(self) -> tuple[str, ...]:
        """The answers that are compared."""
        return ("Yes", "No")

    def asks(self) -> str:
        """The question as the model reads it."""
        return f"{self.text}\n\nIs this true? Answer Yes or No, and nothing else."

    def answer(self, probabilities: Sequence[float]) -> dict[str, Any]:
        """The answer's own fields."""
        return {"probability": probabilities[0]}


class Option(Strict):
    """One of the answers to choose from; a text and a boolean of one spelling are two."""

    value: Text | bool
    description: Text | None = None

    @property
    def said(self) -> str:
        """What the model would answer."""
        return str(self.value)


class Choice(Asked):
    """Which of some answers fits."""

    type: Literal["choice"]
    choices: Annotated[list[Option], Field(min_length=2, max_length=255)]

    @model_validator(mode="after")
    def _differ(self) -> Self:
        if len({(type(option.value), option.value) for option in self.choices}) < len(self.choices):
            raise wrong("choices", "each choice must be another")
        if len(set(self.options)) < len(self.choices):
            raise unsupported(
                "choices", "with a text and a boolean of the same spelling is not supported: name one apart"
            )
        if any(not option.said.strip() for option in self.choices):
            raise wrong("choices", "a choice needs a value that can be said")
        return self

    @property
    def options(self) -> tuple[str, ...]:
        """The answers that are compared."""
        return tuple(option.said for option in self.choices)

    def asks(self) -> str:
        """The question as the model reads it."""
        listed = _listed(zip(self.options, (option.description for option in self.choices), strict=True))
        return f"{self.text}\n\n{listed}\n\nAnswer with one of these, and nothing else."

    def answer(self, probabilities: Sequence[float]) -> dict[str, Any]:
        """The answer's own fields."""
        best = max(range(len(probabilities)), key=probabilities.__getitem__)
        pairs = zip(self.choices, probabilities, strict=True)
        return {
            "choice": self.choices[best].value,
            "confidence": probabilities[best],
            "probabilities": [{"value": option.value, "probability": value} for option, value in pairs],
        }


class Level(Strict):
    """A step of a scale."""

    label: Annotated[Text, Field(min_length=1)]
    description: Text | None = None


class Score(Asked):
    """Where on an ordered scale the input stands."""

    type: Literal["score"]
    levels: Annotated[list[Level], Field(min_length=2, max_length=255)]

    @model_validator(mode="after")
    def _differ(self) -> Self:
        if len(set(self.options)) < len(self.levels):
            raise wrong("levels", "each level needs another label")
        return self

    @property
    def options(self) -> tuple[str, ...]:
        """The answers that are compared."""
        return tuple(level.label for level in self.levels)

    def asks(self) -> str:
        """The question as the model reads it."""
        listed = _listed(zip(self.options, (level.description for level in self.levels), strict=True))
        return f"{self.text}\n\nThe levels, from the lowest:\n{listed}\n\nAnswer with one of these, and nothing else."

    def answer(self, probabilities: Sequence[float]) -> dict[str, Any]:
        """The answer's own fields."""
        steps = [
            {"label": level.label, "value": place, "probability": probability}
            for place, (level, probability) in enumerate(zip(self.levels, probabilities, strict=True))
        ]
        expected = sum(place * probability for place, probability in enumerate(probabilities))
        return {"score": expected, "confidence": max(probabilities), "probabilities": steps}


def _listed(options: Iterator[tuple[str, str | None]]) -> str:
    return "\n".join(f"- {said}: {described}" if described else f"- {said}" for said, described in options)


def _kind(value: Any) -> str | None:
    kind = value.get("type") if isinstance(value, dict) else getattr(value, "type", None)
    return kind if isinstance(kind, str) else None


Question = Annotated[
    Annotated[Predicate, Tag("predicate")] | Annotated[Choice, Tag("choice")] | Annotated[Score, Tag("score")],
    Discriminator(_kind),
]


class DecisionRequest(Strict):
    """The body. Accepted without effect: prompt_cache_key, prompt_cache_options, safety_identifier."""

    model: Text | None = None
    input: Text | Annotated[list[Any], Field(min_length=1)]
    questions: Annotated[list[Question], Field(min_length=1, max_length=400)]
    prompt_cache_key: Text | None = None
    prompt_cache_options: PromptCacheOptions | None = None
    safety_identifier: Annotated[Text, Field(max_length=128)] | None = None

    @field_validator("input", mode="after")
    @classmethod
    def _check_items(cls, value: Any) -> Any:
        return [check_item(item) for item in value] if isinstance(value, list) else value

    @property
    def messages(self) -> list[lm.Message]:
        """The input as the model reads it."""
        if isinstance(self.input, str):
            return [{"role": "user", "content": self.input}]
        return messages_of(as_objects(self.input))


@dataclass
class Counts:
    """Tokens read and scored."""

    input: int = 0
    output: int = 0

    def body(self) -> dict[str, Any]:
        """OpenAI's `usage` object of this endpoint."""
        return {
            "input_tokens": self.input,
            "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
            "output_tokens": self.output,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": self.input + self.output,
        }


@router.post("/v1/decisions")
async def create_decision(body: DecisionRequest, request: Request) -> Response:
    """The probabilities of each question's answers."""
    serving = serving_of(request)
    model = await serving.find(body.model)
    if model.tokenizer is None:
        raise UnsupportedError("decisions need a model that shows its tokenizer", param="model")
    counts = Counts()
    serving.models.hold(model.name)
    try:
        async with in_turn(serving.admission, request.receive) as left:
            answers = await asyncio.to_thread(_decide, body, model, model.tokenizer, counts, left)
    except ClientLeft:
        return Response(status_code=499)
    except Exception as error:
        raise as_api_error(error, request_id=request.scope["request_id"], prompt_param="input") from None
    finally:
        serving.models.release(model.name)
    return JSONResponse({"answers": answers, "model": model.name, "usage": counts.body()})


def _decide(
    body: DecisionRequest, model: lm.LanguageModel, tokenizer: Tokenizer, counts: Counts, left: Event
) -> list[dict[str, Any]]:
    answers = []
    with ThreadPoolExecutor(AT_ONCE) as pool:
        for question in body.questions:
            prompt = tokenizer.encode_chat(_with(body.messages, question.asks()), add_generation_prompt=True)
            said = _answers(tokenizer, question.options)
            counts.input += len(prompt)
            counts.output += sum(map(len, said))
            # Together, so that the engine reads the prompt once and the options in batches.
            totals = list(pool.map(partial(_score, model, prompt, left), said))
            answer = question.answer(_softmax(totals))
            answers.append({"type": question.type, "name": question.name, **answer})
    return answers


def _with(messages: list[lm.Message], question: str) -> list[lm.Message]:
    """The question after the input; templates ask for turns that alternate."""
    last = messages[-1]
    if last["role"] == "user":
        return [*messages[:-1], {**last, "content": f"{last['content']}\n\n{question}"}]
    return [*messages, {"role": "user", "content": question}]


def _answers(tokenizer: Tokenizer, options: Sequence[str]) -> list[list[int]]:
    """The tokens of each option, and of the end after it."""
    end = [] if tokenizer.eos_id is None else [tokenizer.eos_id]
    return [[*tokenizer.encode(option, bos=False), *end] for option in options]


def _score(model: lm.LanguageModel, prompt: list[int], left: Event, said: list[int]) -> float:
    """The log-probability that the model answers with exactly this."""
    if left.is_set():
        raise OctavoError("the client left")
    scores = model.score([*prompt, *said], start=len(prompt), cancelled=left)
    return math.fsum(value for value in scores.logprobs[len(prompt) :] if value is not None)


def _softmax(values: Sequence[float]) -> list[float]:
    most = max(values)
    powers = [math.exp(value - most) for value in values]
    total = math.fsum(powers)
    return [power / total for power in powers]
