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
from genus.distributions.observation import Bernoulli, Categorical, Logistic, Mixed, Normal, observe
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
