"""Bayesian networks against enumeration, formulas written out, and graphs that are known."""

from __future__ import annotations

import doctest
import itertools
import math
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

import genus
from genus import BayesNet
from genus.models.graphs import bayesnet, tables

EXPERT = [("age", "salary"), ("marital", "salary"), ("salary", "label"), ("gender", "label")]


def people(n=300, seed=0):
    r = np.random.default_rng(seed)
    age, marital, gender = r.integers(0, 3, n), r.integers(0, 2, n), r.integers(0, 2, n)
    salary = (age + marital + r.integers(0, 2, n)).clip(0, 3) % 3
    label = (salary + gender + (r.random(n) < 0.2)) % 2
    frame = pd.DataFrame(
        {"age": age, "gender": gender, "marital": marital, "salary": salary, "label": label}
    )
    words = {"age": ["young", "grown", "old"], "salary": ["low", "middle", "high"]}
    return frame.assign(
        **{k: pd.Categorical(np.array(v)[frame[k]], categories=sorted(v)) for k, v in words.items()}
    )


def joint(model):
    """Every state of a fitted network as codes, and its probability by the printed tables."""
    labels = [model._labels(j) for j in range(model.space_.dim)]
    names = [model._name(j) for j in range(model.space_.dim)]
    codes = np.array(list(itertools.product(*(range(len(v)) for v in labels))))
    p = np.ones(len(codes))
    parents = {c: [a for a, b in model.edges_ if b == c] for c in names}
    for i, row in enumerate(codes):
        value = {n: labels[j][row[j]] for j, n in enumerate(names)}
        for n in names:
            at = tuple(value[a] for a in parents[n])
            p[i] *= model.cpt(n).loc[at[0] if len(at) == 1 else at or "p", value[n]]
    return codes, p.reshape([len(v) for v in labels])


def holes(X, share=0.3, seed=1):
    return X.mask(np.random.default_rng(seed).random(X.shape) < share)


@pytest.fixture(scope="module")
def expert():
    return BayesNet(EXPERT).fit(people())


def test_the_lecture_counts_its_tables():
    result = doctest.testmod(bayesnet)
    assert result.attempted >= 5 and result.failed == 0


# ---------------------------------------------------------------------- what it says


def test_tables_are_smoothed_counts(expert):
    X = people()
    some = X[(X["age"] == "old") & (X["marital"] == 1)]
    p = ((some["salary"] == "high").sum() + 1) / (len(some) + 3)
    assert expert.cpt("salary").loc[("old", 1), "high"] == pytest.approx(p, rel=1e-12)
    assert list(expert.cpt("gender").columns) == [0, 1]
    assert np.allclose(expert.cpt("label").sum(axis=1), 1)
    assert sorted(expert.edges_) == sorted(EXPERT)


def test_log_prob_is_the_product_of_the_tables(expert):
    codes, p = joint(expert)
    assert p.sum() == pytest.approx(1)
    X = expert.space_.decode(torch.from_numpy(codes))
    value = expert.log_prob(X)
    assert isinstance(value, genus.Exact) and value.measure == "probability"
    np.testing.assert_allclose(value.nats, np.log(p).reshape(-1), rtol=1e-10)


def marginal(p, row):
    """p summed over the cells of a row of codes that are NaN."""
    return p[tuple(slice(None) if np.isnan(c) else int(c) for c in row)]


@pytest.mark.parametrize("small", [0, 1 << 14])
def test_missing_cells_are_summed_over_and_explained(expert, small, monkeypatch):
    monkeypatch.setattr(tables, "SMALL", small)  # set by set, or all cells at once
    X = holes(people(200, seed=3), 0.4)
    _, p = joint(expert)
    codes = expert.space_.encode(X).double().numpy()
    np.testing.assert_allclose(
        expert.score_samples(X), [np.log(marginal(p, c).sum()) for c in codes], rtol=1e-9
    )
    best = expert.space_.encode(expert.explain(X)).double().numpy()
    seen = ~np.isnan(codes)
    assert (best[seen] == codes[seen]).all() and not np.isnan(best).any()
    np.testing.assert_allclose(
        [p[tuple(b.astype(int))] for b in best], [marginal(p, c).max() for c in codes], rtol=1e-9
    )


