"""MADE: each parameter sees the columns before its own, and what is exact is exact."""

from __future__ import annotations

import itertools
import math
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.stats import norm
from torch import Tensor

import genus
from genus import MADE, MLP, Trainer
from genus.learn.rows import generator
from genus.models.autoregressive.made import Mask, correlated_order
from genus.samplers.particles import enough

QUICK = Trainer(epochs=12, batch_size=32, lr=1e-2, validation=0.0, progress=False)
BITS = np.array(list(itertools.product([0.0, 1.0], repeat=10)))


def table(n: int = 200) -> pd.DataFrame:
    """A column of every sort, each dependent on one bit."""
    r = np.random.default_rng(0)
    a = r.random(n) < 0.5
    return pd.DataFrame(
        {
            "bit": a ^ (r.random(n) < 0.1),
            "word": np.where(a, "yes", r.choice(["no", "maybe"], n)),
            "x": np.where(a, 30.0, 20.0) + r.normal(size=n),
            "age": np.where(a, 60, 20) + r.integers(0, 30, n),
            "y": r.normal(size=n) * np.where(a, 1e4, 1e3),
        }
    )


@cache
def bits(n_orders: int = 1) -> MADE:
    """Fitted to 300 rows of ten dependent bits."""
    r = np.random.default_rng(1)
    rows = BITS[r.choice(1024, 300, p=r.dirichlet(np.full(1024, 0.05)))]
    return MADE(MLP(24, 2, "tanh"), n_orders, trainer=QUICK, random_state=0).fit(rows)


@cache
def mixed(n_orders: int = 2, order: Any = (3, 0, 4, 1, 2), marginals: str | None = None) -> MADE:
    return MADE(
        MLP(16, 2),
        n_orders,
        order,
        n_components=4,
        max_logits=8,
        marginals=marginals,
        trainer=QUICK,
        random_state=0,
    ).fit(table(), space={"age": "ordinal"})


def codes(model: MADE, X: Any) -> Tensor:
    return model.space_.encode(X).double().flatten(1)


# ---------------------------------------------------------------------- the chain rule


@pytest.mark.parametrize("model", [bits, mixed], ids=["bits", "mixed"])
@pytest.mark.parametrize("o", [0, 1, 2])
def test_the_jacobian_is_strictly_triangular_in_every_order(model: Any, o: int) -> None:
    made = model(3).made_
    rng = generator(0)
    for p in made.parameters():  # no zero of a weight stands in for a mask
        p.data = torch.randn(p.shape, generator=rng)
    made.act = torch.nn.Softplus()
    f = torch.randn(made.n_in, generator=rng, dtype=torch.float64)
    J = torch.autograd.functional.jacobian(lambda v: made(v[None], o)[0], f)
    place = made.orders_[o].argsort()
    before = place[made.column_out][:, None] > place[made.column_in]
    assert (J[~before] == 0).all()
    assert (J[before] != 0).all()  # and nothing that may be seen is hidden
    model.cache_clear()


@pytest.mark.parametrize("n_orders", [1, 3])
def test_probabilities_of_all_vectors_sum_to_one(n_orders: int) -> None:
    assert math.isclose(np.exp(bits(n_orders).score_samples(BITS)).sum(), 1, abs_tol=1e-9)


def test_orders_are_averaged_as_probabilities() -> None:
    model, x = bits(3), torch.from_numpy(BITS[::7])
    by_order = np.stack([model.log_p(x, o).detach().sum(1).numpy() for o in range(3)])
    assert np.ptp(by_order, axis=0).max() > 0.01
    np.testing.assert_allclose(
        model.score_samples(BITS[::7]), np.log(np.exp(by_order).mean(0)), rtol=1e-12
    )
    assert model.made_.orders_[0].tolist() == list(range(10)) and not torch.equal(
        model.made_.orders_[1], model.made_.orders_[2]
    )


def test_an_order_is_followed() -> None:
    model = mixed(1)
    x = codes(model, table(5))
    first = model.log_p(x)[:, 3]
    x[:, [0, 1, 2, 4]] = x[[1, 2, 3, 4, 0]][:, [0, 1, 2, 4]]
    assert torch.equal(model.log_p(x)[:, 3], first)  # "age" comes first: nothing else counts
    assert not torch.allclose(model.log_p(x)[:, 2], model.log_p(codes(model, table(5)))[:, 2])


