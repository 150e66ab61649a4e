"""The Boltzmann machine (Ackley, Hinton & Sejnowski, 1985): every two units have an energy.

    E(s) = −Σ_{i<j} W_ij s_i s_j − Σ_i b_i s_i,   p(s) = e^{−E(s)}/Z
    p(s_i = up | others) = σ((up − down)(b_i + Σ_j (W + Wᵀ)_ij s_j))
    −∂ log p/∂W_ij = −⟨s_i s_j⟩_data + ⟨s_i s_j⟩_model

Units are 0 and 1, or −1 and 1 (an Ising model). The first of them are the cells of a row; hidden
ones, of which there are few, are summed over: F(v) = −log Σ_h e^{−E(v, h)}. The machine learns by

    exact     E_model enumerated, at most 16 units
    pseudo    the pseudo-likelihood Π_i p(s_i | others) in the place of p (Besag, 1975)
    pcd, cd   E_model from Gibbs chains that persist, or start at the data

Missing cells are summed over as hidden units are: exactly where learning is exact, else by Gibbs
draws given what is seen; the pseudo-likelihood is then that of the cells that are seen. The mass
of a row with many gaps is annealed, its seen cells held.

log Z also by mean-field theory at its fixed point, m_i = E[s_i] with each unit on its own:

    naive   −⟨E⟩_m + Σ H(m_i)                                         a lower bound
    TAP     the same + ½ Σ_{i<j} W_ij² v_i v_j,  v the variances      (Plefka, 1982)
"""

from __future__ import annotations

import contextlib
import math
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from genus.distributions.columns import share_of_ones
from genus.distributions.draws import flip
from genus.distributions.points import log_mean_exp
from genus.learn import processes
from genus.learn.rows import Rows, generator
from genus.learn.trainer import Trainer
from genus.likelihood import LogProb
from genus.memory import check_fits
from genus.missing import has_gaps
from genus.samplers.annealing import LogPartition, anneal, temperatures
from genus.settings import OneOf, Rule, Whole
from genus.space import Space
from genus.unnormalised import Unnormalised

EXACT = 16  # units up to which learning enumerates all states
FILLS = 5  # Gibbs sweeps that draw what a row hides, in learning
SUMMED = 10  # missing cells of a row, up to which log_prob sums over all their states
RUNS, STEPS = 16, 200  # annealed runs a row with more of them, and their temperatures
FIXED_POINT = 500  # rounds of mean field, at most


