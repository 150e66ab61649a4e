"""The ladder where the truth is known: quadrature over two latents, and the order of bounds."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

import genus
from genus import HierarchicalVAE, Trainer
from genus.distributions.points import LOG_2PI
from genus.learn.rows import generator

FAST = Trainer(epochs=30, batch_size=50, lr=1e-2, validation=0.0, progress=False)
RNG = np.random.default_rng(0)
Z = RNG.normal(size=(300, 2))
REAL = np.stack([Z[:, 0], Z[:, 0] * Z[:, 1], Z.sum(1), np.tanh(Z[:, 1])], 1)
REAL = REAL + 0.2 * RNG.normal(size=REAL.shape)
BITS = (REAL > 0).astype(int)


def fitted(X: Any = BITS, **more: Any) -> HierarchicalVAE:
    kw: dict[str, Any] = {"latent_dims": (1, 1), "width": 16, "trainer": FAST, "random_state": 0}
    return HierarchicalVAE(**{**kw, **more}).fit(X)


@pytest.fixture(scope="module")
def model() -> HierarchicalVAE:
    return fitted()


def by_quadrature(model: HierarchicalVAE, X: Any) -> np.ndarray:
    """log ∫∫ p(x | z_1) p(z_1 | z_2) p(z_2), written out in z and not in u."""
    axis = torch.linspace(-5, 5, 81)
    step = float(axis[1] - axis[0])
    ladder = model.decoder_
    x = model.space_.encode(X).float()
    total = []
    with torch.no_grad():
        for z2 in axis:
            top = ladder.top(None)
            mean2, raw2 = ladder.prior[1](top).chunk(2, -1)
            s2 = torch.nn.functional.softplus(raw2 + math.log(math.e - 1)) + 1e-3
            d1 = ladder.step(1, top.expand(81, -1), ((z2 - mean2) / s2).expand(81, 1))
            mean1, raw1 = ladder.prior[0](d1).chunk(2, -1)
            s1 = torch.nn.functional.softplus(raw1 + math.log(math.e - 1)) + 1e-3
            z1 = mean1 + s1 * axis[:, None]
            p = model.output_(ladder.out(ladder.step(0, d1, axis[:, None])))
            log_x = model.observation_.log_prob(p[:, None], x).sum(-1)  # (81, n)
            log_z1 = -0.5 * (((z1 - mean1) / s1).square() + LOG_2PI) - torch.log(s1)
            log_z2 = -0.5 * (((z2 - mean2) / s2).square() + LOG_2PI) - torch.log(s2)
            width = torch.log(step * s1) + math.log(step)
            total.append(torch.logsumexp(log_x + log_z1 + log_z2 + width, 0))
    return torch.logsumexp(torch.stack(total), 0).numpy()


def test_the_likelihood_is_the_integral_over_both_latents(model):
    truth = by_quadrature(model, BITS[:100])
    found = model.set_params(k=512).log_prob(BITS[:100])
    np.testing.assert_allclose(found.nats, truth, atol=0.06)
    assert found.mean() == pytest.approx(truth.mean(), abs=0.01)


def test_elbo_is_below_iwae_and_both_below_the_truth(model):
    truth = by_quadrature(model, BITS)
    elbo = np.mean([model.elbo(BITS, random_state=i) for i in range(20)], 0)
    few = model.set_params(k=10).score_samples(BITS)
    for low, high in ((elbo, few), (few, truth)):
        gap = high - low
        assert gap.mean() >= -4 * gap.std() / math.sqrt(len(gap))
    assert (truth - elbo).mean() > 0.02


def test_the_kl_of_a_layer_is_that_of_its_draws(model):
    """E_q log q(u | x)/p(u), both by walking down, is the sum of the layers' own terms."""
    x = model._codes(BITS)
    with torch.no_grad():
        q = model._q(x)
        e = torch.randn(2000, *q[0].shape, generator=generator(0))
        u, log_q = model.posterior_.draw(q, e)
        sampled = (log_q + 0.5 * (u.square() + LOG_2PI).sum(-1)).mean()
        again = model.posterior_.log_prob(q, u)
    assert torch.allclose(again, log_q, atol=1e-4)
    assert model.kl_per_layer(BITS).sum() == pytest.approx(float(sampled), abs=0.05)


