"""`verify`: does a model compute here what it must, whatever its weights say.

Unusual: nothing is compared with stored answers. One text is run in several ways that must give one result: at once and
token by token, from a cache and anew, alone and beside others, on the C kernels and in torch. No torch here.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from octavo.errors import MissingDependencyError, OctavoError, UnsupportedError
from octavo.models.checkpoint import Checkpoint
from octavo.models.loading import make_runner
from octavo.models.runner import BLOCK_SIZE, Row, Runner
from octavo.text.tokenizer import Tokenizer

TEXT: Final = (
    "The printing press was invented in Germany around 1440. It made books cheap, and knowledge spread quickly "
    "through Europe. Nobody had foreseen how much the world would change within a single century."
)
ROUND_TRIPS: Final = (
    TEXT,
    "  two  spaces,\ta tab\nand a line",
    "def f(x):\n    return {'a': [x ** 2, 0x1F]}\n",
    "Ångström, naïve, Łódź; 三國演義, 東京, 서울; привет; שלום",
    "👩‍👩‍👧‍👦 🇹🇼 ☕️ e\u0301",
    "1234567890 3.14159 -42",
)
MAX_TOKENS: Final = 40
EXACT, FLOAT32, ROUNDED = 0.0, 1e-3, 0.02
"""Bounds: the kernels repeat to the bit; torch sums in another order; activations of 8 bits cost a little (in nats)."""

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Check:
    """One law. passed None: it could not be tried, and `figure` says why. bound: what the figure should be, at most."""

    name: str
    passed: bool | None
    figure: str
    bound: str
    seconds: float


def verify(checkpoint: Checkpoint, *, runner: Literal["kernels", "torch"] | None = None) -> Iterator[Check]:
    """Run the checks one after another on a runner (None: what `make_runner` chooses), each as it is done.

    Raises what `make_runner` raises when the model cannot be run here at all.
    """
    tokenizer = checkpoint.tokenizer()
    yield _timed("tokenizer: text = decoded ids", lambda: _round_trip(tokenizer))
    yield _timed("tokenizer: ids are rows of the embedding", lambda: _ids_in_table(tokenizer, checkpoint))
    ids = sample_ids(tokenizer, checkpoint.config.context_length)
    computing = make_runner(checkpoint, runner=runner, num_blocks=2 * blocks_for(len(ids)))
    try:
        bound = EXACT if computing.name.startswith("kernels") else FLOAT32
        whole = log_probabilities(computing, ids)
        yield _timed("numbers are finite", lambda: _finite(whole))
        yield _timed("prefill = token by token", lambda: _within(_apart(whole, _stepwise(computing, ids)), bound))
        yield _timed("cached = computed anew", lambda: _within(_apart(*_cached_and_anew(computing, ids)), bound))
        yield _timed("alone = beside another", lambda: _within(_apart(whole, _beside(computing, ids)), bound))
    finally:
        computing.close()
    yield _timed("kernels = torch (divergence in nats)", lambda: _compare_runners(checkpoint, ids))


def sample_ids(tokenizer: Tokenizer, context_length: int) -> NDArray[np.int32]:
    """Some tokens of text that fit the context; ids that count upwards where the vocabulary lacks the text."""
    try:
        ids = tokenizer.encode(TEXT)
    except OctavoError:  # a closed vocabulary, such as one of characters
        ids = []
    if len(ids) < 8:
        ids = [index % tokenizer.vocab_size for index in range(MAX_TOKENS)]
    return np.array(ids[: min(MAX_TOKENS, context_length)], np.int32)


def blocks_for(tokens: int) -> int:
    """KV blocks that so many tokens take."""
    return -(-tokens // BLOCK_SIZE)


def log_probabilities(runner: Runner, ids: NDArray[np.int32], *, begin: int = 0, stop: int | None = None) -> Floats:
    """(tokens, vocab_size) of ids[begin:stop] in one step, in float64; what lies before `begin` is in the cache."""
    stop = len(ids) if stop is None else stop
    return _log_softmax(runner.step([Row(ids[begin:stop], begin, range(blocks_for(stop)), 0)]).logits)


def divergence(p: Floats, q: Floats) -> float:
    """The mean over positions of KL(p || q) in nats; p, q: (tokens, vocab_size) log-probabilities."""
    return float((np.exp(p) * (p - q)).sum(-1).mean())


def _log_softmax(logits: NDArray[np.float32]) -> Floats:
    x = logits.astype(np.float64)
    x -= x.max(-1, keepdims=True)
    result: Floats = x - np.log(np.exp(x).sum(-1, keepdims=True))
    return result


def _timed(name: str, check: Callable[[], tuple[bool | None, str, str]]) -> Check:
    start = time.perf_counter()
    passed, figure, bound = check()
    return Check(name, passed, figure, bound, time.perf_counter() - start)


def _round_trip(tokenizer: Tokenizer) -> tuple[bool | None, str, str]:
    """Texts come back to the letter, or but for white space, which some vocabularies squeeze by their own rule."""
    exact = spaced = tried = 0
    for text in ROUND_TRIPS:
        try:
            ids = tokenizer.encode(text, bos=False)
        except OctavoError:  # a closed vocabulary refuses what it cannot say, which loses nothing
            continue
        tried += 1
        decoded = tokenizer.decode(ids)
        exact += decoded == text
        spaced += decoded != text and "".join(decoded.split()) == "".join(text.split())
    if not tried:
        return None, "a closed vocabulary without these texts", "-"
    spaces = f", {spaced} but for spaces" if spaced else ""
    return exact + spaced == tried, f"{exact} of {tried} to the letter{spaces}", "all"


def _ids_in_table(tokenizer: Tokenizer, checkpoint: Checkpoint) -> tuple[bool, str, str]:
    rows = checkpoint.config.vocab_size
    return tokenizer.vocab_size <= rows, f"{tokenizer.vocab_size:,} tokens", f"{rows:,} rows"


def _finite(whole: Floats) -> tuple[bool, str, str]:
    return bool(np.isfinite(whole).all()), f"{int((~np.isfinite(whole)).sum())} that are not", "0"


def _stepwise(runner: Runner, ids: NDArray[np.int32]) -> Floats:
    return np.concatenate([log_probabilities(runner, ids, begin=at, stop=at + 1) for at in range(len(ids))])


def _cached_and_anew(runner: Runner, ids: NDArray[np.int32]) -> tuple[Floats, Floats]:
    """The last positions of several prefixes: with all before them in the cache, and with nothing in it."""
    stops = sorted({max(2, len(ids) * part // 4) for part in (1, 2, 3, 4)})
    anew = [log_probabilities(runner, ids, stop=stop)[-1:] for stop in stops]
    log_probabilities(runner, ids)
    cached = [log_probabilities(runner, ids, begin=stop - 1, stop=stop) for stop in stops]
    return np.concatenate(cached), np.concatenate(anew)


def _beside(runner: Runner, ids: NDArray[np.int32]) -> Floats:
    """The text as the second row of a step whose first row holds its own tokens backwards."""
    count = blocks_for(len(ids))
    first = Row(ids[::-1].copy(), 0, range(count), len(ids))  # none of its logits are wanted
    second = Row(ids, 0, range(count, 2 * count), 0)
    return _log_softmax(runner.step([first, second]).logits)


def _apart(first: Floats, second: Floats) -> float:
    return float(np.abs(first - second).max())


def _within(difference: float, bound: float) -> tuple[bool, str, str]:
    return difference <= bound, f"{difference:.2g}", f"{bound:g}"


def _compare_runners(checkpoint: Checkpoint, ids: NDArray[np.int32]) -> tuple[bool | None, str, str]:
    if find_spec("torch") is None:
        return None, "torch is not installed", "-"
    found = []
    for name in ("kernels", "torch"):
        try:
            runner = make_runner(checkpoint, runner=name, num_blocks=blocks_for(len(ids)))
        except (MissingDependencyError, UnsupportedError) as error:
            return None, str(error), "-"
        try:
            found.append(log_probabilities(runner, ids))
        finally:
            runner.close()
    exact = all(tensor.encoding in ("f32", "f16") for tensor in checkpoint.tensors.values())
    return _within(divergence(found[1], found[0]), FLOAT32 if exact else ROUNDED)
