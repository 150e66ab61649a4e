"""The six flows: which map each step is."""

from __future__ import annotations

from typing import Any, ClassVar

import torch

from genus.distributions.bijections import ActNorm, Bijection, Inverse, Mix, Permute
from genus.learn.trainer import Trainer
from genus.models.flows.couplings import Affine, Coupling, Shift, Spline, board
from genus.models.flows.flow import Flow
from genus.networks.blueprints import Blueprint
from genus.settings import Flag, Number, Rule, Whole
from genus.space import Space


class NICE(Flow):
    """Additive couplings, z_B = y_B + t(y_A), and one scale a coordinate at the end.

    The arguments are those of :class:`Flow`.

    Source: Dinh, Krueger & Bengio (2015).

    Examples
    --------
    >>> import numpy as np, genus
    >>> X = np.random.default_rng(0).normal(size=(200, 2))
    >>> model = genus.NICE(2, trainer=genus.Trainer(epochs=1), random_state=0).fit(X)
    >>> np.allclose(model.decode(model.encode(X)), X, atol=1e-4)
    True
    """

    def step(self, shape: tuple[int, ...], i: int) -> list[Bijection]:
        return _alternating(self, shape, i, Shift())

    def last(self, d: int) -> list[Bijection]:
        return [ActNorm(d)]


class RealNVP(Flow):
    """Affine couplings, z_B = y_B e^{s(y_A)} + t(y_A); of images by checkerboards and channels.

    The arguments are those of :class:`Flow`.

    Source: Dinh, Sohl-Dickstein & Bengio (2017).

    Examples
    --------
    >>> import numpy as np, genus
    >>> X = np.random.default_rng(0).normal(size=(200, 2))
    >>> model = genus.RealNVP(2, trainer=genus.Trainer(epochs=1), random_state=0).fit(X)
    >>> model.log_prob(X)
    Exact(mean = -... nats, ... bits/dim, n=200, density)
    """

    def step(self, shape: tuple[int, ...], i: int) -> list[Bijection]:
        return _alternating(self, shape, i, Affine())


class Glow(Flow):
    """Actnorm, an invertible matrix of the channels, an affine coupling.

    The channels that leave a scale of an image have a base density given those that stay. The
    arguments are those of :class:`Flow`.

    Source: Kingma & Dhariwal (2018).

    Examples
    --------
    >>> import numpy as np, genus
    >>> X = np.random.default_rng(0).integers(0, 4, (60, 4, 4))
    >>> model = genus.Glow(1, trainer=genus.Trainer(epochs=1), random_state=0).fit(X)
    >>> model.sample(2, random_state=0).shape
    (2, 4, 4)
    """

    def step(self, shape: tuple[int, ...], i: int) -> list[Bijection]:
        return [ActNorm(shape[0]), Mix(shape[0], self.rng), self._coupling(shape, Affine())]

    def leave(self, shape: tuple[int, int, int]) -> Coupling | None:
        return self._coupling(shape, Affine())


class MAF(Flow):
    """Affine autoregressive steps: quick to score, one coordinate at a time to sample.

    The arguments are those of :class:`Flow`.

    Source: Papamakarios, Pavlakou & Murray (2017).

    Examples
    --------
    >>> import numpy as np, genus
    >>> X = np.random.default_rng(0).normal(size=(200, 2))
    >>> model = genus.MAF(2, trainer=genus.Trainer(epochs=1), random_state=0).fit(X)
    >>> model.score_samples(X).shape
    (200,)
    """

    def step(self, shape: tuple[int, ...], i: int) -> list[Bijection]:
        return [self._autoregressive(shape[0], i, Affine())]

    def _levels(self, space: Space) -> int:
        return _vectors_only(self, super()._levels(space))


class IAF(Flow):
    """Affine autoregressive steps turned round: quick to sample, slow to score.

    They score one coordinate at a time. The arguments are those of :class:`Flow`.

    Source: Kingma et al. (2016).

    Examples
    --------
    >>> import numpy as np, genus
    >>> X = np.random.default_rng(0).normal(size=(200, 2))
    >>> model = genus.IAF(2, trainer=genus.Trainer(epochs=1), random_state=0).fit(X)
    >>> model.sample(3, random_state=0).shape
    (3, 2)
    """

    by_default = False  # to score, and so to learn from data, takes d passes

    def step(self, shape: tuple[int, ...], i: int) -> list[Bijection]:
        return [Inverse(self._autoregressive(shape[0], i, Affine()))]

    def _levels(self, space: Space) -> int:
        return _vectors_only(self, super()._levels(space))


