"""What all denoisers share: one network's word is data and noise, conditions, gaps, editing."""

from __future__ import annotations

import math
from functools import cache

import numpy as np
import pytest
import torch

import genus
from genus import Diffusion, FlowMatching, ResNet, ScoreModel, Trainer
from genus.learn.rows import generator
from genus.models.diffusion.denoiser import Denoiser, split

QUICK = Trainer(epochs=3, batch_size=64, progress=False)
LABELS = np.arange(200) % 2
X = np.random.default_rng(0).normal(size=(200, 2)) + 3 * LABELS[:, None]
FAMILIES = (FlowMatching, Diffusion, ScoreModel)


@cache
def fitted(family: type[Denoiser], conditional: bool = False) -> Denoiser:
    model = family(ResNet(16, 1), trainer=QUICK, random_state=0)  # type: ignore[call-arg]
    return model.fit(X, given=LABELS if conditional else None)


@pytest.mark.parametrize(
    "model",
    [
        FlowMatching(),
        *(Diffusion(prediction=p) for p in ("v", "noise", "data", "edm")),
        *(ScoreModel(prediction=p) for p in ("noise", "edm")),
    ],
    ids=str,
)
def test_data_and_noise_follow_from_what_the_network_is_to_say(model: Denoiser) -> None:
    path, rng = model.path(), generator(0)
    t = torch.linspace(0.1, 0.9, 7, dtype=torch.float64)[:, None]
    alpha, sigma = path.alpha(t), path.sigma(t)
    x0, e = torch.randn(2, 7, 3, generator=rng, dtype=torch.float64)
    a, b = model.target(alpha, sigma)
    found = split(alpha * x0 + sigma * e, a * x0 + b * e, alpha, sigma, a, b)
    assert torch.allclose(found[0], x0) and torch.allclose(found[1], e)


@pytest.mark.parametrize("family", FAMILIES)
def test_ends_add_up_to_the_noisy_row(family: type[Denoiser]) -> None:
    model = fitted(family)
    t = torch.full((5, 1), 0.4, dtype=torch.float64)
    x = torch.randn(5, 2, generator=generator(0), dtype=torch.float64)
    x0, e = model.ends(x, t)
    path = model.path()
    assert torch.allclose(path.alpha(t) * x0 + path.sigma(t) * e, x)


@pytest.mark.parametrize(
    ("model", "floor"),
    [
        (FlowMatching(), math.pi / 2),  # ∫ s²/(t² + (1 − t)² s²) dt = π s/2
        (Diffusion(n_times=None), 1),  # ∫ s²/(sin² θ + s² cos² θ) dθ = π s/2, over π/2
        (Diffusion(), 1),
        (ScoreModel(), 1),  # nearly the same
    ],
    ids=str,
)
def test_the_floor_of_the_loss_over_the_times_at_which_it_learns(
    model: Denoiser, floor: float
) -> None:
    """What a network that is right of N(m, s²) loses, in units of s."""
    m, s, n = 0.7, 0.5, 40_000
    path = model.path()
    model.rng = generator(0)

    def look(x: torch.Tensor, t: torch.Tensor, *more: object) -> torch.Tensor:
        alpha, sigma = path.alpha(t), path.sigma(t)
        white = (x - alpha * m) / (alpha.square() * s**2 + sigma.square())
        a, b = model.target(alpha, sigma)
        return a * (m + alpha * s**2 * white) + b * sigma * white

    model.look = look  # type: ignore[method-assign]
    model.coded = lambda x: (x, x == x)  # type: ignore[method-assign]
    y = m + s * torch.randn(n, 1, generator=generator(1), dtype=torch.float64)
    ((_, loss),) = model.losses(y)
    assert float(loss) == pytest.approx(floor * s, rel=0.03)


@pytest.mark.parametrize(("n", "looks"), [(10, 4), (511, 4), (512, 1), (600, 1)])
def test_held_out_rows_are_looked_at_once_in_each_part_of_the_times(n: int, looks: int) -> None:
    """Few rows four times, each a quarter of the way on; what is lost is known, as a wave of t."""
    model, times = FlowMatching(), []

    def error(y: torch.Tensor, seen: torch.Tensor, e: torch.Tensor, t: torch.Tensor, *more: object):  # type: ignore[no-untyped-def]
        times.append(t[:, 0])
        return (2 * math.pi * t).cos().mean()

    model.error = error  # type: ignore[method-assign]
    model.coded = lambda x: (x, x == x)  # type: ignore[method-assign]
    y = torch.zeros(n, 1, dtype=torch.float64)
    model.rng = generator(0)
    value = model.validate(y)
    assert len(times) == looks
    for i, t in enumerate(times):
        assert torch.allclose(t.sort().values.diff(), torch.full((n - 1,), 1 / n).double())
        moved = (t - times[0] - i / looks) % 1
        assert torch.minimum(moved, 1 - moved).max() < 1e-9
    assert (times[0].diff() < 0).any()  # not in the order of the rows
    assert abs(float(value)) < 1e-9  # of random times it is as far off as 1/√(2 n looks)
    assert abs(float(next(model.losses(y))[1])) > 1e-6


def test_a_look_at_held_out_rows_is_the_same_from_the_same_generator() -> None:
    model, x = fitted(FlowMatching), torch.tensor(X[:20])
    found = []
    for seed in (0, 0, 1):
        model.rng = generator(seed)
        with torch.no_grad():
            found.append(float(model.validate(x)))
    assert found[0] == found[1] != found[2]