def test_the_sets_of_missing_cells_share_no_table(expert, monkeypatch):
    monkeypatch.setattr(tables, "SMALL", 0)
    # age gender marital salary label
    codes = torch.tensor([[0, -1, -1, 1, 1], [-1, -1, -1, 0, 0], [0, 0, 0, 0, -1]])
    whole, groups = expert.net().gaps(codes)
    found = {(tuple(rows.tolist()), variables) for rows, variables, _, _ in groups}
    # gender alone (label is seen), marital alone beside a known age, age with marital through
    # salary; a barren label is in none
    assert found == {((0, 1), (1,)), ((0,), (2,)), ((1,), (0, 2))}
    assert whole[2].tolist() == [True, True, True, True, False]


def test_queries(expert):
    _, p = joint(expert)  # age, gender, marital, salary, label
    got = expert.query("salary", {"label": 1, "age": "old"})
    age = expert._labels(0).index("old")
    want = p[age, :, :, :, 1].sum((0, 1))
    np.testing.assert_allclose(got.to_numpy()[0], want / want.sum(), rtol=1e-10)
    assert list(got.columns) == expert._labels(3) and got.columns.name == "salary"
    np.testing.assert_allclose(expert.query("age").to_numpy()[0], p.sum((1, 2, 3, 4)), rtol=1e-10)
    two = expert.query(["gender", "salary"], {"label": [0, 1]})
    want = p.sum((0, 2)).transpose(2, 0, 1)
    np.testing.assert_allclose(
        two.to_numpy(), (want / want.sum((1, 2), keepdims=True)).reshape(2, -1), rtol=1e-10
    )
    assert two.columns.names == ["gender", "salary"]
    np.testing.assert_allclose(
        expert.query("age", {"label": [0, 0], "gender": 1}),
        expert.query("age", {"label": [0, 0], "gender": [1, 1]}),
    )
    pd.testing.assert_frame_equal(
        expert.query("age", {"label": 0, "gender": None}), expert.query("age", {"label": 0})
    )
    rows = people(50, seed=5)[["label", "age"]].set_index(np.arange(100, 150))
    rows.loc[110, "age"] = None
    batch = expert.query("salary", rows)
    assert batch.index.equals(rows.index)
    one = expert.query("salary", {"label": rows.loc[107, "label"], "age": rows.loc[107, "age"]})
    np.testing.assert_allclose(batch.loc[107], one.iloc[0])
    np.testing.assert_allclose(
        batch.loc[110], expert.query("salary", {"label": rows.loc[110, "label"]}).iloc[0]
    )


def test_queries_of_arrays():
    X = np.random.default_rng(0).integers(0, 2, (200, 4)) * np.array([1, 1, 1, 0])
    X[:, 1] = X[:, 0]
    model = BayesNet("chow-liu").fit(X)
    assert (0, 1) in model.edges_ and not any(3 in e for e in model.edges_)
    assert model.query(1, {0: 1}).loc[0, 1] > 0.95
    rows = np.full((2, 4), np.nan)
    rows[:, 0] = [0, 1]
    np.testing.assert_allclose(
        model.query(1, rows)[1], [model.query(1, {0: v}).loc[0, 1] for v in (0, 1)]
    )


def test_marginals_are_the_single_queries(expert):
    rows = people(30, seed=6)[["label", "age"]].set_index(np.arange(30) + 7)
    rows.loc[9, "age"] = None
    every = expert.marginals(rows)
    assert list(every) == list(people().columns)
    for name in ("gender", "marital", "salary"):
        pd.testing.assert_frame_equal(every[name], expert.query(name, rows), rtol=1e-10)
    pd.testing.assert_series_equal(
        every["age"].loc[9], expert.query("age", rows.loc[[9]]).loc[9], rtol=1e-10
    )
    assert (every["label"].idxmax(axis=1) == rows["label"]).all() and (
        every["label"].max(axis=1) > 1 - 1e-12
    ).all()
    np.testing.assert_allclose(
        expert.marginals()["label"].to_numpy(), expert.query("label").to_numpy(), rtol=1e-10
    )
    sure = BayesNet([("a", "b")], pseudo_count=0.0).fit(pd.DataFrame({"a": [0, 1], "b": [0, 1]}))
    with pytest.raises(ValueError, match="row 1 has probability 0"):
        sure.marginals({"a": [0, 0], "b": [0, 1]})
    # what is observed takes no room: 31 columns, each with the twelve before it as parents, two of
    # them not observed
    X = np.random.default_rng(0).integers(0, 2, (50, 31))
    tangled = BayesNet([(i, j) for i in range(31) for j in range(i + 1, min(31, i + 13))]).fit(X)
    rows = X[:3].astype(float)
    rows[:, [2, 7]] = np.nan
    np.testing.assert_allclose(
        tangled.marginals(rows)[7].to_numpy(), tangled.query(7, rows).to_numpy(), rtol=1e-10
    )


