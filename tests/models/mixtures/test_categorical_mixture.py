"""The mixture of categorical distributions against enumeration, a histogram and itself."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats
from scipy.special import logsumexp
from sklearn.exceptions import ConvergenceWarning

from genus import CategoricalMixture, Independent
from genus.learn import starts
from genus.models.mixtures import categorical_mixture

CARDS = (2, 3, 4)
PI = np.array([0.6, 0.4])
THETA = [
    np.array([[0.9, 0.1], [0.2, 0.8]]),
    np.array([[0.7, 0.2, 0.1], [0.1, 0.1, 0.8]]),
    np.array([[0.1, 0.1, 0.2, 0.6], [0.6, 0.2, 0.1, 0.1]]),
]
MEAN, STD = np.array([-2.0, 3.0]), np.array([1.0, 0.5])


def draws(n: int, seed: int = 0) -> pd.DataFrame:
    """Rows of a known mixture: three different discrete columns and a continuous one."""
    rng = np.random.default_rng(seed)
    k = rng.choice(2, n, p=PI)
    a, b, c = ((rng.random(n)[:, None] > t[k].cumsum(1)).sum(1) for t in THETA)
    words = np.array(["red", "green", "blue"])
    return pd.DataFrame(
        {"a": a == 1, "b": words[b], "c": c, "x": MEAN[k] + STD[k] * rng.normal(size=n)}
    )


def pierced(X: pd.DataFrame, share: float = 0.3, seed: int = 1) -> pd.DataFrame:
    holes = np.random.default_rng(seed).random(X.shape) < share
    return X.astype({"a": object, "c": float}).mask(holes)


def codes(X: pd.DataFrame) -> np.ndarray:
    """The same rows as numbers, words in alphabetic order."""
    b = X["b"].map({"blue": 0, "green": 1, "red": 2})
    return np.stack(
        [X["a"].astype(float), b.astype(float), X["c"].astype(float), X["x"].astype(float)], 1
    )


def fitted(**args: Any) -> CategoricalMixture:
    return CategoricalMixture(2, random_state=0, **args).fit(draws(400))


def places(m: CategoricalMixture, rows: np.ndarray) -> np.ndarray:
    """Levels and bins of rows of codes, NaN where missing."""
    if m.marginals == "affine":
        return rows[:, :3]
    codes = m.bins_.encode(torch.tensor(rows)).numpy()
    return np.where(codes < 0, np.nan, codes)


def brute(m: CategoricalMixture, row: np.ndarray) -> np.ndarray:
    """log π_k + log p(observed cells | k) of one row of codes."""
    out = m.weights_.log().numpy().copy()
    tables = m.log_p_.split([c for c in m._cards() if c], 1)
    for table, v in zip(tables, places(m, row[None])[0], strict=True):
        out += 0 if np.isnan(v) else table[:, int(v)].numpy()
    if m.marginals == "affine":
        return out + np.nan_to_num(stats.norm(*m.profiles()["x"].T).logpdf(row[3]))
    at = m.bins_.at.tolist()
    assert at == [2, 3]
    numbers = m.bins_.numbers_
    assert numbers is not None
    x = torch.tensor(row)[None, at]
    for j, log_p in enumerate(numbers.look(x)[2][0].tolist()):
        if np.isnan(row[at[j]]):
            continue
        ends = m.bins_.cuts_[j][torch.isfinite(m.bins_.cuts_[j])]
        before = numbers.look(ends[:, None].repeat(1, 2))[0][:, j]
        F = [0.0, *stats.norm.cdf(before.numpy()), 1.0]
        k = int((ends <= row[at[j]]).sum())
        out += log_p - np.log(F[k + 1] - F[k])
    return out


# ---------------------------------------------------------------------- one class, and known ones


@pytest.mark.parametrize("alpha", [1.0, 0.2])
def test_one_class_is_the_columns_on_their_own(alpha: float) -> None:
    X, held = draws(2000), draws(2000, seed=1)
    for rows in (X, pierced(X)):
        one = CategoricalMixture(1, pseudo_count=alpha).fit(rows[["a", "b"]])
        log_p = np.zeros(len(rows))
        for name, L in (("a", 2), ("b", 3)):
            seen = rows[name].dropna()
            share = (seen.value_counts() + alpha) / (len(seen) + alpha * L)
            log_p += np.log(rows[name].map(share).astype(float).fillna(1.0))
        new = 0.5 / (rows["b"].notna().sum() + 1)  # the share of words that were not seen
        log_p += np.log1p(-new) * rows["b"].notna()
        np.testing.assert_allclose(one.score_samples(rows[["a", "b"]]), log_p, atol=1e-6)
        one = CategoricalMixture(1, pseudo_count=alpha).fit(rows)
        assert one.score(held) == pytest.approx(Independent().fit(rows).score(held), abs=0.02)


def test_one_class_of_real_numbers_is_a_normal() -> None:
    x = draws(200)[["x"]]
    m = CategoricalMixture(1).fit(x.to_numpy())
    np.testing.assert_allclose(
        m.score_samples(x.to_numpy()),
        stats.norm(x.to_numpy().mean(), x.to_numpy().std()).logpdf(x.to_numpy())[:, 0],
    )


@pytest.mark.parametrize("marginals", ["learned", "affine"])
@pytest.mark.parametrize("narrow", [16, 0])
def test_scores_and_classes_by_hand(
    narrow: int, marginals: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One-hot products and look-ups give the same numbers, missing cells dropped."""
    monkeypatch.setattr(categorical_mixture, "NARROW", narrow)
    m, X = fitted(marginals=marginals), pierced(draws(60, seed=2), 0.4)
    each = np.array([brute(m, row) for row in codes(X)])
    new = np.where(X["b"].isna(), 0.0, np.log1p(-float(m.novelty_[1])))
    np.testing.assert_allclose(m.score_samples(X), logsumexp(each, axis=1) + new, atol=1e-6)
    np.testing.assert_allclose(
        m.predict_proba(X), np.exp(each - logsumexp(each, axis=1, keepdims=True)), atol=1e-9
    )
    assert (m.predict(X) == each.argmax(1)).all()
    p = m.log_prob(X)
    assert p.kind == "exact" and p.measure == "mixed"

    w = np.random.default_rng(3).exponential(size=60)
    sums = m.statistics(m.space_.encode(X).double(), torch.tensor(w))
    r = (np.exp(each - logsumexp(each, axis=1, keepdims=True)) * w[:, None]).T
    np.testing.assert_allclose(sums["count"], r.sum(1), atol=1e-9)
    levels = []
    for v, L in zip(places(m, codes(X)).T, [c for c in m._cards() if c], strict=True):
        levels += [r @ (v == i) for i in range(L)]
    np.testing.assert_allclose(sums["levels"], np.stack(levels, 1), atol=1e-9)
    if marginals == "learned":
        return
    z = (codes(X)[:, 3] - float(m._centre[0])) / float(m._spread[0])
    o = ~np.isnan(z)
    np.testing.assert_allclose(
        sums["moments"][:, :, 0], [r @ o, r[:, o] @ z[o], r[:, o] @ z[o] ** 2], atol=1e-9
    )
    assert float(sums["log_likelihood"]) == pytest.approx(w @ logsumexp(each, axis=1))


