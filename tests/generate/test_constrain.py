"""Constrained answers are valid whatever the model says: here it says nothing but noise, to real tokenizers."""

from __future__ import annotations

import ast
import itertools
import json
import re
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from octavo.errors import OctavoError
from octavo.generate.constrain import MOST_BYTES, Choice, Constraint, JsonObject, JsonSchema, Lark, Regex
from octavo.generate.engine import Engine
from octavo.generate.lm import Completion, Request, Sampling, complete
from octavo.generate.local import LocalModel
from octavo.generate.matcher import Compiler
from octavo.models.checkpoint import open_checkpoint
from octavo.models.runner import Row, StepOutput
from octavo.text.tokenizer import Tokenizer


class NoiseRunner:
    """Logits that depend on the last token and its place alone, and prefer no sense."""

    name = "noise"
    max_tokens = 64

    def __init__(self, vocab_size: int, num_blocks: int = 64) -> None:
        self.num_blocks = num_blocks
        self.vocab_size = vocab_size

    def step(self, rows: Sequence[Row], *, hidden: bool = False) -> StepOutput:
        logits = [self._logits(row, place) for row in rows for place in range(row.logits_from, len(row.tokens))]
        return StepOutput(np.array(logits, np.float32).reshape(-1, self.vocab_size))

    def _logits(self, row: Row, place: int) -> np.ndarray:
        seed = [int(row.tokens[place]), row.start + place]
        return np.random.default_rng(seed).normal(scale=4, size=self.vocab_size).astype(np.float32)

    def refresh(self) -> None: ...

    def close(self) -> None: ...


@pytest.fixture(scope="module", params=["stories", "smollm2"])
def noise(request: pytest.FixtureRequest) -> Any:
    """A model of noise with a byte-fallback tokenizer and with a byte-level one."""
    checkpoint = open_checkpoint(request.getfixturevalue(request.param))
    with LocalModel(checkpoint, Engine(NoiseRunner(checkpoint.config.vocab_size)), 600) as model:
        yield model


def answer(model: LocalModel, constraint: Constraint, seed: int = 0, **options: Any) -> Completion:
    sampling = options.pop("sampling", Sampling(seed=seed))
    return complete(model, Request("x", options.pop("max_tokens", 500), sampling, constraint=constraint, **options))


PERSON = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "minLength": 1, "maxLength": 8},
        "age": {"type": "integer", "minimum": 0, "maximum": 130},
        "tags": {"type": "array", "items": {"enum": ["ä", "b\n", '"', None]}, "maxItems": 3},
        "home": {"anyOf": [{"type": "null"}, {"$ref": "#/$defs/place"}]},
    },
    "required": ["name", "age", "tags", "home"],
    "additionalProperties": False,
    "$defs": {
        "place": {
            "type": "object",
            "properties": {"street": {"const": "é/\\"}, "here": {"type": "boolean"}},
            "required": ["here"],
            "additionalProperties": False,
        }
    },
}


def is_person(value: Any) -> bool:
    home = value["home"]
    return (
        list(value) == ["name", "age", "tags", "home"]
        and isinstance(value["name"], str)
        and 1 <= len(value["name"]) <= 8
        and type(value["age"]) is int
        and 0 <= value["age"] <= 130
        and len(value["tags"]) <= 3
        and all(tag in ("ä", "b\n", '"', None) for tag in value["tags"])
        and (
            home is None
            or (type(home["here"]) is bool and home in ({"street": "é/\\", **home}, {"here": home["here"]}))
        )
    )


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 2**32), st.sampled_from([0.0, 0.7, 2.0]), st.sampled_from([0, 3]), st.sampled_from([1.0, 0.5]))
def test_noise_says_valid_json_whatever_the_sampling(
    noise: LocalModel, seed: int, temperature: float, top_k: int, top_p: float
) -> None:
    sampling = Sampling(
        temperature=temperature, top_k=top_k, top_p=top_p, seed=seed, repetition_penalty=1.3, min_p=0.01
    )
    made = answer(noise, JsonSchema(PERSON), sampling=sampling)
    assert made.finished.reason == "stop"
    assert is_person(json.loads(made.text)), made.text


