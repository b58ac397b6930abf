"""The body of `/v1/responses`: what of it is honoured, accepted or refused, and how it becomes a request to a model."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import BeforeValidator, Field, field_validator, model_validator

from octavo.generate import lm
from octavo.serve.documents.requests import Searching
from octavo.serve.fields import Metadata, Refused, SamplingRequest, Strict, Text, TokenCount, unsupported, wrong
from octavo.serve.responses.items import check_item
from octavo.serve.responses.mcp import McpChoice, McpOffer, McpServerTool
from octavo.serve.structured import NamedSchema, ResponseFormat, SchemaName
from octavo.serve.tools import AllowedTools, AllowedToolsChoice, Function, FunctionName, Named, NamedTool, Tools

INCLUDABLE = "message.output_text.logprobs"
RESULTS = "file_search_call.results"
UNMADE = (
    "web_search_call.results", "web_search_call.action.sources",
    "message.input_image.image_url", "computer_call_output.output.image_url", "code_interpreter_call.outputs",
    "reasoning.encrypted_content",
)  # fmt: skip
"""What a response could include if this server made it; asked for, it is simply not there."""


class FunctionTool(Function):
    """A function, in this API's flat form.

    Accepted: what it gives (output_schema), and how it is called elsewhere; here the model calls it, and is told of it
    at once.
    """

    type: Literal["function"]
    output_schema: dict[str, Any] | None = None
    allowed_callers: list[Literal["direct", "programmatic"]] | None = None
    defer_loading: bool | None = None
    asynchronous: bool | None = Field(None, alias="async")

    @field_validator("type", mode="before")
    @classmethod
    def _functions_only(cls, value: Any) -> Any:
        if value != "function" and isinstance(value, str):
            raise unsupported(None, f"{value[:40]!r} is not a tool that this server has; describe functions")
        return value


class FileSearchTool(Searching):
    """Search in vector stores: the question is always searched for, and the answer rests on what is found."""

    type: Literal["file_search"]
    vector_store_ids: Annotated[list[Text], Field(min_length=1, max_length=16)]
    max_num_results: Annotated[int, Field(ge=1, le=50)] = 4


def _as_tool(value: Any) -> Any:
    """The tool by its type. Complains of one that this server does not have before it complains of its fields."""
    kind = value.get("type") if isinstance(value, dict) else None
    if kind == "file_search":
        return FileSearchTool.model_validate(value)
    if kind == "mcp":
        return McpServerTool.model_validate(value)
    if isinstance(kind, str) and kind != "function":
        raise unsupported("type", f"{kind[:40]!r} is not a tool that this server has; describe functions")
    return value


Tool = Annotated[FunctionTool | FileSearchTool | McpServerTool, BeforeValidator(_as_tool)]


class FlatChoice(Strict):
    """One function that must be called."""

    type: Literal["function"]
    name: FunctionName


class FileSearchChoice(Strict):
    """The search must be made; no function is called."""

    type: Literal["file_search"]


class FlatAllowed(Strict):
    """Some functions that may or must be called."""

    type: Literal["allowed_tools"]
    mode: Literal["auto", "required"]
    tools: Annotated[list[FlatChoice], Field(min_length=1)]


class TextFormat(Strict):
    """The answer's form, flat."""

    type: Literal["text", "json_object", "json_schema"]
    name: SchemaName | None = None
    description: Text | None = None
    json_schema: dict[str, Any] | None = Field(None, alias="schema")
    strict: bool = False

    @model_validator(mode="after")
    def _has_its_schema(self) -> Self:
        if self.type == "json_schema" and (self.name is None or self.json_schema is None):
            raise wrong("schema" if self.name else "name", "the type json_schema needs it")
        return self

    @cached_property
    def nested(self) -> ResponseFormat:
        """The same in chat's form."""
        if self.type != "json_schema":
            return ResponseFormat(type=self.type)
        assert self.name is not None
        schema = NamedSchema(name=self.name, schema=self.json_schema, strict=self.strict)
        return ResponseFormat(type="json_schema", json_schema=schema)


