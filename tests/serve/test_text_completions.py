"""Plain completions: the four forms of a prompt, echo, and log-probabilities in the shape that harnesses read."""

from __future__ import annotations

import json
import math
import threading
from collections.abc import Sequence
from typing import Any

import openai
import pytest

from octavo.generate.lm import Scores, TokenLogprob
from octavo.generate.scripted import ScriptedModel
from octavo.serve.logprobs import CompletionLogprobs

TEXTS = {0: b"<s>", 1: b"a", 2: b" b", 3: b" c", 4: "é".encode()[:1], 5: "é".encode()[1:]}


class Letters:
    """The few things of a tokenizer that the server asks for."""

    vocab_size = 6
    bos_id = 0
    eos_id = 0

    def token_bytes(self, token: int) -> bytes:
        return TEXTS[token]

    def decode(self, ids: Sequence[int], *, skip_special: bool = True) -> str:
        return b"".join(TEXTS[token] for token in ids).decode("utf-8", "replace")


class Scoring(ScriptedModel):
    """Scores every prompt as ' b ...' with known numbers."""

    tokenizer: Any = Letters()

    def score(
        self, text: str | Sequence[int], *, top: int = 0, start: int = 0, cancelled: threading.Event | None = None
    ) -> Scores:
        ids = (1, 2, 3) if isinstance(text, str) else tuple(text)
        other = TokenLogprob(9, " z", b" z", -0.25)
        return Scores(ids, (None, *[-1.5] * (len(ids) - 1)), ((), *[(other,) * min(top, 1)] * (len(ids) - 1)))


@pytest.fixture
def model() -> Scoring:
    return Scoring([" one two"])


@pytest.fixture
def running(start_server, model):
    running = start_server([model])
    yield running
    running.stop()


@pytest.mark.parametrize(
    ("prompt", "seen"),
    [
        ("a b", ["a b"]),
        (["a", "b c"], ["a", "b c"]),
        ([1, 2], [[1, 2]]),
        ([[1], [2, 3]], [[1], [2, 3]]),
        (None, [[0]]),
    ],
)
@pytest.mark.parametrize("n", [1, 2])
def test_each_form_of_a_prompt_gets_its_n_answers(running, model, prompt, seen, n):
    answer = running.openai().completions.create(model="scripted", prompt=prompt, n=n)
    assert [request.prompt for request in model.requests] == [prompt for prompt in seen for _ in range(n)]
    assert [choice.text for choice in answer.choices] == [" one two"] * len(seen) * n
    assert [choice.index for choice in answer.choices] == list(range(len(seen) * n))
    assert answer.usage.completion_tokens == 2 * len(seen) * n
    assert answer.usage.prompt_tokens == sum(len(str(prompt).split()) for prompt in seen)
    assert model.requests[0].max_tokens == 16


@pytest.mark.parametrize(
    ("prompt", "param"),
    [
        ([], "prompt"),
        ([[]], "prompt.0"),
        (["a", 1], "prompt.1"),
        ([1, "a"], "prompt.1"),
        ([1, True], "prompt.1"),
        ([1, -1], "prompt.1"),
        ([[1], [2, 2.5]], "prompt.1.1"),
        (5, "prompt"),
        ({"a": 1}, "prompt"),
    ],
)
def test_a_wrong_prompt_is_refused_with_its_place(running, prompt, param):
    response = running.http().post("/v1/completions", json={"prompt": prompt})
    assert response.status_code == 400
    assert response.json()["error"]["param"] == param


@pytest.mark.parametrize("stream", [False, True])
def test_echo_with_logprobs_scores_the_prompt_in_the_harness_shape(running, stream):
    body = {"prompt": "a b c", "echo": True, "logprobs": 1, "max_tokens": 1, "stream": stream}
    response = running.http().post("/v1/completions", json=body)
    if stream:
        pieces = [json.loads(line[6:])["choices"][0] for line in response.text.split("\n\n")[:-2]]
        text = "".join(piece["text"] for piece in pieces)
        logprobs: dict[str, Any] = {}
        for piece in pieces:
            for name, values in (piece["logprobs"] or {}).items():
                logprobs.setdefault(name, []).extend(values)
    else:
        text, logprobs = (response.json()["choices"][0][name] for name in ("text", "logprobs"))
    assert text == "a b c one"
    assert logprobs["tokens"] == ["a", " b", " c", " one"]
    assert logprobs["token_logprobs"] == [None, -1.5, -1.5, -0.1]
    assert logprobs["top_logprobs"] == [None, {" z": -0.25, " b": -1.5}, {" z": -0.25, " c": -1.5}, {" one": -0.1}]
    assert logprobs["text_offset"] == [0, 1, 3, 5]
    assert [text[at:].startswith(token) for at, token in zip(logprobs["text_offset"], logprobs["tokens"], strict=True)]


def test_echo_of_ids_is_their_text_and_ids_that_do_not_exist_are_refused(running):
    client = running.openai()
    assert client.completions.create(model="scripted", prompt=[1, 4, 5], echo=True).choices[0].text == "aé one two"
    with pytest.raises(openai.BadRequestError, match="token id 6"):
        client.completions.create(model="scripted", prompt=[6], echo=True)


def test_a_suffix_is_refused_by_name_unless_it_asks_for_nothing(running):
    client = running.openai()
    for field, value in (("suffix", "end"),):
        with pytest.raises(openai.BadRequestError) as refused:
            client.completions.create(model="scripted", prompt="a", **{field: value})
        assert (refused.value.param, refused.value.code) == (field, "unsupported_parameter")
    assert client.completions.create(model="scripted", prompt="a", suffix="", best_of=1).choices


def test_two_tokens_with_one_text_keep_the_likelier_and_log_zero_is_a_number():
    twin = TokenLogprob(8, "x", b"x", -0.5)
    token = TokenLogprob(7, "x", b"x", -2.0, (twin, TokenLogprob(6, "y", b"y", -math.inf)))
    result = CompletionLogprobs().add([token])
    assert result["top_logprobs"] == [{"x": -0.5, "y": -9999.0}]
    assert result["token_logprobs"] == [-2.0]


def test_offsets_count_characters_not_bytes_also_across_halves_of_one():
    halves = [TokenLogprob(token, "\N{REPLACEMENT CHARACTER}", TEXTS[token], -1.0) for token in (4, 5, 4, 5)]
    assert CompletionLogprobs().add(halves)["text_offset"] == [0, 0, 1, 1]