def test_an_order_is_found_once_for_each_pattern_of_evidence(expert, monkeypatch):
    from genus.models.graphs import contraction

    found = []
    greedy = contraction.ssa_greedy_optimize
    monkeypatch.setattr(
        contraction, "ssa_greedy_optimize", lambda *a: found.append(a) or greedy(*a)
    )
    contraction.plan_of.cache_clear()
    for label in (0, 1, 0):
        expert.query("age", {"label": label, "gender": [0, 1, 1]} | {"label": [label] * 3})
    assert len(found) == 1
    expert.query("age", people(50)[["label", "gender"]])
    assert len(found) == 1
    expert.query("age", {"label": 1})
    assert len(found) == 2


def test_a_declared_unknown_stands_for_what_fit_never_saw():
    kinds = pd.CategoricalDtype(["cat", "dog", "unknown"])
    X = pd.DataFrame({"pet": pd.Series(["cat", "dog"] * 20, dtype=kinds), "barks": [0, 1] * 20})
    model = BayesNet([("pet", "barks")]).fit(X)
    new = pd.DataFrame({"pet": ["newt", "dog", None], "barks": [1, 1, 1]})
    np.testing.assert_allclose(
        np.exp(model.score_samples(new)), [1 / 43 * 1 / 2, 21 / 43 * 21 / 22, 0.5], rtol=1e-9
    )
    np.testing.assert_allclose(model.query("barks", {"pet": ["newt", "unknown"]}).to_numpy(), 0.5)
    undeclared = X.assign(pet=X["pet"].cat.remove_categories("unknown"))
    with pytest.raises(
        ValueError, match="'newt' in column 'pet'.*not seen in fit.*declare 'unknown'"
    ):
        BayesNet([("pet", "barks")]).fit(undeclared).score_samples(new)


def test_words_that_fit_never_saw_have_a_share_and_tell_nothing():
    X = pd.DataFrame({"pet": ["cat", "dog"] * 20, "barks": [0, 1] * 20})
    model = BayesNet([("pet", "barks")], target="barks").fit(X)
    new = pd.DataFrame({"pet": ["newt", "dog"], "barks": [1, 1]})
    share = 0.5 / 41  # no word was seen once
    np.testing.assert_allclose(
        np.exp(model.score_samples(new)), [share / 2, (1 - share) * 1 / 2 * 21 / 22], rtol=1e-6
    )
    np.testing.assert_allclose(model.query("barks", {"pet": "newt"}).to_numpy(), 0.5)
    np.testing.assert_allclose(model.predict_proba(new[["pet"]])[0], 0.5)


