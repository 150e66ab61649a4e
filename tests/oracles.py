"""Truths computed by hand, row by row, that several tests compare with."""

from __future__ import annotations

import numpy as np
from scipy import stats


def brute(
    row: np.ndarray, mean: np.ndarray, cov: np.ndarray
) -> tuple[float, np.ndarray, np.ndarray]:
    """log p(observed), the row at its conditional mean, and the conditional covariance in place."""
    o = ~np.isnan(row)
    filled, C = row.copy(), np.zeros_like(cov)
    gain = (
        cov[np.ix_(~o, o)] @ np.linalg.inv(cov[np.ix_(o, o)])
        if o.any()
        else np.zeros((len(row), 0))
    )
    filled[~o] = mean[~o] + gain @ (row[o] - mean[o])
    C[np.ix_(~o, ~o)] = cov[np.ix_(~o, ~o)] - gain @ cov[np.ix_(o, ~o)]
    log_p = stats.multivariate_normal(mean[o], cov[np.ix_(o, o)]).logpdf(row[o]) if o.any() else 0.0
    return float(log_p), filled, C
