"""Graphs learned from counts, against formulas written out and all graphs of few nodes."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.special import gammaln

from genus.models.graphs import tables
from genus.models.graphs.structure import Counts, hill_climb


def term(X, j, parents, score, alpha=10.0):
    """The score of one node, from its tables written out."""
    r, q = X[j].nunique(), int(np.prod([X[p].nunique() for p in parents]))
    if parents:
        N = X.groupby([*parents, j]).size().unstack(fill_value=0).to_numpy()
    else:
        N = X[j].value_counts().to_numpy()[None]
    n = N.sum(1, keepdims=True)
    if score == "bic":
        return (N * np.log(np.where(N > 0, N, 1) / n)).sum() - 0.5 * math.log(len(X)) * q * (r - 1)
    a = alpha / q
    return float((gammaln(N + a / r) - gammaln(a / r)).sum() - (gammaln(n + a) - gammaln(a)).sum())


@pytest.mark.parametrize("score", ["bic", "bdeu"])
def test_scores_are_their_formulas(score):
    r = np.random.default_rng(0)
    X = pd.DataFrame(r.integers(0, [2, 3, 4, 2], (400, 4)))
    X[3] = (X[0] + X[1] + r.integers(0, 2, 400)) % 2
    counts = Counts(torch.from_numpy(X.to_numpy()), [2, 3, 4, 2])
    assert len(counts.weight) < 100 and counts.weight.sum() == 400  # repeated rows are counted once
    for j, parents in [(3, []), (3, [0]), (2, [1, 3]), (0, [1, 2])]:
        assert counts.family(j, parents, score, 10.0) == pytest.approx(term(X, j, parents, score))
        more = counts.extended(j, parents, score, 10.0)
        for i in set(range(4)) - {j, *parents}:
            assert more[i].item() == pytest.approx(term(X, j, [*parents, i], score))


def graphs(d):
    """Every acyclic graph of d nodes, as parents of each."""
    sets = [
        list(
            itertools.chain.from_iterable(
                itertools.combinations([i for i in range(d) if i != j], k) for k in range(d)
            )
        )
        for j in range(d)
    ]
    for parents in itertools.product(*sets):
        if tables.ordered(parents) is not None:
            yield parents


@pytest.mark.parametrize("score", ["bic", "bdeu"])
def test_hill_climbing_finds_the_best_of_all_graphs_of_four(score):
    every, misses = list(graphs(4)), 0
    assert len(every) == 543
    for seed in range(4):
        r = np.random.default_rng(seed)
        X = r.integers(0, 2, (600, 4))
        X[:, 2] = (X[:, 0] | X[:, 1]) ^ (r.random(600) < 0.1)  # two causes
        X[:, 3] = X[:, 2] ^ (r.random(600) < 0.15)
        counts, frame = Counts(torch.from_numpy(X), [2] * 4), pd.DataFrame(X)
        terms = {}

        def value(parents):
            for j, pa in enumerate(parents):
                if (j, pa) not in terms:
                    terms[j, pa] = term(frame, j, list(pa), score)
            return sum(terms[j, pa] for j, pa in enumerate(parents))

        def reached(patience):
            edges = hill_climb(counts, score, patience=patience)
            return value(tuple(tuple(p for p, c in edges if c == j) for j in range(4)))

        best = max(map(value, every))
        assert reached(10) == pytest.approx(best, abs=1e-6)
        misses += reached(0) < best - 1e-6
    assert misses > 0  # without the tabu list


def test_hill_climbing_keeps_to_its_limits_and_the_tabu_list_helps():
    r = np.random.default_rng(8)
    X = r.integers(0, 2, (300, 12))
    for j in range(3, 12):
        a, b = X[:, r.choice(j, 2, replace=False)].T
        X[:, j] = (a & b if j % 2 else a | b) ^ (r.random(300) < 0.1)
    counts = Counts(torch.from_numpy(X), [2] * 12)
    values = []
    for most, patience in [(1, 10), (4, 0), (4, 10)]:
        edges = hill_climb(counts, "bdeu", 5.0, most, patience)
        parents = [[p for p, c in edges if c == j] for j in range(12)]
        assert max(map(len, parents)) <= most and tables.ordered(parents) is not None
        values.append(sum(counts.family(j, pa, "bdeu", 5.0) for j, pa in enumerate(parents)))
    assert values[0] < values[1] < values[2]
    assert hill_climb(counts, go_on=lambda: False) == []


def test_a_change_of_an_edge_computes_no_term_of_another_node():
    r = np.random.default_rng(8)
    X = r.integers(0, 2, (300, 12))
    X[:, 1:] |= X[:, :-1]
    changes, terms = [], []

    class Counted(Counts):
        def extended(self, *args):
            terms.append(args)
            return super().extended(*args)

    hill_climb(Counted(torch.from_numpy(X), [2] * 12), go_on=lambda: changes.append(0) or True)
    assert len(changes) > 12 and len(terms) <= 12 + 2 * len(changes)
