"""What a discrete space makes of a density on real vectors."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import torch

from genus import DensityModel, LowerBound, Space
from toys import EM

X = np.random.default_rng(0).normal(size=(60, 3)) + 2


class Normal(DensityModel):
    """N(0, s²) in every coordinate of y."""

    scale = 1.5

    def __init__(self, random_state: Any = None) -> None:
        self.random_state = random_state

    def build(self, space: Space) -> None:
        self.register_buffer("one_", torch.ones(1))

    def learn(self, data: Any) -> None:
        pass

    def log_density(self, y: torch.Tensor) -> torch.Tensor:
        return torch.distributions.Normal(0.0, self.scale).log_prob(y).sum(1)

    def draw(self, n: int, rng: torch.Generator) -> torch.Tensor:
        return self.scale * torch.randn(n, self.space_.dim, generator=rng, dtype=torch.float64)


def test_a_density_on_ordinal_data_is_a_lower_bound_on_a_probability() -> None:
    """P(x) = ∫ p(y(x + u)) |∂y/∂u| du, here by quadrature; the bound is below it, and close."""
    data = np.repeat(np.arange(6), 5)[:, None].astype(np.uint8)
    model = Normal().fit(data, space=Space((1,), "ordinal", 6))
    p = model.log_prob(np.arange(6, dtype=np.uint8)[:, None])
    assert isinstance(p, LowerBound) and p.measure == "probability"
    u = torch.linspace(0, 1, 4001, dtype=torch.float64)[:-1] + 0.5 / 4000
    truth = []
    for v in range(6):
        y, log_det = model.real(torch.full((4000, 1), float(v)), u[:, None])
        truth.append(float(torch.logsumexp(model.log_density(y) + log_det, 0)) - np.log(4000))
    assert sum(np.exp(truth)) <= 1 + 1e-6  # nothing is counted twice
    assert sum(np.exp(truth)) > 0.9
    assert np.all(p.nats <= np.array(truth) + 4 * p.stderr + 1e-3)
    assert np.allclose(p.nats, truth, atol=0.1)


def test_samples_and_probabilities_of_a_density_on_discrete_data_agree() -> None:
    data = np.repeat(np.arange(6), 5)[:, None].astype(np.uint8)
    model = Normal(random_state=0).fit(data, space=Space((1,), "ordinal", 6))
    p = np.exp(model.score_samples(np.arange(6, dtype=np.uint8)[:, None]))
    counts = np.bincount(model.sample(40_000)[:, 0], minlength=6) / 40_000
    assert 0.5 * np.abs(counts - p / p.sum()).sum() < 0.03


def test_dequantised_scores_are_a_rows_own() -> None:
    data = np.random.default_rng(0).integers(0, 5, (600, 3))
    model = EM(random_state=0, max_iter=3).fit(data, space="ordinal")
    whole = model.log_prob(data)
    order = np.random.default_rng(1).permutation(600)
    assert np.allclose(model.score_samples(data[order]), whole.nats[order], rtol=0, atol=1e-9)
    assert np.allclose(model.score_samples(data[:1]), whole.nats[:1], rtol=0, atol=1e-9)
    assert 1 <= whole.detail["ess"] <= whole.detail["k"] == 16


def test_continuous_data_keep_their_exact_density_and_space_overrides() -> None:
    p = Normal().fit(X).log_prob(X)
    assert p.kind == "exact" and p.measure == "density"
    assert np.allclose(
        p.nats, -0.5 * (X / 1.5).__pow__(2).sum(1) - 3 * np.log(1.5 * np.sqrt(2 * np.pi))
    )
    digits = np.random.default_rng(0).integers(0, 5, (20, 3))
    assert Normal().fit(digits, space="continuous").log_prob(digits).kind == "exact"
    mixed = (
        Normal()
        .fit(pd.DataFrame({"a": X[:20, 0], "n": np.arange(20)}))
        .log_prob(pd.DataFrame({"a": X[:20, 0], "n": np.arange(20)}))
    )
    assert mixed.measure == "mixed" and mixed.kind == "lower bound"


def test_dims_count_what_is_observed() -> None:
    class Seen(Normal):
        allow_nan = True

        def log_density(self, y: torch.Tensor) -> torch.Tensor:
            return y.nan_to_num().sum(1)

    holed = X.copy()
    holed[0, :2] = np.nan
    assert Seen().fit(X).log_prob(holed).dims.tolist() == [1] + [3] * 59
