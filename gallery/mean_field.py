"""Mean field, shown: q against p as it learns, both directions of KL, and the gap.

Writes mean_field.png into the folder given (gallery/figures), and prints the gap between the ELBO
and the enumerated evidence.
"""

from __future__ import annotations

import itertools
import math
import sys
import warnings
from pathlib import Path

import matplotlib
import numpy as np

matplotlib.use("Agg")
import matplotlib.pyplot as plt

from genus import BayesianGaussianMixture

EXACT, REVERSE, FORWARD = "#5b6770", "#c8402f", "#1f77b4"
SIX = np.array([-2.1, -1.2, -0.5, 0.4, 1.5, 2.3])
APART = np.array([-6.2, -5.6, -5.1, 5.2, 5.9, 6.1])
VARIANCE, SPREAD = 1.0, 3.0  # σ², σ_0


# ---------------------------------------------------------------------- a correlated Gaussian


def coordinate_ascent(
    mean: np.ndarray, precision: np.ndarray, start: tuple[float, float], updates: int
) -> list[tuple[np.ndarray, np.ndarray]]:
    """(means, variances) of q after each update q_i = N(μ_i − Λ_ij (m_j − μ_j)/Λ_ii, 1/Λ_ii)."""
    m, v = np.array(start), np.array([0.05, 0.05])
    path = [(m.copy(), v.copy())]
    for t in range(updates):
        i, j = t % 2, 1 - t % 2
        m[i] = mean[i] - precision[i, j] * (m[j] - mean[j]) / precision[i, i]
        v[i] = 1 / precision[i, i]
        path.append((m.copy(), v.copy()))
    return path


def kl_to(
    mean: np.ndarray, precision: np.ndarray, m: np.ndarray, v: np.ndarray
) -> tuple[float, float]:
    """(energy E_q[log p], entropy of q); for a normalised p, KL[q‖p] = −energy − entropy."""
    energy = 0.5 * np.linalg.slogdet(precision)[1] - math.log(2 * math.pi)
    energy -= 0.5 * ((m - mean) @ precision @ (m - mean) + precision.diagonal() @ v)
    return float(energy), float(0.5 * np.log(2 * math.pi * math.e * v).sum())


def ellipse(
    ax: plt.Axes,
    mean: np.ndarray,
    cov: np.ndarray,
    scales: tuple[float, ...] = (1.0, 2.0),
    **style: object,
) -> None:
    """Contours one and two standard deviations out."""
    t = np.linspace(0, 2 * math.pi, 200)
    A = np.linalg.cholesky(cov)
    label = style.pop("label", None)
    for i, s in enumerate(scales):
        x, y = mean[:, None] + s * A @ np.stack([np.cos(t), np.sin(t)])
        ax.plot(x, y, label=label if i == 0 else None, **style)


# ---------------------------------------------------------------------- the mixture


def log_evidence(x: np.ndarray, K: int = 2) -> float:
    """log p(x): a sum over K^n assignments, a Gaussian integral each."""
    n = len(x)
    terms = []
    for z in itertools.product(range(K), repeat=n):
        cov = VARIANCE * np.eye(n) + SPREAD**2 * np.equal.outer(z, z)
        terms.append(
            -n * math.log(K)
            - 0.5 * (x @ np.linalg.solve(cov, x) + np.linalg.slogdet(2 * math.pi * cov)[1])
        )
    return float(np.logaddexp.reduce(terms))


def log_posterior(x: np.ndarray, grid: np.ndarray) -> np.ndarray:
    """log p(μ_1, μ_2 | x) on a grid, but for a constant: here the sums over z factorise."""
    a, b = np.meshgrid(grid, grid)
    log_p = -(a**2 + b**2) / (2 * SPREAD**2)
    for v in x:
        log_p = log_p + np.logaddexp(
            -((v - a) ** 2) / (2 * VARIANCE), -((v - b) ** 2) / (2 * VARIANCE)
        )
    return log_p - log_p.max()


def sweeps(x: np.ndarray, n: int) -> list[BayesianGaussianMixture]:
    """The mixture after 1, …, n sweeps from one vague start."""
    share = 0.5 + 0.02 * np.sign(x)
    r = np.stack([1 - share, share], 1)
    settings = {
        "known_variance": VARIANCE,
        "mean_scale": SPREAD,
        "mean_prior": 0.0,
        "weights": [0.5, 0.5],
        "tol": 0.0,
    }
    return [
        BayesianGaussianMixture(2, init=r, max_iter=i, **settings).fit(x[:, None])
        for i in range(1, n + 1)
    ]


def show_mixture(
    ax: plt.Axes,
    x: np.ndarray,
    models: list[BayesianGaussianMixture],
    which: list[int],
    reach: float,
) -> None:
    grid = np.linspace(-reach, reach, 240)
    ax.contour(
        grid,
        grid,
        np.exp(log_posterior(x, grid)),
        levels=[0.03, 0.14, 0.6],
        colors=EXACT,
        linewidths=1.2,
    )
    for j, i in enumerate(which):
        m = models[i - 1]
        var = VARIANCE / (VARIANCE / SPREAD**2 + m.counts_.numpy())
        ellipse(
            ax,
            m.means_[:, 0].numpy(),
            np.diag(var),
            (2.0,),
            color=plt.cm.Reds(0.35 + 0.6 * j / (len(which) - 1)),
            lw=1.4,
            label=f"q, sweep {i}",
        )
    ax.plot([], [], color=EXACT, label="p(μ | x), exact")
    ax.set(xlabel="μ₁", ylabel="μ₂", xlim=(-reach, reach), ylim=(-reach, reach), aspect="equal")
    ax.legend(loc="lower left", fontsize=7)


