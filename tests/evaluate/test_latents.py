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


SHORT = genus.Trainer(epochs=3, progress=False)


def of(**args):
    model = genus.VAE(
        2, genus.MLP(16, 1), genus.MLP(16, 1), k=8, trainer=SHORT, random_state=0, **args
    ).fit(X)
    return model, latents_of(model, X)


def test_networks_are_asked_for_their_prior():
    z = torch.tensor([[0.5, -1.0]])
    _, plain = of()
    assert float(plain.log_prior(z)) == pytest.approx(-math.log(2 * math.pi) - 0.625)
    model, view = of(prior="mixture")
    assert torch.equal(view.log_prior(z), model.prior_.log_prob(z))
    assert view.draw_prior(7, generator(0)).shape == (7, 2)


@pytest.mark.parametrize("family", ["diagonal", "full", "flow"])
def test_every_posterior_has_its_own_density_or_its_moments(family):
    model, view = of(posterior_family=family)
    x = model._codes(X)
    with torch.no_grad():
        q = model._q(x)
        z = view.posterior.draw(400, generator(0))
        own = model.posterior_.log_prob(q, z)
        found = view.bound(torch.arange(60), generator(0)).mean()
        elbo = np.mean([model.elbo(X, random_state=i).mean() for i in range(20)])
    assert float(found) == pytest.approx(float(elbo), abs=0.3)
    assert view.refinable == (family != "flow")
    if family != "flow":
        assert torch.allclose(view.posterior.log_prob(z), own, atol=1e-3)
    else:  # a flow that has hardly learned is nearly Gaussian
        assert float((view.posterior.log_prob(z) - own).mean()) == pytest.approx(0, abs=0.3)