def test_bad_questions_say_what_is_wrong(expert):
    for question, words in [
        (lambda: expert.query("wage"), "no column 'wage': choose from 'age', 'gender'"),
        (
            lambda: expert.query("salary", {"age": "ancient"}),
            "'ancient' in column 'age'.*not seen in fit",
        ),
        (lambda: expert.query("salary", {"salary": "low"}), "holds 'salary', which is asked for"),
        (lambda: expert.query([]), "targets="),
        (lambda: expert.query("salary", {"label": [0, 1], "gender": [0, 1, 1]}), "as many values"),
        (lambda: expert.query("salary", {"label": 0, 4: 1}), "different columns"),
        (lambda: BayesNet([("a", "b")]).fit(people()), "structure: there is no column 'a'"),
        (lambda: BayesNet(target="a").fit(people()), "target: there is no column 'a'"),
        (lambda: BayesNet([("age", "salary"), ("salary", "age")]).fit(people()), "cycle"),
        (lambda: BayesNet([("age", "age")]).fit(people()), "cycle"),
        (
            lambda: BayesNet("tree").fit(people()),
            "structure='tree': 'chow-liu', .* or a list of edges",
        ),
        (lambda: BayesNet(7).fit(people()), "structure=7"),
        (lambda: BayesNet("naive").fit(people()), "needs target="),
        (lambda: BayesNet(criterion="aic").fit(people()), "criterion='aic'"),
        (lambda: BayesNet(pseudo_count=-1).fit(people()), "pseudo_count=-1"),
        (lambda: BayesNet(bins=1).fit(people()), "bins=1"),
        (
            lambda: BayesNet(bins=None).fit(
                pd.DataFrame({"height": [1.5, 1.7], "sex": ["f", "m"]})
            ),
            "height.*bins=8",
        ),
    ]:
        with pytest.raises(ValueError, match=words):
            question()


def test_without_pseudo_counts_the_unseen_is_impossible():
    X = pd.DataFrame({"a": [0, 0, 1, 1], "b": [0, 0, 1, 1], "c": [0, 1, 0, 1]})
    model = BayesNet([("a", "b")], pseudo_count=0.0).fit(X)
    row = pd.DataFrame({"a": [0, 0], "b": [0, 1], "c": [0, 0]})
    assert model.score_samples(row).tolist() == [pytest.approx(math.log(0.25)), -math.inf]
    with pytest.raises(ValueError, match="row 1 has probability 0"):
        model.query("c", {"a": [0, 0], "b": [0, 1]})
    for verb in (model.complete, model.explain):
        with pytest.raises(ValueError, match="probability 0 under the model in row 1"):
            verb(row.assign(c=np.nan))


def test_completions_follow_the_conditional_set_by_set(expert, monkeypatch):
    monkeypatch.setattr(tables, "SMALL", 0)
    X = people(1).assign(age=None, marital=None, label=None, salary="high", gender=1)
    X = pd.concat([X] * 6000, ignore_index=True)
    X.loc[0] = people(1).loc[0]  # the columns keep their kinds
    got = expert.complete(X, random_state=0).iloc[1:]
    want = expert.query(["age", "marital", "label"], {"salary": "high", "gender": 1}).iloc[0]
    share = got.groupby(["age", "marital", "label"]).size() / len(got)
    assert (share.reindex(want.index).fillna(0) - want).abs().max() < 0.02


# ---------------------------------------------------------------------- structure


def test_chow_liu_finds_the_tree_that_made_the_rows():
    r = np.random.default_rng(3)
    X = np.zeros((2000, 6), dtype=int)
    X[:, 0] = r.integers(0, 3, 2000)
    tree = [(0, 1), (0, 2), (2, 3), (3, 4), (1, 5)]
    for p, c in tree:
        X[:, c] = np.where(r.random(2000) < 0.8, X[:, p], r.integers(0, 3, 2000))
    assert sorted(BayesNet("chow-liu").fit(X).edges_) == sorted(tree)
    away = BayesNet("chow-liu", target=3).fit(X)
    assert {frozenset(e) for e in away.edges_} == {frozenset(e) for e in tree}
    assert not [e for e in away.edges_ if e[1] == 3]


# ---------------------------------------------------------------------- missing cells in fit


def test_expected_counts_are_enumerated(expert, monkeypatch):
    X = holes(people(120, seed=6), 0.35)
    codes = expert.space_.encode(X).double()
    _, p = joint(expert)
    network = expert.net()
    want = [np.zeros([network.cards[v] for v in network.scope(j)]) for j in range(5)]
    barren = {4: lambda row: np.isnan(row[4]), 3: lambda row: np.isnan(row[3]) and np.isnan(row[4])}
    barren |= {
        0: lambda row: np.isnan(row[[0, 3, 4]]).all(),
        2: lambda row: np.isnan(row[[2, 3, 4]]).all(),
    }
    barren[1] = lambda row: np.isnan(row[[1, 4]]).all()
    for row in codes.numpy():
        known = np.zeros_like(p)
        at = tuple(slice(None) if np.isnan(c) else int(c) for c in row)
        known[at] = p[at] / p[at].sum()
        for j in range(5):
            if not barren[j](row):  # such a cell says nothing of its own table
                scope = network.scope(j)
                table = known.sum(tuple(set(range(5)) - set(scope)))
                want[j] += table.transpose([sorted(scope).index(v) for v in scope])
    monkeypatch.setattr(tables, "SMALL", 0)
    got = network.tables(network.counts(codes.nan_to_num(nan=-1).long()))
    for g, w in zip(got, want, strict=True):
        np.testing.assert_allclose(g.numpy(), w, atol=1e-9)


