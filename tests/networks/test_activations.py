"""Activations by their names."""

from __future__ import annotations

import pytest
import torch

from genus.networks.activations import ACTIVATIONS, InPlaceReLU, activation_of


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_every_name_bends(name: str) -> None:
    x = torch.linspace(-3, 3, 7)
    y = activation_of(name)(x)
    assert y.isfinite().all() and not torch.allclose(y, x)


def test_only_what_nobody_else_uses_is_overwritten() -> None:
    x = torch.tensor([-1.0, 2.0])
    activation_of("relu")(x)
    assert torch.equal(x, torch.tensor([-1.0, 2.0]))
    own = activation_of("relu", own=True)
    assert isinstance(own, InPlaceReLU) and torch.equal(own(x), x)
    assert torch.equal(x, torch.tensor([0.0, 2.0]))
