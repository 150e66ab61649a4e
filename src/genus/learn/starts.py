"""Learning from several starts, of which the best is kept, and a word where it was cut short.

Where a start is drawn, several are, on a sample of the rows; each is learned from for a few steps,
and the likeliest goes on (Biernacki, Celeux & Govaert, 2003).
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from typing import Any

import torch
from sklearn.exceptions import ConvergenceWarning
from torch import Tensor

from genus.learn.fit import Fit
from genus.learn.protocol import Learner

TRIALS = 8  # starts that are tried for a few steps
STEPS = 3  # of each


def best_start(
    model: Learner,
    fit: Fit,
    n: int,
    begin: Callable[[], None],
    run: Callable[[], float],
    step: Callable[[], float] | None = None,
) -> None:
    """Learn from n starts and keep what the best of them learned.

    begin(): put the model where a start sets out. run(): learn from there, and say how good the
    result is; higher is better. step(): one cheap step of learning, and how good the model was
    before it; with it each of the n starts is the best of several after a few steps. A fit that
    goes on from an earlier one has one start: where it is. After Ctrl-C, or when the time is over,
    no further start sets out.
    """
    resumed = hasattr(model, "n_iter_")
    best = -math.inf
    tensors: dict[str, Tensor] = {}
    facts: dict[str, Any] = {}
    for _ in range(1 if resumed else n):
        if not resumed:
            model.history_, model.n_iter_ = [], 0
            _begin(model, fit, begin, step)
        value = run()
        if not tensors or value > best:
            best = value
            tensors = {k: v.clone() for k, v in model.state_dict().items()}
            facts = {k: v for k, v in vars(model).items() if k.endswith("_") and k[0] != "_"}
        if getattr(model, "interrupted_", False) or fit.time_left() <= 0:
            break
    model.load_state_dict(tensors)
    for name, fact in facts.items():
        setattr(model, name, fact)


def _begin(
    model: Learner, fit: Fit, begin: Callable[[], None], step: Callable[[], float] | None
) -> None:
    """Begin, or begin several times and go back to the best of them after a few steps."""
    if step is None:
        begin()
        return
    best = -math.inf
    tensors: dict[str, Tensor] = {}
    for _ in range(TRIALS):
        begin()
        for _ in range(STEPS):
            value = step()
            if fit.time_left() <= 0:
                break
        # as good but for rounding is no better: else units of the columns would tell
        if not tensors or value > best + 1e-9 * abs(best):
            best = value
            tensors = {k: v.clone() for k, v in model.state_dict().items()}
        if fit.time_left() <= 0:
            break
    model.load_state_dict(tensors)


def sample_rows(y: Tensor, weight: Tensor, most: int) -> tuple[Tensor, Tensor, Tensor]:
    """Rows to draw starts from: index, weight and rank of each; equal rows have one rank.

    They depend on the values of the rows, not on their order, repetition or units. All rows in
    lexicographic order; where more than ``most`` are distinct, that many at equal steps of weight.
    """
    values, place = torch.unique(y.nan_to_num(nan=math.inf), dim=0, return_inverse=True)
    index = torch.argsort(place, stable=True)
    weight = weight[index]
    if len(values) > most:
        total = weight.cumsum(0)
        at = (torch.arange(most, dtype=total.dtype, device=y.device) + 0.5) / most * total[-1]
        index = index[torch.searchsorted(total, at).clamp_max(len(index) - 1)]
        weight = torch.ones_like(at)
    return index, weight, place[index]


def warn_unless_converged(
    model: Any, method: str = "EM", limit: str = "max_iter", unit: str = "iterations"
) -> None:
    """Called by ``learn``: a ConvergenceWarning where the argument ``limit`` ended the fit.

    Who sets tol=0, or asks for one iteration, does not wait for convergence.
    """
    most = getattr(model, limit)
    if model.converged_ or model.tol <= 0 or not model.n_iter_ >= most > 1:
        return
    text = f"{method} stopped after {limit}={most} {unit} before tol={model.tol} was met"
    warnings.warn(text, ConvergenceWarning, stacklevel=5)