class TextOptions(Strict):
    """Accepted: verbosity."""

    format: TextFormat | None = None
    verbosity: Literal["low", "medium", "high"] | None = None


class ReasoningOptions(Strict):
    """effort goes to the template. Accepted: summary, since thoughts are given whole; and how far thoughts go on."""

    effort: Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"] | None = None
    summary: Literal["auto", "concise", "detailed"] | None = None
    generate_summary: Literal["auto", "concise", "detailed"] | None = None
    mode: Text | None = None
    context: Text | None = None


class ConversationName(Strict):
    """A conversation by its id."""

    id: Text


class StreamOptions(Strict):
    """include_obfuscation is accepted: it pads chunks against eavesdroppers."""

    include_obfuscation: bool = False


class PromptCacheOptions(Strict):
    """Accepted: the prefix cache is automatic."""

    refused: ClassVar[Refused] = {"comparison_response_id": (), "prewarm": (False,)}

    mode: Literal["implicit", "explicit"] = "implicit"
    ttl: Literal["30m", "12h"] = "30m"


class PromptFields(SamplingRequest):
    """What a response's prompt is made of: shared with the counting of its tokens."""

    input: Text | list[Any] | None = Field(None, description="absent: an empty message")
    instructions: Text | None = None
    previous_response_id: Text | None = None
    conversation: Text | ConversationName | None = None
    tools: list[Tool] = Field(default_factory=list, max_length=128)
    tool_choice: (
        Literal["none", "auto", "required"] | FlatChoice | FileSearchChoice | McpChoice | FlatAllowed | None
    ) = None
    parallel_tool_calls: bool = True
    reasoning: ReasoningOptions | None = None
    text: TextOptions | None = None
    truncation: Literal["auto", "disabled"] = "disabled"

    @field_validator("input", mode="after")
    @classmethod
    def _check_items(cls, value: Any) -> Any:
        return [check_item(item) for item in value] if isinstance(value, list) else value

    @model_validator(mode="after")
    def _prompt_agrees(self) -> Self:
        if self.previous_response_id is not None and self.conversation is not None:
            raise wrong("conversation", "it is not allowed beside previous_response_id")
        self._check_search()
        must_call = self.offered.mode == "required"
        if self.form.type != "text" and must_call:
            raise wrong("tool_choice", "an answer that must be a call cannot have another form too")
        return self

    def _check_search(self) -> None:
        searches = [tool for tool in self.tools if isinstance(tool, FileSearchTool)]
        if isinstance(self.tool_choice, FileSearchChoice) and not searches:
            raise wrong("tool_choice", "'file_search' is none of the tools")
        if len(searches) > 1:
            raise wrong("tools", "there is one file_search in a request; join the stores")
        if isinstance(self.tool_choice, McpChoice) and not self.servers:
            raise wrong("tool_choice", "'mcp' is none of the tools")
        if searches and self.form.type != "text":
            raise wrong("text", "an answer that rests on passages is text")

    @property
    def search(self) -> FileSearchTool | None:
        """The search whose passages the answer rests on, unless the model calls a function first."""
        found = next((tool for tool in self.tools if isinstance(tool, FileSearchTool)), None)
        return None if self.tool_choice == "none" or self.offered.mode == "required" else found

    @property
    def servers(self) -> list[McpServerTool]:
        """The MCP servers that the model may use."""
        return [tool for tool in self.tools if isinstance(tool, McpServerTool)]

    @property
    def conversation_id(self) -> str | None:
        """The conversation's id, in whichever form it came."""
        return self.conversation.id if isinstance(self.conversation, ConversationName) else self.conversation

    @cached_property
    def form(self) -> ResponseFormat:
        """The answer's form."""
        asked = self.text.format if self.text else None
        return asked.nested if asked else ResponseFormat(type="text")

    @cached_property
    def offered(self) -> Tools:
        """The functions, without the tools of MCP servers."""
        return self.offering(None)

    def offering(self, servers: McpOffer | None) -> Tools:
        """The functions that the model may call. servers: whose tools are among them; None: of none."""
        choice: Any = self.tool_choice
        functions: list[Function] = [tool for tool in self.tools if isinstance(tool, FunctionTool)]
        functions += [] if servers is None else servers.functions
        if isinstance(choice, FileSearchChoice):
            choice = "none"
        elif isinstance(choice, McpChoice):
            choice = None if servers is None else _allowed("required", servers.names(choice))
        elif isinstance(choice, FlatChoice):
            choice = NamedTool(type="function", function=Named(name=choice.name))
        elif isinstance(choice, FlatAllowed):
            choice = _allowed(choice.mode, [tool.name for tool in choice.tools])
        elif choice in ("auto", "required") and not functions:
            choice = None if choice == "auto" or self.tools else choice
        return Tools.of(functions, choice, parallel=self.parallel_tool_calls)

    def request(
        self,
        model: lm.LanguageModel,
        history: Sequence[lm.Message],
        *,
        max_tokens: int | None,
        logprobs: int | None,
        offered: Tools | None = None,
    ) -> lm.Request:
        """The answer to make. history: what was said, this request's input included. offered: None: the functions."""
        offered = offered or self.offered
        template = None if model.tokenizer is None else model.tokenizer.chat_template
        spoken: list[lm.Message] = [{"role": "system", "content": self.instructions}] if self.instructions else []
        effort = self.reasoning.effort if self.reasoning else None
        thinking = {} if effort is None else {"reasoning_effort": effort, "enable_thinking": effort != "none"}
        return lm.Request(
            prompt=offered.told([*spoken, *history], template),
            max_tokens=max_tokens,
            sampling=self.sampling_for(model, 0),
            stop_token_ids=tuple(self.stop_token_ids),
            ignore_eos=self.ignore_eos,
            logprobs=logprobs,
            skip_special=not offered.used,
            template={**offered.variables(template), **thinking},
            constraint=offered.constraint(template, model.tokenizer) or self.form.constraint,
        )


