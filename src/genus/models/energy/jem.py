r"""A classifier that is a density and a sampler at once (Grathwohl et al., 2020).

The K numbers f(x) of a network define

    p(x, y) ∝ e^{f(x)[y]},     p(y | x) = softmax f(x)[y],     E(x) = −log Σ_y e^{f(x)[y]}

p(y | x) is exact; p(x) ∝ e^{−E(x)} is learned by chains, as an ``EBM`` is. Adding c(x) to all of f
moves p(x) and leaves p(y | x) alone.

    factored    −log p(y | x) + w (E(x) − E(chains of p(x)))
    joint       −log p(y | x) + w (−f(x)[y] + f(x')[y']),     x' a chain of p(x | y'), y' ~ p(y)

Rows without a label count for p(x). Coordinates, chains and p₀ are those of ``energies.py``; chains
of training begin at a mixture with one Gaussian a class.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from genus.classifier import Classifier
from genus.learn import processes
from genus.learn.rows import Rows, generator
from genus.learn.trainer import Trainer
from genus.likelihood import LogProb
from genus.models.energy.base import Base
from genus.models.energy.energies import FIRST, EnergyModel
from genus.networks.blueprints import BLUEPRINT, Blueprint
from genus.settings import Flag, Number, OneOf, Rule, Whole
from genus.space import Space

MOST = 1 << 24  # numbers in the Gaussians of all classes; else they have one in common
FEW = 20  # rows of a class below which chains of it begin at all classes' Gaussian


class JEM(Classifier, EnergyModel):
    r"""A classifier of the kind of scikit-learn whose logits also are a density of the rows.

    ``predict`` and ``predict_proba`` are exact; ``energy`` ranks rows by how well they belong;
    ``sample(n, given=y)`` draws rows of a class. ``log_prob`` is an ``Estimate`` of log p(x) where
    chains have T = 1 and persist, as for tables, and raises CapabilityError for images by default.

    Parameters
    ----------
    network : blueprint or None, default=None
        From rows to one number a class; None: ``MLP(256, 2, "silu")``. Batch norm is refused.
    joint : bool, default=False
        Whether chains are of p(x | y), for labels drawn as often as they are in the data, or of
        p(x).
    weight : float, default=1.0
        w ≥ 0 of log p(x) beside log p(y | x); 0 is the plain classifier, of which ``sample`` and
        ``log_prob`` are meaningless.
    method : {"auto", "pcd", "short-run"}, default="auto"
        Chains that persist in a buffer, or that always begin afresh. ``auto``: the latter for
        images.
    steps : int or None, default=None
        Of a chain, a gradient. None: 20 for images, else 10.
    step_size : float or None, default=None
        a > 0, in the coordinates. None: 0.1 for images, else 0.3 / d^(1/3), which adapts.
    temperature : float or None, default=None
        T > 0 of chains. None: 5e-4 for images, else 1.
    data_noise : float or None, default=None
        Standard deviation of noise added to rows, in the coordinates; None: 0.02 for images,
        else 0.
    n_chains : int, default=1000
        The buffer.
    restart : float, default=0.05
        Share of its chains that begin afresh, a gradient.
    augment : int, default=0
        Of images: the largest shift, in pixels, of the rows that log p(y | x) learns from. log p(x)
        sees rows as they are.
    energy_penalty : float, default=0.0
        α ≥ 0 of α (E(data)² + E(chains)²), which keeps energies near 0.
    marginals : {"learned", "pixels"} or None, default=None
        Coordinates: normal scores of the columns, or the box [−1, 1]. None: ``pixels`` for images.
    n_annealing : int, default=500
        Temperatures of annealed importance sampling.
    burn_in : int, default=200
        Temperatures through which ``sample`` anneals at T = 1.
    trainer : Trainer or None, default=None
        How the gradient is descended; None: this model's own settings.
    random_state : int, generator or None, default=None
        An int, or a numpy generator; None: fresh at every fit.

    Attributes
    ----------
    classes_
        The labels, sorted, in the order of ``predict_proba``.

    Examples
    --------
    >>> import numpy as np, genus
    >>> X = np.random.default_rng(0).normal(size=(200, 2))
    >>> y = np.where(X[:, 0] > 0, "right", "left")
    >>> quick = genus.Trainer(epochs=10, batch_size=50)
    >>> model = genus.JEM(genus.MLP(16, 1), trainer=quick, random_state=0).fit(X, y)
    >>> model.predict([[2.0, 0.0], [-2.0, 0.0]])
    array(['right', 'left']...)
    >>> model.sample(3, given="left", random_state=0).shape
    (3, 2)
    """

    arguments: ClassVar[dict[str, Rule]] = {
        "network": BLUEPRINT | None,
        "joint": Flag(),
        "weight": Number(0),
        "method": OneOf("auto", "pcd", "short-run"),
        "steps": Whole(1) | None,
        "step_size": Number(above=0) | None,
        "temperature": Number(above=0) | None,
        "data_noise": Number(0) | None,
        "n_chains": Whole(1),
        "restart": Number(0, 1),
        "augment": Whole(0),
        "energy_penalty": Number(0),
        "marginals": OneOf("learned", "pixels") | None,
        "n_annealing": Whole(1),
        "burn_in": Whole(1),
    }
    learned_by = "cross-entropy and Langevin chains"
    may_lack_labels = True

    shares_: Tensor  # p(y) of the rows with labels

    def __init__(
        self,
        network: Blueprint | None = None,
        joint: bool = False,
        weight: float = 1.0,
        method: str = "auto",
        steps: int | None = None,
        step_size: float | None = None,
        temperature: float | None = None,
        data_noise: float | None = None,
        n_chains: int = 1000,
        restart: float = 0.05,
        augment: int = 0,
        energy_penalty: float = 0.0,
        marginals: str | None = None,
        n_annealing: int = 500,
        burn_in: int = 200,
        trainer: Trainer | None = None,
        random_state: Any = None,
    ) -> None:
        self.network = network
        self.joint = joint
        self.weight = weight
        self.method = method
        self.steps = steps
        self.step_size = step_size
        self.temperature = temperature
        self.data_noise = data_noise
        self.n_chains = n_chains
        self.restart = restart
        self.augment = augment
        self.energy_penalty = energy_penalty
        self.marginals = marginals
        self.n_annealing = n_annealing
        self.burn_in = burn_in
        self.trainer = trainer
        self.random_state = random_state

    # ------------------------------------------------------------------ the network

    def build(self, space: Space) -> None:
        K = int(self.given_space_.levels or 1)
        self._build(space, K)
        self.register_buffer("shares_", torch.full((K,), 1 / K, dtype=torch.float64))
        many = K * space.dim**2 > MOST
        self.bases_ = nn.ModuleList([] if many else [Base(space.dim) for _ in range(K)])
        self.register_buffer("_theirs", torch.zeros(0, dtype=torch.long), persistent=False)

    def _method(self) -> str:
        if self.method != "auto":
            return self.method
        return "short-run" if self._short() else "pcd"

    def logits(self, y: Tensor) -> Tensor:
        """f of coordinates y (n, d), (n, K)."""
        return self._outputs(y)

    def _energy(self, y: Tensor) -> Tensor:
        return -torch.logsumexp(self._outputs(y), 1)

    def _log_f_of(self, labels: Tensor | None) -> Callable[[Tensor], Tensor]:
        """log p(y) + log Z, or log p(y, label) + log Z of one label a row."""
        if labels is None:
            return self._log_f

        def joint(y: Tensor) -> Tensor:
            value = self._outputs(y).gather(1, labels[:, None])[:, 0] / self._temperature()
            return value + self.base_.log_prob(y.to(value.dtype)) if self._tilts() else value

        return joint

    def _log_joint(self, x: Tensor) -> Tensor:
        """f of codes x, (n, K), with its gradient; gaps at their mean under p₀."""
        gaps = bool(torch.isnan(x).any())
        return self._outputs(self._in_the_middle(x) if gaps else self._centre(x))

    def _log_classes(self, x: Tensor) -> Tensor:
        """log p(y | x) of codes x, (n, K), with its gradient."""
        return torch.log_softmax(self._log_joint(x), 1)

    # ------------------------------------------------------------------ learning

    @torch.no_grad()
    def start(self, rows: Rows) -> None:
        x, given = rows.look(FIRST, self.rng)
        labels = given[:, 0]
        counts = torch.bincount(labels[~torch.isnan(labels)].long(), minlength=len(self.shares_))
        self.shares_.copy_(counts / counts.sum())
        z = self._scores_of(x, self.rng)
        for k, base in enumerate(self._bases()):
            own = z[labels == k]
            base.fit(own if len(own) >= FEW else z)
        super().start(rows)
        if self._method() == "pcd":
            labels = self._drawn_labels(len(self._chains), self.rng)
            self._theirs = labels
            self._chains = self._fresh(labels, self.rng)

    def _bases(self) -> list[Base]:
        return [base for base in self.bases_ if isinstance(base, Base)]

    def _drawn_labels(self, n: int, rng: torch.Generator) -> Tensor:
        return torch.multinomial(self.shares_, n, replacement=True, generator=rng)

    def _fresh(self, labels: Tensor, rng: torch.Generator) -> Tensor:
        """Where chains of labels begin, (n, d): each at the Gaussian of its class."""
        z = self.base_.draw(len(labels), rng)
        for k, base in enumerate(self._bases()):
            own = labels == k
            z = torch.where(own[:, None], base.draw(len(labels), rng), z)
        return self._from_scores(z)

    def losses(self, x: Tensor, given: Tensor) -> Iterator[tuple[nn.Module, Tensor]]:
        """−log p(y | x) of rows with a label, and the gap between data and chains of all."""
        labels = given[:, 0]
        seen = ~torch.isnan(labels)
        codes = labels.nan_to_num().long()
        rng = self.rng
        with torch.no_grad():
            y = self._entered(x, rng)
            e = torch.randn(y.shape, generator=rng, dtype=y.dtype, device=y.device)
            noisy = y + self._noise_of_rows() * e
        logits = self._outputs(noisy)
        told = self._outputs(self._shifted(noisy)) if self.augment else logits
        loss = (F.cross_entropy(told, codes, reduction="none") * seen).mean()
        if not self.weight:
            yield self, loss
            return
        with torch.no_grad():
            end, theirs = self._labelled_negatives(y)
        other = self._outputs(end)
        own_energy = -torch.logsumexp(logits, 1)
        other_energy = -torch.logsumexp(other, 1)
        if self.joint:
            own = -logits.gather(1, codes[:, None])[:, 0]
            own_energy = torch.where(seen, own, own_energy)
            other_energy = -other.gather(1, theirs[:, None])[:, 0]
        gap = own_energy.mean() - other_energy.mean()
        squares = own_energy.square().mean() + other_energy.square().mean()
        loss = loss + float(self.weight) * (gap + self.energy_penalty * squares)
        self._note_health(gap, y, end)
        yield self, loss

    def validate(self, x: Tensor, given: Tensor) -> Tensor | None:  # type: ignore[override]
        """Mean −log p(y | x) of held-out rows with a label; None where none has one."""
        seen = ~torch.isnan(given[:, 0])
        if not bool(seen.any()):
            return None
        log_p = self._log_classes(x[seen])
        return -log_p.gather(1, given[seen].long()).mean()

    def _labelled_negatives(self, y: Tensor) -> tuple[Tensor, Tensor]:
        """Where chains end, as many as there are rows y, and the labels that they began with."""
        rng, n = self.rng, len(y)
        labels = self._drawn_labels(n, rng)
        index = torch.arange(n, device=y.device)
        if self._method() == "pcd":
            index = torch.randperm(len(self._chains), generator=rng, device=y.device)
            index = index[: processes.rows_of_batch(n)]
            here = processes.own_rows(index)
            labels = self._theirs[here]
            begin = self._chains[here]
            again = torch.rand(len(begin), generator=rng, device=y.device) < self.restart
            begin = torch.where(again[:, None], self._fresh(labels, rng), begin)
        else:
            begin = self._fresh(labels, rng)
        log_f = self._log_f_of(labels if self.joint else None)
        end = self._moved(begin, self._steps(), rng, log_f, adapt=True).detach()
        if self._method() == "pcd":
            self._chains[index] = processes.all_rows(end)
        return end, labels

    def _shifted(self, y: Tensor) -> Tensor:
        """Images moved by a few pixels, each its own way; the edge is filled with the least."""
        if len(self._shape) != 3:
            return y
        c, h, w = self._shape
        s = int(self.augment)
        wide = F.pad(y.reshape(-1, c, h, w), (s, s, s, s), value=float(y.min()))
        by = torch.randint(0, 2 * s + 1, (2, len(y)), generator=self.rng, device=y.device)
        down = torch.arange(h, device=y.device)[:, None] + by[0][:, None, None]  # (n, h, 1)
        right = torch.arange(w, device=y.device) + by[1][:, None, None]  # (n, 1, w)
        rows = torch.arange(len(y), device=y.device)[:, None, None]
        return wide.movedim(1, -1)[rows, down, right].movedim(-1, 1).flatten(1)

    # ------------------------------------------------------------------ verbs

    def log_density(self, y: Tensor, given: Tensor | None = None) -> Tensor:
        """log p(y) + log Z of coordinates, or log p(y, label) + log Z, in float64."""
        labels = None if given is None else given[:, 0].long()
        return self._log_f_of(labels)(y).double()

    def _log_prob(self, x: Tensor, given: Tensor | None = None) -> LogProb:
        """log p(x), or by Bayes log p(x | y) = log p(x, y) − log p(y)."""
        self._refuse_unless_convergent()
        p = self._scored(x, given)
        value, stderr = torch.as_tensor(p.nats), torch.as_tensor(p.stderr)
        if given is not None:
            value = value - self._log_shares().to(value.device)[given[:, 0].long()]
        return self._normalised(value, stderr, **p.detail)

    def _log_shares(self) -> Tensor:
        """log p(y) of the model, (K,), from weighted ends of annealed runs."""
        if not hasattr(self, "log_shares_"):
            rng = generator(0, self._device())
            log_w, y = self._annealed(400, int(self.n_annealing), rng)
            log_p = torch.log_softmax(self._outputs(y).double(), 1) + log_w[:, None]
            self.log_shares_ = (log_p.logsumexp(0) - log_w.logsumexp(0)).tolist()
        return torch.tensor(self.log_shares_, dtype=torch.float64)

    def _sample(self, n: int, rng: torch.Generator, given: Tensor | None = None) -> Tensor:
        labels = self._drawn_labels(n, rng) if given is None else given[:, 0].long()
        parts = []
        for some in labels.split(1024):
            log_f = self._log_f_of(None if given is None else some)
            parts.append(self._run(self._fresh(some, rng), rng, log_f))
        return self.unreal(torch.cat(parts))

    def _complete(self, x: Tensor, rng: torch.Generator, given: Tensor | None = None) -> Tensor:
        return self._complete_many(x, 1, rng, given)[0]
