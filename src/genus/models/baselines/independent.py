"""The baseline that keeps everyone honest: every column on its own."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from genus.distributions.marginals import Marginals
from genus.learn.fit import Fit
from genus.likelihood import Exact, LogProb
from genus.model import Model
from genus.space import Space

MOST = 1 << 18  # rows from which columns are learned


class Independent(Model):
    r"""Every column on its own: p(x) = Π_j p_j(x_j), each by the kind of its values.

    Words have a share each; whole numbers have masses with tails; real numbers have a smooth
    density with atoms, bounds and tails as heavy as the data's. A model that does not beat it has
    learned nothing about how columns depend on each other.

    Parameters
    ----------
    random_state : int, generator or None, default=None
        An int, or a numpy generator; None: fresh at every fit.

    Examples
    --------
    >>> import genus
    >>> data = genus.data.load("digits")
    >>> genus.Independent(random_state=0).fit(data.train).log_prob(data.test)
    Exact(mean = -... nats, ... bits/dim, n=359, probability)
    """

    allow_nan = True
    learned_by = "counting"

    marginals_: Marginals

    def __init__(self, random_state: Any = None) -> None:
        self.random_state = random_state

    def build(self, space: Space) -> None:
        self.marginals_ = Marginals(space)

    def learn(self, fit: Fit) -> None:
        self.marginals_.fit(fit.rows.look(MOST, self.rng)[0])

    def n_parameters(self) -> int:
        """Free numbers of all columns: shares, knots with their scores, atoms and tails."""
        self._check_fitted()
        return self.marginals_.n_parameters()

    # ------------------------------------------------------------------ hooks

    def _log_prob(self, x: Tensor) -> LogProb:
        return Exact(self.marginals_.log_prob(x.flatten(1)).sum(1))

    def _sample(self, n: int, rng: torch.Generator) -> Tensor:
        return self.marginals_.sample(n, rng).reshape(n, *self.space_.cell_shape)

    def _complete(self, x: Tensor, rng: torch.Generator) -> Tensor:
        return torch.where(torch.isnan(x), self._sample(len(x), rng).to(x.dtype), x)
