"""Are samples of a model like rows it has not seen, and more than copies of those it has?

Four questions, all asked of a numeric view of the rows (:class:`Features`) that serves any space:

    classifier_test   can a classifier tell samples from held-out rows?   accuracy ½: it cannot
    mmd               do their kernel means differ?                       0 on average: they do not
    frechet           do Gaussians fitted in a small embedding differ?    beside real against real
    memorisation      are samples nearer to training rows than to held-out ones?

:class:`SampleTest` asks all four of one model after another, against the same
rows and in the same counts.
"""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy import stats
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import check_random_state
from torch import Tensor

from genus.coding import as_array
from genus.space import Space

Array = np.ndarray


# ---------------------------------------------------------------------- rows as numbers


class Features:
    """The numeric view of a space's rows: (n, p) float32, centred and scaled by a reference.

    Categories become one-hot columns. Numbers are divided by a standard deviation: their own
    column's in a table or a continuous vector, one common to all cells where cells are of one sort
    (pixels, binary or ordinal arrays), so that a pixel that is almost always off is not blown up. A
    missing cell becomes the mean.

    space: of the rows. x: codes (n, *shape) of the reference rows (the training rows).
    """

    def __init__(self, space: Space, x: Tensor) -> None:
        self.space = space
        raw = self._raw(x)
        with np.errstate(invalid="ignore"):
            self.mean = np.nan_to_num(np.nanmean(_some(raw), axis=0))
            variance = np.nan_to_num(np.nanvar(_some(raw), axis=0))
        numeric = np.concatenate(
            [[k != "categorical"] * (1 if k != "categorical" else c) for k, c in self._blocks()]
        )
        if space.kind in ("binary", "ordinal") or len(space.shape) > 1:
            variance = np.full_like(variance, variance.mean())
        scale = np.sqrt(np.where(numeric, variance, 1.0))
        self.scale = np.where(scale > 1e-12 * np.maximum(np.abs(self.mean), 1e-12), scale, 1.0)

    def __call__(self, x: Tensor) -> Array:
        """Codes (n, *shape) → features (n, p)."""
        return np.nan_to_num((self._raw(x) - self.mean) / self.scale).astype(np.float32)

    def _blocks(self) -> list[tuple[str, int]]:
        return list(zip(self.space.kinds, self.space.cardinality, strict=True))

    def _raw(self, x: Tensor) -> Array:
        codes = x.detach().cpu().flatten(1).double().numpy()
        if "categorical" not in self.space.kinds:
            return codes
        columns = []
        for j, (kind, levels) in enumerate(self._blocks()):
            c = codes[:, j : j + 1]
            if kind == "categorical":
                c = np.where(np.isnan(c), np.nan, c == np.arange(levels))
            columns.append(c)
        return np.concatenate(columns, axis=1)


def _some(raw: Array) -> Array:
    """A row of zeros where a column holds no value at all, so that its mean exists."""
    empty = np.isnan(raw).all(axis=0)
    return np.where(empty, 0.0, raw) if empty.any() else raw


# ---------------------------------------------------------------------- classifier two-sample test


@dataclass(frozen=True)
class ClassifierTest:
    """Accuracy of a classifier between real rows and samples, its error and p-value.

    0.5: indistinguishable.
    """

    accuracy: float
    stderr: float
    p_value: float
    n: int


