"""One data set, many families: draws of each, and what it says of rows that it never saw.

Every model is made with no arguments and learns the handwritten digits of scikit-learn: 8 × 8
pixels of 17 levels. Beside its draws stands the mean surprise of test rows in bits a pixel, with
the kind of number: = exact, ≤ by a bound, ≈ by an estimate, or none.

Writes families.png into the folder given (gallery/figures) and prints the numbers. A second
argument names other models, by commas.
"""

from __future__ import annotations

import sys
import time
import warnings
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np

matplotlib.use("Agg")
import matplotlib.pyplot as plt

import genus

FAMILIES = (
    "ProbabilisticPCA",
    "GaussianMixture",
    "BayesNet",
    "RBM",
    "DBM",
    "VAE",
    "SplineFlow",
    "MADE",
    "PixelCNN",
    "GAN",
    "EBM",
    "FlowMatching",
)
SHOWN = 16  # draws of each
SIGNS = {"Exact": "=", "LowerBound": "≤", "Estimate": "≈"}


def drawn(name: str, data: Any) -> tuple[np.ndarray, str]:
    """(SHOWN draws, bits a pixel of test rows in words) of a model as it is."""
    model = getattr(genus, name)(random_state=0)
    begun = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.fit(data.train)
        seconds = time.perf_counter() - begun
        images = np.asarray(model.sample(SHOWN, random_state=1))
        said = "no likelihood"
        if hasattr(model, "log_prob"):
            try:
                p = model.log_prob(data.test)
                said = f"{SIGNS[type(p).__name__]} {float(np.mean(p.bits_per_dim)):.2f} bits"
            except genus.CapabilityError:  # of an energy that learned by short chains
                said = "an energy alone"
    print(f"{name}: {said}, {seconds:.0f} s", flush=True)
    return images, said


def picture(rows: dict[str, tuple[np.ndarray, str]], path: Path) -> None:
    """A line of images a family, in two columns, its name and its number on the left."""
    names = list(rows)
    half = -(-len(names) // 2)
    fig, axes = plt.subplots(half, 2, figsize=(12, 0.56 * half + 0.1))
    for ax in axes.flat:
        ax.axis("off")
    for i, name in enumerate(names):
        images, said = rows[name]
        ax = axes[i % half, i // half]
        strip = np.pad(images, ((0, 0), (0, 0), (0, 1)), constant_values=0)
        ax.imshow(np.concatenate(list(strip), 1), cmap="gray_r", vmin=0, vmax=16)
        ax.text(-3, 2, name, ha="right", va="center", fontsize=9, weight="bold")
        ax.text(-3, 6, said, ha="right", va="center", fontsize=8)
    fig.subplots_adjust(left=0.12, right=0.995, top=0.99, bottom=0.01, wspace=0.32, hspace=0.12)
    path.parent.mkdir(parents=True, exist_ok=True)
    fig.savefig(path, dpi=110, facecolor="white")
    plt.close(fig)


def main(folder: Path, families: tuple[str, ...] = FAMILIES) -> None:
    data = genus.data.load("digits")
    real = np.asarray(data.test.X)[:SHOWN].reshape(SHOWN, 8, 8)
    rows = {"the digits": (real, "held out")}
    rows |= {name: drawn(name, data) for name in families}
    picture(rows, folder / "families.png")


if __name__ == "__main__":
    to = Path(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).parent / "figures")
    main(to, tuple(sys.argv[2].split(",")) if len(sys.argv) > 2 else FAMILIES)
