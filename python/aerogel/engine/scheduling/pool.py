"""The models that a scheduler serves: loaded when they are asked for, closed when memory is short."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future

from aerogel._util.checks import one_of, shown
from aerogel.engine.model import Model
from aerogel.errors import AerogelError


class _Entry:
    """One model, or what loads it."""

    def __init__(self, given: Model | Callable[[], Model]) -> None:
        self.load = None if isinstance(given, Model) else given
        self.model = given if isinstance(given, Model) else None
        self.loading: Future[Model] | None = None
        self.users = 0
        self.used = 0


class Pool:
    """For any thread.

    Args:
        models: by name: loaded ones, or what loads them.
        max_bytes: as `SchedulerOptions.max_model_bytes`.

    Raises:
        AerogelError: there is none, or one is neither.
    """

    def __init__(self, models: Mapping[str, Model | Callable[[], Model]], max_bytes: int | None) -> None:
        if not models:
            raise AerogelError("models: expected at least one, got none")
        for name, given in models.items():
            if not isinstance(given, Model) and not callable(given):
                raise AerogelError(
                    f"models: expected a model or a function that loads it for {name!r}, got {shown(given)}"
                )
        self._entries = {name: _Entry(given) for name, given in models.items()}
        self._max_bytes = max_bytes
        self._lock = threading.Lock()
        self._uses = 0

    def loaded(self) -> dict[str, Model | None]:
        """All by name; None: not loaded now."""
        return {name: entry.model for name, entry in self._entries.items()}

    async def take(self, name: str) -> Model:
        """A model that is not closed for memory until `give` is called as often.

        Raises:
            AerogelError: there is no such model; or what its function raises.
        """
        entry = self._entries[one_of("model", name, self._entries)]
        with self._lock:
            entry.users += 1
            self._uses += 1
            entry.used = self._uses
            if entry.model is not None and (entry.load is None or not entry.model.closed):
                return entry.model
            if entry.loading is None:
                entry.loading = Future()
                thread = threading.Thread(
                    target=self._load, args=(entry, entry.loading), name="aerogel-load", daemon=True
                )
                thread.start()
            loading = entry.loading
        try:
            return await asyncio.shield(asyncio.wrap_future(loading))
        except BaseException:
            self.give(name)
            raise

    def keep(self, name: str) -> None:
        """As `take`, by one who has it already."""
        with self._lock:
            self._entries[name].users += 1

    def give(self, name: str) -> None:
        """It is not needed any more."""
        with self._lock:
            self._entries[name].users -= 1
            self._evict()

    @contextlib.contextmanager
    def use(self, name: str) -> Iterator[None]:
        """Gives a model that was taken at the end of the block."""
        try:
            yield
        finally:
            self.give(name)

    def _load(self, entry: _Entry, found: Future[Model]) -> None:
        assert entry.load is not None
        try:
            model = entry.load()
            if not isinstance(model, Model):
                raise AerogelError(f"models: expected a function that loads a model, got {shown(model)} from it")
        except BaseException as error:
            with self._lock:
                entry.loading = None  # the next one who asks tries again
            found.set_exception(error)
            return
        with self._lock:
            entry.model, entry.loading = model, None
            self._evict()
        found.set_result(model)

    def _evict(self) -> None:
        """Closes what nobody uses, the longest unused first, until the rest is small enough; never the one used last."""
        if self._max_bytes is None:
            return
        loaded = sorted((one for one in self._entries.values() if one.model is not None), key=lambda one: one.used)
        total = sum(one.model.nbytes for one in loaded if one.model is not None and not one.model.closed)
        for entry in loaded[:-1]:
            if total <= self._max_bytes:
                return
            if entry.load is not None and not entry.users and entry.model is not None and not entry.model.closed:
                total -= entry.model.nbytes
                entry.model.close()
                entry.model = None
