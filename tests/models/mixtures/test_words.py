"""Words beside numbers against tables written by hand."""

from __future__ import annotations

import numpy as np
import pandas as pd
import torch
from scipy import stats

from genus import Space
from genus.distributions.coordinates import Coordinates
from genus.learn.rows import generator
from genus.models.mixtures.words import WordCells

X = pd.DataFrame(
    {
        "word": ["a", "b", "c", "a", "a", None],
        "x": [0.5, 1.5, -0.3, 2.2, 0.1, 0.7],
        "bit": [True, False, False, True, True, False],
    }
)


def cells(how: str = "learned") -> tuple[WordCells, torch.Tensor]:
    """The words of X, and its coordinates."""
    space = Space.of(X)
    codes = space.encode(X, missing=True).double()
    coordinates = Coordinates(space, how)
    coordinates.fit(codes)
    return WordCells(space, coordinates), coordinates(codes, torch.rand(6, 3).double())[0]


def test_rows_are_split_into_numbers_and_ones_at_words() -> None:
    w, y = cells()
    assert w and w.at == [0, 2] and w.numbers == [1] and w.levels == [3, 2]
    numbers, hot = w.split(y)
    assert torch.equal(numbers[:, 0], y[:, 1])
    word = [[1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 0, 0], [1, 0, 0], [0, 0, 0]]
    bit = [[0, 1], [1, 0], [1, 0], [0, 1], [0, 1], [1, 0]]
    np.testing.assert_array_equal(hot, np.concatenate([word, bit], 1))
    none, y = cells("logit")
    assert not none and none.split(y)[0] is y and none.numbers == [0, 1, 2]


def test_the_base_is_the_share_of_a_word_over_the_density_of_its_score() -> None:
    w, y = cells()
    shares = w.shares().numpy()
    np.testing.assert_allclose(shares, [3.5 / 6.5, 1.5 / 6.5, 1.5 / 6.5, 3.5 / 7, 3.5 / 7])
    _, hot = w.split(y)
    log_phi = np.nan_to_num(stats.norm.logpdf(y[:, w.at].numpy())).sum(1)
    np.testing.assert_allclose(w.log_base(y), hot.numpy() @ np.log(shares) - log_phi, atol=1e-9)


def test_words_are_drawn_from_the_tables_given() -> None:
    w, y = cells()
    p = torch.tensor([0.2, 0.0, 0.8, 0.9, 0.1]).double().repeat(5000, 1)
    y = y.new_zeros(5000, 3)
    y[:, w.at] = w.draw(p, generator(0))
    np.testing.assert_allclose(w.split(y)[1].mean(0), p[0], atol=0.02)
    counts = torch.tensor([[1.0, 2.0, 3.0, 4.0, 5.0]])
    assert w.of_columns(counts).tolist() == [[6, 6, 6, 9, 9]]
