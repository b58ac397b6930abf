"""One response as it grows: a model's events in, OpenAI's numbered events out, and the response object itself.

The same pieces that a chat completion writes as deltas (text, thoughts, calls) become output items here, each opened,
filled and closed. Every event is kept, so that a stream can be read again from any number on.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from octavo.generate import lm
from octavo.serve.errors import ApiError
from octavo.serve.logprobs import chat_logprobs
from octavo.serve.state import new_id
from octavo.serve.tools import new_call_id
from octavo.text.tool_calls import CallArguments, CallStarted, Content, Piece, Thought

Object = dict[str, Any]
ARGUMENTS = {
    "function_call": "response.function_call_arguments",
    "mcp_call": "response.mcp_call_arguments",
}
"""The events that tell of a call's arguments."""


@dataclass(frozen=True)
class Cited:
    """Text of an answer with the citations that end it."""

    text: str
    citations: Sequence[Object]


class Reads(Protocol):
    """What reads an answer's text: pieces that a text completes, and what was held back at the end."""

    @property
    def thinking(self) -> bool: ...

    def push(self, text: str) -> Sequence[Piece | Cited]: ...

    def flush(self) -> Sequence[Piece | Cited]: ...


class ResponseBuilder:
    """response: the object, kept up to date. events: all that were told, each with its number.

    item_of: the item that a call by a name begins, where it is no function of the client's.
    """

    def __init__(
        self, response: Object, reader: Reads, item_of: Callable[[str], Object | None] = lambda name: None
    ) -> None:
        self.response = response
        self.events: list[Object] = []
        self.pending: list[Object] = []
        """Calls that the model has written and that were not made yet."""
        self.finished: lm.Finished | None = None
        """How the model's latest turn ended."""
        self._reader = reader
        self._item_of = item_of
        self._item: Object | None = None
        self._logprobs: list[Object] = []
        self._usage = {"input": 0, "cached": 0, "output": 0}
        self._thoughts = 0

    def begin(self, *, queued: bool) -> None:
        """The first events. queued: it runs in the background."""
        self.response["status"] = "queued" if queued else "in_progress"
        self._tell("response.created", response=self._snapshot())
        if queued:
            self._tell("response.queued", response=self._snapshot())
        self.response["status"] = "in_progress"
        self._tell("response.in_progress", response=self._snapshot())

    def searched(self, queries: Sequence[str], results: Sequence[Object] | None) -> None:
        """A search was made before the answer. results: the passages, where the response includes them."""
        self._open({"type": "file_search_call", "queries": [], "results": None}, "fs")
        assert self._item is not None
        for step in ("in_progress", "searching", "completed"):
            self._tell(f"response.file_search_call.{step}", **self._place())
        self._item |= {"queries": list(queries), "results": results}
        self._close("completed")

    def listed(self, item: Object) -> None:
        """An MCP server said what it offers."""
        self._open({**item, "tools": []}, "mcpl")
        assert self._item is not None
        for step in ("in_progress", "completed"):
            self._tell(f"response.mcp_list_tools.{step}", **self._place())
        self._item["tools"] = item["tools"]
        self._close("completed")

    def approved(self, item: Object) -> None:
        """A call that the client approved was made; its item has the result."""
        self._open({**item, "output": None, "error": None}, "mcp")
        self._tell("response.mcp_call.in_progress", **self._place())
        self._close("completed")
        self.called(self.pending[-1] | {"output": item["output"], "error": item["error"]})

    def called(self, item: Object) -> None:
        """A pending call was made; its item has the result."""
        known = next(one for one in self.pending if one["id"] == item["id"])
        self.pending.remove(known)
        known |= item
        self._end_call(known, "completed" if known["error"] is None else "failed")

    def next_turn(self, reader: Reads) -> None:
        """The model goes on, its words read by this reader."""
        self._close("completed")  # thoughts of a turn that was not heard to its end
        self._reader, self.finished = reader, None

    @property
    def output_tokens(self) -> int:
        """What the model has written so far."""
        return self._usage["output"]

    def take(self, event: lm.Event | lm.Scores) -> None:
        """Something happened to the answer. After Finished the turn is over, and `end` or `next_turn` follows."""
        if isinstance(event, lm.Started):
            self._usage["input"] += event.prompt_tokens
            self._usage["cached"] += event.cached_tokens
        elif isinstance(event, lm.Delta):
            self._usage["output"] += len(event.token_ids)
            logprobs = chat_logprobs(event.logprobs)["content"] if event.logprobs else []
            before = self._reader.thinking
            read = self._reader.push(event.text)
            if before or self._reader.thinking:
                self._thoughts += len(event.token_ids)
            self._write(read, logprobs)
        elif isinstance(event, lm.Finished):
            self._write(self._reader.flush(), [])
            self._close("incomplete" if event.reason == "length" else "completed")
            self.finished = event

    def fail(self, error: ApiError) -> None:
        """It ends with an error."""
        code = error.code if error.code in ("server_error", "rate_limit_exceeded", "invalid_prompt") else "server_error"
        self.response["error"] = {"code": code, "message": error.message}
        self._end("failed", "incomplete")

    def cancel(self) -> None:
        """It was told to stop; what it said so far stays."""
        self._end("cancelled", "incomplete")

    @property
    def ended(self) -> bool:
        """Whether its last event was told."""
        return self.response["status"] not in ("queued", "in_progress")

    @property
    def _in_thoughts(self) -> bool:
        return self._item is not None and self._item["type"] == "reasoning"

    def end(self, *, cut: bool) -> None:
        """The model has nothing more to say. cut: because it said as much as it may."""
        if all(item["type"] in ("file_search_call", "mcp_list_tools") for item in self.response["output"]):
            self._open_message()
        if cut:
            self.response["incomplete_details"] = {"reason": "max_output_tokens"}
        self._end("incomplete" if cut else "completed", "completed")

    def _end(self, status: str, item_status: str) -> None:
        self._close(item_status if status == "completed" else "incomplete")
        for item in self.pending:
            self._end_call(item, "incomplete")
        self.response["status"] = status
        self.response["completed_at"] = time.time() if status == "completed" else None
        self.response["usage"] = {
            "input_tokens": self._usage["input"],
            "input_tokens_details": {"cached_tokens": self._usage["cached"], "cache_write_tokens": 0},
            "output_tokens": self._usage["output"],
            "output_tokens_details": {"reasoning_tokens": self._thoughts},
            "total_tokens": self._usage["input"] + self._usage["output"],
        }
        kind = "failed" if status == "cancelled" else status  # the API has no event for a cancelled response
        self._tell(f"response.{kind}", response=self._snapshot())

    def _write(self, read: Sequence[Piece | Cited], logprobs: list[Object]) -> None:
        for piece in read:
            match piece:
                case Content(text):
                    self._say(text, logprobs)
                    logprobs = []
                case Cited(text, citations):
                    self._say(text, [])
                    self._cite(citations)
                case Thought(text):
                    self._think(text)
                case CallStarted(_, name):
                    self._call(name)
                case CallArguments(_, text):
                    assert self._item is not None
                    self._item["arguments"] += text
                    if self._item["type"] in ARGUMENTS:
                        self._tell(f"{ARGUMENTS[self._item['type']]}.delta", **self._place(), delta=text)

    def _call(self, name: str) -> None:
        item = self._item_of(name)
        if item is None:
            self._open({"type": "function_call", "call_id": new_call_id(), "name": name, "arguments": ""}, "fc")
        elif item["type"] == "mcp_call":
            self._open(item, "mcp")
            self._tell("response.mcp_call.in_progress", **self._place())
        else:
            self._open(item, "mcpr")

    def _end_call(self, item: Object, status: str) -> None:
        """The last of a call that this server makes."""
        place = {"item_id": item["id"], "output_index": self.response["output"].index(item)}
        item["status"] = status
        self._tell(f"response.mcp_call.{'completed' if status == 'completed' else 'failed'}", **place)
        self._tell("response.output_item.done", output_index=place["output_index"], item=copy.deepcopy(item))

    def _say(self, text: str, logprobs: list[Object]) -> None:
        if self._item is None or self._item["type"] != "message":
            self._open_message()
        assert self._item is not None
        self._item["content"][0]["text"] += text
        self._logprobs += logprobs
        self._tell("response.output_text.delta", **self._place(), content_index=0, delta=text, logprobs=logprobs)

    def _cite(self, citations: Sequence[Object]) -> None:
        assert self._item is not None
        kept = self._item["content"][0]["annotations"]
        for citation in citations:
            number = {"content_index": 0, "annotation_index": len(kept)}
            kept.append(citation)
            self._tell("response.output_text.annotation.added", **self._place(), **number, annotation=citation)

    def _think(self, text: str) -> None:
        if not self._in_thoughts:
            part = {"type": "reasoning_text", "text": ""}
            self._open({"type": "reasoning", "summary": [], "content": []}, "rs")
            self._open_part(part)
        assert self._item is not None
        self._item["content"][0]["text"] += text
        self._tell("response.reasoning_text.delta", **self._place(), content_index=0, delta=text)

    def _open_message(self) -> None:
        self._open({"type": "message", "role": "assistant", "content": []}, "msg")
        self._open_part({"type": "output_text", "text": "", "annotations": [], "logprobs": []})

    def _open(self, item: Object, prefix: str) -> None:
        self._close("completed")
        self._item = {"id": new_id(prefix), "status": "in_progress", **item}
        self._logprobs = []
        self.response["output"].append(self._item)
        self._tell("response.output_item.added", output_index=self._index, item=copy.deepcopy(self._item))

    def _open_part(self, part: Object) -> None:
        assert self._item is not None
        self._item["content"].append(part)
        self._tell("response.content_part.added", **self._place(), content_index=0, part=dict(part))

    def _close(self, status: str) -> None:
        item, place = self._item, self._place()
        if item is None:
            return
        self._item = None
        if item["type"] == "function_call":
            arguments, name = item["arguments"], item["name"]
            self._tell("response.function_call_arguments.done", **place, arguments=arguments, name=name)
        elif item["type"] == "mcp_call":
            self._tell("response.mcp_call_arguments.done", **place, arguments=item["arguments"])
            self.pending.append(item)
            return
        elif item["type"] in ("message", "reasoning"):
            part = item["content"][0]
            if item["type"] == "message":
                part["logprobs"] = self._logprobs
                done: Mapping[str, Any] = {"text": part["text"], "logprobs": self._logprobs}
                self._tell("response.output_text.done", **place, content_index=0, **done)
            else:
                self._tell("response.reasoning_text.done", **place, content_index=0, text=part["text"])
            self._tell("response.content_part.done", **place, content_index=0, part=dict(part))
        item["status"] = status
        self._tell("response.output_item.done", output_index=self._index, item=copy.deepcopy(item))

    @property
    def _index(self) -> int:
        return len(self.response["output"]) - 1

    def _place(self) -> Object:
        return {} if self._item is None else {"item_id": self._item["id"], "output_index": self._index}

    def _snapshot(self) -> Object:
        return copy.deepcopy(self.response)

    def _tell(self, kind: str, **fields: Any) -> None:
        self.events.append({"type": kind, "sequence_number": len(self.events), **fields})
