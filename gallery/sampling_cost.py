"""What a draw costs: a pass for every pixel, or one for all of them.

Times are processor seconds on one thread, medians of three; the networks have their default sizes
and are all but untrained, which does not change their time. Writes sampling_cost.png into the
folder given (gallery/figures).
"""

from __future__ import annotations

import sys
import time
import warnings
from pathlib import Path

import matplotlib
import numpy as np
import torch

matplotlib.use("Agg")
import matplotlib.pyplot as plt

import genus

SIDES = (4, 8, 16, 28)
QUICK = genus.Trainer(max_steps=2, batch_size=8, validation=0.0, progress=False)
MANY = 16  # images at once
FAMILIES = {
    "AutoregressiveTransformer": (genus.AutoregressiveTransformer, "#b5482f", "o"),
    "PixelCNN": (genus.PixelCNN, "#d99a2b", "s"),
    "VAE": (genus.VAE, "#2f6f9f", "^"),
}


def seconds(model: genus.Model, n: int) -> float:
    """Processor seconds an image when n are drawn."""
    spent = []
    for seed in range(4):
        begun = time.process_time()
        model.sample(n, random_state=seed)
        spent.append((time.process_time() - begun) / n)
    return float(np.median(spent[1:]))  # the first warms up


def main(folder: Path) -> None:
    pixels = np.array([side**2 for side in SIDES])
    fig, axes = plt.subplots(1, 2, figsize=(9, 3.7), sharey=True)
    for name, (family, colour, mark) in FAMILIES.items():
        times = []
        for side in SIDES:
            X = (np.random.default_rng(0).random((64, side, side)) < 0.3).astype(np.uint8)
            model = family(trainer=QUICK, random_state=0).fit(X)
            times.append([seconds(model, n) for n in (1, MANY)])
            print(
                f"{name}, {side**2} pixels: {times[-1][0]:.2g} s alone, "
                f"{times[-1][1]:.2g} s among {MANY}",
                flush=True,
            )
        for ax, column in zip(axes, np.array(times).T, strict=True):
            ax.loglog(pixels, column, color=colour, marker=mark, ms=5, lw=1.5, label=name)
    for ax in axes:
        ax.loglog(pixels, 4e-5 * pixels, color="#7c868e", lw=0.9, ls=":", zorder=0)
        ax.text(64, 1.6e-3, "∝ n", color="#7c868e", fontsize=9, va="top")
    for ax, title in zip(axes, ("one image", f"{MANY} images at once"), strict=True):
        ax.set_xticks(
            pixels, [f"{p}\n{side} × {side}" for p, side in zip(pixels, SIDES, strict=True)]
        )
        ax.minorticks_off()
        ax.grid(color="#e3e6e8", lw=0.6)
        ax.set_title(title, fontsize=10)
        ax.set_xlabel("pixels, n")
        ax.spines[["top", "right"]].set_visible(False)
    axes[0].set_ylabel("processor seconds an image")
    axes[1].legend(fontsize=8, frameon=False, loc="upper left")
    fig.tight_layout(pad=0.6)
    fig.savefig(folder / "sampling_cost.png", dpi=90)


if __name__ == "__main__":
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "gallery/figures")
    folder.mkdir(parents=True, exist_ok=True)
    main(folder)
