"""`octavo run` with an encoder-decoder: a source in, its answer out, by the likeliest token or by beam search."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from typing import Any

import typer

DEFAULT_TOKENS = 256


def answer_source(
    model: str, text: str, *, max_tokens: int | None, beams: int | None, as_json: bool, others: Mapping[str, Any]
) -> None:
    """Print the answer. others: options of decoders, by name; one that was given is refused."""
    from octavo.errors import UnsupportedError
    from octavo.generate.encoder_decoder.torch_seq2seq import Seq2Seq
    from octavo.generate.lm import Beams

    wrong = [name for name, value in others.items() if value not in (None, False, (), [])]
    if wrong:
        raise UnsupportedError(
            f"{model} is an encoder-decoder, which `octavo run` answers with --beams, --max-tokens and --json; "
            f"leave {', '.join(wrong)} out"
        )
    loaded = Seq2Seq.load(model)
    began = time.perf_counter()
    (answer,) = loaded.generate(
        [text], max_tokens=max_tokens or DEFAULT_TOKENS, beams=None if beams is None else Beams(beams)
    )
    if as_json:
        seconds = round(time.perf_counter() - began, 4)
        typer.echo(json.dumps({"model": model, "text": answer, "seconds": seconds}, ensure_ascii=False))
    else:
        typer.echo(answer)
