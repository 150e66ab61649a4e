"""A latent space as a figure: where rows lie in it, what it tells, and what comes out of it."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.figure import Figure

from genus.report.figures import FAINT, FONT, INK, MODEL, REAL, SECOND, new_axes, new_figure


def diagnosis(found: Any) -> Figure:
    """Four panels of a ``genus.diagnose``: the plane of z, its dimensions, ranks and scores."""
    figure = new_figure(660, 520)
    place = {"left": 50, "right": 14, "bottom": 40, "top": 24}
    panels = [
        new_axes(figure, panel=(i, 2), column=(j, 2), **place) for i in range(2) for j in range(2)
    ]
    _plane(panels[0], found)
    _dimensions(panels[1], found)
    _ranks(panels[2], found)
    _scores(panels[3], found)
    return figure


def _title(ax: Any, title: str, x: str, y: str) -> None:
    ax.set_title(title, fontsize=FONT, color=INK, loc="left")
    ax.set_xlabel(x, fontsize=FONT, color=INK)
    ax.set_ylabel(y, fontsize=FONT, color=INK)


def _plane(ax: Any, found: Any) -> None:
    """The aggregated posterior as a density, the prior as contours, holes as crosses."""
    from genus.evaluate.diagnose import density

    title = f"q(z) blue, p(z) lines, {found.holes:.0%} of it empty"
    if len(found.plane) < 2:
        both = (found.points[:, 0], found.prior_points[:, 0])
        low, high = (f([f(v) for v in both]) for f in (min, max))
        edges = np.linspace(low, high, 50)
        ax.hist(both[0], edges, density=True, color=MODEL, alpha=0.6)
        ax.hist(both[1], edges, density=True, histtype="step", color=INK)
        _title(ax, title, "z", "density")
        return
    every = np.concatenate([found.points, found.prior_points])
    low, high = np.quantile(every, [0.002, 0.998], axis=0) + np.array([[-0.3], [0.3]])
    x, y = (np.linspace(low[j], high[j], 70) for j in range(2))
    grid = np.stack(np.meshgrid(x, y), -1).reshape(-1, 2)
    q, p = (
        density(points[:1500], grid).reshape(len(y), len(x))
        for points in (found.points, found.prior_points)
    )
    ax.contourf(x, y, q, 12, cmap="Blues")
    levels = p.max() * np.array([0.02, 0.14, 0.6])  # about 2.8, 2 and 1 standard deviations
    ax.contour(x, y, p, levels, colors=INK, linewidths=0.8)
    if len(found.hole_places):
        ax.plot(*found.hole_places.T, "x", color=SECOND, ms=7, mew=1.6)
    _title(ax, title, f"z{found.plane[0]}", f"z{found.plane[1]}")


def _dimensions(ax: Any, found: Any) -> None:
    """What each dimension tells of a row, the most telling first."""
    from genus.evaluate.diagnose import TOLD

    told = np.sort(found.told)[::-1]
    colours = [MODEL if v > TOLD else REAL for v in told]
    ax.bar(np.arange(1, len(told) + 1), told, color=colours, width=0.8)
    ax.locator_params(axis="x", integer=True)
    ax.set_ylim(min(0.0, told[-1]), 1.05 * max(told[0], 4 * TOLD))  # next to nothing looks so
    ax.axhline(TOLD, color=FAINT, lw=0.8)
    title = f"{found.active} of {found.latent_dim} dimensions in use"
    _title(ax, title, "latent dimension, by use", "information, nats")


def _ranks(ax: Any, found: Any) -> None:
    """Even where reconstructions are calibrated, U-shaped where they are too sure."""
    ax.hist(found.ranks, np.linspace(0, 1, 21), density=True, color=MODEL, alpha=0.8)
    ax.axhline(1, color=FAINT, lw=0.8)
    title = f"calibration: {found.coverage[1]:.0%} of cells in the central 90 %"
    _title(ax, title, "rank among reconstructions", "density")


def _scores(ax: Any, found: Any) -> None:
    """Log-probabilities of the rows beside those of the model's own draws."""
    both = np.concatenate([found.scores, found.own_scores])
    low, high = np.quantile(both, [0.005, 0.995])
    edges = np.linspace(low, max(high, low + 1e-6), 40)
    inside = {"density": True, "bins": edges}
    ax.hist(np.clip(found.own_scores, edges[0], edges[-1]), color=REAL, alpha=0.6, **inside)
    ax.hist(
        np.clip(found.scores, edges[0], edges[-1]), histtype="step", color=MODEL, lw=1.4, **inside
    )
    title = f"{len(found.strange)} rows do not belong"
    _title(ax, title, "log p(x), nats: own draws grey, rows blue", "density")
