"""Digits whose lower half is drawn anew by a PixelRNN and a PixelCNN from the upper half.

Writes pixelrnn_completions.png into the folder given (gallery/figures).
"""

from __future__ import annotations

import sys
from pathlib import Path

import matplotlib
import numpy as np
import torch

matplotlib.use("Agg")
import matplotlib.pyplot as plt

import genus

SHOWN, DRAWS = 10, 4
quiet = genus.Trainer(progress=False)
MODELS = {
    "PixelRNN": genus.PixelRNN(channels=24, n_layers=3, trainer=quiet, random_state=0),
    "PixelCNN": genus.PixelCNN(n_layers=5, trainer=quiet, random_state=0),
}


def completions(folder: Path) -> None:
    """One line a digit: what is seen, four completions of each model, the original."""
    data = genus.data.load("digits")
    original = data.test.X[:SHOWN]
    mask = np.zeros(original.shape, dtype=bool)
    mask[:, 4:] = True
    titles, columns = ["occluded"], [np.where(mask, np.nan, original)]
    for name, model in MODELS.items():
        model.fit(data.train)
        bits = float(np.mean(model.log_prob(data.test).bits_per_dim))
        print(f"{name}: {bits:.3f} bits/dim on held-out digits")
        columns += list(model.complete(original, DRAWS, mask=mask, random_state=0))
        titles += [f"{name}: four completions", *[""] * (DRAWS - 1)]
    titles, columns = [*titles, "original"], [*columns, original]
    space = [0.35 if t else 0.08 for t in titles[1:]]  # wider between groups
    left = np.concatenate([[0], np.cumsum(1 + np.array(space))])
    fig = plt.figure(figsize=(0.62 * (left[-1] + 1), 0.62 * (SHOWN * 1.08 + 0.5)))
    wide, high = left[-1] + 1, SHOWN * 1.08 + 0.5
    shades = plt.get_cmap("gray").with_extremes(bad="#c9d6df")
    for x, title, images in zip(left, titles, columns, strict=True):
        for i, image in enumerate(images):
            ax = fig.add_axes((x / wide, (SHOWN - 1 - i) * 1.08 / high, 1 / wide, 1 / high))
            ax.imshow(image, cmap=shades, vmin=0, vmax=16, interpolation="nearest")
            ax.axis("off")
        centre = x + (1.08 * DRAWS - 0.08 if ":" in title else 1) / 2
        fig.text(centre / wide, (SHOWN * 1.08 + 0.08) / high, title, ha="center", fontsize=8)
    fig.savefig(folder / "pixelrnn_completions.png", dpi=100, bbox_inches="tight", pad_inches=0.08)


if __name__ == "__main__":
    torch.set_num_threads(1)
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "gallery/figures")
    folder.mkdir(parents=True, exist_ok=True)
    completions(folder)
