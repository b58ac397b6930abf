"""HyDE (Gao et al. 2022, arXiv 2212.10496): search with the vectors of answers that a model makes up.

A question and its answer look unlike; an invented passage that answers it, however wrong, looks like the right one. The
vector that is searched with is the mean of the vectors of several such passages and of the question itself.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final

import numpy as np

from octavo.errors import UnknownNameError, nearest
from octavo.generate.lm import LanguageModel, Request, complete
from octavo.retrieve.search import TextEncoder
from octavo.retrieve.stores.store import Vectors

INSTRUCTIONS: Final[Mapping[str, str]] = {
    "question": "Please write a passage to answer the question.\nQuestion: {query}\nPassage:",
    "claim": "Please write a scientific paper passage to support/refute the claim.\nClaim: {query}\nPassage:",
    "paper": "Please write a scientific paper passage to answer the question.\nQuestion: {query}\nPassage:",
    "finance": "Please write a financial article passage to answer the question.\nQuestion: {query}\nPassage:",
    "argument": "Please write a counter argument for the passage.\nPassage: {query}\nCounter Argument:",
    "news": "Please write a news passage about the topic.\nTopic: {query}\nPassage:",
}
"""What the model is asked to write, by task, as the authors' own code has them."""
SAMPLES, TEMPERATURE, MAX_TOKENS = 8, 0.7, 512
STOP = "\n\n\n"


def hypothetical_passages(
    model: LanguageModel, query: str, *, task: str = "question", samples: int = SAMPLES, max_tokens: int = MAX_TOKENS
) -> list[str]:
    """Passages that a model makes up to answer a query; fewer than `samples` where some come out empty.

    Raises UnknownNameError for a task that has no instruction.
    """
    if task not in INSTRUCTIONS:
        raise UnknownNameError(f"HyDE has no task {task!r}{nearest(task, INSTRUCTIONS)}", param="task")
    asked = [{"role": "user", "content": INSTRUCTIONS[task].format(query=query)}]
    sampling = replace(model.sampling, temperature=TEMPERATURE)
    texts = []
    for number in range(samples):
        request = Request(asked, max_tokens, replace(sampling, seed=number), stop=(STOP,))
        texts.append(complete(model, request).text.strip())
    return [text for text in texts if text]


def hyde_vector(encoder: TextEncoder, query: str, passages: Sequence[str]) -> Vectors:
    """(dimensions,): the mean of the vectors of the passages and of the query, made by one encoder and not scaled.

    Its inner products rank as its cosines do. Without passages it is the query's own vector.
    """
    rows = [encoder.embed([query], kind="query")]
    if passages:
        rows.append(encoder.embed(list(passages), kind="passage"))
    return np.asarray(np.concatenate(rows).mean(axis=0), dtype=np.float32)
