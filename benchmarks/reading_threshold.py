"""Writes a reader's reader.json: the weights of the evidence and the threshold, chosen on articles it did not see.

Two held-out articles say little: on those of `recipes/reader.toml` questions without an answer look more like their
paragraph than those with one, on most others less. So the recipe is run once more for each part of the articles with
that part left out, and each of these readers reads the part's questions; the held-out articles are read by the reader
itself. All of them together choose.

    for n in 0 1 2; do octavo train recipes/reader.toml --data DATA/qa --out runs/reader-without-$n \
        --set data.left_out=$n; done
    python benchmarks/reading_threshold.py DATA/qa/squad2-train.json.gz runs/reader/model \
        runs/reader-without-{0,1,2}/model
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict, replace
from pathlib import Path

from octavo.generate.tasks.reading import SETTINGS_NAME, Reader, Reading
from octavo.train.reading.questions import part_of, read_questions
from octavo.train.reading.run import described, judged, read_all, scored, threshold, weighed


def main() -> None:
    """Read, choose, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("questions", type=Path)
    parser.add_argument("reader", type=Path)
    parser.add_argument("without", type=Path, nargs="+", help="trained without part 0, without part 1, ...")
    parser.add_argument("--held-out", nargs="*", default=["Oxygen", "Southern_California"])
    arguments = parser.parse_args()
    questions = read_questions(arguments.questions)
    readings: dict[str, Reading] = {}
    held = [question for question in questions if question.article in arguments.held_out]
    groups = {arguments.reader: held}
    for part, folder in enumerate(arguments.without):
        of_part = (one for one in questions if part_of(one.article, len(arguments.without)) == part)
        groups[folder] = [question for question in of_part if question.article not in arguments.held_out]
    for folder, asked in groups.items():
        with Reader.load(folder, weights="int8") as reader:
            settings = replace(reader.settings, weights=(), threshold=0.0)
            readings |= read_all(reader, asked)
    weights = weighed(questions, readings)
    readings = judged(questions, readings, weights)
    settings = replace(settings, weights=weights, threshold=threshold(questions, readings))
    print(described(scored(questions, readings, settings.threshold)))
    text = json.dumps(asdict(settings), indent=2) + "\n"
    (arguments.reader / SETTINGS_NAME).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