@pytest.mark.parametrize("small", [0, 1 << 14])
def test_em_climbs(small, monkeypatch):
    monkeypatch.setattr(tables, "SMALL", small)
    X = holes(people(150), 0.35)
    model = BayesNet(EXPERT, pseudo_count=0.0, em_iterations=12, tol=1e-15)
    with pytest.warns(UserWarning, match="em_iterations=12"):
        model.fit(X)
    value = [-h["objective"] for h in model.history_]
    assert len(value) == 12 and (np.diff(value) > -1e-12).all() and value[-1] > value[0] + 0.05
    again = BayesNet(EXPERT, pseudo_count=0.0, em_iterations=200, tol=1e-6).fit(X)
    near = again.score(X)  # no nearby tables are likelier
    assert near >= value[-1]
    for seed in range(5):
        other = again._with_tables(again.counts_)
        noise = torch.from_numpy(np.random.default_rng(seed).normal(size=len(other.counts_)))
        other.maximise({"counts": again.net().log_theta.exp() * (0.05 * noise).exp()})
        assert other.score(X) < near + 1e-6


def test_em_of_two_columns_is_known():
    X = pd.DataFrame(
        {"a": [0] * 6 + [1] * 6, "b": [0, 0, 0, 1, np.nan, np.nan] + [1, 1, 1, 1, 0, np.nan]}
    )
    model = BayesNet([("b", "a")], pseudo_count=0.0, tol=1e-12, em_iterations=2000).fit(X)
    # missing at random given a: p(b | a) is that of the whole rows, whichever way the arrow points
    got = model.query("b", {"a": [0, 1]}).to_numpy()
    np.testing.assert_allclose(got, [[3 / 4, 1 / 4], [1 / 5, 4 / 5]], atol=1e-4)
    np.testing.assert_allclose(model.query("a").to_numpy()[0], [0.5, 0.5], atol=1e-4)


@pytest.mark.parametrize("structure", ["chow-liu", "hill-climb"])
def test_structures_are_learned_from_rows_with_holes(structure):
    r = np.random.default_rng(7)
    X = r.integers(0, 2, (800, 5)).astype(float)
    for p, c in [(0, 1), (1, 2), (2, 3)]:
        X[:, c] = np.where(r.random(800) < 0.9, X[:, p], X[:, c])
    X[r.random(X.shape) < 0.25] = np.nan
    model = BayesNet(structure, random_state=0).fit(X, space="binary")
    assert {frozenset(e) for e in model.edges_} >= {frozenset(e) for e in [(0, 1), (1, 2), (2, 3)]}
    assert model.query(3, {2: 1}).loc[0, 1] > 0.9
    more = BayesNet(structure, random_state=0, em_iterations=5, tol=1e-15)
    with pytest.warns(UserWarning, match="em_iterations"):
        more.fit(X, space="binary")
        more.set_params(em_iterations=8).fit(X, space="binary", resume=True)
    assert more.n_iter_ == 8 and len(more.history_) == 8


# ---------------------------------------------------------------------- columns that are cut