def test_whole_numbers_that_fit_never_saw_are_scored_and_have_mass() -> None:
    X = draws(300)[["a", "c"]]
    m = CategoricalMixture(3, random_state=0).fit(X)
    every = pd.DataFrame(list(itertools.product([False, True], range(60))), columns=list("ac"))
    p = np.exp(m.score_samples(every))
    assert p.sum() == pytest.approx(1, abs=1e-6) and (p > 0).all()  # none lies below 0
    assert (p.reshape(2, 60)[:, 4] < p.reshape(2, 60)[:, 3]).all()
    assert 1e-6 < p.reshape(2, 60)[:, 4:].sum() < 0.02
    old = CategoricalMixture(3, random_state=0, marginals="affine").fit(X)
    assert np.isneginf(old.score_samples(every)).sum() == 2 * 56  # all but 0 … 3


def test_wide_whole_numbers_have_bins_and_not_a_table_of_all_levels() -> None:
    """320 rows of one column of 13,000 levels that a word foretells."""
    rng = np.random.default_rng(0)
    big = rng.random(320) < 0.4
    X = pd.DataFrame(
        {
            "who": np.where(big, "firm", "person"),
            "limit": np.exp(np.where(big, 9.0, 7.5) + 0.3 * rng.normal(size=320)).astype(int),
        }
    )
    m = CategoricalMixture(2, random_state=0).fit(X)
    assert m.log_p_.shape[1] <= 2 + categorical_mixture.MOST
    far = pd.DataFrame({"who": ["firm"], "limit": [2 * X["limit"].max()]})
    assert -60 < m.score(far) < m.score(X) - 3
    draws = m.sample(4000, random_state=0)
    assert draws["limit"].dtype == X["limit"].dtype and draws["limit"].min() >= 0
    holes = X.assign(limit=np.nan)
    filled = m.complete(holes, how="mean")["limit"]
    mean = X.groupby("who")["limit"].transform("mean")
    assert np.abs(filled / mean - 1).max() < 0.15
    many = m.complete(holes.iloc[[0] * 4000].reset_index(drop=True), random_state=0)
    assert filled[0] == pytest.approx(many["limit"].mean(), rel=0.05)


