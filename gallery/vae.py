"""The variational autoencoder on the digits: its latent space, what β does, three gradients.

Writes vae_learning.png, vae_space.png, vae_beta.png, vae_decoders.png, vae_gradients.png and
vae_fashion.png, of Fashion-MNIST, into the folder given (gallery/figures).
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


def learning(folder: Path) -> None:
    """The objective on rows learned from and held out, real rows and draws, lines between rows."""
    model = vae(8).fit(DIGITS.train)
    X = DIGITS.test.X
    drawn = model.sample(40, random_state=0)
    ends = [int(np.flatnonzero(DIGITS.test.y == k)[0]) for k in (0, 1, 2, 7, 3, 8, 6, 4, 5, 9)]
    panels = {
        "−ELBO by epoch": plots.learning_curve(model),
        "real": plots.image_grid(X[:40], DIGITS.space, columns=8),
        "drawn": plots.image_grid(drawn, DIGITS.space, columns=8),
        "lines from one row to another": plots.interpolations(model, X[ends]),
    }
    beside(folder / "vae_learning.png", panels, height=2.4)


def halved(X: Any) -> np.ndarray:
    """Images of 28 × 28 levels as 14 × 14, the means of four."""
    parts = np.asarray(X).reshape(-1, 14, 2, 14, 2)
    return parts.mean((2, 4)).round().astype(np.uint8)


def fashion(folder: Path) -> None:
    """Articles: blurred reconstructions, dimensions varied, digits that it finds more probable."""
    clothes, mnist = genus.data.load("fashion_mnist"), genus.data.load("mnist")
    articles, digits = halved(clothes.test.X[:300]), halved(mnist.test.X[:300])
    trainer = genus.Trainer(epochs=60, batch_size=100, lr=2e-3, progress=False)
    net = genus.MLP(256, 2, "silu")
    model = genus.VAE(10, net, net, k=64, trainer=trainer, random_state=0)
    grey = genus.Space((14, 14), "ordinal", levels=256, layout="HW")
    model.fit(halved(clothes.train.X[:10_000]), space=grey)
    found = {"articles": model.log_prob(articles), "digits": model.log_prob(digits)}
    for name, p in found.items():
        print(f"VAE of Fashion-MNIST, {name}: {p!r}")
    print(genus.evaluate.detection(model, articles, digits))
    print(genus.evaluate.detection(model, articles, digits, score="complexity"))
    seen = articles[:16]
    kept = model.reconstruct(seen)
    pairs = np.concatenate([seen[:8], kept[:8], seen[8:], kept[8:]])
    use = np.argsort(-np.asarray(model.kl_per_dimension(articles)))
    figure, ax = plt.subplots(figsize=(3.6, 2.4), layout="constrained")
    for (name, p), colour in zip(found.items(), ("#3d7fd6", "#d0762b"), strict=True):
        ax.hist(p.nats, np.linspace(-1000, 0, 41), color=colour, alpha=0.6, label=name)
    ax.set(yticks=[], xlabel="log p(x) ≥, nats")
    ax.legend(fontsize=7, frameon=False)
    panels = {
        "articles, and below them what is left": plots.image_grid(pairs, grey, columns=8),
        "dimensions varied": plots.traversals(model, articles[1:2], dimensions=use[:4]),
        "test rows under a VAE of articles": figure,
    }
    beside(folder / "vae_fashion.png", panels, height=2.4)


def space(folder: Path) -> None:
    """A latent space of two dimensions: without a prior, under N(0, I), under a learned one."""
    X, y = DIGITS.test.X, DIGITS.test.y
    plain = vae(2).fit(DIGITS.train)
    learned = vae(2, prior="flow").fit(DIGITS.train)
    free = genus.Autoencoder(2, NET, NET, trainer=QUICK, random_state=0).fit(DIGITS.train)
    for name, model in {"N(0, I)": plain, "flow": learned}.items():
        print(f"prior {name}: {model.log_prob(X)!r}")
    panels = {
        "codes of an autoencoder, without a prior": plots.latent_map(free, X, y),
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


def decoders(folder: Path) -> None:
    """What a pixel is drawn from: draws, and bits of held-out digits."""
    leaky = genus.MLP(128, 2, "leaky_relu")
    ways: dict[str, dict[str, Any]] = {
        "Gaussian, η = 1": {"likelihood": "gaussian", "variance": 1.0},
        "Gaussian, η = 25": {"likelihood": "gaussian", "variance": 25.0},
        "Gaussian, η learned": {"likelihood": "gaussian", "variance": "shared"},
        "softmax of 17 levels": {"likelihood": "categorical"},
        "logistic": {"likelihood": "logistic"},
    }
    panels = {}
    for name, way in ways.items():
        model = genus.VAE(8, NET, leaky, trainer=QUICK, random_state=0, **way).fit(DIGITS.train)
        p = model.log_prob(DIGITS.test)
        print(f"{name}: {p!r}")
        drawn = model.sample(25, random_state=0)
        title = f"{name}: ≥ {p.mean():.1f} nats"
        panels[title] = plots.image_grid(drawn, DIGITS.space, columns=5)
    ones = (np.asarray(part.X) >= 8 for part in (DIGITS.train, DIGITS.test))
    train, test = (np.asarray(part).astype(np.uint8) for part in ones)
    model = genus.VAE(8, NET, leaky, trainer=QUICK, random_state=0).fit(train, space="binary")
    p = model.log_prob(test)
    print(f"Bernoulli, of bits: {p!r}")
    title = f"Bernoulli, of bits: ≥ {p.mean():.1f} nats"
    panels[title] = plots.image_grid(model.sample(25, random_state=0), model.space_, columns=5)
    beside(folder / "vae_decoders.png", panels, height=2.3)


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
    learning(out)
    space(out)
    beta(out)
    decoders(out)
    gradients(out)
    fashion(out)
