"""The Bayesian mixture of Gaussians: idle components, the bound by terms, few rows.

Writes bayesian_mixture.png into the folder given (gallery/figures).
"""

from __future__ import annotations

import sys
import warnings
from pathlib import Path

import matplotlib
import numpy as np

matplotlib.use("Agg")
import matplotlib.pyplot as plt

from genus import BayesianGaussianMixture, GaussianMixture

K = 8


def rows(n: int, seed: int = 0) -> np.ndarray:
    """Three Gaussians in the plane."""
    rng = np.random.default_rng(seed)
    centres = np.array([[0.0, 3.0], [-3.0, -2.0], [3.0, -1.0]])
    A = np.array([[[1.2, 0.0], [0.0, 0.4]], [[0.6, 0.5], [-0.5, 0.9]], [[0.5, 0.0], [0.4, 1.3]]])
    k = rng.choice(3, n, p=[0.4, 0.35, 0.25])
    return centres[k] + np.einsum("nij,nj->ni", A[k], rng.normal(size=(n, 2)))


def show(
    ax: plt.Axes, model: GaussianMixture | BayesianGaussianMixture, X: np.ndarray, title: str
) -> None:
    """Rows, and the ellipses of components of more than 1.5 rows, the heavier the wider."""
    ax.scatter(*X.T, s=5, color="#9aa5ad", linewidths=0)
    t = np.linspace(0, 2 * np.pi, 100)
    circle = np.stack([np.cos(t), np.sin(t)])
    used = 0
    for w, m, S in zip(model.weights_, model.means_, model.covariances_, strict=True):
        if w * len(X) > 1.5:
            used += 1
            x, y = m.numpy()[:, None] + 2 * np.linalg.cholesky(S.numpy()) @ circle
            ax.plot(x, y, color="#c8402f", lw=0.6 + 3 * float(w))
    ax.set(title=f"{title}: {used} of {K} in use", xlim=(-7, 7), ylim=(-6, 6), aspect="equal")


def main(folder: Path) -> None:
    warnings.filterwarnings("ignore", message="inference stopped|EM stopped")
    X, held = rows(400), rows(4000, seed=1)
    em = GaussianMixture(K, random_state=0, tol=1e-6, max_iter=500).fit(X)
    sweeps = BayesianGaussianMixture(
        K, concentration=0.01, random_state=0, tol=1e-6, max_iter=400
    ).fit(X)
    batches = BayesianGaussianMixture(
        K, concentration=0.01, inference="svi", batch_size=50, max_iter=180, random_state=0, tol=0.0
    ).fit(X)
    fig, axes = plt.subplots(2, 2, figsize=(10, 7.6), layout="constrained")
    show(axes[0, 0], em, X, "EM")
    show(axes[0, 1], sweeps, X, "Mean field, α = 0.01")

    ax = axes[1, 0]
    ax.plot(
        np.arange(1, len(sweeps.elbo_history_) + 1),
        sweeps.elbo_history_,
        color="#c8402f",
        label="coordinate ascent, a sweep",
    )
    ax.plot(
        np.arange(1, len(batches.elbo_history_) + 1),
        batches.elbo_history_,
        color="#1f77b4",
        label="stochastic, a pass (estimate)",
    )
    ax.set(title="The ELBO", xlabel="sweep", ylabel="nats, 400 rows", xscale="log")
    ax.legend(fontsize=8, loc="lower right")

    ax = axes[1, 1]
    sizes = [10, 15, 25, 40, 70, 120, 200, 400]
    scores = np.array(
        [
            [[m.fit(rows(n, seed=s)).score(held) for m in models()] for n in sizes]
            for s in range(2, 7)
        ]
    ).mean(0)
    for name, curve, colour in zip(
        ("EM, maximum likelihood", "mean field: Student's t"),
        scores.T,
        ("#5b6770", "#c8402f"),
        strict=True,
    ):
        ax.plot(sizes, curve, "o-", ms=3, color=colour, label=name)
    ax.set(
        title="Few rows: three components",
        xlabel="training rows",
        ylabel="nats a row, held out",
        xscale="log",
        ylim=(-12, -3),
    )
    ax.set_xticks(sizes, [str(n) for n in sizes])
    ax.minorticks_off()
    ax.legend(fontsize=8, loc="lower right")
    folder.mkdir(parents=True, exist_ok=True)
    fig.savefig(folder / "bayesian_mixture.png", dpi=80)
    for name, value in sweeps.elbo_terms_.items():
        print(f"{name:20} {value:10.2f} nats")
    print(f"{'ELBO':20} {sweeps.elbo_:10.2f} nats; stochastic {batches.elbo_:.2f}")
    for n, (a, b) in zip(sizes, scores, strict=True):
        print(f"{n:4} rows: held out, EM {a:10.3f}, mean field {b:7.3f} nats a row (density)")


def models() -> tuple[GaussianMixture, BayesianGaussianMixture]:
    return GaussianMixture(3, shrinkage=0, random_state=0), BayesianGaussianMixture(
        3, random_state=0
    )


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).parent / "figures"))
