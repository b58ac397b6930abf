"""A tiny encoder and a tiny set of questions, for whole runs in seconds; on one thread, for equal bits."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

CITIES = {"Oslo": "Norway", "Paris": "France", "Rome": "Italy", "Lima": "Peru", "Cairo": "Egypt", "Kyiv": "Ukraine"}
ASKED = "Which country has {} as its capital?"


def question_file(path: Path) -> Path:
    """In SQuAD's layout: an article a city, in which each has a question with an answer and one without."""
    data = []
    for city, country in CITIES.items():
        context = f"{city} is the capital of {country}."
        answer = {"text": country, "answer_start": context.index(country)}
        asked: list[dict[str, Any]] = [
            {"id": city, "question": ASKED.format(city), "answers": [answer], "is_impossible": False},
            {"id": city + "-", "question": f"Who built {city}?", "answers": [], "is_impossible": True},
        ]
        data.append({"title": city, "paragraphs": [{"context": context, "qas": asked}]})
    path.write_text(json.dumps({"data": data}), encoding="utf-8")
    return path


@pytest.fixture(autouse=True)
def one_thread(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Libraries that share work among threads by how busy they are round otherwise from call to call."""
    monkeypatch.setenv("OCTAVO_THREADS", "1")
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def tiny_encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BERT of two layers, with a word a token."""
    folder = tmp_path_factory.mktemp("encoder")
    torch.manual_seed(0)
    words = set(
        re.findall(r"\w+|[^\w\s]", f"{ASKED} is the capital of . {' '.join([*CITIES, *CITIES.values()])}".lower())
    )
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *sorted(words)]
    (folder / "vocab.txt").write_text("\n".join(vocabulary) + "\n", encoding="utf-8")
    (folder / "tokenizer_config.json").write_text('{"tokenizer_class": "BertTokenizer"}')
    shape = {"num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48, "max_position_embeddings": 40}
    config = transformers.BertConfig(vocab_size=len(vocabulary), hidden_size=32, **shape)
    model = transformers.BertModel(config, add_pooling_layer=False)
    with torch.no_grad():
        model.embeddings.word_embeddings.weight.mul_(20)  # words, not positions, make the vectors
    model.save_pretrained(folder)
    return folder


@pytest.fixture
def questions(tmp_path: Path) -> Path:
    return question_file(tmp_path / "questions.json")
