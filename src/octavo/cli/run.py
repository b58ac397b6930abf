"""`octavo run MODEL PROMPT`: one answer, alone on stdout."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from octavo.cli import arguments as given

if TYPE_CHECKING:
    from octavo.generate.constrain import Constraint
    from octavo.generate.lm import Sampling, Stream
    from octavo.generate.local import LocalModel


def run(
    model: given.Model,
    prompt: Annotated[str | None, typer.Argument(metavar="PROMPT", help="What to ask; stdin is added to it.")] = None,
    raw: Annotated[bool, typer.Option("--raw", help="Continue the text; no chat template.")] = False,
    system: given.System = None,
    max_tokens: given.MaxTokens = None,
    temperature: given.Temperature = None,
    top_k: given.TopK = None,
    top_p: given.TopP = None,
    min_p: given.MinP = None,
    repetition_penalty: given.RepetitionPenalty = None,
    presence_penalty: given.PresencePenalty = None,
    frequency_penalty: given.FrequencyPenalty = None,
    seed: given.Seed = None,
    stop: Annotated[list[str] | None, typer.Option("--stop", metavar="TEXT", help="End before TEXT.")] = None,
    schema: given.Schema = None,
    json_object: given.JsonObject = False,
    regex: given.Regex = None,
    runner: given.Runner = None,
    context: given.Context = None,
    quantize: given.Quantize = None,
    ignore_config_key: given.IgnoreConfigKey = None,
    speculative: given.Speculative = None,
    draft_tokens: given.DraftTokens = 8,
    beams: Annotated[
        int | None, typer.Option("--beams", metavar="N", min=1, max=64, help="Search for the likeliest whole answer.")
    ] = None,
    lora: given.Lora = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line; the last has it all.")] = False,
    stats: Annotated[bool, typer.Option("--stats", help="Say on stderr how fast it was.")] = False,
) -> None:
    """Answer one prompt: the answer on stdout, all else on stderr.

    What is piped in is added to the prompt. A model without a chat template
    continues the text, and an encoder-decoder (T5, Marian) answers or translates
    it. Sampling values that are not given are the model's own. Without -n an answer
    that only repeats itself is stopped.

    Examples:

      octavo run smollm2-135m-instruct "Why is the sky blue?"

      cat notes.txt | octavo run smollm2-135m-instruct "Summarise this:"

      octavo run smollm2-135m-instruct --raw "Once upon a time" -n 50 -t 0

      octavo run ./model.gguf "Name a colour" --json | tail -n 1 | jq -r .text

      octavo run smollm2-135m-instruct "Describe a cat" --schema cat.schema.json

      octavo run ./my-model "Bonjour" --lora ./adapters/french

      octavo run smollm2-135m-instruct "Is fire hot?" --regex "yes|no"

      octavo run ./opus-mt-en-de "The house is small." --beams 4
    """
    sampled = {
        "temperature": temperature,
        "top_k": top_k,
        "top_p": top_p,
        "min_p": min_p,
        "repetition_penalty": repetition_penalty,
        "presence_penalty": presence_penalty,
        "frequency_penalty": frequency_penalty,
        "seed": seed,
    }
    loading = {
        "runner": runner,
        "context": context,
        "quantize": quantize,
        "ignore_config_keys": ignore_config_key or (),
        "speculative": speculative,
        "draft_tokens": draft_tokens,
    }
    held_to = {"schema": schema, "json_object": json_object, "regex": regex}
    constraint, text = (
        _constraint(schema, json_object, regex),
        _whole_prompt(prompt),
    )  # wrong ones are refused before a model is loaded
    made = _loaded(given.obtain(model), loading, lora)
    if made is None:
        others = {"raw": raw, "system": system, **sampled, "stop": stop, **held_to, "runner": runner}
        others |= {"context": context, "quantize": quantize, "stats": stats, "lora": lora}
        _answer_source(model, text, max_tokens, beams, as_json, others)
        return
    with made:
        loaded = made if lora is None else made.adapted(_name(lora))
        sampling = given.adjusted(loaded.sampling, **sampled)
        asked = _messages_or_text(loaded, text, system, raw)
        stream = _stream(loaded, asked, max_tokens, sampling, stop, constraint, beams)
        _show(loaded, stream, as_json, stats, endless=max_tokens is None)


def _loaded(reference: str, loading: Mapping[str, Any], lora: str | None) -> LocalModel | None:
    """The model; None for an encoder-decoder, which another class answers with."""
    from octavo.generate.local import load
    from octavo.models.loading import EncoderDecoderError

    try:
        return load(reference, **loading, adapters={} if lora is None else {_name(lora): lora})
    except EncoderDecoderError:
        return None


def _name(folder: str) -> str:
    return Path(folder).resolve().name


def _answer_source(
    model: str, text: str, max_tokens: int | None, beams: int | None, as_json: bool, others: Mapping[str, Any]
) -> None:
    from octavo.cli.systems.seq2seq import answer_source

    options = {f"--{name.replace('_', '-')}": value for name, value in others.items()}
    answer_source(model, text, max_tokens=max_tokens, beams=beams, as_json=as_json, others=options)


def _stream(
    model: LocalModel,
    asked: str | list[dict[str, Any]],
    max_tokens: int | None,
    sampling: Sampling,
    stop: Sequence[str] | None,
    constraint: Constraint | None,
    beams: int | None,
) -> Stream:
    from octavo.generate.lm import Beams, Request

    searched = None if beams is None else Beams(beams)
    return model.stream(Request(asked, max_tokens, sampling, tuple(stop or ()), constraint=constraint, beams=searched))


def _constraint(schema: str | None, json_object: bool, regex: str | None) -> Constraint | None:
    """What the answer is held to."""
    from octavo.errors import OctavoError
    from octavo.generate.constrain import JsonObject, JsonSchema, Regex

    if (schema is not None) + json_object + (regex is not None) > 1:
        raise OctavoError("--schema, --json-object and --regex each say what the answer is; give one of them")
    if json_object:
        return JsonObject("--json-object")
    if regex is not None:
        return Regex(regex, "--regex")
    if schema is None:
        return None
    try:
        return JsonSchema(json.loads(Path(schema).read_text(encoding="utf-8")), "--schema")
    except (OSError, ValueError, RecursionError) as error:
        raise OctavoError(f"the schema {schema} cannot be read as JSON: {error}") from None


def _whole_prompt(prompt: str | None) -> str:
    """The prompt with what is piped in."""
    from octavo.errors import OctavoError

    parts = [] if prompt is None else [prompt]
    if sys.stdin is not None and not sys.stdin.isatty():  # None: closed
        try:
            # Whatever the locale: a C locale would hide wrong bytes.
            piped = io.TextIOWrapper(sys.stdin.buffer, encoding="utf-8").read()
        except UnicodeDecodeError as error:
            raise OctavoError(f"what is piped in is not UTF-8 text: {error.reason} at byte {error.start}") from None
        parts += [piped] if piped else []
    if not parts:
        raise OctavoError("there is no prompt; give it after the model, or pipe it in")
    return "\n\n".join(parts)


def _messages_or_text(model: LocalModel, text: str, system: str | None, raw: bool) -> str | list[dict[str, Any]]:
    from octavo.errors import OctavoError

    if raw or model.tokenizer.chat_template is None:
        if system is not None:
            why = "--raw" if raw else f"{model.name} has no chat template, and"
            raise OctavoError(f"{why} leaves no place for a system message; put it into the prompt")
        return text
    opening = [] if system is None else [{"role": "system", "content": system}]
    return [*opening, {"role": "user", "content": text}]


def _show(model: LocalModel, stream: Stream, as_json: bool, stats: bool, *, endless: bool) -> None:
    from octavo.cli.terminal import Reading, show_answer

    if as_json:
        reading = Reading(stream, endless=endless)
        for delta in reading:
            if delta:
                typer.echo(json.dumps({"delta": delta}))
        answer = reading.answer()
    else:
        answer = show_answer(stream, endless=endless)
    if answer.finished is None:
        raise KeyboardInterrupt
    if as_json:
        end = answer.finished
        counts = {"prompt_tokens": end.prompt_tokens, "completion_tokens": end.completion_tokens}
        timing = {"seconds": round(answer.first + answer.seconds, 4)}
        typer.echo(
            json.dumps({"model": model.name, "text": answer.text, "finish_reason": end.reason, **counts, **timing})
        )
    if stats or answer.circling:
        typer.echo(f"{model.name} on {model.engine.runner.name}: {answer.speed()}", err=True)
