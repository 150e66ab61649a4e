"""Normalizing flows: accuracy, normalisation, and what makes each of them what it is."""

from __future__ import annotations

import copy
import math
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats
from sklearn.datasets import make_moons
from torch import nn

import genus
from genus import IAF, MAF, MLP, NICE, Gaussian, Glow, RealNVP, SameConv, Space, SplineFlow, Trainer
from genus.learn.rows import generator
from genus.models.flows.flow import Base, Flow
from raster import many_conditions, noisy

QUICK = Trainer(epochs=12, batch_size=100, lr=5e-3, validation=0.0, progress=False)
FAMILIES: dict[str, Any] = {
    "nice": NICE,
    "realnvp": RealNVP,
    "glow": Glow,
    "maf": MAF,
    "iaf": IAF,
    "spline": SplineFlow,
    "spline-autoregressive": lambda *a, **k: SplineFlow(*a, autoregressive=True, **k),
}
every = pytest.mark.parametrize("name", FAMILIES)
NET = MLP(32, 1, "silu")


def made(name: str, **args: Any) -> Flow:
    """A flow of plain coordinates; what columns do on their own is tested by itself."""
    settings: dict[str, Any] = {"conditioner": NET, "trainer": QUICK, "random_state": 0}
    settings["marginals"] = "affine"
    return FAMILIES[name](4, **(settings | args))


@cache
def fitted(name: str, dtype: str = "float32") -> Flow:
    """A flow of the table, shared by tests that only look at it."""
    return made(name, dtype=dtype).fit(table())


def moons(n: int = 1000) -> np.ndarray:
    return 10 * make_moons(n, noise=0.1, random_state=0)[0] + [100, -50]


def table(n: int = 500) -> np.ndarray:
    r = np.random.default_rng(0)
    a = r.normal(size=(n, 4))
    a[:, 1] += a[:, 0] ** 2
    return a * [1, 10, 0.1, 3] + [0, 100, 5, -7]


@every
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_round_trips_after_training(name: str, dtype: str) -> None:
    X, m = table(), fitted(name, dtype)
    bar = 1e-5 if dtype == "float32" else 1e-10
    sd = X.std(0)
    for far in (1, 50):
        y = torch.from_numpy(X.mean(0) + far * (X - X.mean(0)))
        with torch.no_grad():
            back = m.from_base(m.to_base(y))
        error = (back - y).abs() / torch.from_numpy(sd) / ((y - X.mean(0)) / sd).abs().clamp_min(1)
        assert float(error.max()) < bar, (far, float(error.max()))


@every
def test_densities_integrate_to_one(name: str) -> None:
    X = moons()
    m = made(name).fit(X)
    side = np.linspace(-60, 60, 301)
    grid = np.stack(np.meshgrid(side + 105, side - 47.5), -1).reshape(-1, 2)
    mass = np.exp(m.score_samples(grid)).sum() * (side[1] - side[0]) ** 2
    assert mass == pytest.approx(1, abs=1e-3)
    assert m.score(X) > Gaussian().fit(X).score(X) - (0.05 if name == "nice" else -0.02)


@every
def test_nothing_breaks_far_away(name: str) -> None:
    nats = fitted(name).score_samples(np.full((1, 4), 1e6))
    assert np.isfinite(nats).all() and nats < -1e3


@every
def test_log_densities_are_those_of_the_base_through_the_jacobian(name: str) -> None:
    m = fitted(name, "float64")
    for y in torch.from_numpy(table()[:3]):
        z = m.to_base(y[None])
        J = torch.autograd.functional.jacobian(lambda v: m.to_base(v[None])[0], y)
        expected = stats.norm.logpdf(z.detach().numpy()).sum() + float(torch.linalg.slogdet(J)[1])
        assert float(m.log_density(y[None])) == pytest.approx(expected, abs=1e-8)