# SmolLM2's vocabulary lacks the bytes of some control characters and of planes that no script uses.
def valid(schema: dict[str, Any], value: Any) -> bool:
    """Validation by the JSON Schema standard, of the keywords that `schemas` uses."""
    if "enum" in schema:
        return any(type(value) is type(one) and value == one for one in schema["enum"])
    if "anyOf" in schema:
        return any(valid(one, value) for one in schema["anyOf"])
    match schema["type"]:
        case "null":
            return value is None
        case "boolean":
            return isinstance(value, bool)
        case "integer":
            return type(value) is int and schema["minimum"] <= value <= schema["maximum"]
        case "number":
            return type(value) in (int, float) and schema["minimum"] <= value <= schema["maximum"]
        case "string":
            return isinstance(value, str) and schema["minLength"] <= len(value) <= schema["maxLength"]
        case "array":
            items = schema["items"]
            return isinstance(value, list) and len(value) <= schema["maxItems"] and all(valid(items, v) for v in value)
    known, required = schema["properties"], set(schema["required"])
    fits = isinstance(value, dict) and required <= set(value) <= set(known)
    return fits and all(valid(known[name], value[name]) for name in value)


names = st.sampled_from(["a", "b", "name", "the id", "ä", 'q"', "\\", "{", "\n"])


def between(kind: str, low: str, high: str, lows: st.SearchStrategy[int], most: int) -> st.SearchStrategy[Any]:
    return st.builds(lambda a, n: {"type": kind, low: a, high: a + n}, lows, st.integers(1, most))


leaves = (
    st.sampled_from([{"type": "null"}, {"type": "boolean"}, {"enum": ["x", 1, True, None, "é"]}, {"enum": [""]}])
    | between("integer", "minimum", "maximum", st.integers(-200, 200), 300)
    | between("number", "minimum", "maximum", st.integers(-9, 9), 30)
    | between("string", "minLength", "maxLength", st.integers(0, 3), 5)
)


def containers(inner: st.SearchStrategy[dict[str, Any]]) -> st.SearchStrategy[dict[str, Any]]:
    def described(properties: dict[str, Any], required: set[str]) -> dict[str, Any]:
        kept = {"required": sorted(required & set(properties)), "additionalProperties": False}
        return {"type": "object", "properties": properties, **kept}

    return (
        st.builds(described, st.dictionaries(names, inner, max_size=4), st.sets(names))
        | st.builds(lambda items, n: {"type": "array", "items": items, "maxItems": n}, inner, st.integers(0, 3))
        | st.builds(lambda some: {"anyOf": some}, st.lists(inner, min_size=1, max_size=3))
    )


@settings(deadline=None, max_examples=60)
@given(st.recursive(leaves, containers, max_leaves=6), st.integers(0, 2**32))
def test_noise_says_what_any_schema_validates(noise: LocalModel, schema: dict[str, Any], seed: int) -> None:
    made = answer(noise, JsonSchema(schema), seed)
    if made.finished.reason == "stop":
        assert valid(schema, json.loads(made.text)), made.text
    else:
        assert made.finished.reason == "length" and made.finished.completion_tokens == 500


literals = st.text(
    st.characters(min_codepoint=32, max_codepoint=0x1FFFF, exclude_categories=["Cs"]) | st.just("\n"), min_size=1
)


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 2**32), st.lists(literals, min_size=1, max_size=5))
def test_noise_chooses_one_of_any_texts(noise: LocalModel, seed: int, texts: list[str]) -> None:
    made = answer(noise, Choice(tuple(texts)), seed)
    assert (made.text, made.finished.reason) in {(text, "stop") for text in texts}


PATTERNS = [
    " a( b)?", "[0-9]{3}-[0-9]{4}", "(é|ß|😀){2,5}", "a/b\nc?", "(yes|no)( indeed)?[.!]", r"\w{1,3} \d", "x*",
]  # fmt: skip


@pytest.mark.parametrize("pattern", PATTERNS)
def test_noise_matches_a_pattern_from_end_to_end(noise: LocalModel, pattern: str) -> None:
    for seed in range(4):
        made = answer(noise, Regex(pattern), seed, max_tokens=40)
        assert made.finished.reason == "stop" or pattern == "x*"
        assert re.fullmatch(pattern, made.text), made.text


@pytest.mark.parametrize("seed", range(4))
def test_noise_writes_a_text_of_a_recursive_grammar(noise: LocalModel, seed: int) -> None:
    grammar = 'start: sum\nsum: term ("+" term)~0..3\nterm: NUMBER | "(" sum ")"\nNUMBER: /[1-9][0-9]?/'
    made = answer(noise, Lark(grammar), seed, max_tokens=400)
    if made.finished.reason == "stop":
        assert isinstance(ast.parse(made.text, mode="eval").body, ast.BinOp | ast.Constant)
    else:
        assert made.finished.reason == "length" and set(made.text) <= set("0123456789+()")


