"""Accounting of KV memory in blocks, in pure Python; the memory itself belongs to the runner.

Full blocks are remembered by a hash chain over their tokens, so that requests that begin alike share them (Kwon et al.
2023, arXiv 2309.06180). A block without an owner keeps its content until the memory is needed; the longest unused goes
first, the end of a text before its beginning. Shared blocks are full, so nobody ever writes to them.
"""

from __future__ import annotations

import hashlib
from collections import Counter, OrderedDict
from collections.abc import Sequence

import numpy as np

from octavo.models.runner import BLOCK_SIZE

START = b""
"""The key of nothing: what precedes a first block."""


class BlockPool:
    """Hands out block ids 0 .. num_blocks - 1. A block has no owner, one, or several that share its content."""

    def __init__(self, num_blocks: int) -> None:
        self.num_blocks = num_blocks
        self._free = list(range(num_blocks - 1, -1, -1))
        self._kept: OrderedDict[int, None] = OrderedDict()  # without owner, content known, longest unused first
        self._owners = [0] * num_blocks
        self._key_of: dict[int, bytes] = {}  # of full blocks; two blocks may hold the same
        self._holder: dict[bytes, int] = {}  # key -> the block that is shared

    @property
    def available(self) -> int:
        """How many blocks can be allocated."""
        return len(self._free) + len(self._kept)

    def allocate(self, count: int) -> list[int]:
        """Take `count` blocks for writing; the caller has asked `available` first."""
        assert 0 <= count <= self.available, "allocation beyond what is free"
        blocks = [self._free.pop() if self._free else self._evict() for _ in range(count)]
        for block in blocks:
            self._owners[block] = 1
        return blocks

    def share(self, tokens: Sequence[int], most: int, have: Sequence[int] = (), root: bytes = START) -> list[int]:
        """Take the blocks that already hold the beginning of `tokens`, of at most `most` tokens, to read them.

        have: its first blocks, which the caller owns, full and remembered; those after them are returned. root: as for
        `remember`; only blocks that were remembered with the same are found.
        """
        blocks: list[int] = []
        key = self._key_of[have[-1]] if have else root
        for start in range(len(have) * BLOCK_SIZE, most - BLOCK_SIZE + 1, BLOCK_SIZE):
            key = key_of(key, tokens[start : start + BLOCK_SIZE])
            if key not in self._holder:
                break
            blocks.append(self._holder[key])
        for block in blocks:
            self._owners[block] += 1
            self._kept.pop(block, None)
        return blocks

    def remember(self, tokens: Sequence[int], blocks: Sequence[int], computed: int, root: bytes = START) -> None:
        """The first `computed` of `tokens` now lie in `blocks`; the full ones among them may be shared.

        root: the key of what precedes the first block.
        """
        full = computed // BLOCK_SIZE
        first = full
        while first and blocks[first - 1] not in self._key_of:
            first -= 1
        for at in range(first, full):
            before = self._key_of[blocks[at - 1]] if at else root
            key = self._key_of[blocks[at]] = key_of(before, tokens[at * BLOCK_SIZE : (at + 1) * BLOCK_SIZE])
            self._holder.setdefault(key, blocks[at])

    def release(self, blocks: Sequence[int]) -> None:
        """Give blocks back; content that others could share is kept."""
        for block in reversed(blocks):
            self._owners[block] -= 1
            if self._owners[block]:
                continue
            if self._is_shared(block):
                self._kept[block] = None
            else:
                self._key_of.pop(block, None)
                self._free.append(block)

    def forget(self) -> None:
        """Nothing is to be shared any more: what the blocks hold is out of date."""
        self._free += self._kept
        self._kept.clear()
        self._key_of.clear()
        self._holder.clear()

    def check(self, owned: Sequence[Sequence[int]]) -> None:
        """Assert that every block is free, kept or owned, and that its owners are counted."""
        counts = Counter(block for blocks in owned for block in blocks)
        assert self._owners == [counts[block] for block in range(self.num_blocks)], "owners are miscounted"
        every = sorted([*self._free, *self._kept, *counts])
        assert every == list(range(self.num_blocks)), "a block is lost, or free and in use"
        assert all(self._is_shared(block) for block in self._kept), "a kept block cannot be found"
        assert not self._key_of.keys() & set(self._free), "a free block has content"

    def _is_shared(self, block: int) -> bool:
        key = self._key_of.get(block)
        return key is not None and self._holder.get(key) == block

    def _evict(self) -> int:
        block, _ = self._kept.popitem(last=False)
        del self._holder[self._key_of.pop(block)]
        return block


def key_of(before: bytes, tokens: Sequence[int]) -> bytes:
    """Stands for a block's tokens and all that precede them.

    A cryptographic hash: with a weaker one a stranger could make a prompt whose blocks are taken for another's.
    """
    return hashlib.sha256(before + np.asarray(tokens, np.int32).tobytes()).digest()


def root_of(salt: str, adapter: int = 0) -> bytes:
    """The root of texts with this salt and adapter; those of others share no blocks with them."""
    return hashlib.sha256(f"{adapter}:{salt}".encode()).digest() if salt or adapter else START
