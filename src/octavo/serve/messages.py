"""Chat messages as clients send them, and as chat templates read them.

Unusual: what templates of text models do not know is settled here: the developer's role becomes the system's, the old
`function` role the tool's, and text parts are joined by line breaks, as other servers do.
"""

from __future__ import annotations

from typing import Any, ClassVar, Final, Literal, Self

from pydantic import Field, field_validator, model_validator

from octavo.generate import lm
from octavo.serve.fields import Refused, Strict, Text, unsupported, wrong
from octavo.serve.tools import CalledFunction, ToolCall

ROLES: Final = {"developer": "system", "function": "tool"}


class CacheBreakpoint(Strict):
    """Accepted: prefixes are cached without being told where."""

    mode: Literal["explicit"]
    ttl: Literal["30m", "12h"] = "30m"


class TextPart(Strict):
    """A piece of a message's content."""

    refused: ClassVar[Refused] = {"image_url": (), "input_audio": (), "file": ()}

    type: Literal["text", "refusal"]
    text: Text | None = None
    refusal: Text | None = None
    prompt_cache_breakpoint: CacheBreakpoint | None = None

    @field_validator("type", mode="before")
    @classmethod
    def _text_only(cls, value: Any) -> Any:
        if value in ("image_url", "input_audio", "file"):
            raise unsupported(None, f"{value!r} is not what the served models read; send text")
        return value

    @model_validator(mode="after")
    def _has_its_text(self) -> Self:
        if self.said is None:
            raise wrong(self.type, "a part holds its text in the field that its type names")
        return self

    @property
    def said(self) -> str | None:
        """The text, whichever field holds it."""
        return self.text if self.type == "text" else self.refusal


class ChatMessage(Strict):
    """One message. `name` and the thinking text go to the template, which may use them."""

    refused: ClassVar[Refused] = {"audio": (), "annotations": ([],)}

    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    content: Text | list[TextPart] | None = None
    name: Text | None = None
    refusal: Text | None = None
    reasoning_content: Text | None = None
    reasoning: Text | None = None
    tool_calls: list[ToolCall] = Field(default_factory=list)
    tool_call_id: Text | None = None
    function_call: CalledFunction | None = None

    @model_validator(mode="after")
    def _agree(self) -> Self:
        calls = bool(self.tool_calls) or self.function_call is not None
        if calls and self.role != "assistant":
            raise wrong("tool_calls", "only the assistant calls tools")
        if self.content is None and not (self.role == "assistant" and (self.refusal is not None or calls)):
            raise wrong("content", "a message needs content")
        if (self.tool_call_id is not None) != (self.role == "tool"):
            raise wrong("tool_call_id", "a tool's message needs it, and no other has it")
        if self.role == "function" and self.name is None:
            raise wrong("name", "a function's message needs it")
        return self

    def for_template(self) -> lm.Message:
        """The message as chat templates read it."""
        if isinstance(self.content, list):
            content = "\n".join(part.said or "" for part in self.content)
        else:
            content = self.content if self.content is not None else self.refusal or ""
        message = {"role": ROLES.get(self.role, self.role), "content": content}
        thoughts = self.reasoning_content if self.reasoning_content is not None else self.reasoning
        calls = [call.for_template() for call in self.tool_calls]
        if self.function_call is not None:
            calls.append(ToolCall(id="call_0", function=self.function_call).for_template())
        extra = {
            "name": self.name,
            "reasoning_content": thoughts,
            "tool_calls": calls or None,
            "tool_call_id": self.tool_call_id,
        }
        return message | {name: value for name, value in extra.items() if value is not None}
