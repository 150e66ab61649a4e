"""Captured steps: what a graph launches again is what plain steps do, on any machine.

Where there is no CUDA device a graph is a function that is called again, on a device that pretends
(device.py): what is tested is all but CUDA itself, also that no step waits for the device.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
import torch

import genus
from device import DEVICE, PRETENDS, no_waiting, there
from genus.learn import capture, descent
from genus.learn.capture import Capture

ON_CUDA = DEVICE.startswith("cuda")


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
    if PRETENDS:
        monkeypatch.setattr(capture, "_no_waiting", no_waiting)
    begin = descent.Descent.__init__

    def init(self, *args, **kw):
        begin(self, *args, **kw)
        if self.t.capture is not False:
            self.capture = Watched(self)

    monkeypatch.setattr(descent.Descent, "__init__", init)
    with there():
        yield Watched.made


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
    settings = {"epochs": 5, "batch_size": 32, "validation": 0.0, "device": DEVICE} | kw
    return genus.Trainer(**settings)


FEW = genus.MLP(16, 1)
MODELS = {
    "VAE": lambda **kw: genus.VAE(2, encoder=FEW, decoder=FEW, kl_warmup=0.5, **kw),
    "MADE": lambda **kw: genus.MADE(FEW, **kw),
    "RBM": lambda **kw: genus.RBM(8, k=(1, 2), **kw),
    "DBM": lambda **kw: genus.DBM((8, 8), **kw),
    "SplineFlow": lambda **kw: genus.SplineFlow(2, conditioner=FEW, **kw),
    "FlowMatching": lambda **kw: genus.FlowMatching(network=FEW, **kw),
    "GAN": lambda **kw: genus.GAN(**kw),
    "EBM": lambda **kw: genus.EBM(FEW, **kw),
    "AutoregressiveTransformer": lambda **kw: genus.AutoregressiveTransformer(16, 1, **kw),
}
ON_REALS = {"SplineFlow", "FlowMatching", "EBM"}
ON_IMAGES: dict[str, Any] = {
    "PixelCNN": lambda **kw: genus.PixelCNN(4, 2, **kw),
    "Glow": lambda **kw: genus.Glow(1, conditioner=FEW, **kw),
    "HierarchicalVAE": lambda **kw: genus.HierarchicalVAE((2, 2), width=8, **kw),
    "Diffusion": lambda **kw: genus.Diffusion(network=genus.UNet(4), **kw),
    "JEM": lambda **kw: genus.JEM(FEW, **kw),
    "GAN": MODELS["GAN"],
    "MADE": MODELS["MADE"],
    "AutoregressiveTransformer": MODELS["AutoregressiveTransformer"],
}


@pytest.mark.parametrize("name", MODELS)
def test_captured_steps_end_where_plain_ones_do(name, watched, bits, reals):
    same(MODELS[name], watched, reals if name in ON_REALS else bits)


@pytest.mark.full
@pytest.mark.parametrize("name", ON_IMAGES)
def test_captured_steps_on_images_end_where_plain_ones_do(name, watched):
    rng = np.random.default_rng(2)
    images = rng.integers(0, 16, (100, 4, 4)).astype("uint8")
    more = (rng.integers(0, 3, 100),) if name == "JEM" else ()
    same(ON_IMAGES[name], watched, images, *more)


def same(make, watched, x, *more):
    plain = make(trainer=trainer(capture=False), random_state=0).fit(x, *more)
    assert not watched
    with warnings.catch_warnings():
        warnings.filterwarnings("error", "the steps of")  # it asks, and would be told
        own = make(trainer=trainer(capture=True), random_state=0).fit(x, *more)
    assert sum(c.captured for c in watched) >= 5
    assert any(c.plain for c in watched)  # the first steps, and the small batches
    for (key, a), (_, b) in zip(plain.state_dict().items(), own.state_dict().items(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5, msg=lambda m, k=key: f"{k}: {m}")
    assert own.history_[-1]["objective"] == pytest.approx(plain.history_[-1]["objective"], rel=1e-4)


def test_a_step_that_waits_for_the_device_is_made_in_the_plain_way(watched, reals):
    class Waiting(genus.RealNVP):
        def losses(self, x, given=None):
            for player, loss in super().losses(x, given):
                yield player, loss * (1 if float(loss) < 1e6 else 0.5)

    if DEVICE == "cpu":
        pytest.skip("nobody waits for a processor")
    with pytest.warns(UserWarning, match="not captured: called a synchronizing"):
        Waiting(1, conditioner=FEW, trainer=trainer(capture=True), random_state=0).fit(reals)
    assert not watched[0].captured


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
            return "it is said to be wrong" if len(calls) == 3 else super().trouble(loss, first)

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
        train = trainer(capture=True, device="cpu")
        genus.RealNVP(1, conditioner=FEW, trainer=train).fit(reals)