def test_a_learned_order_grows_along_the_strongest_links() -> None:
    r = np.random.default_rng(0)
    a = r.normal(size=4000)
    b = a + 0.3 * r.normal(size=4000)
    c = b + 0.6 * r.normal(size=4000)
    d = c + 1.5 * r.normal(size=4000)
    f = torch.from_numpy(np.stack([d, r.normal(size=4000), b, c, a], 1))
    assert (
        correlated_order(f, torch.arange(5)).tolist()[1:] == [4, 3, 0, 1]
        and int(correlated_order(f, torch.arange(5))[0]) == 2
    )
    model = MADE(MLP(4, 1), order="learned", trainer=QUICK.replace(epochs=1), random_state=0).fit(
        f.numpy()
    )
    assert model.made_.orders_.tolist() == [[2, 4, 3, 0, 1]]
    x = f[:4]
    moved = x.clone()
    moved[:, 4] += 1  # of "b", before it, nothing changes
    assert torch.equal(model.log_p(x)[:, 2], model.log_p(moved)[:, 2])


def test_the_skip_connection_carries_what_one_hidden_unit_cannot() -> None:
    r = np.random.default_rng(0)
    x = np.empty((400, 8))
    x[:, 0] = r.random(400) < 0.5
    for j in range(1, 8):
        x[:, j] = np.abs(x[:, j - 1] - (r.random(400) < 0.05))
    model = MADE(MLP(1, 1), trainer=QUICK.replace(epochs=30, lr=5e-2), random_state=0).fit(x)
    with_skip = model.score(x)
    assert with_skip > -0.7 - 7 * 0.22
    model.made_.S.weight.data.zero_()
    assert model.score(x) < with_skip - 1


def test_dropout_hides_whole_columns_while_training_only() -> None:
    model = MADE(MLP(8, 1, dropout=0.999), prior=0, trainer=QUICK, random_state=0).fit(
        bits().sample(200)
    )
    plain = MADE(MLP(8, 1), prior=0, trainer=QUICK, random_state=0).fit(bits().sample(200))
    X = bits().sample(200)
    assert plain.score(X) > model.score(X) + 0.1  # it has seen nothing but its own column
    assert model.score(X) == model.score(X)


def test_the_prior_is_maximised_with_the_likelihood() -> None:
    X = bits().sample(200)
    fitted = [
        MADE(MLP(8, 1), prior=a, trainer=QUICK.replace(epochs=40), random_state=0).fit(X)
        for a in (0.0, 1.0, 1e4)
    ]
    sizes = [float(m.made_.size().detach()) for m in fitted]
    assert sizes[0] > 1.2 * sizes[1] > 10 * sizes[2]
    base = genus.Independent().fit(X).score(X)
    # only biases are left
    assert fitted[2].score(X) == pytest.approx(base, abs=0.03) and fitted[1].score(X) > base + 0.1
    model = fitted[1]
    x = codes(model, X)
    ((_, loss),) = model.losses(x)
    # a mean over rows
    assert float(loss.detach()) == pytest.approx(-model.score(X) + sizes[1] / 200, rel=1e-5)


def test_slabs_leave_out_only_what_is_masked() -> None:
    rng = generator(0)
    row, column = torch.arange(300) * 400 // 300, torch.arange(400)
    W, b, x = (
        torch.randn(*shape, generator=rng, dtype=torch.float64)
        for shape in ((300, 400), (300,), (5, 400))
    )
    for seen, several in (
        (row[:, None] >= column, True),
        ((row[:, None] >= column)[:, torch.randperm(400, generator=rng)], False),
    ):
        mask = Mask(seen)
        assert (len(mask.ends) > 1) == several
        torch.testing.assert_close(mask.linear(x, W, b), x @ (W * seen).T + b)


# ---------------------------------------------------------------------- conditionals


def test_a_real_column_has_a_mixture_of_normals_in_the_units_of_the_data() -> None:
    model = mixed(marginals="affine")
    part = next(p for p in model.parts_ if p.columns.tolist() == [2, 4])
    theta = torch.randn(3, 2, 12, generator=generator(0), dtype=torch.float64)
    x = torch.tensor([[25.0, 10.0], [20.0, -3000.0], [33.0, 1e5]], dtype=torch.float64)
    log_pi, mu, sigma = (t.numpy() for t in part._mixture(theta))
    scale, shift = part.scale_.numpy()[:, None], part.shift_.numpy()[:, None]
    truth = np.log(
        (np.exp(log_pi) * norm.pdf(x.numpy()[..., None], mu * scale + shift, sigma * scale)).sum(-1)
    )
    np.testing.assert_allclose(part.log_prob(theta, x), truth, rtol=1e-9)