def test_a_base_of_normals() -> None:
    base = Base(3, 2, generator(0)).double()
    base.logits_.data = torch.tensor([0.0, math.log(3.0)]).double()
    base.log_scales_.data = torch.tensor([[0.1, 0.2, -0.3], [0.5, 0.0, 0.0]]).double()
    z = base.draw(20_000, generator(1), 1.0, torch.float64)
    parts = [
        w * np.prod(stats.norm.pdf(z[:50].numpy(), m, s), 1)
        for w, m, s in zip(
            [0.25, 0.75],
            base.means_.detach().numpy(),
            base.log_scales_.detach().exp().numpy(),
            strict=True,
        )
    ]
    np.testing.assert_allclose(
        base.log_prob(z[:50]).detach().numpy(), np.log(np.sum(parts, 0)), atol=1e-9
    )
    np.testing.assert_allclose(
        z.mean(0), (torch.tensor([[0.25], [0.75]]) * base.means_.detach()).sum(0), atol=0.04
    )
    cool = base.draw(20_000, generator(1), 1e-6, torch.float64)
    # temperature leaves the means where they are
    assert float(torch.cdist(cool, base.means_.detach()).amin(1).max()) < 1e-3
    two = np.random.default_rng(0).normal(size=(400, 2)) + 12 * np.random.default_rng(1).integers(
        0, 2, (400, 1)
    )
    one, several = (made("nice", base=b, trainer=QUICK.replace(epochs=60)).fit(two) for b in (0, 4))
    assert (
        sum(p.numel() for p in several.parameters()) - sum(p.numel() for p in one.parameters())
        == 4 + 2 * 4 * 2
    )
    assert several.score(two) > one.score(two)


def test_a_lower_temperature_draws_nearer_the_mode() -> None:
    m = copy.deepcopy(fitted("realnvp"))
    spread = m.sample(500, random_state=0).std(0)
    assert (m.set_params(temperature=0.3).sample(500, random_state=0).std(0) < 0.6 * spread).all()


@pytest.mark.parametrize(
    "name",
    # law 11 asks every class; these are the ways in which steps take conditions
    [n if n in ("realnvp", "maf") else pytest.param(n, marks=pytest.mark.full) for n in FAMILIES],
)
def test_conditions_bend_the_density(name: str) -> None:
    r = np.random.default_rng(0)
    y = r.integers(0, 3, 600)
    X = r.normal(size=(600, 2)) + 4 * np.stack([y == 1, y == 2], 1)
    m = made(name).fit(X, given=y)
    assert m.log_prob(X, given=y).mean() > m.log_prob(X, given=(y + 1) % 3).mean() + 2
    drawn = m.sample(400, given=np.full(400, 2), random_state=0)
    np.testing.assert_allclose(drawn.mean(0), [0, 4], atol=0.5)
    continuous = made(name).fit(X, given=X[:, :1] + 0.1 * r.normal(size=(600, 1)))
    assert continuous.log_prob(X, given=X[:, :1]).mean() > Gaussian().fit(X).score(X) + 0.7
    with pytest.raises(ValueError, match="given"):
        m.encode(X)


@pytest.mark.parametrize("name", ["realnvp", "maf"])
def test_conditions_far_from_0_keep_their_precision(name: str) -> None:
    r = np.random.default_rng(0)
    g = r.normal(size=(400, 1))
    X = g + 0.3 * r.normal(size=(400, 2))
    near, far = (made(name).fit(X, given=g + offset) for offset in (0, 1e8))
    expected = near.log_prob(X, given=g).nats
    np.testing.assert_allclose(far.log_prob(X, given=g + 1e8).nats, expected, atol=1e-3)
    y, codes = torch.from_numpy(X), torch.from_numpy(g + 1e8)
    with torch.no_grad():
        np.testing.assert_allclose(far.log_density(y, codes), expected, atol=1e-3)
        np.testing.assert_allclose(far.to_base(y, codes), near.to_base(y, codes - 1e8), atol=1e-3)


def test_an_image_as_condition_is_used_pixel_by_pixel() -> None:
    X, G = noisy(200, 4, 0)
    test, told = noisy(100, 4, 1)
    quick = QUICK.replace(epochs=20, batch_size=20)

    def flow(levels: int, conditioner: Any) -> Flow:
        return RealNVP(4, conditioner, levels=levels, trainer=quick, random_state=0)

    model = flow(1, SameConv(16)).fit(X, given=G)
    assert (model.context_.n_channels, model.context_.width) == (1, 0)
    p = model.log_prob(test, given=told).mean()
    # of 16 bits without order −11.1 nats, −5.2 given all of them with a tenth turned over
    assert p > -8 and p > flow(1, SameConv(16)).fit(X).score(test) + 3
    assert p > model.log_prob(test, given=1 - told).mean() + 8
    flat = flow(0, MLP(32, 1)).set_params(trainer__epochs=1).fit(X, given=G)
    assert (flat.context_.n_channels, flat.context_.width) == (0, 32)


