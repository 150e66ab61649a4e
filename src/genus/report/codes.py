"""Pictures of a latent space: where rows lie in it, and what is decoded from its places."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from genus.coding import as_array
from genus.report.figures import FONT, INK, MODEL, new_axes, new_figure
from genus.report.images import Scale, limits, pixels, tiled

EDGE = 4.0  # least half-width of a plane of codes, in standard deviations of N(0, I)


def aggregated_posterior(
    model: Any, X: Any, y: Any = None, *, most: int = 2000, random_state: int = 0
) -> Figure:
    """A draw of q(z | x) for each row, coloured by label, over contours of the prior p(z).

    The latent space has two dimensions. The contours hold 10, 50 and 90 % of the prior. Dots where
    the prior has little are codes that draws of the model miss; a place of the prior without dots
    is a hole, from which the decoder was never asked.
    """
    from matplotlib import colormaps

    if model.latent_dim != 2:
        raise ValueError(
            f"latent_dim={model.latent_dim}: this picture is of 2 dimensions; "
            "latent_map(model, X) has the principal plane of the codes"
        )
    m, s = model.posterior(X[:most])
    rng = np.random.default_rng(random_state)
    z = m + s * rng.normal(size=m.shape)
    figure = new_figure(330, 330)
    ax = new_axes(figure, left=28, right=8 if y is None else 48, bottom=24, top=8)
    kinds = [] if y is None else list(np.unique(np.asarray(y)[:most]))
    dots: dict[str, Any] = {"s": 5, "lw": 0, "alpha": 0.6, "rasterized": True}
    if not kinds:
        ax.scatter(*z.T, color=MODEL, **dots)
    palette = colormaps["tab10" if len(kinds) <= 10 else "tab20"]
    for i, kind in enumerate(kinds):
        ax.scatter(*z[np.asarray(y)[:most] == kind].T, color=palette(i), label=str(kind), **dots)
    if kinds:
        ax.legend(
            frameon=False,
            fontsize=FONT - 1,
            labelcolor=INK,
            loc="upper left",
            bbox_to_anchor=(1, 1.02),
            handletextpad=0.1,
            markerscale=1.6,
        )
    edge = max(EDGE, float(np.quantile(np.abs(z), 0.995)))
    axis = np.linspace(-edge, edge, 160)
    plane = np.stack(np.meshgrid(axis, axis), -1).reshape(-1, 2)
    log_p = model.log_prior(plane)
    ax.contour(
        axis,
        axis,
        log_p.reshape(160, 160),
        levels=sorted({_level(log_p, share) for share in (0.9, 0.5, 0.1)}),
        colors=INK,
        linewidths=0.8,
        linestyles="solid",
    )
    ax.set(xlim=(-edge, edge), ylim=(-edge, edge), aspect="equal")
    return figure


def _level(log_p: np.ndarray, share: float) -> float:
    """The log-density of which what lies above holds this share of the mass on a grid."""
    order = np.sort(log_p)[::-1]
    mass = np.cumsum(np.exp(order - order[0]))
    return float(order[np.searchsorted(mass, share * mass[-1])])


def traversals(
    model: Any,
    x: Any,
    *,
    dimensions: Any = None,
    span: float = 3.0,
    steps: int = 9,
    scale: Scale | None = None,
) -> Figure:
    """What is decoded as one latent dimension goes from −span to span, a row each.

    The others stay where they are in the code of the one row x. ``dimensions``: which, at most 10
    of the first where none are named.
    """
    z = np.asarray(model.encode(x), dtype=float)[:1]
    named = range(min(10, z.shape[1])) if dimensions is None else list(dimensions)
    t = np.linspace(-span, span, steps)
    rows = []
    for j in named:
        line = np.repeat(z, steps, 0)
        line[:, j] = t
        rows.append(model.decode(line))
    space = model.space_
    scale = scale or limits(space, np.concatenate([as_array(r) for r in rows]))
    tiles = [pixels(r, space, scale) for r in rows]
    return tiled(tiles, [f"z{j + 1}" for j in named])


def temperatures(
    model: Any,
    values: Any = (0.3, 0.6, 1.0, 1.3),
    *,
    n: int = 9,
    scale: Scale | None = None,
    random_state: int = 0,
) -> Figure:
    """Decoded draws of the prior, drawn towards their mean by each temperature, a row each.

    At 1 they are the model's own. Lower ones are more typical, and more alike.
    """
    z = model.sample_latent(n, random_state=random_state)
    centre = model.sample_latent(1000, random_state=random_state + 1).mean(0)
    rows = [model.decode(centre + float(t) * (z - centre)) for t in values]
    scale = scale or limits(model.space_, np.concatenate([as_array(r) for r in rows]))
    return tiled([pixels(r, model.space_, scale) for r in rows], [f"{t:g}" for t in values])


def reconstructions_of(models: Mapping[str, Any], X: Any, *, scale: Scale | None = None) -> Figure:
    """Images above what is left of them after encoding and decoding by each of some models.

    ``models``: by the labels of their rows, such as the β of each.
    """
    space = next(iter(models.values())).space_
    scale = scale or limits(space, X)
    rows = [pixels(X, space, scale)]
    rows += [pixels(m.reconstruct(X), space, scale) for m in models.values()]
    return tiled(rows, ["original", *models])


def arcs(
    model: Any, X: Any, *, steps: int = 9, spherical: bool = True, scale: Scale | None = None
) -> Figure:
    """Arcs in latent space between rows 0 and 1, 2 and 3, … of X, decoded.

    z(t) = (sin (1 − t)ω z₀ + sin tω z₁)/sin ω, ω the angle between z₀ and z₁ (White, 2016). Codes
    of many dimensions lie near a sphere, and a straight line leaves it. ``spherical=False``: the
    line.
    """
    z = np.asarray(model.encode(X), dtype=float)
    scale = scale or limits(model.space_, X)
    t = np.linspace(0, 1, steps)[:, None]
    rows = []
    for a, b in zip(z[::2], z[1::2], strict=False):
        path = arc(a, b, t) if spherical else (1 - t) * a + t * b
        rows.append(pixels(model.decode(path), model.space_, scale))
    return tiled(rows)


def arc(a: np.ndarray, b: np.ndarray, t: np.ndarray) -> np.ndarray:
    """The points at t (m, 1) of the arc from a to b; of the line where they point one way."""
    lengths = np.linalg.norm(a) * np.linalg.norm(b)
    angle = np.arccos(np.clip(a @ b / max(lengths, 1e-300), -1, 1))
    if np.sin(angle) < 1e-6:
        return (1 - t) * a + t * b
    return (np.sin((1 - t) * angle) * a + np.sin(t * angle) * b) / np.sin(angle)