def test_inside_a_bin_a_column_does_what_it_does_on_its_own():
    """Without edges and pseudo-counts nothing is left of the bins but the marginals."""
    r = np.random.default_rng(3)
    n = 2000
    rain = np.where(r.random(n) < 0.7, 0.0, r.exponential(3, n).round(1))
    X = pd.DataFrame({"rain": rain, "claims": r.poisson(1, n) * 1000 + r.poisson(0.2, n)})
    alone = genus.Independent().fit(X)
    model = BayesNet([], pseudo_count=0.0).fit(X)
    far = pd.DataFrame({"rain": [0.0, 90.0, -1.0, 2.15], "claims": [0, 12_345, 10**6, 1000]})
    with pytest.warns(UserWarning, match="rain"):  # no rain is below 0
        found, want = model.score_samples(far), alone.score_samples(far)
    assert np.isneginf(found).tolist() == [False, False, True, False]
    # the share of an outer bin is counted in one and smooth in the other
    np.testing.assert_allclose(np.delete(found, 2), np.delete(want, 2), atol=0.2)
    draws = model.sample(20_000, random_state=0)
    assert abs((draws["rain"] == 0).mean() - (rain == 0).mean()) < 0.02
    assert (draws["rain"] >= 0).all() and np.allclose(draws["rain"], draws["rain"].round(1))
    assert draws["claims"].mean() == pytest.approx(X["claims"].mean(), rel=0.05)


def test_labels_say_what_was_seen_in_a_bin():
    n = 400
    X = pd.DataFrame(
        {
            "stars": np.arange(n) % 5 + 1,
            "price": np.linspace(2, 9, n),
            "day": pd.Timestamp("2024-01-01") + pd.to_timedelta(np.arange(n), unit="D"),
        }
    )
    model = BayesNet([], bins=2, max_levels=5, target="stars").fit(X)
    assert list(model.cpt("stars").columns) == [1, 2, 3, 4, 5] == model.classes_.tolist()
    assert list(model.cpt("price").columns) == ["2 … 5.491", "5.509 … 9"]
    assert list(model.cpt("day").columns)[0] == "2024-01-01 … 2024-03-20"
    # whole numbers beyond those seen belong to the outer bins
    np.testing.assert_allclose(model.query("stars", {"price": 1e6}), 1 / 5, atol=0.01)
    assert np.isfinite(model.score_samples(X.assign(stars=7))).all()


def test_an_even_density_in_bins_is_the_share_over_the_width():
    x = np.concatenate([np.linspace(0, 1, 50), np.linspace(1.5, 9, 50)])[:, None]
    model = BayesNet([], bins=2, pseudo_count=0.0, inside="even").fit(x)
    middle = 1.25  # halfway between the two halves of the rows
    t = 2 / 101
    density = np.exp(model.score_samples([[0.5], [3.0], [-1.0], [11.0]]))
    want = [0.5 * (1 - t) / middle, 0.5 * (1 - t) / (9 - middle)]
    want += [
        0.5 * t / middle * math.exp(-1 / middle),
        0.5 * t / (9 - middle) * math.exp(-2 / (9 - middle)),
    ]
    np.testing.assert_allclose(density, want, rtol=1e-9)
    grid = np.arange(-30, 90, 0.01)[:, None] + 0.005
    assert np.exp(model.score_samples(grid)).sum() * 0.01 == pytest.approx(1, abs=1e-3)
    draws = model.sample(20000, random_state=0)
    assert (draws < middle).mean() == pytest.approx(0.5, abs=0.02) and (
        draws < 0
    ).mean() == pytest.approx(t / 2, abs=0.005)
    assert (draws > 9).mean() == pytest.approx(t / 2, abs=0.005)
    assert list(model.cpt(0).columns) == ["[0, 1.25)", "[1.25, 9)"]
    # the median
    assert model.explain([[np.nan]])[0, 0] == pytest.approx(middle * (0.5 - t) / (1 - t))


def test_bins_carry_what_columns_say_about_each_other():
    r = np.random.default_rng(8)
    X = pd.DataFrame({"x": r.normal(size=2000), "n": r.integers(0, 2, 2000).astype(bool)})
    X["y"] = X["x"] + 0.1 * r.normal(size=2000) + 4 * X["n"]
    model = BayesNet(bins=8).fit(X)
    assert model.log_prob(X).measure == "mixed"
    assert model.score(X) > BayesNet([], bins=8).fit(X).score(X) + 0.5
    got = model.complete(X.assign(y=np.nan), random_state=0)
    assert np.corrcoef(got["y"], X["y"])[0, 1] > 0.8


