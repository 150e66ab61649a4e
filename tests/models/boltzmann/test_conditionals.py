"""Each cell given all others, against sums and integrals; and what training learns from them."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from genus import RBM, Trainer
from genus.learn.rows import generator
from genus.models.boltzmann.conditionals import log_conditionals

QUICK = Trainer(epochs=2, batch_size=20)


def table(n: int = 60) -> pd.DataFrame:
    """A column of every sort of unit."""
    r = np.random.default_rng(1)
    return pd.DataFrame(
        {
            "x": r.normal(3, 2, n),
            "c": r.choice(list("abc"), n),
            "b": r.integers(0, 2, n),
            "y": r.normal(size=n),
        }
    )


def shaken(m: RBM) -> RBM:
    """The machine at random parameters."""
    rng = generator(0)
    with torch.no_grad():
        for p in (m.W_, m.b_, m.c_):
            p.add_(0.7 * torch.randn(p.shape, generator=rng))
        m.lambda_.copy_(torch.rand(m.lambda_.shape, generator=rng))
        if hasattr(m.units_, "log_tau_"):
            m.units_.log_tau_.add_(torch.tensor([0.2, 0.9]))
    return m


@pytest.mark.parametrize("kind", ["binary", "categorical", "ordinal"])
def test_conditionals_are_ratios_of_probabilities(kind: str) -> None:
    levels = 2 if kind == "binary" else 3
    v = torch.tensor(list(itertools.product(range(levels), repeat=4))).float()
    X = np.random.default_rng(0).integers(0, levels, (60, 4))
    m = shaken(RBM(3, trainer=QUICK, random_state=0).fit(X, space=kind))
    p = torch.softmax(-m.free_energy(v).detach().double(), 0).reshape([levels] * 4)
    want = [(p / p.sum(i, keepdim=True)).log().flatten() for i in range(4)]
    found = log_conditionals(m, v, [0, 1, 2, 3]).detach()
    torch.testing.assert_close(found, torch.stack(want, 1), atol=1e-5, rtol=0)
    total = m.pseudo_log_likelihood(v).detach()
    torch.testing.assert_close(total, found.sum(1))
    with pytest.raises(ValueError, match="missing"):
        m.pseudo_log_likelihood(torch.full((1, 4), torch.nan))


def test_conditionals_of_numbers_are_densities() -> None:
    m = shaken(RBM(4, trainer=QUICK, random_state=0).fit(table()))
    v = m._states(m._codes(table()[:5])).detach()
    grid = torch.linspace(-30, 30, 12_001)
    found = log_conditionals(m, v, [0, 1, 2, 3]).detach()
    for row, column in itertools.product(range(5), range(4)):
        u = grid if column in (0, 3) else torch.arange(3.0 if column == 1 else 2.0)
        states = v[row].repeat(len(u), 1)
        states[:, column] = u
        with torch.no_grad():
            total = torch.logsumexp(-m._free_energy(states).double(), 0)
            here = -m._free_energy(v[row : row + 1]).double()[0]
        step = np.log(60 / 12_000) if column in (0, 3) else 0.0
        assert float(found[row, column]) == pytest.approx(float(here - total) - step, abs=1e-4)


def few_and_random(**more: Any) -> tuple[RBM, np.ndarray]:
    """A machine of many units on few rows of coins, watched by others; and those."""
    train, held = np.random.default_rng(0).integers(0, 2, (2, 60, 20))
    trainer = Trainer(epochs=75, batch_size=10, lr=0.5, weight_decay=0.0, **more)
    return RBM(40, trainer=trainer, random_state=0).fit(train, validation=held), held


def test_a_machine_that_over_fits_stops_early() -> None:
    stopped, held = few_and_random(patience=5)
    whole, _ = few_and_random(validation=0.0)
    seen = [line["validation"] for line in whole.history_]
    assert len(stopped.history_) < 40 and len(seen) == 75
    assert seen[-1] > min(seen) + 0.5
    with torch.no_grad():
        kept = float(-stopped.pseudo_log_likelihood(torch.tensor(held).float()).mean())
    assert kept == pytest.approx(min(line["validation"] for line in stopped.history_), abs=1e-4)


def test_a_machine_that_has_more_to_learn_goes_on() -> None:
    bits = np.random.default_rng(0).integers(0, 2, (500, 5))
    X = np.repeat(bits, 4, axis=1)
    trainer = Trainer(epochs=40, batch_size=20, lr=0.3, patience=5)
    m = RBM(15, trainer=trainer, random_state=0).fit(X[:400], validation=X[400:])
    seen = [line["validation"] for line in m.history_]
    assert len(seen) == 40 and seen[-1] < seen[0] - 2


def test_rows_with_gaps_watch_as_well_and_wide_rows_by_some_cells() -> None:
    r = np.random.default_rng(0)
    X = np.repeat(r.integers(0, 2, (120, 20)), 2, axis=1).astype(float)
    gaps = np.where(r.random(X.shape) < 0.2, np.nan, X)
    trainer = Trainer(epochs=6, batch_size=20)
    full, holed = (
        RBM(30, trainer=trainer, random_state=0).fit(X, validation=rows).history_
        for rows in (X, gaps)
    )
    a, b = full[-1]["validation"], holed[-1]["validation"]
    assert 0 < a < 40 * np.log(2)
    assert b == pytest.approx(a, rel=0.15)
