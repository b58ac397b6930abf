"""Claim: the reader that comes with Octavo answers SQuAD 2.0's dev questions at least 8 points above answering nothing.

SQuAD's measures on each question's own paragraph, questions with and without an answer apart, and DRCD's Chinese
questions apart; each of the weights on its own line. The threshold is the model's own, chosen on held-out training
articles; the best one in hindsight is printed beside it.

    python benchmarks/reading.py DATA [--model FOLDER] [--weights int8] [--weights f32] [--limit N] [--json]

DATA holds qa/squad2-dev.json.gz and qa/drcd-dev.json.gz. A model written in int8 gives its own numbers in either.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path

from octavo.generate.tasks.reading import Reader
from octavo.metrics.answers import best_threshold, score_answers, token_f1
from octavo.progress import track
from octavo.train.reading.questions import Question, read_questions

FILES = {"SQuAD 2.0 dev": "squad2-dev.json.gz", "DRCD dev": "drcd-dev.json.gz"}


def measure(reader: Reader, questions: Sequence[Question]) -> dict[str, float | None]:
    """Every figure of one file."""
    golds = {question.id: [text for _, text in question.golds] for question in questions}
    found, sure = {}, {}
    began = time.perf_counter()
    with track(len(questions), "Reading", unit="questions") as bar:
        for question in questions:
            reading = reader.read(question.text, [question.context])[0]
            found[question.id] = question.context[reading.start : reading.end]
            sure[question.id] = reading.no_answer_score
            bar.advance()
    seconds = time.perf_counter() - began
    if not any(character.isascii() and character.isalpha() for character in questions[0].text):
        return {**chinese(found, golds), "ms a question": 1000 * seconds / len(questions)}
    at = reader.settings.threshold
    kept = score_answers({name: text if sure[name] <= at else "" for name, text in found.items()}, golds)
    forced = score_answers(found, golds)
    f1 = {name: token_f1(found[name], gold) for name, gold in golds.items()}
    best, threshold = best_threshold(f1, sure, golds)
    return {
        "nothing": 100 * sum(not gold for gold in golds.values()) / len(golds),
        "F1": kept.f1, "exact": kept.exact, "HasAns F1": kept.has_answer_f1, "NoAns": kept.no_answer,
        "forced F1": forced.has_answer_f1, "best F1": best, "at": threshold,
        "ms a question": 1000 * seconds / len(golds),
    }  # fmt: skip


def chinese(found: dict[str, str], golds: dict[str, list[str]]) -> dict[str, float]:
    """Exact match and F1 over characters, every question answered, as DRCD and CMRC 2018 are scored."""
    spaced = {name: " ".join(text) for name, text in found.items()}
    wanted = {name: [" ".join(gold) for gold in texts] for name, texts in golds.items()}
    scores = score_answers(spaced, wanted)
    return {"exact": scores.exact, "forced F1": scores.f1}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("data", type=Path)
    parser.add_argument("--model")
    parser.add_argument("--weights", action="append", choices=("int8", "bf16", "f32"))
    parser.add_argument("--limit", type=int)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    tables = {}
    for name, file in FILES.items():
        questions = read_questions(arguments.data / "qa" / file)[: arguments.limit]
        for weights in arguments.weights or ["int8"]:
            with Reader.load(arguments.model, weights=weights) as reader:
                tables[f"{name}, {weights}"] = measure(reader, questions)
    if arguments.json:
        print(json.dumps(tables))
        return
    for name, table in tables.items():
        print(f"\n{name}")
        print("  ".join(f"{column} {value:.2f}" for column, value in table.items() if value is not None))


if __name__ == "__main__":
    main()
