"""Blueprints: shapes, weights from the model's own generator, JSON."""

from __future__ import annotations

import json
import threading
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.base import clone
from torch import nn

from genus import MLP, Conv, ResNet
from genus.files import from_json, to_json
from genus.learn.rows import generator
from genus.networks.blueprints import construct
from genus.networks.layers import ACTIVATIONS, Columns, Linear, initialise
from genus.settings import Settings

BLUEPRINTS: list[Settings] = [
    MLP(16, 2),
    MLP(16, 0),
    MLP(16, 1, dropout=0.5),
    ResNet(16, 2),
    ResNet(16, 0),
]
SIZES = [(1, 1), (1, 2), (2, 3), (5, 5), (7, 7), (8, 8), (13, 6), (28, 28)]


def made(blueprint: Any, i: tuple[int, ...], o: tuple[int, ...], seed: int = 0) -> nn.Module:
    return construct(blueprint, i, o, generator(seed))


@pytest.mark.parametrize("blueprint", BLUEPRINTS, ids=str)
@pytest.mark.parametrize(
    ("i", "o"), [((3,), (4,)), ((2, 3), (4,)), ((5,), (1, 4, 4)), ((3, 4, 4), (3, 4, 4))]
)
def test_shapes(blueprint: Settings, i: tuple[int, ...], o: tuple[int, ...]) -> None:
    assert made(blueprint, i, o)(torch.randn(7, *i)).shape == (7, *o)


@pytest.mark.parametrize("depth", [0, 1, 2, 3])
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("channels", [1, 3])
def test_convolutions_of_every_size(size: tuple[int, int], depth: int, channels: int) -> None:
    image, blueprint = (channels, *size), Conv(channels=4, depth=depth)
    assert made(blueprint, image, (5,))(torch.randn(2, *image)).shape == (2, 5)
    assert made(blueprint, (5,), image)(torch.randn(2, 5)).shape == (2, *image)


def test_conv_needs_an_image() -> None:
    with pytest.raises(ValueError, match=r"Conv needs images \(C, H, W\)"):
        made(Conv(), (5,), (4,))


@pytest.mark.parametrize("blueprint", [*BLUEPRINTS, Conv(4, 2)], ids=str)
def test_every_parameter_gets_a_gradient(blueprint: Settings) -> None:
    """From the second step on: the last map of a residual block starts at 0."""
    i, o = ((1, 6, 6), (3,)) if isinstance(blueprint, Conv) else ((4,), (3,))
    network = made(blueprint, i, o)
    optimizer = torch.optim.SGD(network.parameters(), 0.1)
    for _ in range(2):
        optimizer.zero_grad()
        network(torch.randn(32, *i, generator=generator(1))).square().mean().backward()
        optimizer.step()
    for name, p in network.named_parameters():
        assert p.grad is not None and float(p.grad.abs().sum()) > 0, name


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


def test_the_scale_of_the_weights() -> None:
    layer = initialise(Linear(1000, 500), generator(0)).requires_grad_(False)
    assert (
        abs(float(layer.weight.var()) * 1000 / 2 - 1) < 0.02
        and abs(float(layer.weight.mean())) < 1e-3
    )
    assert not initialise(Linear(5, 5, zero=True), generator(0)).weight.any()


def test_residual_blocks_start_as_the_identity() -> None:
    deep, shallow = (made(ResNet(8, d), (3,), (2,)) for d in (3, 0))
    values = list(deep.state_dict().values())
    shallow.load_state_dict(dict(zip(shallow.state_dict(), values[:2] + values[-2:], strict=True)))
    x = torch.randn(4, 3)
    assert torch.allclose(deep(x), shallow(x))


def test_dropout_draws_from_the_generator_and_only_in_training() -> None:
    network = made(MLP(8, 1, dropout=0.5), (200,), (1,))
    x = torch.ones(50, 200)
    assert not torch.equal(network.train()(x), network(x))
    assert torch.equal(network.eval()(x), network(x))
    layer = network[1]
    y = layer.train()(x)
    assert set(y.unique().tolist()) == {0.0, 2.0} and abs(float(y.mean()) - 1) < 0.05


@pytest.mark.parametrize("blueprint", [MLP(3, 1, "tanh", 0.1), ResNet(5), Conv(4, 1)])
def test_json_params_and_clone(blueprint: Settings) -> None:
    known = {type(blueprint).__name__: type(blueprint)}
    assert from_json(json.loads(json.dumps(to_json(blueprint, "b"))), known) == blueprint
    assert clone(blueprint) == blueprint and type(blueprint)(**blueprint.get_params()) == blueprint
    with pytest.raises(AttributeError):
        blueprint.width = 3  # type: ignore[attr-defined]
    with pytest.raises(ValueError, match="has no field 'size'"):
        blueprint.replace(size=3)


def test_settings_out_of_range() -> None:
    for bad in (
        MLP(width=0),
        MLP(depth=-1),
        MLP(width=1.5),
        MLP(width=True),
        ResNet(width=-1),
        MLP(depth=10**9),
    ):  # type: ignore[arg-type]
        with pytest.raises(ValueError, match=r"\((width|depth)="):
            bad((2,), (2,))
    for bad in (Conv(channels=0), Conv(depth=9)):
        with pytest.raises(ValueError, match=r"Conv\("):
            bad((1, 4, 4), (2,))
    with pytest.raises(ValueError, match=r"MLP\(activation='selu'\): 'relu', "):
        MLP(activation="selu")((2,), (2,))
    with pytest.raises(ValueError, match="dropout"):
        MLP(dropout=1.0)((2,), (2,))
    with pytest.raises(TypeError, match="is no blueprint"):
        made(3, (2,), (2,))
    assert made(MLP(np.int64(4), np.int64(1)), (2,), (2,))  # type: ignore[arg-type]


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_activations(activation: str) -> None:
    assert made(MLP(4, 1, activation), (2,), (3,))(torch.randn(2, 2)).isfinite().all()


@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_rows_as_columns_give_the_same(dropout: float) -> None:
    x = torch.randn(7, 3, generator=generator(1))
    for blueprint in (
        MLP(5, 2, "relu", dropout),
        MLP(5, 1, "silu", dropout),
        lambda i, o: nn.Sequential(nn.Linear(i[0], o[0], bias=False), nn.Tanh()),
    ):
        network = construct(blueprint, (3,), (4,), generator(0)).eval()
        columns = Columns(network)
        assert bool(columns.layers) == (isinstance(blueprint, MLP) and not dropout)
        with torch.no_grad():
            torch.testing.assert_close(columns(x.t().contiguous()).t(), network(x))
        torch.testing.assert_close(columns(x.t().contiguous()).t(), network(x))
