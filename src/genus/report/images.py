"""Rows of images as pictures: scaled by the levels of their space, missing cells in tint."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from genus.coding import as_array
from genus.report.figures import FONT, INK, MISSING, new_figure
from genus.space import Space

Scale = tuple[float, float]  # the values drawn black and white


def limits(space: Space, X: Any) -> Scale:
    """The values drawn black and white.

    The ends of a discrete scale, the 0.5 % and 99.5 % points of a continuous one.
    """
    if space.kind in ("binary", "ordinal", "integer"):
        return float(space.low), float(space.low + (space.levels or 2) - 1)
    values = space.values or ()
    if space.kind == "categorical" and values and all(isinstance(v, int | float) for v in values):
        return float(min(values)), float(max(values))
    low, high = np.nanpercentile(as_array(X).astype(float), [0.5, 99.5])
    return float(low), float(high if high > low else low + 1)


def pixels(X: Any, space: Space, scale: Scale | None = None) -> np.ndarray:
    """Rows of images as RGBA in [0, 1], shape (n, H, W, 4); NaN becomes a tint."""
    a = space.images(X).astype(float)
    low, high = scale or limits(space, a)
    rgb = np.clip((a - low) / (high - low), 0, 1)
    rgb = np.repeat(rgb, 3, axis=-1) if rgb.shape[-1] == 1 else rgb[..., :3]
    out = np.ones((*rgb.shape[:3], 4))
    out[..., :3] = rgb
    out[np.isnan(rgb).any(-1)] = MISSING
    return out


def image_grid(
    X: Any, space: Space, *, columns: int | None = None, scale: Scale | None = None
) -> Figure:
    """Rows of X as a grid of images, in reading order."""
    return _grid(pixels(X, space, scale), columns)


def signed_grid(W: Any, space: Space, *, columns: int | None = None) -> Figure:
    """Weights of cells as images, (n, d), each on its own scale.

    Blue is below zero, orange above, white at zero.
    """
    cells = as_array(W).astype(float).reshape(len(W), *space.cell_shape)
    a = space.images(space.rows(cells)).mean(-1)
    a = a / np.maximum(np.abs(a).max(axis=(1, 2), keepdims=True), 1e-12)
    orange, blue = np.array([0.80, 0.36, 0.08]), np.array([0.12, 0.36, 0.72])
    hue = np.where((a > 0)[..., None], orange, blue)
    rgb = 1 - np.abs(a)[..., None] * (1 - hue)
    opaque = np.ones((*a.shape, 1))
    return _grid(np.concatenate([rgb, opaque], -1), columns)


def _grid(tiles: np.ndarray, columns: int | None) -> Figure:
    columns = columns or math.ceil(math.sqrt(len(tiles)))
    return tiled([tiles[i : i + columns] for i in range(0, len(tiles), columns)])


def tiled(rows: Sequence[np.ndarray], labels: Sequence[str] = (), width: float = 330) -> Figure:
    """Rows of (n, H, W, 4) tiles with a transparent gap between, a label before each row."""
    _, h, w, _ = rows[0].shape
    gap = 1 if max(h, w) < 20 else 2
    columns = max(len(r) for r in rows)
    sheet = np.zeros((len(rows) * (h + gap) - gap, columns * (w + gap) - gap, 4))
    for i, row in enumerate(rows):
        for j, image in enumerate(row):
            top, left = i * (h + gap), j * (w + gap)
            sheet[top : top + h, left : left + w] = image

    margin = 10 + 7.4 * max(map(len, labels)) if labels else 0
    zoom = min((width - margin) / sheet.shape[1], 72 / w)
    width, height = margin + sheet.shape[1] * zoom, sheet.shape[0] * zoom
    figure = new_figure(width, height)
    ax = figure.add_axes((margin / width, 0, 1 - margin / width, 1))
    ax.imshow(sheet, interpolation="none", aspect="auto")
    ax.set_axis_off()
    for i, text in enumerate(labels):
        x = (margin - 8) / width
        y = 1 - (i * (h + gap) + h / 2) / sheet.shape[0]
        figure.text(x, y, text, ha="right", va="center", fontsize=FONT, color=INK)
    return figure
