"""`octavo ckip`: words, parts of speech and named entities of Traditional Chinese (CKIP Transformers and Tagger)."""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from octavo.cli import arguments as given

if TYPE_CHECKING:
    from octavo.generate.ckip.encoders import CkipTransformer
    from octavo.generate.ckip.recurrent import CkipTagger

ckip = typer.Typer(help="CKIP: words, parts of speech and named entities of Traditional Chinese.")

Task = Literal["ws", "pos", "ner"]
IDEOGRAPHIC_SPACE = "\u3000"
MODEL_HELP = "A CKIP Transformers model (BERT, ALBERT), or a CKIP Tagger folder."
File = Annotated[str, typer.Argument(metavar="FILE", help="UTF-8 text, a sentence a line; -: stdin.")]
Model = Annotated[str, typer.Option("--model", "-m", metavar="FOLDER", help=MODEL_HELP)]
Segmenter = Annotated[
    str | None,
    typer.Option("--ws", metavar="FOLDER", help="Cut lines into words by this model, not at white space."),
]
Tagger = Annotated[
    str | None, typer.Option("--pos", metavar="FOLDER", help="For a CKIP Tagger: the model for parts of speech.")
]
Delimiters = Annotated[
    str | None,
    typer.Option("--delimiters", metavar="CHARACTERS", help="Read what stands between these by itself; '': nothing."),
]
MaxLength = Annotated[
    int | None, typer.Option("--max-length", metavar="N", min=1, help="Characters that an encoder reads together.")
]
Weights = Annotated[
    Literal["f32", "bf16", "int8"] | None, typer.Option("--weights", help="Numbers of an encoder's matrices.")
]
Recommended = Annotated[
    Path | None, typer.Option("--recommend", metavar="FILE", help="Words to join where both ends fit; a word a line.")
]
Coerced = Annotated[
    Path | None, typer.Option("--coerce", metavar="FILE", help="Words to cut out in any case; a word a line.")
]


@ckip.command("ws")
def segment(
    file: File,
    model: Model,
    recommend: Recommended = None,
    coerce: Coerced = None,
    delimiters: Delimiters = None,
    max_length: MaxLength = None,
    runner: given.Runner = None,
    weights: Weights = None,
    as_json: given.AsJson = False,
) -> None:
    """Cut each line into words, which together are the line.

    A dictionary has a word a line and, after a space, its weight (1): of
    words that overlap, the one of greater weight is taken.

    Examples:

      octavo ckip ws news.txt --model ./bert-base-chinese-ws

      echo 土地公有政策 | octavo ckip ws - -m ./data --recommend words.txt --json
    """
    from octavo.generate.ckip.dictionary import Dictionary
    from octavo.generate.ckip.pipeline import words_of

    dictionaries = [Dictionary({}) if path is None else Dictionary.read(path) for path in (recommend, coerce)]
    texts = _lines(file)
    opened = _open(model, "ws", runner, weights, max_length)
    found = words_of(opened, texts, delimiters=delimiters, recommended=dictionaries[0], coerced=dictionaries[1])
    for text, words in zip(texts, found, strict=True):
        typer.echo(_json(text=text, words=words) if as_json else IDEOGRAPHIC_SPACE.join(words))


@ckip.command("pos")
def tag(
    file: File,
    model: Model,
    segmenter: Segmenter = None,
    delimiters: Delimiters = None,
    max_length: MaxLength = None,
    runner: given.Runner = None,
    weights: Weights = None,
    as_json: given.AsJson = False,
) -> None:
    """Tag each word with its part of speech.

    Words are apart by white space, or what --ws makes of a line.

    Examples:

      octavo ckip pos news.txt -m ./bert-base-chinese-pos --ws ./bert-base-chinese-ws

      octavo ckip ws news.txt -m ./data | octavo ckip pos - -m ./data
    """
    from octavo.generate.ckip.pipeline import tags_of, words_of

    texts = _lines(file)
    if segmenter is None:
        sentences = [text.split() for text in texts]
    else:
        sentences = words_of(_open(segmenter, "ws", runner, weights, max_length), texts, delimiters=delimiters)
    opened = _open(model, "pos", runner, weights, max_length)
    for words, tags in zip(sentences, tags_of(opened, sentences, delimiters=delimiters), strict=True):
        pairs = (f"{word}({part})" for word, part in zip(words, tags, strict=True))
        typer.echo(_json(words=words, pos=tags) if as_json else IDEOGRAPHIC_SPACE.join(pairs))


