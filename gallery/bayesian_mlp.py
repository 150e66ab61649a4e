"""One network, one posterior, five ways.

Maximum likelihood, MAP, Laplace, mean-field variational inference and HMC. Writes bayesian_mlp.png
into the folder given (gallery/figures).
"""

from __future__ import annotations

import math
import sys
import warnings
from pathlib import Path

import matplotlib
import numpy as np

matplotlib.use("Agg")
import matplotlib.pyplot as plt

from genus import MLP, BayesianMLP, Trainer

RED, BLUE, GREY = "#c8402f", "#1f77b4", "#9aa5ad"
NOISE = 0.2
WAYS = {
    "maximum likelihood": {"posterior": "map", "prior_scale": math.inf},
    "MAP": {"posterior": "map"},
    "Laplace": {"posterior": "laplace"},
    "variational inference": {"posterior": "vi"},
    "HMC": {"posterior": "hmc", "n_draws": 200},
}


def main(folder: Path) -> None:
    warnings.filterwarnings("ignore", message="the chains of HMC")
    rng = np.random.default_rng(0)
    x = np.r_[rng.uniform(-3, -1, 12), rng.uniform(1, 2.5, 12)]  # with a gap
    f = lambda x: np.sin(1.6 * x) + 0.3 * x  # noqa: E731
    y = f(x) + NOISE * rng.normal(size=24)
    t = np.linspace(-5.5, 5.5, 200)
    fig, axes = plt.subplots(1, 5, figsize=(13, 3.4), layout="constrained", sharey=True)
    for ax, (title, way) in zip(axes, WAYS.items(), strict=True):
        trainer = Trainer(epochs=2000, batch_size=24, lr=2e-2, schedule="cosine", progress=False)
        model = BayesianMLP(
            MLP(10, 1, "tanh"), noise=NOISE, trainer=trainer, random_state=0, **way
        ).fit(x[:, None], y)
        mean, std = model.predict(t[:, None], return_std=True)
        ax.fill_between(
            t,
            mean - 2 * std,
            mean + 2 * std,
            color=RED,
            alpha=0.18,
            lw=0,
            label="mean ± 2 standard deviations",
        )
        if way["posterior"] != "map":
            ax.plot(t, model.functions(t[:, None])[:8].T, color=BLUE, lw=0.6, alpha=0.7)
        ax.plot(t, mean, color=RED, lw=1.8)
        ax.plot(t, f(t), color=GREY, ls="--", label="truth")
        ax.scatter(x, y, s=14, color="black", zorder=3)
        ax.set(title=title, xlabel="x", xlim=(-5.5, 5.5), ylim=(-4.5, 4.5))
    axes[0].legend(fontsize=8, loc="lower left")
    axes[0].set_ylabel("y")
    fig.savefig(folder / "bayesian_mlp.png", dpi=80)


if __name__ == "__main__":
    out = Path(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).parent / "figures")
    out.mkdir(parents=True, exist_ok=True)
    main(out)