def test_levels_have_masses_that_sum_to_one() -> None:
    model = mixed(marginals="affine")
    part = next(p for p in model.parts_ if p.columns.tolist() == [3])
    assert part.whole and int(part.levels) > 8
    theta = torch.randn(1, 1, 12, generator=generator(0), dtype=torch.float64)
    x = torch.arange(int(part.levels), dtype=torch.float64)[:, None]
    mass = part.log_prob(theta.expand(len(x), 1, 12), x).exp()
    assert math.isclose(float(mass.sum()), 1, abs_tol=1e-9)
    draws = part.draw(theta.expand(20000, 1, 12), slice(0, 1), generator(0))[:, 0]
    shares = torch.bincount(draws.long(), minlength=len(x)) / 20000
    assert 0.5 * float((shares - mass[:, 0]).abs().sum()) < 0.03


def test_it_starts_at_the_marginals() -> None:
    X = table(400)
    model = MADE(n_components=20, trainer=QUICK.replace(epochs=1, lr=1e-12), random_state=0).fit(X)
    terms = model.log_p(codes(model, X)).detach().mean(0)
    share = X["bit"].mean()
    assert float(terms[0]) == pytest.approx(
        share * np.log(share) + (1 - share) * np.log(1 - share), abs=1e-3
    )
    assert float(terms[2]) > norm.logpdf(X["x"], X["x"].mean(), X["x"].std()).mean()


# ---------------------------------------------------------------------- draws


@pytest.mark.parametrize("model", [bits, mixed], ids=["bits", "mixed"])
def test_units_computed_once_give_what_the_whole_network_gives(model: Any) -> None:
    model = model(2)
    x = codes(model, model.sample(50, random_state=0))
    for o in range(2):
        y, log_w = model._walk(x, o, 1, generator(0))
        assert torch.equal(y, x)
        torch.testing.assert_close(log_w[:, 0], model.log_p(x, o).sum(1), rtol=1e-9, atol=1e-9)


def test_draws_come_from_every_order() -> None:
    model = bits(3)
    p = np.exp(model.score_samples(BITS))
    place = model.sample(20000, random_state=0) @ (2 ** np.arange(9, -1, -1))
    shares = np.bincount(place.astype(int), minlength=1024) / 20000
    chance = np.sqrt(2 * p * (1 - p) / (math.pi * 20000)).sum() / 2
    assert 0.5 * np.abs(shares - p).sum() < 1.1 * chance + 0.01


def test_weights_of_copies_are_an_unbiased_estimate_of_what_is_observed() -> None:
    model = bits(2)
    seen = torch.full((2000, 10), math.nan, dtype=torch.float64)
    seen[:, [3, 6, 8, 9]] = torch.tensor([1.0, 0.0, 1.0, 0.0], dtype=torch.float64)
    match = (BITS[:, [3, 6, 8, 9]] == [1, 0, 1, 0]).all(1)
    for o in range(2):
        log_w = model._walk(seen, o, 8, generator(o))[1]
        truth = float(model.log_p(torch.from_numpy(BITS[match]), o).sum(1).exp().sum().detach())
        w = log_w.exp().mean(1).detach()
        assert abs(float(w.detach().mean()) - truth) < 4 * float(w.std()) / math.sqrt(len(w))


@pytest.mark.parametrize("n_orders", [1, 3])
def test_completions_follow_the_conditional_wherever_the_gaps_are(n_orders: int) -> None:
    model = bits(n_orders)
    gaps = np.zeros(10, dtype=bool)
    gaps[[0, 1, 4, 7]] = True
    row = model.sample(1, random_state=5)[0]
    match = (BITS[:, ~gaps] == row[~gaps]).all(1)
    p = np.exp(model.score_samples(BITS[match]))
    filled = model.complete(np.repeat(row[None], 2000, 0), mask=gaps[None], random_state=0)
    assert (filled[:, ~gaps] == row[~gaps]).all()
    shares = np.bincount((filled[:, gaps] @ [8, 4, 2, 1]).astype(int), minlength=16) / 2000
    assert 0.5 * np.abs(shares - p / p.sum()).sum() < 0.05


