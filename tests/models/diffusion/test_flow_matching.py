"""Flow matching: its floor, coupling by optimal transport, and straighter second fits."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from torch import Tensor

from genus import FlowMatching, ResNet, Trainer
from genus.learn.rows import generator
from genus.models.diffusion.flow_matching import shortest
from oracles import GaussianField

QUICK = Trainer(epochs=3, batch_size=64, progress=False)
X = np.random.default_rng(0).normal(size=(200, 1))


def exactly(model: FlowMatching, s: float) -> None:
    """Let the model's network say what is right of data N(0, s²)."""
    one = torch.ones(1, dtype=torch.float64)
    field = GaussianField(model.path(), 0 * one, s**2 * one[None])

    def look(x: Tensor, t: Tensor, given: Tensor | None, null: Tensor | None) -> Tensor:
        x0, e = field(x, t[0])
        return e - x0

    model.look = look  # type: ignore[method-assign]


@pytest.mark.parametrize("t", [0.2, 0.5, 0.9])
def test_the_floor_of_the_loss(t: float) -> None:
    """s²/(t² + (1 − t)² s²), here with t = 1 at the noise."""
    s, n = 0.5, 20_000
    model = FlowMatching(ResNet(4, 1), trainer=QUICK, random_state=0).fit(X)
    exactly(model, s)
    y, e = torch.randn(2, n, 1, generator=generator(0), dtype=torch.float64)
    y = s * y
    found = float(model.error(y, y > -9, e, torch.full_like(y, t), None, None))
    assert found == pytest.approx(s**2 / (t**2 + (1 - t) ** 2 * s**2), rel=0.04)


def test_noise_is_dealt_so_that_lines_are_shortest() -> None:
    y, e = torch.randn(2, 6, 2, generator=generator(0), dtype=torch.float64)

    def length(order: Tensor) -> float:
        return float((y - e[order]).square().sum())

    every = [length(torch.tensor(p)) for p in itertools.permutations(range(6))]
    assert length(shortest(y, e)) == pytest.approx(min(every))
    model = FlowMatching(coupling="optimal", network=ResNet(4, 1), trainer=QUICK, random_state=0)
    model.fit(X)
    model.rng = generator(0)
    mine = model.noise_of(y)
    model.coupling = "independent"
    model.rng = generator(0)
    plain = model.noise_of(y)
    assert torch.equal(mine.sort(0).values, plain.sort(0).values) and not torch.equal(mine, plain)


def test_a_second_fit_on_its_own_pairs_is_straighter() -> None:
    """One step of Euler goes further towards where the ODE ends."""
    r = np.random.default_rng(0)
    rows = np.where(r.random((300, 1)) < 0.5, -2, 2) + 0.3 * r.normal(size=(300, 2))
    trainer = Trainer(epochs=60, batch_size=100, lr=5e-3, progress=False)
    off = []
    for reflow in (0, 1):
        model = FlowMatching(ResNet(32, 1), reflow=reflow, trainer=trainer, random_state=0)
        model.fit(rows)
        x = torch.randn(400, 2, generator=generator(1), dtype=torch.float64)
        ends = []
        with torch.no_grad():
            for sampler, steps in (("ddim", 1), ("heun", 40)):
                model.sampler = sampler
                ends.append(model.denoised(x, model.path().times(steps), generator(0)))
        off.append(float((ends[0] - ends[1]).square().mean()))
    assert off[1] < 0.5 * off[0]
    stages = {line["stage"] for line in model.history_}
    assert stages == {"", "reflow 1"}
