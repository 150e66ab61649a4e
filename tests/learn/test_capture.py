"""Captured steps: what a graph launches again is what plain steps do, on any machine.

Here a graph is a list of operations that the processor runs again: what is tested is all but CUDA
itself, whose graphs the same tests run where there is a device.
"""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch

import genus
from genus.learn import capture, descent
from genus.learn.capture import Capture

ON_CUDA = torch.cuda.is_available()
DEVICE = "cuda" if ON_CUDA else "cpu"


class Again:
    """A graph that runs its body again, and leaves the losses where they were."""

    def __init__(self, rng):
        self.rng = rng

    def record(self, body):
        self.body, self.spent = body, self.owner.run.model.spent
        with self.owner.undone():
            self.losses = body()
        return self.losses

    def replay(self):
        model = self.owner.run.model
        told, model.spent = model.spent, self.spent  # what Python knew is what it was
        for (_, kept), (_, now) in zip(self.losses, self.body(), strict=True):
            kept.copy_(now)
        model.spent = told


class Watched(Capture):
    """A capture that notes what became of it."""

    made: list[Watched] = []

    def __init__(self, run):
        super().__init__(run)
        Watched.made.append(self)
        self.captured = self.plain = 0
        if not ON_CUDA:
            self.kind = type("Mine", (Again,), {"owner": self})

    def step(self, index):
        losses = super().step(index)
        self.captured += losses is not None
        self.plain += losses is None
        return losses


@pytest.fixture
def watched(monkeypatch):
    """Every descent captures, and its Capture is found in the list."""
    Watched.made = []
    monkeypatch.setattr(descent, "Capture", Watched)
    begin = descent.Descent.__init__

    def init(self, *args, **kw):
        begin(self, *args, **kw)
        if self.t.capture is not False:
            self.capture = Watched(self)

    monkeypatch.setattr(descent.Descent, "__init__", init)
    return Watched.made


@pytest.fixture(scope="module")
def bits():
    rng = np.random.default_rng(0)
    return (rng.random((100, 16)) < rng.random(16)).astype("uint8")


@pytest.fixture(scope="module")
def reals():
    rng = np.random.default_rng(1)
    return rng.normal(size=(100, 5)) @ rng.normal(size=(5, 5))


def trainer(**kw):
    # 4 batches a pass, the last of them smaller
    settings = {"epochs": 8, "batch_size": 32, "validation": 0.0, "device": DEVICE} | kw
    return genus.Trainer(**settings)


FEW = genus.MLP(16, 1)
MODELS = {
    "VAE": lambda **kw: genus.VAE(2, encoder=FEW, decoder=FEW, kl_warmup=0.5, **kw),
    "MADE": lambda **kw: genus.MADE(FEW, **kw),
    "RBM": lambda **kw: genus.RBM(8, k=(1, 4), **kw),
    "DBM": lambda **kw: genus.DBM((8, 8), **kw),
    "SplineFlow": lambda **kw: genus.SplineFlow(2, conditioner=FEW, **kw),
    "FlowMatching": lambda **kw: genus.FlowMatching(network=FEW, **kw),
    "GAN": lambda **kw: genus.GAN(**kw),
    "EBM": lambda **kw: genus.EBM(FEW, **kw),
    "AutoregressiveTransformer": lambda **kw: genus.AutoregressiveTransformer(16, 1, **kw),
}
ON_REALS = {"SplineFlow", "FlowMatching", "EBM"}


@pytest.mark.parametrize("name", MODELS)
def test_captured_steps_end_where_plain_ones_do(name, watched, bits, reals):
    x = reals if name in ON_REALS else bits
    make = MODELS[name]
    plain = make(trainer=trainer(capture=False), random_state=0).fit(x)
    assert not watched
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)  # it asks, and would be told that it is not
        own = make(trainer=trainer(capture=True), random_state=0).fit(x)
    assert sum(c.captured for c in watched) >= 5
    assert any(c.plain for c in watched)  # the first steps, and the small batches
    for (key, a), (_, b) in zip(plain.state_dict().items(), own.state_dict().items(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5, msg=lambda m, k=key: f"{k}: {m}")
    assert own.history_[-1]["objective"] == pytest.approx(plain.history_[-1]["objective"], rel=1e-4)


def test_a_step_that_counts_in_python_is_made_in_the_plain_way(watched, reals):
    class Counting(genus.RealNVP):
        def losses(self, x, given=None):
            self.turn_ = getattr(self, "turn_", 0) + 1
            for player, loss in super().losses(x, given):
                yield player, loss * (1 + self.turn_ % 2)

    with pytest.warns(UserWarning, match="not captured.*not tensors"):
        Counting(1, conditioner=FEW, trainer=trainer(capture=True), random_state=0).fit(reals)
    assert not watched[0].captured


def test_a_step_that_reads_the_share_of_the_budget_is_found_out(watched, reals):
    class Fading(genus.RealNVP):
        def losses(self, x, given=None):
            for player, loss in super().losses(x, given):
                yield player, loss * (1 + float(self.spent))

    with pytest.warns(UserWarning, match="differ from plain ones"):
        Fading(1, conditioner=FEW, trainer=trainer(capture=True), random_state=0).fit(reals)
    assert not watched[0].captured


def test_rows_with_gaps_are_learned_in_either_way(watched, reals):
    x = reals.copy()
    x[::7, 2] = np.nan
    model = genus.RealNVP(1, conditioner=FEW, trainer=trainer(), random_state=0).fit(x)
    assert np.isfinite(model.score(reals))


def test_after_a_divergence_steps_are_captured_anew(watched, reals):
    calls = []

    class Failing(genus.RealNVP):
        def trouble(self, loss, first):
            calls.append(1)
            return "it is said to be wrong" if len(calls) == 30 else super().trouble(loss, first)

    model = Failing(1, conditioner=FEW, trainer=trainer(epochs=40), random_state=0)
    forgotten = []
    forget = Capture.forget
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(capture.Capture, "forget", lambda c: (forgotten.append(1), forget(c)))
        with pytest.warns(UserWarning, match="said to be wrong.*rolled back"):
            model.fit(reals)
    assert forgotten and np.isfinite(model.score(reals))


@pytest.mark.skipif(ON_CUDA, reason="there is a CUDA device")
def test_who_asks_for_captured_steps_on_a_processor_is_told(reals):
    with pytest.warns(UserWarning, match="RealNVP were not captured: they are for CUDA"):
        genus.RealNVP(1, conditioner=FEW, trainer=trainer(capture=True)).fit(reals)
