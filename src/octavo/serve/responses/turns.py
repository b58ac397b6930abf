"""The turns of one response: what the model is asked first, and what comes after it spoke.

Unusual: with `file_search` beside functions the model first decides, without the passages, whether to call a function;
where it begins to speak instead, its words are thrown away, and the answer is made from passages. So no function is
ever called because of what a document says.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from octavo.generate import lm
from octavo.serve.responses.events import Cited, Reads, ResponseBuilder
from octavo.serve.responses.items import messages_of
from octavo.serve.responses.mcp import McpOffer
from octavo.serve.responses.request import ResponseRequest
from octavo.serve.tools import Tools, opens_thoughts, reader
from octavo.text.tool_calls import Content, Piece

Object = dict[str, Any]
FOR_THE_CLIENT = ("function_call", "mcp_approval_request")
"""Items that the client answers with its next request."""
MOST_CALLS = 32
"""Of tools that this server calls itself, in one response; `max_tool_calls` may say less."""


@dataclass(frozen=True)
class Turn:
    """One answer of the model. begun: called when it begins, before what it says is told."""

    request: lm.Request
    reader: Reads
    begun: Callable[[ResponseBuilder], None] = lambda builder: None


class Deciding:
    """Reads an answer that may begin with a call. spoke: it began with words, which nobody hears."""

    def __init__(self, answer: Reads) -> None:
        self._answer = answer
        self.spoke = False

    @property
    def thinking(self) -> bool:
        """Whether what was read last is a thought that goes on."""
        return self._answer.thinking

    def push(self, text: str) -> Sequence[Piece | Cited]:
        """Thoughts and calls."""
        return self._without_words(self._answer.push(text))

    def flush(self) -> Sequence[Piece | Cited]:
        """What is held back."""
        return self._without_words(self._answer.flush())

    def _without_words(self, read: Sequence[Piece | Cited]) -> list[Piece | Cited]:
        words = [piece for piece in read if isinstance(piece, Content)]
        self.spoke = self.spoke or any(piece.text.strip() for piece in words)
        return [piece for piece in read if piece not in words]


class Turns:
    """offer: the tools of MCP servers. items: the history and the input. ground: makes the turn that answers from
    passages, where there is a search."""

    def __init__(
        self,
        model: lm.LanguageModel,
        body: ResponseRequest,
        offer: McpOffer,
        offered: Tools,
        items: Sequence[Object],
        ground: Callable[[], Awaitable[Turn]] | None,
    ) -> None:
        self._model = model
        self._body = body
        self._offer = offer
        self._offered = offered
        self._items = items
        self._ground = ground
        self._deciding: Deciding | None = None
        self._calls = 0

    async def first(self) -> Turn:
        """The first turn."""
        if self._ground is None:
            return await self._turn([])
        if not self._offered.used:
            return await self._ground()
        turn = await self._turn([])
        self._deciding = Deciding(turn.reader)
        return replace(turn, reader=self._deciding)

    @property
    def over(self) -> bool:
        """Whether the rest of this turn is of no use."""
        return self._deciding is not None and self._deciding.spoke

    async def next(self, builder: ResponseBuilder) -> Turn | None:
        """The turn after this one; None: the response is complete. Makes the calls that wait."""
        deciding, self._deciding = self._deciding, None
        made = bool(builder.pending)
        for item in list(builder.pending):
            call = dict(item)
            await asyncio.to_thread(self._offer.call, call)
            builder.called(call)
            self._calls += 1
        if any(item["type"] in FOR_THE_CLIENT for item in builder.response["output"]):
            return None
        if made:
            return await self._turn(builder.response["output"], builder.output_tokens)
        return None if deciding is None or self._ground is None else await self._ground()

    async def _turn(self, said: Sequence[Object], spent: int = 0) -> Turn:
        """said: what this response has so far. spent: its tokens."""
        offered = self._offered
        if said:  # a call that must come has come
            spent_calls = self._calls >= min(self._body.max_tool_calls or MOST_CALLS, MOST_CALLS)
            offered = replace(offered, mode="none" if spent_calls or not offered.used else "auto")
        most = self._body.max_output_tokens
        made = self._body.request(
            self._model,
            messages_of([*self._items, *said]),
            max_tokens=None if most is None else max(1, most - spent),
            logprobs=self._body.logprobs,
            offered=offered,
        )
        return Turn(made, await answer_reader(self._model, offered, made))


async def answer_reader(model: lm.LanguageModel, offered: Tools, request: lm.Request) -> Reads:
    """What reads the answer to a request."""
    template = None if model.tokenizer is None else model.tokenizer.chat_template
    opened = await asyncio.to_thread(opens_thoughts, model.tokenizer, request)
    return reader(offered, template, opened=opened)
