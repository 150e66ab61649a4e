"""Energies: Langevin on a ring, short and long chains, a classifier before and after JEM.

Writes energy.png into the folder given (gallery/figures).
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

import genus
from genus import EBM, JEM, MLP, Trainer
from genus.evaluate import calibration, detection, robustness

QUIET = Trainer(progress=False)
SIDE = 4


def ring(n: int) -> np.ndarray:
    """Rows around a circle, (n, 2)."""
    rng = np.random.default_rng(0)
    angle = 2 * np.pi * rng.random(n)
    circle = np.stack([np.cos(angle), np.sin(angle)], 1)
    return circle + 0.12 * rng.normal(size=(n, 2))


def langevin_on_a_ring(ax: plt.Axes) -> None:
    """The energy, rows, and three chains from the middle and from two corners."""
    X = ring(1500)
    trainer = QUIET.replace(epochs=60, batch_size=100, lr=3e-3)
    model = EBM(MLP(64, 2, "silu"), "nce", trainer=trainer, random_state=0).fit(X)
    axis = np.linspace(-1.8, 1.8, 80)
    grid = np.stack(np.meshgrid(axis, axis), -1).reshape(-1, 2)
    log_p = model.log_prob(grid).nats.reshape(80, 80)
    ax.contourf(axis, axis, np.maximum(log_p, -8), levels=24, cmap="Greys")
    ax.plot(*X[:150].T, ".", ms=2, color="#3d7fd6")
    way = np.asarray(
        model.chains(start=np.array([[0.0, 0.1], [1.6, -1.5], [-1.5, 1.5]]), steps=60, every=1)
    )
    for k in range(3):
        ax.plot(*way[:, k].T, "-", lw=0.8, color="#d0762b")
        ax.plot(*way[-1, k], "o", ms=4, color="#d0762b")
    ax.set_title("log p of an energy, rows, three chains", fontsize=9)
    ax.set(xlim=(-1.8, 1.8), ylim=(-1.8, 1.8), xticks=[], yticks=[])


def tiles(ax: plt.Axes, X: Any, title: str) -> None:
    """Sixteen images in a grid."""
    grid = np.full((SIDE * 9 + 1, SIDE * 9 + 1), np.nan)
    for i, x in enumerate(np.asarray(X)[: SIDE**2]):
        r, c = 9 * (i // SIDE) + 1, 9 * (i % SIDE) + 1
        grid[r : r + 8, c : c + 8] = x
    ax.imshow(grid, cmap=plt.get_cmap("gray_r").with_extremes(bad="#d8d8d8"), vmin=0, vmax=16)
    ax.set_title(title, fontsize=9)
    ax.set(xticks=[], yticks=[])


def reliability(ax: plt.Axes, told: dict[str, Any]) -> None:
    """Accuracy against confidence of several classifiers, with the number of rows of each bin."""
    ax.plot([0, 1], [0, 1], color="black", lw=0.8)
    for (name, c), colour, up in zip(told.items(), ("C0", "C1"), (-12, 5), strict=True):
        label = f"{name}, ECE {c.ece:.3f}, accuracy {c.accuracy:.3f}"
        ax.scatter(
            c.table.confidence, c.table.accuracy, 6 * np.sqrt(c.table.n), colour, label=label
        )
        for x, y, n in zip(c.table.confidence, c.table.accuracy, c.table.n, strict=True):
            where = {"xytext": (0, up), "textcoords": "offset points", "ha": "center"}
            ax.annotate(f"{n}", (x, y), fontsize=6, color=colour, **where)
    ax.set(xlabel="confidence", ylabel="accuracy", xlim=(0.4, 1.06), ylim=(0, 1.12))
    ax.legend(fontsize=7, frameon=False, loc="lower left")
    ax.set_title("reliability, bins of width 0.1 and their rows", fontsize=9)


def histograms(ax: plt.Axes, model: Any, inside: Any, outside: Any) -> None:
    """−E of digits and of the same digits with their pixels permuted."""
    a, b = -model.energy(inside), -model.energy(outside)
    bins = np.linspace(min(a.min(), b.min()), max(a.max(), b.max()), 40)
    ax.hist(b, bins, color="0.6", alpha=0.7, label="pixels permuted")
    ax.hist(a, bins, color="#3d7fd6", alpha=0.7, label="digits")
    told = detection(model, inside, outside)
    ax.legend(fontsize=7, frameon=False)
    ax.set_title(f"log p(x) + log Z of JEM, AUROC {told.auroc:.3f}", fontsize=9)


def attacks(ax: plt.Axes, models: dict[str, Any], X: Any, y: Any) -> None:
    """Accuracy under PGD within a largest change a pixel."""
    eps = [0.02, 0.05, 0.1, 0.15, 0.2]
    for name, model in models.items():
        told = robustness(model, X, y, eps=eps, steps=20, restarts=1)
        curve = [told.clean, *told.table.pgd]
        ax.plot([0, *eps], curve, "o-", ms=3, label=name)
        print(name, told)
    ax.set(xlabel="ε, of the range of a pixel", ylabel="accuracy", ylim=(0, 1.02))
    ax.legend(fontsize=7, frameon=False)
    ax.set_title("PGD in L∞, 20 steps, 2 starts", fontsize=9)


def main(folder: Path) -> None:
    torch.set_num_threads(1)
    digits = genus.data.load("digits")
    X, y = digits.test.X, np.asarray(digits.test.y)
    fit = {"space": digits.space}
    rng = np.random.default_rng(0)
    permuted = rng.permuted(np.asarray(X).reshape(len(X), -1), axis=1).reshape(np.shape(X))
    ebm = EBM(trainer=QUIET, random_state=0).fit(digits.train)
    models = {
        "plain": JEM(weight=0.0, trainer=QUIET, random_state=0),
        "JEM": JEM(trainer=QUIET, random_state=0),
    }
    for model in models.values():
        model.fit(digits.train.X, digits.train.y, **fit)

    figure, axes = plt.subplots(2, 4, figsize=(14, 7.2), layout="constrained")
    langevin_on_a_ring(axes[0, 0])
    steps = ebm._length()
    tiles(axes[0, 1], ebm.sample(16, random_state=0), f"EBM, chains of {steps} steps")
    long = ebm.chains(16, 10 * steps, random_state=0)
    tiles(axes[0, 2], long, f"the same energy, {10 * steps} steps")
    of_class = models["JEM"].sample(16, given=np.repeat([2, 3, 5, 8], 4), random_state=0)
    tiles(axes[0, 3], of_class, "JEM given 2, 3, 5 and 8, a row each")
    told = {name: calibration(m, X, y, bins=10) for name, m in models.items()}
    reliability(axes[1, 0], told)
    histograms(axes[1, 1], models["JEM"], X, permuted)
    attacks(axes[1, 2], models, X, y)
    density = EBM(marginals="learned", trainer=QUIET, random_state=0).fit(digits.train)
    tiles(axes[1, 3], density.sample(16, random_state=0), "EBM at T = 1 on normal scores")
    print("EBM at T = 1:", density.log_prob(X))
    folder.mkdir(parents=True, exist_ok=True)
    figure.savefig(folder / "energy.png", dpi=90)


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "gallery/figures"))
