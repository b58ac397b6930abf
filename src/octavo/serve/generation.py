"""The bridge from the streams of a `LanguageModel` to asyncio.

Answers of the local engine are heard from its thread, all that a step says with one wake of the event loop; any other
model's have a thread each, which reads them. Unusual: whatever ends a request early (its client left, the server stops,
the response was cancelled) goes one way: `abort`, which closes the model's streams, takes waiting ones out of the
queue, and wakes the reader with the reason.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import accumulate
from typing import Any

from starlette.types import Receive

from octavo.errors import OctavoError
from octavo.generate.lm import Delta, Event, Finished, LanguageModel, Request, Scores, Started, Stream
from octavo.generate.tasks.stream import CompletionStream, Said
from octavo.serve.admission import Admission
from octavo.serve.errors import ApiError
from octavo.serve.metrics import Observation


class ClientLeft(Exception):
    """The client closed its connection; nobody waits for the answer."""

    code = "cancelled"


@dataclass(frozen=True)
class Job:
    """One answer to make.

    scored: a prompt, text or ids, whose tokens are scored before the answer begins, with `top` alternatives each.
    """

    request: Request
    scored: str | Sequence[int] | None = None
    top: int = 0

    @property
    def answers(self) -> int:
        """How many answers it gives: of a beam search there may be several."""
        return 1 if self.request.beams is None else self.request.beams.num_answers


CHARACTERS_A_TOKEN = 4
"""Of English; the real count is known only once the answer has its turn."""
USUAL_TOKENS = 256
"""Of an answer whose length the request leaves open."""


def _expected(request: Request) -> int:
    """How many tokens an answer reads and writes, by estimate."""
    prompt = request.prompt
    if isinstance(prompt, str):
        size = len(prompt) // CHARACTERS_A_TOKEN
    else:
        parts = (part if isinstance(part, int) else str(part.get("content", "")) for part in prompt)
        size = sum(1 if isinstance(part, int) else len(part) // CHARACTERS_A_TOKEN for part in parts)
    return size + (USUAL_TOKENS if request.max_tokens is None else request.max_tokens)


Item = tuple[int, Event | Scores]
"""Which answer, and what happened to it."""


class Generation:
    """All answers of one HTTP request, as one stream of items in the order in which they happen."""

    def __init__(
        self, model: LanguageModel, jobs: Sequence[Job], admission: Admission, observation: Observation, post: Post
    ) -> None:
        self.model_name = model.name
        self._items: asyncio.Queue[Item | Exception | None] = asyncio.Queue()
        self._pings: asyncio.TimerHandle | None = None
        self._admission = admission
        self._observation = observation
        first = [0, *accumulate(job.answers for job in jobs)]
        self._open = first.pop()
        self._priority = min((job.request.priority for job in jobs), default=0)
        self._expected = max((_expected(job.request) for job in jobs), default=0)
        self._begun: dict[int, Started] = {}
        self._ended = False
        self._loop = asyncio.get_running_loop()
        self._heard = self._loop.time()
        self._limit: asyncio.TimerHandle | None = None
        self._workers = [
            _Worker(model, job, partial(post.send, self._deliver, index), partial(post.send, self._release))
            for index, job in zip(first, jobs, strict=True)
        ]

    def start(self) -> None:
        """Queue the answers for their turn. Raises ApiError when there is no room."""
        try:
            self._admission.admit([worker.start for worker in self._workers], self._priority, self._expected)
        except ApiError as error:
            self._observation.rejected(error.code)
            raise

    @property
    def running(self) -> int:
        """How many of its answers have a slot."""
        return sum(worker.running for worker in self._workers)

    @property
    def waiting(self) -> int:
        """How many of its answers wait for one."""
        return sum(self._admission.waits(worker.start) for worker in self._workers)

    @property
    def at_hand(self) -> bool:
        """Whether `items` goes on, or ends, without waiting."""
        return not self._open or not self._items.empty()

    async def items(self, ping_seconds: float | None = None) -> AsyncIterator[Item | None]:
        """What happens, until all answers are finished; None when nothing did for ping_seconds.

        Raises what the model raised, or what `abort` was given.
        """
        if ping_seconds is not None:
            self._pings = self._loop.call_later(ping_seconds, self._ping, ping_seconds)
        try:
            while self._open:
                item = await self._items.get()
                self._heard = self._loop.time()
                if isinstance(item, Exception):
                    self._observation.failed(getattr(item, "code", type(item).__name__))
                    raise item
                if item is not None:
                    self._observation.event(*item)
                    if isinstance(item[1], Finished):
                        self._open -= 1
                yield item
        finally:
            if self._pings is not None:
                self._pings.cancel()

    def _ping(self, seconds: float) -> None:
        """One timer for a whole answer, not one a token."""
        quiet = self._loop.time() - self._heard
        if quiet >= seconds:
            self._items.put_nowait(None)
        self._pings = self._loop.call_later(seconds - quiet if quiet < seconds else seconds, self._ping, seconds)

    def limit(self, seconds: float) -> None:
        """End all answers when so many seconds have passed from now, with an error that says so."""
        text = f"The answer was not complete in {seconds:g} s, the most that this server gives (--timeout)."
        # The client would only ask for the same again.
        late = ApiError(504, "request_timeout", text, headers={"x-should-retry": "false"})
        self._limit = self._loop.call_later(seconds, self.abort, late)

    def close(self) -> None:
        """The request is over, whatever became of it."""
        if self._limit is not None:
            self._limit.cancel()
        self._observation.close()

    def abort(self, reason: Exception) -> None:
        """End all answers now. Idempotent; the first reason counts."""
        if self._ended:
            return
        self._ended = True
        self._items.put_nowait(reason)
        for worker in self._workers:
            if not self._admission.withdraw(worker.start):
                worker.close()

    @contextlib.asynccontextmanager
    async def watching(self, receive: Receive) -> AsyncIterator[None]:
        """While inside, a client that leaves aborts the generation; on the way out it ends in any case."""
        async with client_left(receive, lambda: self.abort(ClientLeft())):
            yield

    def _deliver(self, index: int, event: Event | Scores | Exception) -> None:
        if self._ended:
            return
        if isinstance(event, Exception):
            self._items.put_nowait(event)
            return
        self._items.put_nowait((index, event))
        if isinstance(event, Started):
            self._begun[index] = event
        elif isinstance(event, Finished):
            for place, (said, finished) in enumerate(event.others, index + 1):
                for told in (self._begun[index], said, finished):
                    self._items.put_nowait((place, told))

    def _release(self, seconds: float, tokens: int) -> None:
        self._admission.release(seconds, tokens)


@contextlib.asynccontextmanager
async def client_left(receive: Receive, act: Callable[[], None]) -> AsyncIterator[None]:
    """While inside, `act` is called when the client leaves; and on the way out in any case."""

    async def watch() -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        act()

    watcher = asyncio.create_task(watch())
    try:
        yield
    finally:
        watcher.cancel()
        act()


class _Worker:
    """One answer: the thread that begins it, and what it says.

    deliver and released are called from any thread: with each event or an exception, and with the seconds it ran and
    the tokens it read and wrote.
    """

    def __init__(
        self,
        model: LanguageModel,
        job: Job,
        deliver: Callable[[Event | Scores | Exception], None],
        released: Callable[[float, int], None],
    ) -> None:
        self._model = model
        self._job = job
        self._deliver = deliver
        self._released = released
        self._lock = threading.Lock()
        self._stream: Stream | None = None
        self._closed = threading.Event()
        self.running = False
        self._tokens = 0

    def start(self) -> None:
        """Begin; at most once."""
        self.running = True
        threading.Thread(target=self._run, name="octavo-answer", daemon=True).start()

    def close(self) -> None:
        """Stop the model's work for this answer, now or as soon as it begins."""
        with self._lock:
            self._closed.set()
            stream = self._stream
        if stream is not None:
            stream.close()

    def _run(self) -> None:
        self._started = time.monotonic()
        try:
            if self._job.scored is not None:
                self._deliver(self._model.score(self._job.scored, top=self._job.top, cancelled=self._closed))
            stream = self._model.stream(self._job.request)
            with self._lock:
                self._stream = stream
                closed = self._closed.is_set()
            if closed:
                stream.close()
            if isinstance(stream, CompletionStream):
                stream.listen(self._hear)
            else:
                for event in stream:
                    self._hear((event,))
        except Exception as error:
            self._hear((error,))

    def _hear(self, said: Sequence[Said]) -> None:
        for event in said:
            if isinstance(event, BaseException) and not isinstance(event, Exception):
                event = RuntimeError(f"the engine stopped: {event!r}")
            if isinstance(event, Started):
                self._tokens += event.prompt_tokens - event.cached_tokens
            elif isinstance(event, Delta):
                self._tokens += len(event.token_ids)
            self._deliver(event)
        if isinstance(said[-1], Finished | BaseException):
            self.running = False
            self._released(time.monotonic() - self._started, self._tokens)


