"""Pictures of a latent space hold what the model says of it."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest

import genus
from genus.report import plots
from genus.report.codes import arc

DIGITS = genus.data.load("digits")
FEW = genus.Trainer(max_steps=60, lr=1e-2)


@cache
def vae(beta: float = 1.0) -> genus.VAE:
    return genus.VAE(2, beta=beta, trainer=FEW, random_state=0).fit(DIGITS.train)


def sheet(figure: object) -> np.ndarray:
    return np.asarray(figure.axes[0].images[0].get_array())  # type: ignore[attr-defined]


def test_the_aggregated_posterior_is_drawn_over_the_prior() -> None:
    ax = plots.aggregated_posterior(vae(), DIGITS.test.X, DIGITS.test.y).axes[0]
    dots = [c for c in ax.collections if len(c.get_offsets()) > 1]
    assert sum(len(c.get_offsets()) for c in dots) == len(DIGITS.test)
    rings = next(c for c in ax.collections if c not in dots)
    # of N(0, I): half of it lies within √(2 log 2)
    radii = [np.linalg.norm(p.vertices, axis=1).mean() for p in rings.get_paths()]
    for share, radius in zip((0.9, 0.5, 0.1), radii, strict=True):
        assert radius == pytest.approx(np.sqrt(-2 * np.log(1 - share)), rel=0.05)
    wide = genus.VAE(3, trainer=FEW.replace(max_steps=1), random_state=0).fit(DIGITS.train)
    with pytest.raises(ValueError, match="latent_map"):
        plots.aggregated_posterior(wide, DIGITS.test.X)


def test_rows_of_tiles() -> None:
    X = DIGITS.test.X[:4]
    assert sheet(plots.traversals(vae(), X[:1], steps=5)).shape == (17, 44, 4)
    hot = plots.temperatures(vae(), (0.0, 1.0), n=5, random_state=0)
    cold = sheet(hot)[:8]
    np.testing.assert_allclose(cold[:, :8], cold[:, 9:17])  # at 0 all are one
    assert [t.get_text() for t in hot.texts] == ["0", "1"]
    both = plots.reconstructions_of({"1": vae(), "20": vae(20.0)}, X)
    assert sheet(both).shape == (26, 35, 4)
    assert sheet(plots.arcs(vae(), X, steps=3)).shape == (17, 26, 4)


def test_an_arc_keeps_to_its_sphere() -> None:
    a, b = np.array([2.0, 0.0, 0.0]), np.array([0.0, 2.0, 0.0])
    t = np.linspace(0, 1, 5)[:, None]
    path = arc(a, b, t)
    np.testing.assert_allclose(np.linalg.norm(path, axis=1), 2)
    np.testing.assert_allclose(path[[0, -1]], [a, b], atol=1e-12)
    np.testing.assert_allclose(arc(a, 2 * a, t), (1 + t) * a)
