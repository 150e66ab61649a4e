"""What a column does on its own, against distributions that are known."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from genus.distributions.marginals import Marginals, between
from genus.space import Space


def learned(X: Any) -> tuple[Space, Marginals]:
    space = Space.of(X)
    return space, Marginals(space).fit(space.encode(X).double())


def log_p(X: Any, at: Any) -> np.ndarray:
    space, m = learned(X)
    out: np.ndarray = m.log_prob(space.encode(at).double()).numpy()
    return out


@pytest.mark.parametrize(
    ("truth", "bar"),
    [
        (stats.norm(5, 2), 0.02),
        (stats.t(2), 0.03),
        (stats.gamma(2), 0.03),
        (stats.lognorm(1, scale=1000), 0.03),
        (stats.uniform(), 0.05),
    ],
)
def test_real_numbers_are_nearly_as_well_known_as_the_truth(truth: Any, bar: float) -> None:
    """Held-out nats lost to the density that made them."""
    r = np.random.default_rng(0)
    X, test = truth.rvs(2000, random_state=r)[:, None], truth.rvs(4000, random_state=r)[:, None]
    lost = truth.logpdf(test).mean() - log_p(X, test).mean()
    assert -0.01 < lost < bar


def test_a_density_integrates_to_one_tails_included() -> None:
    r = np.random.default_rng(0)
    for x in (r.normal(size=300), r.standard_t(2, size=300), r.gamma(0.5, size=300)):
        grid = np.concatenate([-np.geomspace(1e7, 1e-5, 400_000), np.geomspace(1e-5, 1e7, 400_000)])
        mass = np.trapezoid(np.exp(log_p(x[:, None], grid[:, None])[:, 0]), grid)
        assert mass == pytest.approx(1, abs=2e-3)


def test_whole_numbers_have_tails_on_both_sides_below_only_where_values_can_go() -> None:
    r = np.random.default_rng(0)
    counts = r.poisson(4, 500)
    wide = r.normal(0, 300, 500).round().astype(int)
    for x, low, high in ((counts, 0, 400), (wide, -200_000, 200_000)):
        every = np.arange(low, high)
        p = np.exp(log_p(x[:, None], every[:, None])[:, 0])
        assert p.sum() == pytest.approx(1, abs=1e-3) and (p > 0).all()
    assert np.isneginf(log_p(counts[:, None], np.array([[-1]]))).all()
    assert log_p(counts[:, None], np.arange(13)[:, None]).std() > 1
    truth = stats.poisson(4).logpmf(r.poisson(4, 4000)).mean()
    assert abs(log_p(counts[:, None], r.poisson(4, (4000, 1))).mean() - truth) < 0.05


def test_many_levels_do_not_drown_an_atom() -> None:
    """Most claims are 0, and the others spread over a million levels."""
    r = np.random.default_rng(0)
    x = np.where(r.random(1500) < 0.7, 0, r.lognormal(8, 1.5, 1500)).round().astype(int)
    space, m = learned(pd.DataFrame({"claim": x}))
    draws = space.decode(m.sample(20_000, torch.Generator().manual_seed(0)))["claim"]
    assert abs((draws == 0).mean() - (x == 0).mean()) < 0.02
    assert 0.7 < draws.mean() / x.mean() < 1.5 and (draws >= 0).all()


def test_atoms_bounds_decimals_and_constants_of_a_table_are_kept() -> None:
    r = np.random.default_rng(0)
    n = 2000
    df = pd.DataFrame(
        {
            "rain": np.where(r.random(n) < 0.9, 0, r.gamma(1, 3, n)).round(1),
            "price": r.lognormal(3, 1, n),
            "percent": np.minimum(100, r.normal(95, 10, n)).round(1),
            "same": 3.7,
            "share": r.beta(2, 0.5, n),
        }
    )
    space, m = learned(df)
    drawn = space.decode(m.sample(5000, torch.Generator().manual_seed(0)))
    assert abs((drawn["rain"] == 0).mean() - 0.9) < 0.02
    assert abs((drawn["percent"] == 100).mean() - (df["percent"] == 100).mean()) < 0.02
    assert drawn["price"].min() >= 0 and drawn["percent"].max() == 100
    assert drawn["share"].between(0, 1).all() and (drawn["same"] == 3.7).all()
    for name in ("rain", "percent"):
        assert np.allclose(drawn[name], drawn[name].round(1), atol=1e-9)
    zero = m.log_prob(space.encode(df.assign(rain=0.0)).double())[0, 0]
    assert float(zero.exp()) == pytest.approx((df["rain"] == 0).mean(), abs=0.01)


def test_scores_are_standard_normal_and_come_back() -> None:
    r = np.random.default_rng(0)
    n = 4000
    df = pd.DataFrame(
        {
            "t": r.standard_t(2, size=n),
            "zeros": np.where(r.random(n) < 0.6, 0.0, r.gamma(1, 3, n)),
            "count": r.poisson(2, n),
            "word": r.choice(list("abcd"), n, p=[0.6, 0.2, 0.1, 0.1]),
            "bit": r.random(n) < 0.05,
        }
    )
    space, m = learned(df)
    x = space.encode(df).double()
    u = torch.rand(x.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    z, log_det = m.scores(x, u)
    for column in z.T:
        assert stats.kstest(column.numpy(), "norm").statistic < 0.03
    torch.testing.assert_close(m.invert(z), x, rtol=1e-9, atol=1e-9)
    # independent standard normals are the marginals, whatever u is
    log_phi = stats.norm.logpdf(z.numpy())
    np.testing.assert_allclose(log_phi + log_det.numpy(), m.log_prob(x).numpy(), atol=1e-8)


def test_the_change_of_variables_is_autograds() -> None:
    X = np.random.default_rng(0).standard_t(3, size=(500, 1))
    _, m = learned(X)
    x = torch.linspace(-8, 8, 41, dtype=torch.float64)[:, None].requires_grad_()
    z, log_det = m.scores(x, torch.full_like(x, 0.5))
    (slope,) = torch.autograd.grad(z.sum(), x)
    torch.testing.assert_close(slope.log(), log_det.detach(), rtol=1e-6, atol=1e-6)


def test_words_stand_in_the_order_of_what_goes_with_them() -> None:
    r = np.random.default_rng(0)
    size = r.normal(size=3000)
    names = np.array(["delta", "alpha", "echo", "bravo", "charlie"])  # from small to large
    place = np.clip(np.digitize(size + 0.2 * r.normal(size=3000), [-1, -0.3, 0.3, 1]), 0, 4)
    df = pd.DataFrame({"size": size, "name": names[place]})
    space, m = learned(df)
    values = space.columns[1].values or ()
    assert m.words_ is not None
    order = [values[i] for i in m.words_.order_[0].tolist()]
    assert order in (names.tolist(), names.tolist()[::-1])


@settings(deadline=None, max_examples=60)
@given(
    st.lists(
        st.floats(-1e6, 1e6, allow_nan=False, width=32) | st.integers(-5, 5),
        min_size=1,
        max_size=60,
    )
)
def test_any_column_is_finite_where_it_was_seen_and_comes_back(values: list[float]) -> None:
    x = pd.DataFrame({"a": np.array(values, dtype=float)})
    space, m = learned(x)
    codes = space.encode(x).double()
    assert torch.isfinite(m.log_prob(codes)).all()
    low, high = m.edges(codes)
    assert (low <= high).all()
    back = m.invert(between(low, high, torch.full_like(low, 0.5)))
    scale = codes.abs().clamp_min(1e-3)
    if space.columns[0].atoms:  # beside the mass of an atom, that of a far cell may be lost
        scale = scale.max()
    assert ((back - codes).abs() <= 1e-6 * scale).all()
    assert torch.isnan(m.invert(torch.full_like(low, torch.nan))).all()


def test_a_value_at_its_bound_is_no_further_out_than_its_density_says() -> None:
    """Else two such cells of correlated columns would be taken for a wonder."""
    r = np.random.default_rng(0)
    x = pd.DataFrame({"share": r.beta(3, 3, 500), "price": r.gamma(3, size=500)})
    space, m = learned(x)
    ends = space.encode(pd.DataFrame({"share": [0.0, 1.0], "price": [0.0, 0.0]})).double()
    low, _, log_p = m.look(ends)
    assert torch.isfinite(log_p).all() and (low.abs() < 8).all()


def test_what_is_kept_of_every_level_is_what_is_looked_up_cell_by_cell() -> None:
    """Images have many cells of few levels: a table of them is many times faster."""
    r = np.random.default_rng(0)
    x = r.binomial(r.integers(3, 12, size=(6, 6)), 0.4, size=(200, 6, 6)).astype(np.uint8)
    x[:150, 0] = 0  # an atom
    space, m = learned(x)
    numbers = m.numbers_
    assert numbers is not None
    codes = space.encode(x).double().flatten(1)
    codes = torch.cat([codes, codes.new_full((1, 36), torch.nan), codes.max() + codes[:1]])
    for part, at in ((numbers, codes), (numbers.some(slice(2, 9)), codes[:, 2:9])):
        for kept, direct in zip(part.look(at), part._look(at), strict=True):
            torch.testing.assert_close(kept[:-1], direct[:-1], equal_nan=True)
            assert torch.equal(torch.isneginf(kept), torch.isneginf(direct))
    assert numbers._kept is not None
    again = m.state_dict()
    again["numbers_.scores_"] += 0.1
    m.load_state_dict(again)  # into the same tensors
    torch.testing.assert_close(numbers.look(codes)[0][0], numbers._look(codes[:1])[0][0])


def test_a_second_fit_keeps_nothing_of_the_first() -> None:
    r = np.random.default_rng(0)
    one, two = (r.binomial(9, p, size=(200, 3, 3)).astype(np.uint8) for p in (0.3, 0.6))
    space = Space((3, 3), "ordinal", levels=10, layout="HW")
    codes = [space.encode(x).double().flatten(1) for x in (one, two)]
    again, fresh = Marginals(space).fit(codes[0]), Marginals(space).fit(codes[1])
    before = again.look(codes[1])  # what is kept of every level is of the first rows
    again.fit(codes[1])
    for old, new, right in zip(before, again.look(codes[1]), fresh.look(codes[1]), strict=True):
        assert torch.equal(new, right) and not torch.allclose(old, right)
