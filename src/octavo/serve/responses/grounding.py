"""The tool `file_search`: passages are found before the answer is begun, and the answer says what they support.

The same machinery as `octavo ask`: passages are quoted as data, and each sentence of the answer is checked. So the text
is told when the model has ended, with a citation behind each sentence; beside OpenAI's fields a citation has a `span`:
which characters of the file's text (`/v1/vector_stores/ID/files/ID/content`) the sentence rests on.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from octavo.generate import lm
from octavo.retrieve import grounded
from octavo.retrieve.grounded import Citation, GroundedAnswer
from octavo.retrieve.reader import Answer, first, kept_honest, read, refused
from octavo.retrieve.stores.store import Hit
from octavo.retrieve.support import stems
from octavo.serve.errors import invalid
from octavo.serve.responses.events import Cited, Reads, ResponseBuilder
from octavo.serve.responses.request import RESULTS, FileSearchTool, ResponseRequest
from octavo.serve.serving import Serving
from octavo.serve.tools import Tools
from octavo.text.tool_calls import Content, Piece

Object = dict[str, Any]
_MARK = re.compile(r"\[(\d+)\]")


@dataclass(frozen=True)
class Grounding:
    """What was found for a question.

    before: what was said before it. hits: the passages. files: the rows of their files. fitting: as many of the
    passages as the model's context holds, the one with the answer first; sources: the rows of their files.
    read: what the reader marks in them, None where none reads.
    """

    question: str
    before: Sequence[lm.Message]
    hits: Sequence[Hit]
    files: Sequence[Mapping[str, Any]]
    fitting: Sequence[Hit]
    sources: Sequence[Mapping[str, Any]]
    read: Answer | None

    def request(self, model: lm.LanguageModel, body: ResponseRequest) -> lm.Request:
        """The answer to make: as likely as can be, unless the request says how to sample."""
        said = [*self.before, *grounded.messages(self.question, self.fitting)]
        tokens = body.max_output_tokens or grounded.ANSWER_TOKENS
        made = body.request(model, said, max_tokens=tokens, logprobs=None, offered=Tools.of((), None, parallel=True))
        return made if body.temperature is not None else replace(made, sampling=_surest(made.sampling))

    def checked(self, said: str) -> GroundedAnswer:
        """What stays of an answer: what passages support and the reader stands by."""
        if self.read is not None and not self.read.answered:
            return refused(self.fitting, self.read)
        checked = grounded.check(self.question, said, self.fitting)
        return checked if self.read is None else kept_honest(checked, self.read, self.fitting)

    def tell(self, builder: ResponseBuilder, include: Sequence[str]) -> None:
        """Tell of the search, with its passages where they were asked for."""
        builder.searched([self.question], self._results() if RESULTS in include else None)

    def _results(self) -> list[Object]:
        return [
            {
                "file_id": row["id"],
                "filename": row["filename"],
                "score": hit.score,
                "attributes": row["attributes"],
                "text": hit.passage.text,
            }
            for hit, row in zip(self.hits, self.files, strict=True)
        ]


async def ground(
    serving: Serving, model: lm.LanguageModel, tool: FileSearchTool, messages: Sequence[lm.Message]
) -> Grounding:
    """Search for the last thing that the user said. Raises ApiError 400 where there is none, 404 for no such store.

    Where earlier talk leaves no room for a passage, it is left out.
    """
    place = max((at for at, message in enumerate(messages) if message["role"] == "user"), default=None)
    question = "" if place is None else str(messages[place]["content"]).strip()
    if not question or place is None:
        raise invalid("There is no question of the user to search for.", "input")
    found = await serving.documents.search(
        serving.owner,
        tool.vector_store_ids,
        [question],
        tool.max_num_results,
        where=tool.where,
        ranking=tool.ranking_options,
    )
    known = [(one.hit, serving.documents.member(serving.owner, one)) for one in found]
    kept = [(hit, row) for hit, row in known if row is not None]
    hits, before = [hit for hit, _ in kept], messages[:place]
    fitting = await asyncio.to_thread(grounded.fit, model, question, hits, before)
    if not fitting:
        before, fitting = (), await asyncio.to_thread(grounded.fit, model, question, hits)
    marked = await _marked(serving, tool, question, fitting)
    rows = [row for _, row in kept]
    sources = rows[: len(fitting)]
    if marked is not None and marked.answered:
        fitting, sources = first(fitting, marked), first(sources, marked)
    return Grounding(question, before, hits, rows, fitting, sources, marked)


async def _marked(serving: Serving, tool: FileSearchTool, question: str, fitting: Sequence[Hit]) -> Answer | None:
    """What the reader marks in the passages; None where none reads."""
    reader = await serving.documents.reader() if fitting and tool.ranking_options.reads else None
    if reader is None or not reader.knows(question):
        return None
    return await asyncio.to_thread(read, reader, question, fitting)


class GroundedReader:
    """Reads an answer, holds its text back, and gives what passages support of it."""

    def __init__(self, reader: Reads, grounding: Grounding) -> None:
        self._reader = reader
        self._grounding = grounding
        self._said = ""

    @property
    def thinking(self) -> bool:
        """Whether what was read last is a thought that goes on."""
        return self._reader.thinking

    def push(self, text: str) -> Sequence[Piece | Cited]:
        """Thoughts; no text yet."""
        return self._held(self._reader.push(text))

    def flush(self) -> Sequence[Piece | Cited]:
        """The sentences that are supported, each with its citation."""
        others = self._held(self._reader.flush())
        return [*others, *_sentences(self._grounding.checked(self._said), self._grounding.sources)]

    def _held(self, read: Sequence[Piece | Cited]) -> list[Piece | Cited]:
        others: list[Piece | Cited] = []
        for piece in read:
            if isinstance(piece, Content):
                self._said += piece.text
            else:
                others.append(piece)
        return others


def _sentences(answer: GroundedAnswer, files: Sequence[Mapping[str, Any]]) -> Iterator[Cited]:
    """An answer cut behind its marks."""
    start = 0
    for mark in _MARK.finditer(answer.text):
        citation = _citation(answer, int(mark[1]), answer.text[start : mark.start()])
        if citation is None:
            continue
        yield Cited(answer.text[start : mark.end()], [_annotation(citation, mark.start(), files[citation.number - 1])])
        start = mark.end()
    if start < len(answer.text) or not answer.text:
        yield Cited(answer.text[start:], [])


def _citation(answer: GroundedAnswer, number: int, sentence: str) -> Citation | None:
    """What a sentence with this mark rests on: of several quotations from one passage the one with its words."""
    candidates = [citation for citation in answer.citations if citation.number == number]
    return max(candidates, key=lambda one: len(stems(one.text) & stems(sentence)), default=None)


def _annotation(citation: Citation, index: int, row: Mapping[str, Any]) -> Object:
    """index: where the mark begins in the answer's text."""
    return {
        "type": "file_citation",
        "file_id": row["id"],
        "filename": row["filename"],
        "index": index,
        "span": {
            "vector_store_id": row["vector_store_id"],
            "sha256": citation.sha256,
            "start": citation.start,
            "end": citation.end,
            "page": citation.page,
            "line": citation.line,
            "context": citation.context,
            "text": citation.text,
        },
    }


def _surest(sampling: lm.Sampling) -> lm.Sampling:
    return replace(sampling, temperature=0.0, seed=0 if sampling.seed is None else sampling.seed)