class Post:
    """Carries calls from other threads to the event loop; those that come together with one wake of it."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._calls: deque[tuple[Callable[..., None], tuple[Any, ...]]] = deque()
        self._woken = False

    def send(self, function: Callable[..., None], *values: Any) -> None:
        """Call it on the event loop, in the order of sending; from any thread."""
        self._calls.append((function, values))
        if not self._woken:
            self._woken = True
            with contextlib.suppress(RuntimeError):  # a closed loop is of a server that has ended: nobody listens
                self._loop.call_soon_threadsafe(self._carry)

    def _carry(self) -> None:
        self._woken = False  # first: what is sent from now on wakes the loop again
        while self._calls:
            function, values = self._calls.popleft()
            function(*values)


@contextlib.asynccontextmanager
async def in_turn(admission: Admission, receive: Receive) -> AsyncIterator[threading.Event]:
    """Wait for one slot, and hold it while inside, for work that is not a stream of events.

    Gives an event that is set when the client leaves; what the work raises for it becomes ClientLeft. Raises ApiError
    when the queue is full.
    """
    left = threading.Event()
    turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    start = partial(_begin, turn)
    admission.admit([start])
    try:
        async with client_left(receive, partial(_give_up, turn, left)):
            await turn
            started = time.monotonic()
            try:
                yield left
            except OctavoError:
                if left.is_set():
                    raise ClientLeft from None
                raise
    finally:
        if not admission.withdraw(start):
            admission.release(time.monotonic() - started if turn.done() and not turn.cancelled() else 0)


def _begin(turn: asyncio.Future[None]) -> None:
    if not turn.done():
        turn.set_result(None)


def _give_up(turn: asyncio.Future[None], left: threading.Event) -> None:
    """The client left: nobody waits for the turn, or for what is done in it."""
    left.set()
    if not turn.done():
        turn.set_exception(ClientLeft())
