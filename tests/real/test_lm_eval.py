"""A stock lm_eval over the server gives the numbers of scoring in the process.

It is heavy, so it is not among the test requirements: install `lm_eval[api]` into any environment whose `bin` is on the
PATH, and `make test-all` finds it.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from octavo.generate.local import load

TASK = """\
task: tiny
dataset_path: json
dataset_kwargs: {{data_files: {data}}}
test_split: train
output_type: multiple_choice
doc_to_text: "{{{{question}}}}"
doc_to_choice: "{{{{choices}}}}"
doc_to_target: "{{{{answer}}}}"
target_delimiter: ""
"""
QUESTIONS = [
    {"question": "The capital of France is", "choices": [" Paris", " Rome", " a large dog"], "answer": 0},
    {"question": "Two plus two is", "choices": [" five", " four", " zehn Äpfel 🍎"], "answer": 1},
    {"question": "Snow is usually", "choices": [" white.", " black.", " made of cheese."], "answer": 0},
]


def expected(model, question, choice):
    """The log-probability of a choice after its question, and whether the model would have said it greedily."""
    prompt, whole = model.tokenizer.encode(question), model.tokenizer.encode(question + choice)
    scores = model.score(whole, top=1)
    places = range(len(prompt), len(whole))
    greedy = all(scores.top[place][0].id == whole[place] for place in places)
    return sum(scores.logprobs[place] for place in places), greedy


@pytest.mark.slow
def test_its_numbers_are_those_of_scoring_in_the_process(serve, smollm2, tmp_path: Path):
    command = shutil.which("lm_eval")
    if command is None:
        pytest.skip("lm_eval is not installed")
    (tmp_path / "data.jsonl").write_text("\n".join(map(json.dumps, QUESTIONS)))
    (tmp_path / "tiny.yaml").write_text(TASK.format(data=tmp_path / "data.jsonl"))
    with load(str(smollm2)) as model:
        url = serve(model).url
        given = f"model={model.name},base_url={url}/v1/completions,tokenizer_backend=remote,num_concurrent=1"
        options = ["--tasks", "tiny", "--include_path", tmp_path, "--log_samples", "--output_path", tmp_path / "out"]
        offline = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "PYTHONPATH": ""}
        offline["HF_HOME"] = str(tmp_path / "cache")
        subprocess.run(
            [command, "run", "--model", "local-completions", "--model_args", given, *options],
            check=True, env=offline, cwd=tmp_path, timeout=300, capture_output=True,
        )  # fmt: skip
        (samples,) = (tmp_path / "out").rglob("samples_*.jsonl")
        rows = [json.loads(line) for line in samples.read_text().splitlines()]
        assert len(rows) == len(QUESTIONS)
        for row in rows:
            for choice, (response,) in zip(row["doc"]["choices"], row["resps"], strict=True):
                logprob, greedy = expected(model, row["doc"]["question"], choice)
                assert float(response[0]) == pytest.approx(logprob, abs=1e-4)
                assert str(response[1]) == str(greedy)
