"""Draws have the frequencies of their weights."""

from __future__ import annotations

import torch
from scipy.stats import chisquare

from genus.distributions.draws import choose, flip
from genus.learn.rows import generator


def test_coins_fall_on_one_as_often_as_they_should() -> None:
    p = torch.tensor([0.0, 0.2, 0.9, 1.0], dtype=torch.float64)
    x = flip(p.expand(20_000, 4), generator(0))
    assert x.dtype == p.dtype and set(x.unique().tolist()) == {0.0, 1.0}
    assert float((x.mean(0) - p).abs().max()) < 0.01
    assert x[:, 0].sum() == 0 and x[:, 3].sum() == 20_000


def test_indices_are_chosen_as_often_as_they_weigh() -> None:
    weights = torch.tensor([[1.0, 3.0, 0.0], [2.0, 2.0, 4.0]])  # need not sum to 1
    k = choose(weights.expand(8000, 2, 3), generator(0))
    assert k.shape == (8000, 2)
    for j, share in enumerate(weights / weights.sum(1, keepdim=True)):
        counts = torch.bincount(k[:, j], minlength=3).double()
        some = share > 0
        assert counts[~some].sum() == 0
        expected = 8000 * share[some].double()
        assert chisquare(counts[some].numpy(), expected.numpy()).pvalue > 1e-3


def test_one_row_of_weights_gives_one_index() -> None:
    assert choose(torch.tensor([0.0, 1.0]), generator(0)).shape == ()