class SplineFlow(Flow):
    """Monotone rational-quadratic splines, by coupling or autoregressive.

    Source: Durkan, Bekasov, Murray & Papamakarios (2019).

    Parameters
    ----------
    n_transforms : int, default=6
        Steps, see :class:`Flow`.
    conditioner : blueprint or None, default=None
        The network of a step, see :class:`Flow`.
    bins : int, default=8
        K of each spline.
    bound : float, default=5.0
        B, in standard deviations of the data; beyond it the map is the identity.
    autoregressive : bool, default=False
        Bend every coordinate at each step.
    levels : int or None, default=None
        Scales of an image, see :class:`Flow`.
    base : int, default=0
        Normals of the base, see :class:`Flow`.
    dequantisation : {"uniform", "variational"}, default="uniform"
        See :class:`Flow`.
    marginals : {"learned", "affine", "logit"} or None, default=None
        How cells become real coordinates: by each column's own distribution, in the units of the
        data, or, of levels, by a logit. None: as :class:`Flow` has it.
    temperature : float, default=1.0
        Scale of the base in ``sample``.
    dtype : {"float32", "float64"}, default="float32"
        Of networks.
    trainer : Trainer or None, default=None
        How the gradient is descended; None: this model's own settings.
    random_state : int, generator or None, default=None
        An int, or a numpy generator; None: fresh at every fit.

    Examples
    --------
    >>> import numpy as np, genus
    >>> X = np.random.default_rng(0).normal(size=(200, 2))
    >>> model = genus.SplineFlow(2, trainer=genus.Trainer(epochs=1), random_state=0).fit(X)
    >>> model.score_samples(X).shape
    (200,)
    """

    arguments: ClassVar[dict[str, Rule]] = {
        "bins": Whole(2, 256),
        "bound": Number(above=0, most=1e6),
        "autoregressive": Flag(),
    }

    def __init__(
        self,
        n_transforms: int = 6,
        conditioner: Blueprint | None = None,
        bins: int = 8,
        bound: float = 5.0,
        autoregressive: bool = False,
        levels: int | None = None,
        base: int = 0,
        dequantisation: str = "uniform",
        marginals: str | None = None,
        temperature: float = 1.0,
        dtype: str = "float32",
        trainer: Trainer | None = None,
        random_state: Any = None,
    ) -> None:
        super().__init__(
            n_transforms,
            conditioner,
            levels,
            base,
            dequantisation,
            marginals,
            temperature,
            dtype,
            trainer,
            random_state,
        )
        self.bins = bins
        self.bound = bound
        self.autoregressive = autoregressive

    def build(self, space: Space) -> None:
        # one for all steps: it learns nothing; in a tuple, as it is no part beside them
        self._g = (Spline(self.bins, self.bound),)
        super().build(space)

    def step(self, shape: tuple[int, ...], i: int) -> list[Bijection]:
        g = self._g[0]
        if self.autoregressive:
            return [self._autoregressive(shape[0], i, g)]
        return _alternating(self, shape, i, g)

    def _levels(self, space: Space) -> int:
        levels = super()._levels(space)
        return _vectors_only(self, levels) if self.autoregressive else levels


def _alternating(
    flow: Flow, shape: tuple[int, ...], i: int, g: Shift | Affine | Spline
) -> list[Bijection]:
    """A coupling, and a shuffle or swap that lets the next one bend the other coordinates.

    Of a vector every second coordinate, then shuffled halves; of an image
    checkerboards, then channels.
    """
    if len(shape) == 1:
        d = shape[0]
        apart = (
            [Permute(torch.cat([torch.arange(0, d, 2), torch.arange(1, d, 2)]))]
            if i == 0 and d > 2
            else []
        )
        return [*apart, flow._coupling(shape, g, swap=True), *flow._shuffle(d, i)]
    c, coupling = shape[0], flow._coupling(shape, g)
    order = board(c // 4) if i < flow.n_transforms // 2 else torch.arange(c)
    to = Permute(order.roll(c // 2) if i % 2 else order)
    return [to, coupling, Permute(to.back_)]


def _vectors_only(flow: Flow, levels: int) -> int:
    if flow.levels and levels:
        raise ValueError(
            f"levels={flow.levels!r}: autoregressive steps take images as vectors; leave levels "
            "out, or use RealNVP or Glow"
        )
    return 0
