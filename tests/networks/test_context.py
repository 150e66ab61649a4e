"""How a network takes a context."""

from __future__ import annotations

import torch
from torch import nn

from genus.learn.rows import generator
from genus.networks.context import Beside, FiLM, Layers
from genus.networks.layers import initialise


def test_a_context_stands_beside_the_flattened_input() -> None:
    x, c = torch.arange(12.0).reshape(2, 2, 3), torch.tensor([[7.0], [8.0]])
    assert torch.equal(Beside()(x, c), torch.cat([x.flatten(1), c], 1))
    assert torch.equal(Beside()(x), x.flatten(1))


def test_feature_maps_are_scaled_and_shifted() -> None:
    film = initialise(FiLM(3, 2), generator(0))
    a, c = torch.randn(4, 2, 3, 3), torch.randn(4, 3)
    assert torch.equal(film(a, c), a)  # at the start
    weights = torch.randn(4, 3)
    film.scale_and_shift.weight.data = weights  # type: ignore[union-attr]
    scale, shift = c @ weights[:2].T, c @ weights[2:].T
    expected = a * (1 + scale[:, :, None, None]) + shift[:, :, None, None]
    torch.testing.assert_close(film(a, c), expected)


def test_other_layers_are_given_the_input_alone() -> None:
    network = Layers(nn.ReLU(), Beside(), nn.Identity(), context=1)
    x, c = torch.tensor([[-1.0, 2.0]]), torch.tensor([[-3.0]])
    assert network(x, c).tolist() == [[0.0, 2.0, -3.0]]
