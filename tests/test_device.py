"""The device that pretends finds what a GPU would stumble over, and computes as the processor."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from device import NAME, PRETENDS, Away, there
from genus.learn.rows import generator

pytestmark = pytest.mark.skipif(not PRETENDS, reason="the device is a real one")


def x() -> torch.Tensor:
    return torch.arange(6.0).reshape(2, 3).to(NAME)


FAULTS: dict[str, Callable[[], Any]] = {
    "a tensor of the processor": lambda: x() + torch.zeros(3),
    "one number there beside many here": lambda: x()[0, 0] + torch.zeros(3),
    "an index of the processor": lambda: x()[torch.tensor([0, 1])],
    "an index of the device": lambda: torch.zeros(3)[torch.tensor([0, 1], device=NAME)],
    "a choice by the processor": lambda: x().index_select(0, torch.tensor([0])),
    "rows joined": lambda: torch.cat([x(), torch.zeros(1, 3)]),
    "numbers joined": lambda: torch.stack([x()[0, 0], torch.tensor(1.0)]),
    "a sum into the processor": lambda: torch.zeros(2, 3).add_(x()),
    "a generator of the processor": lambda: torch.rand(2, generator=generator(0), device=NAME),
    "a generator of the device": lambda: torch.rand(2, generator=generator(0, NAME)),
    "coins of the processor": lambda: torch.bernoulli(x() / 9, generator=generator(0)),
    "in a list": lambda: torch._foreach_add([x(), x()], [torch.zeros(3), torch.zeros(3)]),
}


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_what_was_left_behind_is_found(fault: Callable[[], Any]) -> None:
    with there(), pytest.raises(RuntimeError, match="Expected all tensors|device type for gener"):
        fault()


def test_it_has_no_arrays() -> None:
    with there():
        for convert in (x().numpy, lambda: np.asarray(x())):
            with pytest.raises(TypeError, match="cpu"):
                convert()
        assert x().cpu().numpy()[1].tolist() == x().tolist()[1] == [3.0, 4.0, 5.0]


def test_it_computes_as_the_processor() -> None:
    with there():
        y = x()
        assert isinstance(y, Away) and y.device == torch.device(NAME, 0)
        assert (y * torch.tensor(2.0)).sum().item() == 30 and float(y[1, 2]) == 5
        y[:, 0] = 7
        y[y == 5] = 0.0
        view = y.T
        view[1] += 1
        assert y.tolist() == [[7, 2, 2], [7, 5, 0]]
        assert y[:, [2, 0]].tolist() == [[2, 7], [0, 7]] and y[[]].shape == (0, 3)
        assert y.unsqueeze(0).squeeze_(0).shape == (2, 3)
        made = [torch.zeros(2, device=NAME), torch.tensor([1.0], device=NAME), y.new_ones(3)]
        made += [
            y.new_tensor([1.0]),
            torch.linspace(0, 1, 3, device=NAME),
            torch.as_tensor([1], device=NAME),
        ]
        assert all(isinstance(t, Away) for t in made)
        here, away = generator(3), generator(3, NAME)
        drawn = torch.randn(4, generator=away, device=NAME)
        assert drawn.tolist() == torch.randn(4, generator=here).tolist()
        assert torch.equal(away.get_state(), here.get_state())


def test_a_network_learns_there_as_here() -> None:
    here = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1))
    with there():
        away = copy.deepcopy(here).to(NAME)
        for network, rows in ((here, x().cpu()), (away, x())):
            adam = torch.optim.Adam(network.parameters(), 0.1, fused=True)
            for _ in range(3):
                adam.zero_grad()
                network(rows).square().mean().backward()
                adam.step()
        assert all(isinstance(p, Away) and isinstance(p, nn.Parameter) for p in away.parameters())
        for p, q in zip(here.parameters(), copy.deepcopy(away).to("cpu").parameters(), strict=True):
            torch.testing.assert_close(p, q)
        double = copy.deepcopy(away).double()
        assert double(x().double()).dtype == torch.float64
        jump = torch.func.jvp(lambda t: away[0](t), (x(),), (torch.ones(2, 3).to(NAME),))[1]
        assert jump.device.type == NAME and torch.func.vmap(lambda t: t.sum())(x()).shape == (2,)
