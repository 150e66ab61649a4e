"""A network, from what describes it: a blueprint, a function, or a module of the caller's own."""

from __future__ import annotations

import copy
import inspect
import threading
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from genus.networks.blueprints import Blueprint, Shape
from genus.networks.layers import initialise
from genus.settings import Settings

_GLOBAL = threading.Lock()


def construct(
    blueprint: Blueprint,
    in_shape: Shape,
    out_shape: Shape,
    rng: torch.Generator,
    context: int = 0,
) -> nn.Module:
    """Make the network.

    A caller's own callable may draw from torch's global state, which is put back after. A caller's
    own module is copied, and its weights are where training begins. Raises TypeError where there is
    a context that it, or the network that it makes, does not take.
    """
    in_shape, out_shape = tuple(map(int, in_shape)), tuple(map(int, out_shape))  # not numpy's
    own: Any = blueprint
    if isinstance(own, type) and issubclass(own, nn.Module) and not _takes_shapes(own):
        name = own.__name__
        raise TypeError(
            f"{name} is a class of modules: pass a module, {name}(...), "
            "or a function (in_shape, out_shape) -> nn.Module"
        )
    if isinstance(blueprint, nn.Module):
        return _copied(blueprint, in_shape, out_shape, context)
    if isinstance(blueprint, Settings):
        return initialise(_called(blueprint, in_shape, out_shape, context), rng)
    if not callable(blueprint):
        raise TypeError(
            f"{blueprint!r} is no blueprint: pass MLP(), Conv(), ResNet() or a callable "
            "(in_shape, out_shape) -> nn.Module"
        )
    with _GLOBAL:
        before = torch.random.get_rng_state()
        try:
            torch.default_generator.manual_seed(
                int(torch.randint(2**62, (), generator=rng, device="cpu"))
            )
            return initialise(_called(blueprint, in_shape, out_shape, context), rng)
        finally:
            torch.random.set_rng_state(before)


def _copied(module: nn.Module, in_shape: Shape, out_shape: Shape, context: int) -> nn.Module:
    """A module of the caller's own, for this model alone. ValueError where shapes do not fit."""
    name = type(module).__name__
    if context and not _takes_context(module.forward):
        raise TypeError(
            f"{name} takes no context, and conditions come as one here: give it "
            f"forward(x, context=None), with context of shape (n, {context})"
        )
    own = copy.deepcopy(module)
    if torch.empty(0).is_meta:  # a saved model is built on shapes alone
        return own
    like = next(own.parameters(), torch.empty(0))
    x = like.new_zeros(2, *in_shape)
    more = {"context": like.new_zeros(2, context)} if context else {}
    training = own.training
    try:
        with torch.no_grad():
            found = tuple(own.eval()(x, **more).shape)
    except Exception as e:
        raise ValueError(f"{name} does not take rows of shape {in_shape}: {e}") from e
    if found != (2, *out_shape):
        raise ValueError(
            f"{name} makes {found[1:]} of rows of shape {in_shape}, and {out_shape} is needed"
        )
    return own.train(training)


def _called(blueprint: Blueprint, in_shape: Shape, out_shape: Shape, context: int) -> nn.Module:
    if not context:
        return blueprint(in_shape, out_shape)
    if not _takes_context(blueprint):
        raise TypeError(
            f"{blueprint!r} takes no context, and conditions come as one here: give it the "
            "signature (in_shape, out_shape, context=0) -> nn.Module"
        )
    network = blueprint(in_shape, out_shape, context=context)
    if not _takes_context(network.forward):
        raise TypeError(
            f"the network of {blueprint!r} takes no context, and conditions come as one here: "
            f"give it forward(x, context=None), with context of shape (n, {context})"
        )
    return network


def _takes_shapes(function: Callable[..., Any]) -> bool:
    try:
        inspect.signature(function).bind((), ())
    except TypeError:
        return False
    return True


def _takes_context(function: Callable[..., Any]) -> bool:
    parameters = inspect.signature(function).parameters.values()
    return any(p.name == "context" or p.kind is p.VAR_KEYWORD for p in parameters)
