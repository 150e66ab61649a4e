"""The deep belief network (Hinton, Osindero & Teh, 2006): directed layers below an RBM.

    p(v, h) = p(v | h₁) p(h₁ | h₂) … p(h_{L−1}, h_L),      the last by an RBM, e^{−E}/Z
    p(h_{l−1} | h_l)  as the RBM of layer l draws its visible units

Layers are learned from below: each is an RBM of the activities of the one beneath, drawn afresh for
every batch. It starts as the one beneath turned over, of which it keeps the units that say most; if
it has room for all of them, p(v) is at first as it was. The bound is that of the recognition model
q(h | v) = Π_l p(h_l | h_{l−1}) of the same RBMs, read upwards; F is the free energy of the top RBM:

    log p(v) ≥ E log (1/K) Σ_k p(v | h₁) … p(h_{L−2} | h_{L−1}) e^{−F(h_{L−1})} / q(h | v) − log Z

with h₁ … h_{L−1} ~ q. It is tight where the top RBM is the one below turned over. Missing cells are
summed out of p(v | h₁).

Fine-tuning by the up-down algorithm gives recognition weights of their own, R_l in the place of
W_l, and improves all layers together. Awake, draws of q teach the layers to draw downwards and the
top RBM its visible units, which raises the bound. Asleep, draws from the top's chain, handed down,
teach q to find the units that they came from:

    −E_q log p(h_{l−1} | h_l) + contrastive divergence at h_{L−1} − E_p log q(h_l | h_{l−1})

Given the layer above, those of a layer are independent. Given the one below they are not, but at
the top: they explain each other away,

    log p(h_l | h_{l−1}, h_{l+1}) = h_lᵀ(b + W(h_{l+1} − λ) + W_lᵀφ(h_{l−1})) − A(W_l(h_l − λ)) + …

A the log-partition function of the layer below. ``complete`` moves some of the units at a time, by
Metropolis' rule: proposals take A to first order, as if the units did not compete (Hastings, 1970).
"""

from __future__ import annotations

import math
from collections.abc import Hashable
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from genus.distributions.draws import flip
from genus.distributions.points import log_mean_exp, row_uniforms
from genus.encoder import Encoder
from genus.learn import processes
from genus.learn.descent import descend
from genus.learn.fit import Fit
from genus.learn.rows import Rows
from genus.learn.trainer import Trainer
from genus.likelihood import Estimate, LogProb, LowerBound
from genus.model import Model, on_rows
from genus.models.boltzmann.dbm import refuse_numbers
from genus.models.boltzmann.gaps import expected_phi, log_sum
from genus.models.boltzmann.rbm import RBM, usual_trainer
from genus.samplers.annealing import LogPartition
from genus.settings import Each, Flag, OneOf, Rule, Several, Whole
from genus.space import Space

ROUNDS = 4  # of mean field for missing cells
MOVES = 3  # of Metropolis, a layer and sweep
UP_DOWN = 0.2  # the rate of fine-tuning, of that of the layers


