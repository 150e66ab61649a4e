"""Pictures of models and data, one small function each.

Every function returns a matplotlib ``Figure`` of its own (no pyplot, no global state): display it
in a notebook, or ``figure.savefig("x.png")``. What can be drawn of a model is decided by the
methods and attributes it has. Images are scaled by the levels of their space; missing cells are
drawn in tint.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray

from genus.coding import as_array
from genus.evaluate import hide
from genus.space import Space

Array = NDArray[Any]

INK = "#1b1f24"  # text and axes
PAPER = "#fefefe"
FAINT = "#838b95"  # grids and second things, legible on white and on black
REAL = "#838b95"
MODEL = "#3d7fd6"
SECOND = "#d0762b"
MISSING = (0.24, 0.50, 0.84, 0.28)
FONT = 9
PX = 96  # figure sizes are thought in CSS pixels


# ---------------------------------------------------------------------- images


def limits(space: Space, X: Any) -> tuple[float, float]:
    """The values drawn black and white.

    The ends of a discrete scale, the 0.5 % and 99.5 % points of a continuous one.
    """
    if space.kind in ("binary", "ordinal"):
        return float(space.low), float(space.low + (space.levels or 2) - 1)
    if (
        space.kind == "categorical"
        and space.values
        and all(isinstance(v, int | float) for v in space.values)
    ):
        return float(min(space.values)), float(max(space.values))
    a = as_array(X).astype(float)
    low, high = np.nanpercentile(a, [0.5, 99.5])
    return float(low), float(high if high > low else low + 1)


def pixels(X: Any, space: Space, scale: tuple[float, float] | None = None) -> Array:
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
    X: Any, space: Space, *, columns: int | None = None, scale: tuple[float, float] | None = None
) -> Figure:
    """Rows of X as a grid of images, in reading order."""
    tiles = pixels(X, space, scale)
    columns = columns or math.ceil(math.sqrt(len(tiles)))
    return _tiled([tiles[i : i + columns] for i in range(0, len(tiles), columns)])


def _tiled(rows: Sequence[Array], labels: Sequence[str] = (), width: float = 330) -> Figure:
    """Rows of (n, H, W, 4) tiles with a transparent gap between, a label before each row."""
    columns = max(len(r) for r in rows)
    _, h, w, _ = rows[0].shape
    gap = 1 if max(h, w) < 20 else 2
    sheet = np.zeros((len(rows) * (h + gap) - gap, columns * (w + gap) - gap, 4))
    for i, row in enumerate(rows):
        for j, image in enumerate(row):
            sheet[i * (h + gap) : i * (h + gap) + h, j * (w + gap) : j * (w + gap) + w] = image
    margin = 10 + 7.4 * max(map(len, labels)) if labels else 0
    zoom = min((width - margin) / sheet.shape[1], 72 / w)
    width, height = margin + sheet.shape[1] * zoom, sheet.shape[0] * zoom
    figure = _figure(width, height)
    ax = figure.add_axes((margin / width, 0, 1 - margin / width, 1))
    ax.imshow(sheet, interpolation="none", aspect="auto")
    ax.set_axis_off()
    for i, text in enumerate(labels):
        y = 1 - (i * (h + gap) + h / 2) / sheet.shape[0]
        figure.text(
            (margin - 8) / width, y, text, ha="right", va="center", fontsize=FONT, color=INK
        )
    return figure


def signed_grid(W: Any, space: Space, *, columns: int | None = None) -> Figure:
    """Weights of cells as images, (n, d), each on its own scale.

    Blue is below zero, orange above, white at zero.
    """
    cells = as_array(W).astype(float).reshape(len(W), *space.cell_shape)
    a = space.images(space.rows(cells)).mean(-1)
    a = a / np.maximum(np.abs(a).max(axis=(1, 2), keepdims=True), 1e-12)
    strength = np.abs(a)[..., None]
    hue = np.where((a > 0)[..., None], np.array([0.80, 0.36, 0.08]), np.array([0.12, 0.36, 0.72]))
    tiles = np.concatenate([1 - strength * (1 - hue), np.ones((*a.shape, 1))], -1)
    columns = columns or math.ceil(math.sqrt(len(tiles)))
    return _tiled([tiles[i : i + columns] for i in range(0, len(tiles), columns)])


# ---------------------------------------------------------------------- numbers


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
    figure = _figure(460, 52 + 26 * len(names))
    ax = _axes(figure, left=8 + 6.4 * max(map(len, names)), right=64, bottom=38, top=6)
    y = np.arange(len(names))[::-1]
    low = min(v - 2 * e for v, e in zip(values, errors, strict=True))
    high = max(v + 2 * e for v, e in zip(values, errors, strict=True))
    span = high - low or abs(low) or 1.0
    ax.set_xlim(low - 0.06 * span, high + 0.04 * span)
    for i, value, error, symbol in zip(y, values, errors, symbols, strict=True):
        ax.plot(
            [value - 2 * error, value + 2 * error],
            [i, i],
            color=MODEL,
            lw=2,
            solid_capstyle="round",
        )
        if symbol == "≥":
            ax.annotate(
                "",
                (value - 0.075 * span, i),
                (value, i),
                arrowprops={"arrowstyle": "->", "color": MODEL, "lw": 1.2},
            )
        ax.plot(
            [value], [i], "o", ms=6, color=MODEL, mfc=PAPER if symbol == "≥" else MODEL, mew=1.6
        )
        ax.text(
            1.02,
            i,
            f"{value:.3f}",
            transform=ax.get_yaxis_transform(),
            va="center",
            fontsize=FONT,
            color=INK,
        )
    ax.set_yticks(y, names)
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
    figure = _figure(400, 210 * len(stages))
    for k, (stage, lines) in enumerate(stages.items()):
        ax = _axes(figure, left=56, right=10, bottom=38, top=20, panel=(k, len(stages)))
        epochs = [line["epoch"] for line in lines]
        objective = [line["objective"] for line in lines]
        dots = "." if len(lines) < 12 else ""
        ax.plot(
            epochs, objective, color=MODEL, lw=1.5, marker=dots, label="objective (training rows)"
        )
        held = [(line["epoch"], line["validation"]) for line in lines if "validation" in line]
        if held:
            ax.plot(
                *zip(*held, strict=True),
                color=SECOND,
                lw=1.5,
                marker=dots,
                label="validation (held-out rows)",
            )
        values = np.array(objective + [v for _, v in held])
        values = values[np.isfinite(values)]
        if len(values) > 8:  # the first steps would flatten all that follows
            low, high = values.min(), np.percentile(values, 97)
            ax.set_ylim(low - 0.06 * (high - low or 1), high + 0.1 * (high - low or 1))
        ax.set_xlabel(
            "epoch" if any("lr" in line for line in lines) else "iteration",
            fontsize=FONT,
            color=INK,
        )
        ax.grid(color=FAINT, alpha=0.25, lw=0.8)
        ax.locator_params(axis="x", integer=True)
        if stage:
            ax.set_title(stage, fontsize=FONT, color=INK, loc="left")
        if held:
            ax.legend(frameon=False, fontsize=FONT - 1, labelcolor=INK)
    return figure


def marginals(real: Any, sampled: Any, space: Space, *, most: int = 12) -> Figure:
    """Each coordinate's histogram: real rows filled, sampled rows as a line.

    The first ``most`` coordinates.
    """
    a, b = codes(real, space), codes(sampled, space)
    names, levels = space.names()[:most], space.cardinality
    columns = min(3, len(names))
    rows = math.ceil(len(names) / columns)
    figure = _figure(140 * columns, 100 * rows + 6)
    for j, name in enumerate(names):
        ax = _axes(
            figure,
            left=6,
            right=6,
            bottom=18,
            top=18,
            panel=(j // columns, rows),
            column=(j % columns, columns),
        )
        column = space.columns[j] if space.columns else space
        low = column.low if levels[j] else 0
        x, s = (v[:, j][np.isfinite(v[:, j])] + low for v in (a, b))
        if levels[j] and levels[j] <= 30:
            edges = np.arange(levels[j] + 1) - 0.5 + low
        else:
            left, right = np.percentile(x, [0.2, 99.8])
            edges = np.linspace(
                left,
                right if right > left else left + 1,
                int(np.clip(2 * len(x) ** 0.4, 7, 25)) + 1,
            )
        ax.hist(x, edges, color=REAL, alpha=0.45, weights=np.full(len(x), 1 / max(len(x), 1)))
        ax.hist(
            np.clip(s, edges[0], edges[-1]),
            edges,
            color=MODEL,
            histtype="step",
            lw=1.3,
            weights=np.full(len(s), 1 / max(len(s), 1)),
        )
        ax.set_title(
            name if len(name) <= 20 else name[:19] + "…", fontsize=FONT - 1, color=INK, pad=3
        )
        ax.set_yticks([])
        ax.spines["left"].set_visible(False)
        ax.tick_params(labelsize=FONT - 2)
        if space.columns and column.values is not None:
            values = column.values
            ax.set_xticks(
                range(len(values)),
                [str(v)[:8] for v in values] if len(values) <= 3 else [""] * len(values),
            )
        elif space.columns and column.dtype.startswith("datetime64"):
            ax.locator_params(axis="x", nbins=2)
            ax.xaxis.set_major_formatter(lambda days, _: str(np.datetime64(round(days), "D"))[:7])
        else:
            ax.locator_params(axis="x", nbins=3, integer=bool(levels[j]))
    return figure


def principal_plane(real: Any, sampled: Any, space: Space, *, most: int = 600) -> Figure:
    """Real and sampled rows on the first two principal components of the standardised real ones."""
    a, b = codes(real, space)[:most], codes(sampled, space)[:most]
    mean, std = np.nanmean(a, 0), np.nanstd(a, 0)
    a, b = (np.nan_to_num((v - mean) / np.where(std > 0, std, 1)) for v in (a, b))
    _, _, axes = np.linalg.svd(a, full_matrices=False)
    figure = _figure(300, 260)
    ax = _axes(figure, left=42, right=8, bottom=34, top=8)
    for v, colour, name in ((a, REAL, "real"), (b, MODEL, "sampled")):
        p = v @ axes[:2].T if len(axes) > 1 else np.stack([v[:, 0], np.zeros(len(v))], 1)
        ax.scatter(
            p[:, 0],
            p[:, 1],
            s=16 if len(p) < 200 else 6,
            color=colour,
            alpha=0.65,
            lw=0,
            label=name,
            rasterized=True,
        )
    centre = a @ axes[:2].T
    reach = 1.25 * np.percentile(np.abs(centre), 99.5, axis=0) + 1e-9
    ax.set_xlim(-reach[0], reach[0])
    if len(reach) > 1:
        ax.set_ylim(-reach[1], reach[1])
    ax.legend(frameon=False, fontsize=FONT - 1, labelcolor=INK, markerscale=1.5)
    ax.set_xlabel("first principal component", fontsize=FONT - 1, color=INK)
    ax.set_ylabel("second", fontsize=FONT - 1, color=INK)
    return figure


def codes(X: Any, space: Space) -> Array:
    """Rows as flat floats, (n, dim): category numbers for words, NaN where missing."""
    if space.columns:
        return np.asarray(space.encode(X).double().flatten(1).numpy())
    a = as_array(X).astype(float)
    return a.reshape(len(a), -1)


# ---------------------------------------------------------------------- what a model can do


def completions(
    model: Any,
    X: Any,
    *,
    n: int = 3,
    scale: tuple[float, float] | None = None,
    random_state: int = 0,
) -> Figure:
    """Images, the same with their lower half hidden, and ``n`` completions each by the model."""
    space = model.space_
    mask = hide(space, len(as_array(X)), "lower")
    filled = [as_array(a) for a in model.complete(X, n, mask=mask, random_state=random_state)]
    shown = np.where(mask, np.nan, as_array(X).astype(float))
    scale = scale or limits(space, X)
    rows = [pixels(a, space, scale) for a in (X, shown, *filled)]
    return _tiled(rows, ["original", "given", "completed", *[""] * (n - 1)])


def reconstructions(model: Any, X: Any, *, scale: tuple[float, float] | None = None) -> Figure:
    """Images above what is left of them after encoding and decoding."""
    scale = scale or limits(model.space_, X)
    return _tiled(
        [pixels(X, model.space_, scale), pixels(model.reconstruct(X), model.space_, scale)],
        ["original", "reconstructed"],
    )


def interpolations(
    model: Any, X: Any, *, steps: int = 9, scale: tuple[float, float] | None = None
) -> Figure:
    """Straight lines in latent space between rows 0 and 1, 2 and 3, … of X, decoded."""
    a = as_array(X)
    scale = scale or limits(model.space_, X)
    pairs = range(0, len(a) - 1, 2)
    return _tiled(
        [pixels(model.interpolate(a[i], a[i + 1], steps), model.space_, scale) for i in pairs]
    )


def latent_map(model: Any, X: Any, y: Any = None, *, most: int = 2000) -> Figure:
    """The codes of rows in the plane, coloured by label.

    The latent space where it is 2-D, else its principal plane.
    """
    from matplotlib import colormaps

    z = np.asarray(model.encode(X[:most]), dtype=float)
    z = z.reshape(len(z), -1)
    if z.shape[1] > 2:
        z = z - z.mean(0)
        z = z @ np.linalg.svd(z, full_matrices=False)[2][:2].T
    elif z.shape[1] == 1:
        z = np.stack([z[:, 0], np.zeros(len(z))], 1)
    figure = _figure(360, 330)
    ax = _axes(figure, left=30, right=56 if y is not None else 8, bottom=24, top=8)
    labels = None if y is None else np.asarray(y)[: len(z)]
    kinds = [] if labels is None else list(np.unique(labels))
    if labels is not None and len(kinds) <= 20:
        palette = colormaps["tab10" if len(kinds) <= 10 else "tab20"]
        for i, kind in enumerate(kinds):
            p = z[labels == kind]
            ax.scatter(
                p[:, 0],
                p[:, 1],
                s=7,
                color=palette(i),
                lw=0,
                alpha=0.8,
                label=str(kind),
                rasterized=True,
            )
        ax.legend(
            frameon=False,
            fontsize=FONT - 1,
            labelcolor=INK,
            loc="upper left",
            bbox_to_anchor=(1, 1.02),
            handletextpad=0.1,
            markerscale=1.6,
        )
    else:
        ax.scatter(
            z[:, 0],
            z[:, 1],
            s=7,
            c=MODEL if labels is None else labels.astype(float),
            lw=0,
            alpha=0.7,
            rasterized=True,
        )
    return figure


def manifold(model: Any, *, side: int = 12, scale: tuple[float, float] | None = None) -> Figure:
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
    figure = _figure(360, 190)
    ax = _axes(figure, left=44, right=8, bottom=36, top=8)
    ax.bar(np.arange(1, len(kl) + 1), kl, color=MODEL, width=0.8)
    ax.set_xlabel("latent dimension, by use", fontsize=FONT, color=INK)
    ax.set_ylabel("KL, nats", fontsize=FONT, color=INK)
    ax.locator_params(axis="x", integer=True)
    return figure


def component_means(
    model: Any, *, most: int = 64, scale: tuple[float, float] | None = None
) -> Figure:
    """The means of a mixture, heaviest component first.

    As images, or as a heat map of standardised columns.
    """
    means, weights = as_array(getattr(model, "cell_means", model.means_)), as_array(model.weights_)
    order = np.argsort(-weights)[:most]
    space = model.space_
    if space.image_shape is not None:
        # means are logits of dequantised levels where cells are discrete
        if hasattr(model, "unreal"):
            means = as_array(space.decode(model.unreal(model.means_)))
        else:
            means = as_array(space.means(model.cell_means.reshape(-1, *space.cell_shape)))
        return image_grid(
            means[order],
            space,
            scale=scale or limits(space, means),
            columns=min(10, math.ceil(math.sqrt(len(order)))),
        )
    spread = means.std(0)
    a = ((means - (weights[:, None] * means).sum(0)) / np.where(spread > 0, spread, 1))[
        order[:20], :24
    ]
    names = [n if len(n) <= 16 else n[:15] + "…" for n in space.names()[:24]]
    figure = _figure(
        60 + max(18 * len(names), 180) + 20, 20 * len(a) + 20 + 6 * max(map(len, names))
    )
    ax = _axes(figure, left=60, right=8, bottom=12 + 6 * max(map(len, names)), top=6)
    ax.imshow(a, cmap="PuOr_r", vmin=-2.2, vmax=2.2, aspect="auto", interpolation="none")
    ax.set_yticks(range(len(a)), [f"{weights[k]:.0%}" for k in order[:20]])
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
        return signed_grid((model._decode(on) - model._decode(off)).flatten(1), model.space_)


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
    if space.image_shape is not None:
        _, h, w = space.image_shape
        cell = np.arange(space.dim) % (h * w)
        place = np.stack([cell % w, h - 1 - cell // w], 1) * (260 / max(h, w, 2))
        used = np.arange(space.dim)
    else:
        used = np.argsort(-(A.sum(0) + A.sum(1)), kind="stable")[:most]
        used.sort()
        angle = np.pi / 2 - 2 * np.pi * np.arange(len(used)) / len(used)
        place = np.zeros((space.dim, 2))
        place[used] = np.stack([np.cos(angle), np.sin(angle)], 1) * 130
    figure = _figure(360, 330)
    ax = _axes(figure, left=8, right=8, bottom=8, top=8)
    for i, j in np.argwhere(A):
        if i in used and j in used:
            ax.annotate(
                "",
                place[j],
                place[i],
                arrowprops={
                    "arrowstyle": "-|>,head_width=0.15,head_length=0.3",
                    "color": MODEL,
                    "lw": 0.8,
                    "shrinkA": 3,
                    "shrinkB": 3,
                },
            )
    ax.scatter(*place[used].T, s=8, color=INK, lw=0, zorder=3)
    if space.image_shape is None:
        names = space.names()
        for k in used:
            x, y = place[k]
            name = names[k] if len(names[k]) <= 14 else names[k][:13] + "…"
            ax.text(
                1.08 * x,
                1.08 * y,
                name,
                fontsize=FONT - 1,
                color=INK,
                ha="center" if abs(x) < 40 else "left" if x > 0 else "right",
                va="center" if abs(y) < 100 else "bottom" if y > 0 else "top",
            )
    ax.set_aspect("equal")
    ax.set_axis_off()
    ax.margins(0.06 if space.image_shape is not None else 0.32)
    return figure


def extremes(
    X: Any, log_prob: Any, space: Space, *, n: int = 8, scale: tuple[float, float] | None = None
) -> Figure:
    """The images of X with the highest and the lowest log-probability.

    What a model finds typical, and outliers.
    """
    order = np.argsort(-np.asarray(log_prob))
    a = as_array(X)
    rows = [
        pixels(a[index], space, scale or limits(space, X))
        for index in (order[:n], order[-n:][::-1])
    ]
    return _tiled(rows, ["most probable", "least probable"])


# ---------------------------------------------------------------------- figures


def _figure(width: float, height: float) -> Figure:
    figure = Figure(figsize=(width / PX, height / PX), dpi=PX)
    figure.patch.set_alpha(0)
    return figure


def _axes(
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
