"""Probabilistic PCA and factor analysis on digits: loadings, noise, gaps filled in, z.

Writes linear_latent.png into the folder given (gallery/figures).
"""

from __future__ import annotations

import sys
from pathlib import Path

import matplotlib
import numpy as np

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from sklearn.datasets import load_digits

from genus import FactorAnalysis, ProbabilisticPCA

SHOWN = 8


def picture(ax: plt.Axes, x: np.ndarray, title: str = "", largest: float | None = None) -> None:
    """An 8 × 8 image: ink where all is positive, blue to red about 0 with ``largest``.

    Missing pixels are ochre.
    """
    colours = plt.get_cmap("gray_r" if largest is None else "RdBu_r").with_extremes(bad="#e0b050")
    low, high = (0.0, 1.0) if largest is None else (-largest, largest)
    ax.imshow(np.ma.masked_invalid(x.reshape(8, 8)), cmap=colours, vmin=low, vmax=high)
    ax.set_title(title, fontsize=8)
    ax.set(xticks=[], yticks=[])


def directions(axes: np.ndarray, model: ProbabilisticPCA | FactorAnalysis) -> None:
    """Mean, the columns of W, and the standard deviation of the noise."""
    W = model.loadings_.numpy()
    picture(axes[0], model.mean_.numpy(), "mean μ")
    for k in range(SHOWN - 2):
        picture(axes[1 + k], W[:, k], f"$w_{k + 1}$", float(np.abs(W[:, k]).max()))
    picture(axes[-1], model.noise_.sqrt().numpy() / 0.3, "noise $\\psi^{1/2}$")


def main(folder: Path) -> None:
    X, y = load_digits(return_X_y=True)
    X = X / 16
    rng = np.random.default_rng(0)
    order = rng.permutation(len(X))
    train, test, digit = X[order[400:]], X[order[:400]], y[order[:400]]
    pca, factors = ProbabilisticPCA(20).fit(train), FactorAnalysis(20).fit(train)

    fig = plt.figure(figsize=(10, 9.6), layout="constrained")
    top, bottom = fig.subfigures(2, 1, height_ratios=[1.35, 1])
    axes = top.subplots(5, SHOWN)
    directions(axes[0], pca)
    directions(axes[1], factors)
    shown = test[[int(np.flatnonzero(digit == c)[0]) for c in range(SHOWN)]]
    scattered = np.where(rng.random(shown.shape) < 0.2, np.nan, shown)
    half = np.where(np.arange(64) < 32, shown, np.nan)
    gaps = np.where(np.arange(SHOWN)[:, None] < SHOWN // 2, scattered, half)
    filled = pca.reconstruct(gaps)
    for j in range(SHOWN):
        picture(axes[2, j], gaps[j], "20 % missing" if j < SHOWN // 2 else "half missing")
        picture(axes[3, j], np.where(np.isnan(gaps[j]), filled[j], gaps[j]))
        picture(axes[4, j], shown[j])
    for row, name in zip(
        axes, ("PCA", "factor\nanalysis", "seen", "E[x | seen]", "truth"), strict=True
    ):
        row[0].set_ylabel(name, fontsize=9)

    plane = ProbabilisticPCA(2).fit(train)
    some = digit < 5
    holes = np.where(rng.random(test.shape) < 0.8, np.nan, test)
    t = np.linspace(0, 2 * np.pi, 60)
    circle = np.stack([np.cos(t), np.sin(t)])
    axes = bottom.subplots(1, 2, sharex=True, sharey=True)
    for ax, rows, title in (
        (axes[0], test, "Posterior of z, all pixels seen"),
        (axes[1], holes, "80 % of the pixels missing"),
    ):
        mean, cov = plane.posterior(rows[some])
        for i, (m, C, c) in enumerate(zip(mean, cov, digit[some], strict=True)):
            ax.plot(*m, ".", color=f"C{c}", ms=4)
            if i % 4 == 0:  # one standard deviation; all would hide the points
                ax.plot(
                    *(m[:, None] + np.linalg.cholesky(C) @ circle), color=f"C{c}", lw=0.6, alpha=0.7
                )
        ax.set(title=title, xlabel="$z_1$", ylabel="$z_2$")
    for c in range(5):
        axes[0].plot([], [], ".", color=f"C{c}", label=str(c))
    axes[0].legend(fontsize=8, title="digit", loc="upper right")
    folder.mkdir(parents=True, exist_ok=True)
    fig.savefig(folder / "linear_latent.png", dpi=70)

    for name, model in (("probabilistic PCA", pca), ("factor analysis", factors)):
        print(f"{name}: 20 components, {model.score(test):.2f} nats a held-out row (density)")
        for what, hidden in (
            ("20 % missing", rng.random(test.shape) < 0.2),
            ("half missing", np.broadcast_to(np.arange(64) >= 32, test.shape)),
        ):
            rows = np.where(hidden, np.nan, test)
            error = np.sqrt(np.square(model.reconstruct(rows) - test)[hidden].mean())
            plain = np.sqrt(np.square(train.mean(0) - test)[hidden].mean())
            print(f"{name}, {what}: RMSE {error:.3f}; mean of each pixel {plain:.3f}")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).parent / "figures"))
