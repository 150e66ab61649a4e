"""The variational autoencoder (Kingma & Welling, 2014; Rezende et al., 2014).

    p(z) = N(0, I),    p(x | z) = observation(decoder(z)),    q(z | x) = N(m(x), diag s(x)²)

    log p(x) ≥ ELBO(x) = E_q[log p(x | z)] − KL[q(z | x) ‖ p(z)],   z = m + s ε,  ε ~ N(0, I)
    log p(x) ≥ IWAE_k(x) = E log (1/k) Σ_i p(x | z_i) p(z_i) / q(z_i | x)    (Burda et al., 2016)

Under conditions y it is p(x | z, y) and q(z | x, y), and z has the same prior (Sohn
et al., 2015). Missing cells drop out of p(x | z), and the encoder sees them at their
mean (Mattei & Frellsen, 2019).
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from genus.distributions.columns import check_observed
from genus.distributions.observation import Normal, Observation, observe
from genus.distributions.points import by_blocks, log_mean_exp, row_normals
from genus.encoder import Encoder
from genus.learn.fit import Fit
from genus.learn.rows import Rows, generator
from genus.learn.trainer import Trainer, batch_of
from genus.likelihood import LogProb, LowerBound
from genus.model import Model, on_rows
from genus.networks.blueprints import BLUEPRINT, MLP, Blueprint
from genus.networks.conditions import Conditions
from genus.networks.layers import Linear, initialise, output_layer
from genus.samplers.particles import enough, pick_several
from genus.settings import Number, OneOf, Rule, Whole
from genus.space import Space

FIRST = 1 << 18  # rows from which columns are learned, at most
LARGEST = 1e15  # feature: the square of what comes of it is still a number in float32
MOST = 20_000_000  # cells that are read before learning starts, at most


class VAE(Encoder, Model):
    r"""A latent vector z decoded into p(x | z), with an amortised posterior q(z | x).

        z ~ N(0, I),    log p(x) ≥ E_q[log p(x | z)] − KL[q(z | x) ‖ p(z)]

    Parameters
    ----------
    latent_dim : int, default=16
        Size of z.
    encoder : blueprint or None, default=None
        Or a callable (in_shape, out_shape) -> nn.Module, with a context where there are
        conditions; None: an MLP of 2 × 256 units, 2 × 512 where rows have more than 256 cells.
    decoder : blueprint or None, default=None
        As ``encoder``.
    likelihood : {"auto", "bernoulli", "categorical", "logistic", "gaussian"}, default="auto"
        ``logistic`` is for ordered levels; ``auto``: by the kind of each cell. A Gaussian gives a
        discrete cell its mass within ½ of the level.
    variance : float or None, default=None
        η > 0, of the Gaussian in squared units of the data; None: learned, one a cell.
    beta : float, default=1.0
        Weight of the KL term in training (Higgins et al., 2017); the likelihood
        reported is that of the model.
    bound : {"elbo", "iwae"}, default="elbo"
        What training climbs.
    k_train : int, default=8
        Importance samples of ``iwae``.
    k : int, default=256
        Importance samples of ``log_prob``, a ``LowerBound`` in nats.
    marginals : {"learned", "affine"} or None, default=None
        How numbers are observed: on the scale of their column's own distribution, as
        ``genus.distributions.marginals`` says, or in their own units. None: affine where
        ``likelihood`` or ``variance`` is given, and of images of real numbers; learned elsewhere.
    trainer : Trainer or None, default=None
        How the gradient is descended; None: this model's own settings.
    random_state : int, generator or None, default=None
        An int, or a numpy generator; None: fresh at every fit.

    Examples
    --------
    >>> import genus
    >>> data = genus.data.load("digits")
    >>> few = genus.Trainer(epochs=1)
    >>> model = genus.VAE(latent_dim=2, k=16, trainer=few, random_state=0).fit(data.train)
    >>> model.encode(data.test).shape, model.sample(3).shape
    ((359, 2), (3, 8, 8))
    """

    arguments: ClassVar[dict[str, Rule]] = {
        "latent_dim": Whole(1),
        "encoder": BLUEPRINT | None,
        "decoder": BLUEPRINT | None,
        "likelihood": OneOf("auto", "bernoulli", "categorical", "logistic", "gaussian"),
        "variance": Number(above=0) | None,
        "beta": Number(0),
        "bound": OneOf("elbo", "iwae"),
        "k_train": Whole(1),
        "k": Whole(1),
        "marginals": OneOf("learned", "affine") | None,
    }
    earlier_marginals = "affine"  # what files of before had
    allow_nan = True
    conditions = "optional"
    learned_by = "gradient of a bound"
    may_use_bfloat16 = True

    offset_: Tensor
    shift_: Tensor
    scale_: Tensor
    observation_: Observation
    encoder_: nn.Module
    decoder_: nn.Module
    context_: Conditions

    def __init__(
        self,
        latent_dim: int = 16,
        encoder: Blueprint | None = None,
        decoder: Blueprint | None = None,
        likelihood: str = "auto",
        variance: float | None = None,
        beta: float = 1.0,
        bound: str = "elbo",
        k_train: int = 8,
        k: int = 256,
        marginals: str | None = None,
        trainer: Trainer | None = None,
        random_state: Any = None,
    ) -> None:
        self.latent_dim = latent_dim
        self.encoder = encoder
        self.decoder = decoder
        self.likelihood = likelihood
        self.variance = variance
        self.beta = beta
        self.bound = bound
        self.k_train = k_train
        self.k = k
        self.marginals = marginals
        self.trainer = trainer
        self.random_state = random_state

    # ------------------------------------------------------------------ the model

    def losses(self, x: Tensor, given: Tensor | None = None) -> Any:
        """−ELBO, or −IWAE."""
        bound = self.elbo if self.bound == "elbo" else self.iwae
        yield self, -bound(x, given).mean()

    @on_rows
    def elbo(self, x: Tensor, given: Tensor | None = None) -> Tensor:
        """E_q[log p(x | z)] − β KL[q ‖ p] with one draw of z; (n,) nats."""
        m, s = self.posterior(x, given)
        z = m + s * torch.randn(m.shape, generator=self.rng, device=m.device)
        kl = self.kl(m, s).sum(1)
        return self.log_likelihood(z, x, given) - (kl if self.beta == 1 else self.beta * kl)

    def kl(self, m: Tensor, s: Tensor) -> Tensor:
        """KL[N(m, s²) ‖ N(0, 1)] of each latent dimension; (n, latent_dim) nats.

        ½ (m² + s² − 1) − log s.
        """
        return 0.5 * (m.square() + s.square() - 1) - torch.log(s)

    @on_rows
    def iwae(self, x: Tensor, given: Tensor | None = None) -> Tensor:
        """log (1/k) Σ_i p(x, z_i)/q(z_i | x) with k_train fresh draws; (n,) nats."""
        m, s = self.posterior(x, given)
        e = torch.randn(self.k_train, *m.shape, generator=self.rng, device=m.device)
        log_w = self._log_weights(x, m, s, e, given, beta=self.beta)
        return torch.logsumexp(log_w, 0) - math.log(self.k_train)

    @on_rows
    def posterior(self, x: Tensor, given: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """m(x), s(x) of q(z | x), each (n, latent_dim)."""
        h = self.features(x)
        m, raw = self.encoder_(h, *self._context(given)).float().chunk(2, 1)
        if self._linear:
            m = m + self.project_(h.flatten(1))
        return m, F.softplus(raw + _ONE) + 1e-4  # s = 1 at the start

    def log_likelihood(self, z: Tensor, x: Tensor, given: Tensor | None = None) -> Tensor:
        """log p(x | z) of the observed cells; z (..., n, latent_dim), x (n, *shape) → (..., n)."""
        return self._log_likelihood(z, x.flatten(1), given)

    def parameters_of(self, z: Tensor, given: Tensor | None = None) -> Tensor:
        """The observation's parameters, (..., n_out), cell after cell; z (..., n, latent_dim)."""
        flat = z.reshape(-1, self.latent_dim)
        context = [c.repeat(len(flat) // len(c), 1) for c in self._context(given)]
        out = self.decoder_(flat, *context).float()
        if self._image is not None:  # (n, P·C, H, W) → cell after cell
            c, h, w = self._image
            out = out.reshape(len(out), -1, c, h, w).permute(0, 2, 3, 4, 1)
        p = out.reshape(*z.shape[:-1], -1)
        if not self._biased:
            p = p + self.offset_
        if self._linear:
            p = p + self.expand_(z)
        return p

    def _context(self, given: Tensor | None) -> tuple[Tensor, ...]:
        """What the networks see of conditions, (n, g); () without."""
        return () if given is None else self.context_.seen(given, self.shift_.dtype)

    # ------------------------------------------------------------------ construction

    def build(self, space: Space) -> None:
        self._learned = self._learns_marginals(space)
        self.observation_ = observe(space, self.likelihood, self.variance, self._learned)
        self._image = space.image_shape
        d = len(self.observation_.places) if self._learned else space.dim
        shape_in = self._image or (d,)
        per_cell = self.observation_.per_cell
        shape_out = (
            (per_cell * self._image[0], *self._image[1:])
            if self._image
            else (self.observation_.n_out,)
        )
        default = MLP(512 if d > 256 else 256, 2, "silu")
        context = 0
        if hasattr(self, "given_space_"):
            self.context_ = Conditions(self.given_space_)
            context = self.context_.width
        q, k = (2 * self.latent_dim,), (self.latent_dim,)
        self.encoder_ = self.make_network(self.encoder, shape_in, q, default, context)
        self.decoder_ = self.make_network(self.decoder, k, shape_out, default, context)
        last = output_layer(self.decoder_)
        # the best parameters without a latent variable: where the
        # decoder's own bias can, it holds them
        self._biased = (
            isinstance(last, Linear)
            and last.bias is not None
            and len(last.bias) == self.observation_.n_out
        )
        if not self._biased:
            self.offset_ = nn.Parameter(torch.zeros(self.observation_.n_out))
        self.register_buffer("shift_", torch.zeros(d))
        self.register_buffer("scale_", torch.ones(d))
        # a linear path beside the networks, which starts at probabilistic PCA of real numbers, and
        # at factor analysis where marginals are learned
        self._linear = (self._learned or isinstance(self.observation_, Normal)) and d <= 1024
        if self._linear:
            self.project_ = Linear(d, self.latent_dim, bias=False, zero=True)
            n_out = self.observation_.n_out
            self.expand_ = Linear(self.latent_dim, n_out, bias=False, zero=True)
            for path in (self.project_, self.expand_):
                initialise(path, self.rng)

    def _learns_marginals(self, space: Space) -> bool:
        """Are numbers observed by their scores, and words seen one by one?"""
        stated = self.marginals == "learned"
        if self.marginals is None:
            plain = self.variance is None and self.likelihood == "auto"
            image = space.layout is not None and space.kind != "integer"
            stated = plain and space.kind not in ("binary", "ordinal") and not image
        units = {"variance": self.variance, "likelihood": self.likelihood}
        for name, value in units.items():
            if stated and value not in (None, "auto", "bernoulli", "categorical"):
                raise ValueError(
                    f"{name}={value!r} is in the units of the data, which learned marginals "
                    f"leave: use marginals='affine', or leave {name} out"
                )
        return stated

    @torch.no_grad()
    def prepare(self, rows: Rows) -> None:
        """Learn the columns' own distributions."""
        if self._learned:
            x = rows.take(slice(0, FIRST), self.rng)[0].flatten(1)
            check_observed(self.space_, (~torch.isnan(x)).any(0))
            self.observation_.fit(x)

    def defaults(self, n: int) -> Trainer:
        batch = batch_of(n, 20, 16, 256)
        epochs = min(300, max(40, 2500 * batch // max(n, 1)))  # about 2,500 steps
        share = 0.1 if n >= 50 else 0.0
        return Trainer(
            epochs=epochs,
            batch_size=batch,
            lr=1e-3,
            optimizer="adamw",
            weight_decay=0.01,
            validation=share,
        )

    def learn(self, fit: Fit) -> None:
        """Descend; where they are not too many, all cells are read once before."""
        few = len(fit.rows) * self.space_.dim <= MOST
        if self._learned and few and isinstance(fit.rows.x, Tensor):
            fit.rows = self._all_read(fit.rows)
            fit.held = self._all_read(fit.held) if fit.held is not None else None
        super().learn(fit)

    @torch.no_grad()
    def _all_read(self, rows: Rows) -> Rows:
        """Rows with what the observation reads of them beside."""
        out = copy.copy(rows)
        size = 1 + 500_000 // self.space_.dim
        out.x = torch.cat([self._read(x.flatten(1)) for x, *_ in rows.chunks(size, self.rng)])
        return out

    @torch.no_grad()
    def start(self, rows: Rows) -> None:
        self._no_gaps = not any(
            bool(torch.isnan(x).any()) for x, *_ in rows.chunks(65536, generator(0))
        )
        x, *given = rows.take(slice(0, 65536), self.rng)
        x = self._split(x.flatten(1))[0]
        if given:
            self.context_.fit(given[0])
        offset = self.observation_.offset(x)  # standardises real cells as well
        self._take_scales(x)
        # start near the model without a latent variable
        for network in (self.encoder_, self.decoder_):
            if (last := output_layer(network)) is not None:
                last.weight.mul_(0.0 if self._linear else 0.3)
        # the layer's outputs stand parameter after parameter on images, cell after cell elsewhere
        if self._biased:
            cells = (
                offset.reshape(-1, self.observation_.per_cell).T.flatten()
                if self._image
                else offset
            )
            output_layer(self.decoder_).bias.copy_(cells)  # type: ignore[union-attr]
        else:
            self.offset_.copy_(offset)
        if self._linear and self._learned:
            self._start_at_factors(x)
        elif self._linear:
            self._start_at_pca(self.observation_.standardised(x))  # type: ignore[operator]

    def _take_scales(self, x: Tensor) -> None:
        """Take mean and standard deviation of what the encoder sees from rows x."""
        if isinstance(self.observation_, Normal):
            self.shift_.copy_(self.observation_.shift)
            std = self.observation_.scale
        else:
            h = self._seen(x).double()
            mean = torch.nanmean(h, 0).nan_to_num()
            std = torch.nanmean((h - mean).square(), 0).nan_to_num().sqrt()
            self.shift_.copy_(mean)
        if self._learned:  # a rare word counts no more than one of a hundred rows
            self.scale_.copy_(std.clamp_min(0.1))
            return
        overall = std.square().mean().sqrt() if self.space_.kind != "table" else std.new_zeros(())
        self.scale_.copy_(torch.maximum(std, 0.1 * overall).where(std > 0, torch.ones_like(std)))

    def _start_at_factors(self, x: Tensor) -> None:
        """Set the linear path to factor analysis of what the encoder sees of rows x."""
        h = (self._seen(x).double() - self.shift_) / self.scale_
        share = (~torch.isnan(h)).double().mean(0).clamp_min(1 / len(h)).sqrt()
        h = h.nan_to_num() / share
        S = h.T @ h / len(h)
        # categories of one cell exclude each other: that is no common factor
        places = torch.tensor(self.observation_.places, device=S.device)
        same = places[:, None] == places
        S = S * (~same | torch.eye(len(S), dtype=torch.bool, device=S.device))
        least = torch.tensor(self.observation_.least, dtype=S.dtype, device=S.device)
        W, noise = factors(S, min(self.latent_dim, len(S), len(h) - 1), least)
        K = W.shape[1]
        m, s = self.shift_.double(), self.scale_.double()
        self.expand_.weight.zero_()
        self.project_.weight.zero_()
        self.expand_.weight[:, :K] = self.observation_.start_at(W, noise, m, s).float()
        V = W / noise[:, None]
        variance = 1 / (1 + (W * V).sum(0))
        self.project_.weight[:K] = (V * variance).T.float()
        self._start_spread(variance.sqrt())

    def _start_spread(self, s: Tensor) -> None:
        """Set s(x) of the first latent dimensions, 1 for the others."""
        spread = s.new_ones(self.latent_dim)
        spread[: len(s)] = s
        last = output_layer(self.encoder_)
        if last is not None and last.bias is not None and last.bias.shape == (2 * self.latent_dim,):
            last.bias[self.latent_dim :] = torch.log(torch.expm1(spread - 1e-4)).float() - _ONE

    def _start_at_pca(self, y: Tensor) -> None:
        """Set the linear path to probabilistic PCA of standardised rows y."""
        y = y.nan_to_num().double()
        d, q = y.shape[1], min(self.latent_dim, y.shape[1] - 1, len(y) - 1)
        values, vectors = torch.linalg.eigh(torch.cov(y.T, correction=0).reshape(d, d))
        values, vectors = values.flip(0).clamp_min(0), vectors.flip(1)
        noise = values[max(q, 0) :].mean().clamp_min(2 * Normal.floor**2)
        kept = values[: max(q, 0)].clamp_min(noise)
        share = 1 - noise / kept  # of an axis that is signal
        self.expand_.weight.zero_()
        self.project_.weight.zero_()
        self.expand_.weight[:, : len(kept)] = (
            vectors[:, : len(kept)] * (share * kept).sqrt()
        ).float()
        self.project_.weight[: len(kept)] = (
            (share / kept).sqrt() * vectors[:, : len(kept)]
        ).T.float()
        self._start_spread((1 - share).clamp_min(1e-4).sqrt())
        if self.variance is None:
            self.observation_.log_v_.fill_(torch.log(noise - Normal.floor**2))  # type: ignore[operator]

    # ------------------------------------------------------------------ likelihood and draws

    def _shaped(self, cells: Tensor) -> Tensor:
        """Cells (…, d) as codes (…, *cell_shape)."""
        return cells.reshape(*cells.shape[:-1], *self.space_.cell_shape)

    def features(self, x: Tensor) -> Tensor:
        """What the encoder sees: bits, other cells standardised, missing ones at their mean.

        Where marginals are learned: scores of numbers, a 1 for each word, all standardised.
        """
        h = self._seen(x.flatten(1))
        h = h if self._whole(x) else torch.where(torch.isnan(h), self.shift_, h)
        if self.space_.kind != "binary":
            h = ((h - self.shift_) / self.scale_).clamp(-LARGEST, LARGEST)
        h = h.float()
        return h.reshape(len(h), *self._image) if self._image else h

    def _seen(self, x: Tensor) -> Tensor:
        """Cells x as features, before they are standardised."""
        return self.observation_.features(*self._split(x)) if self._learned else x

    def _read(self, x: Tensor) -> Tensor:
        """Cells (n, d) with what the observation reads of them beside, (n, d + …)."""
        return torch.cat([x, self.observation_.read(x)], 1) if self._learned else x

    def _split(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """Cells, and what was read of them, where it stands beside."""
        d = self.space_.dim
        return (x, None) if x.shape[1] == d else (x[:, :d], x[:, d:])

    def _log_likelihood(self, z: Tensor, cells: Tensor, given: Tensor | None = None) -> Tensor:
        p = self.parameters_of(z, given)
        if self._whole(cells):
            return self.observation_.log_prob(p, *self._split(cells)).sum(-1)
        gap = torch.isnan(cells)
        each = self.observation_.log_prob(p, *self._split(cells.masked_fill(gap, 0.0)))
        return each.masked_fill(self._split(gap)[0], 0.0).sum(-1)

    def _whole(self, x: Tensor) -> bool:
        """Is nothing missing? In training it was seen once for all."""
        return self._no_gaps if self.training else not bool(torch.isnan(x).any())

    def _log_weights(
        self,
        x: Tensor,
        m: Tensor,
        s: Tensor,
        e: Tensor,
        given: Tensor | None = None,
        beta: float = 1.0,
    ) -> Tensor:
        """log p(x, z)/q(z | x) at z = m + s e; (k, n)."""
        z = m + s * e
        log_ratio = (0.5 * (e.square() - z.square()) + torch.log(s)).sum(-1)
        return self.log_likelihood(z, x, given) + beta * log_ratio

    def validate(self, x: Tensor, given: Tensor | None = None) -> Tensor:
        """−ELBO of held-out rows."""
        return -self.elbo(x, given).mean()

    def _resampled(
        self, x: Tensor, given: Tensor | None, rng: torch.Generator, proposals: int, n: int
    ) -> Tensor:
        """n times z of every row, (n, rows, latent_dim).

        They are drawn from ``proposals`` by their weights p(observed, z)/r(z),
        r = ½ q + ¼ N(m, 1) + ¼ prior: where q lies beside the posterior, the others may not.
        """
        m, s = self.posterior(x, given)
        half, rest = proposals // 2, proposals - proposals // 2
        e = torch.randn(proposals, *m.shape, generator=rng, device=m.device)
        z = torch.cat([m + s * e[:half], m + e[half : half + rest // 2], e[half + rest // 2 :]])
        log_q = -0.5 * (((z - m) / s).square() + 2 * torch.log(s)).sum(-1)
        log_wide = -0.5 * (z - m).square().sum(-1)
        log_p = -0.5 * z.square().sum(-1)
        log_x = self._log_likelihood(z, x.flatten(1), given)
        others = torch.logaddexp(log_wide, log_p) - math.log(2)
        log_w = log_x + log_p - torch.logaddexp(log_q, others)
        return z.transpose(0, 1).flatten(0, 1)[pick_several(log_w.T, n, rng)]

    def _log_weights_at(
        self, z: Tensor, cells: Tensor, m: Tensor, s: Tensor, given: Tensor | None
    ) -> Tensor:
        log_q = -(0.5 * ((z - m) / s).square() + torch.log(s)).sum(-1)
        return self._log_joint(z, cells, given) - log_q

    def _log_joint(self, z: Tensor, cells: Tensor, given: Tensor | None) -> Tensor:
        """log p(observed cells, z) but for a constant, (n,)."""
        return self._log_likelihood(z, cells, given) - 0.5 * z.square().sum(-1)

    # ------------------------------------------------------------------ what the latent space holds

    def kl_per_dimension(self, X: Any, *, given: Any = None) -> np.ndarray:
        """Mean KL[q(z_j | x) ‖ p(z_j)] of every latent dimension, in nats; near 0: unused."""
        x, conditions = self._enter(X, given)

        def kl(some: Tensor, *g: Tensor) -> Tensor:
            return self.kl(*self.posterior(some, *g))

        return self._chunked(kl, x, *conditions).mean(0).numpy()

    def active_units(self, X: Any, threshold: float = 0.01, *, given: Any = None) -> int:
        """Number of latent dimensions whose mean varies by more than ``threshold`` over X.

        Burda et al. (2016).
        """
        return int((np.var(self.encode(X, given=given), axis=0) > threshold).sum())

    # ------------------------------------------------------------------ hooks

    def _log_prob(self, x: Tensor, given: Tensor | None = None) -> LogProb:
        values = []
        for c, g in _pieces(max(1, 8192 // self.k), x, given):
            e = row_normals(c, self.k, self.latent_dim).transpose(0, 1)
            c = self._read(c.flatten(1)) if self._learned else c
            m, s = self.posterior(c, g)
            w = self._log_weights(c, m, s, e, g)
            value, _, ess = log_mean_exp(w, 0)
            values.append((value, by_blocks(w.T), ess))
        value, stderr, ess = (torch.cat(v) for v in zip(*values, strict=True))
        return LowerBound(value, stderr, detail={"k": self.k, "ess": float(ess.mean())})

    def _sample(self, n: int, rng: torch.Generator, given: Tensor | None = None) -> Tensor:
        z = torch.randn(n, self.latent_dim, generator=rng, device=self.shift_.device)
        drawn = [
            self.observation_.sample(self.parameters_of(c, g), rng)
            for c, g in _pieces(1024, z, given)
        ]
        return self._shaped(torch.cat(drawn))

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
        """n times z ~ p(z | observed) by importance resampling and Metropolis, then x ~ p(x | z).

        Proposals come from q, wider than q and the prior, refined by Metropolis within Gibbs,
        from q and in small steps (Mattei & Frellsen, 2018).
        """
        pieces = _pieces(32, x, given)
        k = enough(proposals, n)
        z = torch.cat([self._resampled(c, g, rng, k, n) for c, g in pieces], 1).flatten(0, 1)
        cells = x.flatten(1).repeat(n, 1)
        given = None if given is None else given.repeat(n, *[1] * (given.dim() - 1))
        gap = torch.isnan(cells)

        def filled_at(z: Tensor) -> Tensor:
            drawn = self.observation_.sample(self.parameters_of(z, given), rng)
            return torch.where(gap, drawn.to(cells.dtype), cells)

        filled = filled_at(z)
        # Roberts, Gelman & Gilks (1997); it may not depend on what is filled in
        walk = 2.4 / math.sqrt(self.latent_dim) * self.posterior(self._shaped(cells), given)[1]
        # z' ~ q(z | x filled), accepted with the ratio of p(filled, z)/q(z | filled)
        for _ in range(steps):
            m, s = self.posterior(self._shaped(filled), given)
            new = m + s * torch.randn(m.shape, generator=rng, device=m.device)
            after, before = (self._log_weights_at(v, filled, m, s, given) for v in (new, z))
            accept = torch.log(torch.rand(len(z), generator=rng, device=z.device)) < after - before
            z = torch.where(accept[:, None], new, z)
            # and a small step from z, for where q lies beside p(z | observed)
            new = z + walk * torch.randn(m.shape, generator=rng, device=m.device)
            after, before = (self._log_joint(v, cells, given) for v in (new, z))
            accept = torch.log(torch.rand(len(z), generator=rng, device=z.device)) < after - before
            z = torch.where(accept[:, None], new, z)
            filled = filled_at(z)
        return self._shaped(filled).reshape(n, *x.shape)

    def _encode(self, x: Tensor, given: Tensor | None = None) -> Tensor:
        return self.posterior(x, given)[0]

    @property
    def _n_features_out(self) -> int:
        return self.latent_dim

    def _decode(self, z: Tensor, given: Tensor | None = None) -> Tensor:
        return self._shaped(self.observation_.mean(self.parameters_of(z, given)))


def factors(S: Tensor, K: int, least: Tensor) -> tuple[Tensor, Tensor]:
    """Loadings W (d, K), with Wᵀ Ψ⁻¹ W diagonal, and noise Ψ (d,) of factor analysis of S (d, d).

    W = Ψ^½ U (Λ − I)_+^½, ψ_j = S_jj − Σ_k W_jk², but at least ``least``, in turns (Rubin & Thayer,
    1982).
    """
    total = S.diagonal()
    drawn = 0.98 * S + 0.02 * torch.diag(total) + torch.diag(1e-6 * torch.ones_like(total))
    noise = torch.linalg.inv(drawn).diagonal().abs().reciprocal().minimum(total).maximum(least)
    for _ in range(100 if len(S) <= 200 else 10):
        root = noise.sqrt()
        values, U = torch.linalg.eigh(S / root[:, None] / root)
        values, U = values.flip(0)[:K], U.flip(1)[:, :K]
        W = root[:, None] * U * (values - 1).clamp_min(0).sqrt()
        noise = (total - W.square().sum(1)).maximum(least)
    V = W / noise.sqrt()[:, None]
    return W @ torch.linalg.eigh(V.T @ V)[1].flip(1), noise


def _pieces(size: int, x: Tensor, given: Tensor | None) -> Iterator[tuple[Tensor, Tensor | None]]:
    """Rows and their conditions, ``size`` at a time."""
    for i in range(0, len(x), size):
        yield x[i : i + size], None if given is None else given[i : i + size]


_ONE = math.log(math.e - 1)  # softplus(_ONE) = 1
