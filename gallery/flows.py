"""Normalizing flows: two moons bent into a normal density; digits drawn by six flows.

Writes flow_steps.png and flow_digits.png into the folder given (gallery/figures).
"""

from __future__ import annotations

import sys
from pathlib import Path

import matplotlib
import numpy as np
import torch
from sklearn.datasets import make_moons

matplotlib.use("Agg")
import matplotlib.pyplot as plt

import genus


def bent(ax: plt.Axes, lines: list[np.ndarray], points: np.ndarray, colour: np.ndarray) -> None:
    """Points and the grid, where a step has brought them."""
    for line in lines:
        ax.plot(*line.T, color="#9aa5ad", lw=0.4, zorder=1)
    ax.scatter(*points.T, c=colour, cmap="twilight", s=2, lw=0, zorder=2)
    ax.set(xlim=(-3.4, 3.4), ylim=(-3.4, 3.4), xticks=[], yticks=[], aspect="equal")


def steps(folder: Path) -> None:
    """Where each step brings the data and a grid, and the density that this gives."""
    X, moon = make_moons(3000, noise=0.06, random_state=0)
    model = genus.SplineFlow(
        6, trainer=genus.Trainer(epochs=60, progress=False), random_state=0
    ).fit(X)
    angle = np.arctan2(*(X - X.mean(0)).T) + np.pi * moon
    t, ticks = np.linspace(-3.4, 3.4, 400), np.linspace(-3.4, 3.4, 18)
    grid = [
        np.stack(p, 1) for v in ticks for p in ((t, np.full_like(t, v)), (np.full_like(t, v), t))
    ]
    where = [
        model.scale_(torch.from_numpy(X[:1200]))[0],
        *(torch.from_numpy(line) for line in grid),
    ]
    fig, axes = plt.subplots(2, 4, figsize=(10, 5.1))
    bent(axes[0, 0], [w.numpy() for w in where[1:]], where[0].numpy(), angle[:1200])
    axes[0, 0].set_title("data, standardised", fontsize=9)
    order = np.array([0, 1])
    with torch.no_grad():
        for shown, step in enumerate(model.flow_.maps, 1):
            where = [step(w)[0] for w in where]
            # coordinates that changed places are drawn in their own
            order = order[::-1] if step.swap else order
            ax = axes.flat[shown]
            bent(
                ax,
                [w.numpy()[:, order] for w in where[1:]],
                where[0].numpy()[:, order],
                angle[:1200],
            )
            ax.set_title(f"after step {shown}", fontsize=9)
    side = np.linspace(-3.4, 3.4, 300)
    mesh = np.stack(np.meshgrid(side, side), -1).reshape(-1, 2)
    density = np.exp(
        model.score_samples(model.scale_.inverse(torch.from_numpy(mesh)).numpy())
    ).reshape(300, 300)
    last = axes.flat[-1]
    last.contourf(side, side, density, 20, cmap="Blues")
    last.set(xticks=[], yticks=[], aspect="equal")
    last.set_title("the density of the data", fontsize=9)
    fig.tight_layout(pad=0.6)
    fig.savefig(folder / "flow_steps.png", dpi=90)


def digits(folder: Path) -> None:
    """Samples beside real digits, with bits per dimension on held-out rows."""
    data = genus.data.load("digits")
    families = {
        "NICE": genus.NICE(),
        "RealNVP": genus.RealNVP(),
        "Glow": genus.Glow(),
        "MAF": genus.MAF(),
        "SplineFlow": genus.SplineFlow(),
    }
    fig, axes = plt.subplots(2, 3, figsize=(7.5, 3.9))
    pictures = {"real, held out": data.test.X[:40]}
    for name, model in families.items():
        model.set_params(trainer=genus.Trainer(epochs=40, progress=False), random_state=0).fit(
            data.train
        )
        bits = float(np.mean(model.log_prob(data.test).bits_per_dim))
        print(f"{name}: {bits:.3f} bits/dim on held-out digits")
        pictures[f"{name}: ≤ {bits:.2f} bits/dim"] = model.sample(40, random_state=0)
    for ax, (title, x) in zip(axes.flat, pictures.items(), strict=True):
        sheet = np.full((5 * 9 - 1, 8 * 9 - 1), 16.0)
        for i, image in enumerate(x):
            sheet[(r := i // 8 * 9) : r + 8, (c := i % 8 * 9) : c + 8] = image
        ax.imshow(sheet, cmap="gray", vmin=0, vmax=16, interpolation="nearest")
        ax.set_title(title, fontsize=9)
        ax.axis("off")
    fig.tight_layout(pad=0.6)
    fig.savefig(folder / "flow_digits.png", dpi=90)


if __name__ == "__main__":
    torch.set_num_threads(1)
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "gallery/figures")
    folder.mkdir(parents=True, exist_ok=True)
    steps(folder)
    digits(folder)
