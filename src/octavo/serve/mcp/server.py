"""An MCP server: a model, its embeddings and folders of documents as tools, for editors and other programs.

Unusual: models and encoders are loaded when a tool first needs them, because editors start servers that they may never
use; each tool runs in a thread, and one at a time, so that two calls do not fight for the processors. Protocol:
modelcontextprotocol.io; the official SDK speaks it.
"""

from __future__ import annotations

import asyncio
import functools
import threading
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ParamSpec, TypeVar

from pydantic import Field

from octavo.errors import MissingDependencyError, OctavoError, nearest
from octavo.generate.lm import LanguageModel, Message, Request, complete

if TYPE_CHECKING:
    from mcp.server import MCPServer

    from octavo.generate.embed import Embedder
    from octavo.retrieve.library import Library

P = ParamSpec("P")
R = TypeVar("R")
Prompt = Annotated[str, Field(min_length=1, description="What to ask the model.")]
Query = Annotated[str, Field(min_length=1, description="What to find, in plain words.")]
Count = Annotated[int, Field(ge=1, le=50, description="How many passages.")]


class Offer:
    """What is offered. load_model, load_encoder: called once, when first needed. folders: of documents, by their names.

    open_library: opens the index of a folder. Close it at the end.
    """

    def __init__(
        self,
        load_model: Callable[[], LanguageModel],
        load_encoder: Callable[[], Embedder],
        folders: Mapping[str, Path],
        open_library: Callable[[Path], Library],
    ) -> None:
        self._load_model, self._load_encoder = load_model, load_encoder
        self._open_library = open_library
        self.folders = dict(folders)
        self._model: LanguageModel | None = None
        self._encoder: Embedder | None = None
        self._working = threading.Lock()

    def chat(
        self,
        prompt: Prompt,
        system: Annotated[str | None, Field(description="How the model is to behave.")] = None,
        max_tokens: Annotated[int | None, Field(ge=1, le=1 << 20)] = None,
        temperature: Annotated[float | None, Field(ge=0, le=2)] = None,
    ) -> str:
        """Ask the local language model and get its answer."""
        model = self.model()
        sampling = model.sampling if temperature is None else replace(model.sampling, temperature=temperature)
        messages: list[Message] = [{"role": "system", "content": system}] if system else []
        asked = Request([*messages, {"role": "user", "content": prompt}], max_tokens, sampling)
        return complete(model, asked).text

    def embed(self, texts: Annotated[list[str], Field(min_length=1, max_length=256)]) -> list[list[float]]:
        """Turn texts into vectors of which near ones mean alike."""
        if self._encoder is None:
            self._encoder = self._load_encoder()
        vectors: list[list[float]] = self._encoder.embed(texts).tolist()
        return vectors

    def search_documents(self, query: Query, folder: str | None = None, count: Count = 5) -> list[dict[str, Any]]:
        """Find passages of the user's documents: text, document, characters, page or line, score."""
        library = self._opened(folder)
        try:
            hits = library.search.find(query, count)
        finally:
            library.close()
        return [
            {
                "text": hit.passage.text,
                "document": hit.passage.document,
                **asdict(hit.passage.place),
                "score": float(hit.score),
            }
            for hit in hits
        ]

    def ask_documents(self, question: Query, folder: str | None = None, count: Count = 4) -> dict[str, Any]:
        """Answer from the user's documents alone, with the passages that each sentence rests on."""
        from octavo.retrieve.grounded import answer

        library = self._opened(folder)
        try:
            hits = library.search.find(question, count)
        finally:
            library.close()
        answered = answer(self.model(), question, hits)
        cited = [asdict(citation) for citation in answered.citations]
        return {"answer": answered.text, "answered": answered.answered, "citations": cited}

    def model(self) -> LanguageModel:
        """The model, loaded."""
        if self._model is None:
            self._model = self._load_model()
        return self._model

    def tools(self) -> list[Callable[..., Any]]:
        """What can be called; documents only where there are some."""
        return [self.chat, self.embed, *((self.search_documents, self.ask_documents) if self.folders else ())]

    def in_turn(self, function: Callable[P, R]) -> Callable[P, R]:
        """The function, one call at a time."""

        @functools.wraps(function)
        def alone(*arguments: P.args, **named: P.kwargs) -> R:
            with self._working:
                return function(*arguments, **named)

        return alone

    def close(self) -> None:
        """Free what was loaded."""
        for loaded in (self._model, self._encoder):
            if loaded is not None:
                loaded.close()
        self._model = self._encoder = None

    def _opened(self, folder: str | None) -> Library:
        name = next(iter(self.folders)) if folder is None else folder
        if name not in self.folders:
            known = ", ".join(self.folders)
            raise OctavoError(f"there is no folder {name[:100]!r}; there are {known}{nearest(name, self.folders)}")
        library = self._open_library(self.folders[name])
        library.update(None, None)
        return library


def build(offer: Offer, version: str) -> MCPServer[Any]:
    """The server of an offer. Raises MissingDependencyError without the SDK."""
    try:
        from mcp.server import MCPServer
        from mcp.server.mcpserver.exceptions import ToolError
    except ImportError:
        raise MissingDependencyError("MCP needs its SDK; run `pip install 'octavo[mcp]'`") from None
    named = f" Folders of documents: {', '.join(offer.folders)}." if offer.folders else ""
    server: MCPServer[Any] = MCPServer(
        "octavo", instructions=f"A language model on this machine.{named}", version=version
    )

    def offered(function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        async def call(*arguments: Any, **named: Any) -> Any:
            try:
                return await asyncio.to_thread(offer.in_turn(function), *arguments, **named)
            except OctavoError as error:
                raise ToolError(str(error)) from None

        return call

    for function in offer.tools():
        server.add_tool(offered(function))
    return server
