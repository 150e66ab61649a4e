"""Models whose probabilities are known up to a constant, p(x) = e^{−F(x)}/Z.

    F(v) = −log Σ_h e^{−E(v, h)}             the free energy; E itself where nothing is hidden
    log p(x) = −F(v) + log |∂v/∂x| − log Z
    log Z = log Σ_v e^{−F(v)}                by enumeration, or by annealed importance sampling

Annealing goes from a model without interactions, whose Z is known, to this one (Neal, 2001;
Salakhutdinov & Murray, 2008). Chains alternate draws that leave p alone.
"""

from __future__ import annotations

import dataclasses
import math
import time
from typing import Any, ClassVar

import torch
from torch import Tensor

from genus.learn.rows import generator
from genus.likelihood import Estimate, Exact, LogProb, LowerBound
from genus.model import Model, on_rows
from genus.samplers.annealing import LogPartition, log_mean_weight
from genus.samplers.diagnostics import ChainReport, autocorrelation_time, r_hat
from genus.settings import Whole
from genus.typing import RandomState, RowsLike

SMALL = 20  # units up to which all states are enumerated
RUNS, COUNT, STILL = 200, 50, 0.3  # of annealing that settles: runs, those that count, nats
WATCHED = 14  # units up to which they are enumerated again and again, while a model learns


