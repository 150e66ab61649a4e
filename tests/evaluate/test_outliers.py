"""AUROC of log_prob, against counting."""

import numpy as np
import pytest

from genus import Exact, Gaussian
from genus.evaluate import outlier_auroc
from genus.evaluate.outliers import auroc


class Told:
    """log_prob of a row is the row."""

    def log_prob(self, X):
        return Exact(np.asarray(X, dtype=float)[:, 0])


def test_auroc_is_the_share_of_pairs_in_order():
    rng = np.random.RandomState(0)
    a, b = rng.randint(0, 10, (40, 1)), rng.randint(-3, 7, (30, 1))
    pairs = (a > b.T).mean() + 0.5 * (a == b.T).mean()
    found = outlier_auroc(Told(), a, b)
    assert found.auroc == pytest.approx(pairs)
    assert (found.n_inside, found.n_outside) == (40, 30)


def test_its_error_is_the_spread_over_data_sets():
    rng = np.random.RandomState(0)
    found = [outlier_auroc(Told(), rng.randn(50, 1) + 1, rng.randn(50, 1)) for _ in range(300)]
    assert np.std([f.auroc for f in found]) == pytest.approx(
        np.mean([f.stderr for f in found]), rel=0.25
    )


def test_a_fitted_model_tells_far_rows_and_not_its_own():
    rng = np.random.RandomState(0)
    model = Gaussian(random_state=0).fit(rng.randn(300, 3))
    assert outlier_auroc(model, rng.randn(100, 3), rng.randn(100, 3) + 10).auroc == 1
    assert abs(outlier_auroc(model, rng.randn(300, 3), rng.randn(300, 3)).auroc - 0.5) < 0.1


def test_nan_is_refused():
    with pytest.raises(ValueError, match="NaN"):
        outlier_auroc(Told(), [[np.nan]], [[1.0]])


def test_impossible_rows_are_outside():
    found = auroc(np.zeros(20), np.array([-np.inf, -1.0, 0.0]))
    assert found.auroc == pytest.approx(2.5 / 3)
