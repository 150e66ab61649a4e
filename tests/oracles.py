"""Truths computed by hand, row by row, that several tests compare with."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from scipy import stats
from torch import Tensor


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


class GaussianField:
    """What a field says of x_t where data are N(mean, S), in closed form.

    E[x_0 | x_t] = μ + α S V⁻¹ (x_t − α μ),  E[ε | x_t] = σ V⁻¹ (x_t − α μ),  V = α² S + σ² I
    """

    def __init__(self, path: Any, mean: Tensor, cov: Tensor) -> None:
        self.path, self.mean, self.cov = path, mean, cov

    def __call__(self, x: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        alpha, sigma = float(self.path.alpha(t)), float(self.path.sigma(t))
        eye = torch.eye(len(self.cov), dtype=x.dtype)
        V = alpha**2 * self.cov + sigma**2 * eye
        white = torch.linalg.solve(V, (x - alpha * self.mean).T).T
        return self.mean + alpha * white @ self.cov, sigma * white


class MixtureField:
    """The same of a mixture Σ w_k N(m_k, s²) of one coordinate."""

    def __init__(self, path: Any, weights: Tensor, means: Tensor, s: float) -> None:
        self.path, self.weights, self.means, self.s = path, weights, means, s

    def __call__(self, x: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        alpha, sigma = float(self.path.alpha(t)), float(self.path.sigma(t))
        V = alpha**2 * self.s**2 + sigma**2
        apart = x - alpha * self.means  # (n, K)
        share = torch.softmax(self.weights.log() - 0.5 * apart.square() / V, 1)
        x0 = (share * (self.means + alpha * self.s**2 / V * apart)).sum(1, keepdim=True)
        e = (share * sigma / V * apart).sum(1, keepdim=True)
        return x0, e
