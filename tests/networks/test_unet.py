"""The U-Net: shapes, how deep it is, what reaches what, and its context."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from genus import UNet
from genus.learn.rows import generator
from genus.networks import unet
from genus.networks.construct import construct
from genus.networks.unet import halvings, patch_of


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


def test_large_images_are_seen_in_patches() -> None:
    sides = [(8, 8), (14, 14), (28, 28), (32, 32), (30, 64), (33, 33), (64, 64)]
    assert [patch_of(*s) for s in sides] == [1, 1, 2, 2, 2, 1, 4]
    x, c = torch.randn(2, 1, 28, 28), torch.randn(2, 3)
    patched = made(UNet(4), (1, 28, 28), (2, 28, 28), 3)
    plain = made(UNet(4), (4, 14, 14), (8, 14, 14), 3)
    for p, q in zip(patched.parameters(), plain.parameters(), strict=True):
        p.data.copy_(q.data.normal_(0, 0.2))
    squares = nn.functional.pixel_unshuffle(x, 2)
    assert torch.equal(squares[0, :, 0, 0], x[0, 0, :2, :2].flatten())
    assert torch.equal(patched(x, c), nn.functional.pixel_shuffle(plain(squares, c), 2))
    assert not torch.equal(made(UNet(4, patch=1), (1, 28, 28), (2, 28, 28), 3)(x, c), patched(x, c))
    with pytest.raises(ValueError, match=r"UNet\(patch=3\) needs sides that 3 divides"):
        made(UNet(4, patch=3), (1, 28, 28), (1, 28, 28))


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
    # norms and attention see the whole image: the first pixel out depends on the last one in
    x.requires_grad_()
    network(x, c)[0, 0, 0, 0].backward()
    assert x.grad is not None and (x.grad[0, 0].abs() > 0).all()


def test_attention_reaches_where_convolutions_do_not(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without norms, which see the whole image too, nothing else goes from end to end."""
    monkeypatch.setattr(unet, "_norm", lambda channels: nn.Identity())
    network = trained(made(UNet(8, 0), (1, 2, 40), (1, 2, 40))).double()
    x = torch.randn(1, 1, 2, 40, generator=generator(0), dtype=torch.float64)

    def reached() -> torch.Tensor:
        """How the first pixel out depends on each column in."""
        v = x.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(network(v)[0, 0, 0, 0], v)
        return gradient[0, 0].abs().amin(0) > 0

    assert reached().all()
    (attention,) = [m for m in network.modules() if isinstance(m, unet._Attention)]
    nn.init.zeros_(attention.out.weight)
    by_convolutions = reached()
    assert by_convolutions[:8].all() and not by_convolutions[20:].any()


def test_every_parameter_gets_a_gradient() -> None:
    network = trained(made(UNet(8, 1, 2), (1, 8, 8), (2, 8, 8), 3))
    network(torch.randn(2, 1, 8, 8), torch.randn(2, 3)).square().sum().backward()
    for name, p in network.named_parameters():
        assert p.grad is not None and p.grad.abs().sum() > 0, name
