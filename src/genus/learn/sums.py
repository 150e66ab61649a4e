"""Sums: EM, counting and closed forms iterate ``statistics`` and ``maximise``."""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable

import torch
from torch import Tensor

from genus.learn import processes
from genus.learn.fit import DivergenceError, Fit
from genus.learn.progress import Bar, CtrlC
from genus.learn.protocol import Learner
from genus.learn.rows import Rows


def solve(
    model: Learner,
    fit: Fit,
    *,
    max_iter: int,
    tol: float,
    start: int = 0,
    stage: str = "",
    chunk: int = 8192,
) -> bool:
    """Iterate θ ← maximise(Σ statistics(x; θ)) until the mean log-likelihood hardly gains.

    That is less than ``tol`` nats. ``statistics(x)`` (or ``statistics(x, weight)``) returns a dict
    of sums, among them ``log_likelihood`` and ``weight``. Returns whether it converged;
    ``history_`` gains a line an iteration.
    """
    begun = time.perf_counter()
    limit = fit.time_left()
    previous = -math.inf
    converged = False
    history = list(getattr(model, "history_", []))
    with (
        torch.no_grad(),
        CtrlC() as ctrl_c,
        Bar(fit.trainer.progress, type(model).__name__, max_iter, limit) as bar,
    ):
        try:
            for i in range(start, max_iter):
                sums = accumulate(model, fit.rows, chunk)
                check_sums(model, sums)
                now = float(sums["log_likelihood"] / sums["weight"])
                if not math.isfinite(now):
                    cure = "rescale the data or raise the regularisation"
                    raise DivergenceError(
                        f"the log-likelihood is not finite at iteration {i + 1}: {cure}"
                    )
                model.maximise(sums)
                model.n_iter_ = i + 1
                history.append(
                    {
                        "stage": stage,
                        "epoch": i + 1,
                        "objective": -now,
                        "seconds": time.perf_counter() - begun,
                    }
                )
                bar.update(i + 1, i, -now, len(fit.rows))
                processes.check(ctrl_c)
                converged = abs(now - previous) < tol
                previous = now
                over = limit < math.inf and processes.agreed(time.perf_counter() - begun) > limit
                if converged or over:
                    break
        except KeyboardInterrupt:
            warnings.warn(
                f"interrupted at iteration {getattr(model, 'n_iter_', start)}: "
                "the model is usable as it is",
                stacklevel=2,
            )
            model.interrupted_ = True
    model.history_ = history
    return converged


def check_sums(model: Learner, sums: dict[str, Tensor]) -> None:
    """Raise ValueError where ``statistics`` left out what the loop goes by."""
    missing = [name for name in ("log_likelihood", "weight") if name not in sums]
    if missing:
        raise ValueError(
            f"{type(model).__name__}.statistics returned {', '.join(sums)}, but no "
            f"{' and no '.join(missing)}: solve goes by log_likelihood, the sum of log p(x), over "
            "weight, the number of rows. Where one pass over the rows is the answer, define "
            "learn(fit) as self.maximise(accumulate(self, fit.rows))"
        )


def accumulate(
    model: Learner,
    rows: Rows,
    chunk: int = 8192,
    statistics: Callable[..., dict[str, Tensor]] | None = None,
) -> dict[str, Tensor]:
    """Σ statistics over all rows, chunk by chunk; by default those of the model."""
    if statistics is None and not hasattr(model, "statistics"):
        raise NotImplementedError(
            f"{type(model).__name__} does not define statistics(x): let it return a dict of sums "
            "over the rows of x, which maximise(sums) turns into parameters"
        )
    of = statistics or model.statistics
    sums: dict[str, Tensor] = {}
    begins = range(0, len(rows), chunk)
    mine = processes.mine(begins)
    for i in mine or begins[:1]:
        batch = rows.take(slice(i, i + chunk), model.rng)
        weight = () if rows.weight is None else (rows.weight[i : i + chunk],)
        part = of(*batch, *weight)
        if not isinstance(part, dict):
            raise TypeError(
                f"{type(model).__name__}.statistics returned a {type(part).__name__}: return a "
                "dict of sums over the rows of x"
            )
        if not mine:  # what a process without a chunk adds
            part = {k: torch.zeros_like(v) for k, v in part.items()}
        sums = {k: sums[k] + v for k, v in part.items()} if sums else dict(part)
    sums = processes.add_up(sums)
    return model.summed(sums) if statistics is None and hasattr(model, "summed") else sums
