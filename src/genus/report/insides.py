"""What can be drawn of a model is decided by the methods and attributes that it has."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure

from genus.coding import as_array
from genus.evaluate import hide
from genus.report.figures import FONT, INK, MODEL, new_axes, new_figure, shortened
from genus.report.images import Scale, image_grid, limits, pixels, signed_grid, tiled
from genus.space import Space


def completions(
    model: Any, X: Any, *, n: int = 3, scale: Scale | None = None, random_state: int = 0
) -> Figure:
    """Images, the same with their lower half hidden, and ``n`` completions each by the model."""
    space = model.space_
    mask = hide(space, len(as_array(X)), "lower")
    filled = model.complete(X, n, mask=mask, random_state=random_state)
    seen = np.where(mask, np.nan, as_array(X).astype(float))
    scale = scale or limits(space, X)
    rows = [pixels(a, space, scale) for a in (X, seen, *map(as_array, filled))]
    return tiled(rows, ["original", "given", "completed", *[""] * (n - 1)])


def reconstructions(model: Any, X: Any, *, scale: Scale | None = None) -> Figure:
    """Images above what is left of them after encoding and decoding."""
    scale = scale or limits(model.space_, X)
    rows = [pixels(a, model.space_, scale) for a in (X, model.reconstruct(X))]
    return tiled(rows, ["original", "reconstructed"])


def interpolations(model: Any, X: Any, *, steps: int = 9, scale: Scale | None = None) -> Figure:
    """Straight lines in latent space between rows 0 and 1, 2 and 3, … of X, decoded."""
    a = as_array(X)
    scale = scale or limits(model.space_, X)
    lines = [model.interpolate(a[i], a[i + 1], steps) for i in range(0, len(a) - 1, 2)]
    return tiled([pixels(line, model.space_, scale) for line in lines])


def latent_map(model: Any, X: Any, y: Any = None, *, most: int = 2000) -> Figure:
    """The codes of rows in the plane, coloured by label.

    The latent space where it is 2-D, else its principal plane.
    """
    from matplotlib import colormaps

    z = _in_the_plane(np.asarray(model.encode(X[:most]), dtype=float))
    figure = new_figure(360, 330)
    ax = new_axes(figure, left=30, right=56 if y is not None else 8, bottom=24, top=8)
    dots: dict[str, Any] = {"s": 7, "lw": 0, "rasterized": True}
    labels = None if y is None else np.asarray(y)[: len(z)]
    kinds = [] if labels is None else list(np.unique(labels))
    if labels is None:
        ax.scatter(*z.T, c=MODEL, alpha=0.7, **dots)
    elif len(kinds) > 20:
        ax.scatter(*z.T, c=labels.astype(float), alpha=0.7, **dots)
    else:
        palette = colormaps["tab10" if len(kinds) <= 10 else "tab20"]
        for i, kind in enumerate(kinds):
            ax.scatter(*z[labels == kind].T, color=palette(i), alpha=0.8, label=str(kind), **dots)
        ax.legend(
            frameon=False,
            fontsize=FONT - 1,
            labelcolor=INK,
            loc="upper left",
            bbox_to_anchor=(1, 1.02),
            handletextpad=0.1,
            markerscale=1.6,
        )
    return figure


def _in_the_plane(z: np.ndarray) -> np.ndarray:
    """Latent rows (n, …) as points (n, 2): their principal plane where they have more numbers."""
    z = z.reshape(len(z), -1)
    if z.shape[1] == 0:
        raise ValueError("it has no latent coordinate: one column has nothing to share")
    if z.shape[1] == 1:
        return np.stack([z[:, 0], np.zeros(len(z))], 1)
    if z.shape[1] == 2:
        return z
    z = z - z.mean(0)
    _, _, axes = np.linalg.svd(z, full_matrices=False)
    return z @ axes[:2].T


def manifold(model: Any, *, side: int = 12, scale: Scale | None = None) -> Figure:
    """The images of a 2-D latent space, at the quantiles of a standard normal.

    They run from bottom left to top right.
    """
    from scipy.stats import norm

    t = norm.ppf(np.linspace(0.03, 0.97, side))
    z = np.stack(np.meshgrid(t, t[::-1]), -1).reshape(-1, 2)
    x = model.decode(z)
    return image_grid(x, model.space_, columns=side, scale=scale or limits(model.space_, x))


def latent_use(model: Any, X: Any) -> Figure:
    """KL(q(z_j | x) ‖ p(z_j)) of every latent dimension, largest first; near zero: unused."""
    kl = np.sort(np.asarray(as_array(model.kl_per_dimension(X)), dtype=float))[::-1]
    figure = new_figure(360, 190)
    ax = new_axes(figure, left=44, right=8, bottom=36, top=8)
    ax.bar(np.arange(1, len(kl) + 1), kl, color=MODEL, width=0.8)
    ax.set_xlabel("latent dimension, by use", fontsize=FONT, color=INK)
    ax.set_ylabel("KL, nats", fontsize=FONT, color=INK)
    ax.locator_params(axis="x", integer=True)
    return figure


def component_means(model: Any, *, most: int = 64, scale: Scale | None = None) -> Figure:
    """The means of a mixture, heaviest component first.

    As images, or as a heat map of standardised columns.
    """
    space, weights = model.space_, as_array(model.weights_)
    order = np.argsort(-weights)[:most]
    if space.image_shape is None:
        return _mean_table(model, weights, order[:20])
    if hasattr(model, "unreal"):  # means are logits of dequantised levels where cells are discrete
        means = as_array(space.decode(model.unreal(model.means_)))
    else:
        means = as_array(space.means(model.cell_means.reshape(-1, *space.cell_shape)))
    columns = min(10, math.ceil(math.sqrt(len(order))))
    scale = scale or limits(space, means)
    return image_grid(means[order], space, scale=scale, columns=columns)


def _mean_table(model: Any, weights: np.ndarray, order: np.ndarray, most: int = 24) -> Figure:
    """The means of components in standard deviations from the mean of all, as a heat map."""
    means = as_array(getattr(model, "cell_means", model.means_))
    spread = means.std(0)
    centre = (weights[:, None] * means).sum(0)
    a = ((means - centre) / np.where(spread > 0, spread, 1))[order, :most]
    names = [shortened(n, 16) for n in model.space_.names()[:most]]
    below = 6 * max(map(len, names))
    figure = new_figure(60 + max(18 * len(names), 180) + 20, 20 * len(a) + 20 + below)
    ax = new_axes(figure, left=60, right=8, bottom=12 + below, top=6)
    ax.imshow(a, cmap="PuOr_r", vmin=-2.2, vmax=2.2, aspect="auto", interpolation="none")
    ax.set_yticks(range(len(a)), [f"{weights[k]:.0%}" for k in order])
    ax.set_xticks(range(len(names)), names, rotation=90)
    ax.set_ylabel("share of the rows", fontsize=FONT, color=INK)
    ax.tick_params(length=0)
    return figure


def filters(model: Any, *, most: int = 64) -> Figure:
    """What each hidden unit says of the visible ones, the strongest first.

    Its weights, where there is one to a cell; else how the mean of the cells moves when it is
    switched on while the other units stay at their averages.
    """
    W = model.W_.detach()  # (visible statistics, hidden)
    order = (-W.square().sum(0)).argsort()[:most]
    if W.shape[0] == model.space_.dim:
        return signed_grid(W[:, order].T, model.space_)
    on, off = model.lambda_.repeat(len(order), 1), model.lambda_.repeat(len(order), 1)
    on[range(len(order)), order], off[range(len(order)), order] = 1.0, 0.0
    with torch.no_grad():
        moved = model._decode(on) - model._decode(off)
    return signed_grid(moved.flatten(1), model.space_)


def loadings(model: Any, *, most: int = 64) -> Figure:
    """What each latent coordinate adds to the cells, the strongest first."""
    W = model.loadings_.detach()
    order = (-W.square().sum(0)).argsort()[:most]
    return signed_grid(W[:, order].T, model.space_)


def graph(model: Any, *, most: int = 40) -> Figure:
    """The edges of a Bayesian network.

    They lie between the pixels, or between the names of columns on a circle.
    """
    A = as_array(model.adjacency_)
    space = model.space_
    used, place = _on_the_image(space) if space.image_shape else _on_a_circle(A, most)
    figure = new_figure(360, 330)
    ax = new_axes(figure, left=8, right=8, bottom=8, top=8)
    arrow = {
        "arrowstyle": "-|>,head_width=0.15,head_length=0.3",
        "color": MODEL,
        "lw": 0.8,
        "shrinkA": 3,
        "shrinkB": 3,
    }
    for parent, child in np.argwhere(A):
        if parent in used and child in used:
            ax.annotate("", place[child], place[parent], arrowprops=arrow)
    ax.scatter(*place[used].T, s=8, color=INK, lw=0, zorder=3)
    if space.image_shape is None:
        names = space.names()
        for k in used:
            x, y = place[k]
            _name_outside(ax, x, y, shortened(names[k], 14))
    ax.set_aspect("equal")
    ax.set_axis_off()
    ax.margins(0.06 if space.image_shape is not None else 0.32)
    return figure


def _on_the_image(space: Space) -> tuple[np.ndarray, np.ndarray]:
    """All cells, and the place of each where its pixel lies."""
    assert space.image_shape is not None
    _, h, w = space.image_shape
    cell = np.arange(space.dim) % (h * w)
    place = np.stack([cell % w, h - 1 - cell // w], 1) * (260 / max(h, w, 2))
    return np.arange(space.dim), place


def _on_a_circle(A: np.ndarray, most: int) -> tuple[np.ndarray, np.ndarray]:
    """The columns with most edges, and places on a circle, from the top clockwise."""
    used = np.argsort(-(A.sum(0) + A.sum(1)), kind="stable")[:most]
    used.sort()
    angle = np.pi / 2 - 2 * np.pi * np.arange(len(used)) / len(used)
    place = np.zeros((len(A), 2))
    place[used] = np.stack([np.cos(angle), np.sin(angle)], 1) * 130
    return used, place


def _name_outside(ax: Any, x: float, y: float, name: str) -> None:
    """A name beside its place on the circle, away from the middle."""
    ha = "center" if abs(x) < 40 else "left" if x > 0 else "right"
    va = "center" if abs(y) < 100 else "bottom" if y > 0 else "top"
    ax.text(1.08 * x, 1.08 * y, name, fontsize=FONT - 1, color=INK, ha=ha, va=va)


def extremes(
    X: Any, log_prob: Any, space: Space, *, n: int = 8, scale: Scale | None = None
) -> Figure:
    """The images of X with the highest and the lowest log-probability.

    What a model finds typical, and outliers.
    """
    a = as_array(X)
    scale = scale or limits(space, X)
    order = np.argsort(-np.asarray(log_prob))
    rows = [pixels(a[index], space, scale) for index in (order[:n], order[-n:][::-1])]
    return tiled(rows, ["most probable", "least probable"])