def test_a_constraint_is_compiled_once_and_its_matchers_are_independent(
    stories: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokenizer = open_checkpoint(stories).tokenizer()
    compiler = Compiler(tokenizer, 512, [2])
    compiled = []
    original = Compiler._compiled
    monkeypatch.setattr(Compiler, "_compiled", lambda self, *rest: compiled.append(rest) or original(self, *rest))
    first = compiler.compile(Choice(("yes", "no")), [2])
    beginning = first.allowed()
    first.accept(int(np.flatnonzero(beginning)[0]))
    second = compiler.compile(Choice(("yes", "no")), [2])
    assert len(compiled) == 1
    assert np.array_equal(second.allowed(), beginning) and not np.array_equal(first.allowed(), beginning)
    assert not np.array_equal(compiler.compile(Choice(("no", "yes!")), [2]).allowed(), first.allowed())
    assert len(compiled) == 2


def test_what_max_tokens_cuts_is_said_to_be_cut(noise: LocalModel) -> None:
    whole = answer(noise, JsonSchema(PERSON), 3)
    count = whole.finished.completion_tokens
    cut = answer(noise, JsonSchema(PERSON), 3, max_tokens=count - 1)
    assert cut.finished.reason == "length" and whole.text.startswith(cut.text.rstrip("�"))
    exact = answer(noise, JsonSchema(PERSON), 3, max_tokens=count)
    assert (exact.text, exact.finished.reason) == (whole.text, "stop")


def test_a_stop_text_and_the_end_of_the_grammar_work_together(noise: LocalModel) -> None:
    choice = Choice(("one two three",))
    made = answer(noise, choice, stop=("two",))
    assert (made.text, made.finished.reason, made.finished.stop) == ("one ", "stop", "two")
    held = answer(noise, choice, stop=("three!",))
    assert (held.text, held.finished.reason, held.finished.stop) == ("one two three", "stop", None)


def test_an_end_token_comes_only_after_a_complete_text(noise: LocalModel) -> None:
    eos = noise.tokenizer.eos_id
    assert eos is not None
    eager = Sampling(temperature=0, logit_bias={eos: 100})
    made = answer(noise, Regex("[0-9]{4,9}"), sampling=eager)
    assert re.fullmatch("[0-9]{4,9}", made.text) and made.finished.stop == eos
    without = answer(noise, Regex("[0-9]{4,9}"), sampling=eager, ignore_eos=True)
    assert re.fullmatch("[0-9]{9}", without.text) and without.finished == without.finished.__class__(
        "stop", made.finished.prompt_tokens, without.finished.completion_tokens
    )
    assert answer(noise, Regex("|"), sampling=eager, ignore_eos=True).text == ""


def test_log_probabilities_stay_those_of_the_model_s_own_logits(noise: LocalModel) -> None:
    made = answer(noise, Choice(("yes", "no")), logprobs=3)
    prompt = noise.encode("x")
    seed = [prompt[-1], len(prompt) - 1]
    logits = np.random.default_rng(seed).normal(scale=4, size=noise.checkpoint.config.vocab_size).astype(np.float32)
    first = made.logprobs[0]
    assert [token.id for token in first.top] == np.argsort(-logits)[:3].tolist()
    assert first.logprob == pytest.approx(logits[first.id] - np.logaddexp.reduce(logits.astype(np.float64)), abs=1e-4)


def test_preempted_answers_are_those_of_answers_made_alone(stories: Path) -> None:
    checkpoint = open_checkpoint(stories)
    vocab_size = checkpoint.config.vocab_size
    with LocalModel(checkpoint, Engine(NoiseRunner(vocab_size, num_blocks=8)), 128) as model:
        requests = [
            Request("one " * 9, 90, Sampling(seed=seed), constraint=Regex("[a-z]{60} [0-9]{20}")) for seed in range(4)
        ]
        alone = [complete(model, request).text for request in requests]
        together: dict[int, str] = {}
        threads = [
            threading.Thread(target=lambda at=at: together.update({at: complete(model, requests[at]).text}))
            for at in range(len(requests))
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        assert [together[at] for at in range(len(requests))] == alone
        assert all(re.fullmatch("[a-z]{60} [0-9]{20}", text) for text in alone)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: JsonSchema({"type": "objekt"}, "f"), "objekt"),
        (lambda: JsonSchema({"type": "string", "format": "nope"}, "f"), "nope"),
        (lambda: JsonSchema({"not": {"type": "string"}}, "f"), '"not"'),
        (
            lambda: JsonSchema({"uniqueItems": True, "type": "array", "x-guidance": {"lenient": True}}, "f"),
            "uniqueItems",
        ),
        (lambda: JsonSchema({"$ref": "#/nowhere"}, "f"), "nowhere"),
        (lambda: JsonSchema({"$ref": "http://127.0.0.1/x"}, "f"), "127.0.0.1"),
        (lambda: JsonSchema({"$ref": "#"}, "f"), "f cannot be used"),
        (lambda: JsonSchema({"enum": []}, "f"), "empty"),
        (lambda: JsonSchema({"const": float("nan")}, "f"), "JSON"),
        (lambda: JsonSchema({"minimum": 10**5000, "type": "integer"}, "f"), "JSON"),
        (lambda: JsonSchema([], "f"), "not an object"),  # type: ignore[arg-type]
        (lambda: JsonSchema({"title": "x" * MOST_BYTES}, "f"), "65536"),
        (lambda: Regex("(", "f"), "unclosed group"),
        (lambda: Regex("(?=a)b", "f"), "look-around"),
        (lambda: Regex("é" * MOST_BYTES, "f"), "131072 bytes"),
        (lambda: Regex("\ud800", "f"), "surrogate"),
        (lambda: Choice((), "f"), "nothing to choose"),
        (lambda: Lark("start: x", "f"), "unknown name"),
        (lambda: Lark("", "f"), "Empty"),
        (lambda: Lark('start: a\na: a "x"', "f"), "f cannot be used"),
        (lambda: Lark("start: " + "(" * 30000 + '"a"' + ")" * 30000, "f"), "deeply nested"),
    ],
)
def test_what_cannot_be_kept_is_refused_at_once_in_one_line(
    noise: LocalModel, make: Callable[[], Constraint], words: str
) -> None:
    with pytest.raises(OctavoError, match=re.escape(words)) as refused:
        noise.stream(Request("x", constraint=make()))
    assert refused.value.param == "f"
    assert "\n" not in str(refused.value) and len(str(refused.value)) < 400


