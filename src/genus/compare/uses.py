"""What people use the model of a table for: filling in cells, finding rows that do not belong."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from genus.compare.rows import pick
from genus.evaluate.completion import Completion, completion_score, hide
from genus.evaluate.outliers import Outliers, auroc
from genus.likelihood import LogProb
from genus.space import Space

ROWS = 300  # of which cells are hidden, at most
HIDDEN = 0.2  # the share of their cells
DRAWS = 39  # of each hidden cell: 90 % lie between the second and the last but one
SECONDS = 20.0  # to fill them in, at most
SWAPPED = 0.1  # the share of the test rows that get cells of other rows


class UseTest:
    """Hidden cells and swapped cells of the test rows, the same for every model.

    Parameters
    ----------
    space : Space
        Of rows that are vectors of at least two cells.
    train, held : rows
        Training rows, whose marginals are a baseline, and test rows.
    random_state : int
        Seed of the cells that are hidden and of those that are swapped.

    Raises
    ------
    ValueError
        For other rows, and where there are too few of them.
    """

    def __init__(self, space: Space, train: Any, held: Any, random_state: int = 0) -> None:
        if space.dim < 2 or len(held) < 10:
            raise ValueError("two columns and ten test rows are needed at least")
        rng = np.random.RandomState(random_state)
        self.train, self.seed = train, random_state
        self.some = np.sort(rng.permutation(len(held))[:ROWS])
        self.rows = pick(held, self.some)
        self.mask = hide(space, len(self.some), HIDDEN, random_state)
        codes = space.encode(held).double().numpy()
        mixed = swapped(codes, SWAPPED, rng)
        same = (mixed == codes) | (np.isnan(mixed) & np.isnan(codes))
        self.outside = np.flatnonzero(~same.all(1))
        if not len(self.outside):
            raise ValueError("all test rows are alike")
        self.strange = space.decode(torch.from_numpy(mixed[self.outside]))

    def completion(self, model: Any, given: Any = None) -> Completion:
        """How well the model fills in the hidden cells; ``given`` as of the test rows.

        Raises TimeoutError where that takes more than SECONDS.
        """
        return completion_score(
            model,
            self.rows,
            hidden=self.mask,
            train=self.train,
            draws=DRAWS,
            given=pick(given, self.some),
            seconds=SECONDS,
            random_state=self.seed,
        )

    def outliers(self, model: Any, log_prob: LogProb, given: Any = None) -> Outliers:
        """How well rows with swapped cells are told from the other test rows.

        ``log_prob``: of all test rows as they were.
        """
        more = {} if given is None else {"given": pick(given, self.outside)}
        strange = np.asarray(model.log_prob(self.strange, **more).nats)
        return auroc(np.delete(np.asarray(log_prob.nats), self.outside), strange)


def swapped(codes: np.ndarray, share: float, rng: np.random.RandomState) -> np.ndarray:
    """A copy of rows (n, d), a share of which has cells of other rows.

    These have a fifth of their cells, at least two, each from any row.
    """
    n, d = codes.shape
    out, k = codes.copy(), max(2, d // 5)
    for i in rng.permutation(n)[: max(1, round(share * n))]:
        cells = rng.permutation(d)[:k]
        out[i, cells] = codes[rng.randint(n, size=k), cells]
    return out
