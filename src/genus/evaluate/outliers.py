"""Does the log-probability tell rows that belong from rows that do not?"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.stats import rankdata


@dataclass(frozen=True)
class Outliers:
    """Area under the ROC curve and its standard error.

    1: every outlier scores below every inlier; 0.5: chance.
    """

    auroc: float
    stderr: float
    n_inside: int
    n_outside: int

    def __str__(self) -> str:
        return (
            f"AUROC {self.auroc:.3f} ± {self.stderr:.3f} "
            f"({self.n_inside} inside, {self.n_outside} outside)"
        )


def outlier_auroc(model: Any, inside: Any, outside: Any) -> Outliers:
    r"""How well ``model.log_prob`` separates rows of the data from rows of another source.

        A = P(log p(x_in) > log p(x_out)) + ½ P(equal)
        Var A = [A(1−A) + (n₁−1)(A/(2−A) − A²) + (n₂−1)(2A²/(1+A) − A²)] / n₁n₂

    A is the area under the ROC curve, by ranks; its variance is that of Hanley & McNeil (1982). An
    area below ½ is common for images of a simpler source (Nalisnick et al., 2019), so look at which
    way it errs.

    Parameters
    ----------
    model : Model
        Fitted, with ``log_prob``.
    inside, outside : rows
        Rows of the model's space, neither of them used in fit.

    Raises
    ------
    ValueError
        When a log-probability is NaN, and whatever ``log_prob`` raises.
    """
    a = np.asarray(model.log_prob(inside).nats)
    b = np.asarray(model.log_prob(outside).nats)
    if np.isnan(a).any() or np.isnan(b).any():
        raise ValueError(f"{type(model).__name__}.log_prob gave NaN: the model did not fit")
    return auroc(a, b)


def auroc(a: np.ndarray, b: np.ndarray) -> Outliers:
    """The area for log-probabilities a of rows inside and b of rows outside."""
    a, b = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    n, m = len(a), len(b)
    ranks = rankdata(np.concatenate([a, b]))[:n]
    A = float(ranks.sum() - n * (n + 1) / 2) / (n * m)
    variance = A * (1 - A)
    variance += (n - 1) * (A / (2 - A) - A**2)
    variance += (m - 1) * (2 * A**2 / (1 + A) - A**2)
    return Outliers(A, math.sqrt(max(variance / (n * m), 0.0)), n, m)
