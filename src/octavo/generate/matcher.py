"""From a constraint to the tokens that may come next, through the automata of `llguidance`.

Unusual: its vocabulary is given as bytes, one private end token added, so that it serves any tokenizer, byte-level or
byte-fallback, with any set of end tokens; and its errors, which never raise, become ours here.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable
from functools import cached_property
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from octavo.errors import OctavoError
from octavo.generate.constrain import Constraint, refused
from octavo.text.tokenizer import Tokenizer

if TYPE_CHECKING:
    from llguidance import LLMatcher, LLTokenizer

MOST_SECONDS: Final = 2.0
"""To compile a constraint."""
STACK_BYTES: Final = 256 << 20
"""Of the thread that compiles: a chain of rules, as long as a grammar may be, is followed by recursion. Only the part
that is used takes memory."""
MOST_KEPT: Final = 64
"""Compiled constraints."""
DEAD_END: Final = "it leads to where no token of this model's vocabulary can go on"

_starting = threading.Lock()


class Matcher:
    """One answer's place in its grammar. Not thread-safe.

    automaton: compiled for a vocabulary of vocab_size tokens and a private end token. ends: the tokens that may follow
    a complete text. param: what the user calls the constraint.
    """

    def __init__(self, automaton: LLMatcher, vocab_size: int, ends: Iterable[int], param: str) -> None:
        self._automaton = automaton
        self._vocab_size = vocab_size
        self._ends = list(ends)
        self._param = param

    @property
    def ended(self) -> bool:
        """Whether the text is complete and no token but an end can follow."""
        return self._automaton.is_stopped()

    def allowed(self) -> NDArray[np.bool_]:
        """(vocab_size,) which tokens may come next; those that end an answer where the text is complete.

        Nothing is allowed after a complete text that has no token to end with.
        Raises OctavoError where the grammar grew too complex, or no token of the vocabulary can go on.
        """
        packed = np.frombuffer(self._automaton.compute_bitmask(), np.uint8)
        self._check()
        bits = np.unpackbits(packed, count=self._vocab_size + 1, bitorder="little").view(np.bool_)
        allowed = bits[:-1]  # the last is the private end token of `Compiler`
        if bits[-1]:
            allowed[self._ends] = True
        elif not allowed.any():
            raise refused(DEAD_END, self._param)
        return allowed

    def accept(self, token: int) -> None:
        """The answer goes on with this token, one of those allowed."""
        self._automaton.consume_token(token)
        self._check()

    def _check(self) -> None:
        if self._automaton.is_error():
            reason = self._automaton.get_error()
            raise refused(DEAD_END if reason.startswith("NoExtension") else reason, self._param)


class Compiler:
    """Makes matchers for one model's tokenizer. Thread-safe; its vocabulary is laid out at the first use.

    What was compiled lately is copied when it is asked for again: a schema mostly comes with many requests.

    vocab_size: the number of the model's logits, which may differ from the tokenizer's number of tokens.
    end_ids: tokens that end an answer; they are no text, whatever the tokenizer says.
    """

    def __init__(self, tokenizer: Tokenizer, vocab_size: int, end_ids: Iterable[int]) -> None:
        self._tokenizer = tokenizer
        self._vocab_size = vocab_size
        self._no_text = {*tokenizer.special_ids, *end_ids}
        self._lock = threading.Lock()
        self._lately: OrderedDict[str, LLMatcher] = OrderedDict()

    def compile(self, constraint: Constraint, ends: Iterable[int]) -> Matcher:
        """A matcher at the beginning of the text. ends: the tokens that may follow a complete one.

        Raises OctavoError for what is malformed, cannot be kept, allows nothing, or takes over MOST_SECONDS.
        """
        key = repr(constraint)
        with self._lock:
            vocabulary = self._vocabulary
            if key in self._lately:
                self._lately.move_to_end(key)
                return self._matcher(self._lately[key], constraint, ends)
        automaton = self._automaton(vocabulary, constraint, ends)
        with self._lock:
            self._lately[key] = automaton
            if len(self._lately) > MOST_KEPT:
                self._lately.popitem(last=False)
            return self._matcher(automaton, constraint, ends)

    def _matcher(self, automaton: LLMatcher, constraint: Constraint, ends: Iterable[int]) -> Matcher:
        return Matcher(automaton.deep_copy(), self._vocab_size, ends, constraint.param)

    def _automaton(self, vocabulary: LLTokenizer, constraint: Constraint, ends: Iterable[int]) -> LLMatcher:
        """Compile, in a thread of its own, so that it can be given up."""
        result: list[LLMatcher | Exception] = []

        def work() -> None:
            try:
                result.append(self._compiled(vocabulary, constraint, ends))
            except Exception as error:
                result.append(error)

        thread = _deep_thread(work)
        thread.join(MOST_SECONDS)
        if not result:
            raise refused(f"it takes over {MOST_SECONDS:g} seconds to compile; make it simpler", constraint.param)
        if isinstance(result[0], Exception):
            raise result[0]
        return result[0]

    def _compiled(self, vocabulary: LLTokenizer, constraint: Constraint, ends: Iterable[int]) -> LLMatcher:
        from llguidance import LLMatcher, LLParserLimits

        limits = LLParserLimits(verbose_errors=False)  # verbose ones quote the whole grammar
        automaton = LLMatcher(vocabulary, constraint.grammar(), log_level=0, limits=limits)
        if automaton.is_error():  # it never raises
            raise refused(automaton.get_error(), constraint.param)
        self._matcher(automaton, constraint, ends).allowed()  # an empty language shows here
        return automaton

    @cached_property
    def _vocabulary(self) -> LLTokenizer:
        """The tokenizer's tokens by their exact bytes, and after them an end token that the model does not have."""
        from llguidance import LLTokenizer, TokenizerWrapper

        return LLTokenizer(TokenizerWrapper(_Tokens(self._tokenizer, self._vocab_size, self._no_text)))


