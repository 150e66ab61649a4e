r"""Several views of one thing, decoded from one latent vector.

    p(z) = N(0, I),    p(x | z) = Π_i p(x_i | z)              over the modalities i that are seen
    expert i           q(z | x_i)/p(z) ∝ exp(η_iᵀ z − ½ zᵀ Λ_i z),   Λ_i ≥ 0, η_i of x_i
    product of S       q(z | x_S) = N(P⁻¹ Σ_S η_i, P⁻¹),  P = I + Σ_S Λ_i

    product              q(z | x) = q(z | x_all)                          (Wu & Goodman, 2018)
    mixture              q(z | x) = (1/M) Σ_i q(z | x_i)                   (Shi et al., 2019)
    mixture of products  q(z | x) = mean over subsets S of q(z | x_S)      (Sutter et al., 2021)

    log p(x) ≥ E_q[log p(x | z) + log p(z) − log q(z | x)]

Linear-Gaussian views have p(z | x_i)/p(z) of this form with constant Λ_i and linear η_i, so that a
product of experts with full covariances is then the posterior itself; with diagonal ones not even
its mean is. A mixture is weighed by its own density and not by that of the component that was
drawn. Without any view q is the prior.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from genus.distributions.columns import check_observed
from genus.distributions.observation import Mixed, Normal
from genus.distributions.points import LOG_2PI, by_blocks, log_mean_exp, row_uniforms
from genus.encoder import Encoder
from genus.learn.fit import Fit
from genus.learn.rows import Rows, generator
from genus.learn.trainer import Trainer, batch_of
from genus.likelihood import Estimate, LogProb, LowerBound, concatenate
from genus.model import Model, on_rows
from genus.models.latent.decoded import MOST, Decoded
from genus.models.latent.line import factors
from genus.networks.blueprints import BLUEPRINT, Blueprint
from genus.networks.layers import output_layer
from genus.samplers.particles import enough, pick_several
from genus.settings import Instance, Number, OneOf, Rule, Whole
from genus.space import Space

JOINTS = ("product", "mixture", "mixture of products")
FEW = 4  # modalities up to which all their subsets are taken
HIGHEST = 15.0  # of the logarithm of a precision
SAMPLED = 12  # subsets that are drawn of more


class MultimodalVAE(Encoder, Model):
    r"""A VAE of several modalities x_1 … x_M, any of which may be missing in any row.

        z ~ N(0, I),  x_i ~ p(x_i | z),    log p(x) ≥ E_q[log p(x | z)] − KL[q(z | x) ‖ p(z)]

    ``fit``, ``sample``, ``complete`` and ``log_prob`` take and give dicts of arrays or frames, one
    a modality. A part that is absent, or a row that is NaN throughout, was not seen:
    ``complete({"image": X})`` draws the others from p(others | image). ``encode`` gives the mean
    of q, the shared coordinates first, then those of each modality of its own.

    Parameters
    ----------
    latent_dim : int, default=16
        Size of z.
    joint : {"product", "mixture", "mixture of products"}, default="product"
        How experts of single modalities make q(z | x). The last takes all subsets of up to four
        modalities, and draws 12 of more.
    covariance : {"diagonal", "full"}, default="diagonal"
        Of an expert's precision.
    private_dim : int, default=0
        Size of a latent vector of each modality's own, beside z.
    modalities : dict, int or None, default=None
        Of rows that are no dicts: names of modalities with their columns, by name or by place; or
        into how many runs of columns, of about one length, a row falls; None: all are one.
    weights : dict or None, default=None
        Factor of log p(x_i | z) of some modalities, in training only; others have 1.
    encoder : blueprint, dict of blueprints or None, default=None
        Of all modalities or of each, as in ``VAE``.
    decoder : blueprint, dict of blueprints or None, default=None
        As ``encoder``.
    likelihood : str or dict, default="auto"
        p(x_i | z) of the cells, of all modalities or of each, as in ``VAE``.
    beta : float, default=1.0
        Weight of the KL term in training; the likelihood reported is that of the model.
    k : int, default=256
        Importance samples of ``log_prob``, a ``LowerBound`` in nats.
    marginals : {"learned", "affine"} or None, default=None
        How numbers are observed, as in ``VAE``.
    trainer : Trainer or None, default=None
        How the gradient is descended; None: this model's own settings.
    random_state : int, generator or None, default=None
        An int, or a numpy generator; None: fresh at every fit.

    Examples
    --------
    >>> import numpy as np, genus
    >>> size = np.random.default_rng(0).normal(size=(200, 1))
    >>> X = {"tall": size + 0.1, "word": np.where(size[:, 0] > 0, "big", "small")}
    >>> model = genus.MultimodalVAE(1, k=16, trainer=genus.Trainer(epochs=2), random_state=0)
    >>> sorted(model.fit(X).complete({"tall": [[2.0], [-2.0]]}, random_state=0))
    ['tall', 'word']
    """

    arguments: ClassVar[dict[str, Rule]] = {
        "latent_dim": Whole(1),
        "joint": OneOf(*JOINTS),
        "covariance": OneOf("diagonal", "full"),
        "private_dim": Whole(0),
        "modalities": Whole(1) | Instance(dict, says="a dict of columns") | None,
        "weights": Instance(dict, says="a dict of numbers") | None,
        "encoder": BLUEPRINT | Instance(dict, says="a dict of blueprints") | None,
        "decoder": BLUEPRINT | Instance(dict, says="a dict of blueprints") | None,
        "likelihood": Instance(str, dict, says="a name, or a dict of names"),
        "beta": Number(0),
        "k": Whole(1),
        "marginals": OneOf("learned", "affine") | None,
    }
    allow_nan = True
    gaps_: bool = False  # have modalities of the training rows gaps within?
    conditions = "optional"
    learned_by = "gradient of a bound"

    legs_: nn.ModuleList  # a Leg each

    def __init__(
        self,
        latent_dim: int = 16,
        joint: str = "product",
        covariance: str = "diagonal",
        private_dim: int = 0,
        modalities: dict[str, Any] | int | None = None,
        weights: dict[str, float] | None = None,
        encoder: Blueprint | dict[str, Blueprint] | None = None,
        decoder: Blueprint | dict[str, Blueprint] | None = None,
        likelihood: str | dict[str, str] = "auto",
        beta: float = 1.0,
        k: int = 256,
        marginals: str | None = None,
        trainer: Trainer | None = None,
        random_state: Any = None,
    ) -> None:
        self.latent_dim = latent_dim
        self.joint = joint
        self.covariance = covariance
        self.private_dim = private_dim
        self.modalities = modalities
        self.weights = weights
        self.encoder = encoder
        self.decoder = decoder
        self.likelihood = likelihood
        self.beta = beta
        self.k = k
        self.marginals = marginals
        self.trainer = trainer
        self.random_state = random_state

    # ------------------------------------------------------------------ the bound

    def losses(self, x: Tensor, given: Tensor | None = None) -> Any:
        """−ELBO with weights; of a product, the mean over subsets of the bound of each alone."""
        views = self._views(x)
        subsets = self._subsets(self.rng) if self.joint == "product" else None
        yield self, -self._bound(views, given, self.beta, self._weights, subsets).mean()

    @on_rows
    def elbo(self, x: Tensor, given: Tensor | None = None) -> Tensor:
        """E_q[log p(x | z)] − KL[q ‖ p], a draw of z for each component of q; (n,) nats."""
        return self._bound(self._views(x), given)

    def _bound(
        self,
        views: list[Tensor],
        given: Tensor | None,
        beta: float = 1.0,
        weights: list[float] | None = None,
        subsets: Tensor | None = None,
    ) -> Tensor:
        """The ELBO of all that was seen, (n,); or the mean of those of ``subsets`` (C, M)."""
        seen = self._seen(views)
        masks = self._masks() if subsets is None else subsets
        log_w, mean, L = self._components(self._experts(views, given), seen, masks)
        e = torch.randn(mean.shape, generator=self.rng, device=mean.device)
        z = mean + unwhiten(L, e)  # (n, C, T)
        scored = seen if subsets is None else seen & subsets.to(seen.device)[:, None]  # (C, n, M)
        log_x = self._log_x(z.transpose(0, 1), views, scored, given, weights).T  # (n, C)
        if subsets is None and mean.shape[1] > 1:
            kl = log_mixture(z, log_w, mean, L) - log_normal(z)
        else:
            kl = 0.5 * (trace_of_inverse(L) + mean.square().sum(-1) - mean.shape[-1]) + log_det(L)
        value = log_x - beta * kl
        return (log_w.exp() * value).sum(1) if subsets is None else value.mean(1)

    def validate(self, x: Tensor, given: Tensor | None = None) -> Tensor:
        """−ELBO of held-out rows, unweighted."""
        return -self.elbo(x, given).mean()

    # ------------------------------------------------------------------ the posterior

    def _experts(self, views: list[Tensor], given: Tensor | None) -> list[tuple[Tensor, Tensor]]:
        """η_i and Λ_i of every modality, on its own coordinates."""
        return [leg.expert(v, given) for leg, v in zip(self.legs_, views, strict=True)]  # type: ignore[operator]

    def _components(
        self, experts: list[tuple[Tensor, Tensor]], told: Tensor, masks: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """q(z | x): log-weights (n, C), means (n, C, T), roots of precisions (n, C, T[, T]).

        masks (C, M): the subset of each component, of which what is not ``told`` drops out.
        """
        n, T = len(told), self.size
        on = masks.to(told.device)[None] & told[:, None]  # (n, C, M)
        C = on.shape[1]
        full = self.covariance == "full"
        eta = experts[0][0].new_zeros(n, C, T)
        one = torch.ones(T, device=eta.device)
        P = (torch.diag(one) if full else one).expand(n, C, *([T, T] if full else [T])).clone()
        for i, (h, Lambda) in enumerate(experts):
            at = torch.tensor(self._places(i), device=eta.device)
            f = on[:, :, i].to(h.dtype)
            eta[:, :, at] += f[..., None] * h[:, None]
            if full:
                P[:, :, at[:, None], at] += f[..., None, None] * Lambda[:, None]
            else:
                P[:, :, at] += f[..., None] * Lambda[:, None]
        L = torch.linalg.cholesky(P) if full else P.sqrt()
        mean = torch.cholesky_solve(eta[..., None], L)[..., 0] if full else eta / P
        alive = on.any(-1)
        alive = alive | ~alive.any(1, keepdim=True)  # none: all components are the prior
        log_w = torch.where(alive, 0.0, -math.inf) - torch.log(alive.sum(1, keepdim=True))
        return log_w, mean, L

    def _q(self, views: list[Tensor], given: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """The components of q(z | x) of all that was seen."""
        return self._components(self._experts(views, given), self._seen(views), self._masks())

    def experts_of(self, x: Tensor, given: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """q(z | x) as a mixture: log-weights (n, C), means (n, C, T), roots (n, C, T, T)."""
        log_w, mean, L = self._q(self._views(x), given)
        if L.dim() == 3:
            return log_w, mean, torch.diag_embed(1 / L)
        return log_w, mean, torch.linalg.cholesky(torch.cholesky_inverse(L))

    @on_rows
    def posterior(self, x: Tensor, given: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of each coordinate under q(z | x), each (n, T)."""
        log_w, mean, root = self.experts_of(x, given)
        w = log_w.exp()[..., None]
        centre = (w * mean).sum(1)
        second = (w * (root.square().sum(-1) + mean.square())).sum(1)
        return centre, (second - centre.square()).clamp_min(0).sqrt()

    def _masks(self) -> Tensor:
        """The subsets of modalities behind the components of q, (C, M)."""
        M = len(self.legs_)
        if self.joint == "product":
            return torch.ones(1, M, dtype=torch.bool, device=self._device())
        if self.joint == "mixture":
            return torch.eye(M, dtype=torch.bool, device=self._device())
        return self._subsets(self.rng if self.training else generator(0))

    def _subsets(self, rng: torch.Generator) -> Tensor:
        """All subsets of few modalities; of many all at once, and some that are drawn."""
        M = len(self.legs_)
        if M <= FEW:
            every = [s for s in itertools.product([False, True], repeat=M) if any(s)]
            return torch.tensor(every, device=self._device())
        drawn = torch.rand(SAMPLED - 1, M, generator=rng, device=rng.device) < 0.5
        drawn[:, 0] |= ~drawn.any(1)
        whole = torch.ones(1, M, dtype=torch.bool, device=rng.device)
        return torch.cat([whole, drawn]).to(self._device())

    # ------------------------------------------------------------------ the modalities

    @property
    def size(self) -> int:
        """Latent coordinates, shared and private."""
        return self.latent_dim + len(self.legs_) * self.private_dim

    def _places(self, i: int) -> list[int]:
        """The coordinates of z that modality i knows."""
        own = self.latent_dim + i * self.private_dim
        return [*range(self.latent_dim), *range(own, own + self.private_dim)]

    def _views(self, x: Tensor) -> list[Tensor]:
        """The cells of each modality, with what was read of them where that stands beside."""
        x = x.flatten(1)
        if x.shape[1] == self.space_.dim:
            return [x[:, torch.tensor(at, device=x.device)] for at in self._columns]
        each = zip(self._columns, self.legs_, strict=True)
        sizes = [len(at) + int(leg.reads) for at, leg in each]  # type: ignore[arg-type]
        return list(x.split(sizes, 1))

    def _views_read(self, x: Tensor) -> list[Tensor]:
        """The views with what their observations read of them beside."""
        each = zip(self.legs_, self._views(x), strict=True)
        return [leg._read(v) for leg, v in each]  # type: ignore[operator]

    def _seen(self, views: list[Tensor]) -> Tensor:
        """Which modalities of each row have an observed cell, (n, M)."""
        whole = zip(views, self._columns, strict=True)
        return torch.stack([~torch.isnan(v[:, : len(at)]).all(1) for v, at in whole], 1)

    def _log_x(
        self,
        z: Tensor,
        views: list[Tensor],
        scored: Tensor,
        given: Tensor | None,
        weights: list[float] | None = None,
    ) -> Tensor:
        """Σ_i log p(x_i | z) of modalities ``scored``, (..., n, M); z (..., n, T) → (..., n)."""
        total = z.new_zeros(z.shape[:-1])
        for i, (leg, v) in enumerate(zip(self.legs_, views, strict=True)):
            log_p = leg.log_likelihood(z[..., self._places(i)], v, given)  # type: ignore[operator]
            log_p = log_p * scored[..., i]
            total = total + (log_p if weights is None else weights[i] * log_p)
        return total

    def log_likelihood(self, z: Tensor, x: Tensor, given: Tensor | None = None) -> Tensor:
        """log p(x | z) of the observed cells; z (..., n, T), x (n, *shape) → (..., n)."""
        views = self._views(x)
        return self._log_x(z, views, self._seen(views), given)

    def parameters_of(self, z: Tensor, given: Tensor | None = None) -> Tensor:
        """Parameters of ``observation_``, modality after modality; z (..., n, T)."""
        each = [
            leg.parameters_of(z[..., self._places(i)], given)  # type: ignore[operator]
            for i, leg in enumerate(self.legs_)
        ]
        return torch.cat(each, -1)

    @property
    def observation_(self) -> Mixed:
        """p(x | parameters) of all modalities, in the order of their columns."""
        parts = zip(self._columns, self.legs_, strict=True)
        mixed = Mixed([(at, leg.observation_) for at, leg in parts])  # type: ignore[misc]
        return mixed.to(self._device())

    def _drawn_at(self, z: Tensor, rng: torch.Generator, given: Tensor | None = None) -> Tensor:
        """x ~ p(x | z), cells (..., d); z (..., n, T)."""
        return self.observation_.sample(self.parameters_of(z, given), rng)

    # ------------------------------------------------------------------ construction

    def before_build(self, rows: Rows) -> None:
        self._columns = self._split(self.space_)[1]
        self.gaps_ = any(
            bool((torch.isnan(view).any(1) & ~torch.isnan(view).all(1)).any())
            for x, *_ in rows.chunks(65536, generator(0))
            for view in self._views(x)
        )

    def build(self, space: Space) -> None:
        names, self._columns, spaces = self._split(space)
        self.names_ = names
        each = [float(self._own("weights", name, 1.0)) for name in names]
        self._weights = None if set(each) == {1.0} else each
        given = getattr(self, "given_space_", None)
        legs = []
        for name, own in zip(names, spaces, strict=True):
            leg = Leg(
                self.latent_dim + self.private_dim,
                self._own("encoder", name),
                self._own("decoder", name),
                self._own("likelihood", name, "auto"),
                marginals=self.marginals,
                full=self.covariance == "full",
                gaps=self.gaps_,
            )
            legs.append(self.part(leg, own, given))
        self.legs_ = nn.ModuleList(legs)

    def _own(self, argument: str, name: str, default: Any = None) -> Any:
        """What an argument says of one modality."""
        value = getattr(self, argument)
        if not isinstance(value, dict):
            return default if value is None else value
        unknown = [key for key in value if key not in self.names_]
        if unknown:
            raise ValueError(
                f"{argument} names a modality {unknown[0]!r}, and there are {self.names_}"
            )
        return value.get(name, default)

    def _split(self, space: Space) -> tuple[list[str], list[list[int]], list[Space]]:
        """Names, columns and spaces of the modalities."""
        if space.parts:
            ends = list(itertools.accumulate(part.dim for _, part in space.parts))
            begins = [0, *ends]
            columns = [list(range(a, b)) for a, b in zip(begins, ends, strict=False)]
            return [n for n, _ in space.parts], columns, [part for _, part in space.parts]
        if self.modalities is None:
            return ["x"], [list(range(space.dim))], [space]
        if isinstance(self.modalities, dict):
            found = {str(k): _places_of(k, v, space) for k, v in self.modalities.items()}
            self._check_split(found, space)
        else:
            m = min(int(self.modalities), space.dim)
            runs = np.array_split(np.arange(space.dim), m)
            found = {f"part {i}": run.tolist() for i, run in enumerate(runs)}
        return list(found), list(found.values()), [_of_columns(space, at) for at in found.values()]

    def _check_split(self, found: dict[str, list[int]], space: Space) -> None:
        """Raise ValueError unless every column is in one modality."""
        counts = np.bincount([j for at in found.values() for j in at], minlength=space.dim)
        if (counts != 1).any():
            j = int((counts != 1).argmax())
            where = "no modality" if counts[j] == 0 else "several modalities"
            raise ValueError(f"modalities: {space.names()[j]} is in {where}; put it in one")

    def defaults(self, n: int) -> Trainer:
        batch = batch_of(n, 20, 16, 256)
        return Trainer(
            epochs=min(300, max(40, 2500 * batch // max(n, 1))),
            batch_size=batch,
            lr=1e-3,
            optimizer="adamw",
            weight_decay=0.01,
            validation=0.1 if n >= 50 else 0.0,
        )

    @torch.no_grad()
    def prepare(self, rows: Rows) -> None:
        """Learn the columns' own distributions."""
        if any(leg._learned for leg in self.legs_):
            (x, *_) = rows.look(1 << 18, self.rng)
            check_observed(self.space_, (~torch.isnan(x.flatten(1))).any(0))
        for leg, own in self._each(rows):
            leg.prepare(own)

    @torch.no_grad()
    def start(self, rows: Rows) -> None:
        for leg, own in self._each(rows):
            leg.start(own)
            leg._no_gaps = False
        self._start_at_factors(rows)

    def _start_at_factors(self, rows: Rows) -> None:
        """Set the linear paths to factor analysis of all modalities that have one, together.

        Its posterior is a product of experts, η_i = W_iᵀ Ψ_i⁻¹ h_i and Λ_i = W_iᵀ Ψ_i⁻¹ W_i.
        """
        views = self._views(rows.look(65536, self.rng)[0])
        chosen = [(leg, v) for leg, v in zip(self.legs_, views, strict=True) if leg.line_]
        if not chosen:
            return
        h = torch.cat([leg.standardised(v) for leg, v in chosen], 1)  # type: ignore[operator]
        share = (~torch.isnan(h)).double().mean(0).clamp_min(1 / len(h)).sqrt()
        h = h.nan_to_num() / share
        S = h.T @ h / len(h)
        cells: list[int] = []
        least: list[float] = []
        sizes: list[int] = []
        for leg, _ in chosen:
            own: Any = leg.observation_
            cells += [len(cells) + j for j in own.places]
            least += list(leg.least)  # type: ignore[arg-type]
            sizes.append(len(own.places))
        at = torch.tensor(cells, device=S.device)
        S = S * ((at[:, None] != at) | torch.eye(len(S), dtype=torch.bool, device=S.device))
        floor = torch.tensor(least, dtype=S.dtype, device=S.device)
        W, noise = factors(S, min(self.latent_dim, len(S), len(h) - 1), floor)
        for (leg, _), w, v in zip(chosen, W.split(sizes), noise.split(sizes), strict=True):
            leg.start_at(w, v)  # type: ignore[operator]

    def _each(self, rows: Rows) -> Any:
        """Every leg with the rows of its modality."""
        x, *given = rows.look(1 << 18, self.rng)
        for leg, v in zip(self.legs_, self._views(x), strict=True):
            own = Rows(v)
            own.given = given[0] if given else None
            yield leg, own

    def learn(self, fit: Fit) -> None:
        """Descend; where they are not too many, all cells are read once before."""
        few = len(fit.rows) * self.space_.dim <= MOST
        if few and isinstance(fit.rows.x, Tensor) and any(leg.reads for leg in self.legs_):
            for rows in (fit.rows, fit.held):
                if rows is not None:
                    rows.x = self._read(rows)
        super().learn(fit)

    @torch.no_grad()
    def _read(self, rows: Rows) -> Tensor:
        """Cells with what the observations read of them beside, modality after modality."""
        size = 1 + 500_000 // self.space_.dim
        chunks = rows.chunks(size, self.rng)
        return torch.cat([torch.cat(self._views_read(x), 1) for x, *_ in chunks])

    # ------------------------------------------------------------------ hooks

    def _log_prob(self, x: Tensor, given: Tensor | None = None) -> LogProb:
        values = []
        for c, g in _pieces(max(1, 8192 // self.k), x, given):
            w = self._log_weights(c, self.k, g)
            value, _, ess = log_mean_exp(w, 0)
            values.append((value, by_blocks(w.T), ess))
        value, stderr, ess = (torch.cat(v) for v in zip(*values, strict=True))
        return LowerBound(value, stderr, detail={"k": self.k, "ess": float(ess.mean())})

    def _log_weights(self, x: Tensor, k: int, given: Tensor | None) -> Tensor:
        """log p(x, z)/q(z | x) at k draws of the mixture, (k, n)."""
        views = self._views_read(x)
        z, log_q = self._points(x, k, self._q(views, given))
        return self._log_joint(z, views, given) - log_q

    def _points(self, x: Tensor, k: int, q: Any) -> tuple[Tensor, Tensor]:
        """k draws of a mixture q for every row, that hang on the row alone, and log q of them."""
        log_w, mean, L = q
        u = row_uniforms(x, k, self.size + 1).transpose(0, 1)  # (k, n, 1 + T)
        c = torch.searchsorted(log_w.exp().cumsum(1), u[..., 0].T.contiguous()).T
        c = c.clamp_max(log_w.shape[1] - 1)
        rows = torch.arange(len(x), device=x.device).expand_as(c)
        e = torch.erfinv(2 * u[..., 1:] - 1) * math.sqrt(2)
        z = mean[rows, c] + unwhiten(L[rows, c], e)
        return z, log_mixture(z.transpose(0, 1), log_w, mean, L).T

    def _log_joint(self, z: Tensor, views: list[Tensor], given: Tensor | None) -> Tensor:
        """log p(what was seen, z), (..., n)."""
        return self._log_x(z, views, self._seen(views), given) + log_normal(z)

    def log_conditional(self, X: Any, of: str | Sequence[str], *, given: Any = None) -> LogProb:
        """log p(x_A | x_B) of each row, A the modalities ``of``, B the others that were seen.

        log Σ w_i p(x_A | z_i) / Σ w_i with w_i = p(x_B, z_i)/r(z_i), at k points of the mixture r
        of q(z | x_A, x_B) and q(z | x_B): an ``Estimate``, as the ratio of two means is no bound.
        Raises ValueError for a modality that is not there.
        """
        x, conditions = self._enter(X, given)
        some = [of] if isinstance(of, str) else list(of)
        for name in some:
            if name not in self.names_:
                raise ValueError(f"of={name!r} is no modality: there are {self.names_}")
        hidden = torch.zeros(self.space_.dim, dtype=torch.bool, device=x.device)
        for name, at in zip(self.names_, self._columns, strict=True):
            hidden[at] = name in some
        values, errors = [], []
        with torch.no_grad():
            for c, g in _pieces(max(1, 4096 // self.k), x.flatten(1), *conditions or (None,)):
                value, error = self._conditional(c, c.masked_fill(hidden, math.nan), g)
                values.append(value)
                errors.append(error)
        dims = (hidden & ~torch.isnan(x.flatten(1))).sum(1)
        found: LogProb = Estimate(torch.cat(values), torch.cat(errors), detail={"k": self.k})
        found = found.with_rows(dims=dims, measure=self.space_.measure)
        return concatenate([found])

    def _conditional(self, x: Tensor, rest: Tensor, given: Tensor | None) -> tuple[Tensor, Tensor]:
        """log p(x | rest), and its standard error from blocks of the points, (n,) each."""
        views, others = self._views_read(x), self._views_read(rest)
        each = zip(self._q(views, given), self._q(others, given), strict=True)
        log_w, mean, L = (torch.cat(pair, 1) for pair in each)
        z, log_r = self._points(x, self.k, (log_w - math.log(2), mean, L))
        joint = self._log_joint(z, views, given) - log_r
        alone = self._log_joint(z, others, given) - log_r
        blocks = min(8, self.k)
        at = torch.arange(self.k, device=z.device) % blocks
        apart = [
            torch.logsumexp(joint[at == b], 0) - torch.logsumexp(alone[at == b], 0)
            for b in range(blocks)
        ]
        value = torch.logsumexp(joint, 0) - torch.logsumexp(alone, 0)
        return value, torch.stack(apart).std(0) / math.sqrt(blocks)

    def _sample(self, n: int, rng: torch.Generator, given: Tensor | None = None) -> Tensor:
        z = torch.randn(n, self.size, generator=rng, device=self._device())
        drawn = [self._drawn_at(c, rng, g) for c, g in _pieces(1024, z, given)]
        return self._shaped(torch.cat(drawn))

    def _shaped(self, cells: Tensor) -> Tensor:
        return cells.reshape(*cells.shape[:-1], *self.space_.cell_shape)

    def _complete(self, x: Tensor, rng: torch.Generator, given: Tensor | None = None) -> Tensor:
        return self._complete_many(x, 1, rng, given)[0]

    def _complete_many(
        self,
        x: Tensor,
        n: int,
        rng: torch.Generator,
        given: Tensor | None = None,
        proposals: int = 256,
        steps: int = 20,
    ) -> Tensor:
        """n times z ~ p(z | observed), by importance resampling and Metropolis, then x ~ p(x | z).

        Proposals are of q, of wider Gaussians about its mean, and of the prior.
        """
        k = enough(proposals, n)
        pieces = _pieces(32, x, given)
        z = torch.cat([self._resampled(c, k, n, rng, g) for c, g in pieces], 1).flatten(0, 1)
        cells = x.flatten(1).repeat(n, 1)
        given = None if given is None else given.repeat(n, *[1] * (given.dim() - 1))
        views = self._views_read(cells)
        kw: dict[str, Any] = {"generator": rng, "device": z.device}
        walk = 2.4 / math.sqrt(self.size) * self.posterior(self._shaped(cells), given)[1]
        log_p = self._log_joint(z, views, given)
        for _ in range(steps):
            new = z + walk * torch.randn(z.shape, **kw)
            log_new = self._log_joint(new, views, given)
            accept = torch.log(torch.rand(len(z), **kw)) < log_new - log_p
            z = torch.where(accept[:, None], new, z)
            log_p = torch.where(accept, log_new, log_p)
        drawn = self._drawn_at(z, rng, given).to(cells.dtype)
        filled = torch.where(torch.isnan(cells), drawn, cells)
        return self._shaped(filled).reshape(n, *x.shape)

    def _resampled(
        self, x: Tensor, k: int, n: int, rng: torch.Generator, given: Tensor | None
    ) -> Tensor:
        """n times z of every row, (n, rows, T), of k proposals by their weights.

        r = ½ q + ¼ N(its mean, I) + ¼ prior.
        """
        views = self._views_read(x)
        log_w, mean, L = self._q(views, given)
        kw: dict[str, Any] = {"generator": rng, "device": mean.device}
        centre = (log_w.exp()[..., None] * mean).sum(1)
        e = torch.randn(k, len(x), self.size, **kw)
        half, quarter = k // 2, (k - k // 2) // 2
        c = torch.multinomial(log_w.exp(), half, replacement=True, generator=rng).T
        rows = torch.arange(len(x), device=c.device).expand_as(c)
        own = mean[rows, c] + unwhiten(L[rows, c], e[:half])
        z = torch.cat([own, centre + e[half : half + quarter], e[half + quarter :]])
        log_q = log_mixture(z.transpose(0, 1), log_w, mean, L).T
        others = torch.logaddexp(log_normal(z - centre), log_normal(z)) - math.log(2)
        log_r = torch.logaddexp(log_q, others)
        log_weight = self._log_joint(z, views, given) - log_r
        return z.transpose(0, 1).flatten(0, 1)[pick_several(log_weight.T, n, rng)]

    def _encode(self, x: Tensor, given: Tensor | None = None) -> Tensor:
        return self.posterior(x, given)[0]

    @property
    def _n_features_out(self) -> int:
        return self.size

    def _decode(self, z: Tensor, given: Tensor | None = None) -> Tensor:
        return self._shaped(self.observation_.mean(self.parameters_of(z, given)))


class Leg(Decoded):
    """One modality: its expert, and its p(x_i | z). It is no model of its own."""

    arguments: ClassVar[dict[str, Rule]] = {}

    def __init__(
        self,
        latent_dim: int = 16,
        encoder: Blueprint | None = None,
        decoder: Blueprint | None = None,
        likelihood: str = "auto",
        variance: float | str | None = None,
        marginals: str | None = None,
        full: bool = False,
        gaps: bool = False,
    ) -> None:
        self.latent_dim = latent_dim
        self.encoder = encoder
        self.decoder = decoder
        self.likelihood = likelihood
        self.variance = variance
        self.marginals = marginals
        self.full = full
        self.gaps = gaps

    @property
    def gaps_(self) -> bool:  # type: ignore[override]
        """Has a modality of the training rows gaps, and are encoders told of them?"""
        return self.gaps

    def code_size(self) -> int:
        K = self.latent_dim
        return 2 * K + K * (K - 1) // 2 if self.full else 2 * K

    def standardised(self, x: Tensor) -> Tensor:
        """What the encoder sees of cells x, NaN where missing, in float64."""
        f = self.features_
        return (self._seen(x).double() - f.shift_) / f.scale_

    @property
    def least(self) -> list[float]:
        """The least share of the variance of each feature that is noise."""
        own = self.observation_
        return [2 * own.floor**2] * own.d if isinstance(own, Normal) else own.least

    def start_at(self, W: Tensor, noise: Tensor) -> None:
        """Set expert and decoder to loadings W (F, k) and noise (F,) of standardised features."""
        k, K, own = W.shape[1], self.latent_dim, self.observation_
        V = W / noise[:, None]
        Lambda = 1e-4 * torch.eye(K, dtype=W.dtype, device=W.device)
        Lambda[:k, :k] += V.T @ W
        if not self.full:
            Lambda = torch.diag(Lambda.diagonal())
        line: Any = self.line_
        line.expand_.weight.zero_()
        line.project_.weight.zero_()
        inverse = torch.linalg.inv(Lambda + torch.eye(K, dtype=W.dtype, device=W.device))
        line.project_.weight.copy_((inverse[:, :k] @ V.T).float())
        if isinstance(own, Normal):
            line.expand_.weight[:, :k] = W.float()
            if self.variance is None:
                own.log_v_.copy_(torch.log(noise - own.floor**2))
        else:
            mean, std = (t.double() for t in (self.features_.shift_, self.features_.scale_))
            line.expand_.weight[:, :k] = own.start_at(W, noise, mean, std).float()
        last = output_layer(self.encoder_)
        if last is None or last.bias is None or len(last.bias) != self.code_size():
            return
        A = torch.linalg.cholesky(Lambda)
        own_scale = A.diagonal()
        last.bias[K : 2 * K] = 2 * torch.log(own_scale).float()
        if self.full:
            at = torch.tril_indices(K, K, -1, device=W.device)
            last.bias[2 * K :] = (A / own_scale[:, None])[at[0], at[1]].float()

    @property
    def reads(self) -> int:
        """Numbers that are read of a row's cells."""
        return self.observation_.n_read if self._learned else 0

    def expert(self, x: Tensor, given: Tensor | None) -> tuple[Tensor, Tensor]:
        """η (n, K), and Λ (n, K) or (n, K, K), which is never negative.

        The encoder puts out the mean μ = (I + Λ)⁻¹ η of q(z | x_i), and log Λ; or the logarithm of
        the diagonal of A, Λ = A Aᵀ, and what is below it in units of it.
        """
        K = self.latent_dim
        code = self.code(x, given)
        mean, logs = code[:, :K], code[:, K : 2 * K].clamp_max(HIGHEST)
        if not self.full:
            Lambda = logs.exp()
            return mean + Lambda * mean, Lambda
        at = torch.tril_indices(K, K, -1, device=code.device)
        A = torch.eye(K, device=code.device).repeat(len(code), 1, 1)
        A[:, at[0], at[1]] = code[:, 2 * K :]
        A = (0.5 * logs).exp()[..., None] * A
        Lambda = A @ A.mT
        return mean + (Lambda @ mean[..., None])[..., 0], Lambda


# ---------------------------------------------------------------------- Gaussians by precisions
#
# L is a root of the precision, P = L Lᵀ: lower triangular (..., T, T), or its diagonal (..., T).


def unwhiten(L: Tensor, e: Tensor) -> Tensor:
    """L⁻ᵀ e, of covariance P⁻¹ where e is white."""
    if L.dim() == e.dim():
        return e / L
    return torch.linalg.solve_triangular(L.mT, e[..., None], upper=True)[..., 0]


def whiten(L: Tensor, gap: Tensor) -> Tensor:
    """Lᵀ gap."""
    return L * gap if L.dim() == gap.dim() else (L.mT @ gap[..., None])[..., 0]


def log_det(L: Tensor) -> Tensor:
    """log det L, of (n, C, T) or (n, C, T, T)."""
    diagonal = L if L.dim() == 3 else L.diagonal(dim1=-2, dim2=-1)
    return diagonal.log().sum(-1)


def trace_of_inverse(L: Tensor) -> Tensor:
    """tr P⁻¹, of (n, C, T) or (n, C, T, T)."""
    if L.dim() == 3:
        return L.square().reciprocal().sum(-1)
    eye = torch.eye(L.shape[-1], dtype=L.dtype, device=L.device).expand_as(L)
    return torch.linalg.solve_triangular(L, eye, upper=False).square().sum((-2, -1))


def log_normal(z: Tensor) -> Tensor:
    """log N(z | 0, I) over the last axis."""
    return -0.5 * (z.square().sum(-1) + z.shape[-1] * LOG_2PI)


def log_mixture(z: Tensor, log_w: Tensor, mean: Tensor, L: Tensor) -> Tensor:
    """log Σ_c w_c N(z | m_c, P_c⁻¹) at points z (n, k, T) of each row, (n, k)."""
    e = whiten(L[:, None], z[:, :, None] - mean[:, None])  # (n, k, C, T)
    return torch.logsumexp(log_w[:, None] + log_normal(e) + log_det(L)[:, None], 2)


# ---------------------------------------------------------------------- columns


def _places_of(name: Any, columns: Any, space: Space) -> list[int]:
    """Columns by name or by place as places."""
    names = [c.name for c in space.columns] or list(range(space.dim))
    found = []
    if not isinstance(columns, str | int | list | tuple | range | np.ndarray):
        raise ValueError(f"modalities: {name!r} needs a list of columns, not {columns!r:.40}")
    for c in [columns] if isinstance(columns, str | int) else columns:
        if c in names:
            found.append(names.index(c))
        elif isinstance(c, int) and 0 <= c < space.dim:
            found.append(c)
        else:
            raise ValueError(f"modalities: {name!r} names a column {c!r} that X has not")
    return found


def _of_columns(space: Space, at: list[int]) -> Space:
    """The space of some columns."""
    columns = tuple(space.columns[j] for j in at) if space.columns else ()
    return dataclasses.replace(space, shape=(len(at),), columns=columns, layout=None)


def _pieces(size: int, x: Tensor, given: Tensor | None) -> Any:
    """Rows and their conditions, ``size`` at a time."""
    for i in range(0, len(x), size):
        yield x[i : i + size], None if given is None else given[i : i + size]
