"""What is told of an answer's tokens: OpenAI's two shapes of log-probabilities (the chat's list of objects, plain
completions' parallel lists), and vLLM's ids.

Unusual: a token's `bytes` may be half a character, its text never is; log 0 is -9999.0, because -inf is not JSON.
"""

from __future__ import annotations

import codecs
from collections.abc import Iterable, Sequence
from typing import Any

from octavo.generate.lm import Delta, Event, Scores, Started, TokenLogprob
from octavo.text.tokenizer import Tokenizer

LOG_ZERO = -9999.0


def finite(logprob: float) -> float:
    """The number as JSON can carry it."""
    return max(logprob, LOG_ZERO)


def chat_logprobs(tokens: Iterable[TokenLogprob]) -> dict[str, Any]:
    """Chat's `logprobs` object for these tokens."""
    content = [{**_entry(token), "top_logprobs": [_entry(other) for other in token.top]} for token in tokens]
    return {"content": content, "refusal": None}


def _entry(token: TokenLogprob) -> dict[str, Any]:
    return {"token": token.text, "logprob": finite(token.logprob), "bytes": list(token.bytes)}


class CompletionLogprobs:
    """Plain completions' `logprobs`, built token by token; text_offset counts characters of the returned text.

    The chosen token is always among its place's top_logprobs, with the identical float; where two ids have one text,
    the likelier is kept.
    """

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._offset = 0

    def add(self, tokens: Iterable[TokenLogprob]) -> dict[str, Any]:
        """The object for the next tokens of the answer."""
        result = _empty()
        for token in tokens:
            self._append(result, token.text, token.bytes, token.logprob, token.top)
        return result

    def add_prompt(self, scores: Scores, tokenizer: Tokenizer) -> dict[str, Any]:
        """The object for an echoed prompt; nothing precedes its first token, so that has null."""
        result = _empty()
        tops = scores.top or ((),) * len(scores.ids)
        for token_id, logprob, top in zip(scores.ids, scores.logprobs, tops, strict=True):
            data = tokenizer.token_bytes(token_id)
            self._append(result, data.decode("utf-8", "replace"), data, logprob, top)
        return result

    def _append(
        self, result: dict[str, Any], text: str, data: bytes, logprob: float | None, top: Sequence[TokenLogprob]
    ) -> None:
        named: dict[str, float] | None = None
        if logprob is not None:
            named = {}
            for name, value in (*((other.text, other.logprob) for other in top), (text, logprob)):
                named[name] = max(finite(value), named.get(name, LOG_ZERO))
        result["tokens"].append(text)
        result["token_logprobs"].append(None if logprob is None else finite(logprob))
        result["top_logprobs"].append(named)
        result["text_offset"].append(self._offset)
        self._offset += len(self._decoder.decode(data))


def prompt_logprobs(scores: Scores, tokenizer: Tokenizer | None) -> list[dict[str, Any] | None]:
    """vLLM's `prompt_logprobs`: for each token of the prompt its own and the likeliest ones' numbers, by id."""
    assert tokenizer is not None, "a model without a tokenizer gives no scores"
    result: list[dict[str, Any] | None] = []
    for token, logprob, rank, top in zip(scores.ids, scores.logprobs, scores.ranks, scores.top, strict=True):
        if logprob is None:
            result.append(None)
            continue
        own = tokenizer.token_bytes(token).decode("utf-8", "replace")
        found: dict[str, dict[str, Any]] = {}
        found[str(token)] = {"logprob": finite(logprob), "rank": rank, "decoded_token": own}
        for place, other in enumerate(top, start=1):
            entry = {"logprob": finite(other.logprob), "rank": place, "decoded_token": other.text}
            found.setdefault(str(other.id), entry)
        result.append(found)
    return result


def _empty() -> dict[str, Any]:
    return {"tokens": [], "token_logprobs": [], "top_logprobs": [], "text_offset": []}


def joined(parts: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """Several such objects, of one text's parts in order, as one."""
    result = _empty()
    for part in parts:
        for name, values in part.items():
            result[name].extend(values)
    return result


class TokenIds:
    """vLLM's `return_token_ids`, of all answers of a request: the ids of each one's tokens, and of its prompt's.

    In a stream the prompt's come once, with the answer's first chunk.
    """

    def __init__(self) -> None:
        self.prompts: dict[int, list[int] | None] = {}
        """Of each answer; None where the model does not show its tokens."""
        self._answers: dict[int, list[int]] = {}

    def of_event(self, index: int, event: Event) -> dict[str, Any]:
        """What an event says of an answer's own tokens, as a field of a stream's choice."""
        if isinstance(event, Started):
            self.prompts[index] = list(event.ids) or None
        ids = list(event.token_ids) if isinstance(event, Delta) else []
        self._answers.setdefault(index, []).extend(ids)
        return {"token_ids": ids}

    def of_answer(self, index: int) -> dict[str, Any]:
        """The same of all of an answer's tokens."""
        return {"token_ids": self._answers.get(index, [])}
