"""One scheduler for all requests of a process: it owns the team of threads and shares steps among them, for asyncio."""

from aerogel.engine.scheduling.metrics import Finished, Metrics, Step
from aerogel.engine.scheduling.options import SchedulerOptions
from aerogel.engine.scheduling.results import Embedded, Piece, Scored
from aerogel.engine.scheduling.scheduler import Scheduler

__all__ = ["Embedded", "Finished", "Metrics", "Piece", "Scheduler", "SchedulerOptions", "Scored", "Step"]