def test_layers_hang_together():
    """Shared inference: below, q and p depend on what was drawn above."""
    model = fitted()
    x = model._codes(BITS[:5])
    with torch.no_grad():
        q = model._q(x)
        low, high = (
            model.posterior_.down(q, torch.tensor([0.0, t]).expand(5, 2)) for t in (-2.0, 2.0)
        )
    assert (low[1][:, 0] - high[1][:, 0]).abs().min() > 1e-4
    top = model.decoder_.top(None).expand(1, -1)
    d = [model.decoder_.step(1, top, torch.tensor([[t]])) for t in (-2.0, 2.0)]
    prior = [model.decoder_.prior[0](v) for v in d]
    assert not torch.allclose(prior[0], prior[1])


def test_weights_of_kl_rise_and_held_out_rows_are_judged_at_one():
    model = fitted(trainer=FAST.replace(epochs=1), kl_warmup=0.5)
    model.train()
    x = model._codes(BITS)

    def at(spent: float) -> float:
        model.rng, model.spent = generator(0), spent
        return float(model.objective(x).detach())

    begun, half, later = at(0.0), at(0.25), at(0.8)
    assert half == pytest.approx((begun + later) / 2, abs=1e-4) and begun > later
    model.rng, model.spent = generator(0), 0.0
    assert -float(model.validate(x).detach()) == pytest.approx(later, abs=1e-4)
    assert model.patience_from == 0.5


def test_free_bits_are_a_layers():
    strict = fitted(beta=20.0)
    free = fitted(beta=20.0, free_bits=0.4)
    assert strict.kl_per_layer(BITS).sum() < 0.05
    assert free.kl_per_layer(BITS).max() > 0.2


def test_gradients_are_clipped():
    assert HierarchicalVAE().defaults(1000).grad_clip == 200


def test_completions_follow_the_conditional_of_the_quadrature(model):
    """p(x_0 | the others) of one row, from the joint of its two fillings."""
    row = np.array([[0, 1, 1, 1], [1, 1, 1, 1]])
    joint = np.exp(by_quadrature(model, row))
    gap = np.full((1500, 4), np.nan)
    gap[:, 1:] = 1
    drawn = model.complete(gap, random_state=0)
    assert drawn[:, 0].mean() == pytest.approx(joint[1] / joint.sum(), abs=0.05)


def test_tables_images_and_conditions():
    images = (np.random.default_rng(0).random((60, 3, 3)) < 0.3).astype(np.uint8)
    short = FAST.replace(epochs=2)
    labels = np.arange(60) % 3
    model = fitted(images, latent_dims=(2, 1), trainer=short)
    assert model.sample(4).shape == (4, 3, 3) and model.encode(images).shape == (60, 3)
    given = HierarchicalVAE((1, 1), 8, trainer=FAST, random_state=0)
    bits = (np.arange(60)[:, None] % 3 == np.arange(3)).astype(int)
    given.fit(bits, given=labels)
    assert given.sample(200, given=1, random_state=0).mean(0).argmax() == 1


def test_sizes_are_needed():
    with pytest.raises(ValueError, match="latent_dims"):
        fitted(latent_dims=())
    with pytest.raises(ValueError, match="latent_dims"):
        fitted(latent_dims=(2, 0))


def test_the_ladder_is_diagnosed(model):
    found = genus.diagnose(model, BITS, n=100)
    assert len(found.layers) == 2 and found.latent_dim == 1
    assert "KL a layer, from the top" in str(found)
