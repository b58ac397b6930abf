"""The models of a server: loaded when they are first asked for, unloaded when memory is wanted or nobody asks.

Unusual: a model that answers is never taken away; a request for one more is then refused for the moment. Loading runs
in a thread and is shared by all who wait for it. Used on the event loop only.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from collections.abc import Callable, Iterable
from fnmatch import fnmatchcase

from octavo.errors import OctavoError, nearest
from octavo.examine.summary import Summary, summarise
from octavo.fetching.sources import resolve
from octavo.generate.lm import LanguageModel
from octavo.generate.local import LocalModel
from octavo.serve.errors import ApiError

Load = Callable[[], LanguageModel]


class Entry:
    """One served model. reference: where it comes from, where that is known. model: None while it is not loaded.

    users: answers that hold it.
    """

    def __init__(self, name: str, load: Load | None, reference: str | None = None, base: Entry | None = None) -> None:
        self.name = name
        self.base = base
        """The entry whose model this is with an adapter of this name; it is in memory when that one is."""
        self.load = load
        self.reference = reference
        self.model: LanguageModel | None = None
        self.users = 0
        self.last_used = time.monotonic()
        self.keep_alive: float | None = None
        """Seconds, where a request said so; it goes before the pool's."""
        self.loading: asyncio.Future[LanguageModel] | None = None
        self._summary: Summary | None = None

    @property
    def summary(self) -> Summary | None:
        """What its files say; None where there are none, or none yet. The first call reads their headers."""
        if self._summary is None and self.reference is not None:
            with contextlib.suppress(OctavoError):
                self._summary = summarise(resolve(self.reference))
        return self._summary

    @property
    def evictable(self) -> bool:
        """Whether its memory may be taken: it can be loaded again, and nobody uses it."""
        return self.load is not None and self.model is not None and self.users == 0


class ModelPool:
    """Served models by name. max_loaded: how many are in memory at once. keep_alive: seconds unused; None: for ever.

    aliases: other names, each for a served one; `*` in an alias stands for anything.
    """

    def __init__(self, *, max_loaded: int, keep_alive: float | None, aliases: Iterable[tuple[str, str]] = ()) -> None:
        self._entries: dict[str, Entry] = {}
        self._max_loaded = max_loaded
        self._keep_alive = keep_alive
        self._aliases = tuple(aliases)

    def on_demand(self, name: str, load: Load, reference: str | None = None) -> None:
        """Serve a model that is loaded when it is asked for. Raises OctavoError for a name taken."""
        self._new(Entry(name, load, reference))

    def add(self, model: LanguageModel) -> None:
        """Serve a model that is loaded. Raises OctavoError for the name of another that is."""
        entry = self._entries.get(model.name)
        if entry is None or entry.model is not None:
            self._new(entry := Entry(model.name, None))
        entry.model = model

    def adapter(self, name: str, base: str) -> None:
        """Serve a model with one of its adapters, under the adapter's name. Raises OctavoError for a name taken."""
        self._new(Entry(name, None, base=self._entries[base]))

    @property
    def entries(self) -> list[Entry]:
        """All served models, in the order in which they were given."""
        return list(self._entries.values())

    @property
    def loaded(self) -> dict[str, LanguageModel]:
        """Those in memory."""
        return {entry.name: entry.model for entry in self._entries.values() if entry.model is not None}

    def entry(self, name: str | None) -> Entry:
        """The entry of a name or an alias; None: the first. Raises ApiError 404 with what is served."""
        if name is None:
            return next(iter(self._entries.values()))
        target = name if name in self._entries else self._aliased(name)
        if target not in self._entries:
            served = ", ".join(map(repr, self._entries))
            hint = nearest(name[:200], self._entries) or "."
            text = f"The model {name[:200]!r} is not served; served: {served}{hint}"
            raise ApiError(404, "model_not_found", text, param="model")
        return self._entries[target]

    async def get(self, name: str | None) -> LanguageModel:
        """The model, loaded if need be. Raises ApiError 404, or 503 while all that are loaded are at work."""
        entry = self.entry(name)
        if entry.base is not None:
            model = await self.get(entry.base.name)
            assert isinstance(model, LocalModel), "others are served without adapters"
            return model.adapted(entry.name)
        entry.last_used = time.monotonic()
        if entry.model is not None:
            return entry.model
        if entry.loading is None:
            self._make_room(entry)
            entry.loading = asyncio.ensure_future(self._load(entry))
        return await asyncio.shield(entry.loading)

    def hold(self, name: str) -> None:
        """An answer begins: the model stays. Each is released once."""
        self._holder(name).users += 1

    def release(self, name: str) -> None:
        """An answer has ended."""
        entry = self._holder(name)
        entry.users -= 1
        entry.last_used = time.monotonic()

    def unload(self, entry: Entry) -> bool:
        """Free a model's memory; False: it is in use, not loaded, or could not be loaded again."""
        if not entry.evictable:
            return False
        model, entry.model = entry.model, None
        assert model is not None
        model.close()
        return True

    def unload_unused(self) -> None:
        """Free what was not asked for longer than its keep_alive."""
        for entry in self.entries:
            if entry.evictable and self.seconds_left(entry) <= 0:
                self.unload(entry)

    def seconds_left(self, entry: Entry) -> float:
        """How long it stays if nobody asks for it."""
        keep = self._keep_alive if entry.keep_alive is None else entry.keep_alive
        return math.inf if keep is None else entry.last_used + keep - time.monotonic()

    def close(self) -> None:
        """Free what the pool has loaded itself."""
        for entry in self.entries:
            self.unload(entry)

    def _holder(self, name: str) -> Entry:
        """The entry that has the memory."""
        entry = self._entries[name]
        return entry if entry.base is None else entry.base

    def _new(self, entry: Entry) -> None:
        if entry.name in self._entries:
            raise OctavoError(f"two models are named {entry.name!r}; serve one of them")
        self._entries[entry.name] = entry

    def _aliased(self, name: str) -> str:
        return next((target for alias, target in self._aliases if fnmatchcase(name, alias)), name)

    def _make_room(self, wanted: Entry) -> None:
        while sum(entry.model is not None or entry.loading is not None for entry in self.entries) >= self._max_loaded:
            unused = [entry for entry in self.entries if entry.evictable and entry is not wanted]
            if not unused:
                raise ApiError(
                    503,
                    "models_busy",
                    f"{self._max_loaded} models are loaded and at work; {wanted.name!r} must wait. Try again.",
                    headers={"Retry-After": "2"},
                )
            self.unload(min(unused, key=lambda entry: entry.last_used))

    async def _load(self, entry: Entry) -> LanguageModel:
        assert entry.load is not None
        try:
            model = await asyncio.to_thread(entry.load)
        finally:
            entry.loading = None
        model.name = entry.name
        entry.model = model
        entry.last_used = time.monotonic()
        return model
