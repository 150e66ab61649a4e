"""Bayesian linear regression: a posterior as points come, and bands on a noisy sine.

Writes posterior_of_a_line.png and predictive_bands.png into the folder given (gallery/figures).
"""

from __future__ import annotations

import sys
from pathlib import Path

import matplotlib
import numpy as np

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from scipy.stats import multivariate_normal

from genus import BayesianLinearRegression, GaussianBasis

RED, BLUE, GREY = "#c8402f", "#1f77b4", "#9aa5ad"


def line(folder: Path) -> None:
    """N(w | m, Λ⁻¹) over (w0, w1) after 0, 1, 2 and 20 points, and six lines drawn from it."""
    rng = np.random.default_rng(3)
    truth, noise, alpha = np.array([-0.3, 0.5]), 0.2, 2.0
    x = np.r_[-0.7, 0.6, rng.uniform(-1, 1, 18)]
    y = truth[0] + truth[1] * x + noise * rng.normal(size=20)
    grid = np.stack(np.meshgrid(np.linspace(-1.5, 1.5, 200), np.linspace(-1.5, 1.5, 200)), -1)
    t = np.array([-1.0, 1.0])
    fig, axes = plt.subplots(2, 4, figsize=(12, 6), layout="constrained")
    for (above, below), n in zip(axes.T, (0, 1, 2, 20), strict=True):
        if n == 0:  # the prior
            mean, cov = np.zeros(2), np.eye(2) / alpha
            lines = rng.normal(size=(6, 2)) / np.sqrt(alpha)
        else:
            model = BayesianLinearRegression(
                alpha=alpha, beta=noise**-2, intercept=True, random_state=0
            ).fit(x[:n, None], y[:n])
            mean, cov = np.r_[model.intercept_, model.coef_], model.covariance_
            lines = model.sample_weights(6, random_state=1)
        above.contourf(
            grid[..., 0], grid[..., 1], multivariate_normal(mean, cov).pdf(grid), 12, cmap="Blues"
        )
        above.plot(*truth, "+", color=RED, ms=12, mew=2, label="truth")
        above.set(
            title="the prior" if n == 0 else f"{n} point{'s' * (n > 1)}",
            xlabel="$w_0$",
            aspect="equal",
        )
        below.plot(t, (lines[:, :1] + lines[:, 1:] * t).T, color=BLUE, lw=1)
        below.plot(t, truth[0] + truth[1] * t, color=RED, lw=1.2, ls="--", label="truth")
        below.scatter(x[:n], y[:n], s=22, color="black", zorder=3)
        below.set(xlabel="x", xlim=(-1, 1), ylim=(-1.5, 1.5), aspect=2 / 3)
    axes[0, 0].set_ylabel("$w_1$")
    axes[1, 0].set_ylabel("y")
    axes[0, 0].legend(fontsize=8, loc="lower left")
    axes[1, 0].legend(fontsize=8, loc="lower left")
    fig.savefig(folder / "posterior_of_a_line.png", dpi=75)


def bands(folder: Path) -> None:
    """The predictive mean ± 2 standard deviations after 1, 2, 4 and 25 points, 9 Gaussian bases."""
    rng = np.random.default_rng(4)
    noise = 0.2
    x = rng.uniform(0, 1, 25)
    y = np.sin(2 * np.pi * x) + noise * rng.normal(size=25)
    t = np.linspace(0, 1, 200)[:, None]
    basis = GaussianBasis(9, low=0, high=1)
    fig, axes = plt.subplots(1, 4, figsize=(12, 3.2), layout="constrained", sharey=True)
    for ax, n in zip(axes, (1, 2, 4, 25), strict=True):
        model = BayesianLinearRegression(
            basis, alpha=1.0, beta=noise**-2, intercept=False, random_state=0
        ).fit(x[:n, None], y[:n])
        mean, std = model.predict(t, return_std=True)
        ax.fill_between(
            t[:, 0],
            mean - 2 * std,
            mean + 2 * std,
            color=RED,
            alpha=0.18,
            lw=0,
            label="mean ± 2 standard deviations",
        )
        ax.plot(t, mean, color=RED)
        ax.plot(t, np.sin(2 * np.pi * t), color=GREY, ls="--", label="the sine")
        ax.scatter(x[:n], y[:n], s=18, color="black", zorder=3)
        ax.set(title=f"{n} point{'s' * (n > 1)}", xlabel="x", xlim=(0, 1), ylim=(-2.9, 2.9))
    axes[0].legend(fontsize=7.5, loc="lower left")
    axes[0].set_ylabel("y")
    fig.savefig(folder / "predictive_bands.png", dpi=75)


def main(folder: Path) -> None:
    line(folder)
    bands(folder)


if __name__ == "__main__":
    out = Path(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).parent / "figures")
    out.mkdir(parents=True, exist_ok=True)
    main(out)