def test_the_callers_own_networks_are_conditioners() -> None:
    def plain(i: tuple[int, ...], o: tuple[int, ...]) -> nn.Module:
        return nn.Linear(i[0], o[0])

    X = table()
    made("realnvp", conditioner=plain).fit(X)
    with pytest.raises(TypeError, match=r"signature \(in_shape, out_shape, context=0\)"):
        made("realnvp", conditioner=plain).fit(X, given=X[:, :1])


@pytest.mark.parametrize("name", ["realnvp", "glow"])
def test_images_and_labels_as_conditions_go_through_every_scale(name: str) -> None:
    x = np.random.default_rng(0).integers(0, 4, (40, 8, 8))
    given = many_conditions(40, 8, 8)
    space = Space((8, 8), "ordinal", levels=4, layout="HW")
    m = FAMILIES[name](2, SameConv(8), levels=2, trainer=QUICK, random_state=0).fit(
        x, space=space, given=given
    )
    y, g = m.real(torch.from_numpy(x), generator(0))[0], m.given_space_.encode(given)
    with torch.no_grad():
        for p in m.flow_.parameters():
            p.add_(0.1 * torch.randn(p.shape, generator=generator(1)))
        z = m.to_base(y, g)
        assert float((m.from_base(z, g) - y).abs().max()) < 1e-5
        for part in given:
            moved = m.given_space_.encode(given | {part: given[part][::-1].copy()})
            assert float((m.to_base(y, moved) - z).abs().max()) > 1e-3


@pytest.mark.parametrize("name", ["nice", "realnvp", "glow", "spline"])
def test_images_are_bent_scale_by_scale(name: str) -> None:
    r = np.random.default_rng(0)
    x = np.clip(r.normal(8, 2, (60, 1, 1)) + r.normal(0, 1, (60, 8, 8)), 0, 15).astype(np.uint8)
    space = Space((8, 8), "ordinal", levels=16, layout="HW")
    m = FAMILIES[name](
        2, SameConv(8), levels=2, trainer=QUICK.replace(epochs=20), random_state=0
    ).fit(x, space=space)
    y = m.real(torch.from_numpy(x).double(), generator(0))[0]
    with torch.no_grad():
        z = m.to_base(y)
        assert float((m.from_base(z) - y).abs().max()) < 1e-5
        bent, log_det = m._bend(m.scale_(y)[0])
        J = torch.autograd.functional.jacobian(lambda v: m._bend(v[None])[0][0], m.scale_(y)[0][0])
    assert float(torch.linalg.slogdet(J)[1]) == pytest.approx(float(log_det[0]), abs=1e-3)
    assert m.sample(5).shape == (5, 8, 8) and m.log_prob(x).kind == "lower bound"
    flat = made(name).fit(x, space=space)  # 8 × 8 is small: a vector unless asked
    assert z.shape == (60, 64) and flat._shape == (64,) and m._shape == (1, 8, 8)


@pytest.mark.parametrize(
    "args", [{"levels": 1}, {"dequantisation": "variational", "base": 2}, {"dtype": "float64"}]
)
@pytest.mark.parametrize("name", ["realnvp", "glow", "spline"])
def test_a_flow_of_images_is_saved_and_loaded(
    name: str, args: dict[str, Any], tmp_path: Path
) -> None:
    x = np.random.default_rng(0).integers(0, 4, (30, 4, 4))
    space = Space((4, 4), "ordinal", levels=4, layout="HW")
    conditioner = SameConv(4) if "levels" in args else NET
    m = FAMILIES[name](2, conditioner, trainer=QUICK.replace(epochs=2), random_state=0, **args).fit(
        x, space=space
    )
    m.save(tmp_path / "flow")
    again = genus.load(tmp_path / "flow")
    assert np.array_equal(again.score_samples(x), m.score_samples(x))
    assert np.array_equal(again.sample(5, random_state=1), m.sample(5, random_state=1))


