"""A network from a blueprint, a function, or a module of the caller's own."""

from __future__ import annotations

import threading
from typing import Any

import pytest
import torch
from torch import nn

from genus import MLP, ResNet
from genus.learn.rows import generator
from genus.networks.construct import construct


def made(
    blueprint: Any, i: tuple[int, ...], o: tuple[int, ...], seed: int = 0, context: int = 0
) -> nn.Module:
    return construct(blueprint, i, o, generator(seed), context)


@pytest.mark.parametrize(
    "blueprint",
    [MLP(8, 1), ResNet(8, 1), lambda i, o: nn.Sequential(nn.Linear(i[0], 8), nn.Linear(8, o[0]))],
    ids=["mlp", "resnet", "own"],
)
def test_weights_depend_on_the_seed_alone(blueprint: Any) -> None:
    torch.manual_seed(1)
    a = made(blueprint, (3,), (2,))
    torch.manual_seed(2)
    before = torch.random.get_rng_state()
    b = made(blueprint, (3,), (2,))
    assert torch.equal(before, torch.random.get_rng_state())
    c = made(blueprint, (3,), (2,), seed=1)
    x = torch.randn(4, 3)
    c_differs = any(
        not torch.equal(p, q) for p, q in zip(a.parameters(), c.parameters(), strict=True)
    )
    assert torch.equal(a(x), b(x)) and c_differs


def test_the_callers_own_networks_are_made_one_at_a_time() -> None:
    own = lambda i, o: nn.Sequential(*[nn.Linear(i[0], i[0]) for _ in range(20)])  # noqa: E731
    alone = made(own, (5,), (5,))
    found: list[nn.Module] = []
    threads = [
        threading.Thread(target=lambda: found.append(made(own, (5,), (5,)))) for _ in range(8)
    ]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    x = torch.randn(2, 5)
    assert all(torch.equal(alone(x), f(x)) for f in found)


class Own(nn.Module):
    """A caller's network that takes a context."""

    def __init__(self, i: tuple[int, ...], o: tuple[int, ...], context: int = 0) -> None:
        super().__init__()
        self.line = nn.Linear(i[0] + context, o[0])

    def forward(self, x: torch.Tensor, context: torch.Tensor | None = None) -> torch.Tensor:
        return self.line(x if context is None else torch.cat([x, context], 1))


def test_the_callers_own_networks_take_a_context_where_there_is_one() -> None:
    def old(i: tuple[int, ...], o: tuple[int, ...]) -> nn.Module:
        return nn.Linear(i[0], o[0])

    def deaf(i: tuple[int, ...], o: tuple[int, ...], context: int = 0) -> nn.Module:
        return nn.Linear(i[0] + context, o[0])

    def own(i: tuple[int, ...], o: tuple[int, ...], **more: int) -> nn.Module:
        return Own(i, o, **more)

    x, c = torch.randn(4, 3), torch.randn(4, 2)
    for blueprint in (old, deaf, own, Own):
        assert made(blueprint, (3,), (5,))(x).shape == (4, 5)
    for blueprint in (own, Own):
        assert made(blueprint, (3,), (5,), context=2)(x, c).shape == (4, 5)
    with pytest.raises(TypeError, match=r"signature \(in_shape, out_shape, context=0\)"):
        made(old, (3,), (5,), context=2)
    with pytest.raises(TypeError, match=r"forward\(x, context=None\).*\(n, 2\)"):
        made(deaf, (3,), (5,), context=2)


def test_a_module_of_the_callers_own_is_copied_and_its_shapes_are_looked_at() -> None:
    own = nn.Linear(3, 5)
    copied = made(own, (3,), (5,))
    assert copied is not own and torch.equal(copied.weight, own.weight)  # type: ignore[arg-type]
    with pytest.raises(
        ValueError, match=r"Linear makes \(5,\) of rows of shape \(3,\), and \(4,\)"
    ):
        made(own, (3,), (4,))
    with pytest.raises(ValueError, match=r"Linear does not take rows of shape \(2,\)"):
        made(own, (2,), (5,))
    with pytest.raises(TypeError, match=r"forward\(x, context=None\).*\(n, 2\)"):
        made(own, (3,), (5,), context=2)
    heard = made(Own((3,), (5,), context=2), (3,), (5,), context=2)
    assert heard(torch.randn(4, 3), torch.randn(4, 2)).shape == (4, 5)


def test_what_is_no_blueprint_is_named() -> None:
    with pytest.raises(TypeError, match="3 is no blueprint"):
        made(3, (2,), (2,))
