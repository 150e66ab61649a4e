"""The U-Net: shapes, how deep it is, what reaches what, and its context."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from genus import UNet
from genus.learn.rows import generator
from genus.networks.construct import construct
from genus.networks.unet import halvings


def made(blueprint: UNet, i: tuple[int, ...], o: tuple[int, ...], context: int = 0) -> nn.Module:
    return construct(blueprint, i, o, generator(0), context)


@pytest.mark.parametrize("size", [(1, 1), (2, 3), (8, 8), (7, 7), (13, 6), (28, 28)])
@pytest.mark.parametrize("depth", [None, 0, 2])
def test_images_of_every_size(size: tuple[int, int], depth: int | None) -> None:
    network = made(UNet(4, depth), (2, *size), (3, *size), 5)
    assert network(torch.randn(2, 2, *size), torch.randn(2, 5)).shape == (2, 3, *size)


def test_how_deep_it_is_follows_the_image() -> None:
    assert [halvings(side) for side in (1, 4, 7, 8, 14, 16, 28, 32, 64)] == [
        0,
        0,
        0,
        1,
        1,
        2,
        2,
        3,
        3,
    ]


def test_what_is_no_image_is_refused() -> None:
    with pytest.raises(ValueError, match=r"UNet needs images \(C, H, W\) of one size"):
        made(UNet(4), (5,), (5,))
    with pytest.raises(ValueError, match="takes a context of 3 numbers a row, and got 0"):
        made(UNet(4), (1, 4, 4), (1, 4, 4), 3)(torch.zeros(1, 1, 4, 4))


def trained(network: nn.Module) -> nn.Module:
    """Weights of which none is 0, as after training."""
    with torch.no_grad():
        for p in network.parameters():
            p.normal_(0, 0.2, generator=generator(1))
    return network


def test_the_context_matters_and_so_does_every_pixel() -> None:
    network = trained(made(UNet(8, 1), (1, 8, 8), (1, 8, 8), 2)).double()
    x = torch.randn(1, 1, 8, 8, generator=generator(0), dtype=torch.float64)
    c = torch.tensor([[0.5, -1.0]], dtype=torch.float64)
    assert not torch.allclose(network(x, c), network(x, c + 1))
    # attention sees the whole image: the first pixel out depends on the last one in
    x.requires_grad_()
    network(x, c)[0, 0, 0, 0].backward()
    assert x.grad is not None and (x.grad[0, 0].abs() > 0).all()


def test_every_parameter_gets_a_gradient() -> None:
    network = trained(made(UNet(8, 1, 2), (1, 8, 8), (2, 8, 8), 3))
    network(torch.randn(2, 1, 8, 8), torch.randn(2, 3)).square().sum().backward()
    for name, p in network.named_parameters():
        assert p.grad is not None and p.grad.abs().sum() > 0, name