def classifier_test(
    real: Array, fake: Array, *, folds: int = 5, random_state: int = 0
) -> ClassifierTest:
    """Classifier two-sample test: cross-validated accuracy of boosted trees, real against fake.

    Under the hypothesis that both come from one distribution the number right among n is
    Binomial(n, ½); ``p_value`` is the chance of as many or more (one-sided).

    real, fake: features, (m, p) each, with the same m. folds: of stratified cross-validation.
    Raises ValueError when the counts differ or m < 10. Source: Lopez-Paz & Oquab (2017).
    """
    _same_count(real, fake)
    x = np.concatenate([real, fake])
    y = np.repeat([1, 0], len(real))
    from sklearn.ensemble import HistGradientBoostingClassifier  # slow to import
    from sklearn.model_selection import StratifiedKFold

    right = 0
    # columns a split looks at: all of a table, a part of an image
    some = min(1.0, 256 / x.shape[1])
    for train, test in StratifiedKFold(folds, shuffle=True, random_state=random_state).split(x, y):
        trees = HistGradientBoostingClassifier(
            max_iter=60,
            learning_rate=0.2,
            max_leaf_nodes=8,
            max_features=some,
            random_state=random_state,
        )
        right += int((trees.fit(x[train], y[train]).predict(x[test]) == y[test]).sum())
    n = len(y)
    accuracy = right / n
    stderr = math.sqrt(max(accuracy * (1 - accuracy), 1 / (4 * n)) / n)
    return ClassifierTest(accuracy, stderr, float(stats.binom.sf(right - 1, n, 0.5)), n)


# ---------------------------------------------------------------------- maximum mean discrepancy


@dataclass(frozen=True)
class MMD:
    """The unbiased squared maximum mean discrepancy and its p-value.

    It is about 0, or below, for one distribution.
    """

    mmd2: float
    p_value: float
    bandwidth: float
    n: int


def mmd(real: Array, fake: Array, *, permutations: int = 500, random_state: int = 0) -> MMD:
    r"""Maximum mean discrepancy with a permutation test.

    MMD² = Σ_{i≠j} k(x_i, x_j) / m(m−1) + Σ_{i≠j} k(y_i, y_j) / m(m−1) − 2 Σ_{ij} k(x_i, y_j) / m²,
    the unbiased estimate, with k the mean of three Gaussian kernels whose widths are ½, 1 and 2
    times the median distance of the pooled rows. All permutations of the labels are one matrix
    product: for Z of ±1 columns, the sums within and between come from K Z.

    real, fake: features, (m, p) each, with the same m. p_value: (1 + #{permuted ≥
    observed}) / (1 + permutations). Raises ValueError when the counts differ or m < 10.
    Source: Gretton et al. (2012).
    """
    _same_count(real, fake)
    m = len(real)
    d2 = _squared_distances(np.concatenate([real, fake]))
    median = float(np.median(d2[np.triu_indices(2 * m, 1)]))
    d2 /= 2 * (median if median > 0 else 1.0)
    half = np.exp(-d2)  # width 1; the others are its powers
    k = (np.square(np.square(half)) + half + np.sqrt(np.sqrt(half))) / 3
    np.fill_diagonal(k, 0.0)
    sign = np.repeat(np.array([1.0, -1.0], dtype=k.dtype), m)
    rng = check_random_state(random_state)
    z = np.stack([sign, *(rng.permutation(sign) for _ in range(permutations))], axis=1)
    # zᵀKz = within − between and 1ᵀK1 = within + between, with `between` counting both orders
    total = float(k.sum(dtype=np.float64))
    signed = np.einsum("ij,ij->j", z, k @ z, dtype=np.float64)
    within, between = (total + signed) / 2, (total - signed) / 2
    values = within / (m * (m - 1)) - between / m**2
    beyond = int((values[1:] >= values[0] - 1e-12).sum())
    return MMD(float(values[0]), (1 + beyond) / (1 + permutations), math.sqrt(median), 2 * m)


def _squared_distances(x: Array) -> Array:
    square = np.einsum("ij,ij->i", x, x)
    return np.maximum(square[:, None] + square[None] - 2 * (x @ x.T), 0.0)


# ---------------------------------------------------------------------- Fréchet distance


@dataclass(frozen=True)
class Frechet:
    """Fréchet distance of samples to held-out rows in an embedding, and that of real rows.

    Both are of the same counts of rows.
    """

    distance: float
    floor: float
    embedding: str
    n: int

    @property
    def name(self) -> str:
        """Such as ``Fréchet (pca-16)``."""
        return f"Fréchet ({self.embedding})"