@ckip.command("ner")
def find_entities(
    file: File,
    model: Model,
    segmenter: Segmenter = None,
    tagger: Tagger = None,
    delimiters: Delimiters = None,
    max_length: MaxLength = None,
    runner: given.Runner = None,
    weights: Weights = None,
    as_json: given.AsJson = False,
) -> None:
    """Find names, dates, numbers and whatever else the model was taught.

    Prints line, start, end, type and text of each, apart by tabs. A CKIP
    Tagger reads words with their parts of speech: give --ws and --pos too.

    Examples:

      octavo ckip ner news.txt --model ./bert-base-chinese-ner

      octavo ckip ner news.txt -m ./data --ws ./data --pos ./data --json
    """
    from octavo.generate.ckip.pipeline import entities_of

    texts = _lines(file)
    opened = _open(model, "ner", runner, weights, max_length)
    needed = {"ws": segmenter, "pos": tagger}
    cutting, tagging = (
        None if needed[task] is None else _open(str(needed[task]), task, runner, weights, max_length)
        for task in ("ws", "pos")
    )
    found = entities_of(opened, texts, segmenter=cutting, tagger=tagging, delimiters=delimiters)
    for number, (text, entities) in enumerate(zip(texts, found, strict=True), 1):
        if as_json:
            typer.echo(_json(text=text, entities=[dataclasses.asdict(entity) for entity in entities]))
            continue
        for entity in entities:
            typer.echo(f"{number}\t{entity.start}\t{entity.end}\t{entity.type}\t{entity.text}")


@ckip.command("evaluate")
def evaluate(
    task: Annotated[Task, typer.Argument(metavar="ws|pos|ner", help="What to measure.")],
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="Annotated .conllu or .jsonl files.")],
    model: Model,
    column: Annotated[
        Literal["xpos", "upos"], typer.Option("--tags", help="A .conllu file's column of parts of speech.")
    ] = "xpos",
    max_length: MaxLength = None,
    runner: given.Runner = None,
    weights: Weights = None,
    as_json: given.AsJson = False,
) -> None:
    """Measure a model on annotated sentences: F1 of words or entities, accuracy of parts of speech.

    Examples:

      octavo ckip evaluate ws zh_gsd-ud-test.conllu --model runs/ckip-ws/model
    """
    from octavo.train.tagging.scoring import score_model
    from octavo.train.tagging.sentences import read_sentences

    sentences = [sentence for file in files for sentence in read_sentences(file, task, column)]
    scores = score_model(_open(model, task, runner, weights, max_length), sentences)
    typer.echo(json.dumps(dataclasses.asdict(scores)) if as_json else str(scores))


def _open(
    model: str,
    task: Task,
    runner: given.RunnerName | None,
    weights: Literal["f32", "bf16", "int8"] | None,
    max_length: int | None,
) -> CkipTransformer | CkipTagger:
    from octavo.generate.ckip.pipeline import Options, open_ckip

    return open_ckip(given.obtain(model), task, Options(runner, weights, max_length))


def _lines(file: str) -> list[str]:
    """The file's lines without their ends; of stdin, too. Raises OctavoError for what is no UTF-8 text."""
    from octavo.errors import OctavoError

    try:
        content = sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
        lines = content.decode("utf-8").split("\n")
    except OSError as error:
        raise OctavoError(f"{file} cannot be read: {error.strerror or error}") from None
    except UnicodeDecodeError:
        raise OctavoError(f"{file} is not UTF-8 text; convert it first") from None
    return [line.removesuffix("\r") for line in (lines[:-1] if lines[-1] == "" else lines)]


def _json(**fields: object) -> str:
    return json.dumps(fields, ensure_ascii=False)
