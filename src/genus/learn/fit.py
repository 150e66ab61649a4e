"""What a model is given to learn from: rows, settings, and how much time there is."""

from __future__ import annotations

import contextlib
import contextvars
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from genus.learn.rows import Rows
from genus.learn.trainer import Trainer

State = tuple[dict[str, Tensor], dict[str, Any]]  # of a run, as a checkpoint holds it


class DivergenceError(FloatingPointError):
    """Training left the finite numbers and no earlier state could save it."""


_LIMIT: contextvars.ContextVar[float | None] = contextvars.ContextVar(
    "genus_time_limit", default=None
)


@contextlib.contextmanager
def time_limit(seconds: float | None) -> Iterator[None]:
    """Inside this context every fit ends after so many seconds with a usable model."""
    token = _LIMIT.set(seconds)
    try:
        yield
    finally:
        _LIMIT.reset(token)


@dataclass
class Fit:
    """What ``Model.learn`` is given: rows, held-out rows, settings and a state to resume from."""

    rows: Rows
    held: Rows | None = None
    trainer: Trainer = field(default_factory=Trainer)
    seed: int = 0
    resume: State | None = None
    begun: float = field(default_factory=time.perf_counter)

    @property
    def fresh(self) -> bool:
        """Is there no state to go on from, so that ``start`` must make the first one?

        Checkpoints of genus 0.1 do not hold all that ``start`` leaves behind.
        """
        return self.resume is None or "notes" not in self.resume[1]

    def time_left(self) -> float:
        """Seconds left of this fit's budget; inf when it has none.

        The budget is ``max_time`` or :func:`time_limit`.
        """
        limits = [s for s in (self.trainer.max_time, _LIMIT.get()) if s is not None]
        return min(limits) - (time.perf_counter() - self.begun) if limits else math.inf
