"""The engine: one thread that steps a runner for all requests together (continuous batching).

Each step takes the running requests' next tokens: one for each that decodes, and as much of new prompts as the step
holds. Blocks are given as a request grows; when none are left the newest request gives its own back and is computed
again later. What a request shares with an earlier one at its beginning is not computed again. A runner's rows are
independent of their neighbours, so none of this changes a result.
"""

from __future__ import annotations

import atexit
import threading
from collections import deque
from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from octavo.errors import OctavoError
from octavo.generate.blocks import BlockPool
from octavo.models.runner import BLOCK_SIZE, Row, Runner

PREFILL_BESIDE_DECODING = 64
"""Prompt tokens a step takes at most while others decode, so that a long prompt does not freeze them."""


class Task(Protocol):
    """What the engine runs: a completion (`completion.py`) or a scoring (`scoring.py`)."""

    tokens: list[int]
    computed: int
    blocks: list[int]
    cancelled: bool
    finished: bool
    tokens_a_step: int
    """Most tokens of this task in one step."""

    @property
    def unread(self) -> int:
        """How many of the first tokens need no logits, so that their keys and values may come from elsewhere."""
        ...

    def admitted(self) -> None:
        """It starts, with `computed` tokens that needed no computing; after a preemption it is told again."""
        ...

    def logits_from(self, count: int) -> int:
        """From which of the next `count` tokens on logits are wanted."""
        ...

    def take(self, count: int, logits: NDArray[np.float32]) -> None:
        """The next `count` tokens have run. logits: (count - logits_from(count), vocab_size)."""
        ...

    def fail(self, error: BaseException) -> None:
        """End with an error."""
        ...

    def cancel(self) -> None:
        """End at once."""
        ...


class Engine:
    """Runs tasks on a runner it owns. `submit` and `wake` may be called from any thread."""

    def __init__(self, runner: Runner, *, max_running: int = 64) -> None:
        self.runner = runner
        self._max_running = min(max_running, runner.max_tokens)
        self._pool = BlockPool(runner.num_blocks)
        self._waiting: deque[Task] = deque()
        self._running: list[Task] = []
        self._changed = threading.Condition()
        self._closing = False
        self._thread = threading.Thread(target=self._loop, name="octavo-engine", daemon=True)
        self._thread.start()
        atexit.register(self.close)  # a thread that is inside torch when the interpreter ends aborts the process

    def submit(self, task: Task) -> None:
        """Queue a task. Its blocks for `tokens` must fit the runner's memory (checked by the caller)."""
        with self._changed:
            if self._closing:
                raise OctavoError("the model is closed; load it again")
            self._waiting.append(task)
            self._changed.notify()

    def wake(self) -> None:
        """Tell the engine that a task was cancelled."""
        with self._changed:
            self._changed.notify()

    def close(self) -> None:
        """Cancel everything, end the thread, close the runner. Idempotent."""
        atexit.unregister(self.close)
        with self._changed:
            self._closing = True
            self._changed.notify()
        if self._thread is not threading.current_thread():
            self._thread.join()
        self.runner.close()

    def check(self) -> None:
        """Assert that no block is lost; call it while the engine is idle."""
        self._pool.check([task.blocks for task in self._running])

    @property
    def kv_usage(self) -> float:
        """Share of the KV memory that running requests hold, 0 to 1."""
        return 1 - self._pool.available / self._pool.num_blocks

    @property
    def idle(self) -> bool:
        """Whether nothing runs or waits."""
        with self._changed:
            return not self._running and not self._waiting

    def _loop(self) -> None:
        while self._admit():
            try:
                self._step()
            except BaseException as error:  # every reader must hear of it, whatever it was
                for task in self._running:
                    task.fail(error)
            self._retire()

    def _admit(self) -> bool:
        """Wait for work, drop what was cancelled, start what waits. False: the engine closes."""
        with self._changed:
            while not (self._closing or self._waiting or self._running):
                self._changed.wait()
            for task in [*self._running, *self._waiting]:
                if (task.cancelled or self._closing) and not task.finished:
                    task.cancel()
            self._waiting = deque(task for task in self._waiting if not task.finished)
            while self._waiting and len(self._running) < self._max_running and self._pool.available:
                self._start(self._waiting.popleft())
            closing = self._closing
        self._retire()
        return not closing

    def _start(self, task: Task) -> None:
        task.blocks = self._pool.share(task.tokens, task.unread)
        task.computed = len(task.blocks) * BLOCK_SIZE
        self._running.append(task)
        task.admitted()

    def _step(self) -> None:
        counts = self._schedule()
        if not counts:
            return
        output = self.runner.step([_row(task, count) for task, count in counts])
        at = 0
        for task, count in counts:
            wanted = count - task.logits_from(count)
            try:
                task.take(count, output.logits[at : at + wanted])
            except Exception as error:  # its own; the others go on
                task.fail(error)
            self._pool.remember(task.tokens, task.blocks, task.computed)
            at += wanted

    def _schedule(self) -> list[tuple[Task, int]]:
        """Choose how many tokens each task runs in this step, decoding before prompts, oldest first."""
        decoding = [task for task in self._running if len(task.tokens) - task.computed == 1]
        prompts = [task for task in self._running if len(task.tokens) - task.computed > 1]
        budget = self.runner.max_tokens
        counts: list[tuple[Task, int]] = []
        for task in decoding:
            if budget and self._grow(task, task.computed + 1):
                counts.append((task, 1))
                budget -= 1
        if counts:
            budget = min(budget, PREFILL_BESIDE_DECODING)
        for task in prompts:
            count = min(budget, task.tokens_a_step, len(task.tokens) - task.computed)
            if count and task in self._running and self._grow(task, task.computed + count):
                counts.append((task, count))
                budget -= count
        return [(task, count) for task, count in counts if task.blocks]

    def _grow(self, task: Task, positions: int) -> bool:
        """Give a task the blocks for its first `positions` tokens, if need be from the newest other task."""
        if task not in self._running:
            return False
        missing = -(-positions // BLOCK_SIZE) - len(task.blocks)
        while missing > self._pool.available:
            newest = self._running[-1]
            assert newest is not task or len(self._running) > 1, "a request larger than the KV memory was submitted"
            self._preempt(newest)
            if newest is task:
                return False
        if missing > 0:
            task.blocks.extend(self._pool.allocate(missing))
        return True

    def _preempt(self, task: Task) -> None:
        """Take a task's memory; it waits at the front of the queue to be computed again."""
        self._running.remove(task)
        self._pool.release(task.blocks)
        task.blocks, task.computed = [], 0
        with self._changed:
            self._waiting.appendleft(task)

    def _retire(self) -> None:
        """Free what finished tasks hold."""
        for task in self._running:
            if task.finished:
                self._pool.release(task.blocks)
                task.blocks = []
        with self._changed:
            self._running = [task for task in self._running if not task.finished]


def _row(task: Task, count: int) -> Row:
    tokens: Sequence[int] = task.tokens[task.computed : task.computed + count]
    return Row(np.asarray(tokens, np.int32), task.computed, task.blocks, task.logits_from(count))
