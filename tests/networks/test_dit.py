"""The transformer on patches: shapes, patches, what reaches what, and its context."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

import genus
from genus import DiT
from genus.learn.rows import generator
from genus.networks.construct import construct
from genus.networks.dit import patch_of, waves


def made(blueprint: DiT, i: tuple[int, ...], o: tuple[int, ...], context: int = 0) -> nn.Module:
    return construct(blueprint, i, o, generator(0), context)


def trained(network: nn.Module) -> nn.Module:
    """Weights of which none is 0, as after training."""
    with torch.no_grad():
        for p in network.parameters():
            p.normal_(0, 0.2, generator=generator(1))
    return network.double()


@pytest.mark.parametrize("size", [(1, 1), (2, 3), (8, 8), (7, 7), (28, 28), (6, 4)])
def test_images_of_every_size(size: tuple[int, int]) -> None:
    network = made(DiT(8, 1, 2), (2, *size), (3, *size), 5)
    assert network(torch.randn(2, 2, *size), torch.randn(2, 5)).shape == (2, 3, *size)


def test_the_patch_follows_the_image() -> None:
    sides = [(1, 1), (8, 8), (14, 14), (16, 16), (28, 28), (32, 32), (7, 5), (28, 14)]
    assert [patch_of(*s) for s in sides] == [1, 1, 2, 2, 4, 4, 1, 7]
    assert patch_of(11, 13) == 1  # nothing else divides both


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match=r"DiT needs images \(C, H, W\) of one size"):
        made(DiT(), (5,), (5,))
    with pytest.raises(ValueError, match=r"DiT\(patch=3\) does not divide images of 8 × 8"):
        made(DiT(patch=3), (1, 8, 8), (1, 8, 8))
    with pytest.raises(ValueError, match=r"DiT\(width=10\): a multiple of heads=4"):
        made(DiT(10), (1, 8, 8), (1, 8, 8))
    with pytest.raises(ValueError, match="takes a context of 3 numbers a row, and got 0"):
        made(DiT(8), (1, 4, 4), (1, 4, 4), 3)(torch.zeros(1, 1, 4, 4))


def test_it_starts_at_nothing() -> None:
    network = made(DiT(8, 2, 2), (1, 4, 4), (2, 4, 4), 3)
    assert not network(torch.randn(2, 1, 4, 4), torch.randn(2, 3)).any()


def test_the_context_matters_and_so_does_every_pixel() -> None:
    network = trained(made(DiT(8, 1, 2, patch=2), (1, 8, 8), (1, 8, 8), 2))
    x = torch.randn(1, 1, 8, 8, generator=generator(0), dtype=torch.float64).requires_grad_()
    c = torch.tensor([[0.5, -1.0]], dtype=torch.float64)
    assert not torch.allclose(network(x, c), network(x, c + 1))
    (g,) = torch.autograd.grad(network(x, c)[0, 0, 0, 0], x)
    assert (g.abs() > 0).all()  # attention sees the whole image


def test_patches_lie_where_they_were() -> None:
    """Without attention and perceptron a pixel reaches its own patch alone."""
    network = trained(made(DiT(8, 1, 2, patch=2), (1, 6, 4), (1, 6, 4)))
    nn.init.zeros_(network.blocks[0].move.weight)
    nn.init.zeros_(network.blocks[0].move.bias)
    x = torch.randn(1, 1, 6, 4, generator=generator(0), dtype=torch.float64).requires_grad_()
    (g,) = torch.autograd.grad(network(x)[0, 0, 3, 2], x)
    reached = torch.zeros(6, 4, dtype=torch.bool)
    reached[2:4, 2:4] = True
    assert torch.equal(g[0, 0] != 0, reached)


def test_places_differ() -> None:
    w = waves((3, 4), 8)
    assert w.shape == (12, 8) and len(w.unique(dim=0)) == 12


def test_a_flow_learns_with_it() -> None:
    rng = np.random.default_rng(0)
    x = np.repeat(rng.integers(0, 2, (200, 1)), 16, 1).reshape(-1, 4, 4).astype("uint8")
    few = genus.Trainer(epochs=30, lr=3e-3, batch_size=50, progress=False)
    model = genus.FlowMatching(DiT(16, 2, 2), trainer=few, random_state=0).fit(x)
    drawn = model.sample(100, random_state=0).reshape(100, -1).mean(1)
    assert ((drawn < 0.2) | (drawn > 0.8)).mean() > 0.7  # all pixels of an image agree
