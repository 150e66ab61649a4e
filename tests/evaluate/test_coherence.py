"""Views that agree by construction, and views that do not."""

import numpy as np
import pytest

from genus.evaluate import coherence

SIGN = {"number": lambda x: np.asarray(x)[:, 0] > 0, "word": lambda w: np.asarray(w) == "plus"}
NUMBERS = np.random.default_rng(0).normal(size=(500, 1))
X = {"number": NUMBERS, "word": np.where(NUMBERS[:, 0] > 0, "plus", "minus")}


class Twin:
    """Draws views that agree, but for a share ``wrong`` of the rows."""

    def __init__(self, wrong):
        self.wrong = wrong

    def sample(self, n, random_state=None):
        return self.complete({"number": np.random.default_rng(1).normal(size=(n, 1))})

    def complete(self, X, random_state=None):
        n = len(next(iter(X.values())))
        flip = np.arange(n) < self.wrong * n
        if "number" in X:
            return X | {"word": np.where((X["number"][:, 0] > 0) ^ flip, "plus", "minus")}
        return X | {"number": np.where((X["word"] == "plus") ^ flip, 1.0, -1.0)[:, None]}


def test_shares_are_those_of_rows_that_agree():
    found = coherence(Twin(0.2), X, SIGN)
    assert found.joint == pytest.approx(0.8)
    assert found.across == {("number", "word"): 0.8, ("word", "number"): 0.8}
    assert found.joint_stderr == pytest.approx(np.sqrt(0.8 * 0.2 / 500))
    assert "number → word: 80.0% agree" in str(found)
    assert coherence(Twin(0.0), X, SIGN).joint == 1


def test_two_views_are_needed():
    with pytest.raises(ValueError, match="two at least"):
        coherence(Twin(0.0), {"number": NUMBERS}, SIGN)
    with pytest.raises(ValueError, match="two at least"):
        coherence(Twin(0.0), X, {"word": SIGN["word"]})