def test_atoms_bounds_and_decimals_are_kept() -> None:
    rng = np.random.default_rng(0)
    wet = rng.random(1000) < 0.3
    rain = np.where(wet, rng.gamma(1.0, 5.0, 1000), 0.0).round(1)
    X = pd.DataFrame({"sky": np.where(wet, "grey", "blue"), "rain": rain})
    m = CategoricalMixture(2, random_state=0).fit(X)
    draws = m.sample(5000, random_state=0)
    dry = draws["rain"] == 0
    assert dry.mean() == pytest.approx((rain == 0).mean(), abs=0.03)
    assert (dry[draws["sky"] == "blue"]).mean() > 0.95 and draws["rain"].min() == 0
    np.testing.assert_allclose(draws["rain"], draws["rain"].round(1), atol=1e-9)
    assert m.score(X) > Independent().fit(X).score(X) + 0.4


def test_probabilities_sum_to_one_and_completions_follow_them() -> None:
    X = draws(300)[["a", "b", "c"]]
    m = CategoricalMixture(3, random_state=0).fit(X, space={"c": "categorical"})
    every = pd.DataFrame(
        list(itertools.product([False, True], ["blue", "green", "red"], range(4))),
        columns=list("abc"),
    )
    p = np.exp(m.score_samples(every)) / (1 - float(m.novelty_[1]))  # of words that were seen
    assert p.sum() == pytest.approx(1, abs=1e-6)
    n = 20_000
    row = pd.DataFrame({"a": [None], "b": ["red"], "c": [np.nan]})
    done = m.complete(pd.concat([row] * n, ignore_index=True), random_state=0)
    known = every["b"] == "red"
    truth = p[known] / p[known].sum()
    found = (
        done.groupby(["a", "c"])
        .size()
        .reindex(pd.MultiIndex.from_frame(every.loc[known, ["a", "c"]]), fill_value=0)
        / n
    )
    assert 0.5 * np.abs(found.to_numpy() - truth).sum() < 0.02
    alone = p.reshape(2, 3, 4).sum(1).reshape(-1)
    apart = 0.5 * np.abs(p[known] / p[known].sum() - alone).sum()
    assert apart > 0.1  # what is known tells something


# ---------------------------------------------------------------------- EM


@pytest.mark.parametrize("case", ["plain", "holes", "weights"])
def test_no_iteration_lowers_the_penalised_likelihood(case: str) -> None:
    X = pierced(draws(150)) if case == "holes" else draws(150)
    w = np.random.default_rng(6).exponential(size=150) if case == "weights" else np.ones(150)
    climb = []
    for n in range(1, 25):
        with pytest.warns(ConvergenceWarning) if n > 1 else pytest.MonkeyPatch.context():
            m = CategoricalMixture(4, pseudo_count=5.0, max_iter=n, tol=1e-300, random_state=1).fit(
                X, sample_weight=w
            )
        climb.append(float(w @ m.score_samples(X)) + m.log_prior())
    assert (np.diff(climb) > -1e-8).all() and climb[-1] > climb[0] + 0.4