class Embedding:
    """A small map of features to a few numbers, learned from real rows.

    ``classifier-16`` or ``pca-16``.

    With labels, the last hidden layer of a small classifier; without, principal components. It is
    scaled so
    that the real rows have total variance 1: a Fréchet distance of 1 is as wrong as one constant
        for all rows.

    x: features (n, p). y: labels (n,) or None; used when there are 2 to 100
    classes. size: of the embedding.
    """

    rows = 5000  # real rows it is learned from, at most

    def __init__(self, x: Array, y: Any = None, *, size: int = 16, random_state: int = 0) -> None:
        chosen = check_random_state(random_state).permutation(len(x))[: self.rows]
        x = x[chosen]
        labels = None if y is None else _labels(np.asarray(y)[chosen])
        self.scale = 1.0
        self.layers: list[tuple[Array, Array]] = []
        if labels is not None:
            from sklearn.neural_network import MLPClassifier

            net = MLPClassifier(
                (128, size), max_iter=30, early_stopping=len(x) >= 200, random_state=random_state
            )
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ConvergenceWarning)
                net.fit(x, labels)
            self.layers = list(zip(net.coefs_[:-1], net.intercepts_[:-1], strict=True))
            self.name = f"classifier-{size}"
        else:
            centre = x.mean(axis=0)
            size = min(size, *x.shape)
            _, directions = np.linalg.eigh(
                np.cov((x - centre).astype(np.float64), rowvar=False).reshape(x.shape[1], -1)
            )
            self.centre, self.directions = centre, directions[:, ::-1][:, :size]
            self.name = f"pca-{size}"
        spread = float(self(x).var(axis=0).sum())
        self.scale = math.sqrt(spread) if spread > 0 else 1.0

    def __call__(self, x: Array) -> Array:
        """Features (n, p) → embedding (n, size), float64."""
        h = x.astype(np.float64)
        if not self.layers:
            return np.asarray((h - self.centre) @ self.directions / self.scale)
        for weight, bias in self.layers:
            h = np.maximum(h @ weight + bias, 0.0)
        return h / self.scale


def _labels(y: Array) -> Array | None:
    """Class numbers of labels that a classifier can learn, else None."""
    if y.ndim != 1 or (y.dtype.kind == "f" and not np.array_equal(y, np.floor(y))):
        return None
    names, classes, counts = np.unique(y.astype(str), return_inverse=True, return_counts=True)
    return classes if 2 <= len(names) <= 100 and counts.min() >= 3 else None


def frechet(a: Array, b: Array) -> float:
    """Fréchet distance between the Gaussians fitted to two sets of embedded rows, (n, k) each."""
    return frechet_gaussians(
        a.mean(axis=0), np.cov(a, rowvar=False), b.mean(axis=0), np.cov(b, rowvar=False)
    )


def frechet_gaussians(mean_a: Array, cov_a: Array, mean_b: Array, cov_b: Array) -> float:
    r"""Squared 2-Wasserstein distance between two Gaussians.

    |μ_a − μ_b|² + tr(Σ_a + Σ_b − 2 (Σ_a^½ Σ_b Σ_a^½)^½). Means (k,), covariances (k, k).
    Source: Dowson & Landau (1982).
    """
    cov_a, cov_b = np.atleast_2d(cov_a), np.atleast_2d(cov_b)
    value, vector = np.linalg.eigh(cov_a)
    root = (vector * np.sqrt(np.maximum(value, 0.0))) @ vector.T
    cross = np.sqrt(np.maximum(np.linalg.eigvalsh(root @ cov_b @ root), 0.0)).sum()
    return float(
        np.square(np.subtract(mean_a, mean_b)).sum() + np.trace(cov_a) + np.trace(cov_b) - 2 * cross
    )


# ---------------------------------------------------------------------- memorisation


