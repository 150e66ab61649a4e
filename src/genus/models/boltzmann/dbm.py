"""The deep Boltzmann machine (Salakhutdinov & Hinton, 2009): layers, each joined to the next.

    E(v, h) = −log base(v) − bᵀt(v) − (φ(v) − μ)ᵀ W₁ (h₁ − λ₁) − (h₁ − λ₁)ᵀ W₂ (h₂ − λ₂) − …
              − Σ_l c_lᵀ h_l,                     h_l ∈ {0, 1}^{H_l},   p = e^{−E}/Z
    p(h_1j = 1 | v, h₂) = σ(c_1j + W₁ⱼᵀ(φ(v) − μ) + W₂ⱼ(h₂ − λ₂)):  a middle layer hears both sides

Layers of one parity are independent given those of the other: v, h₂ are even, h₁, h₃ odd. Chains
draw them in turn, and either parity is summed out exactly. The posterior is bounded by mean field,

    log p(v) ≥ E_q[−E(v, h)] + H(q) − log Z,      q(h | v) = Π q_j, one parity after the other

coordinate ascent that never falls, or more tightly by draws of the odd layers from q, the even ones
summed out:

    log p(v) ≥ E log (1/K) Σ_k e^{−F(v, odd_k)} / q(odd_k) − log Z.

Missing cells are one more even layer, and are summed out with the others.

Learning compares the data under q with a chain that persists; λ follows the data and p stays
(Montavon & Müller, 2012): where λ_l moves by δ, the biases of both its neighbours take up W δ.

Pretraining takes the layers one by one, as machines of two layers by contrastive divergence. What
the missing neighbour would say is said by the one that is there: inputs from it count twice, to h_l
from below for all but the top layer, from above for all but the lowest. Of two layers over bits
only the lower one is learned so. A copy of v above h₁ would say what v says below it: h₂ starts as
one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import numpy as np
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
from genus.likelihood import LogProb
from genus.memory import check_fits
from genus.missing import has_gaps
from genus.model import on_rows
from genus.models.boltzmann.gaps import expected_phi, log_sum
from genus.models.boltzmann.rbm import usual_trainer
from genus.models.boltzmann.units import MANY, Units
from genus.samplers.annealing import anneal, temperatures
from genus.settings import Flag, Number, Rule, Several, Whole
from genus.space import Space
from genus.typing import RandomState, RowsLike
from genus.unnormalised import Unnormalised

SUMMED = 10  # odd hidden units up to which log p(v) sums over all their states
MOST = 50  # rounds of mean field in a verb
WATCHED_CELLS = 4  # of a held-out row, by which training is watched


@dataclass(frozen=True)
class MeanField:
    """Mean field of n rows: the best of several starts, and how far they agree.

    q: means of every hidden layer, (n, H_l) each.
    bound: E_q[−E] + H(q) − log Z of each row, (n,), in nats, and ``starts``, of every start,
        (starts, n).
    moved: the largest change of a mean in the last round, (n,); near 0 where it has converged.
    """

    q: list[np.ndarray]
    bound: np.ndarray
    starts: np.ndarray
    moved: np.ndarray

    def __repr__(self) -> str:
        gain = float((self.bound - self.starts[0]).mean())
        return (
            f"MeanField(bound = {self.bound.mean():.2f} nats on average, {gain:.2g} above the "
            f"first of {len(self.starts)} starts, moved by at most {self.moved.max():.2g} at last)"
        )


class DBM(Encoder, Unnormalised):
    r"""Two or three layers of binary hidden units above visible ones of bits, words or levels.

    ``log_prob`` is a ``LowerBound`` where Z is enumerated, else an ``Estimate`` of a bound; where
    the odd layers have at most 10 units it is no bound but log p(v) itself. NaN marks missing cells
    in fit and in every verb.

    Parameters
    ----------
    n_hidden : tuple of ints, default=(128, 128)
        Sizes of two or three layers, the lowest first.
    k : int or pair of ints, default=1
        Sweeps of the chain a gradient; a pair: at the beginning and at the end, growing evenly.
    n_chains : int, default=100
        Persistent chains.
    n_mean_field : int, default=10
        Rounds of mean field a gradient.
    pretrain : bool, default=False
        Learn layer by layer first, in half as many epochs each. Of two layers over bits the lower
        one alone: the upper one starts as v turned over. From its usual small weights it hardly
        learns.
    tracking : float, default=0.01
        Share by which λ follows the batch's mean activities.
    n_points : int, default=64
        Importance points of a row's likelihood.
    n_annealing : int, default=2000
        Temperatures of annealed importance sampling, where Z cannot be enumerated.
    burn_in : int, default=200
        Temperatures through which ``sample`` anneals, and Gibbs sweeps of ``complete``.
    trainer : Trainer or None, default=None
        How to descend; by default plain SGD with a rate that falls to 0.
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
    >>> model = genus.DBM((4, 3), trainer=genus.Trainer(epochs=5), random_state=0).fit(X)
    >>> model.log_prob(X)
    Exact(mean = -... nats, ... bits/dim, n=100, probability)
    """

    arguments: ClassVar[dict[str, Rule]] = {
        "n_hidden": Several(Whole(1), Whole(1), says="a pair of them")
        | Several(Whole(1), Whole(1), Whole(1), says="three of them"),
        "k": Whole(1) | Several(Whole(1), Whole(1), says="a pair of them"),
        "n_chains": Whole(1),
        "n_mean_field": Whole(1),
        "pretrain": Flag(),
        "tracking": Number(0, 1),
        "n_points": Whole(1),
        "n_annealing": Whole(1),
        "burn_in": Whole(1),
    }
    allow_nan = True
    with_labels = "RBMClassifier"
    learned_by = "contrastive divergence"

    mu_: Tensor
    base_: Tensor
    _chain: Tensor

    def __init__(
        self,
        n_hidden: tuple[int, ...] = (128, 128),
        k: int | tuple[int, int] = 1,
        n_chains: int = 100,
        n_mean_field: int = 10,
        pretrain: bool = False,
        tracking: float = 0.01,
        n_points: int = 64,
        n_annealing: int = 2000,
        burn_in: int = 200,
        trainer: Trainer | None = None,
        random_state: Any = None,
    ) -> None:
        self.n_hidden = n_hidden
        self.k = k
        self.n_chains = n_chains
        self.n_mean_field = n_mean_field
        self.pretrain = pretrain
        self.tracking = tracking
        self.n_points = n_points
        self.n_annealing = n_annealing
        self.burn_in = burn_in
        self.trainer = trainer
        self.random_state = random_state

    # ------------------------------------------------------------------ construction

    def build(self, space: Space) -> None:
        refuse_numbers(space, "DBM", "RBM")
        self.units_ = Units(space, "auto")
        D, B = self.units_.n_phi, self.units_.n_bias
        sizes = [int(H) for H in self.n_hidden]
        below = [D, *sizes[:-1]]
        for n, H in zip(below, sizes, strict=True):
            what = f"n_hidden={self.n_hidden} beside {D:,} visible units"
            check_fits(n * H, what, "lower n_hidden, or merge rare words", itemsize=16)
        self.W_ = nn.ParameterList(
            nn.Parameter(torch.zeros(n, H)) for n, H in zip(below, sizes, strict=True)
        )
        self.b_ = nn.Parameter(torch.zeros(B))
        self.c_ = nn.ParameterList(nn.Parameter(torch.zeros(H)) for H in sizes)
        self.register_buffer("mu_", torch.zeros(D))
        for l, H in enumerate(sizes):
            self.register_buffer(f"lambda_{l}_", torch.zeros(H))
        self.register_buffer("base_", torch.zeros(B))
        self.register_buffer("_chain", torch.zeros(0, space.dim + sum(sizes)), persistent=False)

    def defaults(self, n: int) -> Trainer:
        return usual_trainer(n)

    @torch.no_grad()
    def start(self, rows: Rows) -> None:
        x = rows.look(65536, self.rng)[0]
        v = self._states(x)
        self.b_.copy_(self.units_.independent(v))
        self.base_.copy_(self.b_)
        seen = ~self.units_.wide(torch.isnan(v))
        phi = self.units_.phi(v.nan_to_num()) * seen
        self.mu_.copy_(phi.sum(0) / seen.sum(0).clamp_min(1))
        for l, W in enumerate(self.W_):
            W.normal_(0, 0.01, generator=self.rng)
            self._lambda(l).fill_(0.5)

    def _lambda(self, l: int) -> Tensor:
        """λ of a hidden layer."""
        found: Tensor = getattr(self, f"lambda_{l}_")
        return found

    # ------------------------------------------------------------------ energies and conditionals

    def _states(self, x: Tensor) -> Tensor:
        return self.units_.enter(x, x.new_full((1, 1), 0.5))[0].to(self.b_.dtype)

    def _codes_of(self, v: Tensor) -> Tensor:
        return self.units_.leave(v[:, : self.space_.dim])

    def energy(self, v: Tensor, *h: Tensor) -> Tensor:
        """E of visible units v (n, d) and the hidden layers h, (n, H_l) each; (n,).

        Bilinear: of the means of independent units it is the expected energy.
        """
        self._check_fitted()
        return self._energy(v, list(h))

    def _energy(self, v: Tensor, h: list[Tensor]) -> Tensor:
        """E of v and the hidden layers, missing cells of v summed out."""
        e, below = -self._told(v, h[0]) - h[0] @ self.c_[0], h[0] - self._lambda(0)
        for l in range(1, len(h)):
            centred = h[l] - self._lambda(l)
            e = e - ((below @ self.W_[l]) * centred).sum(1) - h[l] @ self.c_[l]
            below = centred
        return e

    def _told(self, v: Tensor, h1: Tensor) -> Tensor:
        """bᵀt(v) + (φ(v) − μ)ᵀ W₁ (h₁ − λ₁), or log Σ of its exponential over missing cells."""
        if has_gaps(v):
            a = self._natural(h1)
            return log_sum(self.units_, v, self.b_, a).to(a.dtype) - a @ self.mu_
        pairs = (self.units_.phi(v) - self.mu_) @ self.W_[0] * (h1 - self._lambda(0))
        return self.units_.bias(v, self.b_) + pairs.sum(1)

    def _phi(self, v: Tensor, h1: Tensor) -> Tensor:
        """φ(v), that of missing cells in the mean given h₁."""
        if has_gaps(v):
            return expected_phi(self.units_, v, self.b_, self._natural(h1))
        return self.units_.phi(v)

    def conditional(self, l: int, X: Any, h: Sequence[Any]) -> np.ndarray:
        """p(h_l = 1 | both its neighbours), (n, H_l): of the hidden layer l = 1, 2 or 3.

        X: rows without gaps. h: all hidden layers, (n, H_l) each, of bits or means; what h says of
        layer l itself is not looked at.
        """
        self._check_fitted()
        Whole(1, len(self.n_hidden)).check("l", l)
        codes = self._as_float(self._encode_rows(X, missing=False))
        with torch.no_grad():
            phi = self.units_.phi(self._states(codes))
            layers = [torch.as_tensor(each).to(phi) for each in h]
            p: np.ndarray = torch.sigmoid(self.inputs(l - 1, phi, layers)).cpu().numpy()
        return p

    def inputs(self, l: int, phi: Tensor, h: list[Tensor]) -> Tensor:
        """Log-odds of the units of hidden layer l given both its neighbours, (n, H_l)."""
        below = phi - self.mu_ if l == 0 else h[l - 1] - self._lambda(l - 1)
        a = torch.addmm(self.c_[l], below, self.W_[l])
        if l + 1 < len(h):
            a = a + (h[l + 1] - self._lambda(l + 1)) @ self.W_[l + 1].T
        return a

    def _natural(self, h1: Tensor) -> Tensor:
        """a = W₁(h₁ − λ₁), what the first layer says to the visible one."""
        return (h1 - self._lambda(0)) @ self.W_[0].T

    def _free_energy(self, v: Tensor) -> Tensor:
        """−log Σ_h e^{−E}, odd layers enumerated and even ones summed out."""
        if self._n_odd() > SUMMED:
            raise ValueError(
                f"free_energy would sum over 2^{self._n_odd()} states: use elbo or log_prob"
            )
        v = v[:, : self.space_.dim]
        each = [
            -self._given_odd(v, [o.expand(len(v), -1) for o in odd]) for odd in self._every_odd()
        ]
        return -torch.logsumexp(torch.stack(each).double(), 0)

    def _n_odd(self) -> int:
        """Units of the hidden layers that are joined to even ones only: h₁ and h₃."""
        return sum(int(H) for H in self.n_hidden[::2])

    def _every_odd(self) -> list[list[Tensor]]:
        """All states of the odd layers."""
        sizes = [int(H) for H in self.n_hidden[::2]]
        index = torch.arange(2 ** sum(sizes), device=self.b_.device)
        bits = (index[:, None] >> torch.arange(sum(sizes), device=index.device)) & 1
        return [list(row.split(sizes)) for row in bits.to(self.b_.dtype)]

    def _given_odd(self, v: Tensor, odd: list[Tensor]) -> Tensor:
        """F(v, odd) = −log Σ_even e^{−E}, (n,)."""
        h = self._placed(odd, len(v))
        a = self.inputs(1, v, h)  # of which v says nothing
        nothing = [*h]
        nothing[1] = torch.zeros_like(a)
        return self._energy(v, nothing) - F.softplus(a).sum(1)

    def _placed(self, odd: list[Tensor], n: int) -> list[Tensor]:
        """The hidden layers with the odd ones as given, and zeros for h₂."""
        middle = self.b_.new_zeros(n, int(self.n_hidden[1]))
        return [odd[0], middle, *odd[1:]]

    # ------------------------------------------------------------------ mean field

    def _mean_field(
        self, v: Tensor, rounds: int = MOST, start: Sequence[Tensor] | None = None
    ) -> list[Tensor]:
        """q of the hidden layers given v, by coordinate ascent from λ, which says nothing.

        Every row gets as many rounds, so that none hangs on its neighbours. start: means of the
        hidden layers to begin with.
        """
        gaps = has_gaps(v)
        if start is None:
            start = [self._lambda(l).expand(len(v), -1) for l in range(len(self.n_hidden))]
        q = [*start]
        from_below = self._from_below(v, q[0])
        for _ in range(rounds):
            q[0] = torch.sigmoid(from_below + (q[1] - self._lambda(1)) @ self.W_[1].T)
            if len(q) > 2:
                q[2] = torch.sigmoid(self.inputs(2, v, q))
            q[1] = torch.sigmoid(self.inputs(1, v, q))
            if gaps:
                from_below = self._from_below(v, q[0])
        return q

    def _from_below(self, v: Tensor, h1: Tensor) -> Tensor:
        """c₁ + W₁ᵀ(φ(v) − μ), missing cells at their means given h₁."""
        return torch.addmm(self.c_[0], self._phi(v, h1) - self.mu_, self.W_[0])

    def _bound(self, v: Tensor, q: list[Tensor]) -> Tensor:
        """E_q[−E(v, h)] + H(q), (n,), at most −F(v)."""
        entropy = sum(
            (torch.special.entr(p) + torch.special.entr(1 - p)).sum(1).double() for p in q
        )
        return entropy - self._energy(v, q).double()

    @on_rows
    def elbo(self, x: Tensor) -> Tensor:
        """The mean-field bound E_q[−E] + H(q) − log Z of codes x, (n, *shape) → (n,)."""
        v = self._states(x)
        return self._bound(v, self._mean_field(v)) - self._log_z().value

    def mean_field(
        self, X: RowsLike, starts: int = 4, rounds: int = MOST, random_state: RandomState = None
    ) -> MeanField:
        """Mean field of rows from several starts, and how far it converged.

        The first start is λ, as in ``log_prob``; the others have means drawn evenly from 0 to 1.
        Of every row the best is kept.
        """
        self._check_fitted()
        Whole(1).check("starts", starts)
        Whole(1).check("rounds", rounds)
        rng, v = self._stream(random_state), self._states(self._codes(X))
        sizes = [int(H) for H in self.n_hidden]
        found, bounds, moved = [], [], []
        with torch.no_grad():
            for i in range(starts):
                q: Any = None
                if i:
                    u = torch.rand(len(v), sum(sizes), generator=rng, device=v.device)
                    q = u.to(v.dtype).split(sizes, 1)
                last = self._mean_field(v, rounds - 1, q)
                q = self._mean_field(v, 1, last)
                moved.append(
                    torch.cat([(a - b).abs() for a, b in zip(q, last, strict=True)], 1).amax(1)
                )
                found.append(q)
                bounds.append(self._bound(v, q) - self._log_z().value)
        bound, row = torch.stack(bounds), torch.arange(len(v), device=v.device)
        best = bound.argmax(0)
        layers = [
            torch.stack([q[l] for q in found])[best, row].cpu().numpy() for l in range(len(sizes))
        ]
        change = torch.stack(moved)[best, row].cpu().numpy()
        return MeanField(layers, bound[best, row].cpu().numpy(), bound.cpu().numpy(), change)

    # ------------------------------------------------------------------ learning

    def learn(self, fit: Fit) -> None:
        """All layers together, after one by one where they are pretrained."""
        if fit.fresh:
            self.start(fit.rows)
        if self.pretrain:
            self._pretrain(fit)
        descend(self, fit)

    def validate(self, x: Tensor) -> Tensor | None:
        """Mean −log p of held-out codes where units are few, else of their pseudo-likelihood.

        That is of a few cells of a row, the same at every look, with mean field's bounds of
        log p(v) + log Z in the place of −F(v). Missing cells are not counted.
        """
        found = super().validate(x)
        if found is not None:
            return found
        v = self._states(x)
        q = self._mean_field(v, int(self.n_mean_field))
        levels = torch.tensor(self.space_.cardinality, device=v.device)
        every = torch.arange(len(v), device=v.device)
        total, count = v.new_zeros((), dtype=torch.float64), 0
        for _ in range(min(WATCHED_CELLS, self.space_.dim)):
            cell = torch.randint(self.space_.dim, (len(v),), generator=self.rng, device=v.device)
            bounds = []
            for value in range(int(levels.max())):
                other = v.index_put((every, cell), v.new_tensor(float(value)))
                bound = self._bound(other, self._mean_field(other, int(self.n_mean_field), q))
                bounds.append(bound.masked_fill(value >= levels[cell], -math.inf))
            own = v[every, cell]
            seen = ~torch.isnan(own)
            log_p = torch.log_softmax(torch.stack(bounds, 1), 1)
            log_p = log_p.gather(1, own.nan_to_num().long()[:, None])[:, 0]
            total, count = total + log_p[seen].sum(), count + int(seen.sum())
        return -self.space_.dim * total / max(count, 1)

    def _pretrain(self, fit: Fit) -> None:
        """Layer by layer; of two layers over bits the upper one is the lower one turned over."""
        bits = all(kind == "binary" for kind in self.space_.kinds)
        turned = bits and len(self.n_hidden) == 2
        stages = 1 if turned else len(self.n_hidden)
        epochs = max(1, (fit.trainer.epochs or 2) // 2)
        for l in range(stages):
            share = fit.time_left() / (2 * stages - l)
            losses, stage = partial(self._layer_losses, l), f"layer {l + 1}"
            descend(self, fit, losses=losses, stage=stage, epochs=epochs, max_time=share)
        if turned:
            self._turn_over()
        index = torch.arange(int(self.n_chains), device=self.b_.device) % len(fit.rows)
        with torch.no_grad():  # chains from nowhere would take long to arrive
            self._chain = self._whole(self._states(fit.rows.take(index)[0]), self.rng)

    def _layer_losses(self, l: int, x: Tensor) -> Any:
        """E(data, h_l) − E(one sweep later), of layer l and the one below alone."""
        up = 2.0 if l + 1 < len(self.n_hidden) else 1.0
        down = 2.0 if l else 1.0
        with torch.no_grad():
            below = self._activities(l, x)
            p = self._upward(l, below, up)
            h = flip(p, self.rng)
            a = down * (h - self._lambda(l)) @ self.W_[l].T
            if l:
                again = flip(torch.sigmoid(self.c_[l - 1] + a), self.rng)
            else:
                again = self.units_.phi(self.units_.draw(self.b_, a, self.rng))
            then = self._upward(l, again, up)
        yield self, self._pair_energy(l, below, p) - self._pair_energy(l, again, then)
        if l == 0 and self.tracking:  # far from the means a step of many units goes too far
            self._move_centre(0, float(self.tracking) * (p.mean(0) - self._lambda(0)))

    @torch.no_grad()
    def _turn_over(self) -> None:
        """Start h₂ as a copy of v: h₁ hears from above what it hears from below.

        That is what its doubled weights took for granted. Where h₂ has fewer units than v, those
        are kept whose log-odds vary most; where it has more, the rest stay as they are.
        """
        told = self.mu_ * (1 - self.mu_) * self.W_[0].square().sum(1)
        kept = told.argsort(descending=True, stable=True)[: int(self.n_hidden[1])]
        n = len(kept)
        self.W_[1][:, :n] = self.W_[0][kept].T
        self.c_[1][:n] = self.b_[kept]
        self._lambda(1)[:n] = self.mu_[kept]

    def _activities(self, l: int, x: Tensor) -> Tensor:
        """Draws of the layer below l, upwards from codes x; φ(v) for the lowest."""
        v = self._states(x)
        below = self._phi(v, self._lambda(0).expand(len(v), -1))
        for k in range(l):
            below = flip(self._upward(k, below, 2.0), self.rng)
        return below

    def _upward(self, l: int, below: Tensor, times: float) -> Tensor:
        """Chances of the units of layer l given the one below alone, which counts so many times."""
        centre = self._lambda(l - 1) if l else self.mu_
        return torch.sigmoid(self.c_[l] + times * (below - centre) @ self.W_[l])

    def _pair_energy(self, l: int, below: Tensor, h: Tensor) -> Tensor:
        """Mean energy of layer l and of its pairs with the one below, whose bias stays as it is."""
        centre = self._lambda(l - 1) if l else self.mu_
        pairs = ((below - centre) @ self.W_[l] * (h - self._lambda(l))).sum(1)
        return -(pairs + h @ self.c_[l]).mean()

    def losses(self, x: Tensor) -> Any:
        """E_q[E(data, h)] − E(chain), means over rows."""
        with torch.no_grad():
            v = self._states(x)
            q = self._mean_field(v, int(self.n_mean_field))
            with processes.common():
                if len(self._chain) != self.n_chains:
                    self._chain = self._begin(int(self.n_chains), self.rng)
                h = self._parts(self._chain)[1]
                fantasy, means = self._chain_steps(h, self._steps(), self.rng)
                self._chain = torch.cat([fantasy, *self._drawn(means, self.rng)], 1)
        # odd layers by their means given the even ones: the same gradient, less noise
        yield self, self._mean_energy(v, q) - self._mean_energy(fantasy, means)
        if self.tracking:
            for l, p in enumerate(q):
                self._move_centre(
                    l, float(self.tracking) * (processes.over_batch(p.mean(0)) - self._lambda(l))
                )

    def _mean_energy(self, v: Tensor, h: list[Tensor]) -> Tensor:
        """Mean over rows of E(v, h), by the moments Σ φ hᵀ/n, which are its gradient too."""
        if has_gaps(v):
            return self._energy(v, h).mean()
        e = -self.units_.bias(v, self.b_).mean()
        below = self.units_.phi(v) - self.mu_
        for l, own in enumerate(h):
            centred = own - self._lambda(l)
            e = e - (below.T @ centred / len(v) * self.W_[l]).sum() - own.mean(0) @ self.c_[l]
            below = centred
        return e

    def _steps(self) -> int:
        """Sweeps of this gradient."""
        if not isinstance(self.k, tuple | list):
            return int(self.k)
        first, last = self.k
        return round(first + (last - first) * self.spent)

    def plan(self) -> int:
        return self._steps()

    @torch.no_grad()
    def _move_centre(self, l: int, by: Tensor) -> None:
        """Move λ_l; the biases of both neighbours take it up, and p stays."""
        self._lambda(l).add_(by)
        if l == 0:
            self.units_.absorb_(self.b_, self.W_[0] @ by)
        else:
            self.c_[l - 1].add_(self.W_[l] @ by)
        if l + 1 < len(self.n_hidden):
            self.c_[l + 1].add_(self.W_[l + 1].T @ by)

    # ------------------------------------------------------------------ chains

    def _chain_steps(
        self,
        h: list[Tensor],
        sweeps: int,
        rng: torch.Generator,
        held: Callable[[Tensor], Tensor] = lambda v: v,
    ) -> tuple[Tensor, list[Tensor]]:
        """Sweeps from the odd layers of h: even layers drawn, then odd ones.

        The last draw of the odd layers is left to ``_drawn``: their means are returned. held: puts
        the cells of v that are known back to what they are.
        """
        v = self.b_.new_zeros(0)
        for sweep in range(sweeps):
            h = self._drawn(h, rng) if sweep else h
            v = held(self.units_.draw(self.b_, self._natural(h[0]), rng))
            phi = self.units_.phi(v)
            even = flip(torch.sigmoid(self.inputs(1, phi, h)), rng)
            h = self._odd_means(phi, [h[0], even, *h[2:]])
        return v, h

    def _odd_means(self, phi: Tensor, h: list[Tensor]) -> list[Tensor]:
        """h with the means of its odd layers given the even ones."""
        h = [*h]
        for l in range(0, len(h), 2):
            h[l] = torch.sigmoid(self.inputs(l, phi, h))
        return h

    def _drawn(self, h: list[Tensor], rng: torch.Generator) -> list[Tensor]:
        """h with its odd layers drawn from their means."""
        return [h[l] if l % 2 else flip(h[l], rng) for l in range(len(h))]

    def _begin(self, n: int, rng: torch.Generator) -> Tensor:
        nothing = self.b_.new_zeros(n, self.units_.n_phi)
        v = self.units_.draw(self.base_.expand(n, -1), nothing, rng)
        h = [flip(torch.sigmoid(c).expand(n, -1), rng) for c in self._base_c()]
        return torch.cat([v, *h], 1)

    def _whole(self, v: Tensor, rng: torch.Generator) -> Tensor:
        """Visible states with hidden layers drawn from q; (n, d + Σ H_l)."""
        return torch.cat([v, *(flip(q, rng) for q in self._mean_field(v))], 1)

    def _parts(self, state: Tensor) -> tuple[Tensor, list[Tensor]]:
        """v and the hidden layers of a state of all units."""
        v, *h = state.split([self.space_.dim, *(int(H) for H in self.n_hidden)], 1)
        return v, h

    def _swept(self, v: Tensor, sweeps: int, rng: torch.Generator) -> Tensor:
        """States of all units after some sweeps."""
        if not sweeps:
            return v
        visible, h = self._chain_steps(self._parts(v)[1], sweeps, rng)
        return torch.cat([visible, *self._drawn(h, rng)], 1)

    # ------------------------------------------------------------------ the partition function

    def _plain(self) -> tuple[Tensor, list[Tensor]]:
        """b and every c of the same distribution without μ and λ, but for a constant."""
        b = self.b_.detach().clone()
        self.units_.absorb_(b, -(self.W_[0] @ self._lambda(0)))
        c = []
        for l in range(len(self.n_hidden)):
            below = self.mu_ if l == 0 else self._lambda(l - 1)
            own = self.c_[l] - below @ self.W_[l]
            if l + 1 < len(self.n_hidden):
                own = own - self.W_[l + 1] @ self._lambda(l + 1)
            c.append(own)
        return b, c

    def _constant(self) -> float:
        """What −E of the centred form has beside that of the plain one."""
        total, below = 0.0, self.mu_.double()
        for l, W in enumerate(self.W_):
            own = self._lambda(l).double()
            total += float(below @ (W.double() @ own))
            below = own
        return total

    def _n_enumerated(self) -> int:
        return self._n_odd()

    def _enumerate(self) -> float:
        """Σ over the odd layers, given which v and h₂ are summed out."""
        b, c = self._plain()
        sizes = [int(H) for H in self.n_hidden[::2]]
        parts = []
        for block in torch.arange(2 ** sum(sizes), device=self.b_.device).split(4096):
            bits = (block[:, None] >> torch.arange(sum(sizes), device=block.device)) & 1
            odd = bits.to(self.b_.dtype).split(sizes, 1)
            log_v = self.units_.log_partition(b, odd[0] @ self.W_[0].T)
            a = c[1] + odd[0] @ self.W_[1]
            if len(odd) > 1:
                a = a + odd[1] @ self.W_[2].T
            own = sum((o @ c[2 * i]).double() for i, o in enumerate(odd))
            parts.append(log_v + F.softplus(a.double()).sum(1) + own)
        return float(torch.logsumexp(torch.cat(parts), 0)) + self._constant()

    def _base_c(self) -> list[Tensor]:
        return [
            torch.logit(self._lambda(l).clamp(1e-3, 1 - 1e-3)) for l in range(len(self.n_hidden))
        ]

    def _log_z_base(self) -> float:
        zero = self.b_.new_zeros(1, self.units_.n_phi)
        hidden = sum(float(F.softplus(c.double()).sum()) for c in self._base_c())
        return float(self.units_.log_partition(self.base_, zero)) + hidden + self._constant()

    def _annealed(
        self, n: int, steps: int, rng: torch.Generator, start: Any = None
    ) -> tuple[Tensor, Any]:
        """Log-weights of n runs of (v, h₂), odd layers summed out, and where they end."""
        b, c = self._plain()
        b0, c0 = self.base_, self._base_c()
        db, dc = b - b0, [x - y for x, y in zip(c, c0, strict=True)]
        W = [w.detach() for w in self.W_]
        grid = temperatures(steps)
        if start is None:
            v, h = self._parts(self._begin(n, rng))
            start = v, h[1]
        else:
            grid = grid[::-1]
        odd = range(0, len(W), 2)

        def step(state: Any, now: float, then: float) -> tuple[Any, Tensor]:
            v, h2 = state
            # of odd layer l the log-odds are c₀ + β y
            y = {0: dc[0] + self.units_.phi(v) @ W[0] + h2 @ W[1].T}
            if len(W) > 2:
                y[2] = dc[2] + h2 @ W[2]
            gain = (then - now) * (self.units_.linear(v, db) + h2 @ dc[1]).double()
            h = {}
            for l in odd:
                new = torch.add(c0[l], y[l], alpha=then)
                gain = gain + (F.softplus(new) - F.softplus(torch.add(c0[l], y[l], alpha=now))).sum(
                    1, dtype=torch.float64
                )
                h[l] = flip(torch.sigmoid(new), rng)
            v = self.units_.draw(torch.add(b0, db, alpha=then), then * (h[0] @ W[0].T), rng)
            a = dc[1] + h[0] @ W[1]
            if len(W) > 2:
                a = a + h[2] @ W[2].T
            h2 = flip(torch.sigmoid(torch.add(c0[1], a, alpha=then)), rng)
            return (v, h2), gain

        state, log_w = anneal(step, start, grid)
        return log_w, state

    # ------------------------------------------------------------------ hooks

    def _log_prob(self, x: Tensor) -> LogProb:
        v = self._states(x)
        if self._n_odd() <= SUMMED:
            return self._normalised(-self._free_energy(v))
        parts = [self._importance(some, k=int(self.n_points)) for some in x.split(256)]
        value, stderr = (torch.cat(p) for p in zip(*parts, strict=True))
        return self._normalised(value, stderr, bound=True, k=int(self.n_points))

    def _importance(self, x: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """log of e^{−F(v, odd)} / q(odd) averaged over k draws from mean field, and its error."""
        v = self._states(x)
        q = self._mean_field(v)[::2]
        u = row_uniforms(x, k, self._n_odd()).split([p.shape[1] for p in q], 2)
        odd, log_q = [], v.new_zeros(len(v), k, dtype=torch.float64)
        for p, noise in zip(q, u, strict=True):
            p = p[:, None].clamp(1e-6, 1 - 1e-6)
            h = (noise < p).to(p.dtype)
            log_q += (h * p.log() + (1 - h) * torch.log1p(-p)).sum(2).double()
            odd.append(h.flatten(0, 1))
        f = self._given_odd(v.repeat_interleave(k, 0), odd)
        value, stderr, _ = log_mean_exp(-f.double().reshape(len(v), k) - log_q, 1)
        return value, stderr

    def _sample(self, n: int, rng: torch.Generator) -> Tensor:
        """Chains annealed from the base-rate model, then swept by Gibbs."""
        steps = int(self.burn_in)
        v, h2 = self._annealed(n, steps, rng)[1]
        h = [h2.new_zeros(n, int(H)) for H in self.n_hidden]
        h[1] = h2
        h = self._drawn(self._odd_means(self.units_.phi(v), h), rng)
        return self.units_.leave(self._chain_steps(h, steps // 10 + 1, rng)[0])

    def _complete(self, x: Tensor, rng: torch.Generator) -> Tensor:
        """Gibbs sweeps with the observed cells held."""
        cells = x.flatten(1)
        gap = torch.isnan(cells)
        v, h = self._parts(self._begin(len(x), rng))
        seen = cells.nan_to_num().to(v.dtype)
        v = torch.where(gap, v, seen)
        h = self._drawn(self._odd_means(self.units_.phi(v), h), rng)
        v, _ = self._chain_steps(
            h, int(self.burn_in), rng, held=lambda v: torch.where(gap, v, seen)
        )
        return torch.where(torch.isnan(x), self.units_.leave(v).to(x.dtype), x)

    def _encode(self, x: Tensor) -> Tensor:
        """q of all hidden layers, side by side, (n, Σ H_l)."""
        return torch.cat(self._mean_field(self._states(x)), 1)

    @property
    def _n_features_out(self) -> int:
        return sum(int(H) for H in self.n_hidden)

    def _decode(self, z: Tensor) -> Tensor:
        """E[v | h₁], of which z holds the means."""
        h1 = z[:, : int(self.n_hidden[0])]
        return self.units_.leave(self.units_.mean(self.b_, self._natural(h1)), whole=False)


def refuse_numbers(space: Space, name: str, instead: str) -> None:
    """Real numbers have no bits to stack upon; instead: the model that takes them."""
    for sort, _, columns in Units(space, "auto").groups:
        if sort == "gaussian":
            column = space.names()[columns[0]]
            raise ValueError(
                f"{column} is {space.kinds[columns[0]]}, and {name} needs bits, words or at "
                f"most {MANY} levels: drop it, or use {instead}"
            )
