"""The autoencoder: what comes back, and what it cannot say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import genus
from genus import MLP, Autoencoder, CapabilityError, Trainer

NET = MLP(16, 1, "tanh")
FAST = Trainer(epochs=40, batch_size=50, lr=1e-2, validation=0.0)


def bits(n: int = 400, seed: int = 0) -> np.ndarray:
    """Four bits, twice."""
    half = np.random.default_rng(seed).integers(0, 2, (n, 2))
    return np.concatenate([half, half], 1)


def fitted(X: Any, **more: Any) -> Autoencoder:
    settings: dict[str, Any] = {"trainer": FAST, "random_state": 0}
    return Autoencoder(2, NET, NET, **(settings | more)).fit(X)


def test_rows_come_back() -> None:
    model = fitted(bits())
    X = bits(50, 1)
    assert np.abs(model.reconstruct(X) - X).max() < 0.1
    assert model.encode(X).shape == (50, 2) and model.reconstruction(X).min() > -0.5
    assert model.interpolate(X[0], X[1], 5).shape == (5, 4)


def test_it_has_no_likelihood_and_says_why() -> None:
    model = fitted(bits(), trainer=FAST.replace(epochs=1))
    for verb in ("log_prob", "score", "score_samples"):
        assert not hasattr(model, verb) and not hasattr(Autoencoder(), verb)
        with pytest.raises(CapabilityError, match=f"no {verb}: .*Use VAE"):
            getattr(model, verb)(bits())
    with pytest.raises(CapabilityError, match="pass density="):
        model.sample(3)
    with pytest.raises(AttributeError, match="nothing_of_the_kind"):
        model.nothing_of_the_kind  # noqa: B018


@pytest.mark.parametrize("density", [genus.GaussianMixture(4), genus.RealNVP(2, NET, trainer=FAST)])
def test_a_density_of_its_codes_gives_draws(density: Any, tmp_path: Path) -> None:
    model = fitted(bits(), density=density)
    drawn = model.sample(400, random_state=0)
    assert (drawn[:, :2] == drawn[:, 2:]).all(1).mean() > 0.75
    np.testing.assert_allclose(drawn.mean(0), 0.5, atol=0.15)
    model.save(tmp_path / "model")
    again = genus.load(tmp_path / "model")
    assert np.array_equal(again.sample(9, random_state=1), model.sample(9, random_state=1))


def test_hidden_cells_are_told_from_the_others() -> None:
    X = bits()
    spoiled = X.astype(float)
    spoiled[:, 0] = np.nan
    plain, denoising = (fitted(X, corruption=share) for share in (0.0, 0.4))
    error = [np.abs(m.reconstruct(spoiled)[:, 0] - X[:, 0]).mean() for m in (plain, denoising)]
    assert error[1] < 0.25 and error[1] < error[0]


def test_tables_with_gaps_come_back() -> None:
    rng = np.random.default_rng(0)
    z = rng.normal(size=300)
    frame = pd.DataFrame({"x": z, "y": np.exp(z), "word": np.where(z > 0, "up", "down")})
    frame.loc[::5, "y"] = np.nan
    model = fitted(frame, corruption=0.2, density=genus.Gaussian())
    back = model.reconstruct(frame)
    assert (back["word"] == frame["word"]).mean() > 0.9
    assert list(model.sample(5, random_state=0).columns) == ["x", "y", "word"]


def test_labels_reach_both_networks() -> None:
    X, label = bits(), np.random.default_rng(2).integers(0, 2, 400)
    moved = np.where(label[:, None] == 1, 1 - X, X)
    model = fitted(moved, trainer=FAST)
    assert model.encode(moved).shape == (400, 2)
    given = Autoencoder(2, NET, NET, trainer=FAST, random_state=0).fit(moved, given=label)
    assert np.abs(given.reconstruct(moved, given=label) - moved).mean() < 0.1
