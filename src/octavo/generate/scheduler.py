"""The scheduler: which tasks run, how many tokens of each a step takes, and who holds which blocks. No thread here.

Each step takes the running tasks' next tokens: one for each that decodes, and as much of new prompts as the step holds.
Blocks are given as a text grows; when none are left the last in rank gives its own back and is computed again later.
What a text shares with an earlier one at its beginning is not computed again, and where two of them run it is computed
by one while the other waits. A runner's rows are independent of their neighbours, so none of this changes a result.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from octavo.generate.blocks import START, BlockPool
from octavo.generate.pace import Pace
from octavo.generate.propose import NO_DRAFT, Draft, Proposer, Text
from octavo.models.runner import BLOCK_SIZE, Row, Runner

MOST_PASSED = 8
"""How often one that came later may get its turn first, for a better priority or a shorter prompt."""


@dataclass(eq=False, slots=True)
class Branch:
    """One text that a task computes: its tokens, how many of them have keys and values, and the blocks of those.

    root: what the text begins with for the sharing of blocks; texts of different roots share none. draft: guesses at
    the tokens that follow, to be checked in the next step. stood: which of them the task has taken. behind: so many of
    the first blocks are given back, because no layer sees as far; their places in `blocks` stay. adapter: as `Row` has
    it; texts of different ones have different roots.
    """

    tokens: list[int]
    root: bytes = START
    computed: int = 0
    blocks: list[int] = field(default_factory=list)
    draft: Draft = NO_DRAFT
    stood: list[int] = field(default_factory=list)
    behind: int = 0
    adapter: int = 0

    @property
    def pending(self) -> int:
        """How many tokens are still to run."""
        return len(self.tokens) - self.computed


class Task(Protocol):
    """What is run: a completion (`tasks/completion.py`), a beam search or a scoring.

    branches: its texts; `take` may replace them by others. width: most branches that it will have. priority: the
    smaller, the sooner. tokens_a_step: most tokens of a branch in one step.
    """

    branches: list[Branch]
    width: int
    priority: int
    cancelled: bool
    finished: bool

    @property
    def tokens_a_step(self) -> int: ...

    def unread(self, branch: Branch) -> int:
        """How many of the first tokens need no logits, so that their keys and values may come from elsewhere."""
        ...

    def started(self, cached: int) -> None:
        """Its first step comes; `cached` tokens need no computing."""
        ...

    def to_guess(self, branch: Branch) -> Text | None:
        """What a proposer may guess at, once all its tokens but one have run; None: nothing."""
        ...

    def logits_from(self, branch: Branch, count: int) -> int:
        """From which of the next `count` tokens, the draft's among them, on logits are wanted."""
        ...

    def take(self, branch: Branch, logits: NDArray[np.float32]) -> None:
        """More of its tokens have run. logits: (wanted, vocab_size), of its last computed tokens and then of its draft.

        What of a draft stands it counts as computed itself, and names in `stood`, one guess after another.
        """
        ...

    def fail(self, error: BaseException) -> None:
        """End with an error."""
        ...

    def deliver(self) -> None:
        """Its reader hears what it has said; it is asked to just before a step and when it has ended."""
        ...

    def cancel(self) -> None:
        """End at once."""
        ...


@dataclass(eq=False, slots=True)
class _Place:
    """A task's place among the others. number: of its arrival. passed: how often a later one got its turn first."""

    task: Task
    number: int
    passed: int = 0
    started: bool = False

    @property
    def rank(self) -> tuple[bool, int, int]:
        return (self.passed < MOST_PASSED, self.task.priority, self.number)


Plan = list[tuple[_Place, Branch, int]]
"""Which branches run how many tokens."""


