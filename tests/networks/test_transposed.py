"""A network whose rows are the columns of a matrix gives what the network gives."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from genus import MLP, ResNet
from genus.learn.rows import generator
from genus.networks.construct import construct
from genus.networks.transposed import Transposed


@pytest.mark.parametrize("context", [0, 2])
@pytest.mark.parametrize(
    ("blueprint", "by_layers"),
    [
        (MLP(5, 2, "relu"), True),
        (MLP(5, 1, "silu"), True),
        (MLP(5, 0), True),
        (MLP(5, 1, dropout=0.3), False),
        (ResNet(5, 1), False),
    ],
    ids=str,
)
def test_rows_as_columns_give_the_same(blueprint: Any, by_layers: bool, context: int) -> None:
    network = construct(blueprint, (3,), (4,), generator(0), context).eval()
    transposed = Transposed(network)
    assert bool(transposed.layers) == by_layers
    x = torch.randn(7, 3, generator=generator(1))
    more = (torch.randn(7, 2, generator=generator(2)),) if context else ()
    columns = x.t().contiguous()
    torch.testing.assert_close(transposed(columns, *more).t(), network(x, *more))
    with torch.no_grad():
        torch.testing.assert_close(transposed(columns, *more).t(), network(x, *more))


def test_the_callers_own_networks_are_called_as_they_are() -> None:
    network = nn.Sequential(nn.Linear(3, 4, bias=False), nn.Tanh())
    x = torch.randn(7, 3)
    torch.testing.assert_close(Transposed(network)(x.t()).t(), network(x))
