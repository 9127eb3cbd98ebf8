"""What all routes share: the models, the scheduler that runs them, limits and counters."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from aerogel.engine.scheduling import Scheduler, SchedulerOptions
from aerogel.serve.catalog import Catalog, Entry
from aerogel.serve.failures import Explainer, Failure
from aerogel.serve.metrics import Counters
from aerogel.serve.options import ServeOptions

if TYPE_CHECKING:
    from aerogel.engine.model import Model


class Service:
    """The models of a process and what runs them.

    Args:
        entries: what is known of each.
        models: by the same names: loaded ones, or functions that load them.
        options: of the server.
        scheduling: of the scheduler.
    """

    def __init__(
        self,
        entries: Sequence[Entry],
        models: Mapping[str, Model | Callable[[], Model]],
        options: ServeOptions | None = None,
        scheduling: SchedulerOptions | None = None,
    ) -> None:
        self.options = options or ServeOptions()
        self.catalog = Catalog(entries)
        self.counters = Counters()
        self.explainer = Explainer((entry.name, entry.path) for entry in entries)
        self.scheduling = replace(
            scheduling or SchedulerOptions(), on_step=self.counters.step, on_finished=self.counters.finished
        )
        self.scheduler = Scheduler(models, self.scheduling)
        self.counters.watch(lambda: self.scheduler.metrics, self._loaded_bytes)

    def _loaded_bytes(self) -> dict[str, int]:
        found = {}
        for name, model in self.scheduler.models.items():
            if model is not None and not model.closed:
                found[name] = model.nbytes
        return found

    def choose(self, name: str | None, task: str) -> Entry:
        """The model that a request means; see `Catalog.choose`."""
        return self.catalog.choose(name, task)

    async def model(self, entry: Entry) -> Model:
        """It, loaded."""
        return await self.scheduler.model(entry.name)

    def check_count(self, count: int, field: str) -> None:
        """Refuses requests without texts, and those with too many."""
        if not count:
            raise Failure("empty", f"`{field}` cannot be empty", field)
        if count > self.options.max_client_batch:
            most = self.options.max_client_batch
            raise Failure("value", f"batch size {count} > maximum allowed batch size {most}", field)
        self.counters.add("te_request_count", "method", "single" if count == 1 else "batch")

    def truncates(self, said: bool | None) -> bool:
        """Whether texts that are too long are cut."""
        return self.options.auto_truncate if said is None else said

    def prompt(self, name: str | None) -> dict[str, Any]:
        """What stands before texts that are embedded: the scheduler's arguments for it."""
        if name is not None:
            return {"prompt_name": name}
        return {"prompt": self.options.default_prompt, "prompt_name": self.options.default_prompt_name}
