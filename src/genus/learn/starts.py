"""Learning from several starts, of which the best is kept, and a word where it was cut short."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from typing import Any

from sklearn.exceptions import ConvergenceWarning
from torch import Tensor

from genus.learn.fit import Fit
from genus.learn.protocol import Learner


def best_start(
    model: Learner, fit: Fit, n: int, begin: Callable[[], None], run: Callable[[], float]
) -> None:
    """Learn from n starts and keep what the best of them learned.

    begin(): put the model where a start sets out. run(): learn from there, and say how good the
    result is; higher is better. A fit that goes on from an earlier one has one start: where it is.
    After Ctrl-C, or when the time is over, no further start sets out.
    """
    resumed = hasattr(model, "n_iter_")
    best = -math.inf
    tensors: dict[str, Tensor] = {}
    facts: dict[str, Any] = {}
    for _ in range(1 if resumed else n):
        if not resumed:
            model.history_, model.n_iter_ = [], 0
            begin()
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
