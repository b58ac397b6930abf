"""`/v1/completions`: text or token ids in, their continuation out.

With `echo` the prompt comes back before its continuation, and with `logprobs` too it is scored: how evaluation
harnesses measure a model. text_offset counts characters of the returned text.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Sequence
from typing import Annotated, Any, ClassVar, Self

from fastapi import APIRouter, Request, Response
from pydantic import BeforeValidator, Field, WithJsonSchema, model_validator

from octavo.errors import OctavoError, UnsupportedError
from octavo.generate import lm
from octavo.serve.answering import Answer, EventStream, Usage, serving_of
from octavo.serve.fields import GenerationRequest, Refused, check_text, wrong
from octavo.serve.generation import Job
from octavo.serve.logprobs import CompletionLogprobs, TokenIds, joined, prompt_logprobs
from octavo.serve.structured import StructuredOutputs

router = APIRouter()

Prompt = str | list[int]

PROMPT_SCHEMA = {
    "anyOf": [
        {"type": "string"},
        {"type": "array", "items": {"type": "string"}, "minItems": 1},
        {"type": "array", "items": {"type": "integer", "minimum": 0}, "minItems": 1},
        {"type": "array", "items": {"type": "array", "items": {"type": "integer", "minimum": 0}}, "minItems": 1},
    ]
}


def _as_list(value: Any) -> list[Any]:
    """All four forms of a prompt as a list of prompts."""
    if not isinstance(value, str | list):
        raise wrong(None, "a prompt is a string, a list of strings, token ids, or lists of token ids")
    if value == []:
        raise wrong(None, "the list of prompts is empty")
    prompts: list[Any] = [value] if isinstance(value, str) or _is_id(value[0]) else value
    kind = str if isinstance(prompts[0], str) else list
    for place, prompt in enumerate(prompts):
        if not isinstance(prompt, kind):
            raise wrong(place, "the prompts of a list are all strings or all lists of token ids")
        if isinstance(prompt, str):
            check_text(prompt, None if isinstance(value, str) else place)
        else:
            _check_ids(prompt, "" if prompts[0] is value else f"{place}.")
    return prompts


def _check_ids(ids: list[Any], path: str) -> None:
    if not ids:
        raise wrong(path.rstrip(".") or None, "the prompt has no token ids")
    for place, token in enumerate(ids):
        if not _is_id(token) or not 0 <= token < 1 << 31:
            raise wrong(f"{path}{place}", "a token id is a whole number, at least 0")


def _is_id(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


class CompletionRequest(GenerationRequest):
    """The body. prompt absent: the beginning of a new document."""

    refused: ClassVar[Refused] = {**GenerationRequest.refused, "suffix": ("",)}

    prompt: Annotated[list[Prompt], BeforeValidator(_as_list), WithJsonSchema(PROMPT_SCHEMA)] | None = None
    max_tokens: Annotated[int, Field(ge=0, lt=1 << 31)] = 16
    logprobs: Annotated[int, Field(ge=0, le=5)] | None = None
    echo: bool = False
    structured_outputs: StructuredOutputs | None = None

    @model_validator(mode="after")
    def _completion_agrees(self) -> Self:
        if self.stream and self.candidates > self.n:
            raise wrong("best_of", "above n it is only allowed when stream is false")
        return self

    @property
    def candidates(self) -> int:
        """How many answers are made to each prompt, of which the best n are given."""
        return self.n if self.use_beam_search else self.best_of or self.n

    def prompts(self, model: lm.LanguageModel) -> list[Prompt]:
        """The prompts to continue."""
        if self.prompt is not None:
            return self.prompt
        tokenizer = model.tokenizer
        start = None if tokenizer is None else tokenizer.bos_id if tokenizer.bos_id is not None else tokenizer.eos_id
        if start is None:
            raise OctavoError("this model has no token that begins a document; give a prompt", param="prompt")
        return [[start]]

    def jobs(self, model: lm.LanguageModel, prompts: Sequence[Prompt]) -> list[Job]:
        """The answers to make, all candidates for each prompt in turn."""
        logprobs = 0 if self.logprobs is None and self.candidates > self.n else self.logprobs
        if self.echo and self.logprobs is not None and model.tokenizer is None:
            raise UnsupportedError("'echo' with 'logprobs' needs a model that shows its tokenizer", param="echo")
        return [
            Job(
                lm.Request(
                    prompt=prompt,
                    max_tokens=self.max_tokens,
                    sampling=self.sampling_for(model, choice),
                    logprobs=logprobs,
                    skip_special=self.skip_special_tokens,
                    constraint=self.structured_outputs.constraint if self.structured_outputs else None,
                    **self.options(),
                ),
                scored=prompt if self.echo and self.logprobs is not None else None,
                top=self.logprobs or 0,
            )
            for prompt in prompts
            for choice in range(1 if self.use_beam_search else self.candidates)
        ]


class CompletionShape:
    """How plain completions are written."""

    prompt_param = "prompt"

    def __init__(self, body: CompletionRequest, model: lm.LanguageModel, prompts: Sequence[Prompt]) -> None:
        self.usage = Usage(body.n)
        self.include_usage = body.stream_options is not None and body.stream_options.include_usage
        self._tokenizer = model.tokenizer
        self._with_logprobs = body.logprobs is not None
        self._scores_echo = body.echo and self._with_logprobs
        self._with_prompt_logprobs = body.prompt_logprobs is not None
        self._ids = TokenIds() if body.return_token_ids else None
        self._echoes = [_text(prompt, model) if body.echo else "" for prompt in prompts for _ in range(body.n)]
        self._logprobs = [CompletionLogprobs() for _ in self._echoes]
        self._prompt_logprobs: list[dict[str, Any] | None] = [None for _ in self._echoes]
        self._fixed = {
            "id": f"cmpl-{secrets.token_hex(12)}",
            "object": "text_completion",
            "created": int(time.time()),
            "model": model.name,
        }

    def envelope(self, *, streamed: bool) -> dict[str, Any]:
        """The fields around the choices, the same for both forms."""
        return self._fixed

    def pieces(self, index: int, event: lm.Event | lm.Scores) -> list[dict[str, Any]]:
        """The echoed prompt first, then text, then why it ended."""
        if isinstance(event, lm.Scores):
            if self._scores_echo and self._prompt_logprobs[index] is None:
                self._prompt_logprobs[index] = self._scored(index, event)
            return []
        piece = self._said(index, event)
        if self._ids is not None:
            piece = (piece or _piece(index, "", None)) | self._ids.of_event(index, event)
            if isinstance(event, lm.Started):
                piece["prompt_token_ids"] = self._ids.prompts[index]
        return [] if piece is None else [piece]

    def _said(self, index: int, event: lm.Event) -> dict[str, Any] | None:
        if isinstance(event, lm.Started):
            echo = self._echoes[index]
            return _piece(index, echo, self._prompt_logprobs[index]) if echo else None
        if isinstance(event, lm.Finished):
            return _piece(index, "", None, event.reason)
        assert isinstance(event, lm.Delta)
        logprobs = self._logprobs[index].add(event.logprobs) if event.logprobs else None
        return _piece(index, event.text, logprobs) if event.text or logprobs else None

    def whole(self, index: int, events: Sequence[lm.Event | lm.Scores]) -> dict[str, Any]:
        """The choice of a finished answer: all pieces of its stream in one."""
        pieces = [piece for event in events for piece in self.pieces(index, event)]
        logprobs = joined(piece["logprobs"] for piece in pieces if piece["logprobs"]) if self._with_logprobs else None
        choice = _piece(index, "".join(piece["text"] for piece in pieces), logprobs, pieces[-1]["finish_reason"])
        if self._ids is not None:
            choice |= {"prompt_token_ids": self._ids.prompts[index], **self._ids.of_answer(index)}
        if self._with_prompt_logprobs:
            scores = [event for event in events if isinstance(event, lm.Scores)]
            choice["prompt_logprobs"] = prompt_logprobs(scores[-1], self._tokenizer) if scores else None
        return choice

    def _scored(self, index: int, scores: lm.Scores) -> dict[str, Any]:
        assert self._tokenizer is not None
        return self._logprobs[index].add_prompt(scores, self._tokenizer)


class BestOf(EventStream):
    """Gives of each prompt's candidates the `n` whose tokens are on the average the likeliest."""

    def __init__(self, shape: CompletionShape, candidates: int, n: int) -> None:
        super().__init__(shape)
        self.usage = Usage(candidates)
        self._candidates, self._n = candidates, n

    def whole(self, events: Sequence[Sequence[lm.Event | lm.Scores]], usage: Usage) -> dict[str, Any]:
        """The body, of the best."""
        groups = [events[at : at + self._candidates] for at in range(0, len(events), self._candidates)]
        best = [happened for group in groups for happened in sorted(group, key=_mean_logprob, reverse=True)[: self._n]]
        return super().whole(best, usage)


