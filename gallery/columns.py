"""What a column does on its own, and how a density model sees it.

Writes columns.png into the folder given (gallery/figures).
"""

from __future__ import annotations

import sys
from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd
import torch

matplotlib.use("Agg")
import matplotlib.pyplot as plt

from genus import Gaussian, Space
from genus.distributions.marginals import Marginals

INK, ACCENT, PALE = "#30383f", "#c8402f", "#9fb8c8"


def table(n: int, seed: int) -> pd.DataFrame:
    """Rain, a price, a percentage and a count that go with one another."""
    rng = np.random.default_rng(seed)
    z = rng.normal(size=n)
    return pd.DataFrame(
        {
            "rain (mm)": np.where(
                z + 0.5 * rng.normal(size=n) < 0.8, 0, rng.gamma(1.5, 3, n)
            ).round(1),
            "price": np.exp(3 + 0.7 * z + 0.5 * rng.normal(size=n)).round(2),
            "humidity (%)": np.minimum(100, 80 + 15 * z + 8 * rng.normal(size=n)).round(1),
            "visitors": rng.poisson(np.exp(2 - 0.5 * z)),
        }
    )


def main(folder: Path) -> None:
    X = table(2000, 0)
    space = Space.of(X)
    print(repr(space))
    x = space.encode(X).double()
    marginals = Marginals(space).fit(x)
    u = torch.rand(x.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    z, _ = marginals.scores(x, u)
    models = {
        "learned": Gaussian(marginals="learned", random_state=0),
        "logit / as it is": Gaussian(marginals="logit", random_state=0),
    }
    draws = {name: m.fit(X).sample(2000, random_state=0) for name, m in models.items()}

    fig, axes = plt.subplots(3, 4, figsize=(10, 6.2), layout="constrained")
    for j, name in enumerate(X):
        low, high = X[name].min(), X[name].quantile(0.995)
        bins = np.linspace(low - 0.02 * (high - low), high, 41)
        top, middle, bottom = axes[:, j]
        top.hist(X[name], bins, color=PALE)
        top.set_title(name, fontsize=9)
        middle.hist(z[:, j], 40, color=PALE, density=True)
        t = np.linspace(-3.5, 3.5, 200)
        middle.plot(t, np.exp(-t * t / 2) / np.sqrt(2 * np.pi), color=ACCENT, lw=1.2)
        wide = np.linspace(
            min(bins[0], draws["logit / as it is"][name].quantile(0.01)), bins[-1], 41
        )
        bottom.hist(draws["logit / as it is"][name], wide, color=ACCENT, alpha=0.5)
        bottom.hist(draws["learned"][name], wide, histtype="step", color=INK, lw=1.2)
        for ax in (top, middle, bottom):
            ax.set_yticks([])
            ax.tick_params(labelsize=7)
            ax.spines[["top", "right", "left"]].set_visible(False)
    axes[0, 0].set_ylabel("rows", fontsize=9)
    axes[1, 0].set_ylabel("their scores z", fontsize=9)
    axes[2, 0].set_ylabel("draws of a Gaussian", fontsize=9)
    fig.savefig(folder / "columns.png", dpi=130)


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "."))
