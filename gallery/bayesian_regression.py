"""Bayesian linear regression: a posterior as points come, and bands on a noisy sine.

Writes posterior_of_a_line.png and predictive_bands.png into the folder given (gallery/figures), and
prints mean squared errors, and how far gradient descent is from the closed form.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import torch

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from scipy.stats import multivariate_normal

from genus import BayesianLinearRegression, GaussianBasis, Polynomial

RED, BLUE, GREY = "#c8402f", "#1f77b4", "#9aa5ad"


def line(folder: Path) -> None:
    """N(w | m, Λ⁻¹) over (w0, w1) after 0, 1, 2 and 20 points, and six lines drawn from it.

    Above, the likelihood of the last point alone: a soft constraint, of lines that pass near it.
    """
    rng = np.random.default_rng(3)
    truth, noise, alpha = np.array([-0.3, 0.5]), 0.2, 2.0
    x = np.r_[-0.7, 0.6, rng.uniform(-1, 1, 18)]
    y = truth[0] + truth[1] * x + noise * rng.normal(size=20)
    grid = np.stack(np.meshgrid(np.linspace(-1.5, 1.5, 200), np.linspace(-1.5, 1.5, 200)), -1)
    t = np.array([-1.0, 1.0])
    fig, axes = plt.subplots(3, 4, figsize=(12, 9), layout="constrained")
    for (top, above, below), n in zip(axes.T, (0, 1, 2, 20), strict=True):
        if n == 0:
            top.axis("off")
        else:
            missed = y[n - 1] - grid @ np.array([1, x[n - 1]])
            likelihood = np.exp(-0.5 * (missed / noise) ** 2)
            top.contourf(grid[..., 0], grid[..., 1], likelihood, 12, cmap="Blues")
            top.plot(*truth, "+", color=RED, ms=12, mew=2)
            top.set(title=f"likelihood of point {n}", xlabel="$w_0$", aspect="equal")
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
    axes[0, 1].set_ylabel("$w_1$")
    axes[1, 0].set_ylabel("$w_1$")
    axes[2, 0].set_ylabel("y")
    axes[1, 0].legend(fontsize=8, loc="lower left")
    axes[2, 0].legend(fontsize=8, loc="lower left")
    fig.savefig(folder / "posterior_of_a_line.png", dpi=75)


def design(model: BayesianLinearRegression, t: np.ndarray) -> np.ndarray:
    """φ(t), with a 1 before it where there is an intercept."""
    phi = model.basis(torch.from_numpy(t)[:, None], torch.zeros(1), torch.ones(1)).numpy()
    return np.column_stack([np.ones(len(t)), phi]) if model.intercept else phi


def band(ax: plt.Axes, model: BayesianLinearRegression, x: np.ndarray, y: np.ndarray) -> str:
    """Mean, ± 2 standard deviations, six draws, points; the mean squared error in words."""
    t = np.linspace(0, 1, 200)
    model.fit(x[:, None], y)
    mean, std = model.predict(t[:, None], return_std=True)
    low, high = mean - 2 * std, mean + 2 * std
    ax.fill_between(t, low, high, color=RED, alpha=0.18, lw=0, label="mean ± 2 std. deviations")
    drawn = model.sample_weights(6, random_state=1) @ design(model, t).T
    ax.plot(t, drawn.T, color=BLUE, lw=0.6, alpha=0.7)
    ax.plot(t, mean, color=RED)
    ax.plot(t, np.sin(2 * np.pi * t), color=GREY, ls="--", label="the sine")
    ax.scatter(x, y, s=18, color="black", zorder=3)
    ax.set(xlabel="x", xlim=(0, 1), ylim=(-2.9, 2.9))
    return f"MSE {np.square(mean - np.sin(2 * np.pi * t)).mean():.3f}"


def descent(ax: plt.Axes, models: dict[str, BayesianLinearRegression], x: Any, y: Any) -> None:
    """Gradient descent on β/2 |y − Φw|² + α/2 |w|² from 0, against m in closed form."""
    marks = np.unique(np.logspace(0, 5, 120).astype(int))
    for (name, model), colour in zip(models.items(), (RED, BLUE), strict=True):
        phi = design(model, x)
        m = np.r_[[model.intercept_] if model.intercept else [], model.coef_]
        precision = model.alpha * np.eye(len(m)) + model.beta * phi.T @ phi
        eigenvalues = np.linalg.eigvalsh(precision)
        w, far = np.zeros(len(m)), []
        for k in range(1, marks[-1] + 1):
            w = w - (precision @ w - model.beta * phi.T @ y) / eigenvalues[-1]
            if k in marks:
                far.append(np.square(phi @ (w - m)).mean())
        ax.loglog(marks, far, color=colour, label=name)
        ratio = eigenvalues[-1] / eigenvalues[0]
        print(f"{name}: largest to least eigenvalue of Λ {ratio:.3g}; after {marks[-1]:,} steps")
        print(f"  the mean squared distance of Φw from Φm is {far[-1]:.2g}")
    ax.set(xlabel="steps of gradient descent", ylim=(1e-12, 1))
    ax.set_title("|Φw − Φm|²/n, to the closed form", fontsize=10)
    ax.legend(fontsize=7.5, loc="lower left")


def bands(folder: Path) -> None:
    """What 9 Gaussian bases and polynomials predict of a sine; gradient descent to the same m."""
    rng = np.random.default_rng(4)
    noise = 0.2
    x = rng.uniform(0, 1, 25)
    y = np.sin(2 * np.pi * x) + noise * rng.normal(size=25)
    known = {"beta": noise**-2, "random_state": 0}
    fig, axes = plt.subplots(2, 4, figsize=(12, 6.2), layout="constrained")
    for ax, n in zip(axes[0], (1, 2, 4, 25), strict=True):
        bumps = BayesianLinearRegression(
            GaussianBasis(9, low=0, high=1), alpha=1.0, intercept=False, **known
        )
        said = band(ax, bumps, x[:n], y[:n])
        ax.set_title(f"{n} point{'s' * (n > 1)}: {said}", fontsize=10)
    for ax, degree in zip(axes[1], (1, 3, 9), strict=False):
        power = BayesianLinearRegression(Polynomial(degree), alpha=1e-3, intercept=True, **known)
        said = band(ax, power, x, y)
        ax.set_title(f"25 points, degree {degree}: {said}", fontsize=10)
    descent(axes[1, 3], {"9 Gaussian bases": bumps, "polynomial of degree 9": power}, x, y)
    axes[0, 0].legend(fontsize=7.5, loc="lower left")
    axes[0, 0].set_ylabel("9 Gaussian bases")
    axes[1, 0].set_ylabel("polynomials")
    fig.savefig(folder / "predictive_bands.png", dpi=75)


def main(folder: Path) -> None:
    line(folder)
    bands(folder)


if __name__ == "__main__":
    out = Path(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).parent / "figures")
    out.mkdir(parents=True, exist_ok=True)
    main(out)
