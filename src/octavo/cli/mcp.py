"""`octavo mcp`: a model and documents as tools of an editor, over the Model Context Protocol on stdin and stdout."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from octavo.cli import arguments as given
from octavo.fetching.sources import DEFAULT_ENCODER, DEFAULT_MODEL

if TYPE_CHECKING:
    from octavo.generate.lm import LanguageModel
    from octavo.retrieve.library import Library


def mcp(
    model: given.OptionalModel = DEFAULT_MODEL,
    docs: Annotated[
        list[str] | None, typer.Option("--docs", metavar="FOLDER", help="Offer search in these documents, too.")
    ] = None,
    encoder: Annotated[
        str, typer.Option("--encoder", metavar="MODEL", help="What makes vectors of texts.")
    ] = DEFAULT_ENCODER,
    runner: given.Runner = None,
    context: given.Context = None,
    quantize: given.Quantize = None,
) -> None:
    """Offer a model and documents to an editor: an MCP server on stdin and stdout.

    The tools are chat and embed, and with --docs search_documents and
    ask_documents. The model is loaded when it is first asked. Needs
    `pip install 'octavo[mcp]'`.

    Examples:

      octavo mcp

      octavo mcp smollm2-135m-instruct --docs notes/ --docs papers/

      claude mcp add octavo -- octavo mcp --docs notes/
    """
    from octavo import __version__
    from octavo.serve.mcp.server import Offer, build

    def load_model() -> LanguageModel:
        from octavo.generate.local import load

        return load(given.obtain(model), runner=runner, context=context, quantize=quantize)

    def open_folder(folder: Path) -> Library:
        from octavo.retrieve.library import open_library

        return open_library(folder, given.load_encoder)

    offer = Offer(load_model, partial(given.load_encoder, encoder), _folders(docs or ()), open_folder)
    try:
        build(offer, __version__).run("stdio")
    finally:
        offer.close()


def _folders(docs: list[str] | tuple[str, ...]) -> dict[str, Path]:
    from octavo.errors import OctavoError

    found: dict[str, Path] = {}
    for text in docs:
        folder = Path(text).resolve()
        if not folder.is_dir():
            raise OctavoError(f"there is no folder {text}")
        if folder.name in found:
            raise OctavoError(f"two folders are named {folder.name!r}; name one of them otherwise")
        found[folder.name] = folder
    return found
