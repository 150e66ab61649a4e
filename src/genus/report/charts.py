"""Numbers as charts: likelihoods with their errors, learning curves, real rows beside samples."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from genus.coding import as_array, series_of
from genus.dtypes import is_calendar
from genus.report.figures import (
    FAINT,
    FONT,
    INK,
    MODEL,
    PAPER,
    REAL,
    SECOND,
    new_axes,
    new_figure,
    shortened,
)
from genus.space import Space


def whiskers(
    names: Sequence[str],
    values: Sequence[float],
    errors: Sequence[float],
    symbols: Sequence[str],
    label: str,
) -> Figure:
    """A dot and a whisker of ± 2 standard errors for each name.

    An open dot with an arrow is a bound.

    values: lower is better (bits per dimension). symbols: ``=``, ``≥`` or ``≈``: the likelihood is
    at least what a bound says, so the arrow of ``≥`` points to fewer bits.
    """
    figure = new_figure(460, 52 + 26 * len(names))
    ax = new_axes(figure, left=8 + 6.4 * max(map(len, names)), right=64, bottom=38, top=6)
    lows = [v - 2 * e for v, e in zip(values, errors, strict=True)]
    highs = [v + 2 * e for v, e in zip(values, errors, strict=True)]
    low, high = min(lows), max(highs)
    span = high - low or abs(low) or 1.0
    ax.set_xlim(low - 0.06 * span, high + 0.04 * span)

    places = np.arange(len(names))[::-1]
    beside = ax.get_yaxis_transform()  # x in parts of the axes
    for i, y in enumerate(places):
        value, bound = values[i], symbols[i] == "≥"
        ax.plot([lows[i], highs[i]], [y, y], color=MODEL, lw=2, solid_capstyle="round")
        if bound:
            arrow = {"arrowstyle": "->", "color": MODEL, "lw": 1.2}
            ax.annotate("", (value - 0.075 * span, y), (value, y), arrowprops=arrow)
        face = PAPER if bound else MODEL
        ax.plot([value], [y], "o", ms=6, color=MODEL, mfc=face, mew=1.6)
        text = f"{value:.3f}"
        ax.text(1.02, y, text, transform=beside, va="center", fontsize=FONT, color=INK)
    ax.set_yticks(places, names)
    ax.set_ylim(-0.6, len(names) - 0.4)
    ax.tick_params(axis="y", length=0)
    ax.grid(axis="x", color=FAINT, alpha=0.25, lw=0.8)
    ax.set_xlabel(label, fontsize=FONT, color=INK)
    ax.spines["left"].set_visible(False)
    return figure


def learning_curve(model: Any) -> Figure:
    """Objective and validation of each epoch (or iteration) of ``history_``; one panel a stage."""
    stages: dict[str, list[dict[str, Any]]] = {}
    for line in model.history_:
        stages.setdefault(line.get("stage", ""), []).append(line)
    figure = new_figure(400, 210 * len(stages))
    for k, (stage, lines) in enumerate(stages.items()):
        ax = new_axes(figure, left=56, right=10, bottom=38, top=20, panel=(k, len(stages)))
        _curve(ax, lines)
        if stage:
            ax.set_title(stage, fontsize=FONT, color=INK, loc="left")
    return figure


def _curve(ax: Any, lines: list[dict[str, Any]]) -> None:
    """One stage of a learning curve."""
    marker = "." if len(lines) < 12 else ""
    objective = [line["objective"] for line in lines]
    epochs = [line["epoch"] for line in lines]
    text = "objective (training rows)"
    ax.plot(epochs, objective, color=MODEL, lw=1.5, marker=marker, label=text)
    held = [(line["epoch"], line["validation"]) for line in lines if "validation" in line]
    if held:
        at, validation = zip(*held, strict=True)
        text = "validation (held-out rows)"
        ax.plot(at, validation, color=SECOND, lw=1.5, marker=marker, label=text)
        ax.legend(frameon=False, fontsize=FONT - 1, labelcolor=INK)

    values = np.array(objective + [v for _, v in held])
    values = values[np.isfinite(values)]
    if len(values) > 8:  # the first steps would flatten all that follows
        low, high = values.min(), np.percentile(values, 97)
        span = high - low or 1
        ax.set_ylim(low - 0.06 * span, high + 0.1 * span)
    what = "epoch" if any("lr" in line for line in lines) else "iteration"
    ax.set_xlabel(what, fontsize=FONT, color=INK)
    ax.grid(color=FAINT, alpha=0.25, lw=0.8)
    ax.locator_params(axis="x", integer=True)


def marginals(real: Any, sampled: Any, space: Space, *, most: int = 12) -> Figure:
    """Each coordinate's histogram: real rows filled, sampled rows as a line.

    The first ``most`` coordinates.
    """
    a, b = codes(real, space), codes(sampled, space)
    names = space.names()[:most]
    columns = min(3, len(names))
    rows = math.ceil(len(names) / columns)
    figure = new_figure(140 * columns, 100 * rows + 6)
    for j, name in enumerate(names):
        i, k = divmod(j, columns)
        ax = new_axes(
            figure, left=6, right=6, bottom=18, top=18, panel=(i, rows), column=(k, columns)
        )
        _marginal(ax, a[:, j], b[:, j], space, j)
        ax.set_title(shortened(name, 20), fontsize=FONT - 1, color=INK, pad=3)
    return figure


def _marginal(ax: Any, real: np.ndarray, sampled: np.ndarray, space: Space, j: int) -> None:
    """The two histograms of coordinate j."""
    column: Any = space.columns[j] if space.columns else space
    levels = space.cardinality[j]
    low = column.low if levels else 0
    x = real[np.isfinite(real)] + low
    s = sampled[np.isfinite(sampled)] + low
    if levels and levels <= 30:
        edges = np.arange(levels + 1) - 0.5 + low
    else:
        left, right = np.percentile(x, [0.2, 99.8])
        bins = int(np.clip(2 * len(x) ** 0.4, 7, 25))
        edges = np.linspace(left, right if right > left else left + 1, bins + 1)
    share = np.full(len(x), 1 / max(len(x), 1))
    ax.hist(x, edges, color=REAL, alpha=0.45, weights=share)
    share = np.full(len(s), 1 / max(len(s), 1))
    inside = np.clip(s, edges[0], edges[-1])
    ax.hist(inside, edges, color=MODEL, histtype="step", lw=1.3, weights=share)

    ax.set_yticks([])
    ax.spines["left"].set_visible(False)
    ax.tick_params(labelsize=FONT - 2)
    if space.columns and column.values is not None:
        words = [str(v)[:8] for v in column.values]
        ax.set_xticks(range(len(words)), words if len(words) <= 3 else [""] * len(words))
    elif space.columns and is_calendar(column.dtype):
        ax.locator_params(axis="x", nbins=2)
        ax.xaxis.set_major_formatter(
            lambda x, _: str(series_of(np.array([x - low]), column).iloc[0])[:7]
        )
    else:
        ax.locator_params(axis="x", nbins=3, integer=bool(levels))


def principal_plane(real: Any, sampled: Any, space: Space, *, most: int = 600) -> Figure:
    """Real and sampled rows on the first two principal components of the standardised real ones."""
    a, b = codes(real, space)[:most], codes(sampled, space)[:most]
    mean, std = np.nanmean(a, 0), np.nanstd(a, 0)
    a, b = (np.nan_to_num((v - mean) / np.where(std > 0, std, 1)) for v in (a, b))
    _, _, axes = np.linalg.svd(a, full_matrices=False)
    figure = new_figure(300, 260)
    ax = new_axes(figure, left=42, right=8, bottom=34, top=8)
    for v, colour, name in ((a, REAL, "real"), (b, MODEL, "sampled")):
        p = v @ axes[:2].T if len(axes) > 1 else np.stack([v[:, 0], np.zeros(len(v))], 1)
        size = 16 if len(p) < 200 else 6
        ax.scatter(*p.T, s=size, color=colour, alpha=0.65, lw=0, label=name, rasterized=True)
    reach = 1.25 * np.percentile(np.abs(a @ axes[:2].T), 99.5, axis=0) + 1e-9
    ax.set_xlim(-reach[0], reach[0])
    if len(reach) > 1:
        ax.set_ylim(-reach[1], reach[1])
    ax.legend(frameon=False, fontsize=FONT - 1, labelcolor=INK, markerscale=1.5)
    ax.set_xlabel("first principal component", fontsize=FONT - 1, color=INK)
    ax.set_ylabel("second", fontsize=FONT - 1, color=INK)
    return figure


def codes(X: Any, space: Space) -> np.ndarray:
    """Rows as flat floats, (n, dim): category numbers for words, NaN where missing."""
    if space.columns:
        return np.asarray(space.encode(X).double().flatten(1).numpy())
    a = as_array(X).astype(float)
    return a.reshape(len(a), -1)


def reliability_diagram(told: Any) -> Figure:
    """Accuracy against confidence of a ``Calibration``, a bar a bin, beside the diagonal.

    The grey bars are the share of all rows that are in the bin.
    """
    figure = new_figure(320, 320)
    ax = new_axes(figure, left=46, right=10, bottom=38, top=24)
    t = told.table
    width = t.high - t.low
    ax.bar(t.low, t.accuracy, width, align="edge", color=MODEL, alpha=0.7, label="accuracy")
    ax.bar(t.low, t.n / told.n, width, align="edge", color=REAL, alpha=0.5, label="share of rows")
    ax.plot(t.confidence, t.accuracy, "o", color=INK, ms=3)
    ax.plot([0, 1], [0, 1], color=INK, lw=0.8)
    ax.set_xlim(0, 1)
    ax.set_ylim(0, 1)
    ax.set_xlabel("confidence", fontsize=FONT, color=INK)
    ax.set_title(f"ECE {told.ece:.3f}", fontsize=FONT, color=INK, loc="left")
    ax.legend(frameon=False, fontsize=FONT - 1, labelcolor=INK, loc="upper left")
    return figure


def attacked(told: Any) -> Figure:
    """Accuracy against the size of an attack, of a ``Robustness``; a line a way to attack."""
    figure = new_figure(360, 260)
    ax = new_axes(figure, left=46, right=10, bottom=38, top=10)
    for name, colour in (("noise", REAL), ("fgsm", SECOND), ("pgd", MODEL)):
        ax.plot(told.table.eps, told.table[name], color=colour, lw=1.5, marker=".", label=name)
    ax.set_ylim(0, 1.02)
    ax.set_xlabel(f"ε ({told.norm})", fontsize=FONT, color=INK)
    ax.set_ylabel("accuracy", fontsize=FONT, color=INK)
    ax.grid(color=FAINT, alpha=0.25, lw=0.8)
    ax.legend(frameon=False, fontsize=FONT - 1, labelcolor=INK)
    return figure