class Scheduler:
    """Runs tasks on a runner, a step a call. Not thread-safe.

    window: how many positions the model sees at most, None for all; what lies behind is not kept.
    """

    def __init__(
        self, runner: Runner, *, max_running: int, proposer: Proposer | None = None, window: int | None = None
    ) -> None:
        self.pool = BlockPool(runner.num_blocks)
        self._runner = runner
        self._proposer = proposer
        self._window = window
        self._pace = Pace()
        self._max_running = min(max_running, runner.max_tokens)
        self._arrivals = 0
        self._waiting: list[_Place] = []
        self._running: list[_Place] = []  # by rank

    @property
    def num_tasks(self) -> int:
        """How many run or wait."""
        return len(self._running) + len(self._waiting)

    def add(self, task: Task) -> None:
        """Queue a task. Its blocks must fit the runner's memory, with nothing else running (checked by the caller)."""
        self._arrivals += 1
        self._waiting.append(_Place(task, self._arrivals))

    def step(self) -> None:
        """Drop what was cancelled, start what waits, run one step. An error of the runner ends all that run."""
        self._drop_cancelled()
        self._admit()
        try:
            self._propose()
            self._run(self._plan())
        except BaseException as error:  # every reader must hear of it, whatever it was
            for place in self._running:
                place.task.fail(error)
        self._retire()

    def cancel_all(self) -> None:
        """End everything."""
        for place in self._all():
            place.task.cancel()
        self._retire()

    def refresh(self) -> None:
        """The weights have changed: forget what was computed with the old ones. What runs is computed again."""
        for place in list(self._running):
            self._preempt(place)
        self.pool.forget()
        self._runner.refresh()
        if self._proposer is not None:
            self._proposer.refresh()

    def check(self) -> None:
        """Assert that no block is lost."""
        self.pool.check([branch.blocks[branch.behind :] for place in self._running for branch in place.task.branches])
        assert not any(branch.blocks for place in self._waiting for branch in place.task.branches), "blocks in a queue"

    def _all(self) -> list[_Place]:
        return self._running + self._waiting

    def _drop_cancelled(self) -> None:
        for place in self._all():
            if place.task.cancelled and not place.task.finished:
                place.task.cancel()
        self._retire()

    def _admit(self) -> None:
        if not self._waiting:
            return
        room = self._max_running - sum(place.task.width for place in self._running)
        while self._waiting and self.pool.available:
            place = min(self._waiting, key=lambda place: place.rank)
            room -= place.task.width
            if room < 0 and self._running:
                break
            self._waiting.remove(place)
            for other in self._waiting:
                other.passed += other.number < place.number
            self._running.append(place)
            self._running.sort(key=lambda place: place.rank)

    def _plan(self) -> Plan:
        """Choose how many tokens each branch runs in this step: decoding before prompts."""
        budget = self._runner.max_tokens
        plan: Plan = []
        prompts: list[tuple[_Place, Branch]] = []
        for place in self._running.copy():  # one of them may be preempted for another
            for branch in place.task.branches:
                if branch.pending > 1:
                    prompts.append((place, branch))
                elif branch.pending and budget and self._grow(place, branch, count := self._decoded(branch, budget)):
                    plan.append((place, branch, count))
                    budget -= count
        if prompts:
            self._plan_prompts(prompts, min(budget, self._pace.beside()) if plan else budget, plan)
        return [(place, branch, count) for place, branch, count in plan if branch.blocks]

    def _decoded(self, branch: Branch, budget: int) -> int:
        """How many tokens of a text that decodes to run: its last, and what there is room for of a draft."""
        if not branch.draft.tokens:
            return 1
        free = (len(branch.blocks) + self.pool.available) * BLOCK_SIZE - branch.computed
        branch.draft = branch.draft.first(max(0, min(budget, free) - 1))  # nobody is preempted for a guess
        return 1 + len(branch.draft.tokens)

    def _plan_prompts(self, prompts: list[tuple[_Place, Branch]], budget: int, plan: Plan) -> None:
        """The shortest first, so that a short one does not wait for a long one; but see MOST_PASSED."""
        prompts.sort(key=lambda prompt: (*prompt[0].rank[:2], prompt[1].pending, prompt[0].number))
        leading: list[Branch] = []
        left: list[_Place] = []
        last = 0
        for place, branch in prompts:
            if place not in self._running:  # preempted for one before it
                continue
            self._share(branch, place.task.unread(branch))
            if _is_coming(branch, place.task.unread(branch), leading):
                continue
            leading.append(branch)
            count = min(budget, place.task.tokens_a_step, branch.pending)
            if not count:
                left.append(place)
            elif self._grow(place, branch, count):
                plan.append((place, branch, count))
                budget -= count
                last = max(last, place.number)
        for place in left:
            place.passed += place.number < last

    def _propose(self) -> None:
        """Ask for guesses at all texts that decode."""
        if self._proposer is None:
            return
        decoding = [
            (branch, text)
            for place in self._running
            for branch in place.task.branches
            if branch.pending == 1 and branch.computed and (text := place.task.to_guess(branch)) is not None
        ]
        drafts = self._proposer.propose([text for _, text in decoding])
        for (branch, _), draft in zip(decoding, drafts, strict=True):
            branch.draft = draft

    def _share(self, branch: Branch, unread: int) -> None:
        """Take what others have computed of the next tokens."""
        if branch.computed == len(branch.blocks) * BLOCK_SIZE:
            branch.blocks += self.pool.share(branch.tokens, unread, branch.blocks, branch.root)
            branch.computed = len(branch.blocks) * BLOCK_SIZE

    def _run(self, plan: Plan) -> None:
        if not plan:
            return
        rows: list[Row] = []
        decoded = prompt = at = 0
        for place, branch, count in plan:
            if not place.started:
                place.started = True
                place.task.started(branch.computed)
            rows.append(_row(place.task, branch, count))
            if branch.pending > 1:
                prompt += count
            else:
                decoded += count
        for running in self._running:
            running.task.deliver()
        begun = time.perf_counter()
        logits = self._runner.step(rows).logits
        for (place, branch, count), row in zip(plan, rows, strict=True):
            wanted = count - row.logits_from
            branch.computed += count - len(branch.draft.tokens)
            self._take(place.task, branch, row, logits[at : at + wanted])
            at += wanted
        self._pace.measured(decoded, prompt, time.perf_counter() - begun)

    def _take(self, task: Task, branch: Branch, row: Row, logits: NDArray[np.float32]) -> None:
        before, branch.stood = task.branches, []
        if not task.finished:
            try:
                task.take(branch, logits)
            except Exception as error:  # its own; the others go on
                task.fail(error)
        if branch.stood and branch.stood[-1] >= len(branch.stood):  # not those that came first
            self._runner.accept(row, [0, *(guess + 1 for guess in branch.stood)])
        self.pool.remember(branch.tokens, branch.blocks, branch.computed, branch.root)
        self._recycle(branch)
        if task.branches is not before:
            for old in before:
                if old not in task.branches:
                    self._free(old)

    def _grow(self, place: _Place, branch: Branch, count: int) -> bool:
        """Give a branch the blocks for its next `count` tokens, if need be from the task that is last in rank."""
        if place not in self._running:
            return False
        missing = -(-(branch.computed + count) // BLOCK_SIZE) - len(branch.blocks)
        while missing > self.pool.available:
            last = self._running[-1]
            assert last is not place or len(self._running) > 1, "a request larger than the KV memory was submitted"
            self._preempt(last)
            if last is place:
                return False
        if missing > 0:
            branch.blocks += self.pool.allocate(missing)
        return True

    def _preempt(self, place: _Place) -> None:
        """Take a task's memory; it waits for its turn to be computed again."""
        self._running.remove(place)
        place.task.deliver()
        for branch in place.task.branches:
            self._free(branch)
        self._waiting.append(place)

    def _free(self, branch: Branch) -> None:
        self.pool.release(branch.blocks[branch.behind :])
        branch.blocks, branch.computed, branch.draft, branch.behind = [], 0, NO_DRAFT, 0
        if self._proposer is not None:
            self._proposer.forget(branch)

    def _recycle(self, branch: Branch) -> None:
        """Give back the blocks that no later token sees, but for the last full one, which names those that follow."""
        if self._window is None:
            return
        seen = max(0, branch.computed + 1 - self._window) // BLOCK_SIZE
        behind = max(branch.behind, min(seen, branch.computed // BLOCK_SIZE - 1))
        self.pool.release(branch.blocks[branch.behind : behind])
        branch.behind = behind

    def _retire(self) -> None:
        """Free what finished tasks hold."""
        ended = [place for place in self._all() if place.task.finished]
        if not ended:
            return
        for place in ended:
            for branch in place.task.branches:
                self._free(branch)
            place.task.deliver()
        self._waiting = [place for place in self._waiting if place not in ended]
        self._running = [place for place in self._running if place not in ended]


def _is_coming(branch: Branch, unread: int, leading: Sequence[Branch]) -> bool:
    """Whether the next block of a text is also one that a text before it is about to compute."""
    start, end = branch.computed, branch.computed + BLOCK_SIZE
    if start % BLOCK_SIZE or end > unread:
        return False
    block = branch.tokens[start:end]
    return any(
        leader.tokens[start:end] == block
        and leader.root == branch.root
        and leader.computed < end
        and leader.tokens[:start] == branch.tokens[:start]
        for leader in leading
    )


def _row(task: Task, branch: Branch, count: int) -> Row:
    start, draft = branch.computed, branch.draft
    tokens = branch.tokens[start : start + count]
    parents = None
    if draft.tokens:
        tokens += draft.tokens
        if draft.parents is not None:
            parents = np.array([-1, *(guess + 1 for guess in draft.parents)], np.int32)
    return Row(tokens, start, branch.blocks, task.logits_from(branch, count), parents, branch.adapter)
