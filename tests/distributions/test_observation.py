"""Observation models: normalised, drawn as they are scored, each mean where it belongs."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats
from torch import Tensor

from genus import Space
from genus.distributions.marginals import Marginals
from genus.distributions.observation import (
    Bernoulli,
    Categorical,
    Logistic,
    Mixed,
    Normal,
    Scores,
    observe,
)
from genus.learn.rows import generator

LEVELS = 6
DISCRETE: dict[str, Any] = {
    "bernoulli": (lambda: Bernoulli(3), 2),
    "categorical": (lambda: Categorical(3, LEVELS), LEVELS),
    "logistic": (lambda: Logistic(3, LEVELS), LEVELS),
    "gaussian": (lambda: Normal(3, variance=1.7, levels=[LEVELS] * 3), LEVELS),
}


def made(name: str) -> tuple[Any, Tensor, int]:
    make, levels = DISCRETE[name]
    o = make()
    if name == "gaussian":
        o.offset(torch.randint(0, levels, (200, 3), generator=generator(0)).double())
    return o, 1.5 * torch.randn(4, o.n_out, generator=generator(1)), levels


@pytest.mark.parametrize("name", DISCRETE)
def test_levels_sum_to_one_and_draws_have_their_frequencies(name: str) -> None:
    o, p, levels = made(name)
    each = torch.stack([o.log_prob(p, torch.full((4, 3), float(v))) for v in range(levels)])
    torch.testing.assert_close(each.exp().sum(0), torch.ones(4, 3), atol=1e-5, rtol=0)
    draws = o.sample(p.expand(20_000, 4, -1), generator(2))
    seen = torch.stack([(draws == v).double().mean(0) for v in range(levels)])
    assert float((seen - each.exp()).abs().max()) < 0.02
    if name == "categorical":
        assert torch.equal(o.mean(p), each.argmax(0).float())
    else:  # the expected code, ends included; that of a Gaussian is its own, kept within the ends
        expected = (each.exp() * torch.arange(levels)[:, None, None]).sum(0)
        assert float((o.mean(p) - expected).abs().max()) < (0.6 if name == "gaussian" else 0.1)


@pytest.mark.parametrize("log_s", [-9.0, -2.0, 0.5, 3.0])
@pytest.mark.parametrize("mu", [-3.0, -1.0, 0.21, 1.0, 5.0])
def test_logistic_mean_is_the_expected_level(mu: float, log_s: float) -> None:
    o, p = Logistic(1, 32), torch.tensor([[mu, log_s]])
    prob = torch.stack([o.log_prob(p, torch.full((1, 1), float(v))) for v in range(32)]).exp()[
        :, 0, 0
    ]
    assert float(prob.sum()) == pytest.approx(1, abs=1e-5)
    assert float(o.mean(p)) == pytest.approx(
        float((prob * torch.arange(32)).sum()), abs=0.5 if log_s < -5 else 0.02
    )


def test_logistic_by_scipy() -> None:
    """End levels take the tails; far levels lose nothing to cancellation."""
    o, p = Logistic(1, 256), torch.tensor([[0.3, -2.0]], dtype=torch.float64)
    law = stats.logistic(loc=(0.3 + 1) / 2 * 255, scale=math.exp(-2.0) / 2 * 255)
    v = np.arange(256)
    got = np.array(
        [float(o.log_prob(p, torch.tensor([[float(x)]], dtype=torch.float64))) for x in v]
    )
    expected = law.cdf(v + 0.5) - law.cdf(v - 0.5)
    expected[0], expected[-1] = law.cdf(0.5), law.sf(254.5)
    np.testing.assert_allclose(np.exp(got), expected, rtol=1e-9)
    sharp = float(o.log_prob(torch.tensor([[0.9, -5.0]]), torch.zeros(1, 1)))
    assert sharp == pytest.approx(
        float(stats.logistic.logcdf((1 / 255 - 1 - 0.9) * math.exp(5))), rel=1e-4
    )


def test_gaussian_integrates_to_one_in_the_units_of_the_data() -> None:
    x = (
        torch.randn(500, 2, generator=generator(3), dtype=torch.float64)
        * torch.tensor([100.0, 0.01])
        + 7
    )
    for o in (Normal(2), Normal(2, variance=4.0)):
        o.offset(x)
        p = torch.randn(1, o.n_out, generator=generator(4))
        for j in range(2):
            sd = float((o._variance() ** 0.5)[j] * o.scale[j])
            mean = float(o.mean(p)[0, j])
            grid = torch.linspace(mean - 9 * sd, mean + 9 * sd, 4001, dtype=torch.float64)
            rows = torch.full((4001, 2), 7.0, dtype=torch.float64)
            rows[:, j] = grid
            density = o.log_prob(p.expand(4001, -1), rows)[:, j].double()
            torch.testing.assert_close(
                density, torch.tensor(stats.norm(mean, sd).logpdf(grid)), atol=1e-3, rtol=1e-3
            )
            if o.variance:
                assert sd == pytest.approx(2.0)
        draws = o.sample(p.expand(20_000, -1), generator(5))
        torch.testing.assert_close(
            draws.mean(0), o.mean(p)[0], atol=float(4 * draws.std(0).max() / 140), rtol=1e-3
        )


def test_gaussian_on_levels_by_scipy() -> None:
    o = Normal(1, variance=2.0, levels=[8])
    o.offset(torch.arange(8.0)[:, None].double())
    p = torch.tensor([[0.4]])
    law = stats.norm(float(0.4 * o.scale[0] + o.shift[0]), math.sqrt(2.0))
    edges = np.r_[-np.inf, np.arange(7) + 0.5, np.inf]
    got = [float(o.log_prob(p, torch.tensor([[float(v)]])).exp()) for v in range(8)]
    np.testing.assert_allclose(got, np.diff(law.cdf(edges)), rtol=1e-4)


@pytest.mark.parametrize("name", DISCRETE)
def test_the_offset_is_the_best_without_a_latent_variable(name: str) -> None:
    o, _, levels = made(name)
    x = torch.randint(0, levels, (2000, 3), generator=generator(6)).clamp_max(3).double()
    x[:100, 0] = math.nan
    p = o.offset(x).expand(2000, -1)
    assert torch.isfinite(p).all()
    lp = o.log_prob(p, torch.where(torch.isnan(x), 0.0, x))
    worse = [
        float(
            o.log_prob(
                p + 0.5 * torch.randn(p.shape[1], generator=generator(s)), x.nan_to_num()
            ).mean()
        )
        for s in range(5)
    ]
    assert float(lp.mean()) > max(worse) - 0.02


def test_a_table_goes_column_by_column() -> None:
    rng = np.random.default_rng(0)
    columns = {
        "c": rng.choice(list("abc"), 50),
        "x": rng.normal(size=50),
        "b": rng.integers(0, 2, 50),
        "d": rng.choice(list("xyz"), 50),
    }
    frame = pd.DataFrame(columns)
    space = Space.of(frame)
    o = observe(space)
    # columns of three values together
    assert isinstance(o, Mixed) and o.n_out == 8 and len(o.parts) == 3
    x = space.encode(frame).double()
    p = torch.randn(50, o.n_out, generator=generator(1)) + o.offset(x)
    each = o.log_prob(p, x)
    columns, pieces = o.order.split(o.widths), p.split(o.sizes, -1)
    for c, part, q in zip(columns, o.parts, pieces, strict=True):
        torch.testing.assert_close(each[:, c], part.log_prob(q, x[:, c]).to(each.dtype))
        torch.testing.assert_close(o.mean(p)[:, c], part.mean(q).to(o.mean(p).dtype))
    draws = o.sample(p, generator(2))
    assert (
        draws.shape == (50, 4)
        and set(draws[:, 2].unique().tolist()) <= {0.0, 1.0}
        and float(draws[:, [0, 3]].max()) == 2
    )


@pytest.mark.parametrize(
    "likelihood, kind",
    [
        ("bernoulli", "ordinal"),
        ("bernoulli", "continuous"),
        ("categorical", "continuous"),
        ("logistic", "categorical"),
    ],
)
def test_a_likelihood_that_does_not_suit_is_refused(likelihood: str, kind: str) -> None:
    levels = None if kind == "continuous" else 4
    with pytest.raises(ValueError, match="likelihood"):
        observe(Space((2,), kind, levels=levels), likelihood)


def test_auto_chooses_by_kind() -> None:
    names = {
        "binary": Bernoulli,
        "ordinal": Logistic,
        "categorical": Categorical,
        "continuous": Normal,
    }
    for kind, cls in names.items():
        assert type(observe(Space((2,), kind, levels=None if kind == "continuous" else 5))) is cls


# ---------------------------------------------------------------------- numbers by their scores


def numbers() -> pd.DataFrame:
    """Few and many whole numbers, real numbers, and real numbers with an atom."""
    rng = np.random.default_rng(0)
    z = rng.normal(size=800)
    return pd.DataFrame(
        {
            "few": rng.poisson(2, 800),
            "many": np.round(np.exp(6 + 0.5 * z)).astype(int),
            "real": rng.standard_t(3, size=800),
            "rain": np.where(z > 0, z**2, 0.0),
        }
    )


def scores() -> tuple[Scores, Tensor, Space]:
    frame = numbers()
    space = Space.of(frame)
    o = observe(space, learned=True)
    assert isinstance(o, Scores)
    x = space.encode(frame).double()
    o.fit(x)
    return o, x, space


@torch.no_grad()
def test_with_the_standard_normal_a_score_is_what_the_column_is() -> None:
    o, x, space = scores()
    o.log_v_.fill_(math.log(1 - o.floor**2))
    own = Marginals(space).fit(x).log_prob(x)
    got = o.log_prob(torch.zeros(len(x), o.n_out), x)
    torch.testing.assert_close(got.double(), own, atol=2e-4, rtol=1e-4)


@torch.no_grad()
@pytest.mark.parametrize("log_v", [-5.0, -1.0, 0.5])
def test_scores_sum_to_one_and_draws_have_their_frequencies(log_v: float) -> None:
    o, x, space = scores()
    o.log_v_.fill_(log_v)
    p = 0.7 * torch.randn(1, o.n_out, generator=generator(1))
    p[0, 6] = (
        0.7  # away from the bound of rain, just beside which the marginal has scores without values
    )
    draws = o.sample(p.expand(20_000, -1), generator(2))
    low = [space.columns[j].low for j in range(2)]
    for j, grid in ((0, torch.arange(0, 60)), (1, torch.arange(0, 40_000))):
        rows = x[:1].expand(len(grid), -1).clone()
        rows[:, j] = grid.double() - low[j]
        mass = o.log_prob(p.expand(len(grid), -1), rows)[:, j].double().exp()
        assert float(mass.sum()) == pytest.approx(1, abs=3e-3)
        below = mass.cumsum(0)
        value = draws[:, j] + low[j]
        for share in (0.2, 0.5, 0.9):
            at = int((below < share).sum())
            seen = float((value <= grid[at]).double().mean())
            assert seen == pytest.approx(float(below[at]), abs=0.02)
    t = torch.linspace(-25, 25, 200_001, dtype=torch.float64)
    grid = torch.sinh(t)
    rows = x[:1].expand(len(grid), -1).clone()
    rows[:, 2] = grid
    density = o.log_prob(p.expand(len(grid), -1), rows)[:, 2].double().exp()
    assert float((density * torch.cosh(t)).sum()) * 2.5e-4 == pytest.approx(1, abs=0.01)
    rows[:, 3] = torch.logspace(-8, 8, len(grid), dtype=torch.float64)
    rain = o.log_prob(p.expand(len(grid), -1), rows)[:, 3].double().exp() * rows[:, 3]
    rows[0, 3] = 0
    dry = float(o.log_prob(p, rows[:1])[0, 3].exp())
    step = 16 * math.log(10) / (len(grid) - 1)
    assert dry + float(rain.sum()) * step == pytest.approx(1, abs=0.01)
    assert float((draws[:, 3] == 0).double().mean()) == pytest.approx(dry, abs=0.02)


def test_no_score_is_less_likely_than_a_share_of_the_column() -> None:
    o, x, space = scores()
    o.log_v_.data.fill_(-20.0)
    far = x[:2].clone()
    far[:, 0], far[:, 2] = 40, 1e4
    p = torch.zeros(2, o.n_out, requires_grad=True)
    each = o.log_prob(p, far)
    own = Marginals(space).fit(x).log_prob(far)
    least = own + torch.nn.functional.logsigmoid(o.share_.detach())
    assert (each >= least - 1e-3).all() and (each[:, [0, 2]] < least[:, [0, 2]] + 1e-3).all()
    each.sum().backward()
    assert torch.isfinite(p.grad).all() and torch.isfinite(o.log_v_.grad).all()


@torch.no_grad()
def test_what_cannot_be_has_no_probability_and_what_was_read_is_used() -> None:
    o, x, _ = scores()
    p = torch.randn(len(x), o.n_out, generator=generator(1))
    torch.testing.assert_close(o.log_prob(p, x, o.read(x)), o.log_prob(p, x))
    torch.testing.assert_close(o.features(x, o.read(x)), o.features(x))
    bad = x[:1].clone()
    bad[0, 3] = -1
    assert o.log_prob(p[:1], bad)[0, 3] == -math.inf
    other = o.read(x).flip(0)
    assert not torch.allclose(o.log_prob(p, x, other), o.log_prob(p, x))


@torch.no_grad()
def test_expected_values_and_draws_keep_to_the_column() -> None:
    o, x, _ = scores()
    p = torch.randn(1, o.n_out, generator=generator(3))
    draws = o.sample(p.expand(40_000, -1), generator(4))
    assert (draws[:, :2] == draws[:, :2].round()).all() and float(draws[:, 3].min()) == 0
    for j in (0, 1, 3):
        spread = float(draws[:, j].std())
        assert float(o.mean(p)[0, j]) == pytest.approx(float(draws[:, j].mean()), abs=0.1 * spread)


@torch.no_grad()
def test_words_are_seen_one_by_one() -> None:
    o = Categorical(2, 3)
    x = torch.tensor([[2.0, math.nan]])
    seen = o.features(x)[0]
    assert seen[:3].tolist() == [0, 0, 1] and torch.isnan(seen[3:]).all()
    assert o.places == [0, 0, 0, 1, 1, 1]


@pytest.mark.parametrize("name", ["bernoulli", "categorical", "scores"])
def test_a_decoder_starts_with_the_slope_of_the_loadings(name: str) -> None:
    rng = generator(0)
    if name == "scores":
        frame = numbers()[["real"]]
        o: Any = observe(Space.of(frame), learned=True)
        x = Space.of(frame).encode(frame).double()
        o.fit(x)
    else:
        o = Bernoulli(1) if name == "bernoulli" else Categorical(1, 3)
        top = 1 if name == "bernoulli" else 2
        x = torch.rand(500, 1, generator=rng).mul(4).floor().clamp_max(top).double()
    seen = o.features(x)
    mean, std = seen.mean(0), seen.std(0)
    W = 0.3 * torch.ones(len(o.places), 1, dtype=torch.float64)
    if name == "categorical":
        W[-1] = -0.3 * (std[:2].sum() / std[2])
    with torch.no_grad():
        weights = o.start_at(W, 1 - W[:, 0].square(), mean, std)
    p = o.offset(x)[:, None] + weights * torch.tensor([[-0.1, 0.1]], dtype=torch.float64)
    if name == "scores":
        slope = (p[::2, 1] - p[::2, 0]) / 0.2
        v = float(o.log_v_.detach().exp()) + o.floor**2
        assert v == pytest.approx(1 - 0.09, abs=0.03)
    elif name == "bernoulli":
        slope = (torch.sigmoid(p[:, 1]) - torch.sigmoid(p[:, 0])) / 0.2
    else:
        slope = (torch.softmax(p[:, 1], 0) - torch.softmax(p[:, 0], 0)) / 0.2
    torch.testing.assert_close(slope.double(), std * W[:, 0], atol=0.02, rtol=0.1)


@torch.no_grad()
def test_whole_numbers_without_ends_by_scipy() -> None:
    """Their Gaussian has tails on both sides, where known ends take them."""
    o = Normal(1, variance=2.0, levels=[8], endless=[True])
    o.offset(torch.arange(8.0)[:, None].double())
    p = torch.tensor([[0.4]])
    law = stats.norm(float(0.4 * o.scale[0] + o.shift[0]), math.sqrt(2.0))
    values = np.arange(-3, 12)
    got = [float(o.log_prob(p, torch.tensor([[float(v)]])).exp()) for v in values]
    expected = [law.cdf(v + 0.5) - law.cdf(v - 0.5) for v in values]
    np.testing.assert_allclose(got, expected, rtol=1e-3, atol=1e-7)
    wide = Normal(1, variance=400.0, levels=[8], endless=[True])
    wide.offset(torch.arange(8.0)[:, None].double())
    draws = wide.sample(p.expand(1000, 1), generator(0))
    assert float(draws.min()) < -5 and float(draws.max()) > 12 and (draws == draws.round()).all()


# ---------------------------------------------------------------------- more of ordered levels


@pytest.mark.parametrize("levels", [2, 17, 256])
@pytest.mark.parametrize(
    "likelihood",
    ["categorical", "continuous-bernoulli", "logistic", "logistic-mixture", "beta-binomial"],
)
def test_masses_of_levels_sum_to_one(likelihood: str, levels: int) -> None:
    d = 3
    o = observe(Space((d,), "ordinal", levels=levels), likelihood)
    rng = generator(0)
    p = 2 * torch.randn(50, o.n_out, generator=rng)
    x = torch.arange(float(levels))[:, None, None].expand(levels, 50, d)
    mass = o.log_prob(p.expand(levels, -1, -1), x).double().exp()
    torch.testing.assert_close(mass.sum(0), torch.ones(50, d).double(), atol=1e-5, rtol=0)
    mean = (mass * x).sum(0)
    rounded = likelihood.startswith("logistic")  # their mean is that of levels not yet rounded
    if likelihood != "categorical" and not (rounded and levels == 2):
        atol = (2e-2 if rounded else 1e-3) * levels
        torch.testing.assert_close(o.mean(p).double(), mean, atol=atol, rtol=0)
    one = p[:1].expand(4000, -1)
    drawn = o.sample(one, rng)
    assert drawn.min() >= 0 and drawn.max() <= levels - 1 and bool((drawn == drawn.round()).all())
    spread = (mass[:, 0] * (x[:, 0] - mean[0]).square()).sum(0).sqrt()
    error = (drawn.double().mean(0) - mean[0]).abs()
    assert (error < 5 * spread / 4000**0.5 + 1e-3).all()


@pytest.mark.parametrize(
    "likelihood", ["continuous-bernoulli", "beta-binomial", "logistic-mixture"]
)
def test_offsets_fit_the_levels_of_each_cell(likelihood: str) -> None:
    rng = np.random.default_rng(0)
    x = torch.tensor(rng.binomial(16, rng.beta(2, [1.0, 4.0, 9.0], size=(3000, 3)))).double()
    o = observe(Space((3,), "ordinal", levels=17), likelihood)
    p = o.offset(x)
    torch.testing.assert_close(o.mean(p).double(), x.mean(0), atol=0.5, rtol=0)
    best = o.log_prob(p, x).mean()
    for shift in (-0.7, 0.7):
        assert o.log_prob(p + shift, x).mean() < best


def test_a_continuous_bernoulli_of_numbers() -> None:
    o = observe(Space((1,), "continuous"), "continuous-bernoulli")
    x = (torch.arange(20_000.0) + 0.5)[:, None] / 20_000
    for logit in (-30.0, -1.0, -1e-4, 0.0, 1e-3, 2.0, 25.0):
        p = torch.tensor([[logit]])
        density = o.log_prob(p, x).double().exp()
        assert float(density.mean()) == pytest.approx(1, abs=1e-5)
        assert float(o.mean(p)) == pytest.approx(float((density * x).mean()), abs=1e-4)
        drawn = o.sample(p.expand(20_000, 1), generator(0))
        assert float(drawn.mean()) == pytest.approx(float(o.mean(p)), abs=0.01)
    assert o.log_prob(torch.zeros(1, 1), torch.tensor([[1.5]])) == -math.inf
    with pytest.raises(ValueError, match="numbers from 0 to 1"):
        o.offset(torch.tensor([[1.5]]))


def test_one_variance_for_all_cells_is_in_the_units_of_the_data() -> None:
    x = torch.randn(500, 2, generator=generator(0), dtype=torch.float64) * torch.tensor([1.0, 10.0])
    o = observe(Space((2,), "continuous"), "gaussian", "shared")
    o.offset(x)
    assert o.log_v_.shape == (1,)
    v = o._variance().double() * o.scale.square()
    torch.testing.assert_close(v[0], v[1])
