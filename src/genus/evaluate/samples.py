"""Are samples of a model like rows it has not seen, and more than copies of those it has?

Six questions, all asked of a numeric view of the rows that serves any space:

    classifier_test   can a classifier tell samples from held-out rows?   accuracy ½: it cannot
    network_test      can a network that learned on other rows and draws?
    mmd               do their kernel means differ?                       0 on average: they do not
    frechet           do Gaussians fitted in a small embedding differ?    beside real against real
    overlap           do they lie where held-out rows lie, and everywhere there?
    memorisation      are samples nearer to training rows than to held-out ones?

:class:`SampleTest` asks them of one model after another, against the same rows and in the same
counts.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from sklearn.utils import check_random_state
from torch import Tensor

from genus.coding import as_array
from genus.evaluate.c2st import ClassifierTest, classifier_test, network_test
from genus.evaluate.copies import Memorisation, memorisation, two_nearest
from genus.evaluate.discrepancy import MMD, mmd
from genus.evaluate.embedding import Embedding, Frechet, frechet, frechet_spread
from genus.evaluate.manifolds import Overlap, overlap
from genus.evaluate.view import NumericView
from genus.space import Space


@dataclass(frozen=True)
class SampleQuality:
    """The measures of one model's samples, from n samples and n held-out rows.

    network is None where there are no further samples for it to learn from.
    """

    classifier: ClassifierTest
    mmd: MMD
    frechet: Frechet
    memorisation: Memorisation
    n: int
    overlap: Overlap
    network: ClassifierTest | None = None


class SampleTest:
    """Real rows made ready once, so that samples of every model are measured against the same.

    Model samples have no missing cells and real rows may: the holes of the held-out rows are laid
    over the samples, which is fair where values are missing at random.

    Parameters
    ----------
    space : Space
        Of the rows.
    train, test : rows
        As the caller has them: those that models learned from and those kept from them.
    y : array or None, default=None
        Labels of ``train``, for the embedding.
    rows : int, default=1000
        Samples and held-out rows compared, at most. ``n``, what is used, is also no more than the
        test rows and half the training rows: the other half teaches the embedding, so that the
        distance of real rows to real rows is free of it.
    random_state : int, default=0
        Seed of the rows that are chosen, and of all measures.

    Raises
    ------
    ValueError
        When fewer than 10 rows can be compared.
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
        self.view = NumericView(space, x)
        self.train, self.held = self.view(x), self.view(held)
        self.train_holes = torch.isnan(x.double())
        chosen = rng.permutation(len(held))[: self.n]
        self.real = self.held[chosen]
        self.holes = torch.isnan(held.double()[chosen])
        order = rng.permutation(len(x))
        floor, rest = order[: self.n], order[self.n :]
        labels = None if y is None else np.asarray(y)[rest]
        self.embedding = Embedding(self.train[rest], labels, random_state=random_state)
        self.embedded = self.embedding(self.real)
        other = self.embedding(self.train[floor])
        self.floor = frechet(other, self.embedded)
        self.spread = frechet_spread(other, self.embedded, random_state=random_state)
        self.held_distance = float(np.median(two_nearest(self.real, self.train)[0][:, 0]))

    def __call__(self, samples: Any) -> SampleQuality:
        """Measure samples (at least n rows) as the model gave them.

        The first n are judged. Where there are as many again or more, a network learns on the rest,
        up to the number of training rows, and judges as well. Raises ValueError when they are too
        few or hold values that are not numbers.
        """
        codes = self._codes(samples).double()
        if len(codes) < self.n:
            raise ValueError(
                f"{len(codes)} samples are fewer than the {self.n} "
                f"held-out rows: draw at least {self.n}"
            )
        if not bool(torch.isfinite(codes).all()):
            raise ValueError("the samples hold NaN or inf: the model did not fit")
        codes, rest = codes[: self.n], codes[self.n : self.n + len(self.train)]
        fake = self.view(torch.where(self.holes, math.nan, codes))
        seed, n = self.random_state, self.n
        embedded = self.embedding(fake)
        distance = frechet(embedded, self.embedded)
        copies = memorisation(
            self.train, self.held, fake, held_distance=self.held_distance, random_state=seed
        )
        return SampleQuality(
            classifier_test(self.real, fake, random_state=seed),
            mmd(self.real, fake, random_state=seed),
            Frechet(distance, self.floor, self.embedding.name, n, self.spread),
            copies,
            n,
            overlap(self.embedded, embedded, k=min(5, n - 1)),
            self._network(rest, fake) if len(rest) >= n else None,
        )

    def _network(self, rest: Tensor, fake: np.ndarray) -> ClassifierTest:
        """A network that learns on training rows and the draws ``rest``, with their holes."""
        train = self.train[: len(rest)]
        holes = self.train_holes[: len(rest)]
        drawn = self.view(torch.where(holes, math.nan, rest))
        return network_test(train, drawn, self.real, fake, random_state=self.random_state)

    def _codes(self, samples: Any) -> Tensor:
        try:
            return self.space.encode(samples)
        except ValueError:  # a continuous model of whole numbers draws values between them
            if self.space.kind not in ("binary", "ordinal", "integer"):
                raise
            return torch.from_numpy(as_array(samples).astype(np.float64) - self.space.low)