def test_the_longest_chain_of_rules_is_followed(noise: LocalModel) -> None:
    names = [f"{letter}{base:x}" for letter in "abcdefghijk" for base in range(700)][:7000]
    chain = "start:a0\n" + "\n".join(map(":".join, itertools.pairwise(names))) + f'\n{names[-1]}:"x"'
    assert MOST_BYTES - 4000 < len(chain) < MOST_BYTES
    assert answer(noise, Lark(chain)).text == "x"


def test_what_takes_too_long_to_compile_is_refused(noise: LocalModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("octavo.generate.matcher.MOST_SECONDS", 0.05)
    monkeypatch.setattr(Compiler, "_compiled", lambda *unused: time.sleep(0.3))
    with pytest.raises(OctavoError, match=r"over 0\.05 seconds"):
        noise.stream(Request("x", constraint=JsonObject()))


def test_a_vocabulary_that_cannot_say_it_is_refused_and_one_that_can_needs_no_end_token() -> None:
    compiler = Compiler(Tokenizer.train_characters("abc"), 5, [])
    with pytest.raises(OctavoError, match="no token of this model's vocabulary"):
        compiler.compile(JsonObject(), [])
    matcher = compiler.compile(Regex("(ab)+c"), [])
    for token in (0, 1, 0, 1, 2):
        assert not matcher.ended
        assert matcher.allowed()[token]
        matcher.accept(token)
    assert matcher.ended and not matcher.allowed().any()


def test_many_threads_compile_at_once(stories: Path) -> None:
    compiler = Compiler(open_checkpoint(stories).tokenizer(), 512, [1, 2])
    results: list[int] = []
    threads = [
        threading.Thread(target=lambda: results.append(int(compiler.compile(Regex("[0-9]"), [2]).allowed().sum())))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert len(results) == 8 and len(set(results)) == 1 and results[0] >= 10


def test_what_becomes_too_complex_is_refused(smollm2: Path) -> None:
    checkpoint = open_checkpoint(smollm2)
    compiler = Compiler(checkpoint.tokenizer(), checkpoint.config.vocab_size, [2])
    with pytest.raises(OctavoError, match="too many expressions"):
        compiler.compile(Regex("((((.{0,99}){0,99}){0,99}){0,99})x"), [2])


@pytest.mark.parametrize("text", [" there was something", "there was something", '{"name": "Lily"}'])
def test_a_text_without_a_choice_is_said_in_the_tokenizer_s_own_tokens(noise: LocalModel, text: str) -> None:
    before = noise.tokenizer.encode("1.", bos=False)
    own = noise.tokenizer.encode("1." + text, bos=False)[len(before) :]
    made = answer(noise, Choice((text,)))
    assert (made.text, list(made.token_ids)) == (text, own)
