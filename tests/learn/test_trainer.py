"""The settings of gradient descent."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV

from genus import Trainer
from genus.learn.trainer import BASE, batch_of
from toys import ToyVAE
from training import X

OUT_OF_RANGE: dict[str, list[Any]] = {
    "epochs": [0, -1, 1.5, True, "3"],
    "max_steps": [0],
    "max_time": [0, -1.0, "x", float("nan")],
    "batch_size": [0, 2.5],
    "optimizer": ["lion", 3],
    "lr": [0, -1, float("inf"), float("nan"), "fast"],
    "momentum": [1.0, -0.1],
    "betas": [(0.9,), (0.9, 1.0), 0.9],
    "weight_decay": [-1],
    "schedule": ["step"],
    "warmup": [-1, 0.5],
    "grad_clip": [0, -2],
    "ema": [1, -0.5],
    "validation": [1.0, -0.1],
    "patience": [0, 1.5],
    "device": ["abacus"],
    "precision": ["float8"],
    "threads": [0],
    "checkpoint": [3],
    "checkpoint_every": [-1],
    "compile": [1],
    "capture": ["yes"],
    "progress": ["no"],
}


@pytest.mark.parametrize(
    ("name", "value"), [(k, v) for k, values in OUT_OF_RANGE.items() for v in values]
)
def test_settings_out_of_range_are_named(name: str, value: Any) -> None:
    with pytest.raises(ValueError, match=rf"Trainer\({name}="):
        ToyVAE(trainer=Trainer(**{name: value})).fit(X)


def test_every_field_has_a_range() -> None:
    assert set(Trainer().get_params()) == set(OUT_OF_RANGE)
    assert BASE.check() is BASE
    Trainer(epochs=np.int64(3), lr=np.float32(0.1), max_time=float("inf")).check()


def test_settings_are_searched_and_cloned() -> None:
    search = GridSearchCV(
        ToyVAE(random_state=0),
        {"trainer__lr": [1e-5, 1e-2], "encoder__width": np.array([4, 6])},
        cv=2,
        error_score="raise",
    ).fit(X)
    assert search.best_params_["trainer__lr"] == 1e-2
    assert search.best_estimator_.trainer.lr == 1e-2 and search.best_estimator_.encoder.width in (
        4,
        6,
    )
    model = clone(ToyVAE(trainer=Trainer(lr=0.5)))
    assert model.trainer == Trainer(lr=0.5)
    assert model.get_params()["trainer__lr"] == 0.5
    with pytest.raises(ValueError, match="has no field 'rate'"):
        model.set_params(trainer__rate=1)
    assert Trainer(lr=1.0).over(Trainer(lr=2.0, epochs=3)) == Trainer(lr=1.0, epochs=3)


def test_settings_print_what_was_set() -> None:
    assert repr(Trainer(epochs=2, lr=0.5)) == "Trainer(epochs=2, lr=0.5)"


@pytest.mark.parametrize(
    "n, batch", [(1, 16), (320, 16), (600, 32), (1280, 64), (5000, 128), (10**6, 128)]
)
def test_batches_are_the_nearest_power_of_two_between_the_limits(n: int, batch: int) -> None:
    assert batch_of(n, 20, 16, 128) == batch