def test_levels_in_a_bin_keep_their_shares():
    r = np.random.default_rng(9)
    X = np.minimum(r.poisson(20, (500, 2)), 255).astype(np.uint8)
    X[:, 1] = np.where(r.random(500) < 0.7, X[:, 0], X[:, 1])
    model = BayesNet("chow-liu", max_levels=4, pseudo_count=0.5).fit(X)
    assert model.net().cards == (4, 4) and model.n_parameters() == 4 + 16
    everything = (
        np.stack(np.meshgrid(np.arange(256), np.arange(256), indexing="ij"), -1)
        .reshape(-1, 2)
        .astype(np.uint8)
    )
    p = np.exp(model.score_samples(everything)).reshape(256, 256)
    assert p.sum() == pytest.approx(1)
    first = int(model.bins_.cuts_[0, 0])
    alone = np.exp(genus.Independent().fit(X[:, :1]).score_samples(everything[::256, :1]))[:first]
    np.testing.assert_allclose(
        p.sum(1)[:first] / p[:first].sum(), alone / alone.sum(), rtol=1e-6, atol=1e-12
    )
    assert model.score(X) > genus.Independent().fit(X).score(X)
    draws = model.sample(20000, random_state=0)
    assert abs(np.bincount(draws[:, 0], minlength=256) / 20000 - p.sum(1)).max() < 0.01
    whole = BayesNet("chow-liu", max_levels=None).fit(X)
    assert whole.n_parameters() == 256 + 256**2


def test_no_table_is_too_large_to_say_so():
    X = np.random.default_rng(0).integers(0, 256, (50, 6)).astype(np.uint8)
    chain = list(itertools.combinations(range(6), 2))
    with pytest.raises(ValueError, match="entries.*max_levels=8"):
        BayesNet(chain, max_levels=None).fit(X)
    wide = np.random.default_rng(0).integers(0, 256, (300, 4000)).astype(np.uint8)
    with pytest.raises(ValueError, match="levels in all.*max_levels=8"):
        BayesNet("chow-liu", max_levels=None).fit(wide)


# ---------------------------------------------------------------------- classes, streams, files


def test_naive_bayes():
    X = people(400)
    model = BayesNet("naive", target="label").fit(X)
    assert {p for p, _ in model.edges_} == {"label"} and len(model.edges_) == 4
    p = model.predict_proba(X)
    log_joint = np.log(np.tile(model.cpt("label").to_numpy(), (400, 1)))
    for name in ("age", "gender", "marital", "salary"):
        log_joint += np.log(model.cpt(name)[X[name]].to_numpy().T)
    want = np.exp(log_joint)
    np.testing.assert_allclose(p, want / want.sum(1, keepdims=True), rtol=1e-9)
    np.testing.assert_allclose(model.predict_proba(X.drop(columns="label")), p)
    np.testing.assert_allclose(model.predict_proba(X.assign(label=1 - X["label"])), p)
    assert (model.predict(X) == model.classes_[p.argmax(1)]).all()
    better = BayesNet(EXPERT, target="label").fit(X)
    assert (better.predict(X) == X["label"]).mean() > (model.predict(X) == X["label"]).mean() + 0.02
    assert not hasattr(BayesNet(), "predict")
    a = X[["gender", "marital", "label"]].to_numpy()
    array = BayesNet("naive", target=2).fit(a)
    np.testing.assert_allclose(array.predict_proba(a[:, :2]), array.predict_proba(a))


def test_more_rows_add_their_counts():
    X = people(400)
    parts = BayesNet(EXPERT).fit(X[:200]).partial_fit(X[200:])
    assert torch.equal(parts.counts_, BayesNet(EXPERT).fit(X).counts_)
    first = BayesNet(EXPERT).partial_fit(X)
    assert torch.equal(first.counts_, parts.counts_)
    before = float(first.counts_.sum())
    first.partial_fit(holes(X[:50], 0.2))
    assert before < float(first.counts_.sum()) < before + 50 * 5  # what is barren is not counted