class Unnormalised(Model):
    """A model of energies: what partition functions, chains and honest numbers need.

    A family writes, on its own states v (n, …):

        _states(x) -> v, _codes_of(v) -> x      codes in and out
        _free_energy(v)                         (n,)
        _begin(n, rng) -> v                     draws of the model without interactions
        _swept(v, sweeps, rng) -> v             sweeps of a chain that leaves p alone
        _whole(v, rng) -> v                     where chains carry hidden units besides
        _annealed(n, steps, rng, start)         log-weights of runs and where they end
        _log_z_base()                           log Z of the model without interactions
        _n_enumerated(), _enumerate()           how many units are enumerated, and log Z by that

    The argument ``n_annealing`` is the number of temperatures.

    Examples
    --------
    >>> import numpy as np, genus
    >>> X = np.repeat([[0, 0, 1, 1], [1, 1, 0, 0]], 50, axis=0)
    >>> model = genus.RBM(4, trainer=genus.Trainer(epochs=5), random_state=0).fit(X)
    >>> isinstance(model, genus.unnormalised.Unnormalised), model.log_partition().exact
    (True, True)
    """

    methods: ClassVar[tuple[str, ...]] = ("auto", "exact", "ais")  # of log_partition
    n_annealing: int

    # ------------------------------------------------------------------ what a family writes

    def _states(self, x: Tensor) -> Tensor:
        raise NotImplementedError

    def _codes_of(self, v: Tensor) -> Tensor:
        raise NotImplementedError

    def _free_energy(self, v: Tensor) -> Tensor:
        raise NotImplementedError

    def _begin(self, n: int, rng: torch.Generator) -> Tensor:
        raise NotImplementedError

    def _swept(self, v: Tensor, sweeps: int, rng: torch.Generator) -> Tensor:
        raise NotImplementedError

    def _annealed(
        self, n: int, steps: int, rng: torch.Generator, start: Any = None
    ) -> tuple[Tensor, Any]:
        raise NotImplementedError

    def _log_z_base(self) -> float:
        raise NotImplementedError

    def _n_enumerated(self) -> int:
        raise NotImplementedError

    def _enumerate(self) -> float:
        raise NotImplementedError

    # ------------------------------------------------------------------ energies

    @on_rows
    def free_energy(self, x: Tensor) -> Tensor:
        """F of codes x, (n, *shape) → (n,), Σ_v e^{−F(v)} = Z; dequantised cells at a centre.

        Raises ValueError where a cell is missing.
        """
        self._check_fitted()
        if torch.isnan(x).any():
            raise ValueError("X has missing cells, which have no energy: fill them, complete(X)")
        return self._free_energy(self._states(x))

    # ------------------------------------------------------------------ the partition function

    def log_partition(
        self,
        method: str = "auto",
        n_chains: int = 100,
        n_annealing: int | None = None,
        reverse: bool = True,
        random_state: int = 0,
        max_time: float | None = None,
    ) -> LogPartition:
        """log Z = log Σ_v e^{−F(v)}, in nats.

        method: ``exact`` sums over every state of at most 20 units (of an RBM, of one layer);
        ``ais`` anneals ``n_chains`` runs from the model without interactions through
        ``n_annealing`` temperatures (Salakhutdinov & Murray, 2008), says how the value moved when
        their number was doubled to that, and (``reverse``) anneals back from where the runs ended,
        a diagnostic; ``auto`` takes the first where it can. max_time: seconds in which at least 200
        runs are made and temperatures doubled until 50 runs count and the value moves by less than
        0.3 nats; ``detail["ended"]`` says whether it settled or time ran out. Raises ValueError for
        too many units to enumerate.
        """
        self._check_fitted()
        if method not in self.methods:
            known = ", ".join(self.methods[:-1])
            raise ValueError(f"method={method!r} is unknown: choose {known} or {self.methods[-1]}")
        small = self._n_enumerated() <= SMALL
        if method == "exact" and not small:
            raise ValueError(
                "log_partition(method='exact') "
                f"would sum over 2^{self._n_enumerated()} states: use method='ais'"
            )
        with torch.no_grad():
            if method == "exact" or (small and method == "auto"):
                return LogPartition(self._enumerate())
            if method not in ("auto", "ais"):
                return self._approximate(method)
            steps = n_annealing or int(self.n_annealing)
            if max_time is not None:
                return self._until_settled(n_chains, steps, reverse, int(random_state), max_time)
            return self._by_annealing(n_chains, steps, reverse, int(random_state))

    def _approximate(self, method: str) -> LogPartition:
        """log Z by a further method that the family has."""
        raise NotImplementedError

    def _by_annealing(self, n: int, steps: int, reverse: bool, seed: int) -> LogPartition:
        device = self._device()
        half, _ = self._annealed(n, max(steps // 2, 1), generator(seed + 1, device))
        whole, v = self._annealed(n, steps, generator(seed, device))
        value, stderr, ess = log_mean_weight(whole)
        z0, back = self._log_z_base(), math.nan
        if reverse:
            log_w, _ = self._annealed(n, steps, generator(seed + 2, device), v)
            back = z0 - log_mean_weight(log_w)[0]
        moved = value - log_mean_weight(half)[0]
        detail = {"n_annealing": steps}
        return LogPartition(z0 + value, stderr, ess, n, moved, back, detail)

    def _until_settled(
        self, n: int, steps: int, reverse: bool, seed: int, max_time: float
    ) -> LogPartition:
        """Annealing with ever more temperatures, until the value can be trusted or time is up."""
        begun = time.perf_counter()
        n = max(n, RUNS)
        while True:
            z = self._by_annealing(n, steps, reverse, seed)
            settled = z.ess >= COUNT and abs(z.moved) < STILL
            if settled or time.perf_counter() - begun >= max_time:
                ended = "settled" if settled else "time ran out"
                return dataclasses.replace(z, detail=z.detail | {"ended": ended})
            steps *= 2

    def _log_z(self) -> LogPartition:
        """log Z, computed once and kept with the model; while it learns, afresh."""
        fitted = self.__dict__.get("_fitted", self)
        if fitted is not self:  # a view with a stream, which lives for one call
            found: LogPartition = fitted._log_z()
            return found
        if "rng" in self.__dict__:
            return self.log_partition(reverse=False)
        if not hasattr(self, "log_partition_"):
            z = self.log_partition(reverse=False)
            self.log_partition_: dict[str, Any] = {
                n: getattr(z, n) for n in ("value", "stderr", "ess", "chains", "moved")
            }
        return LogPartition(**self.log_partition_)

    def _normalised(
        self, value: Tensor, stderr: Any = 0.0, bound: bool = False, **detail: Any
    ) -> LogProb:
        """``value`` − log Z as the number that it is, of −F or of a lower bound on it."""
        z = self._log_z()
        value = value.double() - z.value
        if not z.exact:
            detail |= {"ess": z.ess, "moved": z.moved}
            return Estimate(value, stderr, shared_stderr=z.stderr, detail=detail)
        return LowerBound(value, stderr, detail=detail) if bound else Exact(value)

    def validate(self, x: Tensor) -> Tensor | None:
        """Mean −log p of held-out codes, where few enough units are enumerated at every look."""
        if self._n_enumerated() > WATCHED:
            return None
        return -self._log_prob(x).nats.mean()

    # ------------------------------------------------------------------ chains

    def gibbs(
        self,
        n: int | None = None,
        steps: int = 100,
        *,
        start: RowsLike | None = None,
        every: int | None = None,
        random_state: RandomState = None,
    ) -> Any:
        """Chains of ``steps`` sweeps, in the caller's type: their ends, or all their way.

        start: rows to start from, one a chain, or each n times over; None: n draws (100) of the
        model without interactions. every: with it, a leading axis of the start and the states after
        every so many sweeps (of tables, a list).
        """
        self._check_fitted()
        Whole(0).check("steps", steps)
        (Whole(1) | None).check("n", n)
        (Whole(1) | None).check("every", every)
        rng = self._stream(random_state)
        with torch.no_grad():
            v = self._started(start, n, rng)
            if every is None:
                return self.space_.decode(self._codes_of(self._swept(v, steps, rng)))
            way = [self._codes_of(v)]
            for _ in range(steps // every):
                v = self._swept(v, every, rng)
                way.append(self._codes_of(v))
        return self.space_.decode(torch.stack(way))

    def _started(self, start: Any, n: int | None, rng: torch.Generator) -> Tensor:
        """The states that chains start from."""
        if start is None:
            return self._begin(n or 100, rng)
        x = self._as_float(self._encode_rows(start, missing=False))
        return self._whole(self._states(x).repeat_interleave(n or 1, 0), rng)

    def _whole(self, v: Tensor, rng: torch.Generator) -> Tensor:
        """What a chain carries that starts from states v of rows; more, where units are hidden."""
        return v

    def diagnose(
        self,
        n: int = 20,
        steps: int = 200,
        *,
        start: RowsLike | None = None,
        random_state: RandomState = None,
    ) -> ChainReport:
        """How well the chains of ``gibbs`` mix, from the trace of their free energies.

        n: chains, from draws of the model without interactions; or each row of ``start`` n times.
        """
        self._check_fitted()
        rng = self._stream(random_state)
        trace, flips = [], 0.0
        with torch.no_grad():
            v = self._started(start, n, rng)
            for _ in range(steps):
                before, v = v, self._swept(v, 1, rng)
                flips += float((v != before).double().mean()) / steps
                trace.append(self._free_energy(v).double())
        energy = torch.stack(trace)
        return ChainReport(energy, flips, autocorrelation_time(energy), r_hat(energy))
