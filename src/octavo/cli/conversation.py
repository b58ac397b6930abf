"""A conversation's messages: each answer is heard with all that was said before it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from octavo.cli.terminal import Answer, show_answer
from octavo.errors import OctavoError
from octavo.generate.lm import LanguageModel, Request

if TYPE_CHECKING:
    from octavo.serve.mcp.calling import Toolbox
    from octavo.serve.mcp.client import McpTool

MOST_ROUNDS = 8
"""Answers with calls before one must come without."""


class Conversation:
    """request: what to ask with each time, without its prompt. The messages are unchanged when a request is refused.

    toolbox: what the model may call. consents: shows a call and says whether it may be made.
    """

    def __init__(
        self,
        model: LanguageModel,
        request: Request,
        system: str | None = None,
        toolbox: Toolbox | None = None,
        consents: Callable[[McpTool, str], bool] = lambda tool, arguments: False,
    ) -> None:
        self.model = model
        self.system = system
        self._request = request
        self._toolbox = toolbox
        self._consents = consents
        self.messages: list[dict[str, Any]] = []
        self.begin(system)

    def begin(self, system: str | None) -> None:
        """Forget everything; a new system message, or none."""
        self.system = system
        self.messages = [] if system is None else [{"role": "system", "content": system}]

    def clear(self) -> None:
        """Forget everything but the system message."""
        self.begin(self.system)

    def say(self, text: str) -> Answer:
        """Say something and show the answer. Raises what the model refuses, such as ContextLengthError."""
        return self._hear([*self.messages, {"role": "user", "content": text}])

    def retry(self) -> Answer:
        """Answer the last message again."""
        return self._hear(self.messages[: self._last_said() + 1])

    def undo(self) -> None:
        """Take back the last message and its answer."""
        del self.messages[self._last_said() :]

    def _hear(self, messages: list[dict[str, Any]]) -> Answer:
        if self._toolbox is not None:
            return self._hear_calls(messages, self._toolbox)
        answer = show_answer(
            self.model.stream(replace(self._request, prompt=messages)), endless=self._request.max_tokens is None
        )
        self.messages = [*messages, {"role": "assistant", "content": answer.text}]
        return answer

    def _hear_calls(self, messages: list[dict[str, Any]], toolbox: Toolbox) -> Answer:
        """Answers until one calls nothing; each call's result is said to the model."""
        from octavo.serve.mcp.calling import answered

        for _ in range(MOST_ROUNDS):
            stream = toolbox.ask(self.model, self._request, messages)
            answer = show_answer(stream)
            if not stream.calls or answer.finished is None:
                break
            results = [toolbox.answer(call, self._consents) for call in stream.calls]
            messages = [*messages, *answered(answer.text, stream.calls, results)]
        else:
            raise OctavoError(f"the model called tools {MOST_ROUNDS} times without an answer; ask in another way")
        self.messages = [*messages, {"role": "assistant", "content": answer.text}]
        return answer

    def _last_said(self) -> int:
        """Where the last message of the user is."""
        said = [place for place, message in enumerate(self.messages) if message["role"] == "user"]
        if not said:
            raise OctavoError("nothing has been said yet")
        return said[-1]
