"""GANs: one dimension as it trains; digits and truncation; 25 Gaussians by four losses.

Writes gan_training.gif, gan_digits.png and gan_modes.png into the folder given (gallery/figures).
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import torch
from scipy import stats
from torch import Tensor, nn

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.animation import FuncAnimation, PillowWriter

import genus

sys.path.append(str(Path(__file__).parents[1] / "benchmarks"))
from gan_modes import LOSSES, fitted, found, rows

BLUE, RED, GREY = "#2f6db5", "#c8553d", "#8a949b"


class Line(nn.Module):
    """z ↦ a z + b, which begins at z + 2."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Parameter(torch.ones(())), nn.Parameter(torch.full((), 2.0))

    def forward(self, z: Tensor) -> Tensor:
        return self.a * z + self.b


class Watched(genus.GAN):
    """It notes its generator and its critic as it trains."""

    x = np.linspace(-4, 5, 181)
    every = 25

    def losses(self, x: Tensor, given: Tensor | None = None) -> Iterator[tuple[nn.Module, Tensor]]:
        self.seen_ = getattr(self, "seen_", -1) + 1
        if self.seen_ % self.every == 0:
            at = torch.from_numpy(self.x).float()[:, None]
            with torch.no_grad():
                d = torch.sigmoid(self.criticise(at)).numpy()
            a, b = (float(p.detach()) for p in self.generator_.parameters())
            FRAMES.append((self.seen_, a, b, d))
        yield from super().losses(x, given)


FRAMES: list[tuple[int, float, float, np.ndarray]] = []


def training(folder: Path) -> None:
    """p, q and the critic, as they change."""
    trainer = genus.Trainer(epochs=30, batch_size=200, lr=4e-3, ema=0.0, threads=1, progress=False)
    critic = genus.MLP(32, 1, "silu")
    Watched(Line(), critic, latent_dim=1, penalty=0.3, trainer=trainer, random_state=0).fit(
        np.random.default_rng(0).normal(size=(8000, 1))
    )
    fig, ax = plt.subplots(figsize=(6, 3.2))
    x, p = Watched.x, stats.norm.pdf(Watched.x)

    def draw(i: int) -> list[Any]:
        step, a, b, d = FRAMES[i]
        q = stats.norm.pdf(x, b, abs(a))
        ax.clear()
        ax.fill_between(x, p, color=BLUE, alpha=0.25, lw=0, label="real rows p")
        ax.plot(x, q, color=RED, label="draws q")
        ax.plot(x, d, color="black", lw=1.2, label="critic σ(D)")
        ax.plot(x, p / (p + q), color=GREY, lw=1, ls="--", label="p/(p + q)")
        ax.set(xlim=(-4, 5), ylim=(0, 1.02), title=f"step {step}")
        ax.legend(loc="upper right", fontsize=8, frameon=False)
        return []

    movie = FuncAnimation(fig, draw, frames=len(FRAMES))
    movie.save(folder / "gan_training.gif", PillowWriter(fps=6), dpi=80)
    plt.close(fig)


def digits(folder: Path, model: genus.GAN | None = None) -> None:
    """Real digits, draws, and draws that are truncated."""
    data = genus.data.load("digits")
    model = model or genus.GAN(random_state=0).fit(data.train)
    fig, axes = plt.subplots(4, 1, figsize=(8, 3.6))
    pictures = {
        "real": np.asarray(data.test.X)[:40],
        "drawn": model.sample(40, random_state=1),
        "|z| < 1": model.sample(40, truncation=1.0, random_state=1),
        "|z| < 0.3": model.sample(40, truncation=0.3, random_state=1),
    }
    for ax, (name, X) in zip(axes, pictures.items(), strict=True):
        grid = np.pad(X, ((0, 0), (1, 1), (1, 1))).reshape(2, 20, 10, 10)
        ax.imshow(grid.swapaxes(1, 2).reshape(20, 200), cmap="gray_r")
        ax.set(xticks=[], yticks=[])
        ax.set_ylabel(name, fontsize=9)
    fig.tight_layout()
    fig.savefig(folder / "gan_digits.png", dpi=130)
    plt.close(fig)


def modes(folder: Path, steps: int = 1500) -> None:
    """Draws of four losses from 25 Gaussians, and how their players fared."""
    X = rows(10_000, 0)
    fig, axes = plt.subplots(2, 4, figsize=(11, 5.2), height_ratios=[2, 1])
    for (name, args), (top, below) in zip(LOSSES.items(), axes.T, strict=True):
        model = fitted(X, steps, 0, **args)
        draws = model.sample(3000, random_state=0)
        n, good = found(draws)
        top.scatter(*X[:2000].T, s=2, color=GREY, lw=0)
        top.scatter(*draws.T, s=2, color=RED, lw=0, alpha=0.6)
        top.set(xlim=(-3.2, 3.2), ylim=(-3.2, 3.2), xticks=[], yticks=[], aspect="equal")
        said = f"{n} of 25, {good:.0%} good, coverage {model.coverage_:.2f}"
        top.set_title(f"{name}\n{said}", fontsize=9)
        for player, colour in (("critic_", "black"), ("generator_", RED)):
            line = [h[player] for h in model.history_]
            below.plot(line, color=colour, lw=1, label=player.strip("_"))
        below.tick_params(labelsize=7)
        below.set_xlabel("pass", fontsize=8)
    axes[1, 0].legend(fontsize=8, frameon=False)
    fig.tight_layout()
    fig.savefig(folder / "gan_modes.png", dpi=130)
    plt.close(fig)


if __name__ == "__main__":
    out = Path(sys.argv[1] if len(sys.argv) > 1 else "gallery/figures")
    out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    training(out)
    digits(out)
    modes(out)