@dataclass(frozen=True)
class Memorisation:
    """Whether samples lie nearer to training rows than to held-out rows.

    share: of the samples whose nearest real row is a training row, weighted by how far the next one
        is.
    expected: that share without copying. p_value: one-sided. excess: (share − expected) / (1 −
    expected), 1 when all are copies. distance_ratio: median distance of a sample to its nearest
    training row, over the same of held-out rows; far below 1 for copies, but also for samples that
    are merely too smooth.
    word: ``no copying``, ``near training rows`` or ``copies training rows``.
    """

    share: float
    expected: float
    p_value: float
    excess: float
    distance_ratio: float
    word: str
    n: int


def memorisation(
    train: Array,
    held: Array,
    samples: Array,
    *,
    held_distance: float | None = None,
    random_state: int = 0,
) -> Memorisation:
    r"""Nearest-neighbour check for copies of training rows.

    Training and held-out rows are exchangeable to a model that has not memorised: among all N = n_t
    + n_h real rows the nearest to a sample is a training row with chance n_t / N. Each sample votes
    for its nearest row with weight w = 1 − d₁/d₂, near 1 for a copy (the next row is much further)
    and small for a fresh draw. With c_i the votes of row i, T = Σ_{i in train} c_i has under
    permuted labels the mean n_t C̄ and the variance n_t n_h / (N(N−1)) Σ (c_i − c̄)², which allows
    for rows that are near to many samples.
    ``p_value``: normal tail of T. Below 0.001 the word is ``copies training rows`` when ``excess``
    ≥ 0.8, else ``near training rows``. Unlike a comparison of distances (data-copying test, Meehan
    et al., 2020), it is not misled by samples that are smoother than real rows.

    train (n_t, p), held (n_h, p), samples (n, p): features. held_distance: median distance of
    held-out rows to their nearest training row, when already known. Few held-out rows beside many
    training rows make it weak.
    """
    nt, nh = len(train), len(held)
    n = nt + nh
    order = check_random_state(random_state).permutation(n)  # ties go to the first: make that fair
    nearest, which = _two_nearest(samples, np.concatenate([train, held])[order])
    winner = order[which]
    weight = 1 - np.divide(
        nearest[:, 0], nearest[:, 1], where=nearest[:, 1] > 0, out=np.ones(len(nearest))
    )
    votes = np.bincount(winner, weights=weight, minlength=n)
    expected, total = nt / n, float(votes.sum())
    won = float(votes[:nt].sum())
    variance = nt * nh / (n * max(n - 1, 1)) * float(np.square(votes - votes.mean()).sum())
    p = (
        float(stats.norm.sf((won - expected * total) / math.sqrt(variance)))
        if variance > 0
        else 1.0
    )
    share = won / total if total > 0 else expected
    excess = (share - expected) / (1 - expected)
    if held_distance is None:
        held_distance = float(np.median(_two_nearest(held, train)[0][:, 0]))
    own = nearest[:, 0]
    # nearest to a held-out row: how far is the nearest training row?
    if (away := winner >= nt).any():
        own[away] = _two_nearest(samples[away], train)[0][:, 0]
    mine = float(np.median(own))
    ratio = mine / held_distance if held_distance > 0 else (1.0 if mine == 0 else math.inf)
    word = (
        "no copying"
        if p >= 1e-3
        else "copies training rows"
        if excess >= 0.8
        else "near training rows"
    )
    return Memorisation(share, expected, p, excess, ratio, word, len(samples))


def _two_nearest(x: Array, rows: Array, chunk: int = 256) -> tuple[Array, Array]:
    """Distances (n, 2) of each row of x to its two nearest of ``rows``, and the index (n,)."""
    r = torch.from_numpy(rows)
    square = r.square().sum(1)
    distances, which = [], []
    for part in torch.from_numpy(x).split(chunk):
        d2 = torch.addmm(square, part, r.T, alpha=-2)  # |x|² is added once the two are found
        index = torch.topk(d2, min(2, len(r)), dim=1, largest=False).indices
        exact = (part[:, None] - r[index]).square().sum(2).sqrt()  # free of cancellation
        distances.append(exact.expand(-1, 2))
        which.append(index[:, 0])
    return torch.cat(distances).double().numpy(), torch.cat(which).numpy()