@pytest.mark.parametrize("marginals", ["learned", "affine"])
def test_the_m_step_is_the_posterior_mode(marginals: str) -> None:
    """No small change of a class raises log-likelihood + log prior once EM has converged."""
    X = pierced(draws(300))
    m = CategoricalMixture(
        2, pseudo_count=3.0, tol=1e-13, max_iter=5000, marginals=marginals, random_state=0
    ).fit(X)
    x = m.space_.encode(X).double()

    def objective() -> float:
        return float(m._log_prob(x).nats.sum()) + m.log_prior()

    best = objective()
    rng = np.random.default_rng(0)
    normals = ("means_", "variances_") if marginals == "affine" else ()
    for name in ("weights_", "log_p_", *normals):
        keep = getattr(m, name).clone()
        for _ in range(10):
            step = torch.tensor(0.02 * rng.normal(size=keep.shape))
            if name == "weights_":
                value = keep * step.exp()
                value = value / value.sum()
            elif name == "log_p_":
                parts = [
                    torch.log_softmax(p, 1)
                    for p in (keep + step).split([c for c in m._cards() if c], 1)
                ]
                value = torch.cat(parts, 1)
            else:
                value = keep * (1 + step)
            setattr(m, name, value)
            assert objective() < best
        setattr(m, name, keep)


def test_the_classes_that_made_the_data_are_found() -> None:
    X = draws(5000, seed=4)
    for rows, marginals in ((X, "learned"), (pierced(X), "learned"), (pierced(X), "affine")):
        m = CategoricalMixture(2, random_state=0, tol=1e-7, marginals=marginals).fit(rows)
        order = np.argsort(m.profiles()["x"][:, 0])
        np.testing.assert_allclose(m.weights_.numpy()[order], PI, atol=0.03)
        found = m.profiles()["x"][order]
        if marginals == "affine":
            np.testing.assert_allclose(found, np.stack([MEAN, STD], 1), atol=0.1)
        else:  # a bin reaches from one class to the other
            np.testing.assert_allclose(found[:, 0], MEAN, atol=0.2)
        np.testing.assert_allclose(m.profiles()["a"][order], THETA[0], atol=0.05)
        np.testing.assert_allclose(m.profiles()["b"][order], THETA[1][:, ::-1], atol=0.05)
        if marginals == "affine":
            np.testing.assert_allclose(m.profiles()["c"][order], THETA[2], atol=0.05)
        else:
            mean = THETA[2] @ np.arange(4)
            np.testing.assert_allclose(m.profiles()["c"][order][:, 0], mean, atol=0.1)
    truth = np.log(PI) + stats.norm(MEAN, STD).logpdf(X[["x"]].to_numpy())
    assert (m.predict(X) == order[truth.argmax(1)]).mean() > 0.97


def test_missing_at_random_is_worth_more_than_dropping_rows() -> None:
    """The second bit is missing where the first is 1: complete rows know nothing of that case."""
    rng = np.random.default_rng(7)
    z = rng.random(6000) < 0.5
    X = (z[:, None] ^ (rng.random((6000, 4)) < 0.1)).astype(float)
    full = X.copy()
    X[X[:, 0] == 1, 1] = np.nan
    used, dropped = (
        CategoricalMixture(2, random_state=0).fit(x, space="binary")
        for x in (X, X[~np.isnan(X).any(1)])
    )
    assert used.score(full) > dropped.score(full) + 0.5
    best = CategoricalMixture(2, random_state=0).fit(full, space="binary").score(full)
    assert used.score(full) > best - 0.02


def test_a_weight_is_a_repetition() -> None:
    X = pierced(draws(90))
    w = np.random.default_rng(8).integers(0, 4, size=90)
    a = CategoricalMixture(3, random_state=0).fit(X, sample_weight=w)
    b = CategoricalMixture(3, random_state=0).fit(
        X.loc[np.repeat(X.index, w)].reset_index(drop=True), space=a.space_
    )
    for name in ("weights_", "log_p_", "means_", "variances_"):
        torch.testing.assert_close(getattr(a, name), getattr(b, name), rtol=1e-6, atol=1e-8)
    for bad in (np.ones((5, 2)), -np.ones(90), np.zeros(90), np.full(90, np.nan), np.ones(89)):
        with pytest.raises(ValueError, match="[wW]eight"):
            CategoricalMixture(2).fit(X, sample_weight=bad)