def test_posterior_draws_of_the_tables(expert):
    draws = [expert.sample_parameters(seed) for seed in range(100)]
    got = np.stack([m.cpt("salary").to_numpy() for m in draws])
    mean = expert.cpt("salary").to_numpy()
    n = (
        (people().groupby(["age", "marital"]).size() + 3)
        .loc[[(a, m) for a, m in expert.cpt("salary").index]]
        .to_numpy()[:, None]
    )
    std = np.sqrt(mean * (1 - mean) / (n + 1))
    assert (np.abs(got.mean(0) - mean) < 5 * std / math.sqrt(100)).all()
    np.testing.assert_allclose(got.std(0), std, rtol=0.5)
    assert draws[0].score(people()) < expert.score(people()) + 1e-2


def test_files(expert, tmp_path):
    expert.to_bif(tmp_path / "people.bif")
    back = BayesNet.from_bif(tmp_path / "people.bif")
    X = people(40, seed=9)
    words = X.astype(str)
    np.testing.assert_allclose(back.score_samples(words), expert.score_samples(X), rtol=1e-12)
    assert sorted(back.edges_) == sorted(expert.edges_)
    np.testing.assert_allclose(
        back.query("salary", {"label": "1"}), expert.query("salary", {"label": 1})
    )
    assert list(back.sample(5, random_state=0).columns) == list(X.columns)
    back.save(tmp_path / "back.genus")
    again = genus.load(tmp_path / "back.genus")
    assert np.array_equal(again.score_samples(words), back.score_samples(words))
    (tmp_path / "order.bif").write_text(
        "network n { }\nvariable b { type discrete [ 2 ] { y, n }; }\nvariable a { type discrete "
        "[ 3 ] { p, q, r }; }\n"
        "variable c { type discrete [ 2 ] { y, n }; }\nprobability ( b ) { table 0.3, 0.7; "
        "}\nprobability ( a ) { table 0.2, 0.3, 0.5; }\n"
        "probability ( c | a, b ) { (p, y) 1.0, 0.0; (p, n) 0.9, 0.1; (q, y) 0.6, 0.4; "
        "(q, n) 0.5, 0.5; (r, y) 0.2, 0.8; (r, n) 0.0, 1.0; }\n"
    )
    file = BayesNet.from_bif(tmp_path / "order.bif")  # parents in another order than the columns
    assert file.query("c", {"a": "q", "b": "y"}).loc[0, "y"] == pytest.approx(0.6)
    assert file.query("b", {"c": "y"}).loc[0, "y"] == pytest.approx(
        0.3 * 0.48 / (0.3 * 0.48 + 0.7 * 0.33)
    )


def test_nothing_global_and_the_seed_decides():
    X = holes(people(100), 0.2)
    state = torch.get_rng_state()
    one, two = (BayesNet(random_state=3).fit(X) for _ in range(2))
    assert torch.equal(state, torch.get_rng_state())
    assert torch.equal(one.counts_, two.counts_) and one.edges_ == two.edges_


@pytest.mark.parametrize("labels", ["words", "numbers"])
@pytest.mark.parametrize("form", ["frame", "array"])
def test_y_is_the_target_where_rows_lack_it(labels: str, form: str) -> None:
    rng = np.random.default_rng(0)
    y = rng.integers(0, 12, 600)
    X: Any = np.stack([y // 4, y % 4], 1) + (rng.random((600, 2)) < 0.05)
    X = pd.DataFrame(X, columns=["p", "q"]).set_axis(rng.permutation(600)) if form == "frame" else X
    target = np.char.add("t", y.astype(str)) if labels == "words" else y
    model = genus.BayesNet("naive", target="kind").fit(X, target)
    assert np.mean(model.predict(X) == target) > 0.8
    assert sorted(model.classes_) == sorted(set(target.tolist()))
    assert np.isfinite(model.score(X, target))
    with pytest.raises(ValueError, match="or a name for y"):
        genus.BayesNet("naive").fit(X, target)


def test_a_joint_of_many_targets_is_refused_before_it_is_made() -> None:
    X = np.random.default_rng(0).integers(0, 5, (300, 17)).astype(str)
    model = BayesNet(structure=[]).fit(X)
    with pytest.raises(ValueError, match=r"targets: .* 17 columns has .* values.*marginals"):
        model.query(list(range(17)))
    assert len(model.marginals()) == 17
