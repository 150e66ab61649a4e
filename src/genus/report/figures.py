"""What all plots share: colours, figures and axes, thought in CSS pixels."""

from __future__ import annotations

from typing import Any

from matplotlib.figure import Figure

INK = "#1b1f24"  # text and axes
PAPER = "#fefefe"
FAINT = "#838b95"  # grids and second things, legible on white and on black
REAL = "#838b95"
MODEL = "#3d7fd6"
SECOND = "#d0762b"
MISSING = (0.24, 0.50, 0.84, 0.28)
FONT = 9
PX = 96  # pixels an inch


def new_figure(width: float, height: float) -> Figure:
    """An empty transparent figure of so many pixels."""
    figure = Figure(figsize=(width / PX, height / PX), dpi=PX)
    figure.patch.set_alpha(0)
    return figure


def new_axes(
    figure: Figure,
    *,
    left: float,
    right: float,
    bottom: float,
    top: float,
    panel: tuple[int, int] = (0, 1),
    column: tuple[int, int] = (0, 1),
) -> Any:
    """Axes with margins in CSS pixels inside a panel (row, of rows), (column, of columns)."""
    width, height = figure.get_size_inches() * PX
    w, h = width / column[1], height / panel[1]
    x, y = column[0] * w + left, height - (panel[0] + 1) * h + bottom
    ax = figure.add_axes(
        (x / width, y / height, (w - left - right) / width, (h - bottom - top) / height)
    )
    ax.patch.set_alpha(0)
    for side in ("top", "right"):
        ax.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        ax.spines[side].set_color(FAINT)
        ax.spines[side].set_linewidth(0.8)
    ax.tick_params(labelsize=FONT - 1, colors=INK, color=FAINT, length=3)
    return ax


def shortened(name: str, most: int) -> str:
    """A name of at most so many characters."""
    return name if len(name) <= most else name[: most - 1] + "…"
