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
            f"AUROC {self.auroc:.3f} ± {self.stderr:.3f} ({self.n_inside} inside, "
            f"{self.n_outside} outside)"
        )


def outlier_auroc(model: Any, inside: Any, outside: Any) -> Outliers:
    r"""How well ``model.log_prob`` separates rows of the data from rows of another source.

    AUROC = P(log p(x_in) > log p(x_out)) + ½ P(equal), by ranks; its error by Hanley & McNeil
    (1982), A(1−A) + (n₁−1)(A/(2−A) − A²) + (n₂−1)(2A²/(1+A) − A²), over n₁n₂.

    inside, outside: rows of the model's space, neither of them used in fit. An AUROC below ½ is
    common for images of a simpler source (Nalisnick et al., 2019), so look at which way it errs.
    Raises ValueError when a log-probability is NaN, and whatever ``log_prob`` raises.
    """
    a = np.asarray(model.log_prob(inside).nats, dtype=np.float64)
    b = np.asarray(model.log_prob(outside).nats, dtype=np.float64)
    if np.isnan(a).any() or np.isnan(b).any():
        raise ValueError(f"{type(model).__name__}.log_prob gave NaN: the model did not fit")
    n, m = len(a), len(b)
    auroc = float(rankdata(np.concatenate([a, b]))[:n].sum() - n * (n + 1) / 2) / (n * m)
    q1, q2 = auroc / (2 - auroc), 2 * auroc**2 / (1 + auroc)
    variance = (auroc * (1 - auroc) + (n - 1) * (q1 - auroc**2) + (m - 1) * (q2 - auroc**2)) / (
        n * m
    )
    return Outliers(auroc, math.sqrt(max(variance, 0.0)), n, m)
