"""A perceptron in which each output sees the coordinates before its own alone."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from genus.learn.rows import generator
from genus.networks.layers import initialise
from genus.networks.masked import MaskedMLP


def rows(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=generator(2), dtype=torch.float64)


def shaken(network: MaskedMLP) -> MaskedMLP:
    """The network with weights moved at random within their masks, in float64."""
    with torch.no_grad():
        for p in initialise(network, generator(0)).double().parameters():
            p.add_(torch.randn(p.shape, generator=generator(1), dtype=p.dtype))
        for layer in network.layers:
            layer.weight.mul_(layer.mask)  # type: ignore[operator, union-attr]
    return network


def test_masked_weights_stay_0_in_training_so_that_without_gradients_they_need_no_mask() -> None:
    f = initialise(MaskedMLP(4, 2, 32, 2), generator(0))
    optimizer = torch.optim.AdamW(f.parameters(), lr=0.1, weight_decay=0.5)
    x = rows(64, 4).float()
    for _ in range(5):
        optimizer.zero_grad()
        (f(x) - x[:, None]).square().mean().backward()
        optimizer.step()
    assert all(
        bool((m.weight[m.mask == 0] == 0).all()) and bool((m.weight[m.mask == 1] != 0).any())
        for m in f.layers
    )  # type: ignore[attr-defined]
    seen = f(x)
    with torch.no_grad():
        assert torch.equal(f(x), seen)


def test_no_unit_is_idle_without_conditions() -> None:
    assert MaskedMLP(2, 1, 8, 1).sizes == [0, 8] and MaskedMLP(2, 1, 8, 1, context=1).sizes == [
        4,
        4,
    ]


@pytest.mark.parametrize("context", [0, 2])
@pytest.mark.parametrize("backwards", [False, True])
def test_outputs_see_the_coordinates_before_theirs_and_the_context(
    backwards: bool, context: int
) -> None:
    f = shaken(MaskedMLP(4, 2, 16, 2, "tanh", context, backwards))
    x, c = rows(1, 4), rows(1, context)
    more = (c,) if context else ()
    J = torch.autograd.functional.jacobian(lambda v: f(v, *more)[0], x)[:, :, 0].abs().sum(0)
    before = torch.ones(4, 4).triu(1) if backwards else torch.ones(4, 4).tril(-1)
    assert torch.equal(J > 0, before > 0)
    if context:
        K = torch.autograd.functional.jacobian(lambda v: f(x, v)[0], c)[:, :, 0].abs()
        assert bool((K > 0).all())


@pytest.mark.parametrize("context", [0, 2])
@pytest.mark.parametrize("backwards", [False, True])
@pytest.mark.parametrize("grad", [False, True])
def test_coordinates_one_after_another_are_those_of_a_whole_pass(
    grad: bool, backwards: bool, context: int
) -> None:
    f = shaken(MaskedMLP(4, 1, 16, 2, "tanh", context, backwards))
    z, more = rows(5, 4), (rows(5, context),) if context else ()
    with torch.set_grad_enabled(grad):
        y = f.in_order(z.t(), lambda a, p: a + p[0], *more).t()
        torch.testing.assert_close(y - f(y, *more)[:, 0], z)
