"""Tables of a small network, against the joint table written out."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from torch import Tensor

from genus.learn.rows import generator
from genus.models.graphs import tables
from genus.models.graphs.tables import Net, ordered

CARDS = (2, 3, 2, 2)
EDGES = [(0, 2), (1, 2), (2, 3)]  # 0 and 1 are causes of 2, 3 its effect
STATES = torch.tensor(list(itertools.product(*map(range, CARDS))))


def graph(edges: list[tuple[int, int]], d: int = 4) -> Tensor:
    out = torch.zeros(d, d, dtype=torch.bool)
    for p, c in edges:
        out[p, c] = True
    return out


@pytest.fixture(scope="module")
def net() -> Net:
    empty = Net.of(graph(EDGES), CARDS)
    counts = torch.rand(len(empty.group), generator=generator(0), dtype=torch.float64)
    return empty.learned(counts, 0.1)


@pytest.fixture(scope="module")
def joint(net: Net) -> np.ndarray:
    """p of every state: the product of the tables."""
    p = np.ones(CARDS)
    for state in STATES.tolist():
        for (*parents, j), table in net.factors():
            p[tuple(state)] *= table[tuple(state[v] for v in (*parents, j))]
    return p


def test_every_row_of_a_table_sums_to_one(net: Net) -> None:
    theta = net.log_theta.exp()
    np.testing.assert_allclose(net.sums(theta), 1, rtol=1e-12)
    assert [t.shape for _, t in net.factors()] == [(2,), (3,), (2, 3, 2), (2, 2)]


def test_tables_are_smoothed_counts_and_even_where_nothing_was_counted(net: Net) -> None:
    codes = torch.tensor([[0, 1, 0, 1], [0, 1, 1, 1], [0, 1, 1, 0]])
    counts = net.counts(codes)
    assert counts.sum() == 3 * 4
    theta = dict(net.learned(counts, 0.5).factors())
    np.testing.assert_allclose(theta[0, 1, 2][0, 1], [1.5 / 4, 2.5 / 4])
    np.testing.assert_allclose(theta[0, 1, 2][1, 2], [0.5, 0.5])
    bare = dict(net.learned(counts, 0.0).factors())
    np.testing.assert_allclose(bare[0, 1, 2][1, 2], [0.5, 0.5])


def test_whole_rows_are_the_product_of_their_entries(net: Net, joint: np.ndarray) -> None:
    assert net.log_joint(STATES).exp().sum() == pytest.approx(1)
    np.testing.assert_allclose(net.log_joint(STATES).exp(), joint.reshape(-1), rtol=1e-12)


@pytest.mark.parametrize("small", [0, 1 << 14])
def test_missing_cells_are_summed_over(
    small: int, net: Net, joint: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tables, "SMALL", small)  # set by set, or all cells at once
    codes = torch.tensor(list(itertools.product(*(range(-1, r) for r in CARDS))))
    at = [tuple(slice(None) if c < 0 else c for c in row) for row in codes.tolist()]
    want = [joint[i].sum() for i in at]
    np.testing.assert_allclose(net.log_joint(codes).exp(), want, rtol=1e-9)
    best = net.explained(codes.clone())
    seen = codes >= 0
    assert (best[seen] == codes[seen]).all() and (best >= 0).all()
    np.testing.assert_allclose(net.log_joint(best).exp(), [joint[i].max() for i in at], rtol=1e-9)


def test_missing_cells_are_drawn_given_the_others(net: Net, joint: np.ndarray) -> None:
    n = 20_000
    codes = torch.tensor([[-1, 2, -1, 1]]).repeat(n, 1)
    drawn = net.filled(codes, generator(1))
    assert (drawn[:, 1] == 2).all() and (drawn[:, 3] == 1).all()
    p = joint[:, 2, :, 1] / joint[:, 2, :, 1].sum()
    shares = torch.bincount(2 * drawn[:, 0] + drawn[:, 2], minlength=4) / n
    assert np.abs(shares.numpy() - p.reshape(-1)).max() < 4 * 0.5 / math.sqrt(n)


def test_rows_without_any_cell_are_drawn_from_the_whole(net: Net, joint: np.ndarray) -> None:
    n = 20_000
    drawn = net.filled(torch.full((n, 4), -1), generator(2))
    shares = np.zeros(CARDS)
    np.add.at(shares, tuple(drawn.T.numpy()), 1 / n)
    assert np.abs(shares - joint).max() < 4 * 0.5 / math.sqrt(n)


def test_posteriors_and_marginals_are_shares_of_the_joint(net: Net, joint: np.ndarray) -> None:
    codes = torch.tensor([[-1, -1, -1, 0], [-1, 1, 1, -1]])
    both = net.posterior((0, 1), codes[:1])[0]
    want = joint[:, :, :, 0].sum(2) / joint[:, :, :, 0].sum()
    np.testing.assert_allclose(both, want, rtol=1e-9)
    zero, one, *_ = net.marginals(codes)
    np.testing.assert_allclose(zero[0], want.sum(1), rtol=1e-9)
    np.testing.assert_allclose(zero[1], joint[:, 1, 1].sum(1) / joint[:, 1, 1].sum(), rtol=1e-9)
    assert one[1].tolist() == [0, 1, 0]  # observed


def test_evidence_that_cannot_be_is_told_by_its_row(net: Net) -> None:
    counts = net.counts(torch.tensor([[0, 0, 0, 0], [1, 0, 1, 1]]))
    sure = net.learned(counts, 0.0)
    codes = torch.tensor([[0, 0, -1, -1], [-1, 1, -1, -1]])
    for ask in (lambda: sure.posterior((3,), codes), lambda: sure.marginals(codes)):
        with pytest.raises(ValueError, match="evidence of row 1 has probability 0.*drop it"):
            ask()


def test_parents_come_before_children_and_circles_have_no_order() -> None:
    assert ordered([[1], [2], []]) == [2, 1, 0]
    assert ordered([[1], [2], [0]]) is None
    assert ordered([]) == []


def test_tables_that_fill_the_memory_are_refused() -> None:
    everyone = graph([(i, 9) for i in range(9)], 10)
    with pytest.raises(ValueError, match="entries.*max_levels=8"):
        Net.of(everyone, (9,) * 10)
