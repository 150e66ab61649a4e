"""What the tests of the loops share: rows, a model that can be told by hand, comparisons."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from genus import Trainer
from genus.learn.checkpoint import everything
from genus.learn.descent import Descent
from genus.learn.fit import time_limit
from toys import EBM, GAN, Conditional, Stack, Toy, ToyVAE

X = np.random.default_rng(0).normal(size=(100, 3)) * [1, 2, 3] + [0, 5, -5]
X2 = X - X.mean(0)
TOYS = [ToyVAE, GAN, EBM, Stack, Conditional]


def extra(cls: type, X: np.ndarray = X) -> dict[str, Any]:
    return {"given": (X[:, 0] > 0).astype(int)} if cls is Conditional else {}


def bits(model: nn.Module) -> dict[str, torch.Tensor]:
    return {k: v.detach().clone() for k, v in everything(model).items()}


def same(a: Any, b: Any) -> bool:
    a, b = bits(a), bits(b)
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


def stop_after(monkeypatch: pytest.MonkeyPatch, steps: int) -> None:
    """Ctrl-C, as it were, after so many steps (of all stages)."""
    count = 0
    one_step = Descent.one_step

    def counted(self: Descent, batch: Any) -> Any:
        nonlocal count
        count += 1
        if count == steps + 1:
            raise KeyboardInterrupt
        return one_step(self, batch)

    monkeypatch.setattr(Descent, "one_step", counted)


class Slope(Toy):
    """One matrix and one bias with a constant gradient of 1 (times ``slope``), told by hand."""

    slope = 1.0
    log: list[dict[str, Any]]

    def build(self, space: Any) -> None:
        self.matrix_ = nn.Parameter(torch.ones(2, 2))
        self.bias_ = nn.Parameter(torch.ones(2))
        self.log = []

    def defaults(self, n: int) -> Trainer:
        return Trainer(epochs=2, batch_size=25, lr=0.1, optimizer="sgd", schedule="constant")

    def losses(self, x: torch.Tensor) -> Any:
        y = self.matrix_ @ self.bias_
        self.log.append(
            {
                "rows": len(x),
                "bias": float(self.bias_.detach()[0]),
                "matrix": float(self.matrix_.detach()[0, 0]),
                "dtype": y.dtype,
            }
        )
        self.log[-1]["threads"] = torch.get_num_threads()
        yield self, self.slope * (self.matrix_.sum() + self.bias_.sum())

    def validate(self, x: torch.Tensor) -> float:
        self.validated_ = getattr(self, "validated_", 0) + len(x)
        return float(self.bias_.detach()[0] - 0.45) ** 2


def slope(**settings: Any) -> Slope:
    return Slope(trainer=Trainer(**settings), random_state=0).fit(X)


def within(seconds: float, f: Any) -> Any:
    with time_limit(seconds):
        return f()


def resumed(
    cls: type, trainer: Trainer, tmp_path: Path, steps: int, fit: Any = None, **args: Any
) -> tuple[Any, Any]:
    """(an uninterrupted model, one killed after ``steps`` steps and resumed)."""
    fit = fit or {}
    whole = cls(trainer=trainer, random_state=3, **args).fit(X, **extra(cls), **fit)
    trainer = trainer.replace(checkpoint=tmp_path / "run", checkpoint_every=0.0)
    with pytest.MonkeyPatch.context() as patch:
        stop_after(patch, steps)
        with pytest.warns(UserWarning, match="interrupted"):
            cls(trainer=trainer, random_state=3, **args).fit(X, **extra(cls), **fit)
    half = cls(trainer=trainer, random_state=3, **args).fit(X, resume=True, **extra(cls), **fit)
    return whole, half
