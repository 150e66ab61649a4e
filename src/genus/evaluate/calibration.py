"""Do the probabilities of a classifier mean what they say?

    ECE = Σ_b (n_b / n) |a_b − c_b|          the error of calibration, from 0 to 1
    Brier = (1/n) Σ_i Σ_k (p_ik − 1[y_i = k])²,    from 0 to 2
    NLL = −(1/n) Σ_i log p_i(y_i),           in nats

The confidence of a row is its largest probability. a_b is the share of rows of bin b that are right
and c_b their mean confidence: of 100 rows told with confidence 0.8, 80 should be right.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from genus.settings import OneOf, Whole

LEAST = 1e-300  # of a probability whose logarithm is taken


@dataclass(frozen=True, eq=False)
class Calibration:
    """How a classifier's confidence compares with how often it is right.

    accuracy, ece, brier, nll: see :func:`calibration`. stderr: of the accuracy. table: a row a bin
    that holds rows, with its ends (``low`` excluded, ``high`` included), its count ``n``, its mean
    ``confidence`` and its ``accuracy``. bins: how many were asked for, and of which sort.

    ``report.plots.reliability_diagram`` draws it.
    """

    accuracy: float
    stderr: float
    ece: float
    brier: float
    nll: float
    n: int
    table: pd.DataFrame
    bins: str

    def __str__(self) -> str:
        return (
            f"accuracy {self.accuracy:.4f} ± {self.stderr:.4f}, ECE {self.ece:.4f} ({self.bins}), "
            f"Brier {self.brier:.4f}, NLL {self.nll:.4f} nats, n={self.n}"
        )


def calibration(
    model: Any, X: Any, y: Any, *, bins: int = 15, of: str = "equal width"
) -> Calibration:
    r"""Expected calibration error, Brier score and negative log-likelihood of a classifier.

    The error depends on the bins, so they are stated beside it; with few rows it is above 0 also
    for a calibrated model, by about \sqrt(bins/n) times a number below ½.

    Sources: Brier (1950); Naeini, Cooper & Hauskrecht (2015); Guo et al. (2017).

    Parameters
    ----------
    model : classifier
        With ``predict_proba`` and ``classes_``: a JEM, a BayesNet with a target, a BayesianMLP of
        classes, or one of scikit-learn.
    X : rows
        Not used in fit, (n, *shape).
    y : array
        Their labels, (n,).
    bins : int, default=15
        Of confidence, at least 1.
    of : {"equal width", "equal count"}, default="equal width"
        Whether bins have the same width on [0, 1], or the same number of rows.

    Raises
    ------
    ValueError
        When y holds a class that the model does not know, or its length is not that of X.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.linear_model import LogisticRegression
    >>> from genus.evaluate import calibration
    >>> rng = np.random.default_rng(0)
    >>> X = rng.normal(size=(400, 1))
    >>> y = np.where(rng.random(400) < 1 / (1 + np.exp(-2 * X[:, 0])), "yes", "no")
    >>> told = calibration(LogisticRegression().fit(X[:200], y[:200]), X[200:], y[200:], bins=10)
    >>> told.bins, told.ece < 0.1
    ('10 bins of equal width', True)
    """
    proba = np.asarray(model.predict_proba(X), dtype=np.float64)
    return reliability(proba, codes_of(model, y, len(proba)), bins=bins, of=of)


def codes_of(model: Any, y: Any, n: int) -> np.ndarray:
    """The places of labels y among the classes of a model, (n,)."""
    labels = np.asarray(y).reshape(-1)
    if len(labels) != n:
        raise ValueError(f"y has {len(labels)} labels, X has {n} rows: one a row is needed")
    codes = pd.Index(model.classes_).get_indexer(pd.Index(labels))
    if (codes < 0).any():
        row = int((codes < 0).argmax())
        raise ValueError(
            f"y has {labels.tolist()[row]!r} (row {row}), a class that was not seen in fit: "
            "drop the row"
        )
    return np.asarray(codes)


def reliability(
    proba: np.ndarray, y: np.ndarray, *, bins: int = 15, of: str = "equal width"
) -> Calibration:
    """The same for probabilities (n, K) and the codes 0 … K − 1 of what was true, (n,)."""
    Whole(1).check("bins", bins)
    OneOf("equal width", "equal count").check("of", of)
    n = len(proba)
    confidence = proba.max(1)
    right = proba.argmax(1) == y
    ends = np.linspace(0, 1, bins + 1)
    if of == "equal count":
        ends = np.unique(np.quantile(confidence, ends))
        ends[0], ends[-1] = 0.0, 1.0
    place = np.searchsorted(ends[1:-1], confidence)  # of (low, high]
    rows = pd.DataFrame({"place": place, "confidence": confidence, "accuracy": right.astype(float)})
    table = rows.groupby("place").mean()
    table.insert(0, "n", rows.groupby("place").size())
    table.insert(0, "high", ends[1:][table.index])
    table.insert(0, "low", ends[:-1][table.index])
    table = table.reset_index(drop=True)
    gaps = (table.accuracy - table.confidence).abs()
    truth = np.arange(proba.shape[1]) == y[:, None]
    accuracy = float(right.mean())
    return Calibration(
        accuracy=accuracy,
        stderr=float(np.sqrt(accuracy * (1 - accuracy) / n)),
        ece=float((table.n / n * gaps).sum()),
        brier=float(np.square(proba - truth).sum(1).mean()),
        nll=float(-np.log(np.maximum(proba[truth], LEAST)).mean()),
        n=n,
        table=table,
        bins=f"{bins} bins of {of}",
    )
