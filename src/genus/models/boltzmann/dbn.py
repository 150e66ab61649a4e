"""The deep belief network (Hinton, Osindero & Teh, 2006): directed layers below an RBM.

    p(v, h) = p(v | h₁) p(h₁ | h₂) … p(h_{L−1}, h_L),      the last by an RBM, e^{−E}/Z
    p(h_{l−1} | h_l)  as the RBM of layer l draws its visible units

Layers are learned from below: each is an RBM of the activities of the one beneath, drawn afresh for
every batch. Its bound is that of the recognition model q(h | v) = Π_l p(h_l | h_{l−1}) of the same
RBMs, read upwards; F is the free energy of the top RBM:

    log p(v) ≥ E log (1/K) Σ_k p(v | h₁) … p(h_{L−2} | h_{L−1}) e^{−F(h_{L−1})} / q(h | v) − log Z

with h₁ … h_{L−1} ~ q. It is tight where the top RBM is the one below turned over.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from genus.distributions.points import log_mean_exp, row_uniforms
from genus.encoder import Encoder
from genus.learn.descent import descend
from genus.learn.fit import Fit
from genus.learn.rows import Rows
from genus.learn.trainer import Trainer
from genus.likelihood import Estimate, LogProb, LowerBound
from genus.model import Model, on_rows
from genus.models.boltzmann.dbm import refuse_numbers
from genus.models.boltzmann.rbm import RBM, usual_trainer
from genus.samplers.annealing import LogPartition
from genus.settings import Each, OneOf, Rule, Whole
from genus.space import Space


class DBN(Encoder, Model):
    r"""A stack of layers of binary units, directed but for the two on top, which are an RBM.

    ``log_prob`` is a ``LowerBound`` where the top RBM's Z is enumerated, else an ``Estimate`` of a
    bound. Its visible units are bits, words or levels. It does not complete rows: what is missing
    is not independent given the layer above; ``DBM`` does.

    Parameters
    ----------
    n_hidden : tuple of ints, default=(128, 128)
        Sizes of the layers, the lowest first; at least one.
    method : {"pcd", "cd"}, default="pcd"
        How each layer learns: a persistent chain, or a chain started at the data.
    k : int, default=1
        Gibbs steps a gradient.
    n_points : int, default=64
        Importance points of a row's likelihood.
    n_annealing : int, default=2000
        Temperatures of annealed importance sampling of the top RBM.
    burn_in : int, default=200
        Temperatures through which ``sample`` anneals the top RBM.
    trainer : Trainer or None, default=None
        How each layer descends; None: as an RBM does.
    random_state : int, generator or None, default=None
        An int, or a numpy generator; None: fresh at every fit.

    Raises
    ------
    ValueError
        Where a column is of real numbers, for which there is RBM.

    Examples
    --------
    >>> import numpy as np, genus
    >>> X = np.repeat([[0, 0, 1, 1], [1, 1, 0, 0]], 50, axis=0)
    >>> model = genus.DBN((4, 3), trainer=genus.Trainer(epochs=5), random_state=0).fit(X)
    >>> model.log_prob(X)
    LowerBound(mean ≥ -... nats, ... bits/dim, n=100, probability, k=64)
    """

    arguments: ClassVar[dict[str, Rule]] = {
        "n_hidden": Each(Whole(1), says="a list of sizes"),
        "method": OneOf("pcd", "cd"),
        "k": Whole(1),
        "n_points": Whole(1),
        "n_annealing": Whole(1),
        "burn_in": Whole(1),
    }
    learned_by = "contrastive divergence, layer by layer"

    layers_: Any  # RBMs, the lowest first

    def __init__(
        self,
        n_hidden: tuple[int, ...] = (128, 128),
        method: str = "pcd",
        k: int = 1,
        n_points: int = 64,
        n_annealing: int = 2000,
        burn_in: int = 200,
        trainer: Trainer | None = None,
        random_state: Any = None,
    ) -> None:
        self.n_hidden = n_hidden
        self.method = method
        self.k = k
        self.n_points = n_points
        self.n_annealing = n_annealing
        self.burn_in = burn_in
        self.trainer = trainer
        self.random_state = random_state

    # ------------------------------------------------------------------ construction

    def build(self, space: Space) -> None:
        if not self.n_hidden:
            raise ValueError("n_hidden=() is no layer: pass sizes, as (128, 128)")
        self.layers_ = nn.ModuleList()
        below = space
        for H in self.n_hidden:
            rbm = RBM(
                int(H),
                method=self.method,
                k=self.k,
                n_annealing=self.n_annealing,
                burn_in=self.burn_in,
                trainer=self.trainer,
            )
            self.layers_.append(self.part(rbm, below))
            below = Space((int(H),), "binary")
        refuse_numbers(self.layers_[0].units_, "DBN")

    def defaults(self, n: int) -> Trainer:
        return usual_trainer(n)

    # ------------------------------------------------------------------ learning

    def learn(self, fit: Fit) -> None:
        """Each layer in turn, as an RBM of the activities below, within its share of the time."""
        rows = fit.rows
        for l, layer in enumerate(self.layers_):
            self._learn_layer(layer, rows, fit, f"layer {l + 1}", len(self.layers_) - l)
            hidden = [layer._encode(x) for (x,) in rows.chunks(self.chunk, self.rng)]
            rows = Rows(torch.cat(hidden).detach())
            rows.draw = True  # activities are probabilities: units are drawn for every batch

    def _learn_layer(self, layer: Any, rows: Rows, fit: Fit, stage: str, left: int) -> None:
        layer.start(rows)
        own = Fit(rows, None, fit.trainer, fit.seed, fit.resume, fit.begun)

        def losses(x: Tensor) -> Any:
            layer.spent = self.spent
            yield from layer.losses(x)

        descend(self, own, losses=losses, stage=stage, max_time=fit.time_left() / left)

    # ------------------------------------------------------------------ the bound

    def log_partition(self, **settings: Any) -> LogPartition:
        """log Z of the top RBM, in nats; settings as of ``RBM.log_partition``."""
        self._check_fitted()
        found: LogPartition = self.layers_[-1].log_partition(**settings)
        return found

    def _log_weights(self, x: Tensor, k: int) -> Tensor:
        """log p(v, h)/q(h | v) + log Z of k draws of h from q, of codes x; (n, k)."""
        v = self.layers_[0]._states(x.flatten(1)).repeat_interleave(k, 0)
        sizes = [int(H) for H in self.n_hidden[:-1]]
        noise = row_uniforms(x, k, sum(sizes)).flatten(0, 1).split(sizes, 1) if sizes else ()
        total = v.new_zeros(len(v), dtype=torch.float64)
        for layer, u in zip(self.layers_, noise, strict=False):
            p = torch.sigmoid(layer._inputs(v)).clamp(1e-6, 1 - 1e-6)
            h = (u < p).to(p.dtype)
            total -= (h * p.log() + (1 - h) * torch.log1p(-p)).sum(1).double()
            total += _downward(layer, v, h)
            v = h
        return (total - self.layers_[-1]._free_energy(v).double()).reshape(len(x), k)

    @on_rows
    def elbo(self, x: Tensor) -> Tensor:
        """The plain bound, E_q log p(v, h)/q(h | v), of codes x, (n, *shape) → (n,).

        A mean over the draws, so looser than ``log_prob``.
        """
        weights = [self._log_weights(some, int(self.n_points)) for some in x.split(256)]
        return torch.cat(weights).mean(1) - self.layers_[-1]._log_z().value

    def _log_prob(self, x: Tensor) -> LogProb:
        k = int(self.n_points)
        weights = torch.cat([self._log_weights(some, k) for some in x.split(256)])
        value, stderr, _ = log_mean_exp(weights, 1)
        z = self.layers_[-1]._log_z()
        value = value - z.value
        if z.exact:
            return LowerBound(value, stderr, detail={"k": k})
        detail = {"k": k, "ess": z.ess, "moved": z.moved}
        return Estimate(value, stderr, shared_stderr=z.stderr, detail=detail)

    # ------------------------------------------------------------------ other hooks

    def _sample(self, n: int, rng: torch.Generator) -> Tensor:
        """The top RBM's chain, then one draw of each layer below."""
        v = self.layers_[-1]._sample(n, rng)
        for layer in reversed(self.layers_[:-1]):
            v = layer.units_.draw(layer.b_, (v - layer.lambda_) @ layer.W_.T, rng)
        return v if len(self.layers_) == 1 else self._codes_of(v)

    def _codes_of(self, v: Tensor) -> Tensor:
        found: Tensor = self.layers_[0].units_.leave(v)
        return found

    def _encode(self, x: Tensor) -> Tensor:
        """Activities of the top layer, layer by layer upwards, (n, H_L)."""
        h = self.layers_[0]._states(x)
        for layer in self.layers_:
            h = torch.sigmoid(layer._inputs(h))
        return h

    @property
    def _n_features_out(self) -> int:
        return int(self.n_hidden[-1])

    def _decode(self, z: Tensor) -> Tensor:
        """Means layer by layer downwards."""
        for layer in reversed(self.layers_[1:]):
            z = torch.sigmoid(layer.b_ + (z - layer.lambda_) @ layer.W_.T)
        found: Tensor = self.layers_[0]._decode(z)
        return found


def _downward(layer: Any, v: Tensor, h: Tensor) -> Tensor:
    """log p(v | h) of a directed layer, (n,)."""
    a = (h - layer.lambda_) @ layer.W_.T
    units = layer.units_
    up = units.bias(v, layer.b_) + (units.phi(v) * a).sum(1)
    found: Tensor = up.double() - units.log_partition(layer.b_, a)
    return found
