"""Where one descent stands between two steps: all that a checkpoint holds."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from genus.learn.average import Average
from genus.learn.fit import Fit
from genus.learn.players import Players
from genus.learn.protocol import Learner
from genus.learn.trainer import BASE, Trainer


@dataclass
class Counters:
    """The numbers of a run; a checkpoint holds them under these names."""

    step: int = 0  # steps taken
    epoch: int = 0  # passes over the rows that are done
    batch: int = 0  # batches of this pass that are done
    bad_epochs: int = 0  # passes since the held-out objective was best
    rollbacks: int = 0  # times that training diverged
    elapsed: float = 0.0  # seconds, earlier sessions included
    lr_scale: float = 1.0  # halved at every divergence
    scale: float | None = None  # size of the first loss
    best_value: float = math.inf  # of the held-out objective


class Run:
    """One descent and its state."""

    def __init__(self, model: Learner, fit: Fit, trainer: Trainer, stage: str) -> None:
        self.model = model
        self.fit = fit
        self.stage = stage
        self.t = trainer.over(BASE).check()
        self.batch_size = int(self.t.batch_size or 1)
        self.batches = math.ceil(len(fit.rows) / self.batch_size)  # of a pass
        self.at = Counters()
        self.weights = dict(model.named_parameters())
        self.players = Players(model, self.t)
        average = Average(model, self.t.ema) if self.t.ema else None
        self.average = average if average and average.values else None
        self.best: dict[str, Tensor] | None = None  # state_dict at the best held-out objective
        self.total: float | Tensor = 0.0  # of the loss over this pass
        self.history: list[dict[str, Any]] = []
        self.scaler: torch.amp.GradScaler | None = None  # of float16
        self.work: int | None = None  # multiply-adds of a step's losses, once they are counted

    def where(self) -> str:
        """The place, for messages."""
        return f"{self.stage} epoch {self.at.epoch + 1}, step {self.at.step + 1}".strip()

    def next_pass(self) -> None:
        """Begin another pass over the rows."""
        self.at.epoch += 1
        self.at.batch = 0
        self.total = 0.0
        self.players.forget()

    @contextlib.contextmanager
    def naming_errors(self) -> Iterator[None]:
        """An error inside this context says which model met it, and where."""
        try:
            yield
        except Exception as e:
            e.add_note(f"(while training {type(self.model).__name__}, {self.where()})")
            raise
