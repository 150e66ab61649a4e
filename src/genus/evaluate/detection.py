r"""Which rows do not belong? Scores that may tell, and how well each of them does.

Scores of a row x are higher where it belongs:

    log_prob            log p(x); of a model without a normaliser −E(x), which ranks alike
    max_softmax         max_k p(k | x)                               (Hendrycks & Gimpel, 2017)
    approximate_mass    −‖∇ log p(x)‖: around modes of high density and little mass it is steep
                                                                     (Grathwohl et al., 2020)
    typicality          −|log p(x) − mean log p of rows that belong|  (Nalisnick et al., 2019)
    complexity          −L(x), L the bits of the row when it is compressed: no model at all
    log_prob_complexity log₂ p(x) + L(x)                             (Serrà et al., 2020)

A model that does not beat ``complexity`` has told simple rows from others, which needs no model.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from genus.density import DensityModel
from genus.model import CapabilityError
from genus.settings import Number, OneOf, Whole
from genus.space import Space

SCORES = (
    "log_prob",
    "max_softmax",
    "approximate_mass",
    "typicality",
    "complexity",
    "log_prob_complexity",
)
RECALL = 0.95  # of the rows that belong, where FPR95 is read


@dataclass(frozen=True)
class Detection:
    """How well a score tells rows that belong from others, each with an interval of the bootstrap.

    auroc: the area under the ROC curve; ½ is chance. aupr: the area under precision against recall,
    outliers being what is sought; chance is their share of the rows. fpr95: the share of outliers
    that pass where 95 % of the rows that belong do; lower is better. intervals: the same names →
    (low, high).
    """

    score: str
    auroc: float
    aupr: float
    fpr95: float
    intervals: dict[str, tuple[float, float]]
    n_inside: int
    n_outside: int

    def __str__(self) -> str:
        told = [
            f"{name} {getattr(self, name):.3f} [{low:.3f}, {high:.3f}]"
            for name, (low, high) in self.intervals.items()
        ]
        return f"{self.score}: {', '.join(told)} ({self.n_inside} inside, {self.n_outside} outside)"


def detection(
    model: Any,
    inside: Any,
    outside: Any,
    *,
    score: str = "log_prob",
    typical: Any = None,
    level: float = 0.95,
    n_bootstrap: int = 200,
    random_state: int = 0,
) -> Detection:
    """How well a score of a model tells rows of the data from rows of another source.

    Parameters
    ----------
    model : Model
        Fitted; what it must have depends on the score, see :func:`belonging`.
    inside, outside : rows
        Rows of the model's space, neither of them used in fit.
    score : str, default="log_prob"
        One of ``log_prob``, ``max_softmax``, ``approximate_mass``, ``typicality``, ``complexity``
        and ``log_prob_complexity``.
    typical : rows or None, default=None
        For ``typicality``: rows that belong, none of ``inside``.
    level : float, default=0.95
        Of the intervals, between 0 and 1.
    n_bootstrap : int, default=200
        Draws with replacement, inside and outside apart; at least 2.
    random_state : int, default=0
        Seed of these draws.

    Raises
    ------
    ValueError
        Where a score is NaN, or ``typical`` is needed and not there.
    CapabilityError
        Where the model has not what the score needs.

    Examples
    --------
    >>> import numpy as np, genus
    >>> from genus.evaluate import detection
    >>> rng = np.random.default_rng(0)
    >>> model = genus.Gaussian().fit(rng.normal(size=(200, 2)))
    >>> told = detection(model, rng.normal(size=(100, 2)), rng.normal(4, 1, size=(100, 2)))
    >>> told.auroc > 0.95, told.intervals["auroc"][0] <= told.auroc
    (True, True)
    """
    a = belonging(model, inside, score, typical=typical)
    b = belonging(model, outside, score, typical=typical)
    return told_apart(
        a, b, score=score, level=level, n_bootstrap=n_bootstrap, random_state=random_state
    )


def told_apart(
    a: np.ndarray,
    b: np.ndarray,
    *,
    score: str = "score",
    level: float = 0.95,
    n_bootstrap: int = 200,
    random_state: int = 0,
) -> Detection:
    """:func:`detection` for scores a (n,) of rows that belong and b (m,) of others."""
    Number(above=0, below=1).check("level", level)
    Whole(2).check("n_bootstrap", n_bootstrap)
    a, b = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    for name, values in (("inside", a), ("outside", b)):
        if np.isnan(values).any():
            row = int(np.isnan(values).argmax())
            raise ValueError(f"the score of row {row} of {name} is NaN: drop the row")
    rng = np.random.default_rng(random_state)
    draws = []
    for _ in range(n_bootstrap):
        some = a[rng.integers(len(a), size=len(a))]
        others = b[rng.integers(len(b), size=len(b))]
        draws.append(_areas(some, others))
    tails = [(1 - level) / 2, (1 + level) / 2]
    low, high = np.quantile(np.array(draws), tails, axis=0)
    names = ("auroc", "aupr", "fpr95")
    intervals = {n: (float(l), float(h)) for n, l, h in zip(names, low, high, strict=True)}
    auroc, aupr, fpr95 = _areas(a, b)
    return Detection(score, auroc, aupr, fpr95, intervals, len(a), len(b))


def _areas(a: np.ndarray, b: np.ndarray) -> tuple[float, float, float]:
    """AUROC, AUPR and FPR95 of scores; only their ranks count, so that infinite ones do."""
    ranks = np.unique(np.concatenate([a, b]), return_inverse=True)[1]
    n = ranks.max() + 1
    inside = np.bincount(ranks[: len(a)], minlength=n)  # how many have each rank
    outside = np.bincount(ranks[len(a) :], minlength=n)
    found = np.cumsum(outside)  # outliers up to each rank
    precision = found / np.cumsum(inside + outside)
    aupr = float((precision * outside).sum() / len(b))
    pairs = inside * (found - 0.5 * outside)
    auroc = float(pairs.sum() / (len(a) * len(b)))
    threshold = np.quantile(ranks[: len(a)], 1 - RECALL, method="lower")
    return auroc, aupr, float((ranks[len(a) :] >= threshold).mean())


def belonging(model: Any, X: Any, score: str = "log_prob", *, typical: Any = None) -> np.ndarray:
    """A score of each row of X, (n,), higher where it belongs.

    ``log_prob`` and ``typicality`` need ``log_prob``, or ``energy``; ``max_softmax`` a classifier
    with ``predict_proba``; ``approximate_mass`` a density of real coordinates or an energy;
    ``complexity`` a model of any sort, for its space alone.
    """
    OneOf(*SCORES).check("score", score)
    if score == "max_softmax":
        if not hasattr(model, "predict_proba"):
            raise CapabilityError(
                f"{type(model).__name__} is no classifier: max_softmax needs predict_proba"
            )
        return np.asarray(model.predict_proba(X), dtype=np.float64).max(1)
    if score == "approximate_mass":
        return -np.asarray(steepness(model, X))
    if score == "complexity":
        return -compressed_bits(model.space_, X)
    log_p = _log_density(model, X)
    if score == "typicality":
        if typical is None:
            raise ValueError(
                "score='typicality' compares with rows that belong: pass typical=, rows that "
                "are not among those to be judged"
            )
        return np.asarray(-np.abs(log_p - _log_density(model, typical).mean()))
    if score == "log_prob_complexity":
        return np.asarray(log_p / np.log(2) + compressed_bits(model.space_, X))
    return log_p


def _log_density(model: Any, X: Any) -> np.ndarray:
    """log p of each row, or up to a constant where a model cannot normalise."""
    try:
        if hasattr(model, "log_prob"):
            return np.asarray(model.log_prob(X).nats, dtype=np.float64)
    except CapabilityError:
        pass
    if not hasattr(model, "energy"):
        raise CapabilityError(f"{type(model).__name__} has neither log_prob nor energy")
    return -np.asarray(model.energy(X), dtype=np.float64)


def steepness(model: Any, X: Any) -> np.ndarray:
    """‖∇ log p‖ at each row, (n,), in the model's real coordinates, discrete cells at a centre.

    By automatic differentiation. Raises CapabilityError where the model has no such coordinates.
    """
    if hasattr(model, "score_function"):
        score = np.asarray(model.score_function(X), dtype=np.float64)
        return np.asarray(np.linalg.norm(score.reshape(len(score), -1), axis=1))
    if not isinstance(model, DensityModel):
        raise CapabilityError(
            f"{type(model).__name__} has no density of real coordinates, and so no gradient of "
            "log p: use log_prob or typicality"
        )
    x = model._codes(X)
    pieces = []
    for some in x.split(model.chunk):
        centre = torch.full(some.flatten(1).shape, 0.5, dtype=torch.float64, device=some.device)
        y = model.real(some, centre)[0].detach().requires_grad_()
        with torch.enable_grad():
            (g,) = torch.autograd.grad(model.log_density(y).sum(), y)
        pieces.append(g.norm(dim=1))
    return np.asarray(torch.cat(pieces).cpu().numpy(), dtype=np.float64)


def compressed_bits(space: Space, X: Any) -> np.ndarray:
    """L of each row, (n,): the bits that zlib needs for it, beyond those of an empty one.

    Cells are bytes, levels as they are and numbers rounded to 256 steps between the least and the
    largest of X. Those of an image are differences to the pixel on the left, as in PNG.
    """
    x = space.encode(X, missing=True).double().nan_to_num()
    if any(levels == 0 or levels > 256 for levels in space.cardinality):
        low, high = x.amin(), x.amax()
        x = (255 * (x - low) / (high - low).clamp_min(1e-300)).round()
    if space.image_shape is not None:
        x = torch.cat([x[..., :1], x[..., 1:] - x[..., :-1]], -1)
    rows = _bytes(x)
    empty = len(zlib.compress(b"", 9))
    return np.array([8.0 * (len(zlib.compress(row.tobytes(), 9)) - empty) for row in rows])


def _bytes(x: Tensor) -> np.ndarray:
    """Whole numbers modulo 256, (n, d)."""
    return x.flatten(1).long().remainder(256).to(torch.uint8).numpy()
