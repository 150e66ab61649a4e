"""One form for the latent vectors of all models."""

import math

import numpy as np
import pytest
import torch
from scipy.stats import multivariate_normal

import genus
from genus.evaluate.latents import Posterior, latents_of
from genus.learn.rows import generator

X = np.random.default_rng(0).normal(size=(60, 4)) @ np.diag([3.0, 2.0, 1.0, 0.5]) + 5


def mixture():
    root = torch.tensor([[[1.0, 0.0], [0.5, 0.7]], [[0.4, 0.0], [0.0, 2.0]]], dtype=torch.float64)
    mean = torch.tensor([[[0.0, 1.0], [2.0, -1.0]]], dtype=torch.float64)
    return Posterior(torch.tensor([[0.3, 0.7]], dtype=torch.float64).log(), mean, root[None])


def test_a_mixture_weighs_by_its_density_and_draws_from_it():
    q = mixture()
    z = q.draw(4000, generator(0))
    parts = [
        w * multivariate_normal(m, R @ R.T).pdf(z[:, 0].numpy())
        for w, m, R in zip((0.3, 0.7), q.mean[0].numpy(), q.root[0].numpy(), strict=True)
    ]
    np.testing.assert_allclose(q.log_prob(z)[:, 0], np.log(sum(parts)), rtol=1e-9)
    np.testing.assert_allclose(q.log_pairs(z[:, 0])[:, 0], np.log(sum(parts)), rtol=1e-9)
    assert torch.allclose(z.mean((0, 1)), q.centre[0], atol=0.1)


def test_coordinates_are_the_marginals_of_the_average_of_rows():
    q = mixture()
    grid = torch.linspace(-12, 12, 4001, dtype=torch.float64)
    each = q.log_coordinates(torch.stack([grid, grid], 1)).exp()
    assert torch.allclose(each.sum(0) * 24 / 4000, torch.ones(2, dtype=torch.float64), atol=1e-3)


def test_a_line_has_its_joint_density():
    """p(z) p(x | z) / p(z | x) is p(x), whatever z is."""
    model = genus.ProbabilisticPCA(2).fit(X)
    view = latents_of(model, X)
    z = view.posterior.draw(3, generator(0))
    rows = torch.arange(len(X))
    joint = view.log_likelihood(z, rows) + view.log_prior(z)
    log_p = joint - view.posterior.log_prob(z)
    np.testing.assert_allclose(log_p, np.tile(model.score_samples(X), (3, 1)), rtol=1e-6)


def test_a_model_without_a_latent_vector_says_what_has_one():
    with pytest.raises(genus.CapabilityError, match="Gaussian has no latent vector"):
        latents_of(genus.Gaussian().fit(X), X)


def test_networks_are_asked_for_their_prior():
    few = genus.Trainer(epochs=1, progress=False)
    model = genus.VAE(2, k=8, trainer=few, random_state=0).fit(X)
    view = latents_of(model, X)
    z = torch.zeros(1, 2)
    usual = float(view.log_prior(z))
    assert usual == pytest.approx(-math.log(2 * math.pi))
    model.log_prior = lambda z: z.sum(-1) + 7
    assert float(view.log_prior(z)) == 7
