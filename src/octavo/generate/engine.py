"""The engine: one thread that steps a runner for all requests together (continuous batching).

What a step holds is the scheduler's business (`scheduler.py`); here requests come in from any thread, and the thread
sleeps while there are none.
"""

from __future__ import annotations

import atexit
import threading
from collections.abc import Callable
from concurrent.futures import Future

from octavo.errors import OctavoError
from octavo.generate.propose import Proposer
from octavo.generate.scheduler import Scheduler, Task
from octavo.models.runner import Runner

CLOSED = "the model is closed; load it again"


class Engine:
    """Runs tasks on a runner it owns. `submit`, `wake` and `refresh` may be called from any thread."""

    def __init__(
        self,
        runner: Runner,
        *,
        max_running: int = 64,
        proposer: Proposer | None = None,
        window: int | None = None,
    ) -> None:
        """proposer: closed with the runner. window: see `Scheduler`."""
        self.runner = runner
        self._proposer = proposer
        self._scheduler = Scheduler(runner, max_running=max_running, proposer=proposer, window=window)
        self._arrived: list[Task] = []
        self._errands: list[tuple[Callable[[], None], Future[None]]] = []
        self._changed = threading.Condition()
        self._closing = False
        self._busy = False
        self._thread = threading.Thread(target=self._loop, name="octavo-engine", daemon=True)
        self._thread.start()
        atexit.register(self.close)  # a thread that is inside torch when the interpreter ends aborts the process

    def submit(self, task: Task) -> None:
        """Queue a task. Its blocks must fit the runner's memory (checked by the caller)."""
        with self._changed:
            if self._closing:
                raise OctavoError(CLOSED)
            self._arrived.append(task)
            self._changed.notify()

    def wake(self) -> None:
        """Tell the engine that a task was cancelled."""
        with self._changed:
            self._changed.notify()

    def refresh(self) -> None:
        """Take over weights that changed; nothing that was computed with the old ones is used any more.

        Returns when it is done. Raises what the runner raises.
        """
        done: Future[None] = Future()
        with self._changed:
            if self._closing:
                raise OctavoError(CLOSED)
            self._errands.append((self._scheduler.refresh, done))
            self._changed.notify()
        done.result()

    def close(self) -> None:
        """Cancel everything, end the thread, close the runner. Idempotent."""
        atexit.unregister(self.close)
        with self._changed:
            self._closing = True
            self._changed.notify()
        if self._thread is not threading.current_thread():
            self._thread.join()
        self.runner.close()
        if self._proposer is not None:
            self._proposer.close()

    def check(self) -> None:
        """Assert that no block is lost; call it while the engine is idle."""
        self._scheduler.check()

    @property
    def kv_usage(self) -> float:
        """Share of the KV memory that running requests hold, 0 to 1."""
        pool = self._scheduler.pool
        return 1 - pool.available / pool.num_blocks

    @property
    def idle(self) -> bool:
        """Whether nothing runs or waits."""
        with self._changed:
            return not self._busy and not self._arrived

    def _loop(self) -> None:
        while self._take_work():
            self._scheduler.step()
        self._scheduler.cancel_all()
        self._busy = False

    def _take_work(self) -> bool:
        """Wait for work and take what came. False: the engine closes."""
        if self._busy and self._scheduler.num_tasks and not (self._arrived or self._errands or self._closing):
            return True  # looked at without the lock: what comes a moment later has its turn after the next step
        with self._changed:
            self._busy = bool(self._scheduler.num_tasks)
            while not (self._closing or self._busy or self._arrived or self._errands):
                self._changed.wait()
            for task in self._arrived:
                self._scheduler.add(task)
            errands, self._errands, self._arrived, self._busy = self._errands, [], [], True
            closing = self._closing
        for errand, done in errands:
            try:
                done.set_result(errand())
            except BaseException as error:
                done.set_exception(error)
        return not closing
