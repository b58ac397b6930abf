"""`/v1/responses`: OpenAI's newer API, with answers that are kept, read again, continued, made in the background."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import JSONResponse
from pydantic_core import PydanticCustomError
from starlette.types import Receive, Scope, Send

from octavo.generate.lm import LanguageModel
from octavo.serve.answering import PING, SSE_HEADERS, serving_of, sse
from octavo.serve.errors import ApiError, invalid
from octavo.serve.generation import Job, client_left
from octavo.serve.responses.events import ResponseBuilder
from octavo.serve.responses.grounding import GroundedReader, ground
from octavo.serve.responses.items import as_objects, messages_of
from octavo.serve.responses.mcp import McpOffer, McpServerTool, approved
from octavo.serve.responses.request import CountRequest, FileSearchTool, FunctionTool, PromptFields, ResponseRequest
from octavo.serve.responses.run import ResponseRun
from octavo.serve.responses.turns import Turn, Turns, answer_reader
from octavo.serve.serving import Serving
from octavo.serve.state import Order, new_id
from octavo.serve.tools import Tools

router = APIRouter()

Object = dict[str, Any]
Limit = Annotated[int, Query(ge=0, le=100)]
ECHOED = (
    "instructions", "max_output_tokens", "max_tool_calls", "metadata", "parallel_tool_calls", "previous_response_id",
    "top_logprobs", "truncation", "background",
)  # fmt: skip
ECHOED_IF_GIVEN = ("prompt_cache_key", "prompt_cache_retention", "safety_identifier", "user")


@router.post("/v1/responses")
async def create_response(body: ResponseRequest, request: Request) -> Response:
    """Answer, whole, as a stream of events, or in the background."""
    serving = serving_of(request)
    model = await serving.find(body.model)
    new_items = _input_items(serving, body)
    items = [*_history(serving, body), *new_items]
    offer = await asyncio.to_thread(McpOffer, serving.mcp, body.servers) if body.servers else McpOffer(serving.mcp, ())
    calls = approved(items)
    for call in calls:
        await asyncio.to_thread(offer.call, call)
    items += calls
    turns = Turns(model, body, offer, _offered(body, offer), items, _grounds(serving, model, body, items))
    first = await turns.first()
    builder = ResponseBuilder(_new_response(serving, body, model, first.request.sampling), first.reader, offer.item)
    known = {item["server_label"] for item in items if item["type"] == "mcp_list_tools"}

    def begun(builder: ResponseBuilder) -> None:
        for listed in offer.listed:
            if listed["server_label"] not in known:
                builder.listed(listed)
        for call in calls:
            builder.approved(call)

    keeps = body.store and serving.settings.store
    run = ResponseRun(
        serving,
        lambda request: serving.begin(model, [Job(request)], limited=not body.background),
        builder,
        first,
        turns,
        _keeper(serving, body, new_items, keeps),
        begun,
    )
    run.start(background=body.background)
    serving.responses[builder.response["id"]] = run
    if body.background:
        _keep(serving, builder, new_items)
        if not body.stream:
            return JSONResponse(builder.events[0]["response"])
    return Following(run, serving, whole=not body.stream, cancels=not body.background)


@router.get("/v1/responses/{response_id}")
async def retrieve_response(
    response_id: str,
    request: Request,
    stream: bool = False,
    starting_after: Annotated[int | None, Query(ge=0)] = None,
    include: Annotated[list[str] | None, Query()] = None,
    include_obfuscation: bool = False,
) -> Response:
    """A kept response, or its events from a number on. Accepted: include, and include_obfuscation."""
    serving = serving_of(request)
    run = serving.responses.get(response_id)
    after = -1 if starting_after is None else starting_after
    if stream and run is not None:
        return Following(run, serving, whole=False, cancels=False, after=after)
    kept = serving.state.get("response", serving.owner, response_id)
    if run is not None:
        return JSONResponse(run.builder.response)
    if not stream:
        return JSONResponse(kept)
    (told,) = serving.state.children("events", serving.owner, response_id)
    data = b"".join(sse(event, event["type"]) for event in told["events"][after + 1 :])
    return Response(data, headers=SSE_HEADERS)


@router.delete("/v1/responses/{response_id}")
async def delete_response(response_id: str, request: Request) -> Object:
    """Forget a response and its input; one that is being made ends first, or it would be kept after all."""
    serving = serving_of(request)
    serving.state.get("response", serving.owner, response_id)
    run = serving.responses.get(response_id)
    if run is not None:
        run.cancel()
        await run.wait()
    serving.state.delete("response", serving.owner, response_id)
    return {"id": response_id, "object": "response", "deleted": True}


@router.post("/v1/responses/{response_id}/cancel")
async def cancel_response(response_id: str, request: Request) -> Response:
    """Stop a response that runs in the background; one that has ended stays as it is."""
    serving = serving_of(request)
    kept = serving.state.get("response", serving.owner, response_id)
    if not kept["background"]:
        raise invalid("Only a response in the background can be cancelled.", None)
    run = serving.responses.get(response_id)
    if run is None:
        return JSONResponse(kept)
    run.cancel()
    await run.wait()
    return JSONResponse(run.builder.response)


@router.get("/v1/responses/{response_id}/input_items")
async def list_input_items(
    response_id: str,
    request: Request,
    after: str | None = None,
    before: str | None = None,
    limit: Limit = 20,
    order: Order = "desc",
    include: Annotated[list[str] | None, Query()] = None,
) -> Object:
    """What went into a response. Accepted: include."""
    serving = serving_of(request)
    serving.state.get("response", serving.owner, response_id)
    page = serving.state.page(
        "input_item", serving.owner, parent=response_id, after=after, before=before, limit=limit, order=order
    )
    return page.body()


@router.post("/v1/responses/input_tokens")
async def count_input_tokens(body: CountRequest, request: Request) -> Object:
    """How many tokens an input has, rendered as a response would."""
    serving = serving_of(request)
    model = await serving.find(body.model)
    items = [*_history(serving, body), *_input_items(serving, body)]
    made = body.request(model, messages_of(items), max_tokens=None, logprobs=None)
    if model.tokenizer is None:
        raise ApiError(400, "unsupported", f"The tokenizer of {model.name!r} is not at hand here.", param="model")
    ids = await asyncio.to_thread(model.tokenizer.encode_chat, made.prompt, **made.template)  # type: ignore[arg-type]
    return {"object": "response.input_tokens", "input_tokens": len(ids)}


class Following(Response):
    """A run's response: whole when it has ended, or its events from `after` on.

    cancels: a client who leaves ends it.
    """

    def __init__(self, run: ResponseRun, serving: Serving, *, whole: bool, cancels: bool, after: int = -1) -> None:
        super().__init__()
        self._run = run
        self._serving = serving
        self._whole = whole
        self._cancels = cancels
        self._after = after

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with client_left(receive, self._run.cancel if self._cancels else lambda: None):
            if self._whole:
                await self._run.wait()
                await self._answer()(scope, receive, send)
                return
            if self._cancels:  # one in the background tells at once that it is queued
                await self._run.begun.wait()
            if self._cancels and self._run.refusal is not None:  # as an HTTP error, since nothing was told yet
                await self._run.refusal.response()(scope, receive, send)
                return
            headers = [(name.encode(), value.encode()) for name, value in SSE_HEADERS.items()]
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            async for data in self._events():
                await send({"type": "http.response.body", "body": data, "more_body": True})
            await send({"type": "http.response.body", "body": b"", "more_body": False})

    def _answer(self) -> Response:
        error = self._run.error
        return JSONResponse(self._run.builder.response) if error is None else error.response()

    async def _events(self) -> AsyncIterator[bytes]:
        async for event in self._run.follow(self._after, self._serving.settings.ping_seconds):
            yield PING if event is None else sse(event, event["type"])


def _offered(body: ResponseRequest, offer: McpOffer) -> Tools:
    try:
        return body.offering(offer)
    except PydanticCustomError as error:
        raise invalid(f"{error.message().capitalize()}.", (error.context or {}).get("field")) from None


def _grounds(
    serving: Serving, model: LanguageModel, body: ResponseRequest, items: list[Object]
) -> Callable[[], Awaitable[Turn]] | None:
    """What makes the turn that answers from passages; None where none does: after the result of a call the model's own
    words are the answer."""
    tool = body.search
    said = messages_of(items)
    calls = len(body.tools) > 1
    if tool is None or (calls and said and said[-1]["role"] != "user"):
        return None

    async def make() -> Turn:
        grounding = await ground(serving, model, tool, said)
        made = grounding.request(model, body)
        answer = await answer_reader(model, Tools.of((), None, parallel=True), made)
        return Turn(made, GroundedReader(answer, grounding), lambda builder: grounding.tell(builder, body.include))

    return make


def _new_response(serving: Serving, body: ResponseRequest, model: LanguageModel, sampling: Any) -> Object:
    given = body.model_dump(
        by_alias=True, include={*ECHOED, *ECHOED_IF_GIVEN, "reasoning", "text", "tools", "tool_choice"}
    )
    text_format = body.form.model_dump(by_alias=True, exclude_none=True)
    if body.text and body.text.format and body.text.format.type == "json_schema":
        text_format = body.text.format.model_dump(by_alias=True, exclude_none=True)
    return {
        "id": new_id("resp"),
        "object": "response",
        "created_at": time.time(),
        "status": "in_progress",
        "completed_at": None,
        "error": None,
        "incomplete_details": None,
        "model": model.name,
        "output": [],
        **{name: given[name] for name in ECHOED},
        **{name: given[name] for name in ECHOED_IF_GIVEN if given[name] is not None},
        "top_logprobs": body.top_logprobs or 0,
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "reasoning": {"effort": body.reasoning.effort if body.reasoning else None, "summary": None},
        "text": {"format": text_format, "verbosity": (body.text and body.text.verbosity) or "medium"},
        "tools": [_tool(tool) for tool in body.tools],
        "tool_choice": given["tool_choice"] or "auto",
        "conversation": None if body.conversation_id is None else {"id": body.conversation_id},
        "service_tier": "default",
        "store": body.store and serving.settings.store,
    }


def _tool(tool: FunctionTool | FileSearchTool | McpServerTool) -> Object:
    said = tool.model_dump(by_alias=True, exclude_none=True)
    return {"parameters": None, **said} if isinstance(tool, FunctionTool) else said


def _input_items(serving: Serving, body: PromptFields) -> list[Object]:
    """This request's own items, references looked up."""
    if body.input is None or isinstance(body.input, str):
        part = {"type": "input_text", "text": body.input or ""}
        return [{"type": "message", "id": new_id("msg"), "role": "user", "status": "completed", "content": [part]}]
    items = as_objects(item for item in body.input)
    return [_referred(serving, item["id"]) if item["type"] == "item_reference" else item for item in items]


