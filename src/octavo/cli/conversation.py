"""A conversation's messages: each answer is heard with all that was said before it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from octavo.cli.terminal import Answer, show_answer
from octavo.errors import OctavoError
from octavo.generate.lm import LanguageModel, Request


class Conversation:
    """request: what to ask with each time, without its prompt. The messages are unchanged when a request is refused."""

    def __init__(self, model: LanguageModel, request: Request, system: str | None = None) -> None:
        self.model = model
        self.system = system
        self._request = request
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
        if not self._has_spoken():
            raise OctavoError("nothing has been said yet")
        return self._hear(self.messages[:-1])

    def undo(self) -> None:
        """Take back the last message and its answer."""
        if not self._has_spoken():
            raise OctavoError("nothing has been said yet")
        del self.messages[-2:]

    def _hear(self, messages: list[dict[str, Any]]) -> Answer:
        answer = show_answer(self.model.stream(replace(self._request, prompt=messages)))
        self.messages = [*messages, {"role": "assistant", "content": answer.text}]
        return answer

    def _has_spoken(self) -> bool:
        return bool(self.messages) and self.messages[-1]["role"] == "assistant"
