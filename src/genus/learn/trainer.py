"""The settings of gradient descent."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch

from genus.settings import Flag, Instance, Number, OneOf, Rule, Settings, Several, Whole

SCHEDULES: dict[str, Callable[[float], float]] = {
    "constant": lambda f: 1.0,
    "linear": lambda f: 1.0 - f,
    "cosine": lambda f: 0.5 + 0.5 * math.cos(math.pi * f),
}
PRECISIONS = {"float32": None, "bfloat16": torch.bfloat16, "float16": torch.float16}
SHARE = Number(0, below=1)


class Device(Rule):
    """A device that this machine has."""

    words = ("a device that this machine has, such as 'cpu',",)
    nonsense = ("abacus", object(), 0.5, "")

    def accepts(self, value: Any) -> bool:
        if not isinstance(value, str | torch.device):
            return False
        try:
            device = torch.device(value)
        except RuntimeError:
            return False
        if device.type == "cuda":
            return (device.index or 0) < torch.cuda.device_count()
        return device.type != "mps" or torch.backends.mps.is_available()


def usual_device() -> str:
    """Where a gradient is descended unless a trainer or ``fit`` says otherwise."""
    return "cuda" if torch.cuda.is_available() else "cpu"


@dataclass(frozen=True, repr=False)
class Trainer(Settings):
    """How a gradient is descended; None is the model's own good value.

    Parameters
    ----------
    epochs : int or None, default=None
        Passes over the rows.
    max_steps : int or None, default=None
        A cap on optimiser steps.
    max_time : float or None, default=None
        Seconds for the whole fit; the learning-rate schedule is stretched to end with whichever
        budget ends first. A last look at held-out rows that would outlast it is given up.
    batch_size : int or None, default=None
        Rows a step.
    optimizer : {"adam", "adamw", "sgd", "rmsprop"} or None, default=None
        What makes steps of gradients.
    lr : float or None, default=None
        Its peak rate.
    momentum : float or None, default=None
        Of sgd and rmsprop.
    betas : pair of floats or None, default=None
        Of adam.
    weight_decay : float or None, default=None
        Its decay, of matrices only.
    schedule : {"constant", "linear", "cosine"} or None, default=None
        How the rate falls to 0.
    warmup : int or None, default=None
        Steps of linear growth first.
    grad_clip : float or None, default=None
        Largest gradient norm a step.
    ema : float or None, default=None
        Decay of an exponential moving average of the weights, which is what is validated and kept.
    validation : float or None, default=None
        Share of the rows held out, 0 to 1 (0.1 where ``patience`` is set).
    patience : int or None, default=None
        Epochs without progress on them before stopping. Progress is that of the model's
        ``validate``, or of its mean log-probability where that is exact or a bound.
    device : str or None, default=None
        Where to learn: ``cpu``, ``cuda``, ``cuda:1``, …; the model stays there. None: ``cuda``
        where there is one, else the processor. ``fit(X, device=...)`` goes before it.
    precision : {"float32", "bfloat16", "float16"} or None, default=None
        Autocast. None: bfloat16 for large networks on a device that computes in it natively,
        where the model allows it.
    compile : bool or None, default=None
        Pass the networks through torch.compile.
    capture : bool or None, default=None
        On a CUDA device: launch a whole step at once, as a CUDA graph. None: where the step
        allows it; True warns where it does not, and says why.
    threads : int or None, default=None
        Of the processor, while training. None: one for small steps, else as many as torch has.
        Where threads or precision are None, ``losses`` runs once beforehand, without effect, to
        count what a step computes.
    checkpoint : str or Path or None, default=None
        File that holds the whole state of training; ``fit(X, resume=True)``
        goes on from it bit for bit.
    checkpoint_every : float or None, default=None
        Seconds between two writings of it; it is also written at the end.
    progress : bool or None, default=None
        Show a bar on stderr (None: where stderr is a terminal).

    Examples
    --------
    >>> import genus
    >>> trainer = genus.Trainer(epochs=20, lr=2e-3)
    >>> genus.VAE(trainer=trainer).set_params(trainer__lr=1e-3).trainer
    Trainer(epochs=20, lr=0.001)
    """

    arguments: ClassVar[dict[str, Rule]] = {
        "epochs": Whole(1) | None,
        "max_steps": Whole(1) | None,
        "max_time": Number(above=0, most=math.inf) | None,
        "batch_size": Whole(1) | None,
        "optimizer": OneOf("adam", "adamw", "sgd", "rmsprop") | None,
        "lr": Number(above=0) | None,
        "momentum": SHARE | None,
        "betas": Several(SHARE, SHARE, says="a pair of numbers of at least 0 and below 1") | None,
        "weight_decay": Number(0) | None,
        "schedule": OneOf(*SCHEDULES) | None,
        "warmup": Whole(0) | None,
        "grad_clip": Number(above=0) | None,
        "ema": SHARE | None,
        "validation": SHARE | None,
        "patience": Whole(1) | None,
        "device": Device() | None,
        "precision": OneOf(*PRECISIONS) | None,
        "compile": Flag() | None,
        "capture": Flag() | None,
        "threads": Whole(1) | None,
        "checkpoint": Instance(str, os.PathLike, says="a path") | None,
        "checkpoint_every": Number(0) | None,
        "progress": Flag() | None,
    }

    epochs: int | None = None
    max_steps: int | None = None
    max_time: float | None = None
    batch_size: int | None = None
    optimizer: str | None = None
    lr: float | None = None
    momentum: float | None = None
    betas: tuple[float, float] | None = None
    weight_decay: float | None = None
    schedule: str | None = None
    warmup: int | None = None
    grad_clip: float | None = None
    ema: float | None = None
    validation: float | None = None
    patience: int | None = None
    device: str | None = None
    precision: str | None = None
    compile: bool | None = None
    capture: bool | None = None
    threads: int | None = None
    checkpoint: str | Path | None = None
    checkpoint_every: float | None = None
    progress: bool | None = None

    def __repr__(self) -> str:
        said = (f"{k}={v!r}" for k, v in self.get_params().items() if v is not None)
        return f"Trainer({', '.join(said)})"

    def over(self, *others: Trainer) -> Trainer:
        """These settings, fields left at None taken from ``others``, first come first served."""
        values = self.get_params()
        for other in others:
            values = {k: getattr(other, k) if v is None else v for k, v in values.items()}
        return Trainer(**values)


def batch_of(n: int, steps: int, low: int, high: int) -> int:
    """Rows a step, where n rows are passed in ``steps`` steps: the nearest power of two.

    At least ``low`` and at most ``high``, which are powers of two themselves.
    """
    return 2 ** round(math.log2(min(high, max(low, n / steps))))


BASE = Trainer(
    epochs=100,
    batch_size=128,
    optimizer="adam",
    lr=1e-3,
    betas=(0.9, 0.999),
    momentum=0.0,
    weight_decay=0.0,
    schedule="cosine",
    warmup=0,
    compile=False,
    checkpoint_every=30.0,
)