# ---------------------------------------------------------------------- all four


@dataclass(frozen=True)
class SampleQuality:
    """The four measures of one model's samples, from n samples and n held-out rows."""

    classifier: ClassifierTest
    mmd: MMD
    frechet: Frechet
    memorisation: Memorisation
    n: int


class SampleTest:
    """Real rows made ready once, so that samples of every model are measured against the same.

    space: of the rows. train, test: rows as the caller has them, those that models learned from and
    those kept from them. y: labels of ``train``, for the embedding. rows: samples and held-out rows
    compared, at most; n, what is used, is also no more than the test rows and half the training
    rows (the other half teaches the embedding, so that the real/real floor is free of it).

    Model samples have no missing cells and real rows may: the holes of the held-out rows are laid
    over the samples, which is fair where values are missing at random.

    Raises ValueError when fewer than 10 rows can be compared.
    """

    def __init__(
        self,
        space: Space,
        train: Any,
        test: Any,
        y: Any = None,
        *,
        rows: int = 1000,
        random_state: int = 0,
    ) -> None:
        x, held = space.encode(train), space.encode(test)
        self.space, self.random_state = space, random_state
        self.n = min(rows, len(held), len(x) // 2)
        if self.n < 10:
            raise ValueError(
                f"{len(x)} training and {len(held)} test rows are too few "
                "to judge samples: 20 and 10 are needed"
            )
        rng = check_random_state(random_state)
        self.features = Features(space, x)
        self.train, self.held = self.features(x), self.features(held)
        chosen = rng.permutation(len(held))[: self.n]
        self.real = self.held[chosen]
        self.holes = torch.isnan(held.double()[chosen])
        order = rng.permutation(len(x))
        floor, rest = order[: self.n], order[self.n :]
        self.embedding = Embedding(
            self.train[rest], None if y is None else np.asarray(y)[rest], random_state=random_state
        )
        self.embedded = self.embedding(self.real)
        self.floor = frechet(self.embedding(self.train[floor]), self.embedded)
        self.held_distance = float(np.median(_two_nearest(self.real, self.train)[0][:, 0]))

    def __call__(self, samples: Any) -> SampleQuality:
        """Measure samples (at least n rows; the first n are used) as the model gave them.

        Raises ValueError when they are too few or hold values that are not numbers.
        """
        codes = self._codes(samples).double()
        if len(codes) < self.n:
            raise ValueError(
                f"{len(codes)} samples are fewer than the {self.n} "
                f"held-out rows: draw at least {self.n}"
            )
        codes = codes[: self.n]
        if not bool(torch.isfinite(codes).all()):
            raise ValueError("the samples hold NaN or inf: the model did not fit")
        fake = self.features(torch.where(self.holes, math.nan, codes))
        seed = self.random_state
        return SampleQuality(
            classifier_test(self.real, fake, random_state=seed),
            mmd(self.real, fake, random_state=seed),
            Frechet(
                frechet(self.embedding(fake), self.embedded),
                self.floor,
                self.embedding.name,
                self.n,
            ),
            memorisation(
                self.train, self.held, fake, held_distance=self.held_distance, random_state=seed
            ),
            self.n,
        )

    def _codes(self, samples: Any) -> Tensor:
        try:
            return self.space.encode(samples)
        except ValueError:  # a continuous model of whole numbers draws values between them
            if self.space.kind not in ("binary", "ordinal"):
                raise
            return torch.from_numpy(as_array(samples).astype(np.float64) - self.space.low)


def _same_count(real: Array, fake: Array) -> None:
    if len(real) != len(fake) or len(real) < 10:
        raise ValueError(
            f"{len(real)} real rows and {len(fake)} samples: "
            "as many of each, and at least 10, are needed"
        )
