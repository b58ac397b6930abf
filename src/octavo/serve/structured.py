"""What holds an answer to a form: OpenAI's `response_format`, and vLLM's `structured_outputs`.

`strict` makes no difference: a schema is always kept, and one that cannot be kept is refused. How it is compiled, and
what is refused then, is `generate/matcher.py`'s.
"""

from __future__ import annotations

import json
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from octavo.errors import OctavoError
from octavo.generate.constrain import Choice, Constraint, JsonObject, JsonSchema, Lark, Regex
from octavo.serve.fields import Refused, Strict, Text, wrong

SchemaName = Annotated[str, Field(pattern=r"^[a-zA-Z0-9_-]{1,64}$")]


class NamedSchema(Strict):
    """A JSON schema as OpenAI wraps it; without one, any object. Accepted: name and description; no model sees them."""

    name: SchemaName
    description: Text | None = None
    json_schema: dict[str, Any] | None = Field(None, alias="schema")
    strict: bool = False


class ResponseFormat(Strict):
    """OpenAI's `response_format`."""

    type: Literal["text", "json_object", "json_schema"]
    json_schema: NamedSchema | None = None

    @model_validator(mode="after")
    def _agree(self) -> Self:
        if self.type == "json_schema" and self.json_schema is None:
            raise wrong("json_schema", "the type json_schema needs it")
        if self.type != "json_schema" and self.json_schema is not None:
            raise wrong("json_schema", f"it is only allowed with the type json_schema, not {self.type}")
        return self

    @property
    def constraint(self) -> Constraint | None:
        """What it asks for. Raises OctavoError for a schema that is too large."""
        if self.type == "text":
            return None
        if self.json_schema is None or self.json_schema.json_schema is None:
            return JsonObject("response_format")
        return JsonSchema(self.json_schema.json_schema, "response_format.json_schema.schema")


class StructuredOutputs(Strict):
    """vLLM's `structured_outputs`: one of these. json: a schema, or its text; grammar: Lark."""

    refused: ClassVar[Refused] = {
        "structural_tag": (),
        "whitespace_pattern": (),
        "disable_any_whitespace": (True, False),
        "disable_additional_properties": (False,),
        "disable_fallback": (True, False),
    }

    json_schema: dict[str, Any] | Text | None = Field(None, alias="json")
    regex: Text | None = None
    choice: Annotated[list[Text], Field(min_length=1)] | None = None
    grammar: Text | None = None
    json_object: Literal[True] | None = None

    @model_validator(mode="after")
    def _one(self) -> Self:
        if len(self.model_fields_set) != 1:
            raise wrong(None, "it takes exactly one of json, regex, choice, grammar and json_object")
        return self

    @property
    def constraint(self) -> Constraint:
        """What it asks for. Raises OctavoError for what is too large, or a schema's text that is no JSON."""
        if self.json_schema is not None:
            return JsonSchema(_schema(self.json_schema), "structured_outputs.json")
        if self.regex is not None:
            return Regex(self.regex, "structured_outputs.regex")
        if self.choice is not None:
            return Choice(tuple(self.choice), "structured_outputs.choice")
        if self.grammar is not None:
            return Lark(self.grammar, "structured_outputs.grammar")
        return JsonObject("structured_outputs.json_object")


def _schema(given: dict[str, Any] | str) -> Any:
    if not isinstance(given, str):
        return given
    try:
        return json.loads(given)
    except (ValueError, RecursionError):
        raise OctavoError("the JSON schema's text is not JSON", param="structured_outputs.json") from None
