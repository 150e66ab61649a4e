"""Are samples copies: nearer to training rows than chance would have it?"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from scipy import stats
from sklearn.utils import check_random_state


@dataclass(frozen=True)
class Memorisation:
    """Whether samples lie nearer to training rows than to held-out rows.

    Attributes
    ----------
    share
        Of the samples whose nearest real row is a training row, weighted
        by how far the next one is.
    expected
        That share without copying.
    p_value
        One-sided.
    excess
        (share − expected) / (1 − expected): 1 when all samples are copies.
    distance_ratio
        Median distance of a sample to its nearest training row, over the same of held-out rows. It
        is far below 1 for copies, but also for samples that are merely too smooth.
    word
        ``no copying``, ``near training rows`` or ``copies training rows``.
    n
        Samples.
    """

    share: float
    expected: float
    p_value: float
    excess: float
    distance_ratio: float
    word: str
    n: int


def memorisation(
    train: np.ndarray,
    held: np.ndarray,
    samples: np.ndarray,
    *,
    held_distance: float | None = None,
    random_state: int = 0,
) -> Memorisation:
    r"""Nearest-neighbour check for copies of training rows.

    Training and held-out rows are exchangeable to a model that has not memorised: among all
    N = n_t + n_h real rows the nearest to a sample is a training row with chance n_t / N. Each
    sample votes for its nearest row with weight w = 1 − d₁/d₂, near 1 for a copy (the next row is
    much further) and small for a fresh draw. With c_i the votes of row i, T = Σ_{i in train} c_i
    has under permuted labels

        E T = n_t C̄,    Var T = n_t n_h / (N(N−1)) Σ (c_i − c̄)²

    which allows for rows that are near to many samples. ``p_value`` is the normal tail of T. Below
    0.001 the word is ``copies training rows`` when ``excess`` ≥ 0.8, else ``near training rows``.

    Unlike a comparison of distances (data-copying test, Meehan et al., 2020), it is
    not misled by samples that are smoother than real rows. Few held-out rows beside
    many training rows make it weak.

    Parameters
    ----------
    train, held, samples : array
        Numeric views of the rows, (n_t, p), (n_h, p) and (n, p).
    held_distance : float or None, default=None
        Median distance of held-out rows to their nearest training row, when already known.
    random_state : int, default=0
        By which ties between real rows are settled.
    """
    n_train, n_held = len(train), len(held)
    n_real = n_train + n_held
    # ties go to the first row, so the rows are shuffled
    order = check_random_state(random_state).permutation(n_real)
    distances, index = two_nearest(samples, np.concatenate([train, held])[order])
    winner = order[index]
    first, second = distances[:, 0], distances[:, 1]

    weight = 1 - np.divide(first, second, where=second > 0, out=np.ones(len(first)))
    votes = np.bincount(winner, weights=weight, minlength=n_real)
    total, won = float(votes.sum()), float(votes[:n_train].sum())
    expected = n_train / n_real
    share = won / total if total > 0 else expected
    excess = (share - expected) / (1 - expected)

    scatter = float(np.square(votes - votes.mean()).sum())
    variance = n_train * n_held / (n_real * max(n_real - 1, 1)) * scatter
    p_value = 1.0
    if variance > 0:
        p_value = float(stats.norm.sf((won - expected * total) / math.sqrt(variance)))

    if held_distance is None:
        held_distance = float(np.median(two_nearest(held, train)[0][:, 0]))
    to_train = first
    elsewhere = winner >= n_train  # the nearest real row is held out
    if elsewhere.any():
        to_train[elsewhere] = two_nearest(samples[elsewhere], train)[0][:, 0]
    distance = float(np.median(to_train))
    if held_distance > 0:
        ratio = distance / held_distance
    else:
        ratio = 1.0 if distance == 0 else math.inf

    if p_value >= 1e-3:
        word = "no copying"
    elif excess >= 0.8:
        word = "copies training rows"
    else:
        word = "near training rows"
    return Memorisation(share, expected, p_value, excess, ratio, word, len(samples))


def two_nearest(x: np.ndarray, rows: np.ndarray, chunk: int = 256) -> tuple[np.ndarray, np.ndarray]:
    """Distances (n, 2) of each row of x to its two nearest of ``rows``, and the index (n,)."""
    r = torch.from_numpy(rows)
    square = r.square().sum(1)
    distances, nearest = [], []
    for part in torch.from_numpy(x).split(chunk):
        d2 = torch.addmm(square, part, r.T, alpha=-2)  # |x|² is the same for all rows
        index = torch.topk(d2, min(2, len(r)), dim=1, largest=False).indices
        exact = (part[:, None] - r[index]).square().sum(2).sqrt()  # free of cancellation
        distances.append(exact.expand(-1, 2))
        nearest.append(index[:, 0])
    return torch.cat(distances).double().numpy(), torch.cat(nearest).numpy()