def test_gaps_that_come_last_take_one_copy(monkeypatch: pytest.MonkeyPatch) -> None:
    model, copies = bits(), []
    X, walk = model.sample(4, random_state=0), MADE._walk
    monkeypatch.setattr(
        MADE, "_walk", lambda self, x, o, k, *rest: copies.append(k) or walk(self, x, o, k, *rest)
    )
    model.complete(X, mask=(np.arange(10) > 6)[None], random_state=0)
    model.complete(X, mask=(np.arange(10) < 6)[None], random_state=0)
    assert copies == [1, model.particles]


# ---------------------------------------------------------------------- columns as they are


def test_numbers_and_words_beyond_those_seen_are_scored() -> None:
    model = MADE(MLP(16, 1), trainer=QUICK, random_state=0).fit(table())
    X = table(4).assign(age=[0, 300, 50, 50], word=["yes", "yes", "never", "no"])
    X.loc[3, "y"] = 1e9
    p = model.log_prob(X)
    assert np.isfinite(p.nats).all() and isinstance(p, genus.Exact)
    own = genus.Independent().fit(table()).log_prob(X).nats
    assert (p.nats > own + 5 * math.log(0.01)).all()  # no row is bottomless


@pytest.mark.parametrize("gaps", [False, True], ids=["whole", "with gaps"])
def test_what_is_missing_is_left_out(gaps: bool) -> None:
    X = table(400)
    if gaps:
        X["x"] = X["x"].mask(np.arange(400) % 3 == 0)
        X["word"] = X["word"].mask(np.arange(400) % 5 == 0)
    model = MADE(MLP(32, 1), trainer=QUICK.replace(epochs=40), random_state=0).fit(X)
    rows = table(300)
    rows["x"] = math.nan
    seen = ["bit", "word", "age", "y"]
    alone = MADE(MLP(32, 1), trainer=QUICK.replace(epochs=40), random_state=0).fit(table(400)[seen])
    assert model.score(rows) == pytest.approx(alone.score(rows[seen]), abs=0.25)
    assert model.log_prob(rows).dims.tolist() == [4] * 300
    one, many = model.log_prob(rows[:1]).nats, model.log_prob(rows).nats
    np.testing.assert_allclose(one, many[:1], rtol=1e-9)


def test_probabilities_of_what_is_observed_sum_to_one() -> None:
    states = np.full((64, 10), math.nan)
    states[:, [0, 2, 3, 5, 7, 9]] = np.array(list(itertools.product([0.0, 1.0], repeat=6)))
    assert math.isclose(np.exp(bits(2).score_samples(states)).sum(), 1, abs_tol=1e-9)


def test_rows_with_gaps_learn_that_a_gap_tells() -> None:
    """A cell that is missing where another is high: what is seen as missing, not as the mean."""
    r = np.random.default_rng(0)
    high = r.random(600) < 0.5
    X = pd.DataFrame(
        {"a": np.where(high, np.nan, r.normal(size=600)), "b": high + 0.1 * r.normal(size=600)}
    )
    model = MADE(MLP(16, 1), n_components=2, trainer=QUICK.replace(epochs=30), random_state=0).fit(
        X
    )
    half = X.assign(a=np.where(high, np.nan, 0.0))
    flipped = X.assign(a=np.where(high, 0.0, np.nan))
    assert model.score(half) > model.score(flipped) + 1


def test_no_columns_are_dropped_by_default() -> None:
    """Dropping a fifth of the columns cost up to ten nats on tables of numbers."""
    r = np.random.default_rng(0)
    a = r.normal(size=(800, 1))
    X = np.hstack([a + 0.01 * r.normal(size=(800, 1)) for _ in range(6)])
    quick = QUICK.replace(epochs=40, batch_size=64)
    plain = MADE(trainer=quick, random_state=0).fit(X)
    dropped = MADE(MLP(512, 1, dropout=0.2), trainer=quick, random_state=0).fit(X)
    assert plain.score(X) > dropped.score(X) + 2


def test_atoms_bounds_and_decimals_are_drawn() -> None:
    r = np.random.default_rng(0)
    wet = r.random(800) < 0.3
    X = pd.DataFrame({"wet": wet, "rain": np.where(wet, r.exponential(3, 800).round(1), 0.0)})
    model = MADE(MLP(32, 1), trainer=QUICK.replace(epochs=30), random_state=0).fit(X)
    drawn = model.sample(2000, random_state=0)
    assert (drawn["rain"] >= 0).all() and np.allclose(drawn["rain"], drawn["rain"].round(1))
    assert (drawn["rain"] == 0).mean() == pytest.approx((X["rain"] == 0).mean(), abs=0.05)
    dry = drawn.loc[~drawn["wet"].astype(bool), "rain"]
    assert (dry == 0).mean() > 0.9


