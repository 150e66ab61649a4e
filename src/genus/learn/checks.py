"""Is a checkpoint one of this very run? Names, shapes, types and ranges, before any is taken.

Anyone can write a checkpoint with a good checksum. What it holds goes into optimisers that run
without looking at sizes, so everything is compared with what the run has.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
from collections.abc import Collection, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from genus.files import StoreError
from genus.learn.protocol import Learner

# what the optimisers remember of a parameter, beside its number of steps
MEMORY = {
    "adam": {"exp_avg", "exp_avg_sq"},
    "adamw": {"exp_avg", "exp_avg_sq"},
    "rmsprop": {"square_avg", "momentum_buffer"},
    "sgd": {"momentum_buffer"},
}
SQUARES = {"exp_avg_sq", "square_avg"}  # means of squares, never below 0
PLAIN = (bool, int, float, str)


def refuse(why: str) -> None:
    """Raise StoreError."""
    raise StoreError(f"the checkpoint is damaged, or of another program: {why}. Start anew")


@contextlib.contextmanager
def naming_what_is_wrong() -> Iterator[None]:
    """Inside this context whatever a checkpoint lacks is a StoreError that says so."""
    try:
        yield
    except KeyError as e:
        refuse(f"it has no {e.args[0]!r}")
    except (TypeError, AttributeError, IndexError, RuntimeError, OverflowError) as e:
        refuse(f"{type(e).__name__}: {e}")


def check_tensors(
    what: str,
    saved: dict[str, Tensor],
    mine: dict[str, Tensor],
    *,
    finite: Collection[str],
    learned: Collection[str] = (),
    grows: Collection[str] = (),
) -> None:
    """Refuse tensors whose names, shapes or types are not those of ``mine``.

    finite: names of tensors that hold neither NaN nor infinity. learned: of those whose shape is
    learned. grows: of those whose first axis is.
    """
    for name, t in mine.items():
        if name not in saved:
            refuse(f"{what} {name} is missing")
        found, here = saved[name], t.shape
        fits = found.shape == here
        if name in grows and found.dim() == t.dim() > 0:
            fits = found.shape[1:] == here[1:]
        if name in learned:
            fits = found.dim() == t.dim()
        if not fits:
            refuse(f"{what} {name} has the shape {tuple(found.shape)}, not {tuple(here)}")
        if found.dtype != t.dtype:
            refuse(f"{what} {name} has the type {found.dtype}, not {t.dtype}")
        if name in finite and not bool(found.isfinite().all()):
            refuse(f"{what} {name} holds NaN or infinity")


def check_model(model: Learner, saved: dict[str, Tensor]) -> None:
    """Refuse parameters and buffers that are not this model's.

    Buffers that ``state_dict`` leaves out, as chains, may have another number of rows.
    """
    learned = {
        f"{where}.{name}".removeprefix(".")
        for where, module in model.named_modules()
        for name in getattr(module, "learned_shapes", ())
    }
    buffers = dict(model.named_buffers())
    grows = set(buffers) - set(model.state_dict())
    weights = dict(model.named_parameters())
    mine = {**weights, **buffers}
    check_tensors("the tensor", saved, mine, finite=weights, learned=learned, grows=grows)


def check_memory(
    name: str, optimizer: torch.optim.Optimizer, kind: str, state: dict[int, dict[str, Tensor]]
) -> None:
    """Refuse what an optimiser of this kind could not remember of its parameters.

    Fused optimisers take it as it is: a moment of another size would be memory of others.
    """
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    for i, entries in state.items():
        what = f"the optimiser of {name or 'the model'}, parameter {i}:"
        if not 0 <= i < len(parameters):
            refuse(f"{what} there are {len(parameters)}")
        p, known = parameters[i], MEMORY[kind]
        for entry, t in entries.items():
            if entry == "step":
                if t.shape or t.dtype != torch.float32 or not 1 <= float(t) < 2**53:
                    refuse(f"{what} its number of steps is {t.tolist()!r:.40}")
                continue
            if entry not in known:
                refuse(f"{what} {kind} remembers no {entry!r}")
            check_tensors(what, {entry: t}, {entry: p}, finite=[entry])
            if entry in SQUARES and bool((t < 0).any()):
                refuse(f"{what} {entry} holds squares below 0")
        needed = {"step"} if kind != "sgd" else set()
        needed |= known - {"momentum_buffer"}
        for entry in needed - set(entries):
            refuse(f"{what} {entry} is missing")


def check_loop(loop: dict[str, Any], counters: Any, batches: int) -> None:
    """Refuse numbers of a run that no run could reach."""
    fields = {f.name: f.default for f in dataclasses.fields(counters)}
    for name, default in fields.items():
        value = loop[name]
        whole = isinstance(default, int)
        number = isinstance(value, int if whole else int | float) and not isinstance(value, bool)
        unset = value is None and default is None
        if not unset and (not number or math.isnan(value)):
            refuse(f"{name}={value!r:.40}")
        if whole and not 0 <= value < 2**53:
            refuse(f"{name}={value!r:.40}")
    if loop["batch"] > batches:
        refuse(f"batch={loop['batch']}, and a pass has {batches}")
    if not 0 <= loop["elapsed"] < math.inf:
        refuse(f"elapsed={loop['elapsed']!r:.40}")
    if not 0 < loop["lr_scale"] <= 1:
        refuse(f"lr_scale={loop['lr_scale']!r:.40}")
    if not isinstance(loop["total"], int | float):
        refuse(f"total={loop['total']!r:.40}")
    for name, value in loop.get("players", {}).items():
        total, rows = value
        if not isinstance(total, int | float) or not isinstance(rows, int) or rows < 0:
            refuse(f"the losses of {name or 'the model'} are {value!r:.40}")
    check_history(loop["history"])


def check_history(history: Any) -> None:
    """Refuse a history that is no list of lines."""
    if not isinstance(history, list) or not all(isinstance(line, dict) for line in history):
        refuse("its history is no list of lines")


def check_scaler(state: dict[str, Any]) -> None:
    """Refuse settings of the scale of float16 that are no positive numbers."""
    for name, value in state.items():
        least = 0.0 if name.startswith("_") else 1e-30
        if not isinstance(value, int | float) or not least <= value < math.inf:
            refuse(f"the scale of float16 has {name}={value!r:.40}")


def taken_notes(name: str, module: nn.Module, notes: dict[str, Any]) -> dict[str, Any]:
    """The notes of a module, without its arguments, which are the caller's.

    Notes that would replace what is no number, flag or word are refused.
    """
    arguments: list[str] = getattr(type(module), "_get_param_names", list)()
    taken = {key: value for key, value in notes.items() if key not in arguments}
    for key, value in taken.items():
        here = vars(module).get(key, getattr(type(module), key, None))
        where = f"{name}.{key}" if name else key
        if here is not None and not isinstance(here, PLAIN):
            refuse(f"the note {where} would replace a {type(here).__name__}")
        words = here is not None and isinstance(here, str) != isinstance(value, str)
        if not isinstance(value, PLAIN) or words:
            refuse(f"the note {where} is {value!r:.40}")
    return taken
