"""Completions by annealing, against the closed form of a Gaussian and the enumeration of levels."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor

from genus import MLP, Gaussian, RealNVP, Trainer
from genus.learn.rows import generator
from genus.samplers import completion as conditional

N = 3000


def gaussian(d: int, seed: int = 0) -> Gaussian:
    r = np.random.default_rng(seed)
    return Gaussian(shrinkage=0.0, random_state=0).fit(
        r.normal(size=(500, d)) @ r.normal(size=(d, d)) * 3 + 10
    )


def plain(model: Gaussian) -> conditional.Start:
    """A start that knows of no dependence."""
    return model.mean_, model.covariance_.diagonal().sqrt(), torch.eye(len(model.mean_))


def closed(model: Gaussian, gap: list[int], row: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and covariance of the missing given the others."""
    m, S = model.mean_, model.covariance_
    known = [j for j in range(len(m)) if j not in gap]
    B = S[gap][:, known] @ torch.linalg.inv(S[known][:, known])
    return m[gap] + B @ (row[known] - m[known]), S[gap][:, gap] - B @ S[known][:, gap]


@pytest.mark.parametrize(
    ("particles", "steps", "d"), [(1, 20, 4), (200, 0, 2)], ids=["steps alone", "weights alone"]
)
def test_a_gaussian_is_completed_as_in_closed_form(
    monkeypatch: pytest.MonkeyPatch, particles: int, steps: int, d: int
) -> None:
    monkeypatch.setattr(conditional, "PARTICLES", particles)
    monkeypatch.setattr(conditional, "STEPS", steps)
    model = gaussian(d)
    gap = list(range(0, d, 2))
    row = torch.as_tensor(model.sample(1, random_state=5))[0]
    x = row.clone().expand(N, d).clone()
    x[:, gap] = torch.nan
    y = conditional.complete(model, x, plain(model), generator(0))[:, gap]
    mean, covariance = closed(model, gap, row)
    sd = covariance.diagonal().sqrt()
    assert ((y.mean(0) - mean) / sd).abs().max() < 0.1
    assert (
        (torch.cov(y.T).reshape(covariance.shape) - covariance) / torch.outer(sd, sd)
    ).abs().max() < 0.12


def test_the_start_is_the_conditional_of_a_gaussian_whatever_the_gaps(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in (("PARTICLES", 1), ("STEPS", 0), ("WIDE", 1.0)):
        monkeypatch.setattr(conditional, name, value)
    model = gaussian(3)
    row = torch.as_tensor(model.sample(1, random_state=5))[0]
    x = row.expand(2 * N, 3).clone()
    x[::2, 0] = torch.nan
    x[1::2, 1:] = torch.nan
    mean, scale, _ = plain(model)
    y = conditional.complete(
        model, x, (mean, scale, model.covariance_ / torch.outer(scale, scale)), generator(0)
    )
    for rows, gap in ((y[::2], [0]), (y[1::2], [1, 2])):
        mean, covariance = closed(model, gap, row)
        sd = covariance.diagonal().sqrt()
        assert ((rows[:, gap].mean(0) - mean) / sd).abs().max() < 0.1
        assert (
            (torch.cov(rows[:, gap].T).reshape(covariance.shape) - covariance) / torch.outer(sd, sd)
        ).abs().max() < 0.12
        known = [j for j in range(3) if j not in gap]
        assert (rows[:, known] == row[known]).all()


def test_the_noise_in_observed_cells_is_drawn_and_moves(monkeypatch: pytest.MonkeyPatch) -> None:
    t = np.random.default_rng(0).random(800)
    X = pd.DataFrame(
        {"high": t > 0.5, "t": t + 0.01 * np.random.default_rng(1).normal(size=800), "top": t > 0.8}
    )
    model = Gaussian(random_state=0).fit(X)
    mala, shares = conditional.mala, []

    def spied(*args: Any) -> tuple[Tensor, float]:
        x, share = mala(*args)
        shares.append(share)
        return x, share

    monkeypatch.setattr(conditional, "mala", spied)
    grid = np.linspace(-1, 2, 301)
    p = sum(
        np.exp(model.log_prob(pd.DataFrame({"high": True, "t": grid, "top": top})).nats)
        for top in (False, True)
    )
    p /= p.sum()
    mean = float(p @ grid)
    sd = float(np.sqrt(p @ (grid - mean) ** 2))
    drawn = conditional.complete(
        model, torch.tensor([[1.0, torch.nan, torch.nan]]).expand(N, 3), plain(model), generator(0)
    )
    drawn = model.unreal(drawn)[:, 1]
    assert abs(drawn.mean() - mean) < 0.1 * sd
    assert 0.9 < drawn.std() / sd < 1.1
    assert min(shares) > 0.3


def test_conditions_of_a_flow_hold_while_it_completes() -> None:
    r = np.random.default_rng(0)
    c = r.integers(0, 2, 1000)
    a = r.normal(size=1000)
    X = np.c_[a, np.where(c == 1, a, -a) + 0.1 * r.normal(size=1000)]
    trainer = Trainer(epochs=15, batch_size=100, lr=1e-2, validation=0.0, progress=False)
    model = RealNVP(4, MLP(32, 1, "silu"), trainer=trainer, random_state=0).fit(X, given=c)
    seen = np.c_[np.full(40, 1.5), np.full(40, np.nan)]
    seen[::4] = [7.0, -7.0]  # rows without gaps stay as they are
    filled = model.complete(seen, given=np.repeat([0, 1], 20), random_state=0)
    assert (filled[::4] == [7.0, -7.0]).all()
    filled[::4] = [1.5, np.nan]
    assert (filled[:, 0] == 1.5).all()
    assert abs(np.nanmean(filled[:20, 1]) + 1.5) < 0.2
    assert abs(np.nanmean(filled[20:, 1]) - 1.5) < 0.2
