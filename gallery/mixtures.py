"""Mixtures by EM: Gaussians with four kinds of covariance, and Bernoullis on digits.

Writes mixtures.png into the folder given (gallery/figures).
"""

from __future__ import annotations

import sys
from pathlib import Path

import matplotlib
import numpy as np

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from sklearn.datasets import load_digits

from genus import CategoricalMixture, GaussianMixture, Independent
from genus.models.mixtures.components import full_covariances


def rows(n: int, seed: int) -> np.ndarray:
    """Three Gaussians in the plane, long, round and tilted."""
    rng = np.random.default_rng(seed)
    centres = np.array([[0.0, 3.0], [-3.0, -2.0], [3.0, -1.0]])
    A = np.array([[[2.0, 0.0], [0.0, 0.4]], [[0.7, 0.0], [0.0, 0.7]], [[0.5, 0.0], [1.2, 0.9]]])
    k = rng.choice(3, n, p=[0.4, 0.25, 0.35])
    return centres[k] + np.einsum("nij,nj->ni", A[k], rng.normal(size=(n, 2)))


def main(folder: Path) -> None:
    X, held = rows(500, 0), rows(5000, 1)
    fig = plt.figure(figsize=(10, 5), layout="constrained")
    top, bottom = fig.subfigures(2, 1, height_ratios=[0.95, 1])
    a, b = np.meshgrid(np.linspace(-7, 7, 200), np.linspace(-6, 6, 200))
    t = np.linspace(0, 2 * np.pi, 100)
    circle = np.stack([np.cos(t), np.sin(t)])
    for ax, kind in zip(top.subplots(1, 4), ("full", "tied", "diag", "spherical"), strict=True):
        m = GaussianMixture(3, kind, n_init=5, random_state=0).fit(X)
        log_p = m.score_samples(np.stack([a.ravel(), b.ravel()], 1)).reshape(a.shape)
        ax.contourf(a, b, log_p, levels=np.arange(-12, -1.9, 1), cmap="Blues", extend="min", vmax=3)
        ax.scatter(*X.T, s=1.5, color="#30383f", linewidths=0)
        for mean, S in zip(
            m.means_.numpy(), full_covariances(m.covariances_, kind, 3, 2).numpy(), strict=True
        ):
            ax.plot(*(mean[:, None] + 2 * np.linalg.cholesky(S) @ circle), color="#c8402f", lw=1.5)
        ax.set_title(f"{kind}: {m.score(held):.2f} nats a row".replace("-", "−"), fontsize=9)
        ax.set(xticks=[], yticks=[], xlim=(-7, 7), ylim=(-6, 6), aspect="equal")
        print(
            f"Gaussian mixture, {kind}: {m.score(held):.3f} nats a held-out "
            f"row (density), {m.n_iter_} iterations"
        )

    bits = (load_digits().data > 7).astype(int)
    train, test = bits[:1400], bits[1400:]
    base = Independent().fit(train, space="binary")
    print(f"independent histogram: {base.score(test):.3f} nats a held-out row")
    m = CategoricalMixture(20, n_init=3, random_state=0).fit(train, space="binary")
    print(
        f"mixture of 20 Bernoullis: {m.score(test):.3f} nats a held-out row, {m.n_iter_} iterations"
    )
    theta = np.stack([p[:, 1] for p in m.profiles().values()], 1)
    axes = bottom.subplots(2, 10)
    for ax, k in zip(axes.flat, np.argsort(-m.weights_.numpy()), strict=True):
        ax.imshow(theta[k].reshape(8, 8), cmap="gray_r", vmin=0, vmax=1)
        ax.set_title(f"π = {float(m.weights_[k]):.2f}", fontsize=8)
        ax.set(xticks=[], yticks=[])
    bottom.suptitle(
        "A mixture of 20 Bernoullis on binarised digits: weights π and probabilities of ink θ",
        fontsize=9,
    )
    folder.mkdir(parents=True, exist_ok=True)
    fig.savefig(folder / "mixtures.png", dpi=80)


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).parent / "figures"))
