"""Priors against densities that others write."""

from __future__ import annotations

import pytest
import torch

import genus
from genus import Space
from genus.learn.rows import generator
from genus.models.latent import priors
from genus.models.latent.posteriors import Diagonal
from genus.models.latent.priors import Prior


def prior(name: str) -> Prior:
    rng = generator(0)
    if name == "normal":
        return priors.Normal(2)
    if name == "vamp":
        q = (torch.randn(4, 2, generator=rng), torch.rand(4, 2, generator=rng) + 0.3)
        return priors.Vamp(2, 4, (5,)).at(Diagonal(2), q)
    if name == "flow":
        owner = genus.VAE(2)
        owner.rng = rng
        part = owner.part(genus.RealNVP(2, genus.MLP(8, 1)), Space((2,), "continuous"))
        made: Prior = priors.Density(2, part)
    elif name == "mixture":
        made = priors.Mixture(2, 3, rng)
    else:
        made = priors.Gaussian(2)
    with torch.no_grad():
        for p in made.parameters():
            p += 0.3 * torch.randn(p.shape, generator=rng)
    return made


@pytest.mark.parametrize("name", priors.PRIORS)
def test_priors_integrate_to_one_and_draw_what_they_say(name: str) -> None:
    p = prior(name)
    axis = torch.linspace(-10, 10, 401)
    z = torch.cartesian_prod(axis, axis)
    with torch.no_grad():
        mass = p.log_prob(z).double().exp() * (20 / 400) ** 2
        drawn = p.sample(20_000, generator(1))
    assert float(mass.sum()) == pytest.approx(1, abs=5e-3)
    mean = mass @ z.double()
    spread = (mass @ (z.double() - mean).square()).sqrt()
    torch.testing.assert_close(drawn.double().mean(0), mean, atol=0.05, rtol=0)
    torch.testing.assert_close(drawn.double().std(0), spread, atol=0.05, rtol=0)
    many = p.log_prob(z[:6].reshape(2, 3, 2))
    torch.testing.assert_close(many.flatten(), p.log_prob(z[:6]), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ["normal", "gaussian"])
def test_kl_in_closed_form(name: str) -> None:
    p = prior(name)
    m, s = torch.tensor([[0.5, -1.0]]), torch.tensor([[0.4, 1.6]])
    a, b = (torch.zeros(2), torch.ones(2)) if name == "normal" else (p.mean_, p.log_std_.exp())
    normal = torch.distributions.Normal
    truth = torch.distributions.kl_divergence(normal(m, s), normal(a, b))
    torch.testing.assert_close(p.kl(m, s.square(), s.log()), truth)


def test_a_vamp_prior_is_the_mean_of_its_posteriors() -> None:
    p = prior("vamp")
    z = torch.tensor([[0.3, -0.2]])
    each = torch.distributions.Normal(*p.q).log_prob(z[0]).sum(1).exp()
    torch.testing.assert_close(p.log_prob(z).exp()[0], each.mean())


def test_priors_without_a_closed_form_say_so() -> None:
    for name in ("mixture", "vamp", "flow"):
        assert prior(name).kl(torch.zeros(1, 2), torch.ones(1, 2), torch.zeros(1, 2)) is None
