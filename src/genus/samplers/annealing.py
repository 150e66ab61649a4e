"""Annealed importance sampling of any energy (Neal, 2001): log Z, and how far to trust it."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class LogPartition:
    """log Z in nats, with what is needed to trust it.

    stderr: its standard error (0: enumerated). ess: effective sample size of the weights, of
        ``chains``.
    moved: how far the value went when the number of temperatures was doubled to the present one.
    reverse: the estimate from annealing the other way, from the model's own samples: a diagnostic
    that errs on the other side.
    """

    value: float
    stderr: float = 0.0
    ess: float = math.inf
    chains: int = 0
    moved: float = 0.0
    reverse: float = math.nan
    detail: dict[str, Any] = field(default_factory=dict)

    @property
    def exact(self) -> bool:
        """Was it enumerated?"""
        return self.chains == 0


def log_mean_weight(log_w: Tensor) -> tuple[float, float, float]:
    """log (1/n) Σ w, its standard error, and the effective sample size (Σ w)²/Σ w²."""
    w = torch.exp(log_w.double() - log_w.max())
    n = len(w)
    value = float(log_w.max() + torch.log(w.mean()))
    stderr = float(w.std() / w.mean() / math.sqrt(n)) if n > 1 else math.inf
    return value, stderr, float(w.sum().square() / w.square().sum())


def anneal(
    step: Callable[[Any, float, float], tuple[Any, Tensor]],
    state: Any,
    temperatures: Sequence[float],
) -> tuple[Any, Tensor]:
    """Annealed importance sampling: the log-weights, (n,), of a run along inverse temperatures.

    Neal (2001). ``step(state, now, next)`` returns log f_next(x) − log f_now(x) at the present
    state, and the state moved by a transition that leaves f_next alone. E exp(log-weight) = Z_last
    / Z_first; upside down for falling ones.
    """
    total: Tensor | float = 0.0
    for now, then in itertools.pairwise(temperatures):
        state, gain = step(state, now, then)
        total = total + gain
    return state, torch.as_tensor(total)


def temperatures(n: int, power: float = 2.0) -> list[float]:
    """n + 1 inverse temperatures from 0 to 1, β = 1 − (1 − u)^power: closer together near 1."""
    u = torch.linspace(0, 1, n + 1, dtype=torch.float64)
    return [float(b) for b in 1 - (1 - u) ** power]
