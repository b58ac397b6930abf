"""`octavo ask --web`: an answer from pages that a search finds, with the paragraph that it rests on."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import typer

from octavo import settings
from octavo.cli.terminal import say, tell
from octavo.errors import OctavoError, UnknownNameError, nearest

if TYPE_CHECKING:
    from octavo.generate.lm import LanguageModel
    from octavo.retrieve.web.answering import WebAnswer

HOW = "name one with --search: searxng:URL, brave (its key in OCTAVO_SEARCH_KEY), or site:URL"


def ask_web(
    model: LanguageModel, question: str, search: str | None, scorer: str, paragraphs: int, as_json: bool
) -> None:
    """Search, read and answer; print the answer with its source."""
    from octavo.retrieve.web.answering import SCORERS, answer_from_web
    from octavo.retrieve.web.fetching import PageCache
    from octavo.retrieve.web.searching import provider

    if scorer not in SCORERS:
        known = ", ".join(SCORERS)
        raise UnknownNameError(f"no scorer is called {scorer!r}{nearest(scorer, SCORERS)}; there are {known}")
    if search is None:
        raise OctavoError(f"the web is asked only through a search that you choose; {HOW}")
    if settings.offline() and not search.startswith("site:"):
        raise OctavoError("OCTAVO_OFFLINE is set, so the web is not asked; unset it, or give site:URL of a site nearby")
    searching = provider(search, settings.search_key())
    cache = PageCache(settings.cache_dir() / "web", searching.fetcher)
    answered = answer_from_web(model, question, searching, cache, scorer=scorer, limit=paragraphs)
    if as_json:
        typer.echo(json.dumps(_row(answered), ensure_ascii=False))
        return
    for reason in answered.unread:
        tell(f"left out {reason}")
    if answered.evidence is None:
        typer.echo("The pages that were found do not answer this.")
        return
    evidence = answered.evidence
    quoted = "\n".join(f"    {line}".rstrip() for line in evidence.text.splitlines())
    say(f"{answered.text} [1]\n\n[1] {evidence.url} ({evidence.title}; read {evidence.fetched})\n{quoted}")


def _row(answered: WebAnswer) -> dict[str, Any]:
    return {
        "answer": answered.text,
        "answered": answered.evidence is not None,
        "score": None if answered.evidence is None else answered.score,
        "evidence": None if answered.evidence is None else asdict(answered.evidence),
        "candidates": [
            {"answer": one.text, "url": one.evidence.url, "share": one.evidence.share, "logs": dict(one.logs)}
            for one in answered.candidates
        ],
        "unread": list(answered.unread),
    }