def _allowed(mode: Literal["auto", "required"], names: list[str]) -> AllowedToolsChoice:
    tools = [NamedTool(type="function", function=Named(name=name)) for name in names]
    return AllowedToolsChoice(type="allowed_tools", allowed_tools=AllowedTools(mode=mode, tools=tools))


class CountRequest(PromptFields):
    """What is counted. Accepted: personality, a preset of models that are not here."""

    personality: Text | None = None


class ResponseRequest(PromptFields):
    """The body. max_tool_calls: of calls that this server makes. Accepted without effect: metadata, and the fields
    from service_tier on."""

    refused: ClassVar[Refused] = {
        "prompt": (), "context_management": (), "moderation": (), "image": (), "access_programs": (),
        "background_options": (),
    }  # fmt: skip

    max_output_tokens: TokenCount | None = None
    include: list[Text] = Field(default_factory=list)
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    stream: bool = False
    stream_options: StreamOptions | None = None
    store: bool = True
    background: bool = False
    metadata: Metadata = Field(default_factory=dict)
    max_tool_calls: TokenCount | None = None
    service_tier: Literal["auto", "default", "flex", "scale", "priority", "fast"] | None = None
    safety_identifier: Annotated[Text, Field(max_length=128)] | None = None
    prompt_cache_key: Text | None = None
    client_metadata: dict[str, Any] | None = None
    prompt_cache_options: PromptCacheOptions | None = None
    prompt_cache_retention: Literal["in_memory", "24h"] | None = None

    @model_validator(mode="after")
    def _response_agrees(self) -> Self:
        if self.background and not self.store:
            raise wrong("background", "a response in the background must be stored")
        if self.search is not None and self.logprobs is not None:
            raise wrong("include", "an answer that rests on passages is not the model's words alone")
        for place, name in enumerate(self.include):
            if name not in (INCLUDABLE, RESULTS, *UNMADE):
                raise wrong(f"include.{place}", f"{name[:60]!r} is nothing that a response can include")
        return self

    @property
    def logprobs(self) -> int | None:
        """How many alternatives to report a token; None: no log-probabilities."""
        if INCLUDABLE in self.include or self.top_logprobs is not None:
            return self.top_logprobs or 0
        return None
