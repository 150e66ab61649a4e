"""Do samples lie where real rows lie, and real rows where samples do?

B_k(r) is the ball around a row r that reaches to its k-th nearest neighbour among its own kind.

    precision   the share of samples in some ball of a real row
    recall      the share of real rows in some ball of a sample
    density     the mean number of balls of real rows that a sample is in, over k
    coverage    the share of real rows whose ball holds a sample

A model that draws good rows of few sorts has precision without recall. Density and coverage lean on
the balls of real rows alone, so that a stray sample with its large ball does not count. Of one
distribution and as many of each, coverage is 1 − ½ᵏ on average, and density 1.

Sources: Kynkäänniemi et al. (2019); Naeem et al. (2020).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from genus.evaluate.view import check_same_count


@dataclass(frozen=True)
class Overlap:
    """Precision, recall, density and coverage of n samples and n real rows, by k neighbours."""

    precision: float
    recall: float
    density: float
    coverage: float
    k: int
    n: int


def overlap(real: np.ndarray, fake: np.ndarray, *, k: int = 5) -> Overlap:
    """How real rows and samples lie among each other.

    Parameters
    ----------
    real, fake : array
        Numeric views of rows or their embeddings, (n, p) each, with the same n.
    k : int, default=5
        Neighbours that a ball reaches to, below n.

    Raises
    ------
    ValueError
        When the counts differ, n < 10, or k is not below n.
    """
    check_same_count(real, fake)
    if not 1 <= k < len(real):
        raise ValueError(f"k={k!r}: a whole number from 1 to {len(real) - 1} is needed")
    a, b = (torch.from_numpy(np.ascontiguousarray(v, dtype=np.float64)) for v in (real, fake))
    between = torch.cdist(a, b)  # (real, fake)
    in_real = between <= _radius(a, k)[:, None]
    in_fake = between <= _radius(b, k)[None, :]
    return Overlap(
        precision=float(in_real.any(0).double().mean()),
        recall=float(in_fake.any(1).double().mean()),
        density=float(in_real.double().sum(0).mean() / k),
        coverage=float(in_real.any(1).double().mean()),
        k=k,
        n=len(real),
    )


def _radius(x: Tensor, k: int) -> Tensor:
    """The distance of each row to its k-th nearest other one, (n,)."""
    own = torch.cdist(x, x).fill_diagonal_(torch.inf)
    return own.kthvalue(k, 1).values
