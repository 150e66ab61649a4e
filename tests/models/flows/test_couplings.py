"""Monotone maps of one coordinate, and maps of rows made of them, against autograd."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from genus.distributions.bijections import ActNorm, Bijection, Chain, Inverse, Mix, Permute
from genus.learn.rows import generator
from genus.models.flows.couplings import (
    FAR,
    Affine,
    Autoregressive,
    Coupling,
    Level,
    Shift,
    Spline,
    board,
    squeeze,
)
from genus.networks.blueprints import MLP, SameConv
from genus.networks.construct import construct
from genus.networks.layers import initialise
from genus.networks.masked import MaskedMLP


def wild(module: torch.nn.Module, size: float = 0.5) -> torch.nn.Module:
    """Every parameter moved at random, in float64: what training might have made of it."""
    rng = generator(1)
    for p in module.double().parameters():
        p.data += size * torch.randn(p.shape, generator=rng, dtype=torch.float64)
    for m in module.modules():
        if "mask" in m._buffers:
            m.weight.data *= m.mask
    return module


def rows(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=generator(2), dtype=torch.float64)


def coupling(d: int, g: Shift | Affine | Spline, given: int = 0) -> Coupling:
    network = construct(
        MLP(16, 1, "tanh"), (d // 2,), (g.each * (d - d // 2),), generator(0), given
    )
    return wild(Coupling(d // 2, g, network))  # type: ignore[return-value]


def autoregressive(
    d: int, g: Affine | Spline, given: int = 0, backwards: bool = False
) -> Autoregressive:
    return wild(
        Autoregressive(
            g, initialise(MaskedMLP(d, g.each, 16, 2, "tanh", given, backwards), generator(0))
        )
    )  # type: ignore[arg-type, return-value]


def images(g: Shift | Affine) -> Level:
    def one(shape: tuple[int, int, int]) -> Coupling:
        c, h, w = shape
        return Coupling(
            c // 2, g, construct(SameConv(8), (c // 2, h, w), (c // 2 * g.each, h, w), generator(0))
        )

    order = board(1)
    inner = Level((2, 2, 2), Chain(one((8, 1, 1))))
    return wild(
        Level(
            (1, 4, 4),
            Chain(Permute(order), one((4, 2, 2)), Permute(order.argsort())),
            inner,
            one((4, 2, 2)),
        ),
        0.2,
    )  # type: ignore[return-value]


MAPS: dict[str, tuple[Bijection, tuple[int, ...]]] = {
    "shift": (coupling(5, Shift()), (5,)),
    "affine": (coupling(5, Affine()), (5,)),
    "spline": (coupling(5, Spline(6, 3.0)), (5,)),
    "one coordinate": (coupling(1, Affine()), (1,)),
    "autoregressive affine": (autoregressive(5, Affine()), (5,)),
    "autoregressive spline": (autoregressive(5, Spline(6, 3.0)), (5,)),
    "autoregressive, backwards": (autoregressive(5, Affine(), backwards=True), (5,)),
    "autoregressive, one coordinate": (autoregressive(1, Affine()), (1,)),
    "inverse": (Inverse(autoregressive(4, Affine())), (4,)),
    "permute": (Permute(torch.tensor([2, 0, 1])), (3,)),
    "actnorm": (wild(ActNorm(3)), (3,)),  # type: ignore[dict-item]
    "actnorm of images": (wild(ActNorm(3)), (3, 2, 2)),  # type: ignore[dict-item]
    "mix": (wild(Mix(4, generator(0)), 0.1), (4,)),  # type: ignore[dict-item]
    "mix of images": (wild(Mix(3, generator(0)), 0.1), (3, 2, 2)),  # type: ignore[dict-item]
    "levels": (images(Affine()), (1, 4, 4)),
    "levels, additive": (images(Shift()), (1, 4, 4)),
}
every = pytest.mark.parametrize("name", MAPS)


@every
def test_log_determinants_are_autograds(name: str) -> None:
    f, shape = MAPS[name]
    x = rows(6, *shape)
    log_det = f(x)[1]
    for i in range(6):
        J = torch.autograd.functional.jacobian(lambda v: f(v[None])[0].flatten(), x[i])
        assert float(torch.linalg.slogdet(J.reshape(math.prod(shape), -1))[1]) == pytest.approx(
            float(log_det[i]), abs=1e-9
        )


@every
def test_the_inverse_undoes_the_map(name: str) -> None:
    f, shape = MAPS[name]
    x = 2 * rows(50, *shape)
    y = f(x)[0]
    assert float((f.inverse(y) - x).abs().max()) < 1e-9
    assert name == "permute" or float((y - x.reshape(y.shape)).abs().max()) > 0.1


def test_float32_networks_invert_float64_coordinates() -> None:
    x = 2 * rows(50, 5)
    for g in (Affine(), Spline(6, 3.0)):
        f = autoregressive(5, g).float()
        assert float((f.inverse(f(x)[0]) - x).abs().max()) < 1e-10
    c = coupling(5, Affine()).float()
    assert float((c.inverse(c(x)[0]) - x).abs().max()) < 1e-10


def test_conditions_reach_every_parameter() -> None:
    given, x = rows(30, 2), rows(30, 4)
    for f in (coupling(4, Affine(), 2), autoregressive(4, Affine(), 2)):
        y = f(x, given)[0]
        moved = (f(x, given + 1)[0] - y).abs().amax(0)
        assert bool((moved[2:] > 1e-3).all()) and bool((f.inverse(y, given) - x).abs().max() < 1e-9)
    assert bool((moved > 1e-3).all())  # the first coordinate too, where none comes before it


def test_what_may_see_what() -> None:
    x = rows(1, 5)
    J = torch.autograd.functional.jacobian(lambda v: autoregressive(5, Affine())(v)[0], x)[0, :, 0]
    assert (
        torch.equal(J, J.tril())
        and bool((J.diagonal() != 0).all())
        and bool((J.tril(-1) != 0).sum() == 10)
    )
    J = torch.autograd.functional.jacobian(
        lambda v: autoregressive(5, Affine(), backwards=True)(v)[0], x
    )[0, :, 0]
    assert (
        torch.equal(J, J.triu())
        and bool((J.diagonal() != 0).all())
        and bool((J.triu(1) != 0).sum() == 10)
    )
    c = coupling(5, Affine())
    J = torch.autograd.functional.jacobian(lambda v: c(v)[0], x)[0, :, 0]
    assert torch.equal(J[:2], torch.eye(5, dtype=J.dtype)[:2]) and torch.equal(
        J[2:, 2:], J[2:, 2:].diagonal().diag()
    )


def test_a_board_has_no_two_neighbours_of_one_colour() -> None:
    number = torch.arange(16.0).reshape(1, 1, 4, 4)
    white = squeeze(number).index_select(1, board(1))[0, :2].flatten().long().tolist()
    colour = torch.zeros(16, dtype=torch.bool)
    colour[white] = True
    colour = colour.reshape(4, 4)
    assert bool((colour[:, 1:] != colour[:, :-1]).all()) and bool((colour[1:] != colour[:-1]).all())


def test_the_spline_is_its_formula() -> None:
    g, B = Spline(5, 3.0).double(), 3.0
    p = rows(g.each, 1)
    y = torch.linspace(-5, 5, 40_001, dtype=torch.float64)
    z, log_slope = g.forward(y, p.expand(-1, len(y)))
    outside = y.abs() > B
    assert torch.equal(z[outside], y[outside]) and bool((log_slope[outside] == 0).all())
    slope = (z[2:] - z[:-2]) / (y[2:] - y[:-2])
    assert bool((slope > 0).all())
    inside = y[1:-1].abs() < B - 0.01
    torch.testing.assert_close(log_slope[1:-1][inside], slope.log()[inside], atol=5e-3, rtol=0)
    y0, z0, w, h, d0, d1 = g.bin(y[~outside], p.expand(-1, int((~outside).sum())), inverse=False)
    assert (
        len(y0.unique()) == 5
        and float(w.min()) >= 2 * B * g.least - 1e-9
        and float(h.min()) >= 2 * B * g.least - 1e-9
    )
    knots, at = g.forward(y0.unique()[1:], p.expand(-1, 4))
    # it passes through every knot, with the slope of the knot
    torch.testing.assert_close(knots, z0.unique()[1:])
    torch.testing.assert_close(at.exp(), torch.stack([d0[y0 == v][0] for v in y0.unique()])[1:])
    assert (
        y0.min() == -B
        and z0.min() == -B
        and (y0 + w).max() == B
        and (z0 + h).max() == B
        and d0[0] == 1
        and d1[-1] == 1
    )


def test_far_away_networks_see_an_edge() -> None:
    f = coupling(4, Affine())
    far, farther = torch.full((1, 4), FAR + 1.0).double(), torch.full((1, 4), 1e6).double()
    assert torch.equal(f(far)[1], f(farther)[1]) and bool(torch.isfinite(f(farther)[0]).all())


def test_coordinates_keep_their_precision_beside_a_network_in_single_precision() -> None:
    for g in (Affine(), Spline(6, 3.0)):
        f = coupling(5, g).float()
        x = 2 * rows(50, 5)
        assert float((f.inverse(f(x)[0]) - x).abs().max()) < 1e-10


def test_actnorm_takes_the_first_rows_and_no_others() -> None:
    f, x = ActNorm(3).double(), 5 + 3 * rows(200, 3)
    f(x)
    assert not bool(f.b_.any())  # an evaluation changes nothing
    f.starting = True
    y = f(x)[0]
    f.starting = False
    torch.testing.assert_close(y.mean(0), torch.zeros(3, dtype=y.dtype), atol=1e-9, rtol=0)
    torch.testing.assert_close(y.std(0, correction=0), torch.ones(3, dtype=y.dtype))
    assert torch.equal(f(x + 1)[0], f(x)[0] + f.s_.exp()) or torch.allclose(
        f(x + 1)[0], f(x)[0] + f.s_.exp()
    )


def test_a_mix_starts_as_a_rotation() -> None:
    f = Mix(6, generator(3))
    P, L, U = f.factors(torch.float64)
    W = P @ L @ U
    torch.testing.assert_close(W @ W.T, torch.eye(6, dtype=W.dtype), atol=1e-5, rtol=0)
    assert float(f.s_.sum().abs()) < 1e-5 and float((W - torch.eye(6)).abs().max()) > 0.1
