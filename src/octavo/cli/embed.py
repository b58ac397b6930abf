"""`octavo embed` and `octavo rerank`: texts to vectors, and passages by how well they answer a query."""

from __future__ import annotations

import json
import sys
from typing import Annotated, Literal

import typer

from octavo.cli import arguments as given

Texts = Annotated[list[str] | None, typer.Argument(metavar="[TEXT]...", help="Texts; none: a line of stdin each.")]
Passages = Annotated[list[str] | None, typer.Argument(metavar="[PASSAGE]...", help="None: a line of stdin each.")]
Weights = Annotated[
    Literal["f32", "bf16", "int8"] | None,
    typer.Option("--weights", help="Numbers of the matrices; default: bf16 where the processor has it, or int8."),
]


def embed(
    model: given.Model,
    texts: Texts = None,
    kind: Annotated[
        Literal["query", "passage", "plain"], typer.Option("--kind", help="Whose prompt stands before each text.")
    ] = "plain",
    instructions: Annotated[
        str | None, typer.Option("--instructions", metavar="SET", help="Published prompts: bge-en, llm-embedder-qa, …")
    ] = None,
    hybrid: Annotated[
        bool, typer.Option("--hybrid", help="Of BGE-M3: the weights of tokens and the tokens' vectors, too.")
    ] = False,
    weights: Weights = None,
    runner: given.Runner = None,
    as_json: given.AsJson = False,
) -> None:
    """Turn texts into vectors, or show how alike they are.

    On a terminal two texts or more are compared by the cosine of their vectors;
    --json prints the vectors, one a line. With --hybrid all three of BGE-M3's
    faces of a text count.

    Examples:

      octavo embed all-minilm-l6-v2 "a cat" "a kitten" "a stock"

      octavo embed all-minilm-l6-v2 --json < sentences.txt

      octavo embed ./bge-small-en-v1.5 --instructions bge-en --kind query --json "Who nests in reeds?"

      octavo embed ./bge-m3 --hybrid "What is BGE M3?" "BM25 is a bag of words"
    """
    from octavo.generate.embed import Embedder, normalized

    lines = _given(texts)
    if hybrid:
        _embed_hybrid(given.obtain(model), lines, runner, weights, as_json=as_json)
        return
    with Embedder.load(given.obtain(model), runner=runner, weights=weights, instructions=instructions) as embedder:
        vectors = embedder.embed(lines, kind=kind)
        unknown = embedder.unknown_fraction(lines)
    if unknown > 0.3:
        typer.echo(f"{unknown:.0%} of the tokens are unknown to this encoder; its vectors say little", err=True)
    if as_json:
        for text, vector in zip(lines, vectors, strict=True):
            typer.echo(json.dumps({"text": text, "embedding": [float(value) for value in vector]}, ensure_ascii=False))
        return
    typer.echo(f"{len(lines)} vectors of {vectors.shape[1]} numbers; --json prints them")
    for text, cosines in zip(lines, normalized(vectors) @ normalized(vectors).T, strict=True):
        typer.echo(" ".join(f"{value:5.2f}" for value in cosines) + f"  {text[:60]}")


def _embed_hybrid(reference: str, texts: list[str], runner: given.Runner, weights: Weights, *, as_json: bool) -> None:
    from octavo.generate.tasks.hybrid_embed import HybridEmbedder, hybrid_score

    with HybridEmbedder.load(reference, runner=runner, weights=weights) as embedder:
        found = embedder.embed(texts)
        spelled = [
            {embedder.tokenizer.token_text(token): weight for token, weight in each.sparse.items()} for each in found
        ]
    for text, each, sparse in zip(texts, found, spelled, strict=True):
        if as_json:
            row = {"text": text, "dense": each.dense.tolist(), "sparse": sparse, "multi": each.multi.tolist()}
            typer.echo(json.dumps(row, ensure_ascii=False))
            continue
        heaviest = sorted(sparse, key=lambda token: -sparse[token])[:3]
        scores = " ".join(f"{hybrid_score(each, other):5.2f}" for other in found)
        typer.echo(f"{scores}  {text[:60]}  ({' '.join(word.strip() for word in heaviest)})")


def rerank(
    model: given.Model,
    query: Annotated[str, typer.Argument(metavar="QUERY", help="The question.")],
    passages: Passages = None,
    top: Annotated[int | None, typer.Option("--top", "-k", metavar="N", min=1, help="Only the N best.")] = None,
    template: given.RerankTemplate = None,
    instruction: Annotated[
        str | None, typer.Option("--instruction", metavar="TEXT", help="For --template: what counts as an answer.")
    ] = None,
    answers: Annotated[
        str | None,
        typer.Option("--answers", metavar="YES,NO", help="For --template: the words, or that for yes alone."),
    ] = None,
    weights: Weights = None,
    runner: given.Runner = None,
    as_json: given.AsJson = False,
) -> None:
    """Order passages by how well they answer a query.

    MODEL is a cross-encoder, a decoder that was trained to answer yes or no, or
    BGE-M3, whose dense, sparse and multi-vector scores are weighed together.

    Examples:

      octavo rerank ./my-cross-encoder "capital of France" "Paris is." "Rome is."

      octavo rerank ./Qwen3-Reranker-0.6B --template qwen3 "capital of France" "Paris is."
    """
    from octavo.errors import OctavoError
    from octavo.generate.rerank import Reranker
    from octavo.generate.tasks.yes_no import read_question

    lines = _given(passages)
    if template is None and (instruction or answers):
        raise OctavoError("--instruction and --answers are of a --template; give one")
    question = None if template is None else read_question(template, instruction=instruction, answers=answers)
    with Reranker.load(given.obtain(model), runner=runner, weights=weights, question=question) as reranker:
        places = reranker.rank(query, lines, top=top)
    for place in places:
        found = {"index": place.index, "score": place.score, "passage": lines[place.index]}
        typer.echo(json.dumps(found, ensure_ascii=False) if as_json else f"{place.score:8.3f}  {lines[place.index]}")


def _given(texts: list[str] | None) -> list[str]:
    from octavo.errors import OctavoError

    lines = texts or [line.rstrip("\n") for line in ([] if sys.stdin.isatty() else sys.stdin)]
    if not lines:
        raise OctavoError("there is no text; give some after the model, or a file on stdin")
    return lines