@pytest.mark.parametrize("family", FAMILIES)
def test_the_ode_is_a_bijection(family: type[Denoiser]) -> None:
    model = fitted(family)
    assert np.allclose(model.reconstruct(X[:20]), X[:20], atol=0.02)
    line = model.interpolate(X[0], X[1], 3)
    assert np.allclose(line[[0, 2]], X[:2], atol=0.02)
    assert model.encode(X[:20]).shape == (20, 2)


def test_guidance_draws_a_line_from_free_to_conditional() -> None:
    model = fitted(FlowMatching, True)
    x = torch.randn(5, 2, generator=generator(0), dtype=torch.float64)
    t, given = torch.tensor(0.5, dtype=torch.float64), torch.ones(5, 1)
    found = {}
    for w in (0.0, 1.0, 3.0):
        model.guidance = w
        with torch.no_grad():
            found[w] = model.ends(x, t, given)[1]
    model.guidance = 1.0
    with torch.no_grad():
        free = model.ends(x, t, None)[1]
    assert torch.allclose(found[0.0], free)
    assert torch.allclose(found[3.0], free + 3 * (found[1.0] - free))
    assert not torch.allclose(found[1.0], free)


def test_conditions_tell_and_may_be_left_out() -> None:
    trainer = QUICK.replace(epochs=60, lr=5e-3)
    model = FlowMatching(ResNet(16, 1), trainer=trainer, random_state=0).fit(X, given=LABELS)
    one, two = (model.sample(300, given=g, random_state=0).mean() for g in (0, 1))
    assert abs(one) < 0.4 and abs(two - 3) < 0.4
    both = model.sample(600, random_state=0)
    assert abs(both.mean() - 1.5) < 0.4 and both.std() > 1.3
    assert model.score(X, LABELS) < model.log_prob(X, given=LABELS).mean() - 0.3
    far = model.log_prob(X[:40], given=1 - LABELS[:40]).mean()
    assert far < model.log_prob(X[:40], given=LABELS[:40]).mean() - 1


def test_gaps_do_not_weigh_in_the_loss() -> None:
    """A column that is mostly missing is learned from the rows that have it, the other from all."""
    gappy = X.copy()
    gappy[40:, 1] = np.nan
    model = FlowMatching(ResNet(16, 1), trainer=QUICK, random_state=0).fit(gappy)
    model.rng = generator(0)
    x = torch.tensor(gappy[:80])
    y, seen = model.coded(x)
    assert torch.isfinite(y).all() and torch.equal(seen, ~torch.isnan(x))
    e, t = torch.zeros_like(y), torch.full((80, 1), 0.5, dtype=y.dtype)
    half = torch.zeros_like(y)

    def wrong_there(x: torch.Tensor, *more: torch.Tensor) -> torch.Tensor:
        return torch.where(seen, -y, 1e6 + half)

    model.look = wrong_there  # type: ignore[method-assign]
    assert float(model.error(y, seen, e, t, None, None)) == pytest.approx(0)
    assert np.isfinite(model_scores := fitted(FlowMatching).score_samples(gappy[38:42])).all()
    assert model_scores.shape == (4,)


def test_an_estimate_says_how_far_its_steps_are_off() -> None:
    model = fitted(FlowMatching)
    p = model.log_prob(X[:32])
    assert isinstance(p, genus.Estimate)
    y, _ = model._placed(torch.tensor(X[:32]))
    fine = model.log_density(y, steps=128)
    off = float((model.log_density(y) - fine).square().mean().sqrt())
    assert 0.8 * off < p.shared_stderr < 8 * off
    wide = np.random.default_rng(0).normal(size=(120, 20))
    model = FlowMatching(ResNet(16, 1), trainer=QUICK, random_state=0).fit(wide)
    p = model.log_prob(wide[:40])
    assert (p.stderr > 0.01).all() and p.shared_stderr > 0  # of the probe, and of the steps
    assert np.allclose(p.nats[:3], model.log_prob(wide[:3]).nats, rtol=1e-4)


def test_editing_keeps_rows_as_far_as_little_noise_went() -> None:
    model = fitted(FlowMatching)
    assert np.allclose(model.edit(X[:20], 0.0, random_state=0), X[:20], atol=1e-6)
    moved = [
        float(np.abs(model.edit(X[:100], noise, random_state=0) - X[:100]).mean())
        for noise in (0.1, 0.5, 1.0)
    ]
    assert 0 < moved[0] < moved[1] < moved[2]
    with pytest.raises(ValueError, match="noise=2"):
        model.edit(X[:2], 2)


def test_rows_are_images_for_a_u_net_alone() -> None:
    bits = (np.random.default_rng(0).random((40, 4, 4)) < 0.3).astype(np.uint8)
    few = Trainer(epochs=1, progress=False)
    model = FlowMatching(genus.UNet(4), trainer=few, random_state=0).fit(bits, given=bits[:, ::-1])
    assert model.context_.n_channels == 1 and model.sample(2, given=bits[:2]).shape == (2, 4, 4)
    flat = FlowMatching(genus.MLP(8, 1), trainer=few, random_state=0).fit(bits)
    assert flat._shape == (16,) and flat.sample(2).shape == (2, 4, 4)


def test_several_completions_of_a_long_row_are_chains_of_their_own() -> None:
    X = np.random.default_rng(0).normal(size=(60, 20)) + 10 * np.arange(60)[:, None]
    few = Trainer(epochs=1, progress=False)
    model = FlowMatching(ResNet(8, 1), trainer=few, random_state=0).fit(X)
    gappy = X[:4].copy()
    gappy[:, :2] = np.nan
    filled = model.complete(gappy, 5, random_state=0)
    assert filled.shape == (5, 4, 20) and np.isfinite(filled).all()
    assert np.allclose(filled[:, :, 2:], X[:4, 2:])
    assert len(np.unique(filled[:, 0, 0])) == 5
