"""A language model behind any OpenAI-compatible server, with the same face as the local one.

Chat messages go to /chat/completions, text and token ids to /completions. A stream's events are read from server-sent
events by a thread of its own, so that `close` works while the server is silent.
"""

from __future__ import annotations

import json
import queue
import threading
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import httpx2

from octavo.errors import OctavoError, RemoteError, UnsupportedError
from octavo.generate.constrain import Choice, Constraint, JsonObject, JsonSchema, Lark, Regex
from octavo.generate.lm import Delta, Event, Finished, FinishReason, Request, Sampling, Scores, Started, TokenLogprob
from octavo.text.tokenizer import Tokenizer

NEUTRAL = Sampling()
SAMPLING_FIELDS = (
    "top_k", "top_p", "min_p", "typical_p", "repetition_penalty", "presence_penalty", "frequency_penalty", "seed",
)  # fmt: skip


class RemoteModel:
    """A model of the server at `base_url` (for example http://127.0.0.1:8000/v1). model None: the first it lists.

    Raises RemoteError when the server cannot be reached or refuses.
    """

    tokenizer: Tokenizer | None = None

    def __init__(self, base_url: str, model: str | None = None, *, api_key: str | None = None) -> None:
        if not base_url.startswith(("http://", "https://")):
            raise OctavoError(f"{base_url!r} is not a server's address; give one like http://127.0.0.1:8000/v1")
        headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        timeout = httpx2.Timeout(600.0, connect=10.0)
        self._client = httpx2.Client(base_url=base_url.rstrip("/") + "/", headers=headers, timeout=timeout)
        self._address = base_url
        listed = self._models()
        if not listed:
            raise RemoteError(f"the server at {base_url} lists no model")
        chosen = (
            listed[0] if model is None else next((entry for entry in listed if entry["id"] == model), {"id": model})
        )
        self.name: str = chosen["id"]
        self.context_length = int(chosen.get("context_length") or 1 << 20)
        self.sampling = NEUTRAL

    def stream(self, request: Request) -> RemoteStream:
        """Start a request. Raises RemoteError with the server's own words when it refuses."""
        chat = not isinstance(request.prompt, str) and bool(request.prompt) and not isinstance(request.prompt[0], int)
        body = {"model": self.name, "stream": True, "stream_options": {"include_usage": True}, **_fields(request, chat)}
        path = "chat/completions" if chat else "completions"
        try:
            response = self._client.send(self._client.build_request("POST", path, json=body), stream=True)
        except httpx2.HTTPError as error:
            raise RemoteError(f"no answer from {self._address}: {error}") from error
        if response.status_code != 200:
            response.read()
            response.close()
            raise RemoteError(_refusal(response))
        return RemoteStream(response)

    def score(
        self, text: str | Sequence[int], *, top: int = 0, start: int = 0, cancelled: threading.Event | None = None
    ) -> Scores:
        """Log-probabilities of a text, through echo and logprobs of /completions; `ids` stays empty.

        cancelled: looked at before the server is asked, which then answers in one piece.
        """
        if cancelled is not None and cancelled.is_set():
            raise OctavoError("the scoring was cancelled")
        prompt = text if isinstance(text, str) else list(text)
        body = {"model": self.name, "prompt": prompt, "max_tokens": 0, "echo": True, "logprobs": top}
        answer = self._ask("POST", "completions", body)
        found = answer["choices"][0].get("logprobs")
        if not found:
            raise RemoteError(f"the server at {self._address} gives no log-probabilities for a prompt")
        tops = tuple(_alternatives(entry) for entry in found.get("top_logprobs") or [None] * len(found["tokens"]))
        logprobs = [None] * start + found["token_logprobs"][start:]
        return Scores((), tuple(logprobs), ((),) * start + tops[start:])

    def close(self) -> None:
        """Close the connections. Idempotent."""
        self._client.close()

    def _models(self) -> list[dict[str, Any]]:
        listed: list[dict[str, Any]] = self._ask("GET", "models")["data"]
        return listed

    def _ask(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Any:
        try:
            response = self._client.request(method, path, json=body)
        except httpx2.HTTPError as error:
            raise RemoteError(f"no answer from {self._address}: {error}; is the server running?") from error
        if response.status_code != 200:
            raise RemoteError(_refusal(response))
        return response.json()


class RemoteStream:
    """The events of one remote completion."""

    def __init__(self, response: httpx2.Response) -> None:
        self._response = response
        self._events: queue.SimpleQueue[Event | BaseException] = queue.SimpleQueue()
        self._ended = False
        self._closed = False
        threading.Thread(target=self._read, name="octavo-remote", daemon=True).start()

    def __iter__(self) -> Iterator[Event]:
        return self

    def __next__(self) -> Event:
        if self._ended:
            raise StopIteration
        event = self._events.get()
        self._ended = isinstance(event, Finished | BaseException)
        if isinstance(event, BaseException):
            raise event
        return event

    def close(self) -> None:
        """Stop listening; the server sees the connection close and stops too."""
        if not self._closed:
            self._closed = True
            self._events.put(Finished("cancelled", 0, 0))

    def _read(self) -> None:
        try:
            for event in _events(self._response.iter_lines()):
                if self._closed:
                    return
                self._events.put(event)
        except (httpx2.HTTPError, RemoteError, ValueError) as error:
            self._events.put(RemoteError(f"the answer broke off: {error}"))
        finally:
            self._response.close()


def _events(lines: Iterator[str]) -> Iterator[Event]:
    """Server-sent events of either endpoint, as ours. The end comes when the server has sent usage or [DONE]."""
    reason: FinishReason = "stop"
    usage: Mapping[str, Any] = {}
    count = 0
    yield Started(0)
    for line in lines:
        if not line.startswith("data:"):
            continue
        data = line[5:].strip()
        if data == "[DONE]":
            break
        chunk = json.loads(data)
        if "error" in chunk:
            raise RemoteError(str(chunk["error"].get("message", chunk["error"])))
        usage = chunk.get("usage") or usage
        for choice in chunk.get("choices", []):
            reason = "length" if choice.get("finish_reason") == "length" else reason
            delta = _delta(choice)
            if delta is not None:
                count += 1
                yield delta
    yield Finished(reason, int(usage.get("prompt_tokens", 0)), int(usage.get("completion_tokens", count)))


def _delta(choice: Mapping[str, Any]) -> Delta | None:
    text = choice.get("text") if "text" in choice else (choice.get("delta") or {}).get("content")
    entries = ((choice.get("logprobs") or {}).get("content")) or []
    logprobs = tuple(_logprob(entry) for entry in entries)
    return Delta(text or "", (), logprobs) if text or logprobs else None


def _logprob(entry: Mapping[str, Any]) -> TokenLogprob:
    raw = bytes(entry["bytes"]) if entry.get("bytes") is not None else entry["token"].encode()
    top = tuple(_logprob(other) for other in entry.get("top_logprobs") or ())
    return TokenLogprob(-1, entry["token"], raw, float(entry["logprob"]), top)


def _alternatives(entry: Mapping[str, float] | None) -> tuple[TokenLogprob, ...]:
    return tuple(TokenLogprob(-1, token, token.encode(), value) for token, value in (entry or {}).items())


def _fields(request: Request, chat: bool) -> dict[str, Any]:
    """The request in OpenAI's words; values at their neutral setting are left out."""
    sampling = request.sampling
    fields: dict[str, Any] = {"temperature": sampling.temperature}
    for name in SAMPLING_FIELDS:
        if getattr(sampling, name) != getattr(NEUTRAL, name):
            fields[name] = getattr(sampling, name)
    if sampling.logit_bias:
        fields["logit_bias"] = {str(token): bias for token, bias in sampling.logit_bias.items()}
    for name in ("prompt_logprobs", "beams"):
        if getattr(request, name) is not None:
            raise UnsupportedError(f"a remote model takes no {name}; use a local one", param=name)
    for name in ("stop", "stop_token_ids", "ignore_eos", "min_tokens", "cache_salt", "priority"):
        if getattr(request, name):
            value = getattr(request, name)
            fields[name] = list(value) if isinstance(value, tuple) else value
    if request.prediction:
        if not chat:
            raise UnsupportedError("a remote model takes a prediction in chats alone", param="prediction")
        fields["prediction"] = {"type": "content", "content": request.prediction}
    if request.max_tokens is not None:
        fields["max_tokens"] = request.max_tokens
    elif not chat:
        fields["max_tokens"] = 1 << 10  # this endpoint's own default of 16 is hardly what was meant
    if request.logprobs is not None:
        fields |= {"logprobs": True, "top_logprobs": request.logprobs} if chat else {"logprobs": request.logprobs}
    if request.include_stop:
        fields["include_stop_str_in_output"] = True
    if not request.skip_special:
        fields["skip_special_tokens"] = False
    if request.template:
        fields["chat_template_kwargs"] = dict(request.template)
        if fields["chat_template_kwargs"].pop("continue_final_message", False):
            fields |= {"continue_final_message": True, "add_generation_prompt": False}
        if not fields["chat_template_kwargs"].pop("add_generation_prompt", True):
            fields["add_generation_prompt"] = False
    if request.constraint is not None:
        fields |= _form(request.constraint, chat)
    prompt = request.prompt if isinstance(request.prompt, str) else list(request.prompt)
    return fields | ({"messages": prompt} if chat else {"prompt": prompt})


def _form(constraint: Constraint, chat: bool) -> dict[str, Any]:
    """What holds an answer to a form: OpenAI's field where it has one, else vLLM's."""
    match constraint:
        case JsonSchema(schema=schema) if chat:
            named = {"name": "answer", "schema": schema, "strict": True}
            return {"response_format": {"type": "json_schema", "json_schema": named}}
        case JsonObject() if chat:
            return {"response_format": {"type": "json_object"}}
        case JsonSchema(schema=schema):
            return {"structured_outputs": {"json": schema}}
        case JsonObject():
            return {"structured_outputs": {"json_object": True}}
        case Regex(pattern=pattern):
            return {"structured_outputs": {"regex": pattern}}
        case Choice(texts=texts):
            return {"structured_outputs": {"choice": list(texts)}}
        case Lark(text=text):
            return {"structured_outputs": {"grammar": text}}


def _refusal(response: httpx2.Response) -> str:
    try:
        message = response.json()["error"]["message"]
    except (ValueError, KeyError, TypeError):
        message = response.text[:200]
    return f"the server answered {response.status_code}: {message}"
