"""Posteriors against densities that others write."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from genus.learn.rows import generator
from genus.models.latent.posteriors import (
    POSTERIORS,
    Diagonal,
    Full,
    InverseAutoregressive,
    Posterior,
    posterior_of,
    raw_of,
    scale,
)


def stirred(posterior: Posterior, seed: int = 0) -> Posterior:
    """A posterior whose own weights are no longer those of the start."""
    rng = generator(seed)
    with torch.no_grad():
        for m in posterior.modules():
            if hasattr(m, "mask"):
                m.weight += 0.15 * torch.randn(m.weight.shape, generator=rng) * m.mask
    return posterior


def code(posterior: Posterior, n: int = 3) -> Tensor:
    return torch.randn(n, posterior.code_size, generator=generator(1))


@pytest.mark.parametrize("name", POSTERIORS)
def test_a_draw_has_the_density_that_it_says(name: str) -> None:
    posterior = stirred(posterior_of(name, 3, generator(0)))
    q = posterior.parameters_of(code(posterior))
    e = torch.randn(5, 3, 3, generator=generator(2))
    with torch.no_grad():
        z, log_q = posterior.draw(q, e)
        assert z.shape == (5, 3, 3) and log_q.shape == (5, 3)
        torch.testing.assert_close(posterior.log_prob(q, z), log_q, atol=1e-3, rtol=0)


@pytest.mark.parametrize("name", POSTERIORS)
def test_densities_integrate_to_one(name: str) -> None:
    posterior = stirred(posterior_of(name, 2, generator(0)))
    q = tuple(t[:1] for t in posterior.parameters_of(0.5 * code(posterior)))
    axis = torch.linspace(-12, 12, 301)
    z = torch.cartesian_prod(axis, axis)[:, None]
    with torch.no_grad():
        mass = posterior.log_prob(q, z).double().exp().sum() * (24 / 300) ** 2
    assert float(mass) == pytest.approx(1, abs=5e-3)


def test_a_full_covariance_is_a_multivariate_normal() -> None:
    posterior = Full(3)
    q = posterior.parameters_of(code(posterior))
    truth = torch.distributions.MultivariateNormal(q[0], scale_tril=q[1])
    z = torch.randn(4, 3, 3, generator=generator(3))
    torch.testing.assert_close(posterior.log_prob(q, z), truth.log_prob(z), atol=1e-4, rtol=1e-4)
    m, variance, log_s = posterior.gaussian(q)
    torch.testing.assert_close(variance, truth.variance)
    standard = torch.distributions.MultivariateNormal(torch.zeros(3), torch.eye(3))
    kl = (0.5 * (m.square() + variance - 1) - log_s).sum(1)
    torch.testing.assert_close(kl, torch.distributions.kl_divergence(truth, standard))
    # without what stands below the diagonal it is the diagonal one
    none = code(posterior)
    none[:, 6:] = 0
    plain = Diagonal(3)
    torch.testing.assert_close(
        posterior.log_prob(posterior.parameters_of(none), z),
        plain.log_prob(plain.parameters_of(none[:, :6]), z),
    )


@pytest.mark.parametrize("name", POSTERIORS)
def test_draws_keep_their_precision_beside_networks_of_bfloat16(name: str) -> None:
    posterior = stirred(posterior_of(name, 3, generator(0)))
    q = posterior.parameters_of(code(posterior))
    e = torch.randn(5, 3, 3, generator=generator(2))
    with torch.no_grad():
        expected = posterior.draw(q, e)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            found = posterior.draw(q, e)
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=0)


def test_a_flow_starts_as_the_gaussian_that_it_bends() -> None:
    flow, plain = InverseAutoregressive(3, generator(0)), Diagonal(3)
    own = code(flow)
    e = torch.randn(4, 3, 3, generator=generator(2))
    with torch.no_grad():
        found = flow.draw(flow.parameters_of(own), e)
        expected = plain.draw(plain.parameters_of(own[:, :6]), e)
        for a, b in zip(found, expected, strict=True):
            torch.testing.assert_close(a, b, atol=1e-6, rtol=0)
        bent = stirred(flow).draw(flow.parameters_of(own), e)
    assert float((bent[0] - expected[0]).abs().max()) > 0.1


def test_the_context_bends_a_flow() -> None:
    flow = stirred(InverseAutoregressive(3, generator(0)))
    own = code(flow, 1).repeat(2, 1)
    own[1, 6:] += 1
    with torch.no_grad():
        z = flow.draw(flow.parameters_of(own), torch.zeros(2, 3))[0]
    assert float((z[0] - z[1]).abs().max()) > 1e-3


def test_scales() -> None:
    s = torch.tensor([1e-3, 0.1, 1.0, 7.0])
    torch.testing.assert_close(scale(raw_of(s)), s, rtol=1e-3, atol=0)
    assert float(scale(torch.zeros(()))) == pytest.approx(1, abs=1e-3)
