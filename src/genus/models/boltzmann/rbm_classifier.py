"""The classification RBM (Larochelle & Bengio, 2008): an RBM whose hidden units hear a label too.

    E(x, y, h) = E(x, h) − U_yᵀ(h − λ) − d_y,    E(x, h) of an RBM
    F(x, y) = −log Σ_h e^{−E(x, y, h)}
    p(y | x) = e^{−F(x, y)} / Σ_k e^{−F(x, k)},    p(x, y) = e^{−F(x, y)}/Z

Given its label a row has an RBM of its own, with hidden biases c + U_y. Its partition function Z_y
gives Z = Σ_y e^{d_y − λᵀU_y} Z_y. The machine learns by

    −log p(y | x) − w log p(x):    w = 0 a classifier, w = 1 the joint p(x, y)

The first term has an exact gradient, the second that of a chain that persists.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from genus.classifier import Classifier
from genus.distributions.draws import flip
from genus.encoder import Encoder
from genus.learn import processes
from genus.learn.rows import Rows
from genus.learn.trainer import Trainer
from genus.likelihood import Estimate, Exact, LogProb, LowerBound
from genus.models.boltzmann.rbm import FILLS, POINTS, RBM, settings_for, usual_marginals
from genus.samplers.annealing import LogPartition
from genus.settings import Number, OneOf, Rule, Whole
from genus.space import Space


class RBMClassifier(Encoder, Classifier):
    r"""A restricted Boltzmann machine of rows and labels, fitted by ``fit(X, y)``.

    ``predict_proba`` is exact. ``log_prob(X)`` is log p(x), with ``given`` labels log p(x | y):
    ``Exact`` or a ``LowerBound`` where the RBM's Z is enumerated, else an ``Estimate``. Rows are of
    any kind, and NaN marks missing cells in fit and in every verb.

    Parameters
    ----------
    n_hidden : int, default=128
        H ≥ 1.
    generative : float, default=0.1
        w from 0 to 1, the weight of log p(x) beside log p(y | x).
    visible : {"auto", "bernoulli", "categorical", "gaussian"}, default="auto"
        As of ``RBM``.
    k : int, default=1
        Gibbs steps a gradient.
    n_chains : int, default=100
        Persistent chains.
    n_annealing : int, default=1000
        Temperatures of annealed importance sampling of each label's RBM.
    burn_in : int, default=200
        Temperatures through which ``sample`` anneals, and Gibbs sweeps of ``complete``.
    marginals : {"learned", "logit"} or None, default=None
        As of ``RBM``.
    trainer : Trainer or None, default=None
        How to descend; None: as an RBM does, with a larger rate and less decay.
    random_state : int, generator or None, default=None
        An int, or a numpy generator; None: fresh at every fit.

    Examples
    --------
    >>> import numpy as np, genus
    >>> X = np.repeat([[0, 0, 1, 1], [1, 1, 0, 0]], 50, axis=0)
    >>> y = np.repeat(["left", "right"], 50)
    >>> model = genus.RBMClassifier(4, random_state=0).fit(X, y)
    >>> model.predict_proba(X).shape, model.score(X, y)
    ((100, 2), 1.0)
    >>> model.sample(1, given="left", random_state=0).shape
    (1, 4)
    """

    arguments: ClassVar[dict[str, Rule]] = {
        "n_hidden": Whole(1),
        "generative": Number(0, 1),
        "visible": OneOf("auto", "bernoulli", "categorical", "gaussian"),
        "k": Whole(1),
        "n_chains": Whole(1),
        "n_annealing": Whole(1),
        "burn_in": Whole(1),
        "marginals": OneOf("learned", "logit") | None,
    }
    allow_nan = True
    learned_by = "p(y | x), and contrastive divergence"

    rbm_: Any
    _chain: Tensor

    def __init__(
        self,
        n_hidden: int = 128,
        generative: float = 0.1,
        visible: str = "auto",
        k: int = 1,
        n_chains: int = 100,
        n_annealing: int = 1000,
        burn_in: int = 200,
        marginals: str | None = None,
        trainer: Trainer | None = None,
        random_state: Any = None,
    ) -> None:
        self.n_hidden = n_hidden
        self.generative = generative
        self.visible = visible
        self.k = k
        self.n_chains = n_chains
        self.n_annealing = n_annealing
        self.burn_in = burn_in
        self.marginals = marginals
        self.trainer = trainer
        self.random_state = random_state

    # ------------------------------------------------------------------ construction

    def build(self, space: Space) -> None:
        rbm = RBM(
            self.n_hidden,
            self.visible,
            n_annealing=self.n_annealing,
            burn_in=self.burn_in,
            marginals=self.marginals or usual_marginals(space),
            trainer=self.trainer,
        )
        self.rbm_ = self.part(rbm, space)
        K, H = self._n_labels(), int(self.n_hidden)
        self.U_ = nn.Parameter(torch.zeros(K, H))
        self.d_ = nn.Parameter(torch.zeros(K))
        self.register_buffer("_chain", torch.zeros(0, H), persistent=False)

    def _n_labels(self) -> int:
        return int(self.given_space_.levels or 1)

    def defaults(self, n: int) -> Trainer:
        usual = settings_for(n, self.space_, self.marginals or usual_marginals(self.space_))
        # labels need larger weights than rows
        return usual.replace(lr=0.3, weight_decay=min(0.001, 1.5 / max(n, 1)))

    @torch.no_grad()
    def start(self, rows: Rows) -> None:
        self.rbm_.start(rows)
        self.U_.normal_(0, 1, generator=self.rng)  # small, it would be long in leaving 0

    # ------------------------------------------------------------------ energies

    def _of_label(self, k: int) -> RBM:
        """The RBM of rows of label k."""
        found: RBM = self.rbm_.at(c=self.rbm_.c_ + self.U_[k])
        return found

    def _minus_free(self, v: Tensor) -> tuple[Tensor, Tensor]:
        """−F(v, k) of visible units v (n, d), (n, K), and c + Wᵀ(φ(v) − μ), (n, H)."""
        rbm = self.rbm_
        a = rbm._inputs(v)
        own = rbm.units_.bias(v, rbm.b_) - (a - rbm.c_) @ rbm.lambda_
        of_label = F.softplus(a[:, None] + self.U_).sum(2)
        return own[:, None] + of_label + self._biases(), a

    def _biases(self) -> Tensor:
        """d_y − λᵀU_y of every label, (K,)."""
        return self.d_ - self.U_ @ self.rbm_.lambda_

    def _log_mass(self, x: Tensor) -> tuple[Tensor, Tensor, bool]:
        """log p(x, k) + log Z of codes x, its standard errors, (n, K), and is it a bound?"""
        found = [self._of_label(k)._log_mass(x) for k in range(self._n_labels())]
        value = torch.stack([f[0] for f in found], 1) + self._biases().double()
        return value, torch.stack([f[1] for f in found], 1), found[0][2]

    def _log_joint(self, x: Tensor) -> Tensor:
        rbm, x = self.rbm_, x.flatten(1)
        if rbm._hides(x):
            return self._log_mass(x)[0]
        a = rbm._inputs_of(rbm.units_.phi(rbm._states(x)))  # the order of rows changes no digit
        return F.softplus(a[:, None] + self.U_.double()).sum(2) + self._biases().double()

    # ------------------------------------------------------------------ learning

    def losses(self, x: Tensor, given: Tensor) -> Any:
        """−log p(y | x) − w log p(x), means over rows; of the second, data against a chain."""
        rbm, w, label = self.rbm_, float(self.generative), given.flatten().long()
        rbm.units_.project_()
        with torch.no_grad():
            v = self._entered(x, label)
        score, a = self._minus_free(v)
        loss = F.cross_entropy(score, label)
        if w:
            with torch.no_grad(), processes.common():
                fantasy = self._fantasy()
            gap = torch.logsumexp(self._minus_free(fantasy)[0], 1).mean()
            loss = loss + w * (gap - torch.logsumexp(score, 1).mean())
        yield self, loss
        with torch.no_grad():
            h = torch.sigmoid(a + self.U_[label])
            move = rbm.tracking * (processes.over_batch(h.mean(0)) - rbm.lambda_)
            rbm.lambda_ += move
            rbm.units_.absorb_(rbm.b_, rbm.W_ @ move)
            self.d_.add_(self.U_ @ move)

    def _entered(self, x: Tensor, label: Tensor) -> Tensor:
        """v of codes x to learn from, what they hide drawn given what they and labels tell."""
        rbm = self.rbm_
        if not rbm._hides(x):
            return rbm.units_.enter(x, self.rng)[0]
        return rbm.at(c=rbm.c_ + self.U_[label])._held(x.flatten(1), FILLS, self.rng)

    def _fantasy(self) -> Tensor:
        """Visible units of the chain after k sweeps, labels and hidden units drawn in turn."""
        rbm, n = self.rbm_, int(self.n_chains)
        if len(self._chain) != n:
            self._chain = flip(torch.sigmoid(rbm.c_).expand(n, -1), self.rng)
        for _ in range(int(self.k)):
            v = rbm.units_.draw(rbm.b_, (self._chain - rbm.lambda_) @ rbm.W_.T, self.rng)
            self._chain = self._drawn(v, self.rng)
        return v

    def _drawn(self, v: Tensor, rng: torch.Generator) -> Tensor:
        """Draws of h given v: a label first, (n, H)."""
        score, a = self._minus_free(v)
        y = torch.multinomial(torch.softmax(score, 1), 1, generator=rng)[:, 0]
        return flip(torch.sigmoid(a + self.U_[y]), rng)

    def validate(self, x: Tensor, given: Tensor) -> Tensor:
        """Mean −log p(y | x) of held-out rows."""
        return F.cross_entropy(self._log_joint(x).double(), given.flatten().long())

    # ------------------------------------------------------------------ the partition function

    def log_partition(self, **settings: Any) -> LogPartition:
        """log Z = log Σ_y e^{d_y − λᵀU_y} Z_y in nats; settings as of ``RBM.log_partition``."""
        self._check_fitted()
        every = [self._of_label(k).log_partition(**settings) for k in range(self._n_labels())]
        return self._sum_of(every)

    def _sum_of(self, every: list[LogPartition]) -> LogPartition:
        """log Z from those of all labels."""
        biases = self._biases().detach().double().cpu()
        each = biases + torch.tensor([z.value for z in every])
        share = torch.softmax(each, 0)
        error = share * torch.tensor([z.stderr for z in every])
        moved = share @ torch.tensor([z.moved for z in every], dtype=torch.float64)
        back = biases + torch.tensor([z.reverse for z in every])
        return LogPartition(
            float(torch.logsumexp(each, 0)),
            float(error.norm()),
            min(z.ess for z in every),
            sum(z.chains for z in every),
            float(moved),
            float(torch.logsumexp(back, 0)),
        )

    def _log_zs(self) -> list[LogPartition]:
        """log Z_y of every label, computed once and kept; while it learns, afresh."""
        fitted = self.__dict__.get("_fitted", self)
        if fitted is not self:  # a view with a stream, which lives for one call
            kept_there: list[LogPartition] = fitted._log_zs()
            return kept_there
        if "rng" in self.__dict__ or not hasattr(self, "log_partitions_"):
            every = [self._of_label(k) for k in range(self._n_labels())]
            found = [rbm.log_partition(reverse=False) for rbm in every]
            names = ("value", "stderr", "ess", "chains", "moved")
            kept = [{n: getattr(z, n) for n in names} for z in found]
            if "rng" in self.__dict__:
                return found
            self.log_partitions_: list[dict[str, Any]] = kept
        return [LogPartition(**z) for z in self.log_partitions_]

    # ------------------------------------------------------------------ hooks

    def _log_prob(self, x: Tensor, given: Tensor | None = None) -> LogProb:
        value, stderr, bound = self._log_mass(x)
        every = self._log_zs()
        whole = self._sum_of(every)
        if given is None:
            share = torch.softmax(value, 1)
            value, stderr = torch.logsumexp(value, 1) - whole.value, (share * stderr).norm(dim=1)
        else:
            y = given.long()
            z = value.new_tensor([z.value for z in every]) + self._biases().double()
            value, stderr = ((t.gather(1, y)[:, 0]) for t in (value - z, stderr))
        if not whole.exact:
            detail = {"ess": whole.ess, "moved": whole.moved}
            error = max(z.stderr for z in every)
            return Estimate(value, stderr, shared_stderr=error, detail=detail)
        return LowerBound(value, stderr, detail={"k": POINTS}) if bound else Exact(value)

    def _sample(self, n: int, rng: torch.Generator, given: Tensor | None = None) -> Tensor:
        """Labels, where none are given, and then rows of each label's RBM."""
        if given is None:
            z = torch.tensor([z.value for z in self._log_zs()], device=self.d_.device)
            p = torch.softmax(z + self._biases().double(), 0)
            given = torch.multinomial(p, n, replacement=True, generator=rng)
        drawn = torch.zeros(n, self.space_.dim, dtype=torch.float64, device=self.d_.device)
        for k, rows in self._by_label(given):
            x = self._of_label(k)._sample(len(rows), rng)
            drawn[rows] = x.flatten(1).double()
        return drawn.reshape(n, *self.space_.cell_shape)

    def _by_label(self, given: Tensor) -> list[tuple[int, Tensor]]:
        """Every label that is there, with its rows."""
        label = given.flatten().long()
        return [(int(k), (label == k).nonzero()[:, 0]) for k in label.unique()]

    def _complete(self, x: Tensor, rng: torch.Generator, given: Tensor | None = None) -> Tensor:
        """Gibbs sweeps with the observed cells held."""
        rbm, hidden = self.rbm_, None
        if given is None:

            def hidden(v: Tensor) -> Tensor:
                return self._drawn(v, rng)

        else:
            rbm = rbm.at(c=rbm.c_ + self.U_[given.flatten().long()])
        v = rbm._held(x.flatten(1), int(self.burn_in), rng, hidden)
        return torch.where(torch.isnan(x), rbm.units_.leave(v).to(x.dtype), x)

    def _encode(self, x: Tensor, given: Tensor | None = None) -> Tensor:
        """E[h | x], or E[h | x, y]."""
        p = torch.softmax(self._log_joint(x).double(), 1)
        if given is not None:
            p = F.one_hot(given.flatten().long(), self._n_labels()).double()
        each = [self._of_label(k)._encode(x) for k in range(self._n_labels())]
        mean = torch.stack(each, 1).double() * p[:, :, None]
        return mean.sum(1).to(each[0].dtype)

    @property
    def _n_features_out(self) -> int:
        return self.U_.shape[1]

    def _decode(self, z: Tensor, given: Tensor | None = None) -> Tensor:
        found: Tensor = self.rbm_._decode(z)
        return found
