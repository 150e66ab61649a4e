"""Layers over their largest singular value."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest
import torch
from torch import nn

from genus import MLP, Conv, ResNet
from genus.learn.rows import generator
from genus.networks.construct import construct
from genus.networks.layers import Linear, initialise
from genus.networks.spectral import SpectralNorm, with_spectral_norm


def layer(n_in: int = 7, n_out: int = 5, seed: int = 0) -> Linear:
    return initialise(Linear(n_in, n_out), generator(seed))


def test_the_norm_is_the_largest_singular_value_with_its_gradient() -> None:
    normed = SpectralNorm(layer(), generator(1))
    W = normed.layer.weight
    u, s, v = torch.linalg.svd(W.detach())
    assert normed.norm().item() == pytest.approx(s[0].item(), rel=1e-4)
    (gradient,) = torch.autograd.grad(normed.norm(), W)
    np.testing.assert_allclose(gradient, torch.outer(u[:, 0], v[0]), atol=1e-2)
    conv = SpectralNorm(nn.Conv2d(3, 4, 3), generator(1))
    s = torch.linalg.svdvals(conv.layer.weight.detach().flatten(1))
    assert conv.norm().item() == pytest.approx(s[0].item(), rel=1e-2)


def test_its_output_is_that_of_the_divided_weight() -> None:
    normed, x = SpectralNorm(layer(), generator(1)).eval(), torch.randn(3, 7)
    W, b = normed.layer.weight, normed.layer.bias
    torch.testing.assert_close(normed(x), x @ (W / normed.norm()).T + b)
    conv = nn.Conv2d(2, 3, 3, stride=2, padding=1)
    normed = SpectralNorm(copy.deepcopy(conv), generator(1)).eval()
    image = torch.randn(2, 2, 6, 6)
    bias = conv.bias[:, None, None]
    torch.testing.assert_close(normed(image), (conv(image) - bias) / normed.norm() + bias)


@pytest.mark.parametrize("blueprint", [MLP(16, 2), ResNet(16, 1), Conv(4, 1)])
def test_a_network_of_such_layers(blueprint: object) -> None:
    shape = (1, 6, 6) if isinstance(blueprint, Conv) else (5,)
    network = construct(blueprint, shape, (1,), generator(0))
    plain = [m for m in network.modules() if isinstance(m, nn.Linear | nn.Conv2d)]
    network = with_spectral_norm(network, generator(0))
    normed = [m for m in network.modules() if isinstance(m, SpectralNorm)]
    assert [m.layer for m in normed] == plain
    for m in normed:
        divided = (m.layer.weight / m.norm()).detach().flatten(1)
        assert torch.linalg.matrix_norm(divided, 2).item() == pytest.approx(1, abs=0.02)
        m.settle()
        assert torch.isfinite(m.u_).all() and m.u_.any()
    assert isinstance(with_spectral_norm(layer(), generator(0)), SpectralNorm)


def test_it_follows_the_weight_while_training_and_settles_after() -> None:
    normed = SpectralNorm(layer(), generator(1))
    with torch.no_grad():
        normed.layer.weight.copy_(layer(seed=9).weight)
    true = torch.linalg.matrix_norm(normed.layer.weight.detach(), 2).item()
    before = normed.u_.clone()
    normed.eval()(torch.zeros(1, 7))
    assert torch.equal(normed.u_, before)
    normed.train()(torch.zeros(1, 7))
    assert not torch.equal(normed.u_, before)
    normed.settle()
    assert normed.norm().item() == pytest.approx(true, rel=1e-3)


def test_the_same_generator_gives_the_same_start_and_no_other_is_used() -> None:
    state = torch.get_rng_state()
    one, two = (SpectralNorm(layer(), generator(3)).u_ for _ in range(2))
    assert torch.equal(one, two)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(pickle.loads(pickle.dumps(SpectralNorm(layer(), generator(3)))).u_, one)


def test_a_weight_of_0_waits_for_another() -> None:
    zero = Linear(3, 2)
    with torch.no_grad():
        zero.weight.zero_(), zero.bias.zero_()
    normed = SpectralNorm(zero, generator(0))
    assert normed.u_.any()
    assert torch.equal(normed.eval()(torch.ones(1, 3)), torch.zeros(1, 2))
