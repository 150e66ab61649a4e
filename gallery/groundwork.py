"""Before the models: Bayes' rule, maximum likelihood as least KL, p(y | x), p(x) by counting.

Writes groundwork.png into the folder given (gallery/figures), and prints how large a table of all
images of digits would be.
"""

from __future__ import annotations

import math
import sys
from pathlib import Path

import matplotlib
import numpy as np

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from scipy import stats

import genus

BLUE, RED, GREY = "#2f6f9f", "#c8402f", "#8a9299"


def bayes(ax: Axes) -> None:
    """p(θ | flips) ∝ p(flips | θ) p(θ): the posterior after a flip is the prior of the next."""
    flips = np.random.default_rng(0).random(200) < 0.7
    theta = np.linspace(0, 1, 501)
    density = stats.beta(2, 2).pdf(theta)
    evidence = 0.0
    for n in range(201):
        if n in (0, 10, 200):
            ax.plot(theta, density, color=plt.colormaps["Blues"](0.35 + 0.2 * math.log10(n + 1)))
            peak = theta[density.argmax()]
            ax.annotate(f"n = {n}", (peak, density.max()), fontsize=7, ha="right")
        if n == 200:
            break
        likelihood = theta if flips[n] else 1 - theta
        p_next = np.trapezoid(likelihood * density, theta)
        density = likelihood * density / p_next
        evidence += math.log(p_next)
    heads = int(flips.sum())
    marks = (heads / 200, (heads + 1) / 202, (heads + 2) / 204)
    for name, value, style in zip(("ML", "MAP", "mean"), marks, ("-", "--", ":"), strict=True):
        ax.axvline(value, color=RED, ls=style, lw=1, label=f"{name} {value:.3f}")
    ax.legend(fontsize=7, frameon=False, loc="upper left")
    ax.set_title("A coin: the posterior becomes the prior", fontsize=9)
    ax.set(xlabel="θ", ylim=(0, 15), yticks=[])
    closed = _log_beta(heads + 2, 202 - heads) - _log_beta(2, 2)
    print(f"log evidence of 200 flips: {evidence:.3f} flip by flip, {closed:.3f} in closed form")


def _log_beta(a: float, b: float) -> float:
    return math.lgamma(a) + math.lgamma(b) - math.lgamma(a + b)


def least_kl(ax: Axes) -> None:
    """KL(p ‖ p_θ) = −E_p[log p_θ] − H(p): both are least at the same θ."""
    p = stats.norm(1.0, 1.0)
    rows = p.rvs(100_000, random_state=0)
    theta = np.linspace(-1, 3, 81)
    loss = np.array([-stats.norm(t, 1.0).logpdf(rows).mean() for t in theta])
    kl = (theta - 1.0) ** 2 / 2
    ax.plot(theta, loss, color=BLUE, label="−mean log p_θ(x)")
    ax.plot(theta, kl, color=RED, label="KL(p ‖ p_θ)")
    ax.axvline(theta[loss.argmin()], color=GREY, lw=0.8, ls=":")
    gap = (loss - kl).mean()
    ax.annotate(f"{gap:.3f} apart everywhere: H(p) = {p.entropy():.3f}", (-0.9, 1.0), fontsize=7)
    ax.legend(fontsize=7, frameon=False)
    ax.set_title("Maximum likelihood is least KL", fontsize=9)
    ax.set(xlabel="θ")


def change_of_variables(ax: Axes) -> None:
    """p(x) = N(z) |dz/dx|, z = f(x): the logarithm of the slope is added, or rows have no mass."""
    x = np.linspace(-4, 4, 801)
    z = np.arcsinh(1.5 * x)
    slope = 1.5 / np.sqrt(1 + (1.5 * x) ** 2)
    right = stats.norm.pdf(z) * slope
    wrong = stats.norm.pdf(z) / slope
    draws = np.sinh(stats.norm.rvs(size=200_000, random_state=0)) / 1.5
    ax.hist(draws, bins=np.linspace(-4, 4, 81), density=True, color="#d5dde3", label="draws of x")
    ax.plot(x, right, color=BLUE, label=f"+ log |dz/dx|: mass {np.trapezoid(right, x):.3f}")
    ax.plot(x, wrong, color=RED, ls="--", lw=1, label=f"− instead: {np.trapezoid(wrong, x):.2f}")
    ax.legend(fontsize=7, frameon=False)
    ax.set_title("Change of variables, z = asinh(1.5 x)", fontsize=9)
    ax.set(xlabel="x", yticks=[], ylim=(0, 1.1))


