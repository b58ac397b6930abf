"""`octavo caption`: what a model that sees says of a picture."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from octavo.cli import arguments as given


def caption(
    model: Annotated[Path, typer.Argument(metavar="FOLDER", help="A BLIP-2, LLaVA, MiniGPT or Idefics3 folder.")],
    pictures: Annotated[list[Path], typer.Argument(metavar="PICTURE...", help="PNG, JPEG, WebP, GIF or BMP files.")],
    prompt: Annotated[str, typer.Option("--prompt", "-p", metavar="TEXT", help="What to ask of each picture.")] = "",
    max_tokens: Annotated[int, typer.Option("--max-tokens", "-n", metavar="N", min=1, help="Of an answer.")] = 64,
    as_json: given.AsJson = False,
) -> None:
    """Describe pictures, or answer a question about each, in the model's likeliest words.

    The picture comes before the prompt, or where the prompt has the model's
    image token. Needs octavo[torch,images].

    Examples:

      octavo caption ./blip2-opt-2.7b cat.jpg dog.jpg

      octavo caption ./llava-1.5-7b-hf cat.jpg -p "USER: <image> What is this? ASSISTANT:"
    """
    from importlib.util import find_spec

    from octavo.errors import MissingDependencyError

    if find_spec("torch") is None:
        raise MissingDependencyError("models that see need torch; pip install 'octavo[torch,images]'")
    from octavo.generate.vision.torch_captions import Captioner

    captioner = Captioner.load(model)
    for picture in pictures:
        text = captioner.describe(picture, prompt, max_tokens=max_tokens)
        if as_json:
            typer.echo(json.dumps({"picture": str(picture), "text": text}, ensure_ascii=False))
        else:
            typer.echo(f"{picture}: {text.strip()}" if len(pictures) > 1 else text.strip())
