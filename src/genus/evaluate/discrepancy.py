"""Do the kernel means of samples and real rows differ?

    MMD² = E k(x, x′) + E k(y, y′) − 2 E k(x, y)

It is 0 on average when they come from one distribution.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from sklearn.utils import check_random_state

from genus.evaluate.view import check_same_count


@dataclass(frozen=True)
class MMD:
    """The unbiased squared maximum mean discrepancy and its p-value.

    It is about 0, or below, for one distribution.
    """

    mmd2: float
    p_value: float
    bandwidth: float
    n: int


def mmd(
    real: np.ndarray, fake: np.ndarray, *, permutations: int = 500, random_state: int = 0
) -> MMD:
    r"""Maximum mean discrepancy with a permutation test.

        MMD² = Σ_{i≠j} [k(x_i, x_j) + k(y_i, y_j)] / m(m−1) − 2 Σ_{ij} k(x_i, y_j) / m²

    This is the unbiased estimate, with k the mean of three Gaussian kernels whose widths are ½, 1
    and 2 times the median distance of the pooled rows. All permutations of the labels are one
    matrix product: for Z of ±1 columns, the sums within and between come from K Z. ``p_value`` is
    (1 + #{permuted ≥ observed}) / (1 + permutations).

    Source: Gretton et al. (2012).

    Parameters
    ----------
    real, fake : array
        Numeric views of rows, (m, p) each, with the same m.
    permutations : int, default=500
        Of the labels, real and fake.
    random_state : int, default=0
        Seed of the permutations.

    Raises
    ------
    ValueError
        When the counts differ or m < 10.
    """
    check_same_count(real, fake)
    m = len(real)
    d2 = _squared_distances(np.concatenate([real, fake]))
    median = float(np.median(d2[np.triu_indices(2 * m, 1)]))
    d2 /= 2 * (median if median > 0 else 1.0)
    middle = np.exp(-d2)  # of width 1; the others are its powers
    narrow, wide = np.square(np.square(middle)), np.sqrt(np.sqrt(middle))
    k = (narrow + middle + wide) / 3
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
    p_value = (1 + beyond) / (1 + permutations)
    return MMD(float(values[0]), p_value, math.sqrt(median), 2 * m)


def _squared_distances(x: np.ndarray) -> np.ndarray:
    square = np.einsum("ij,ij->i", x, x)
    return np.maximum(square[:, None] + square[None] - 2 * (x @ x.T), 0.0)