def _referred(serving: Serving, item_id: str) -> Object:
    found = serving.state.find_item(serving.owner, item_id)
    if found is None:
        raise invalid(f"There is no kept item with the id {item_id[:100]!r}.", "input", "item_not_found")
    return found


def _history(serving: Serving, body: PromptFields) -> list[Object]:
    """What was said before: of a conversation, or of the chain of responses that this one continues."""
    state, owner = serving.state, serving.owner
    if body.conversation_id is not None:
        state.get("conversation", owner, body.conversation_id)
        return state.children("item", owner, body.conversation_id)
    items: list[Object] = []
    name = body.previous_response_id
    while name is not None:
        try:
            before = state.get("response", owner, name)
        except ApiError:
            text = f"The previous response {name[:100]!r} is not kept here."
            raise invalid(text, "previous_response_id", "previous_response_not_found") from None
        items = [*state.children("input_item", owner, name), *before["output"], *items]
        name = before["previous_response_id"]
    return items


def _keeper(serving: Serving, body: ResponseRequest, items: list[Object], keeps: bool) -> Any:
    """What is done when the response has ended: keep it, and what was said in its conversation."""

    def keep(builder: ResponseBuilder) -> None:
        serving.responses.pop(builder.response["id"], None)
        if keeps:
            _keep(serving, builder, items)
        wanted = builder.response["status"] in ("completed", "incomplete")
        if wanted and body.conversation_id is not None and _is_kept(serving, body.conversation_id):
            said = [*items, *builder.response["output"]]
            serving.state.put_all("item", serving.owner, said, parent=body.conversation_id)

    return keep


def _is_kept(serving: Serving, conversation_id: str) -> bool:
    """Whether it is there still: it may have been deleted while the answer was made."""
    try:
        serving.state.get("conversation", serving.owner, conversation_id)
    except ApiError:
        return False
    return True


def _keep(serving: Serving, builder: ResponseBuilder, items: list[Object]) -> None:
    response, owner = builder.response, serving.owner
    serving.state.put("events", owner, {"id": "events", "events": builder.events}, parent=response["id"])
    serving.state.put_all("input_item", owner, items, parent=response["id"])
    serving.state.put("response", owner, response)


def fail_interrupted(serving: Serving) -> None:
    """Responses that a stopped server left unfinished have failed; called when a server begins."""
    for status in ("queued", "in_progress"):
        for owner, response in serving.state.find_all("response", "status", status):
            response["status"] = "failed"
            response["error"] = {"code": "server_error", "message": "The server stopped before this was finished."}
            serving.state.put("response", owner, response)
