"""Rows as numbers: one scale for cells of a sort, one a column elsewhere."""

import numpy as np
import pandas as pd
import pytest

from genus import Space
from genus.evaluate.view import NumericView


def test_the_view_of_a_table_are_one_hot_and_standardised():
    table = pd.DataFrame(
        {"colour": ["red", "green", "blue", "red"], "size": [10.5, 30.5, np.nan, 20.5]}
    )
    space = Space.of(table)
    x = space.encode(table)
    f = NumericView(space, x)(x)
    assert f.shape == (4, 4)
    one_hot = f[:, :3] - f[:, :3].min(axis=0)
    np.testing.assert_allclose(
        one_hot, pd.get_dummies(table.colour)[["blue", "green", "red"]].to_numpy(), atol=1e-6
    )
    np.testing.assert_allclose(
        f[[0, 1, 3], 3], (np.array([10, 30, 20]) - 20) / np.std([10, 30, 20]), rtol=1e-5
    )
    assert f[2, 3] == 0  # a missing cell is the mean


def test_pixels_share_a_scale_and_columns_do_not():
    x = np.zeros((100, 3), dtype=np.uint8)
    x[:50, 0], x[0, 1] = 255, 1  # a bright pixel, one that is almost always off, one always off
    space = Space.of(x)
    f = NumericView(space, space.encode(x))(space.encode(x))
    assert np.ptp(f[:, 0]) == pytest.approx(255 * np.ptp(f[:, 1]), rel=1e-4)
    space = Space.of(x.astype(float))
    f = NumericView(space, space.encode(x.astype(float)))(space.encode(x.astype(float)))
    assert f[:, 0].std() == pytest.approx(1, rel=1e-4)
    assert f[:, 1].std() == pytest.approx(1, rel=1e-4)
    assert (f[:, 2] == 0).all()
