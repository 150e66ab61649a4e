"""How much columns tell of one another: mutual information and spanning trees."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from genus.distributions.dependence import Indicators, spanning_order, spanning_tree


def test_mutual_information_is_its_formula_and_a_constant_column_stands_alone():
    r = np.random.default_rng(1)
    X = r.integers(0, [2, 3, 1, 4], (500, 4))
    X[:, 3] = (X[:, 1] + r.integers(0, 2, 500)) % 4
    information = Indicators(torch.from_numpy(X), [2, 3, 1, 4]).mutual_information().numpy()
    for i, j in itertools.product(range(4), repeat=2):
        p = np.zeros((4, 4))
        np.add.at(p, (X[:, i], X[:, j]), 1 / 500)
        ratio = np.where(p > 0, p / np.maximum(p.sum(1, keepdims=True) * p.sum(0), 1e-300), 1)
        assert information[i, j] == pytest.approx((p * np.log(ratio)).sum(), abs=1e-12)
    edges = spanning_tree(information)
    assert (1, 3) in edges and not any(2 in e for e in edges)


def test_the_tree_is_the_best_of_all_trees():
    w = np.random.default_rng(2).random((5, 5)) * 1e-9  # small weights count as well
    w = w + w.T
    got = sum(w[e] for e in spanning_tree(w, least=0.0))
    pairs = list(itertools.combinations(range(5), 2))

    def is_tree(edges):
        parent = list(range(5))
        for a, b in edges:
            a, b = (
                next(
                    v
                    for v in iter(lambda v=[x]: v.append(parent[v[-1]]) or v[-1], None)
                    if parent[v] == v
                )
                for x in (a, b)
            )
            if a == b:
                return False
            parent[a] = b
        return True

    assert got == pytest.approx(
        max(sum(w[e] for e in t) for t in itertools.combinations(pairs, 4) if is_tree(t)), rel=1e-12
    )


def test_an_order_begins_with_the_column_that_tells_most():
    """A star: every column depends on column 2 alone, the nearer ones more."""
    weight = np.zeros((5, 5))
    for j, w in [(0, 0.2), (1, 0.4), (3, 0.1), (4, 0.3)]:
        weight[2, j] = weight[j, 2] = w
    assert spanning_order(weight) == [2, 1, 4, 0, 3]
    assert weight[2, 1] == 0.4  # the caller's matrix is left alone


def test_columns_that_tell_nothing_are_in_the_order_all_the_same():
    assert sorted(spanning_order(np.zeros((4, 4)))) == [0, 1, 2, 3]
    assert spanning_tree(np.zeros((4, 4))) == []


def test_too_many_levels_are_refused_before_they_fill_the_memory():
    x = torch.zeros(1 << 14, 1).expand(-1, 4)
    with pytest.raises(ValueError, match="pass max_levels=8"):
        Indicators(x, [1 << 13] * 4)
