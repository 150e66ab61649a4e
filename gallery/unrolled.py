"""A recurrent network and a transformer, unrolled: what tells p(x_t | x_1 … x_{t−1}) of what.

Writes unrolled.png into the folder given (gallery/figures). A drawing, nothing is learned: the
networks are those of ``genus.PixelRNN`` (one row of pixels) and ``genus.AutoregressiveTransformer``
(one block of attention).
"""

from __future__ import annotations

import sys
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

CELL, STATE, TOLD, LINE = "#dde5ec", "#f3d9b8", "#d3e6d3", "#5b6770"
RED = "#c8402f"
STEPS = 4
Point = tuple[float, float]


def node(ax: plt.Axes, at: Point, text: str, colour: str) -> None:
    box = {"boxstyle": "round,pad=0.25", "facecolor": colour, "edgecolor": LINE, "lw": 0.8}
    ax.text(*at, text, ha="center", va="center", fontsize=9, bbox=box, zorder=3)


def arrow(ax: plt.Axes, a: Point, b: Point, colour: str = LINE, bend: float = 0.0) -> None:
    style = {
        "arrowstyle": "-|>",
        "color": colour,
        "lw": 0.9,
        "shrinkA": 11,
        "shrinkB": 11,
        "connectionstyle": f"arc3,rad={bend}",
    }
    ax.annotate("", b, a, arrowprops=style, zorder=2)


def unrolled(ax: plt.Axes, layers: int, title: str) -> None:
    """Inputs below, one or two layers of states, conditionals above; draws go back as inputs."""
    top = layers + 1
    for t in range(1, STEPS + 1):
        x = f"$x_{t - 1}$" if t > 1 else "start"
        node(ax, (t, 0), x, CELL)
        for k in range(1, layers + 1):
            node(ax, (t, k), f"$h_{t}$" if layers == 1 else f"$h_{t}^{k}$", STATE)
        told = ", ".join(f"x_{s}" for s in range(1, t))
        node(ax, (t, top), f"$p(x_{t}|{told})$" if told else f"$p(x_{t})$", TOLD)
        arrow(ax, (t, 0), (t, 1))
        arrow(ax, (t, layers), (t, top))
        if t < STEPS:
            arrow(ax, (t + 0.1, top - 0.05), (t + 1, 0.05), RED, bend=0.08)
    ax.set_title(title, fontsize=10)
    ax.set(xlim=(0.4, STEPS + 0.65), ylim=(-0.4, top + 0.4))
    ax.axis("off")


def main(folder: Path) -> None:
    fig, axes = plt.subplots(1, 2, figsize=(11, 3.9), layout="constrained")
    unrolled(axes[0], 1, "a recurrent network: one state hands on all that was seen")
    for t in range(1, STEPS):
        arrow(axes[0], (t, 1), (t + 1, 1))
    unrolled(axes[1], 2, "a transformer: every state looks at all before it, and at itself")
    for t in range(1, STEPS + 1):
        for s in range(1, t + 1):
            arrow(axes[1], (s, 1), (t, 2))
    folder.mkdir(parents=True, exist_ok=True)
    fig.savefig(folder / "unrolled.png", dpi=80, facecolor="white")
    plt.close(fig)


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).parent / "figures"))