def regression(ax: Axes) -> None:
    """p(y | x) = N(μ(x), σ(x)²): says much of y, and nothing of x."""
    rng = np.random.default_rng(0)
    x = rng.uniform(-1, 1, (400, 1))
    y = np.sin(3 * x) + 0.1 * (1.5 + x) * rng.normal(size=(400, 1))
    quick = genus.Trainer(epochs=150, lr=3e-3, progress=False)
    net = genus.MLP(32, 2)
    model = genus.MADE(net, n_components=1, marginals="affine", trainer=quick, random_state=0)
    model.fit(y, given=x)
    at, values = np.linspace(-1.3, 1.3, 53), np.linspace(-2.5, 2.5, 401)
    pairs = np.stack(np.meshgrid(at, values, indexing="ij"), -1).reshape(-1, 2)
    p = np.exp(model.score_samples(pairs[:, 1:], given=pairs[:, :1])).reshape(53, 401)
    p /= p.sum(1, keepdims=True)
    mean = p @ values
    std = np.sqrt(p @ values**2 - mean**2)
    ax.fill_between(at, mean - 2 * std, mean + 2 * std, color="#dbe6ee")
    ax.plot(at, mean, color=BLUE)
    ax.scatter(x[:, 0], y[:, 0], s=3, color="#30383f", linewidths=0)
    ax.set_title("p(y | x) = N(μ(x), σ(x)²)", fontsize=9)
    ax.set(xlabel="x", ylim=(-2.5, 2.5))
    inside = np.abs(at) <= 1
    error = np.abs(std - 0.1 * (1.5 + at))[inside].mean()
    print(f"σ(x) of p(y | x) is {error:.3f} from the truth on average, of 0.05 to 0.25")


def images(figure: matplotlib.figure.SubFigure) -> None:
    """Draws of models too simple for images, beside one that is not."""
    data = genus.data.load("digits")
    print(
        f"a table of all images of 8 × 8 cells of 17 levels: 10^{64 * math.log10(17):.0f} entries"
    )
    axes = figure.subplots(4, 12)
    models = (genus.Independent(), genus.Gaussian(), genus.GaussianMixture(20, random_state=0))
    for row, model in zip(axes, models, strict=False):
        model.fit(data.train)
        name = type(model).__name__
        bits = model.log_prob(data.test).bits_per_dim.mean()
        print(f"{name}: {bits:.3f} bits/dim of held-out digits")
        for ax, image in zip(row, model.sample(12, random_state=0), strict=True):
            ax.imshow(image, cmap="gray_r")
        row[0].set_ylabel(f"{name}\n{bits:.2f}", fontsize=6, rotation=0, ha="right", va="center")
    for ax, image in zip(axes[-1], data.test.X, strict=False):
        ax.imshow(image, cmap="gray_r")
    axes[-1, 0].set_ylabel("real", fontsize=6, rotation=0, ha="right", va="center")
    for ax in axes.flat:
        ax.set(xticks=[], yticks=[])
    figure.suptitle("Cells on their own, one Gaussian, twenty (bits a cell, held out)", fontsize=9)


def main(folder: Path) -> None:
    fig = plt.figure(figsize=(10, 6.4), layout="constrained")
    top, bottom = fig.subfigures(2, 1, height_ratios=[1, 1.2])
    for show, ax in zip(
        (bayes, least_kl, regression, change_of_variables), top.subplots(1, 4), strict=True
    ):
        show(ax)
    images(bottom)
    folder.mkdir(parents=True, exist_ok=True)
    fig.savefig(folder / "groundwork.png", dpi=80)


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).parent / "figures"))