@pytest.mark.parametrize("n_orders", [1, 2])
def test_many_completions_are_one_pass(n_orders: int, monkeypatch: pytest.MonkeyPatch) -> None:
    model = bits(n_orders)
    row = torch.from_numpy(model.sample(1, random_state=5).astype(float))
    seen = row.clone()
    gaps = [0, 1, 4]
    seen[:, gaps] = math.nan
    walks, walk = [], MADE._walk
    monkeypatch.setattr(
        MADE, "_walk", lambda self, x, o, k, *rest: walks.append(k) or walk(self, x, o, k, *rest)
    )
    filled = model._complete_many(seen.repeat(3, 1), 2000, generator(0))
    assert filled.shape == (2000, 3, 10) and walks == [enough(model.particles, 2000)] * n_orders
    match = (BITS[:, [j for j in range(10) if j not in gaps]] == np.delete(row[0], gaps)).all(1)
    p = np.exp(model.score_samples(BITS[match]))
    first = filled[:, 1][:, gaps].numpy() @ [4, 2, 1]
    shares = np.bincount(first.astype(int), minlength=8) / 2000
    assert 0.5 * np.abs(shares - p / p.sum()).sum() < 0.06


# ---------------------------------------------------------------------- conditions


@cache
def conditional() -> tuple[MADE, pd.DataFrame, np.ndarray]:
    """Four bits and a real column, which a word and a number decide."""
    r = np.random.default_rng(2)
    words, number = r.choice(["low", "high"], 600), r.normal(size=600)
    rate = np.where(words == "high", 0.9, 0.1)
    X = pd.DataFrame(
        {f"b{j}": r.random(600) < (rate if j % 2 == 0 else 1 - rate) for j in range(4)}
        | {"y": 20 * number + r.normal(size=600)}
    )
    G = pd.DataFrame({"word": words, "number": 1000 + 50 * number})
    return (
        MADE(
            MLP(16, 1, dropout=0.1),
            2,
            n_components=2,
            trainer=QUICK.replace(epochs=25, batch_size=64),
            random_state=0,
        ).fit(X, given=G),
        X,
        G,
    )


def test_conditions_are_seen_by_every_column_and_never_dropped() -> None:
    model, X, G = conditional()
    made = model.made_
    assert (made.column_in < 0).sum() == 3  # two words, a number
    for o in range(2):
        seen = made.masks(o)
        assert all(bool((seen[i].seen[:, made.column_in < 0] == 1).all()) for i in (0, 3))
    x, g = codes(model, X), model.given_space_.encode(G).double()
    (context,) = model._context(g, torch.float64)
    np.testing.assert_allclose(
        context[:, -1], (G["number"] - G["number"].mean()) / G["number"].std(ddof=0), atol=1e-6
    )
    first = int(made.orders_[0][0])  # sees the conditions alone
    by_word = [
        model.log_p(x[:1], 0, given=torch.tensor([[w, 1000.0]])).detach()[0, first]
        for w in (0.0, 1.0)
    ]
    assert abs(float(by_word[0] - by_word[1])) > 1
    assert model.log_prob(X, given=G).mean() > model.log_prob(X, given=G[::-1]).mean() + 5
    plain = MADE(MLP(16, 1), n_components=2, trainer=QUICK, random_state=0).fit(X)
    assert model.log_prob(X, given=G).mean() > plain.score(X) + 1


def test_draws_and_completions_follow_the_condition(tmp_path: Path) -> None:
    model, X, G = conditional()
    g = pd.DataFrame({"word": ["high", "low"] * 500, "number": np.linspace(900, 1100, 1000)})
    drawn = model.sample(1000, given=g, random_state=0)
    assert drawn["b0"][::2].mean() == pytest.approx(0.9, abs=0.07) and drawn["b0"][
        1::2
    ].mean() == pytest.approx(0.1, abs=0.07)
    assert np.corrcoef(drawn["y"], g["number"])[0, 1] > 0.95
    gaps = drawn.astype(object).mask(np.array([[True, False, True, False, True]] * 1000))
    mask = gaps.isna().to_numpy()
    filled = model.complete(drawn, mask=mask, given=g, random_state=1)
    assert (filled[["b1", "b3"]] == drawn[["b1", "b3"]]).all(axis=None)
    assert (
        filled["b0"][::2].mean() > 0.8
        and filled["b0"][1::2].mean() < 0.2
        and np.corrcoef(filled["y"], g["number"])[0, 1] > 0.95
    )
    for call in (
        lambda: model.sample(3),
        lambda: model.score(X),
        lambda: model.complete(drawn, mask=mask),
    ):
        with pytest.raises(ValueError, match="pass given="):
            call()
    model.save(tmp_path / "made")
    again = genus.load(tmp_path / "made")
    np.testing.assert_array_equal(again.log_prob(X, given=G).nats, model.log_prob(X, given=G).nats)
    np.testing.assert_allclose(
        model.log_prob(X[5:6], given=G[5:6]).nats, model.log_prob(X, given=G).nats[5:6], rtol=1e-12
    )


