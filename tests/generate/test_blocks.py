"""Block accounting as a state machine: whatever is taken, shared, filled or given back, nothing is lost or mixed."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from octavo.generate.blocks import BlockPool
from octavo.models.runner import BLOCK_SIZE

PREFIXES = st.lists(st.sampled_from([(1,) * BLOCK_SIZE, (2,) * BLOCK_SIZE, (3,) * BLOCK_SIZE]), max_size=4)


class Accounting(RuleBasedStateMachine):
    """A model of the memory: what each block really holds, and texts that own blocks."""

    def __init__(self) -> None:
        super().__init__()
        self.pool = BlockPool(12)
        self.memory: dict[int, tuple[int, ...]] = {}
        self.texts: list[tuple[list[int], list[int]]] = []

    @rule(prefix=PREFIXES, rest=st.integers(1, 5))
    def begin(self, prefix: list[tuple[int, ...]], rest: int) -> None:
        tokens = [token for part in prefix for token in part] + [9] * rest
        blocks = self.pool.share(tokens, len(tokens) - 1)
        assert len(blocks) * BLOCK_SIZE < len(tokens)
        for at, block in enumerate(blocks):
            assert self.memory[block] == tuple(tokens[: (at + 1) * BLOCK_SIZE]), "shared what is not the same"
        missing = -(-len(tokens) // BLOCK_SIZE) - len(blocks)
        if missing > self.pool.available:
            self.pool.release(blocks)
            return
        new = self.pool.allocate(missing)
        assert not set(new) & {block for _, owned in self.texts for block in owned}
        blocks += new
        for at, block in enumerate(blocks):
            self.memory[block] = tuple(tokens[: (at + 1) * BLOCK_SIZE])
        self.pool.remember(tokens, blocks, len(tokens))
        self.texts.append((tokens, blocks))

    @precondition(lambda self: self.texts)
    @rule(data=st.data())
    def end(self, data: st.DataObject) -> None:
        _, blocks = self.texts.pop(data.draw(st.integers(0, len(self.texts) - 1)))
        self.pool.release(blocks)

    @invariant()
    def nothing_is_lost(self) -> None:
        self.pool.check([blocks for _, blocks in self.texts])


Accounting.TestCase.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
TestAccounting = Accounting.TestCase


def test_the_end_of_a_text_is_forgotten_before_its_beginning() -> None:
    pool = BlockPool(3)
    tokens = [5] * BLOCK_SIZE + [6] * BLOCK_SIZE + [7] * BLOCK_SIZE
    blocks = pool.allocate(3)
    pool.remember(tokens, blocks, len(tokens))
    pool.release(blocks)
    pool.allocate(1)
    assert pool.share(tokens, len(tokens)) == blocks[:2]


class Alike(int):
    """Ids that Python's own hash cannot tell apart, as chosen ids can be for any hash that is not cryptographic."""

    def __hash__(self) -> int:
        return 0


def test_texts_whose_hashes_collide_share_nothing() -> None:
    pool = BlockPool(4)
    ours, theirs, end = ([Alike(token)] * BLOCK_SIZE for token in (1, 2, 3))
    first = pool.allocate(1)
    pool.remember(ours, first, BLOCK_SIZE)
    pool.remember(theirs + end, pool.allocate(2), 2 * BLOCK_SIZE)
    assert pool.share(ours + end, 2 * BLOCK_SIZE) == first
