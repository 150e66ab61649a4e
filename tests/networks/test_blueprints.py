"""Blueprints: shapes, contexts, weights from the model's own generator, JSON."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.base import clone
from torch import nn

from genus import MLP, Conv, ResNet, SameConv
from genus.files import from_json, to_json
from genus.learn.rows import generator
from genus.networks.construct import construct
from genus.networks.context import FiLM
from genus.settings import Settings

BLUEPRINTS: list[Settings] = [
    MLP(16, 2),
    MLP(16, 0),
    MLP(16, 1, dropout=0.5),
    ResNet(16, 2),
    ResNet(16, 0),
]
SIZES = [(1, 1), (1, 2), (2, 3), (5, 5), (7, 7), (8, 8), (13, 6), (28, 28)]


def made(
    blueprint: Any, i: tuple[int, ...], o: tuple[int, ...], seed: int = 0, context: int = 0
) -> nn.Module:
    return construct(blueprint, i, o, generator(seed), context)


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


def test_residual_blocks_start_as_the_identity() -> None:
    deep, shallow = (made(ResNet(8, d), (3,), (2,)) for d in (3, 0))
    values = list(deep.state_dict().values())
    shallow.load_state_dict(dict(zip(shallow.state_dict(), values[:2] + values[-2:], strict=True)))
    x = torch.randn(4, 3)
    assert torch.allclose(deep(x), shallow(x))


def test_norm_is_of_every_hidden_layer() -> None:
    def network(**more: Any) -> nn.Module:
        return construct(MLP(64, 3, **more), (3,), (2,), generator(0))

    x = torch.randn(5, 3, generator=generator(1))
    normed, plain = network(norm=True), network()
    norms = [m for m in normed if isinstance(m, nn.LayerNorm)]
    assert len(norms) == 3 and not any(isinstance(m, nn.LayerNorm) for m in plain)
    hidden = normed[:3](x)  # after the first norm
    np.testing.assert_allclose(hidden.detach().mean(1), 0, atol=1e-5)
    np.testing.assert_allclose(hidden.detach().var(1, correction=0), 1, atol=1e-3)


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
    assert made(MLP(np.int64(4), np.int64(1)), (2,), (2,))  # type: ignore[arg-type]


# ---------------------------------------------------------------------- a context

IMAGE = (2, 5, 6)
PLACES: list[tuple[Settings, tuple[int, ...], tuple[int, ...]]] = [
    (MLP(16, 2), (3,), (4,)),
    (MLP(16, 0), (2, 3), (4,)),
    (MLP(16, 1, dropout=0.2), (3,), (4,)),
    (ResNet(16, 1), (3,), (4,)),
    (Conv(4, 2), IMAGE, (5,)),
    (Conv(4, 0), IMAGE, (5,)),
    (Conv(4, 2), (3,), IMAGE),
    (Conv(4, 0), (3,), IMAGE),
    (SameConv(8, 1), IMAGE, (4, 5, 6)),
    (SameConv(8, 0), IMAGE, (4, 5, 6)),
]
everywhere = pytest.mark.parametrize(("blueprint", "i", "o"), PLACES, ids=str)


def shaken(network: nn.Module) -> nn.Module:
    """The network with weights moved at random, in float64."""
    with torch.no_grad():
        for p in network.double().parameters():
            p.add_(0.3 * torch.randn(p.shape, generator=generator(1), dtype=p.dtype))
    return network.eval()


@everywhere
def test_a_context_reaches_every_output(
    blueprint: Settings, i: tuple[int, ...], o: tuple[int, ...]
) -> None:
    network = shaken(made(blueprint, i, o, context=3))
    x = torch.randn(6, *i, generator=generator(2), dtype=torch.float64)
    c = torch.randn(6, 3, generator=generator(3), dtype=torch.float64)
    y = network(x, c)
    assert y.shape == (6, *o)
    for j in range(3):
        moved = c.clone()
        moved[:, j] += 1
        assert bool(((network(x, moved) - y).abs().amax(0) > 1e-6).all())
    # and no other row's
    moved = c.clone()
    moved[0] += 1
    torch.testing.assert_close(network(x, moved)[1:], y[1:], rtol=0, atol=1e-12)


@everywhere
def test_every_parameter_of_a_network_with_a_context_gets_a_gradient(
    blueprint: Settings, i: tuple[int, ...], o: tuple[int, ...]
) -> None:
    network = shaken(made(blueprint, i, o, context=3))
    x = torch.randn(32, *i, generator=generator(2), dtype=torch.float64)
    c = torch.randn(32, 3, generator=generator(3), dtype=torch.float64)
    network(x, c).square().mean().backward()
    for name, p in network.named_parameters():
        assert p.grad is not None and float(p.grad.abs().sum()) > 0, name


@everywhere
def test_a_context_that_is_missing_or_of_another_size_is_named(
    blueprint: Settings, i: tuple[int, ...], o: tuple[int, ...]
) -> None:
    x = torch.randn(2, *i)
    for network, args in (
        (made(blueprint, i, o, context=3), ()),
        (made(blueprint, i, o, context=3), (torch.ones(2, 4),)),
        (made(blueprint, i, o), (torch.ones(2, 3),)),
    ):
        with pytest.raises(ValueError, match="takes a context of [03] numbers a row, and got"):
            network(x, *args)


@pytest.mark.parametrize(
    ("blueprint", "i", "o"), [p for p in PLACES if isinstance(p[0], Conv | SameConv)], ids=str
)
def test_convolutions_with_a_context_start_as_those_without(
    blueprint: Settings, i: tuple[int, ...], o: tuple[int, ...]
) -> None:
    plain, network = made(blueprint, i, o), made(blueprint, i, o, context=3)
    kept = [m for m in network if not isinstance(m, FiLM)]  # type: ignore[attr-defined]
    assert len(kept) < len(network)  # type: ignore[arg-type]
    for a, b in zip(kept, plain, strict=True):  # type: ignore[call-overload]
        a.load_state_dict(b.state_dict())
    x = torch.randn(3, *i, generator=generator(2))
    assert torch.equal(network(x, torch.randn(3, 3)), plain(x))


def test_weights_keep_the_names_that_files_know() -> None:
    """A context leaves the names of an MLP's weights as they are, too."""
    names = {
        (MLP(4, 1), (3,), (2,)): "1.bias 1.weight 3.bias 3.weight",
        (MLP(4, 1, dropout=0.1), (3,), (2,)): "2.bias 2.weight 4.bias 4.weight",
        (ResNet(4, 1), (3,), (2,)): (
            "1.bias 1.weight 2.body.0.bias 2.body.0.weight 2.body.1.bias 2.body.1.weight "
            "2.body.3.bias 2.body.3.weight 4.bias 4.weight"
        ),
        (Conv(2, 1), IMAGE, (2,)): "0.bias 0.weight 3.bias 3.weight",
        (Conv(2, 1), (3,), IMAGE): "1.bias 1.weight 4.bias 4.weight 6.bias 6.weight",
        (SameConv(2, 1), IMAGE, IMAGE): "0.bias 0.weight 2.bias 2.weight 4.bias 4.weight",
    }
    for (blueprint, i, o), expected in names.items():
        assert " ".join(sorted(made(blueprint, i, o).state_dict())) == expected
        if isinstance(blueprint, MLP):
            weights = made(blueprint, i, o, context=2).state_dict()
            assert " ".join(sorted(weights)) == expected
            assert next(w for w in weights.values() if w.dim() == 2).shape == (4, 3 + 2)