def test_n_init_keeps_the_best_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(starts, "TRIALS", 1)  # else one start is as good as ten
    X = draws(300, seed=9)
    kw: dict[str, Any] = {"max_iter": 8, "tol": 0, "random_state": 7}
    one, ten = (CategoricalMixture(5, n_init=n, **kw).fit(X) for n in (1, 10))
    assert ten.history_[-1]["objective"] < one.history_[-1]["objective"] - 1e-3
    # parameters and history of one start
    assert len(ten.history_) == 8 and ten.score(X) > -ten.history_[-1]["objective"] - 0.05


@pytest.mark.parametrize(("marginals", "less"), [("learned", 0.2), ("affine", 0.02)])
def test_a_stream_of_batches_approaches_the_whole(marginals: str, less: float) -> None:
    """Bins stay as the first batch made them."""
    X, held = draws(4000, seed=10), draws(1000, seed=11)
    whole = CategoricalMixture(2, random_state=0, marginals=marginals).fit(X)
    m = CategoricalMixture(2, random_state=0, marginals=marginals)
    for i in range(0, 4000, 200):
        m.partial_fit(X[i : i + 200])
    first = CategoricalMixture(2, random_state=0, marginals=marginals).fit(X[:200])
    assert m.n_batches_ == 20 and float(m._count.sum()) == pytest.approx(4000)
    assert m.score(held) > whole.score(held) - less and m.score(held) > first.score(held)


def test_stepwise_em_by_hand() -> None:
    """One class: shares of ones (1 − γ) a + γ b with γ = 3^−0.6, batches of unequal size."""
    a, b = np.array([[1], [0], [0], [0]] * 10), np.array([[1]] * 100)
    m = CategoricalMixture(1, pseudo_count=1e-9).partial_fit(a).partial_fit(b)
    g = 3**-0.6
    assert float(m.log_p_[0, 1].exp()) == pytest.approx((1 - g) * 0.25 + g)


def test_floors_and_constant_columns() -> None:
    X = draws(100).assign(same=7.0, atom=lambda t: np.where(t["a"], 0.0, t["x"]))
    new = CategoricalMixture(6, random_state=0).fit(X)
    assert (new.sample(50, random_state=0)["same"] == 7).all()
    assert new.score(X) > new.score(X.assign(same=8.0)) + 3
    m = CategoricalMixture(6, pseudo_count=1e-6, random_state=0, marginals="affine").fit(
        X, space={"same": "continuous"}
    )
    assert np.isfinite(m.score(X))
    spread = X["atom"].std(ddof=0)
    # a class of one value does not collapse
    assert m.profiles()["atom"][:, 1].min() >= 0.0099 * spread
    assert m.score(X) > m.score(X.assign(same=8.0)) + 3


def test_arguments_that_make_no_sense() -> None:
    X = draws(30)
    for name, bad in [
        ("n_components", 0),
        ("n_components", 2.5),
        ("pseudo_count", 0),
        ("n_init", 0),
        ("max_iter", 0),
        ("tol", -1),
        ("marginals", "plain"),
    ]:
        with pytest.raises(ValueError, match=name):
            CategoricalMixture(**{name: bad}).fit(X)
    with pytest.raises(ValueError, match="column 1 has no observed value"):
        CategoricalMixture(2).fit(np.array([[0, np.nan], [1, np.nan]]), space="binary")
    with pytest.warns(ConvergenceWarning, match="max_iter=2"):
        CategoricalMixture(3, max_iter=2, tol=1e-12).fit(X)
    old, new = fitted(marginals="affine"), fitted()
    assert old.n_parameters() == 1 + 2 * (1 + 2 + 3 + 2)
    tables = 1 + 2 * sum(c - 1 for c in new._cards())
    assert new.n_parameters() == tables + new.bins_.numbers_.n_parameters()
