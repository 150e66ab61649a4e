"""Columns of each kind: what the network sees, and the conditional of what it puts out."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats
from torch import Tensor

from genus import Space
from genus.learn.rows import generator
from genus.models.autoregressive.columns import (
    SHARE,
    Bits,
    Levels,
    Merged,
    Numbers,
    Part,
    Scored,
    Wide,
    loses,
    lost,
)

M = 2  # columns
ALL = slice(None)
RNG = np.random.default_rng(0)


def part(name: str) -> Part:
    return {
        "bits": lambda: Bits([0, 1], several=False),
        "levels": lambda: Levels([0, 1], 5),
        "numbers": lambda: Numbers([0, 1], [0, 0], K=3, several=False),
        "whole": lambda: Numbers([0, 1], [5, 5], K=3, several=False),
    }[name]()


def rows(name: str, n: int = 400) -> Tensor:
    if name == "numbers":
        return torch.from_numpy(50 + 4 * RNG.normal(size=(n, M)))
    return torch.from_numpy(RNG.binomial(1 if name == "bits" else 4, 0.3, (n, M))).double()


def parameters(p: Part, n: int = 1) -> Tensor:
    return torch.randn(n, M, p.n_out, generator=generator(3), dtype=torch.float64)


@pytest.mark.parametrize("name", ["bits", "levels", "whole"])
def test_levels_sum_to_one_and_draws_have_their_shares(name: str) -> None:
    p = part(name)
    p.fit(rows(name))
    levels = 2 if name == "bits" else 5
    every = torch.arange(levels, dtype=torch.float64)[:, None].expand(-1, M)
    theta = parameters(p)
    mass = p.log_prob(theta.expand(levels, -1, -1), every).exp()
    np.testing.assert_allclose(mass.sum(0), 1, rtol=1e-6)
    n = 20_000
    drawn = p.draw(theta.expand(n, -1, -1), ALL, generator(0))
    for v in range(levels):
        share = (drawn == v).double().mean(0)
        assert (share - mass[v]).abs().max() < 4 * 0.5 / math.sqrt(n)


def test_numbers_integrate_to_one_in_the_units_of_the_data() -> None:
    p = part("numbers")
    x = rows("numbers")
    p.fit(x)
    theta = parameters(p)
    grid = torch.arange(-150, 250, 0.01, dtype=torch.float64)[:, None].expand(-1, M)
    density = p.log_prob(theta.expand(len(grid), -1, -1), grid).exp()
    np.testing.assert_allclose(density.sum(0) * 0.01, 1, atol=1e-3)
    drawn = p.draw(theta.expand(4000, -1, -1), ALL, generator(0)).numpy()
    for j in range(M):
        cdf = np.cumsum(density[:, j].numpy()) * 0.01
        law = lambda v, cdf=cdf: np.interp(v, grid[:, 0].numpy(), cdf)  # noqa: E731
        assert stats.kstest(drawn[:, j], law).pvalue > 1e-3


@pytest.mark.parametrize("name", ["bits", "levels", "numbers", "whole"])
def test_the_fit_is_the_marginal(name: str) -> None:
    """The parameters that ``fit`` gives are those of columns on their own."""
    p, x = part(name), rows(name)
    theta = p.fit(x)
    assert theta.shape == (M, p.n_out)
    got = p.log_prob(theta.expand(len(x), -1, -1), x).mean(0)
    if name == "numbers":
        best = [stats.norm(*stats.norm.fit(c)).logpdf(c).mean() for c in x.T.numpy()]
        assert (got.numpy() > np.array(best) - 0.3).all()
    else:
        shares = [np.unique(c, return_counts=True)[1] / len(x) for c in x.T.numpy()]
        best = [(s * np.log(s)).sum() for s in shares]
        assert (got.numpy() > np.array(best) - (0.4 if name == "whole" else 0.01)).all()


def test_what_the_network_sees() -> None:
    x = torch.tensor([[1.0, 0.0], [0.0, 0.0]]).double()
    bits = part("bits")
    bits.fit(x)
    np.testing.assert_allclose(bits.features(x)[..., 0], x - bits.mean_)
    assert part("levels").features(x).tolist()[0] == [[0, 1, 0, 0, 0], [1, 0, 0, 0, 0]]
    numbers = part("numbers")
    numbers.fit(rows("numbers"))
    far = numbers.features(torch.full((1, M), 1e9, dtype=torch.float64))
    assert (far == 10).all()  # a network sees an edge


def test_with_several_orders_a_feature_says_that_a_cell_is_seen() -> None:
    x = rows("numbers", 7)
    for p in (Bits([0, 1], several=True), Numbers([0, 1], [0, 0], 3, several=True)):
        f = p.features(x)
        assert f.shape == (7, M, 2) and (f[..., 1] == 1).all()


def test_some_of_the_columns_are_those_columns() -> None:
    for name in ("bits", "levels", "numbers", "whole"):
        p, x = part(name), rows(name)
        p.fit(x)
        theta, one = parameters(p, len(x)), slice(1, 2)
        assert torch.equal(p.features(x[:, one], one), p.features(x)[:, one])
        some = p.log_prob(theta[:, one], x[:, one], one)
        torch.testing.assert_close(some, p.log_prob(theta, x)[:, one])


def test_columns_are_picked_by_their_place() -> None:
    x = torch.arange(12.0).reshape(3, 4)
    assert torch.equal(Levels([3, 1], 2).of(x), x[:, [3, 1]])
    assert Levels([0, 1, 2, 3], 2).of(x) is x


# ---------------------------------------------------------------------- on the marginal's scale


def scored(K: int = 3) -> tuple[Scored, Space, Tensor]:
    """A whole number, a real number, and one that is 0 in two rows of five; fitted."""
    r = np.random.default_rng(1)
    n = 500
    x = pd.DataFrame(
        {
            "count": r.poisson(40.0, n) + 3,
            "real": 50 + 4 * r.standard_t(3, n),
            "rain": np.where(r.random(n) < 0.4, 0.0, r.exponential(2.0, n)),
        }
    )
    space = Space.of(x)
    p = Scored(space, [0, 1, 2], K)
    codes = space.encode(x).double()
    p.prepare(codes)
    return p, space, codes


def loud(p: Scored, n: int = 1) -> Tensor:
    """Parameters far from the start."""
    noise = torch.randn(1, 3, p.n_out, generator=generator(3), dtype=torch.float64)
    return noise.expand(n, -1, -1)


def test_scored_numbers_start_near_their_marginals_and_keep_a_share_of_them() -> None:
    p, _, x = scored()
    own = p.marginal_.look(x)[2]
    theta = p.fit(x).double()
    start = p.log_prob(theta.expand(len(x), -1, -1), p.cells(x))
    assert ((start - own).mean(0).abs() < 0.05).all()
    wrong = theta.clone()
    wrong[:, 3:6], wrong[:, 6:] = 30.0, -10.0  # all but the share lies where nothing is
    floor = p.log_prob(wrong.expand(len(x), -1, -1), p.cells(x))
    torch.testing.assert_close(floor, own + math.log(SHARE), rtol=1e-4, atol=1e-4)


def test_masses_and_densities_of_scored_numbers_sum_to_one() -> None:
    p, space, _ = scored()
    low, high = -space.columns[0].low, 400  # codes below and above all that were seen
    whole = torch.arange(low, high).double()
    step = 0.01
    real = torch.arange(-2000, 2000, step).double()
    rain = torch.cat([torch.zeros(1).double(), torch.arange(step / 2, 400, step).double()])
    for j, grid in enumerate((whole, real, rain)):
        x = torch.full((len(grid), 3), 1.0, dtype=torch.float64)
        x[:, j] = grid
        p_x = p.log_prob(loud(p, len(x)), p.cells(x))[:, j].exp()
        if j == 1:
            p_x = p_x * step
        if j == 2:
            assert p_x[0] > 0.01  # an atom
            p_x[1:] *= step
        assert float(p_x.sum()) == pytest.approx(1, abs=1e-2)
    assert p_below(p) > 0


def p_below(p: Scored) -> float:
    """The mass of whole numbers less than the least that was seen."""
    x = torch.tensor([[-1.0, 1.0, 1.0]]).double()
    return float(p.log_prob(loud(p), p.cells(x))[0, 0].exp())


def test_draws_of_scored_numbers_have_their_masses() -> None:
    p, _, _ = scored()
    n = 20_000
    drawn = p.draw(loud(p, n), ALL, generator(0))
    assert (drawn[:, 0] == drawn[:, 0].round()).all() and (drawn[:, 2] >= 0).all()
    values, counts = drawn[:, 0].unique(return_counts=True)
    x = torch.ones(len(values), 3).double()
    x[:, 0] = values
    mass = p.log_prob(loud(p, len(x)), p.cells(x))[:, 0].exp()
    assert (counts / n - mass).abs().max() < 0.015
    zero = p.log_prob(loud(p), p.cells(torch.zeros(1, 3).double()))[0, 2].exp()
    assert float((drawn[:, 2] == 0).double().mean()) == pytest.approx(float(zero), abs=0.015)


def test_features_of_scored_numbers_are_the_middles_of_their_cells() -> None:
    p, _, x = scored()
    f = p.features(p.cells(x))
    assert (f[..., 1] == 1).all() and f[..., 0].abs().max() <= 5
    assert f[..., 0].mean(0).abs().max() < 0.1  # standard normal, but for the middles
    zero = f[x[:, 2] == 0, 2, 0]
    share = float((x[:, 2] == 0).double().mean())
    assert float(zero[0]) == pytest.approx(stats.norm.ppf(share / 2), abs=0.02)
    one = slice(1, 2)
    assert torch.equal(p.features(p.cells(x[:, one], one), one), f[:, one])
    theta = loud(p, len(x))
    some = p.log_prob(theta[:, one], p.cells(x[:, one], one), one)
    torch.testing.assert_close(some, p.log_prob(theta, p.cells(x))[:, one])


def test_a_gap_leaves_every_gradient_finite() -> None:
    p, _, x = scored()
    x = x[:8].clone()
    x[::2] = math.nan
    theta = loud(p, 8).clone().requires_grad_()
    log_p = p.log_prob(theta, p.cells(x)).masked_fill(torch.isnan(x), 0.0)
    log_p.sum().backward()
    assert torch.isfinite(theta.grad).all() and (theta.grad[::2] == 0).all()


def test_whole_numbers_without_ends_have_tails_on_both_sides() -> None:
    p = Numbers([0], [5], K=2, several=False, ends=False)
    x = torch.from_numpy(RNG.binomial(4, 0.5, (200, 1))).double()
    theta = p.fit(x)
    every = torch.arange(-60.0, 60.0).double()[:, None]
    mass = p.log_prob(theta.expand(len(every), -1, -1), every).exp()
    assert float(mass.sum()) == pytest.approx(1, abs=1e-6)
    assert mass[(every < 0) | (every > 4)].sum() > 1e-4
    drawn = p.draw(theta.expand(20_000, -1, -1), ALL, generator(0))
    assert (drawn == drawn.round()).all() and drawn.min() < 0


def test_rows_lose_cells_where_there_may_be_gaps() -> None:
    bits, gap = torch.zeros(3, 2), torch.full((3, 2), math.nan)
    assert not loses(Space((2,), "binary"), bits) and loses(Space((2,), "binary"), gap)
    assert loses(Space((2,)), bits) and not loses(Space((2,), "ordinal", 3), bits)
    cells = lost(8000, 10, generator(0))
    rows = cells.any(1).double().mean()
    assert 0.08 < float(rows) < 0.125  # of one in eight, a share that is drawn
    assert float(cells.double().mean()) == pytest.approx(1 / 16, abs=0.01)


# ---------------------------------------------------------------------- very many words


def test_rare_words_share_a_class_and_every_word_its_mass(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Merged, "kept", 3)
    p = Wide([0], 10)
    x = torch.tensor([5.0] * 40 + [2.0] * 30 + [7.0] * 20 + [0.0] * 6 + [9.0] * 4)[:, None].double()
    p.prepare(x)
    theta = p.fit(x).double()
    assert p.n_in == p.n_out == 4
    every = torch.arange(10.0)[:, None].double()
    mass = p.log_prob(theta.expand(10, -1, -1), p.cells(every)).exp()[:, 0]
    assert float(mass.sum()) == pytest.approx(1, abs=1e-9)
    assert mass[5] > mass[2] > mass[7] > mass[0] > mass[9] > mass[1] > 0
    f = p.features(p.cells(every))
    assert torch.equal(f[0], f[9]) and not torch.equal(f[5], f[2])
    drawn = p.draw(theta.expand(20_000, -1, -1), ALL, generator(0))[:, 0]
    shares = torch.bincount(drawn.long(), minlength=10) / 20_000
    assert (shares - mass).abs().max() < 0.015