def _mean_logprob(events: Sequence[lm.Event | lm.Scores]) -> float:
    logprobs = [token.logprob for event in events if isinstance(event, lm.Delta) for token in event.logprobs]
    return sum(logprobs) / max(1, len(logprobs))


def _piece(index: int, text: str, logprobs: dict[str, Any] | None, finish_reason: str | None = None) -> dict[str, Any]:
    return {"index": index, "text": text, "logprobs": logprobs, "finish_reason": finish_reason}


def _text(prompt: Prompt, model: lm.LanguageModel) -> str:
    """A prompt as it is echoed."""
    if isinstance(prompt, str):
        return prompt
    if model.tokenizer is None:
        raise UnsupportedError("'echo' of token ids needs a model that shows its tokenizer", param="echo")
    vocab_size = model.tokenizer.vocab_size
    for token in prompt:
        if token >= vocab_size:
            raise OctavoError(f"token id {token} does not exist; ids are 0 to {vocab_size - 1}", param="prompt")
    return model.tokenizer.decode(prompt, skip_special=False)


@router.post("/v1/completions")
async def create_completion(body: CompletionRequest, request: Request) -> Response:
    """Continue one prompt or several, whole or as a stream of server-sent events."""
    serving = serving_of(request)
    model = await serving.find(body.model)
    prompts = body.prompts(model)
    shape = CompletionShape(body, model, prompts)
    wire = BestOf(shape, body.candidates, body.n) if body.candidates > body.n else EventStream(shape)
    return Answer(serving, model, body.jobs(model, prompts), wire, body.stream)
