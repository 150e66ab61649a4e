"""Cells of a pixel, one after another: at once and in order, and which sees which."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from genus import PixelCNN, PixelRNN
from genus.learn.rows import generator
from genus.models.autoregressive.pixels import Causal, Cells, Kept, matrix
from genus.networks.layers import Conv2d, initialise

C, F, WIDTH, PER_CELL = 3, 5, 4, 2


def shaken(module: nn.Module) -> nn.Module:
    rng = generator(0)
    with torch.no_grad():
        for p in module.parameters():
            p.copy_(0.5 * torch.randn(p.shape, generator=rng))
    return module.double()


@pytest.mark.parametrize("each", [1, 2])
def test_cells_in_order_are_those_at_once(each: int) -> None:
    cells = shaken(Cells(C, each, PER_CELL, F, WIDTH))
    h = torch.randn(6, F, generator=generator(1), dtype=torch.float64)
    codes = torch.randint(0, 2, (6, C), generator=generator(2)).double()
    seen = []

    def features(x: Tensor) -> Tensor:
        """(n, 1) codes of a cell → (n, each)."""
        return x if each == 1 else torch.cat([x, 1 - x], 1)

    def value(i: int, j: int, k: int, p: Tensor) -> Tensor:
        assert (i, j) == (4, 7)
        seen.append(p)
        return codes[:, k]

    x, here = cells.in_order(features, value)(4, 7, h)
    assert torch.equal(x, codes)
    whole = cells(h[:, :, None, None], here[:, :, None, None])[:, :, 0, 0]
    torch.testing.assert_close(torch.cat(seen, 1), whole)


def test_a_cell_sees_the_cells_before_it_in_its_pixel() -> None:
    cells = shaken(Cells(C, 1, 1, F, WIDTH))
    h = torch.randn(F, 1, 1, generator=generator(1), dtype=torch.float64)
    x = torch.randn(C, generator=generator(2), dtype=torch.float64)
    J = torch.autograd.functional.jacobian(
        lambda v: cells(h[None], v[None, :, None, None])[0, :, 0, 0], x
    )
    assert (J.triu() == 0).all() and (J[1:, 0] != 0).all() and J[2, 1] != 0


class Plain(Causal):
    """Features are what the first convolutions see."""

    def __init__(self, shape: tuple[int, int, int]) -> None:
        super().__init__(shape, 1, F)
        self.cells = Cells(shape[0], 1, 1, F, WIDTH)

    def forward(self, x: Tensor, g: Tensor | None = None) -> Tensor:
        v, h = self.first(x)
        return self.cells(h if v is None else h + v, x)

    def keep(self, n: int, g: Tensor | None) -> Kept:
        return KeptRow()


class KeptRow(Kept):
    def row(self, v: Tensor | None) -> None:
        self.v = v

    def pixel(self, j: int, h: Tensor) -> Tensor:
        return h if self.v is None else h + self.v[:, :, 0, j]

    def pick(self, index: Tensor) -> None:
        self.v = None if self.v is None else self.v[index]


@pytest.mark.parametrize("shape", [(1, 4, 5), (2, 3, 3), (1, 1, 6)])
def test_images_in_order_are_those_at_once(shape: tuple[int, int, int]) -> None:
    network = shaken(Plain(shape))
    told = torch.zeros(4, *shape, dtype=torch.float64)

    def value(i: int, j: int, k: int, p: Tensor) -> Tensor:
        told[:, k, i, j] = p[:, 0]
        return torch.tanh(p[:, 0])

    x = network.in_order(4, lambda v: v, value)
    torch.testing.assert_close(network(x), told)
    torch.testing.assert_close(x, torch.tanh(told))


def test_a_pixel_sees_what_is_before_it_in_raster_order() -> None:
    network = shaken(Plain((1, 4, 4)))
    x = torch.randn(16, generator=generator(3), dtype=torch.float64)
    J = torch.autograd.functional.jacobian(lambda v: network(v.view(1, 1, 4, 4)).view(16), x)
    assert (J.triu() == 0).all() and (J.tril(-1) != 0).any(1)[1:].all()


@pytest.mark.parametrize("family", [PixelCNN, PixelRNN])
def test_the_first_pixel_sees_the_whole_of_an_image_that_is_a_condition(family: type) -> None:
    """Convolutions of the condition see what is near: its far corner only by ``whole``."""
    network = family(channels=8, n_layers=1)._network((1, 8, 8), 1, 1, 0, 1)
    network = shaken(network.eval())
    rng = generator(4)
    x, y = torch.randn(2, 4, 1, 8, 8, generator=rng, dtype=torch.float64)

    def told() -> Tensor:
        """How the first pixel's parameters depend on each pixel of the condition."""
        v = y.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(network(x, v)[:, :, 0, 0].sum(), v)
        return gradient.abs().sum((0, 1)) > 0

    assert told().all()
    nn.init.zeros_(network.whole.weight)  # type: ignore[union-attr]
    near = told()
    assert near[0, 0] and not near[-1, -1]


def test_rows_may_be_picked_anew_after_each_row_of_pixels() -> None:
    network = shaken(Plain((1, 3, 3)))
    last = torch.zeros(2, 3, 3, dtype=torch.float64)

    def value(i: int, j: int, k: int, p: Tensor) -> Tensor:
        last[:, i, j] = torch.tensor([1.0, 2.0])
        return last[:, i, j].clone()

    swap = torch.tensor([1, 0])
    x = network.in_order(2, lambda v: v, value, reorder=lambda i: swap if i == 0 else None)
    assert x[0, 0].tolist() == [[2, 2, 2], [1, 1, 1], [1, 1, 1]]


def test_parameters_start_where_their_bias_is() -> None:
    network = Plain((1, 3, 3))
    initialise(network, generator(0))
    network.settle()
    out = network(torch.randn(5, 1, 3, 3, generator=generator(1)))
    assert (out == network.cells.out.bias.view(1, 1, 1, 1)).all()


def test_a_convolution_along_a_row_is_a_matrix() -> None:
    conv = shaken(Conv2d(2, 3, (1, 4)))
    x = torch.randn(1, 2, 1, 4, generator=generator(0), dtype=torch.float64)
    flat = x[0, :, 0].T.reshape(1, -1)  # pixel by pixel
    torch.testing.assert_close(flat @ matrix(conv) + conv.bias, conv(x)[:, :, 0, 0])
