"""The restricted Boltzmann machine (Smolensky, 1986; Hinton, 2002), for any kind of visible unit.

    E(v, h) = −log base(v) − bᵀt(v) − (φ(v) − μ)ᵀ W (h − λ) − cᵀh,   h ∈ {0, 1}^H,   p = e^{−E}/Z
    F(v) = −log Σ_h e^{−E(v, h)}
    p(h_j = 1 | v) = σ(c_j + W_jᵀ(φ(v) − μ))
    v | h independent, with natural parameters b and W(h − λ)
    −∂ log p(v)/∂θ = ∂F(v)/∂θ − E_model[∂F/∂θ]: the data against draws of a Gibbs chain

One term a kind of unit (an exponential-family harmonium; Welling et al., 2005):

    binary          t = φ = v
    categorical     t = φ = the one-hot code: a softmax over its values
    ordinal         t = the one-hot code, φ = r smooth functions of the level: a softmax that
                    knows the order
    gaussian        t = φ = v, base = exp(−½ τ v²), precision τ learned, on the normal scores
                    z = Φ⁻¹(F(x)) of a number, F what its column does on its own

A value with mass of its own is an interval of z. What a row hides, the places in such intervals and
the cells that are missing, is summed over: in learning by Gibbs draws given what is seen, and in
``log_prob`` by importance sampling,

    p(x) = E_q[e^{−F(v)} |∂v/∂x| / q(v | x)] / Z,    q independent cells of mean field.

μ and λ, the means of φ and h, only condition the gradient (Montavon & Müller, 2012):
when λ moves, b takes up the difference and the distribution stays. Tieleman (2008): the
chain persists between steps. Fast weights drive it on, or chains at higher temperatures feed it.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from genus.distributions.draws import flip
from genus.distributions.points import log_mean_exp, row_uniforms
from genus.encoder import Encoder
from genus.learn import processes
from genus.learn.rows import Rows
from genus.learn.trainer import Trainer
from genus.likelihood import LogProb
from genus.memory import check_fits
from genus.missing import has_gaps
from genus.models.boltzmann.conditionals import log_conditionals
from genus.models.boltzmann.units import Units
from genus.samplers.annealing import anneal, temperatures
from genus.samplers.chains import gibbs
from genus.settings import Flag, Number, OneOf, Rule, Several, Whole
from genus.space import Space
from genus.unnormalised import SMALL, Unnormalised

Hidden = Callable[[Tensor], Tensor]

FEWEST, MOST = 32, 256  # hidden units by default
FILLS = 3  # Gibbs sweeps that draw what a row hides, in learning
ROUNDS = 8  # of mean field
FAST, FORGET = 0.05, 0.95  # rate of fast weights, and what is left of them after a step
SEEN = 0.02  # what a step counts in the rates of swaps
WATCHED_CELLS = 32  # of held-out rows, by which training is watched
POINTS = 16  # importance points a row; where cells are missing, four times as many


class RBM(Encoder, Unnormalised):
    r"""Binary hidden units between visible ones, p(v) = e^{−F(v)}/Z.

    ``log_prob`` is ``Exact`` when one layer has at most 20 units, else an ``Estimate``; with
    missing cells, and of numbers with mass, a ``LowerBound`` or an ``Estimate``. NaN marks missing
    cells in fit and in every verb.

    Parameters
    ----------
    n_hidden : int or None, default=None
        H ≥ 1. None: a unit for every ten rows, from 32 to 256; ``n_hidden_`` says how many.
    visible : {"auto", "bernoulli", "categorical", "gaussian"}, default="auto"
        ``auto``: by the kind of each cell (up to 64 levels between known ends by their own softmax;
        more, and all other numbers, take Gaussian units).
    method : {"pcd", "cd", "fpcd", "tempering"}, default="pcd"
        A persistent chain, or a chain started at the data. ``fpcd``: a persistent chain driven on
        by fast weights (Tieleman & Hinton, 2009); ``tempering``: persistent chains at several
        temperatures that swap states (Desjardins et al., 2010), ``swap_rates_`` how often.
    k : int or pair of ints, default=1
        Gibbs steps a gradient; a pair: at the beginning and at the end, growing evenly, for chains
        that mix ever more slowly.
    n_chains : int or None, default=None
        Persistent chains; None: the batch size.
    centred : bool, default=True
        Subtract μ and λ (False: the plain parametrisation).
    tracking : float, default=0.01
        Share by which λ follows the batch's mean hidden activity.
    n_annealing : int, default=2000
        Temperatures of annealed importance sampling, where Z cannot be enumerated.
    burn_in : int, default=200
        Temperatures through which ``sample`` anneals fresh chains, and
        Gibbs sweeps of ``complete``.
    marginals : {"learned", "logit"} or None, default=None
        How numbers become Gaussian units: ``learned``, by the normal scores of their columns;
        ``logit``, standardised, levels spread by a logit. None: ``logit`` for grey levels.
    trainer : Trainer or None, default=None
        How to descend; by default plain SGD with a rate that falls to 0.
    random_state : int, generator or None, default=None
        An int, or a numpy generator; None: fresh at every fit.
    n_temperatures : int, default=10
        Of ``tempering``, two or more; each costs as much as the chain of ``pcd``.
    sparsity : float or None, default=None
        ρ between 0 and 1, the share of rows in which a hidden unit is wanted on; None: any.
    sparsity_cost : float, default=0.1
        What the cross-entropy between ρ and a unit's mean activity weighs, in nats.

    Examples
    --------
    >>> import numpy as np, genus
    >>> X = np.repeat([[0, 0, 1, 1], [1, 1, 0, 0]], 50, axis=0)
    >>> model = genus.RBM(4, trainer=genus.Trainer(epochs=5), random_state=0).fit(X)
    >>> model.log_prob(X)
    Exact(mean = -... nats, ... bits/dim, n=100, probability)
    """

    arguments: ClassVar[dict[str, Rule]] = {
        "n_hidden": Whole(1) | None,
        "visible": OneOf("auto", "bernoulli", "categorical", "gaussian"),
        "method": OneOf("pcd", "cd", "fpcd", "tempering"),
        "k": Whole(1) | Several(Whole(1), Whole(1), says="a pair of them"),
        "n_chains": Whole(1) | None,
        "n_temperatures": Whole(2),
        "sparsity": Number(0, 1) | None,
        "sparsity_cost": Number(0),
        "centred": Flag(),
        "tracking": Number(0, 1),
        "n_annealing": Whole(1),
        "burn_in": Whole(1),
        "marginals": OneOf("learned", "logit") | None,
    }
    allow_nan = True
    with_labels = "RBMClassifier"
    learned_by = "contrastive divergence"

    n_hidden_: int
    mu_: Tensor
    lambda_: Tensor
    base_: Tensor
    base_c_: Tensor
    _chain: Tensor
    _fast_W: Tensor
    _fast_b: Tensor
    _fast_c: Tensor
    swap_rates_: Tensor

    def __init__(
        self,
        n_hidden: int | None = None,
        visible: str = "auto",
        method: str = "pcd",
        k: int | tuple[int, int] = 1,
        n_chains: int | None = None,
        centred: bool = True,
        tracking: float = 0.01,
        n_annealing: int = 2000,
        burn_in: int = 200,
        marginals: str | None = None,
        trainer: Trainer | None = None,
        random_state: Any = None,
        n_temperatures: int = 10,
        sparsity: float | None = None,
        sparsity_cost: float = 0.1,
    ) -> None:
        self.n_hidden = n_hidden
        self.visible = visible
        self.method = method
        self.k = k
        self.n_chains = n_chains
        self.centred = centred
        self.tracking = tracking
        self.n_annealing = n_annealing
        self.burn_in = burn_in
        self.marginals = marginals
        self.trainer = trainer
        self.random_state = random_state
        self.n_temperatures = n_temperatures
        self.sparsity = sparsity
        self.sparsity_cost = sparsity_cost

    # ------------------------------------------------------------------ learning

    def losses(self, x: Tensor) -> Any:
        """F(data) − F(model), means over rows; the model's rows are where the chain stands."""
        self.units_.project_()
        with torch.no_grad():
            v = self._entered(x)
            apart = contextlib.nullcontext() if self.method == "cd" else processes.common()
            with apart:
                fantasy = self._fantasy(v)
        both = torch.cat([v, fantasy])
        a = torch.addmm(self.c_, self.units_.phi(both) - self.mu_, self.W_)
        hidden, h = _hidden_term(a, self.lambda_)
        minus_f = self.units_.bias(both, self.b_) + hidden + self.c_ @ self.lambda_
        loss = minus_f[len(v) :].mean() - minus_f[: len(v)].mean()
        if self.units_.waves:
            loss = loss + self._roughness()
        if self.sparsity is not None:
            loss = loss + self._too_active(a[: len(v)])
        yield self, loss
        with torch.no_grad():
            if self.method == "pcd":
                self._chain = h[len(v) :]
            elif self.method == "fpcd":
                self._quicken()
                self._chain = torch.sigmoid(self._fast()._inputs(fantasy))
            if self.centred and self.tracking:
                seen = processes.over_batch(h[: len(v)].mean(0))
                move = self.tracking * (seen - self.lambda_)
                self.lambda_ += move
                self.units_.absorb_(self.b_, self.W_ @ move)

    def _roughness(self) -> Tensor:
        """½ d Σ (i² − 1) W², i the wave of an ordered level: with the decay d, i² d in all."""
        rough = self.W_.new_tensor(self.units_.waves).square() - 1
        return 0.5 * self._decay * (rough @ self.W_.square().sum(1))

    def _too_active(self, a: Tensor) -> Tensor:
        """−Σ_j ρ log q_j + (1 − ρ) log(1 − q_j) at its cost, q the mean activities of a batch."""
        q = processes.over_batch(torch.sigmoid(a).mean(0)).clamp(1e-6, 1 - 1e-6)
        rho = float(self.sparsity or 0)
        cross_entropy = -(rho * q.log() + (1 - rho) * torch.log1p(-q)).sum()
        return float(self.sparsity_cost) * cross_entropy

    def _fantasy(self, v: Tensor) -> Tensor:
        """The model's rows beside those of data v: where chains stand after k steps."""
        n = self.n_chains or self._batch
        if self.method == "tempering":
            return self._tempered(n, self._steps())
        if self.method == "cd":
            self._chain = torch.sigmoid(self._inputs(v))
        elif len(self._chain) != n:
            self._chain = torch.sigmoid(self.c_).repeat(n, 1)
        machine = self._fast() if self.method == "fpcd" else self
        return machine._sweep(self._chain, self._steps())

    def _fast(self) -> RBM:
        """The machine that the chain of ``fpcd`` follows: weights and fast weights together."""
        return self.at(W=self.W_ + self._fast_W, b=self.b_ + self._fast_b, c=self.c_ + self._fast_c)

    def _quicken(self) -> None:
        """Fast weights follow the gradient of the step that was just taken, and are forgotten."""
        for fast, p in (
            (self._fast_W, self.W_),
            (self._fast_b, self.b_),
            (self._fast_c, self.c_),
        ):
            if p.grad is not None:
                fast.mul_(FORGET).sub_(p.grad, alpha=FAST)

    def _tempered(self, n: int, steps: int) -> Tensor:
        """Where the coldest of T tempered chains stand after k steps of all, and one of swaps.

        Chain t follows the model at β_t, between the base rates (0) and this one (1). Neighbours
        swap states with probability min(1, e^{F_t(v) + F_{t+1}(u) − F_t(u) − F_{t+1}(v)}).
        """
        T, dim = int(self.n_temperatures), self.space_.dim
        b, c = self._plain()
        b0, c0 = self.base_, self._base_c()
        db, dc, W = b - b0, c - c0, self.W_.detach()
        if len(self._chain) != T * n:
            self._chain = self._begin(T * n, self.rng)
        grid = torch.linspace(0, 1, T, dtype=W.dtype, device=W.device)
        beta, v = grid.repeat_interleave(n)[:, None], self._chain
        for _ in range(steps):
            y = torch.addmm(dc, self.units_.phi(v), W)
            h = flip(torch.sigmoid(c0 + beta * y), self.rng)
            v = self.units_.draw(b0 + beta * db, beta * (h @ W.T), self.rng)
        y = torch.addmm(dc, self.units_.phi(v), W).reshape(T, n, -1)
        own = self.units_.linear(v, db).reshape(T, n)
        v = v.reshape(T, n, dim).clone()

        def minus_f(t: int, at: int) -> Tensor:
            """−F at β_at of the states of chain t, but for what no β changes."""
            return grid[at] * own[t] + F.softplus(c0 + grid[at] * y[t]).sum(1)

        for t in range(T - 1):
            log_ratio = minus_f(t + 1, t) + minus_f(t, t + 1)
            log_ratio -= minus_f(t, t) + minus_f(t + 1, t + 1)
            u = torch.rand(n, generator=self.rng, dtype=W.dtype, device=W.device)
            swap = u.log() < log_ratio
            self.swap_rates_[t].lerp_(swap.to(W.dtype).mean(), SEEN)
            for state in (v, y, own):
                which = swap.reshape(-1, *[1] * (state.dim() - 2))
                low, high = state[t].clone(), state[t + 1].clone()
                state[t] = torch.where(which, high, low)
                state[t + 1] = torch.where(which, low, high)
        self._chain = v.flatten(0, 1)
        return v[-1]

    def _entered(self, x: Tensor) -> Tensor:
        """v of codes x to learn from, what they hide drawn given what they tell."""
        if not self._hides(x):
            return self.units_.enter(x, self.rng)[0]
        return self._held(x.flatten(1), FILLS, self.rng)

    def _hides(self, x: Tensor) -> bool:
        """Do codes x hide the place in an interval, or a cell?"""
        return (self.units_.learned and self.units_.dequantises) or has_gaps(x)

    def _held(
        self, x: Tensor, sweeps: int, rng: torch.Generator, hidden: Hidden | None = None
    ) -> Tensor:
        """Visible draws given what codes x (n, d) tell, after some Gibbs sweeps.

        hidden: draws h given v; by default this machine's own.
        """
        u = torch.rand(x.shape, generator=rng, dtype=torch.float64, device=x.device)
        low, high, _ = self.units_.ends(x, u)
        b, a = self.base_, self.W_.new_zeros(len(x), len(self.W_))
        v = self.units_.within(self.units_.draw(b, a, rng), b, a, low, high, rng)
        for _ in range(sweeps):
            h = hidden(v) if hidden else flip(torch.sigmoid(self._inputs(v)), rng)
            a = (h - self.lambda_) @ self.W_.T
            v = self.units_.draw(self.b_, a, rng)
            v = self.units_.within(v, self.b_, a, low, high, rng)
        return v

    def _steps(self) -> int:
        """Gibbs steps of this gradient."""
        if isinstance(self.k, int | np.integer):
            return int(self.k)
        first, last = self.k
        return round(first + (last - first) * self.spent)

    def plan(self) -> int:
        return self._steps()

    def _free_energy(self, v: Tensor) -> Tensor:
        inputs = self._inputs(v)
        return (
            -self.units_.bias(v, self.b_)
            - F.softplus(inputs).sum(1)
            + (inputs - self.c_) @ self.lambda_
        )

    def pseudo_log_likelihood(self, x: Tensor) -> Tensor:
        """Σ_i log p(v_i | others) of codes x, (n, *shape) → (n,); of numbers, densities of v.

        Raises ValueError where a cell is missing.
        """
        self._check_fitted()
        if torch.isnan(x).any():
            raise ValueError("X has missing cells, which have no energy: fill them, complete(X)")
        return log_conditionals(self, self._states(x), list(range(self.space_.dim))).sum(1)

    def validate(self, x: Tensor) -> Tensor | None:
        """Mean −log p of held-out codes where units are few, else of their pseudo-likelihood.

        That is of at most 32 cells of a row, the same at every look, as if the others were alike.
        Missing cells are drawn, and not counted.
        """
        found = super().validate(x)
        if found is not None:
            return found
        dim = self.space_.dim
        columns = list(range(dim))
        if dim > WATCHED_CELLS:
            order = torch.randperm(dim, generator=self.rng, device=x.device)
            columns = order[:WATCHED_CELLS].tolist()
        seen = ~torch.isnan(x.flatten(1))
        v = self._states(x) if seen.all() else self._held(x.flatten(1), FILLS, self.rng)
        seen = seen[:, columns]
        each = log_conditionals(self, v, columns) * seen
        return -dim * each.sum() / seen.sum().clamp_min(1)

    def energy(self, v: Tensor, h: Tensor) -> Tensor:
        """E(v, h) of visible units v (n, d) and hidden ones h (n, H), (n,)."""
        self._check_fitted()
        phi = self.units_.phi(v) - self.mu_
        return (
            -self.units_.bias(v, self.b_)
            - ((phi @ self.W_) * (h - self.lambda_)).sum(1)
            - h @ self.c_
        )

    def _inputs(self, v: Tensor) -> Tensor:
        """c + Wᵀ(φ(v) − μ), (n, H)."""
        return torch.addmm(self.c_, self.units_.phi(v) - self.mu_, self.W_)

    def _sweep(self, p: Tensor, sweeps: int) -> Tensor:
        """Visible draws after some sweeps from hidden probabilities p."""

        def hidden(p: Tensor) -> Tensor:
            return flip(p, self.rng)

        v = self.units_.draw(self.b_, (hidden(p) - self.lambda_) @ self.W_.T, self.rng)
        for _ in range(sweeps - 1):
            h = hidden(torch.sigmoid(self._inputs(v)))
            v = self.units_.draw(self.b_, (h - self.lambda_) @ self.W_.T, self.rng)
        return v

    # ------------------------------------------------------------------ construction

    def build(self, space: Space) -> None:
        self.units_ = Units(space, self.visible, self._marginals_of(space))
        D, B, H = self.units_.n_phi, self.units_.n_bias, self._n_hidden()
        what = f"n_hidden={H} beside {D:,} visible units"
        check_fits(4 * D * H, what, "lower n_hidden, or merge rare words and levels", itemsize=4)
        self.W_ = nn.Parameter(torch.zeros(D, H))
        self.b_ = nn.Parameter(torch.zeros(B))
        self.c_ = nn.Parameter(torch.zeros(H))
        self.register_buffer("mu_", torch.zeros(D))
        self.register_buffer("lambda_", torch.zeros(H))
        # the model without hidden units: where annealing starts
        self.register_buffer("base_", torch.zeros(B))
        wide = space.dim if self.method == "tempering" else H  # visible states, or activities
        self.register_buffer("_chain", torch.zeros(0, wide), persistent=False)
        if self.method == "fpcd":
            for name, p in (("W", self.W_), ("b", self.b_), ("c", self.c_)):
                self.register_buffer(f"_fast_{name}", torch.zeros_like(p), persistent=False)
        if self.method == "tempering":
            self.register_buffer("swap_rates_", torch.ones(int(self.n_temperatures) - 1))

    def _n_hidden(self) -> int:
        """H; before rows have been counted, the fewest."""
        if self.n_hidden is not None:
            return int(self.n_hidden)
        return int(getattr(self, "n_hidden_", FEWEST))

    def _marginals_of(self, space: Space) -> str:
        """How numbers become Gaussian units; as the part of a model, on their own scale."""
        if self.marginals is not None:
            return self.marginals
        return "logit" if self.is_part else usual_marginals(space)

    def defaults(self, n: int) -> Trainer:
        if not self.is_part:
            self.n_hidden_ = int(self.n_hidden or min(MOST, max(FEWEST, n // 10)))
        return settings_for(n, self.space_, self._marginals_of(self.space_))

    @torch.no_grad()
    def start(self, rows: Rows) -> None:
        x = rows.look(65536, self.rng)[0]
        trainer = self._trainer().over(self.defaults(len(rows)))
        self._batch = min(trainer.batch_size or 100, len(rows))
        self._decay = float(trainer.weight_decay or 0)
        self.units_.fit(x)
        v, _ = self.units_.enter(x, self.rng)
        self.b_.copy_(self.units_.independent(v))  # of the cells that are seen
        self.base_.copy_(self.b_)
        self.W_.normal_(0, 0.01, generator=self.rng)
        if self.centred:
            gap = torch.isnan(v)
            seen = ~self.units_.wide(gap)
            phi = self.units_.phi(v.nan_to_num()) * seen
            self.mu_.copy_(phi.sum(0) / seen.sum(0).clamp_min(1))
            self.lambda_.fill_(0.5)

    def at(self, **parameters: Tensor) -> RBM:
        """This machine at other parameters, as ``at(c=...)``: nothing is copied, nothing moves."""
        view = object.__new__(RBM)
        view.__dict__.update(self.__dict__)
        for name in ("log_partition_", "_fitted"):
            view.__dict__.pop(name, None)
        own = {f"{name}_": value for name, value in parameters.items()}
        view.__dict__["_parameters"] = {**self._parameters, **own}
        return view

    # ------------------------------------------------------------------ the partition function

    def _n_enumerated(self) -> int:
        """Units of the layer that is summed over."""
        H = self._n_hidden()
        return min(H, self.units_.n_binary or H)

    def _enumerate(self) -> float:
        H = self._n_hidden()
        if H <= SMALL:  # Σ_h e^{cᵀh} Π_cells Σ_v …
            parts = []
            for block in torch.arange(2**H, device=self.b_.device).split(4096):
                h = ((block[:, None] >> torch.arange(H, device=block.device)) & 1).to(self.b_.dtype)
                a = (h - self.lambda_) @ self.W_.T
                log_v = self.units_.log_partition(self.b_, a) - (
                    self.mu_.double() * a.double()
                ).sum(1)
                parts.append(log_v + (h.double() @ self.c_.double()))
            return float(torch.logsumexp(torch.cat(parts), 0))
        d = self.units_.n_binary or 0
        parts = []
        for block in torch.arange(2**d, device=self.b_.device).split(4096):
            v = ((block[:, None] >> torch.arange(d, device=block.device)) & 1).to(self.b_.dtype)
            parts.append(-self._free_energy(v).double())
        return float(torch.logsumexp(torch.cat(parts), 0))

    def _plain(self) -> tuple[Tensor, Tensor]:
        """b and c of the same distribution without μ and λ.

        A constant of the energy is left out: _constant.
        """
        b = self.b_.detach().clone()
        self.units_.absorb_(b, -(self.W_ @ self.lambda_))
        return b, self.c_ - self.mu_ @ self.W_

    def _constant(self) -> float:
        """What −E of the centred form has beside that of the plain one: μᵀWλ."""
        return float(self.mu_.double() @ (self.W_.double() @ self.lambda_.double()))

    def _base_c(self) -> Tensor:
        return (
            torch.logit(self.lambda_.clamp(1e-3, 1 - 1e-3))
            if self.centred
            else torch.zeros_like(self.lambda_)
        )

    def _log_z_base(self) -> float:
        zero = self.W_.new_zeros(1, len(self.W_))
        return (
            float(self.units_.log_partition(self.base_, zero))
            + float(F.softplus(self._base_c().double()).sum())
            + self._constant()
        )

    def _annealed(
        self, n: int, steps: int, rng: torch.Generator, start: Any = None
    ) -> tuple[Tensor, Any]:
        """Log-weights of n runs between the base-rate model and this one, and where they end.

        start: run backwards from there.
        """
        b, c = self._plain()
        b0, c0 = self.base_, self._base_c()
        db, dc, W, WT = b - b0, c - c0, self.W_.detach(), self.W_.detach().T.contiguous()
        grid = temperatures(steps)
        if start is None:
            v = self._begin(n, rng)
        else:
            v, grid = start, grid[::-1]

        def step(v: Tensor, now: float, then: float) -> tuple[Tensor, Tensor]:
            y = torch.addmm(dc, self.units_.phi(v), W)  # hidden inputs are c₀ + β y
            new = torch.add(c0, y, alpha=then)
            gain = (F.softplus(new) - F.softplus(torch.add(c0, y, alpha=now))).sum(
                1, dtype=torch.float64
            )
            gain += (then - now) * self.units_.linear(v, db).double()
            h = flip(torch.sigmoid(new), rng)
            v = self.units_.draw(torch.add(b0, db, alpha=then), (h @ WT).mul_(then), rng)
            return v, gain

        v, log_w = anneal(step, v, grid)
        return log_w, v

    # ------------------------------------------------------------------ verbs

    def _states(self, x: Tensor) -> Tensor:
        return self.units_.enter(x, x.new_full((1, 1), 0.5))[0]

    def _codes_of(self, v: Tensor) -> Tensor:
        return self.units_.leave(v)

    def _begin(self, n: int, rng: torch.Generator) -> Tensor:
        nothing = self.W_.new_zeros(n, len(self.W_))
        return self.units_.draw(self.base_.expand(n, -1), nothing, rng)

    def _swept(self, v: Tensor, sweeps: int, rng: torch.Generator) -> Tensor:
        b, c = self._plain()

        def hidden(v: Tensor) -> tuple[Tensor, Tensor]:
            p = torch.sigmoid(torch.addmm(c, self.units_.phi(v), self.W_))
            return v, flip(p, rng)

        def visible(state: tuple[Tensor, Tensor]) -> Tensor:
            return self.units_.draw(b, state[1] @ self.W_.T, rng)

        return gibbs([hidden, visible], v, sweeps)

    # ------------------------------------------------------------------ hooks

    def _log_prob(self, x: Tensor) -> LogProb:
        value, stderr, bound = self._log_mass(x)
        if not bound:
            return self._normalised(value)
        return self._normalised(value, stderr, bound=True, k=POINTS)

    def _log_mass(self, x: Tensor) -> tuple[Tensor, Tensor, bool]:
        """log p + log Z of codes x, (n,), its standard errors, and whether it is a bound."""
        x = x.flatten(1)
        gap = torch.isnan(x).any(1)
        hides = gap | self.units_.dequantises
        value, stderr = (x.new_zeros(len(x), dtype=torch.float64) for _ in range(2))
        if not hides.all():
            v, log_det = self.units_.enter(x[~hides], x.new_zeros(1, 1))
            value[~hides] = -self._free_energy(v).double() + log_det
        for rows, k in ((hides & ~gap, POINTS), (gap, 4 * POINTS)):
            if rows.any():
                for some in rows.nonzero().squeeze(1).split(512):
                    value[some], stderr[some] = self._log_sum(x[some], k)
        return value, stderr, bool(hides.any())

    def _log_sum(self, x: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """log of e^{−F(v)} |∂v/∂x| summed over all v of codes x (n, d), by k points; its error."""
        u = row_uniforms(x, k, self.space_.dim).double().flatten(0, 1)
        many = x.repeat_interleave(k, 0)
        low, high, log_det = self.units_.ends(many, u)
        a, spread = self._expected(low[::k], high[::k])
        a, spread = a.repeat_interleave(k, 0), spread.repeat_interleave(k, 0)
        v, log_q = self.units_.propose(self.b_, a, spread, low, high, u)
        each = -self._free_energy(v).double() + log_det - log_q
        value, stderr, _ = log_mean_exp(each.reshape(len(x), k), 1)
        impossible = torch.isneginf(log_det[::k])
        return (
            value.masked_fill(impossible, -math.inf),
            stderr.masked_fill(impossible, 0.0),
        )

    def _expected(self, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and variance of a = W(h − λ) given where v lies, by mean field; (n, n_phi) each."""
        a = self.W_.new_zeros(len(low), len(self.W_))
        spread = torch.zeros_like(a)
        for _ in range(ROUNDS):
            phi = self.units_.expected(self.b_, a, spread, low, high)
            p = torch.sigmoid(torch.addmm(self.c_, phi - self.mu_, self.W_))
            a = (p - self.lambda_) @ self.W_.T
            spread = (p * (1 - p)) @ self.W_.T.square()
        return a, spread

    def _sample(self, n: int, rng: torch.Generator) -> Tensor:
        """Chains annealed from the base-rate model, then swept by Gibbs."""
        steps = int(self.burn_in)
        parts = [
            self._swept(self._annealed(len(c), steps, rng)[1], steps // 10 + 1, rng)
            for c in torch.arange(n).split(1024)
        ]
        return self.units_.leave(torch.cat(parts))

    def _complete(self, x: Tensor, rng: torch.Generator) -> Tensor:
        """Gibbs sweeps with the observed cells held."""
        v = self._held(x.flatten(1), int(self.burn_in), rng)
        return torch.where(torch.isnan(x), self.units_.leave(v).to(x.dtype), x)

    def _encode(self, x: Tensor) -> Tensor:
        if not torch.isnan(x).any():
            return self._upwards(self.units_.phi(self.units_.enter(x, x.new_full((1, 1), 0.5))[0]))
        x = x.flatten(1)
        low, high, _ = self.units_.ends(x, torch.full_like(x, 0.5, dtype=torch.float64))
        a, spread = self._expected(low, high)
        return self._upwards(self.units_.expected(self.b_, a, spread, low, high))

    def _upwards(self, phi: Tensor) -> Tensor:
        """E[h | φ] in float32, summed in float64: the order of the rows then changes no digit."""
        return torch.sigmoid(self._inputs_of(phi)).to(phi.dtype)

    def _inputs_of(self, phi: Tensor) -> Tensor:
        """c + Wᵀ(φ − μ) in float64, (n, H)."""
        c, mu, W = (t.double() for t in (self.c_, self.mu_, self.W_))
        return torch.addmm(c, phi.double() - mu, W)

    @property
    def _n_features_out(self) -> int:
        return self.W_.shape[1]

    def _decode(self, z: Tensor) -> Tensor:
        return self.units_.leave(
            self.units_.mean(self.b_, (z - self.lambda_) @ self.W_.T), whole=False
        )


def usual_marginals(space: Space) -> str:
    """How numbers become Gaussian units: grey levels by a logit, others by normal scores."""
    images = space.layout is not None and space.kind != "binary"
    return "logit" if images or space.kind == "ordinal" else "learned"


def usual_trainer(n: int) -> Trainer:
    """Settings that suit machines of bits and n rows."""
    return Trainer(
        epochs=int(min(200, max(10, 150_000 // max(n, 1)))),
        batch_size=50 if n < 10_000 else 100,
        optimizer="sgd",
        lr=0.1,
        schedule="linear",
        weight_decay=min(0.01, 15 / max(n, 1)),  # a prior that many rows outweigh
        validation=0.0,
    )


def settings_for(n: int, space: Space, marginals: str) -> Trainer:
    """The usual settings; far tails of numbers that are normal scores have large gradients.

    Functions of ordered levels decay by half as much, the rough ones by more (``_roughness``).
    """
    real, usual = {"integer", "continuous"} & set(space.kinds), usual_trainer(n)
    if "ordinal" in space.kinds:
        usual = usual.replace(weight_decay=0.5 * (usual.weight_decay or 0))
    return usual.replace(grad_clip=10.0 if real and marginals == "learned" else None)


class _HiddenTerm(torch.autograd.Function):
    """Σ_j softplus(a_j) − λ_j a_j of each row, and σ(a): one pass forward, one back.

    Its gradient is σ(a) − λ.
    """

    @staticmethod
    def forward(ctx: Any, a: Tensor, lam: Tensor) -> tuple[Tensor, Tensor]:
        p = torch.sigmoid(a)
        ctx.save_for_backward(p, lam)
        ctx.mark_non_differentiable(p)
        return F.softplus(a).sum(1) - a @ lam, p

    @staticmethod
    def backward(ctx: Any, g: Tensor, _: Any) -> Any:
        p, lam = ctx.saved_tensors
        return (p - lam).mul_(g[:, None]), None


_hidden_term: Any = _HiddenTerm.apply