def show_gap(ax: plt.Axes, elbo: np.ndarray, truth: float, title: str) -> None:
    t = np.arange(1, len(elbo) + 1)
    ax.axhline(truth, color=EXACT, label=f"log p(x) = {truth:.2f}")
    ax.plot(t, elbo, "o-", color=REVERSE, ms=3, label=f"ELBO → {elbo[-1]:.2f}")
    ax.fill_between(
        t, elbo, truth, color=REVERSE, alpha=0.12, label=f"KL[q‖p] → {truth - elbo[-1]:.3f}"
    )
    ax.set(xlabel="sweep", ylabel="nats", title=title)
    ax.xaxis.get_major_locator().set_params(integer=True)
    ax.legend(fontsize=8)


def main(folder: Path) -> None:
    warnings.filterwarnings("ignore", message="inference stopped")
    fig, axes = plt.subplots(2, 3, figsize=(12, 7.6), layout="constrained")

    mean, cov = np.array([0.0, 0.0]), np.array([[1.0, 0.85], [0.85, 1.0]])
    precision = np.linalg.inv(cov)
    path = coordinate_ascent(mean, precision, (-1.6, 1.9), 16)
    ax = axes[0, 0]
    ellipse(ax, mean, cov, color=EXACT, lw=1.6, label="p")
    for i, shade in ((0, 0.3), (1, 0.45), (2, 0.6), (4, 0.8), (16, 1.0)):
        ellipse(
            ax,
            path[i][0],
            np.diag(path[i][1]),
            (2.0,),
            color=plt.cm.Reds(shade),
            lw=1.4,
            label=f"q, update {i}",
        )
    ax.plot(*np.stack([m for m, _ in path]).T, ".-", color="k", lw=0.7, ms=3)
    ax.set(
        title="Coordinate ascent on a correlated Gaussian",
        xlabel="z₁",
        ylabel="z₂",
        xlim=(-3.2, 3.2),
        ylim=(-3.2, 3.2),
        aspect="equal",
    )
    ax.legend(loc="lower right", fontsize=7)

    ax = axes[0, 1]
    ellipse(ax, mean, cov, color=EXACT, lw=1.6, label="p: variances 1, correlation 0.85")
    ellipse(
        ax,
        mean,
        np.diag(1 / precision.diagonal()),
        (2.0,),
        color=REVERSE,
        lw=1.6,
        label=f"min KL[q‖p]: variances $1/\\Lambda_{{ii}}$ = {1 / precision[0, 0]:.2f}",
    )
    ellipse(
        ax,
        mean,
        np.diag(cov.diagonal()),
        (2.0,),
        color=FORWARD,
        lw=1.6,
        label="min KL[p‖q]: variances $\\Sigma_{ii}$ = 1",
    )
    ax.set(
        title="The two directions of KL",
        xlabel="z₁",
        ylabel="z₂",
        xlim=(-3.2, 3.2),
        ylim=(-3.2, 3.2),
        aspect="equal",
    )
    ax.legend(loc="lower right", fontsize=7)

    ax = axes[0, 2]
    energy, entropy = np.array([kl_to(mean, precision, m, v) for m, v in path]).T
    t = np.arange(len(path))
    ax.plot(t, energy, "s-", ms=3, color=FORWARD, label="energy  E log p")
    ax.plot(t, entropy, "^-", ms=3, color="#2a9d5c", label="entropy of q")
    ax.plot(t, energy + entropy, "o-", ms=3, color=REVERSE, label="ELBO = energy + entropy")
    ax.axhline(0, color=EXACT, label="log of p's normaliser, 0")
    ax.xaxis.get_major_locator().set_params(integer=True)
    ax.set(
        title="Energy + entropy, same Gaussian", xlabel="update", ylabel="nats", ylim=(-4.6, 2.4)
    )
    ax.legend(fontsize=8, loc="lower right")

    close, far = sweeps(SIX, 12), sweeps(APART, 5)
    show_mixture(axes[1, 0], SIX, close, [1, 2, 3, 4, 12], 5.2)
    axes[1, 0].set_title("Posterior of two means, six points")
    truth, truth_far = log_evidence(SIX), log_evidence(APART)
    elbo, elbo_far = np.array(close[-1].elbo_history_), np.array(far[-1].elbo_history_)
    show_gap(axes[1, 1], elbo, truth, "The gap closes sweep by sweep")
    show_gap(
        axes[1, 2], elbo_far, truth_far, f"Points far apart: log 2! = {math.log(2):.3f} is left"
    )
    folder.mkdir(parents=True, exist_ok=True)
    fig.savefig(folder / "mean_field.png", dpi=80)
    for name, a, b in (("near", elbo[-1], truth), ("far apart", elbo_far[-1], truth_far)):
        print(
            f"six points {name}: ELBO {a:.4f}, log evidence by 2^6 assignments {b:.4f}, gap "
            f"{b - a:.4f} nats (log 2 = {math.log(2):.4f})"
        )


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).parent / "figures"))
