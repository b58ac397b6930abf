"""Accounting of KV memory in blocks, in pure Python; the memory itself belongs to the runner.

A freed block is the next one given out, so that a runner touches as little memory as its busiest moment needs.
"""

from __future__ import annotations

from collections.abc import Sequence


class BlockPool:
    """Hands out block ids 0 .. num_blocks - 1, each to one owner at a time."""

    def __init__(self, num_blocks: int) -> None:
        self.num_blocks = num_blocks
        self._free = list(range(num_blocks - 1, -1, -1))

    @property
    def available(self) -> int:
        """How many blocks are free."""
        return len(self._free)

    def allocate(self, count: int) -> list[int]:
        """Take `count` blocks; the caller has asked `available` first."""
        assert 0 <= count <= len(self._free), "allocation beyond what is free"
        return [self._free.pop() for _ in range(count)]

    def release(self, blocks: Sequence[int]) -> None:
        """Give blocks back."""
        self._free.extend(reversed(blocks))

    def check(self, owned: Sequence[Sequence[int]]) -> None:
        """Assert that free and owned blocks together are each block exactly once."""
        every = sorted([*self._free, *(block for blocks in owned for block in blocks)])
        assert every == list(range(self.num_blocks)), "blocks leaked or shared"
