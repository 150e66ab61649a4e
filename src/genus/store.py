"""Models in files: parameters, constructor arguments, space and history, and back again."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.overrides
from torch import Tensor, nn

from genus.files import StoreError, from_json, read
from genus.learn.trainer import Trainer
from genus.model import Model
from genus.settings import Settings
from genus.space import Space

# families whose images were channel-first inside before all were
CHANNEL_FIRST = ("VAE", "PixelCNN", "PixelRNN", "AutoregressiveTransformer")


def load(path: str | Path, *, models: Iterable[Any] = ()) -> Any:
    """Load what ``Model.save`` wrote.

    Parameters
    ----------
    path : str or Path
        The file, with its ending.
    models : iterable, default=()
        The caller's own classes of models, and the classes or functions of networks that were given
        as arguments; a module where its class needs arguments.

    Raises
    ------
    StoreError
        When the file is damaged, foreign, newer, or its shapes are not the model's.

    Examples
    --------
    >>> import tempfile, numpy as np, genus
    >>> X = np.random.default_rng(0).normal(size=(100, 2))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = genus.Gaussian().fit(X).save(f"{folder}/model.genus")
    ...     model = genus.load(f"{folder}/model.genus")
    >>> type(model).__name__
    'Gaussian'
    """
    tensors, meta = read(path)
    if "model" not in meta:
        raise StoreError(
            f"{path} is a training checkpoint, not a model: give it to fit(resume=...)"
        )
    said = meta["model"]
    old = meta["format"] < 2 and isinstance(said, dict)
    if old:
        turned = said.get("class") in CHANNEL_FIRST  # the rows, but not their conditions
        facts = said.get("facts")
        given = facts.get("given_space_") if isinstance(facts, dict) else None
        _lay_as_they_came(given if turned else said)
    return revive(said, tensors, models, str(path))


def revive(
    said: dict[str, Any],
    tensors: dict[str, Tensor],
    models: Iterable[Any] = (),
    path: str = "the file",
) -> Any:
    """The model of a description and its tensors.

    Shapes are compared before anything is allocated.
    """
    known: dict[str, Any] = {c.__name__: c for c in (*_own(Model), *_own(Settings), Space)}
    known["Trainer"] = _trainer
    for own in models:
        name = type(own).__name__ if isinstance(own, nn.Module) else own.__name__
        known[name] = own
    try:
        if said["class"] == "IndependentHistogram":
            raise StoreError(
                f"{path} holds an IndependentHistogram, a baseline of earlier versions: "
                "fit genus.Independent() in its place"
            )
        cls: Any = known.get(said["class"])
        if not isinstance(cls, type) or not issubclass(cls, Model):
            raise StoreError(
                f"{path} holds a {said['class']!r}, which genus does not know: "
                "pass its class to load(path, models=[...])"
            )
        _check_spaces(said, most=max(1 << 16, 16 * sum(t.numel() for t in tensors.values())))
        params = {k: from_json(v, known) for k, v in said["params"].items()}
        if "marginals" in cls._get_param_names():  # files of before it had one way
            params = {"marginals": getattr(cls, "earlier_marginals", "logit")} | params
        if "inside" in cls._get_param_names():  # and bins another
            params = {"inside": "even"} | params
        model: Model = cls(**params)
        _set_facts(model, said["facts"], known)
        parts: dict[str, Callable[[Any], None]] = {
            name: partial(_set_facts, facts=facts, known=known)
            for name, facts in said.get("parts", {}).items()
        }
        with torch.device("meta"), _Thrift(1000 + 100 * len(tensors)):
            _build(model, parts)
        expected = model.state_dict()
        names = getattr(cls, "earlier_names", {})  # of tensors that belong to parts by now
        tensors = {names.get(name, name): t for name, t in tensors.items()}
        learned = _learned_shapes(model)
        _check_tensors(tensors, expected, learned)
        unsaved = [t for name, t in model.named_buffers() if name not in expected]
        if unsaved:  # masks, chains: build makes them anew
            if sum(t.numel() * t.itemsize for t in unsaved) > 1 << 28:
                raise ValueError("its unsaved buffers would take more than 256 MiB")
            _build(model, parts)
        for name in learned & set(tensors):
            where, _, leaf = name.rpartition(".")
            model.get_submodule(where)._buffers[leaf] = tensors[name]
        model.load_state_dict(tensors, assign=True)
    except StoreError:
        raise
    except (
        ValueError,
        TypeError,
        KeyError,
        IndexError,
        AttributeError,
        RuntimeError,
        RecursionError,
        ArithmeticError,
        MemoryError,
    ) as e:
        if "meta tensor" in str(e) or "meta device" in str(e):  # where shapes are all there is
            raise StoreError(
                f"{said['class']}.build asks for the value of a tensor: files are loaded on shapes "
                "alone first, so let build use numbers, as a Space has them, and start look at rows"
            ) from e
        raise StoreError(
            f"{path} does not describe a working model: {type(e).__name__}: {e}"
        ) from e
    for name, parameter in model.named_parameters():
        if bool(torch.isnan(parameter).any()):
            raise StoreError(f"{path} is damaged: {name} holds NaN")
        parameter.requires_grad_(name not in model.frozen)
    return model.eval()


def _trainer(**settings: Any) -> Trainer:
    """The settings of a file, but for the path of its checkpoint: no file chooses what we write."""
    return Trainer(**{**settings, "checkpoint": None})


def _own(base: type) -> Iterator[type]:
    """The classes of genus that stand on a base; those of callers are named in ``models``."""
    cls: type
    for cls in base.__subclasses__():
        if cls.__module__.startswith("genus."):
            yield cls
            yield from _own(cls)


def _check_tensors(
    tensors: dict[str, Tensor], expected: dict[str, Tensor], learned: set[str]
) -> None:
    """Raise ValueError unless the tensors are those that the model has; ``learned``: any shape."""
    for name, t in tensors.items():
        if name not in expected:
            raise ValueError(f"the tensor {name!r} of shape {tuple(t.shape)} has no place in it")
        if expected[name].shape != t.shape and name not in learned:
            raise ValueError(
                f"the tensor {name!r} has the shape {tuple(t.shape)}, where its arguments make "
                f"{tuple(expected[name].shape)}: a class names buffers of another shape than that "
                "of build in learned_shapes, and a module of your own is passed to "
                "load(path, models=[...]) as it was made"
            )
        if expected[name].is_floating_point() != t.is_floating_point():
            raise ValueError(f"the tensor {name!r} has the type {t.dtype}, which is another's")
    absent = set(expected) - set(tensors)
    if absent:
        raise ValueError(f"the tensor {min(absent)!r} is missing")


def _set_facts(model: Any, facts: dict[str, Any], known: dict[str, Any]) -> None:
    for k, v in facts.items():
        if k.endswith("_") and not k.startswith("_"):
            setattr(model, k, from_json(v, known))


def _learned_shapes(model: Model) -> set[str]:
    """The names of all buffers, those of parts too, whose shape is learned."""
    names = set()
    for where, module in model.named_modules():
        for name in getattr(module, "learned_shapes", ()):
            names.add(f"{where}.{name}" if where else name)
    return names


def _lay_as_they_came(said: Any) -> None:
    """Mark the spaces of images of an old file, whose cells were taken as they came."""
    if isinstance(said, dict):
        if said.get("!") == "Space" and said["json"].get("layout"):
            said["json"]["planes"] = False
        for part in said.values():
            _lay_as_they_came(part)
    elif isinstance(said, list):
        for part in said:
            _lay_as_they_came(part)


def _build(model: Model, parts: dict[str, Callable[[Any], None]]) -> None:
    """Make parameters and buffers; what ``build`` draws, the file's tensors replace.

    parts: what sets the facts of models that are parts, by name.
    """
    model.rng = torch.Generator().manual_seed(0)
    model._make(model.space_)
    model._take_back()
    for name, set_facts in parts.items():
        set_facts(model.get_submodule(name))


def _check_spaces(said: Any, most: int) -> None:
    """Refuse a row of far more cells than the file has numbers, and above 65,536.

    A hostile file could name a space of 10¹² cells.
    """
    if isinstance(said, dict):
        space = said.get("json") if said.get("!") == "Space" else None
        if space and math.prod(space["shape"]) > most:
            raise ValueError(
                f"rows of shape {tuple(space['shape'])} are larger than "
                "anything this file could describe"
            )
        if space and space.get("kind") == "categorical" and not space.get("values"):
            levels = space.get("levels") or 0
            if levels > most:
                raise ValueError(f"{levels} categories are more than this file could describe")
        said = list(said.values())
    if isinstance(said, list):
        for part in said:
            _check_spaces(part, most)


class _Thrift(torch.overrides.TorchFunctionMode):
    """Stops a hostile description that would build millions of tensors."""

    def __init__(self, most: int) -> None:
        super().__init__()
        self.left = most

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.left -= 1
        if self.left < 0:
            raise ValueError("it would build far more tensors than the file holds")
        return func(*args, **(kwargs or {}))
