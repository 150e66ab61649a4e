"""Score models: the score that is learned is that of the data under a little noise."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from genus import ResNet, ScoreModel, Trainer

X = np.random.default_rng(0).normal(size=(300, 1)) * 2 + 5
TRAINER = Trainer(epochs=80, batch_size=64, lr=5e-3, progress=False)


@pytest.mark.parametrize("prediction", ["noise", "edm"])
def test_the_score_of_a_standard_normal_is_minus_the_row(prediction: str) -> None:
    model = ScoreModel(ResNet(16, 1), prediction=prediction, trainer=TRAINER, random_state=0)
    score = model.fit(X).score_function(X)[:, 0]
    z = (X[:, 0] - X.mean()) / X.std()
    near = np.abs(z) < 1.5
    assert np.corrcoef(score[near], -z[near])[0, 1] > 0.9


def test_sizes_of_noise() -> None:
    model = ScoreModel(sigma_min=0.1, sigma_max=20.0)
    path = model.path()
    assert float(path.sigma(path.times(1))[0]) == pytest.approx(20, rel=1e-3)
    half = torch.tensor(0.5, dtype=torch.float64)
    for low in (0.1, 0.001):  # half way σ is the root of both, as it grows geometrically
        middle = float(ScoreModel(sigma_min=low, sigma_max=20.0).path().sigma(half))
        assert middle == pytest.approx((low * 20) ** 0.5, rel=0.01)
    with pytest.raises(ValueError, match="sigma_min=2"):
        ScoreModel(sigma_min=2.0).fit(X)
    with pytest.raises(ValueError, match="sigma_max=1"):
        ScoreModel(sigma_max=1.0).fit(X)


def test_angles_are_learned_alike() -> None:
    """Times alike would spend half the steps where all is noise, or nothing is."""
    model, u = ScoreModel(), torch.linspace(0, 1, 11, dtype=torch.float64)[:, None]
    path = model.path()
    assert torch.allclose(path.angle(model.learning_times(u)), path.last * u, atol=1e-6)
