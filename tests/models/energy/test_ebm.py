"""EBM: the gradient of its likelihood, and what each of its settings does."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn

import genus
from genus.learn.rows import generator

QUICK = genus.Trainer(epochs=15, batch_size=50, lr=1e-2, progress=False)


class Precision(nn.Module):
    """E = ½ λ ‖y‖² with no bias of its own."""

    def __init__(self, start: float = 0.3) -> None:
        super().__init__()
        self.log_precision = nn.Parameter(torch.tensor(math.log(start)))

    def forward(self, y: torch.Tensor) -> torch.Tensor:
        return 0.5 * self.log_precision.exp() * y.square().sum(1, keepdim=True)


@pytest.fixture(scope="module")
def X():
    return np.random.default_rng(0).normal(size=(400, 1))


def test_with_an_exact_sampler_the_gradient_is_that_of_the_likelihood(X, monkeypatch):
    """∂/∂θ of mean log p, λ = e^θ: ½ − ½ λ E y² ."""
    model = genus.EBM(
        Precision(2.0), tilt=False, data_noise=0.0, trainer=QUICK.replace(lr=1e-12), random_state=0
    ).fit(X)
    model.rng = generator(0)
    exact = torch.randn(400_000, 1, generator=generator(1)) / math.sqrt(2.0)
    y = model._centre(model._codes(X)).repeat(1000, 1)
    monkeypatch.setattr(type(model), "_negatives", lambda self, _: exact)
    monkeypatch.setattr(type(model), "_entered", lambda self, x, rng: y)
    model.zero_grad()
    ((_, loss),) = model.losses(model._codes(X))
    loss.backward()
    truth = 0.5 - 0.5 * 2.0 * float(y.square().mean())
    assert -float(model.network_.log_precision.grad) == pytest.approx(truth, abs=0.01)


@pytest.mark.parametrize("method", ["pcd", "score-matching", "sliced", "nce"])
def test_it_finds_the_precision_of_normal_scores(X, method):
    """The scores of one column are N(0, 1), whatever the column."""
    model = genus.EBM(
        Precision(), method, tilt=False, steps=5, trainer=QUICK.replace(lr=3e-2), random_state=0
    ).fit(X)
    assert float(model.network_.log_precision.detach().exp()) == pytest.approx(1, abs=0.2)
    if method == "nce":  # log Z = ½ log 2π
        assert float(model.constant_.detach()) == pytest.approx(-0.919, abs=0.15)
        assert model.log_partition().value == pytest.approx(0.919, abs=0.1)


def test_denoising_finds_that_of_noisy_scores(X):
    model = genus.EBM(
        Precision(),
        "denoising",
        tilt=False,
        data_noise=1.0,
        trainer=QUICK.replace(lr=3e-2),
        random_state=0,
    ).fit(X)
    assert float(model.network_.log_precision.detach().exp()) == pytest.approx(0.5, abs=0.1)


def test_it_learns_what_a_gaussian_cannot():
    r = np.random.default_rng(0)
    a = 2 * np.pi * r.random(1200)
    ring = np.stack([np.cos(a), np.sin(a)], 1) + 0.1 * r.normal(size=(1200, 2))
    model = genus.EBM(genus.MLP(32, 2, "silu"), "nce", trainer=QUICK, random_state=0)
    base = genus.Gaussian().fit(ring[:1000])
    assert model.fit(ring[:1000]).score(ring[1000:]) > base.score(ring[1000:]) + 0.2
    radius = np.linalg.norm(model.sample(300, random_state=0), axis=1)
    assert abs(np.median(radius) - 1) < 0.15 and (radius < 0.4).mean() < 0.1


def test_score_matching_gets_noise_where_values_repeat(X):
    kw = {"method": "score-matching", "trainer": QUICK.replace(epochs=1), "random_state": 0}
    assert not genus.EBM(Precision(), **kw).fit(X).shares_values_
    assert genus.EBM(Precision(), **kw).fit(X.round(1)).shares_values_


def test_spectral_norm_limits_every_layer(X):
    net = genus.MLP(16, 2, "silu")
    kw = {"trainer": QUICK.replace(lr=0.1, epochs=5), "random_state": 0}
    norms = [
        max(
            float(torch.linalg.matrix_norm(m.weight.detach(), 2))
            for m in model.network_.modules()
            if isinstance(m, nn.Linear)
        )
        for model in (
            genus.EBM(net, "nce", spectral_norm=True, **kw).fit(X),
            genus.EBM(net, "nce", **kw).fit(X),
        )
    ]
    assert norms[0] <= 1 + 1e-4 < norms[1]


def test_a_penalty_keeps_energies_near_nought(X):
    far = nn.Sequential(nn.Linear(1, 1))
    nn.init.constant_(far[0].bias, 3.0)
    kw = {"steps": 2, "trainer": QUICK.replace(lr=3e-2), "random_state": 0}
    free = genus.EBM(far, **kw).fit(X).energy(X)
    held = genus.EBM(far, energy_penalty=1.0, **kw).fit(X).energy(X)
    assert abs(held.mean()) < 0.7 * abs(free.mean())


def test_a_tilt_needs_normal_scores():
    X = np.random.default_rng(0).integers(0, 5, (40, 3, 3)).astype(np.uint8)
    with pytest.raises(ValueError, match="tilt=True"):
        genus.EBM(tilt=True).fit(X)


def test_ways_without_chains_take_images_as_normal_scores():
    X = np.random.default_rng(0).integers(0, 5, (40, 3, 3)).astype(np.uint8)
    kw = {"trainer": QUICK.replace(epochs=1), "n_annealing": 5, "random_state": 0}
    model = genus.EBM(genus.MLP(4, 1), "nce", **kw).fit(X)
    assert model.log_prob(X).measure == "probability"
    with pytest.raises(ValueError, match="serves chains alone"):
        genus.EBM(genus.MLP(4, 1), "nce", marginals="pixels", **kw).fit(X)
    warm = genus.EBM(genus.MLP(4, 1), temperature=1.0, steps=1, **kw).fit(X)
    with pytest.raises(genus.CapabilityError, match="temperature of 1"):
        warm.log_prob(X)