def test_noise_drawn_from_a_flow_has_the_density_it_says_and_tightens_the_bound() -> None:
    r = np.random.default_rng(0)
    X = (r.random((600, 3)) < 0.3).astype(int)
    X[:, 2] = X[:, 0] ^ X[:, 1]
    plain = made("realnvp", trainer=QUICK.replace(epochs=40)).fit(X)
    m = made("realnvp", dequantisation="variational", trainer=QUICK.replace(epochs=40)).fit(X)
    e = torch.rand(4, 3, generator=generator(0), dtype=torch.float64)
    x = torch.from_numpy(X[:4]).double()
    u, log_q = m.noise(x, e)
    assert bool(((u > 0) & (u < 1)).all()) and float((u - e).abs().max()) > 0.01
    J = torch.autograd.functional.jacobian(lambda v: m.noise(x[:1], v[None])[0][0], e[0])
    assert float(log_q[0]) == pytest.approx(-float(torch.linalg.slogdet(J)[1]), abs=1e-4)
    assert torch.equal(plain.noise(x, e)[0], e) and not bool(plain.noise(x, e)[1].any())
    gaps = []
    for flow in (m, plain):  # the better the noise, the less many points gain over one
        many = torch.from_numpy(X[:100]).double().repeat_interleave(400, 0)
        with torch.no_grad():
            v, log_q = flow.noise(
                many, torch.rand(len(many), 3, generator=generator(1), dtype=torch.float64)
            )
            y, log_det = flow.real(many, v)
            w = (flow.log_density(y) + log_det - log_q).reshape(100, 400)
        gaps.append(float((torch.logsumexp(w, 1) - math.log(400) - w.mean(1)).mean()))
    assert 0 < gaps[0] < 0.9 * gaps[1]


def test_a_row_has_its_score_in_any_company_to_the_bit() -> None:
    X = table(100)
    m = made("spline").fit(X)
    whole = m.score_samples(X)
    for size in (1, 3, 16):
        assert np.array_equal(
            np.concatenate([m.score_samples(X[i : i + size]) for i in range(0, 100, size)]), whole
        )


def test_a_value_that_is_repeated_is_named() -> None:
    X = np.stack([table()[:, 0], np.where(np.arange(500) % 3, table()[:, 1], 0.125)], 1)
    with pytest.warns(UserWarning, match="column 1 has one value in 167 of 500 rows"):
        made("realnvp").fit(X)


def test_columns_are_learned_by_default() -> None:
    """A heavy tail costs a flow of plain coordinates dearly."""
    r = np.random.default_rng(0)
    X = r.standard_t(2, size=(1200, 2))
    test, X = X[:400], X[400:]
    learned, plain = made("realnvp", marginals=None).fit(X), made("realnvp").fit(X)
    assert learned.score(test) > plain.score(test) + 0.1
    truth = stats.t(2).logpdf(test).sum(1).mean()
    assert learned.score(test) > truth - 0.15
    p = learned.log_prob(X)
    assert p.kind == "exact"
    np.testing.assert_allclose(learned.decode(learned.encode(X)), X, rtol=1e-4, atol=1e-3)


@every
def test_missing_cells_are_integrated_out(name: str) -> None:
    r = np.random.default_rng(0)
    X = r.normal(size=(800, 2)) @ [[1.0, 0.8], [0.0, 0.6]]
    holes = X.copy()
    holes[::3, 0] = np.nan
    holes[1::3, 1] = np.nan
    m = made(name, marginals=None).fit(holes)
    p = m.log_prob(np.array([[0.5, np.nan], [np.nan, -1.0], [0.5, -1.0]]))
    assert p.kind == "lower bound" and p.dims.tolist() == [1, 1, 2]
    # the truth: standard normals, correlated by .8
    truth = stats.norm.logpdf([0.5, -1.0])
    np.testing.assert_allclose(p.nats[:2], truth, atol=0.25)
    filled = m.complete(np.tile([[1.5, np.nan]], (400, 1)), random_state=0)[:, 1]
    assert abs(filled.mean() - 1.2) < 0.3 and 0.4 < filled.std() < 0.9


@pytest.mark.parametrize(
    ("args", "match"),
    [
        ({"n_transforms": 0}, "n_transforms=0"),
        ({"base": -1}, "base=-1"),
        ({"temperature": 0.0}, "temperature=0.0"),
        ({"dtype": "float16"}, "dtype='float16'"),
        ({"dequantisation": "none"}, "dequantisation='none'"),
        ({"levels": 2}, "levels=2"),
        ({"bins": 1}, "bins=1"),
        ({"bound": -1.0}, "bound=-1.0"),
        ({"autoregressive": True, "conditioner": SameConv()}, "conditioner="),
    ],
)
def test_bad_arguments_are_named(args: dict[str, Any], match: str) -> None:
    with pytest.raises(ValueError, match=match):
        SplineFlow(**args, trainer=QUICK).fit(table(50))
