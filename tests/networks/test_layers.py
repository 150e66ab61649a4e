"""Layers whose weights a model draws from its own generator."""

from __future__ import annotations

import torch
from torch import nn

from genus.learn.rows import generator
from genus.networks.layers import (
    Conv2d,
    ConvTranspose2d,
    Dropout,
    Linear,
    initialise,
    output_layer,
)


def test_the_scale_of_the_weights() -> None:
    layer = initialise(Linear(1000, 500), generator(0)).requires_grad_(False)
    assert (
        abs(float(layer.weight.var()) * 1000 / 2 - 1) < 0.02
        and abs(float(layer.weight.mean())) < 1e-3
    )
    assert not initialise(Linear(5, 5, zero=True), generator(0)).weight.any()


def test_layers_draw_nothing_by_themselves() -> None:
    before = torch.random.get_rng_state()
    for layer in (Linear(3, 4), Conv2d(2, 3, 3), ConvTranspose2d(2, 3, 3)):
        initialise(layer, generator(0))
    assert torch.equal(before, torch.random.get_rng_state())


def test_a_transposed_convolution_counts_what_each_output_sees() -> None:
    layer = initialise(ConvTranspose2d(50, 40, 3), generator(0)).requires_grad_(False)
    assert abs(float(layer.weight.var()) * 50 * 9 / 2 - 1) < 0.02  # type: ignore[operator]


def test_dropout_draws_from_the_generator_and_only_in_training() -> None:
    layer, x = Dropout(0.5), torch.ones(50, 200)
    initialise(layer, generator(0))
    y = layer.train()(x)
    assert set(y.unique().tolist()) == {0.0, 2.0} and abs(float(y.mean()) - 1) < 0.05
    assert not torch.equal(y, layer(x))
    initialise(layer, generator(0))
    assert torch.equal(y, layer(x))
    assert torch.equal(layer.eval()(x), x)


def test_the_output_layer_is_the_last_with_weights() -> None:
    last = nn.Linear(2, 2)
    assert output_layer(nn.Sequential(nn.Linear(2, 2), nn.ReLU(), last, nn.Flatten())) is last
    assert output_layer(nn.ReLU()) is None