def test_conditions_far_from_0_keep_their_precision() -> None:
    r = np.random.default_rng(0)
    g = r.normal(size=(300, 1))
    X = (g + 0.3 * r.normal(size=(300, 3)) > 0).astype(int)
    quick = QUICK.replace(max_steps=50)
    near, far = (
        MADE(MLP(16, 1), trainer=quick, random_state=0).fit(X, given=g + offset)
        for offset in (0, 1e8)
    )
    x, codes = torch.from_numpy(X).double(), torch.from_numpy(g + 1e8)
    with torch.no_grad():
        p, expected = far.log_p(x, given=codes), near.log_p(x, given=codes - 1e8)
    np.testing.assert_allclose(p, expected, atol=1e-3)
    np.testing.assert_allclose(far.log_prob(X, given=g + 1e8).nats, p.sum(1), atol=1e-3)


def test_conditional_probabilities_sum_to_one_for_every_condition() -> None:
    r = np.random.default_rng(3)
    label = r.integers(0, 3, 200)
    model = MADE(MLP(8, 1), 2, trainer=QUICK, random_state=0).fit(
        BITS[r.integers(1024, size=200)] * (label[:, None] > 0), given=label
    )
    for v in range(3):
        assert math.isclose(np.exp(model.log_prob(BITS, given=v).nats).sum(), 1, abs_tol=1e-9)


# ------------------------------------------------------------------ what it refuses, what it learns


@pytest.mark.parametrize(
    ("args", "says"),
    [
        ({"n_orders": 0}, "n_orders=0: a whole number"),
        ({"n_components": 1.5}, "n_components=1.5: a whole number"),
        ({"max_logits": 0}, "max_logits=0: a whole number"),
        ({"prior": -1.0}, "prior=-1.0: a number of at least 0"),
        ({"order": [0, 1]}, "X has 10 columns, so a permutation"),
        ({"order": [0] * 10}, "a permutation of 0 … 9 is needed"),
        ({"order": "best"}, "'learned', a permutation of the columns by number or None"),
        ({"hidden": genus.Conv()}, "hidden=Conv.*: genus.MLP.*masked"),
        ({"hidden": MLP(8, 0)}, "MLP.depth=0.: a whole number of at least 1"),
        ({"hidden": MLP(8, 1, dropout=1.0)}, "dropout=1.0.: a number of at least 0 and below 1"),
    ],
)
def test_what_it_refuses(args: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        MADE(**args, trainer=QUICK, random_state=0).fit(BITS)


@pytest.mark.parametrize("order", [None, "learned", (3, 0, 4, 1, 2)])
def test_a_file_holds_the_orders(order: Any, tmp_path: Path) -> None:
    model = MADE(MLP(7, 2), 2, order, trainer=QUICK.replace(epochs=1), random_state=0).fit(table())
    model.save(tmp_path / "made")
    again = genus.load(tmp_path / "made")
    assert torch.equal(again.made_.orders_, model.made_.orders_)
    assert np.array_equal(again.score_samples(table()), model.score_samples(table()))
    assert again.sample(5, random_state=0).equals(model.sample(5, random_state=0))
    degree = again.made_.degree
    assert again.made_.ends == [int((degree <= t).sum()) for t in range(5)]


def test_it_learns_a_table() -> None:
    train, test = table(400), table(900)[400:]
    own = MADE(MLP(32, 1), trainer=QUICK.replace(validation=0.2), random_state=0).fit(train)
    base = genus.Independent().fit(train)
    p = own.log_prob(test)
    assert isinstance(p, genus.likelihood.Exact) and p.measure == "mixed"
    assert p.mean() > base.score(test) + 0.5
