"""The variational autoencoder on the digits: its latent space, what β does, three gradients.

Writes vae_space.png, vae_beta.png and vae_gradients.png into the folder given (gallery/figures).
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import torch

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

import genus
from genus.report import plots

DIGITS = genus.data.load("digits")
QUICK = genus.Trainer(epochs=60, batch_size=64, lr=3e-3, progress=False)
NET = genus.MLP(128, 2, "silu")


def vae(latent_dim: int, **arguments: Any) -> genus.VAE:
    """A VAE of the digits."""
    return genus.VAE(latent_dim, NET, NET, trainer=QUICK, random_state=0, **arguments)


def beside(path: Path, figures: dict[str, Figure], height: float = 3.4) -> None:
    """Figures side by side, with a title each."""
    sheets = []
    for figure in figures.values():
        figure.set_dpi(220)
        canvas = FigureCanvasAgg(figure)
        canvas.draw()
        sheets.append(np.asarray(canvas.buffer_rgba()))
    widths = [s.shape[1] / s.shape[0] for s in sheets]
    fig, axes = plt.subplots(
        1, len(sheets), figsize=(height * sum(widths), height + 0.3), width_ratios=widths
    )
    for ax, sheet, title in zip(axes, sheets, figures, strict=True):
        ax.imshow(sheet)
        ax.set_title(title, fontsize=9)
        ax.set_axis_off()
    fig.tight_layout()
    fig.savefig(path, dpi=130, facecolor="white")
    plt.close(fig)


def space(folder: Path) -> None:
    """A latent space of two dimensions, under N(0, I) and under a prior that is learned."""
    X, y = DIGITS.test.X, DIGITS.test.y
    plain = vae(2).fit(DIGITS.train)
    learned = vae(2, prior="flow").fit(DIGITS.train)
    for name, model in {"N(0, I)": plain, "flow": learned}.items():
        print(f"prior {name}: {model.log_prob(X)!r}")
    panels = {
        "decoded at the quantiles of N(0, I)": plots.manifold(plain, side=14),
        "codes and N(0, I)": plots.aggregated_posterior(plain, X, y),
        "codes and a learned prior": plots.aggregated_posterior(learned, X, y),
    }
    beside(folder / "vae_space.png", panels)


def beta(folder: Path) -> None:
    """Reconstructions at several β, draws at several temperatures, dimensions that are varied."""
    X = DIGITS.test.X
    models = {f"β = {b:g}": vae(8, beta=b).fit(DIGITS.train) for b in (0.1, 1.0, 8.0)}
    for name, model in models.items():
        terms = model.elbo_terms(X, draws=20, random_state=0).mean()
        print(
            f"{name}: reconstruction {terms['reconstruction']:.2f}, KL {terms['kl']:.2f}, "
            f"ELBO {terms['elbo']:.2f}, {model.active_units(X)} active units"
        )
    one = models["β = 1"]
    panels = {
        "reconstructions": plots.reconstructions_of(models, X[:9]),
        "draws at temperatures": plots.temperatures(one, n=9),
        "one dimension varied": plots.traversals(one, X[3:4], dimensions=range(4)),
    }
    beside(folder / "vae_beta.png", panels, height=2.0)


def gradients(folder: Path) -> None:
    """The variance of the encoder's gradient over draws of ε, and the time of each."""
    models = {
        "score, ELBO": {"gradient": "score"},
        "reparameterised, ELBO": {},
        "score, IWAE-16": {"gradient": "score", "bound": "iwae", "k_train": 16},
        "reparameterised, IWAE-16": {"bound": "iwae", "k_train": 16},
        "DReG, IWAE-16": {"gradient": "dreg", "bound": "iwae", "k_train": 16},
    }
    model = vae(8).fit(DIGITS.train)
    x = torch.as_tensor(DIGITS.train.X[:64], dtype=torch.float32)
    variance, cost = [], []
    model.train()
    for arguments in models.values():
        settings = {"gradient": "reparameterised", "bound": "elbo", "k_train": 8} | arguments
        model.set_params(**settings)
        draws = []
        begun = time.process_time()
        for i in range(200):
            model.rng = torch.Generator().manual_seed(i)
            model.zero_grad()
            model.objective(x).backward()
            draws.append(torch.cat([p.grad.flatten() for p in model.encoder_.parameters()]))
        cost.append((time.process_time() - begun) / 200)
        g = torch.stack(draws)
        variance.append(float(g.var(0).sum() / g.mean(0).square().sum()))
    for name, v, t in zip(models, variance, cost, strict=True):
        print(f"{name}: variance {v:.3g} of the squared mean, {1e3 * t:.2f} ms")
    fig, axes = plt.subplots(1, 2, figsize=(8, 2.2), sharey=True)
    for ax, values, label in zip(
        axes,
        (variance, 1e3 * np.array(cost)),
        ("variance of the encoder's gradient / its mean squared", "ms a gradient, 64 rows"),
        strict=True,
    ):
        ax.barh(list(models), values, color="#3d7fd6", height=0.6)
        ax.set_xlabel(label, fontsize=8)
        ax.tick_params(labelsize=8)
        ax.spines[["top", "right"]].set_visible(False)
    axes[0].set_xscale("log")
    axes[0].invert_yaxis()
    fig.tight_layout()
    fig.savefig(folder / "vae_gradients.png", dpi=130, facecolor="white")


if __name__ == "__main__":
    out = Path(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).parent / "figures")
    out.mkdir(parents=True, exist_ok=True)
    space(out)
    beta(out)
    gradients(out)