class BoltzmannMachine(Unnormalised):
    r"""A machine of binary units in which every two have an energy.

    E(s) = −Σ_{i<j} W_ij s_i s_j − bᵀs. ``log_prob`` is ``Exact`` up to 20 units, else an
    ``Estimate``; of rows with more than 10 missing cells a ``LowerBound`` or an ``Estimate``.
    Its data are bits; NaN marks missing cells in fit and in every verb.

    Parameters
    ----------
    n_hidden : int, default=0
        Hidden units beside the cells of a row, from 0 to 12; they are summed over.
    states : {"bits", "spins"}, default="bits"
        What the two values of a cell count as in the energy: 0 and 1, or −1 and 1 (an Ising model).
    method : {"auto", "exact", "pseudo", "pcd", "cd"}, default="auto"
        How it learns. ``auto``: exact up to 16 units; beyond, by pseudo-likelihood, or by pcd where
        units are hidden.
    k : int, default=1
        Gibbs sweeps a gradient.
    n_chains : int, default=100
        Persistent chains.
    n_annealing : int, default=1000
        Temperatures of annealed importance sampling, where Z cannot be enumerated.
    burn_in : int, default=200
        Temperatures through which ``sample`` anneals, and Gibbs sweeps of ``complete``.
    trainer : Trainer or None, default=None
        How to descend.
    random_state : int, generator or None, default=None
        An int, or a numpy generator; None: fresh at every fit.

    Raises
    ------
    ValueError
        Where X is not of bits, or ``method`` does not suit.

    Examples
    --------
    >>> import numpy as np, genus
    >>> X = np.repeat([[0, 0, 1, 1], [1, 1, 0, 0]], 50, axis=0)
    >>> model = genus.BoltzmannMachine(random_state=0).fit(X)
    >>> model.log_prob(X)
    Exact(mean = -0.7... nats, 0... bits/dim, n=100, probability)
    """

    arguments: ClassVar[dict[str, Rule]] = {
        "n_hidden": Whole(0, 12),
        "states": OneOf("bits", "spins"),
        "method": OneOf("auto", "exact", "pseudo", "pcd", "cd"),
        "k": Whole(1),
        "n_chains": Whole(1),
        "n_annealing": Whole(1),
        "burn_in": Whole(1),
    }
    allow_nan = True
    with_labels = "RBMClassifier"
    learned_by = "pseudo-likelihood or contrastive divergence"
    methods = ("auto", "exact", "ais", "mean-field", "tap")

    base_: Tensor
    _chain: Tensor

    def __init__(
        self,
        n_hidden: int = 0,
        states: str = "bits",
        method: str = "auto",
        k: int = 1,
        n_chains: int = 100,
        n_annealing: int = 1000,
        burn_in: int = 200,
        trainer: Trainer | None = None,
        random_state: Any = None,
    ) -> None:
        self.n_hidden = n_hidden
        self.states = states
        self.method = method
        self.k = k
        self.n_chains = n_chains
        self.n_annealing = n_annealing
        self.burn_in = burn_in
        self.trainer = trainer
        self.random_state = random_state

    # ------------------------------------------------------------------ construction

    def build(self, space: Space) -> None:
        for j, kind in enumerate(space.kinds):
            if kind != "binary":
                raise ValueError(
                    f"{space.names()[j]} is {kind}, and BoltzmannMachine needs bits: pass X >= a "
                    "threshold, or use RBM"
                )
        if self.method == "exact" and self._n_units(space) > EXACT:
            raise ValueError(
                f"method='exact' would sum over 2^{self._n_units(space)} states at every step: use "
                "method='pseudo' or 'pcd'"
            )
        if self.method == "pseudo" and self.n_hidden:
            raise ValueError("method='pseudo' is for n_hidden=0: use method='pcd'")
        N = self._n_units(space)
        cure = "use fewer cells, or RBM"
        check_fits(N**2, f"an energy for every two of {N:,} units", cure, itemsize=16)
        self.W_ = nn.Parameter(torch.zeros(N, N))  # what is above the diagonal counts
        self.b_ = nn.Parameter(torch.zeros(N))
        self.register_buffer("base_", torch.zeros(N))  # biases of the machine without W
        self.register_buffer("_chain", torch.zeros(0, N), persistent=False)

    def _n_units(self, space: Space) -> int:
        return space.dim + int(self.n_hidden)

    def n_parameters(self) -> int:
        """One a pair of units, and one a unit."""
        self._check_fitted()
        N = len(self.b_)
        return N * (N - 1) // 2 + N

    def defaults(self, n: int) -> Trainer:
        return Trainer(
            epochs=int(min(1000, max(20, 200_000 // max(n, 1)))),
            batch_size=100,
            lr=0.02,
            schedule="linear",
            weight_decay=min(0.01, 15 / max(n, 1)),  # a pair that never came has no finite W
            validation=0.0,
        )

    @torch.no_grad()
    def start(self, rows: Rows) -> None:
        x = rows.look(65536, self.rng)[0]
        up, down = self._values()
        d = self.space_.dim
        log_odds = torch.logit(share_of_ones(x.flatten(1)))
        self.b_[:d] = log_odds / (up - down)
        self.base_.copy_(self.b_)
        self.W_.normal_(0, 0.01, generator=self.rng)
        self.W_.triu_(1)

    # ------------------------------------------------------------------ energies

    def _values(self) -> tuple[float, float]:
        """What 1 and 0 count as."""
        return (1.0, 0.0) if self.states == "bits" else (1.0, -1.0)

    def _states(self, x: Tensor) -> Tensor:
        """s of codes x: the visible units."""
        up, down = self._values()
        return down + (up - down) * x.flatten(1).to(self.b_.dtype)

    def _codes_of(self, v: Tensor) -> Tensor:
        x = (v[:, : self.space_.dim] > 0.5).to(v.dtype)
        return x.reshape(-1, *self.space_.cell_shape)

    def _pairs(self) -> Tensor:
        """W above the diagonal."""
        return self.W_.triu(1)

    def energy(self, X: Any, h: Tensor | None = None) -> Any:
        """E of rows X with hidden units h (n, n_hidden) of bits, where it has any; (n,).

        X: rows, for which it is an array, or a tensor of codes (n, *shape).
        """
        self._check_fitted()
        codes = X if isinstance(X, Tensor) else self._codes(X)
        _check_whole(codes)
        s = self._states(codes)
        if self.n_hidden:
            if h is None:
                raise ValueError(f"h: pass n_hidden={self.n_hidden} bits a row, or use free_energy")
            s = torch.cat([s, self._states(torch.as_tensor(h, device=s.device))], 1)
        e = self._energy(s)
        return e if isinstance(X, Tensor) else e.detach().cpu().numpy()

    def _energy(self, s: Tensor) -> Tensor:
        """E of all units s (n, N)."""
        return -((s @ self._pairs()) * s).sum(1) - s @ self.b_

    def _free_energy(self, v: Tensor) -> Tensor:
        """F of the visible units v (n, d); of whatever stands beyond the cells nothing is asked."""
        v = v[:, : self.space_.dim]
        if not self.n_hidden:
            return self._energy(v)
        h = self._every(int(self.n_hidden), v)
        d = self.space_.dim
        W = self._pairs()
        own = -((v @ W[:d, :d]) * v).sum(1) - v @ self.b_[:d]
        hidden = ((h @ W[d:, d:]) * h).sum(1) + h @ self.b_[d:]
        return own - torch.logsumexp(hidden + (v @ W[:d, d:]) @ h.T, 1)

    def _every(self, n: int, like: Tensor, begin: int = 0, end: int | None = None) -> Tensor:
        """All states of n units, or those from begin to end, (2^n, n)."""
        up, down = self._values()
        index = torch.arange(begin, 2**n if end is None else end, device=like.device)
        bits = (index[:, None] >> torch.arange(n, device=like.device)) & 1
        return down + (up - down) * bits.to(like.dtype)

    # ------------------------------------------------------------------ learning

    def _way(self) -> str:
        """How it learns."""
        if self.method != "auto":
            return self.method
        if len(self.b_) <= EXACT:
            return "exact"
        return "pcd" if self.n_hidden else "pseudo"

    def losses(self, x: Tensor) -> Any:
        """−log p, its pseudo-likelihood, or F(data) − F(model); means over rows."""
        way = self._way()
        if way == "exact":
            yield self, self._exact_loss(x)
        elif way == "pseudo":
            yield self, -self._of_seen(x)
        else:
            with torch.no_grad():
                v = self._entered(x)
                start = self._whole(v, self.rng) if way == "cd" else self._chain
                apart = contextlib.nullcontext() if way == "cd" else processes.common()
                with apart:
                    if way == "pcd" and len(start) != self.n_chains:
                        start = self._begin(int(self.n_chains), self.rng)
                    fantasy = self._swept(start, int(self.k), self.rng)
                self._chain = fantasy
            d = self.space_.dim
            yield self, self._free_energy(v).mean() - self._free_energy(fantasy[:, :d]).mean()

    def _exact_loss(self, x: Tensor) -> Tensor:
        """Mean −log p of codes x, over all states of all units."""
        every = self._every(len(self.b_), self.b_)
        minus_e = -self._energy(every)
        log_z = torch.logsumexp(minus_e, 0)
        gap = torch.isnan(x.flatten(1)).any(1)
        if not has_gaps(x):
            return self._free_energy(self._states(x)).mean() + log_z
        total = self._free_energy(self._states(x[~gap])).sum()
        holed = x[gap].flatten(1)
        ones = (self._codes_of(every).flatten(1) == 1).to(minus_e.dtype)
        clashes = (holed == 1).to(ones.dtype) @ (1 - ones).T + (holed == 0).to(ones.dtype) @ ones.T
        possible = minus_e.masked_fill(clashes > 0, -math.inf)
        return (total - torch.logsumexp(possible, 1).sum()) / len(x) + log_z

    def _entered(self, x: Tensor) -> Tensor:
        """Visible units of codes x, what is missing drawn by Gibbs given what is seen."""
        v = self._states(x)
        gap = torch.isnan(v).any(1)
        if has_gaps(v):
            v[gap] = self._held(x[gap], FILLS, self.rng)[:, : self.space_.dim]
        return v

    def _of_seen(self, x: Tensor) -> Tensor:
        """The mean of Σ_i log p(s_i | others) over the cells of codes x that are seen."""
        v = self._entered(x)
        return (self._log_conditionals(v) * ~torch.isnan(x.flatten(1))).sum(1).mean()

    def validate(self, x: Tensor) -> Tensor | None:
        """Mean −log p of held-out codes, or of their pseudo-likelihood where units are many."""
        found = super().validate(x)
        return found if found is not None else -self._of_seen(x)

    def pseudo_log_likelihood(self, x: Tensor) -> Tensor:
        """Σ_i log p(s_i | others) of codes x, (n, *shape) → (n,), hidden units summed over.

        Raises ValueError where a cell is missing.
        """
        self._check_fitted()
        _check_whole(x)
        return self._log_conditionals(self._states(x)).sum(1)

    def _log_conditionals(self, v: Tensor) -> Tensor:
        """log p(s_i | others) of every visible unit of v (n, d), (n, d)."""
        up, down = self._values()
        if not self.n_hidden:
            W = self._pairs()
            field = (up - down) * (v @ (W + W.T) + self.b_)
            sign = 2 * (v - down) / (up - down) - 1
            return F.logsigmoid(sign * field)
        here, found = self._free_energy(v), []
        for i in range(v.shape[1]):
            other = v.clone()
            other[:, i] = up + down - v[:, i]
            found.append(F.logsigmoid(self._free_energy(other) - here))
        return torch.stack(found, 1)

    # ------------------------------------------------------------------ chains

    def _begin(self, n: int, rng: torch.Generator) -> Tensor:
        up, down = self._values()
        p = torch.sigmoid((up - down) * self.base_).expand(n, -1)
        return down + (up - down) * flip(p, rng)

    def _swept(
        self,
        v: Tensor,
        sweeps: int,
        rng: torch.Generator,
        free: Tensor | None = None,
        beta: float = 1.0,
        alike: int = 1,
    ) -> Tensor:
        """Each unit in turn drawn given all others, some sweeps, from states v of all units.

        free: (n, N), which may change. beta: the share of what is not the base. alike: so many
        parts of the states, one after the other, are drawn by the same uniforms.
        """
        up, down = self._values()
        gap = up - down
        W = self._pairs()
        both = beta * (W + W.T)
        b = self.base_ + beta * (self.b_ - self.base_)
        # in bits x, s = down + gap x, the log-odds of a unit are c_i + J_i x
        J, c = gap**2 * both, gap * (b + down * both.sum(1))
        x = ((v - down) / gap).T.contiguous()  # a unit a row
        places = range(len(b)) if free is None else free.any(0).nonzero().flatten().tolist()
        for _ in range(sweeps):
            size = len(x), x.shape[1] // alike
            u = torch.rand(size, generator=rng, dtype=x.dtype, device=x.device).repeat(1, alike)
            least = torch.logit(u) - c[:, None]
            for i in places:
                new = (J[i] @ x > least[i]).to(x.dtype)
                x[i] = new if free is None else torch.where(free[:, i], new, x[i])
        return (down + gap * x).T.contiguous()

    def _whole(self, v: Tensor, rng: torch.Generator) -> Tensor:
        """Visible units v (n, d) with hidden ones, drawn given them; (n, N)."""
        if not self.n_hidden:
            return v
        d = self.space_.dim
        h = self._every(int(self.n_hidden), v)
        W = self._pairs()
        hidden = ((h @ W[d:, d:]) * h).sum(1) + h @ self.b_[d:]
        p = torch.softmax(hidden + (v @ W[:d, d:]) @ h.T, 1)
        return torch.cat([v, h[torch.multinomial(p, 1, generator=rng)[:, 0]]], 1)

    # ------------------------------------------------------------------ the partition function

    def _n_enumerated(self) -> int:
        return len(self.b_)

    def _enumerate(self) -> float:
        N = len(self.b_)
        parts = []
        for begin in range(0, 2**N, 1 << 14):
            s = self._every(N, self.b_, begin, min(2**N, begin + (1 << 14)))
            parts.append(torch.logsumexp(-self._energy(s).double(), 0))
        return float(torch.logsumexp(torch.stack(parts), 0))

    def _log_z_base(self) -> float:
        up, down = self._values()
        b = self.base_.double()
        return float((down * b + F.softplus((up - down) * b)).sum())

    def _annealed(
        self, n: int, steps: int, rng: torch.Generator, start: Any = None
    ) -> tuple[Tensor, Any]:
        """Log-weights of n runs between independent units and this machine, and where they end."""
        grid = temperatures(steps)
        s = self._begin(n, rng) if start is None else start
        grid = grid if start is None else grid[::-1]
        W, db = self._pairs(), self.b_ - self.base_

        def step(s: Tensor, now: float, then: float) -> tuple[Tensor, Tensor]:
            gain = (then - now) * (((s @ W) * s).sum(1) + s @ db).double()
            return self._swept(s, 1, rng, beta=then), gain

        s, log_w = anneal(step, s, grid)
        return log_w, s

    def _approximate(self, method: str) -> LogPartition:
        """log Z by naive mean field, or by TAP; ``detail`` says how nearly it is a fixed point."""
        up, down = self._values()
        W = self._pairs().double()
        both, b = W + W.T, self.b_.double()
        m, moved = torch.sigmoid((up - down) * b) * (up - down) + down, math.inf
        rounds = 0
        while moved > 1e-10 and rounds < FIXED_POINT:
            rounds, moved = rounds + 1, 0.0
            for i in range(len(b)):  # each in turn: naive mean field then never falls
                field = both[i] @ m + b[i]
                if method == "tap":
                    variance = (m - down) * (up - m)
                    slope = up + down - 2 * m[i]  # of the unit's own variance
                    field = field + 0.5 * slope * (both[i].square() @ variance)
                new = down + (up - down) * torch.sigmoid((up - down) * field)
                if method == "tap":
                    new = 0.5 * (new + m[i])
                moved, m[i] = max(moved, float((new - m[i]).abs())), new
        p = (m - down) / (up - down)
        entropy = torch.special.entr(p) + torch.special.entr(1 - p)
        value = (m @ W) @ m + b @ m + entropy.sum()
        if method == "tap":
            variance = (m - down) * (up - m)
            value = value + 0.5 * (variance @ W.square()) @ variance
        detail = {"method": method, "rounds": rounds, "last_move": moved}
        return LogPartition(float(value), math.nan, math.nan, 1, math.nan, detail=detail)

    # ------------------------------------------------------------------ hooks

    def _log_prob(self, x: Tensor) -> LogProb:
        gaps = torch.isnan(x.flatten(1)).sum(1)
        v = self._states(x)
        if not gaps.any():
            return self._normalised(-self._free_energy(v))
        value, stderr = (v.new_zeros(len(v), dtype=torch.float64) for _ in range(2))
        value[gaps == 0] = -self._free_energy(v[gaps == 0]).double()
        for i in ((gaps > 0) & (gaps <= SUMMED)).nonzero()[:, 0].tolist():
            value[i] = self._log_sum(v[i])
        many = gaps > SUMMED
        if not many.any():
            return self._normalised(value)
        for rows in many.nonzero()[:, 0].split(64):
            value[rows], stderr[rows] = self._annealed_sum(v[rows])
        return self._normalised(value, stderr, bound=True, k=RUNS)

    def _log_sum(self, v: Tensor) -> Tensor:
        """log Σ e^{−F} of one row v (d,), over all states of the units that are NaN."""
        missing = torch.isnan(v)
        every = self._every(int(missing.sum()), v)
        whole = v.repeat(len(every), 1)
        whole[:, missing] = every
        return torch.logsumexp(-self._free_energy(whole).double(), 0)

    def _annealed_sum(self, v: Tensor) -> tuple[Tensor, Tensor]:
        """The same of rows v (n, d), by annealing with seen units held, and its standard error.

        All rows are drawn by the same uniforms, so that no row depends on its neighbours.
        """
        n, d = v.shape
        rng = generator(0, v.device)
        v = v.repeat_interleave(RUNS, 0)
        s = self._begin(RUNS, rng).repeat(n, 1)
        free = torch.ones_like(s, dtype=torch.bool)
        free[:, :d] = torch.isnan(v)
        s[:, :d] = torch.where(free[:, :d], s[:, :d], v)
        up, down = self._values()
        b0, W, db = self.base_, self._pairs(), self.b_ - self.base_
        of_free = down * b0 + F.softplus((up - down) * b0)
        base = torch.where(free, of_free, s * b0).double().sum(1)

        def step(s: Tensor, now: float, then: float) -> tuple[Tensor, Tensor]:
            gain = (then - now) * (((s @ W) * s).sum(1) + s @ db).double()
            return self._swept(s, 1, rng, free, then, alike=n), gain

        _, log_w = anneal(step, s, temperatures(STEPS))
        value, stderr, _ = log_mean_exp((base + log_w).reshape(n, RUNS), 1)
        return value, stderr

    def _sample(self, n: int, rng: torch.Generator) -> Tensor:
        """Chains annealed from independent units, then swept by Gibbs."""
        steps = int(self.burn_in)
        _, s = self._annealed(n, steps, rng)
        return self._codes_of(self._swept(s, steps // 10 + 1, rng))

    def _complete(self, x: Tensor, rng: torch.Generator) -> Tensor:
        """Gibbs sweeps with the observed cells held."""
        s = self._held(x, int(self.burn_in), rng)
        return torch.where(torch.isnan(x), self._codes_of(s).to(x.dtype), x)

    def _held(self, x: Tensor, sweeps: int, rng: torch.Generator) -> Tensor:
        """All units (n, N) after Gibbs sweeps with the observed cells of codes x held."""
        gap = torch.isnan(x.flatten(1))
        s = self._begin(len(x), rng)
        d = self.space_.dim
        seen = self._states(x)
        s[:, :d] = torch.where(gap, s[:, :d], seen.to(s.dtype))
        free = torch.ones_like(s, dtype=torch.bool)
        free[:, :d] = gap
        return self._swept(s, sweeps, rng, free)


def _check_whole(x: Tensor) -> None:
    if torch.isnan(x).any():
        raise ValueError("X has missing cells, which have no energy: fill them, complete(X)")