class DBN(Encoder, Model):
    r"""A stack of layers of binary units, directed but for the two on top, which are an RBM.

    ``log_prob`` is a ``LowerBound`` where the top RBM's Z is enumerated, else an ``Estimate`` of a
    bound. Its visible units are bits, words or levels. NaN marks missing cells in fit and in every
    verb. ``complete`` is by Gibbs sweeps, with Metropolis moves in the layers below the top.

    Parameters
    ----------
    n_hidden : tuple of ints, default=(128, 128)
        Sizes of the layers, the lowest first; at least one.
    method : {"pcd", "cd"}, default="pcd"
        How each layer learns: a persistent chain, or a chain started at the data.
    k : int or pair of ints, default=1
        Gibbs steps a gradient; a pair: at the beginning and at the end of a layer.
    n_points : int, default=64
        Importance points of a row's likelihood.
    n_annealing : int, default=2000
        Temperatures of annealed importance sampling of the top RBM.
    burn_in : int, default=200
        Temperatures through which ``sample`` anneals the top RBM, and Gibbs sweeps of ``complete``.
    fine_tune : bool, default=False
        Improve all layers together in the end, by the up-down algorithm, in as many epochs again.
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
        "k": Whole(1) | Several(Whole(1), Whole(1), says="a pair of them"),
        "n_points": Whole(1),
        "n_annealing": Whole(1),
        "burn_in": Whole(1),
        "fine_tune": Flag(),
    }
    allow_nan = True
    with_labels = "DBNClassifier"
    learned_by = "contrastive divergence, layer by layer"

    layers_: Any  # RBMs, the lowest first

    def __init__(
        self,
        n_hidden: tuple[int, ...] = (128, 128),
        method: str = "pcd",
        k: int | tuple[int, int] = 1,
        n_points: int = 64,
        n_annealing: int = 2000,
        burn_in: int = 200,
        fine_tune: bool = False,
        trainer: Trainer | None = None,
        random_state: Any = None,
    ) -> None:
        self.n_hidden = n_hidden
        self.method = method
        self.k = k
        self.n_points = n_points
        self.n_annealing = n_annealing
        self.burn_in = burn_in
        self.fine_tune = fine_tune
        self.trainer = trainer
        self.random_state = random_state

    # ------------------------------------------------------------------ construction

    def build(self, space: Space) -> None:
        if not self.n_hidden:
            raise ValueError("n_hidden=() is no layer: pass sizes, as (128, 128)")
        refuse_numbers(space, "DBN", "RBM")
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
        if self.fine_tune:
            self.R_ = nn.ParameterList(
                nn.Parameter(torch.zeros_like(layer.W_)) for layer in self.layers_[:-1]
            )

    def defaults(self, n: int) -> Trainer:
        return usual_trainer(n)

    # ------------------------------------------------------------------ learning

    def learn(self, fit: Fit) -> None:
        """Each layer in turn, and all together after that, where they are fine-tuned."""
        self.learn_layers(fit, self, int(self.fine_tune))
        if self.fine_tune:
            with torch.no_grad():
                for R, layer in zip(self.R_, self.layers_, strict=False):
                    R.copy_(layer.W_)
            rate = UP_DOWN * float(fit.trainer.lr or 0)
            descend(self, fit, losses=self._up_down, stage="up-down", lr=rate)

    def learn_layers(self, fit: Fit, whole: Model, more: int) -> None:
        """Each layer in turn, as an RBM of the activities below, within its share of the time.

        whole: the model that learns, this one or one that has it as a part. more: its stages after.
        """
        rows, held = fit.rows, None if whole is not self else fit.held
        stages = len(self.layers_) + more
        for l, layer in enumerate(self.layers_):
            layer.start(rows)
            if l:
                self._turn_over(self.layers_[l - 1], layer, rows)
            own = Fit(rows, held, fit.trainer, fit.seed, fit.resume, fit.begun)
            self._learn_layer(layer, own, whole, f"layer {l + 1}", stages - l)
            rows = self._activities(layer, rows)
            held = None if held is None else self._activities(layer, held)

    def _activities(self, layer: Any, rows: Rows) -> Rows:
        """What a layer hears, as rows for the next: units are drawn for every batch."""
        with torch.no_grad():
            above = rows.mapped(layer._encode, self.rng, self.chunk)
        above.draw = True
        return above

    def _learn_layer(self, layer: Any, own: Fit, whole: Model, stage: str, left: int) -> None:

        def losses(x: Tensor) -> Any:
            layer.spent = whole.spent
            yield from layer.losses(x)

        share = own.time_left() / left
        descend(whole, own, losses=losses, validate=layer.validate, stage=stage, max_time=share)

    def plan(self) -> Hashable:
        for layer in self.layers_:
            layer.spent = self.spent
        return tuple(layer.plan() for layer in self.layers_)

    @torch.no_grad()
    def _turn_over(self, below: RBM, layer: RBM, rows: Rows) -> None:
        """Start a layer as the one below turned over: p(h) = Σ_v p(v, h) of the machine below.

        Where it has fewer units than v, those are kept whose log-odds vary most: what the others
        say is linear, and centred, it is nothing. Where it has more, the rest stay as they are.
        Units of words or levels are not bits, and v of them cannot be turned over.
        """
        if any(kind != "binary" for kind in below.space_.kinds):
            return
        told = below.mu_ * (1 - below.mu_) * below.W_.square().sum(1)
        kept = told.argsort(descending=True, stable=True)[: layer.W_.shape[1]]
        n = len(kept)
        layer.W_[:, :n] = below.W_[kept].T
        layer.c_[:n] = below.b_[kept]
        layer.lambda_[:n] = below.mu_[kept]
        layer.b_.copy_(below.c_)
        layer.mu_.copy_(below.lambda_)
        if self.method == "pcd":  # a chain from nowhere would take long to arrive
            layer._chain = layer._encode(rows.take(slice(0, layer._batch), self.rng)[0])

    def _up_down(self, x: Tensor) -> Any:
        """Wake and sleep: what is drawn upwards, and what is dreamt downwards; means over rows."""
        top = self.layers_[-1]
        top.spent = self.spent
        with torch.no_grad():
            v = self._states(x)
            awake = [v, *self._drawn_upwards(v)]
        for _, loss in top.losses(awake[-1]):
            with torch.no_grad():
                asleep = self._handed_down(flip(self._chain_of_top(len(x)), self.rng), self.rng)
            for l, layer in enumerate(self.layers_[:-1]):
                loss = loss - self._downward(layer, awake[l], awake[l + 1]).mean()
                logits = self._upward(l, asleep[l])
                missed = F.binary_cross_entropy_with_logits(logits, asleep[l + 1], reduction="none")
                loss = loss + missed.sum(1).mean()
            yield self, loss

    def _chain_of_top(self, n: int) -> Tensor:
        """Means of the units of the top for n rows, from its chains."""
        chain: Tensor = self.layers_[-1]._chain
        n = processes.rows_of_batch(n)
        return processes.own_rows(chain.repeat(-(-n // len(chain)), 1)[:n])

    # ------------------------------------------------------------------ up and down

    def _states(self, x: Tensor) -> Tensor:
        found: Tensor = self.layers_[0]._states(x.flatten(1))
        return found

    def _upward(self, l: int, below: Tensor) -> Tensor:
        """Log-odds of the units of layer l in q, given the one below, (n, H_l)."""
        layer, R = self.layers_[l], self._recognition(l)
        logits: Tensor = torch.addmm(layer.c_, self._heard(l, below), R)
        return logits

    def _recognition(self, l: int) -> Tensor:
        """Weights of layer l upwards, (n_phi, H_l)."""
        own = self.fine_tune and l + 1 < len(self.layers_)
        W: Tensor = self.R_[l] if own else self.layers_[l].W_
        return W

    def _heard(self, l: int, below: Tensor) -> Tensor:
        """φ − μ of the units below layer l, (n, n_phi).

        Missing cells of a row are at their means given the others.
        """
        layer, R = self.layers_[l], self._recognition(l)
        gaps = bool(torch.isnan(below).any())
        seen = ~layer.units_.wide(torch.isnan(below)) if gaps else None
        phi: Tensor = layer.units_.phi(below.nan_to_num()) - layer.mu_
        phi = phi if seen is None else phi * seen
        for _ in range(ROUNDS if gaps else 0):
            logits = torch.addmm(layer.c_, phi, R)
            a = (torch.sigmoid(logits) - layer.lambda_) @ layer.W_.T
            phi = expected_phi(layer.units_, below, layer.b_, a) - layer.mu_
        return phi

    def _drawn_upwards(self, v: Tensor) -> list[Tensor]:
        """h₁ … h_{L−1} ~ q given v."""
        h, below = [], v
        for l in range(len(self.layers_) - 1):
            below = flip(torch.sigmoid(self._upward(l, below)), self.rng)
            h.append(below)
        return h

    def _handed_down(self, h: Tensor, rng: torch.Generator) -> list[Tensor]:
        """Draws of v, h₁ … h_{L−1}, each given the layer above, from the top h."""
        found = []
        for layer in reversed(self.layers_):
            h = layer.units_.draw(layer.b_, (h - layer.lambda_) @ layer.W_.T, rng)
            found.append(h)
        return found[::-1]

    @staticmethod
    def _downward(layer: Any, v: Tensor, h: Tensor) -> Tensor:
        """log p(v | h) of a directed layer, missing cells summed out, (n,)."""
        a = (h - layer.lambda_) @ layer.W_.T
        units = layer.units_
        if torch.isnan(v).any():
            found: Tensor = log_sum(units, v, layer.b_, a)
        else:
            found = (units.bias(v, layer.b_) + (units.phi(v) * a).sum(1)).double()
        return found - units.log_partition(layer.b_, a)

    # ------------------------------------------------------------------ the bound

    def log_partition(self, **settings: Any) -> LogPartition:
        """log Z of the top RBM, in nats; settings as of ``RBM.log_partition``."""
        self._check_fitted()
        found: LogPartition = self.layers_[-1].log_partition(**settings)
        return found

    def _log_weights(self, x: Tensor, k: int) -> Tensor:
        """log p(v, h)/q(h | v) + log Z of k draws of h from q, of codes x; (n, k)."""
        v = self._states(x)
        logits = self._upward(0, v).repeat_interleave(k, 0) if len(self.layers_) > 1 else None
        v = v.repeat_interleave(k, 0)
        sizes = [int(H) for H in self.n_hidden[:-1]]
        noise = row_uniforms(x, k, sum(sizes)).flatten(0, 1).split(sizes, 1) if sizes else ()
        total = v.new_zeros(len(v), dtype=torch.float64)
        for l, u in enumerate(noise):
            p = torch.sigmoid(self._upward(l, v) if logits is None else logits)
            p, logits = p.clamp(1e-6, 1 - 1e-6), None
            h = (u < p).to(p.dtype)
            total -= (h * p.log() + (1 - h) * torch.log1p(-p)).sum(1).double()
            total += self._downward(self.layers_[l], v, h)
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
        if len(self.layers_) == 1:
            found: LogProb = self.layers_[0]._log_prob(x)
            return found
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
        if len(self.layers_) == 1:
            found: Tensor = self.layers_[0]._sample(n, rng)
            return found
        v = self.layers_[-1]._sample(n, rng)
        for layer in reversed(self.layers_[:-1]):
            v = layer.units_.draw(layer.b_, (v - layer.lambda_) @ layer.W_.T, rng)
        return self._codes_of(v)

    def _complete(self, x: Tensor, rng: torch.Generator) -> Tensor:
        """Gibbs sweeps with the observed cells held, Metropolis moves within them."""
        if len(self.layers_) == 1:
            found: Tensor = self.layers_[0]._complete(x, rng)
            return found
        bottom, top = self.layers_[0], self.layers_[-1]
        seen = self._states(x)
        gap = torch.isnan(seen)
        v = torch.where(gap, bottom._begin(len(x), rng), seen)
        h, below = [], v
        for l in range(len(self.layers_)):
            below = flip(torch.sigmoid(self._upward(l, below)), rng)
            h.append(below)
        for _ in range(int(self.burn_in)):
            for l in range(len(h) - 1):
                h[l] = self._moved(l, h[l - 1] if l else v, h[l], h[l + 1], rng)
            h[-1] = flip(torch.sigmoid(top._inputs(h[-2])), rng)
            drawn = bottom.units_.draw(bottom.b_, (h[0] - bottom.lambda_) @ bottom.W_.T, rng)
            v = torch.where(gap, drawn, seen)
        return torch.where(torch.isnan(x), self._codes_of(v).to(x.dtype), x)

    def _moved(
        self, l: int, below: Tensor, h: Tensor, above: Tensor, rng: torch.Generator
    ) -> Tensor:
        """h_l after some Metropolis moves, the layers below and above held.

        Each draws a random share of the units, up to half of them, from their log-odds with A to
        first order, and is taken or left.
        """
        layer, higher = self.layers_[l], self.layers_[l + 1]
        units, b, W = layer.units_, layer.b_, layer.W_
        told = higher.b_ + (above - higher.lambda_) @ higher.W_.T + units.phi(below) @ W
        unknown = torch.full_like(below, math.nan)

        def look(h: Tensor) -> tuple[Tensor, Tensor]:
            """Log-odds of a proposal from here, and log p here."""
            a = (h - layer.lambda_) @ W.T
            log_p = (h * told).sum(1).double() - units.log_partition(b, a)
            return told - expected_phi(units, unknown, b, a) @ W, log_p

        def uniform(m: int) -> Tensor:
            return torch.rand(len(h), m, generator=rng, dtype=h.dtype, device=h.device)

        odds, log_p = look(h)
        for _ in range(MOVES):
            some = uniform(h.shape[1]) < 0.5 * uniform(1)
            new = torch.where(some, flip(torch.sigmoid(odds), rng), h)
            new_odds, new_log_p = look(new)
            there = F.binary_cross_entropy_with_logits(odds, new, reduction="none")
            back = F.binary_cross_entropy_with_logits(new_odds, h, reduction="none")
            gain = new_log_p - log_p + ((there - back) * some).sum(1).double()
            taken = uniform(1)[:, 0].double().log() < gain
            h = torch.where(taken[:, None], new, h)
            odds = torch.where(taken[:, None], new_odds, odds)
            log_p = torch.where(taken, new_log_p, log_p)
        return h

    def _codes_of(self, v: Tensor) -> Tensor:
        found: Tensor = self.layers_[0].units_.leave(v)
        return found

    def _encode(self, x: Tensor) -> Tensor:
        """Activities of the top layer, layer by layer upwards, (n, H_L)."""
        h = self._states(x)
        for l in range(len(self.layers_)):
            h = torch.sigmoid(self._upward(l, h))
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