class _Tokens:
    """The shape in which llguidance takes a vocabulary."""

    def __init__(self, tokenizer: Tokenizer, vocab_size: int, no_text: Iterable[int]) -> None:
        self._tokenizer = tokenizer
        self.tokens = [*map(tokenizer.token_bytes, range(vocab_size)), b"<end>"]
        self.eos_token_id = vocab_size
        self.bos_token_id = tokenizer.bos_id
        self.special_token_ids = sorted({token for token in no_text if token < vocab_size} | {vocab_size})
        self._longest = {data: token for token, data in enumerate(self.tokens[:-1]) if data and token not in no_text}
        self._most_bytes = max(map(len, self._longest), default=1)

    def __call__(self, data: bytes) -> list[int]:
        """The ids of a text that the grammar forces, in the middle of an answer."""
        text = data.decode()
        for lead in ("", "\x02"):  # a SentencePiece tokenizer puts a space before a text, unless it has a beginning
            try:
                ids = self._tokenizer.encode(lead + text, special=False, bos=False)
            except OctavoError:
                break
            start = 0 if not lead else 1 + next((at for at, t in enumerate(ids) if self._ends_with_lead(t)), len(ids))
            if b"".join(map(self._bytes, ids[start:])) == data:
                return ids[start:]
        return self._greedy(data)

    def _ends_with_lead(self, token: int) -> bool:
        return self._bytes(token) == b"\x02"

    def _bytes(self, token: int) -> bytes:
        return self.tokens[token] if token < self.eos_token_id else b""

    def _greedy(self, data: bytes) -> list[int]:
        """The longest token at each place, as far as there are any."""
        ids, at = [], 0
        while at < len(data):
            sizes = range(min(self._most_bytes, len(data) - at), 0, -1)
            size = next((size for size in sizes if data[at : at + size] in self._longest), None)
            if size is None:
                break
            ids.append(self._longest[data[at : at + size]])
            at += size
        return ids


def _deep_thread(work: Callable[[], None]) -> threading.Thread:
    thread = threading.Thread(target=work, name="octavo-compile", daemon=True)
    with _starting:  # the stack's size is the whole process's setting
        usual = threading.stack_size(STACK_BYTES)
        try:
            thread.start()
        finally:
            threading.stack_size(usual)
    return thread
