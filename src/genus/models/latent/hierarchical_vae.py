"""A ladder of latent vectors (Sønderby et al., 2016; Vahdat & Kautz, 2020; Child, 2021).

    p(z) = N(z_L | 0-th state) Π_l N(z_l | μ_l(z_>l), σ_l(z_>l)²)
    q(z_l | z_>l, x) = N(μ_l + σ_l m_l, (σ_l s_l)²),    m_l, s_l of the states of both paths
    log p(x) ≥ E_q[log p(x | z)] − Σ_l E_q KL_l,        KL_l = Σ ½ (m_l² + s_l² − 1) − log s_l

The way down is one for q and for p (``networks/ladder.py``). All else is written in
u_l = (z_l − μ_l)/σ_l, which under p is standard normal: the model is a VAE with prior N(0, I) whose
posterior is a chain of Gaussians.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from genus.learn.trainer import Trainer
from genus.model import on_rows
from genus.models.latent import priors
from genus.models.latent.decoded import Decoded
from genus.models.latent.posteriors import Parameters, Posterior, log_normal
from genus.models.latent.vae import VAE
from genus.networks.ladder import SMALL, Apart, Downward, Upward, scale
from genus.networks.layers import initialise
from genus.settings import Each, Number, Rule, Whole
from genus.space import Space


class HierarchicalVAE(VAE):
    r"""Latent vectors z_1 … z_L in a ladder: each is drawn given those above, the row given all.

        z_L → … → z_1 → x
        log p(x) ≥ E_q[log p(x | z)] − Σ_l E_q KL[q(z_l | z_>l, x) ‖ p(z_l | z_>l)]

    ``encode`` and ``decode`` speak of u, z in units of its own prior, all layers side by side, z_1
    first: u is standard normal under the model.

    Parameters
    ----------
    latent_dims : sequence of ints, default=(32, 16)
        Sizes of z_1, next to the row, to z_L.
    width : int or None, default=None
        Units of both paths; None: 256, or 512 where rows have more than 256 cells.
    depth : int, default=1
        Residual blocks between two latent vectors.
    likelihood : str, default="auto"
        p(x | z) of each cell, as in ``VAE``.
    variance : float, "shared" or None, default=None
        Of the Gaussian, as in ``VAE``.
    beta : float, default=1.0
        Weight of the KL terms in training; the likelihood reported is that of the model.
    free_bits : float, default=0.0
        λ ≥ 0 in nats: no gain where the KL of a layer, in the mean over the batch, is below λ. It
        depends on the batch, and no other term does.
    kl_warmup : float, default=0.1
        Share of the training, from 0 up to 1, over which the weight of KL rises from 0 to ``beta``.
        Held-out rows are judged at ``beta``, and patience starts after it.
    k : int, default=256
        Importance samples of ``log_prob``, a ``LowerBound`` in nats.
    marginals : {"learned", "affine"} or None, default=None
        How numbers are observed, as in ``VAE``.
    trainer : Trainer or None, default=None
        How the gradient is descended; None: this model's own settings, with gradients clipped at
        200.
    random_state : int, generator or None, default=None
        An int, or a numpy generator; None: fresh at every fit.

    Examples
    --------
    >>> import genus
    >>> data = genus.data.load("digits")
    >>> few = genus.Trainer(epochs=1)
    >>> model = genus.HierarchicalVAE((8, 2), 32, k=16, trainer=few, random_state=0)
    >>> model.fit(data.train).kl_per_layer(data.test).shape
    (2,)
    """

    arguments: ClassVar[dict[str, Rule]] = {
        "latent_dims": Each(Whole(1), says="a list of sizes"),
        "width": Whole(1, 1 << 20) | None,
        "depth": Whole(1, 1000),
        "free_bits": Number(0, most=1e6),
    }
    prior = "normal"
    posterior_family = "diagonal"
    gradient = "reparameterised"
    bound = "elbo"
    k_train = 1
    prior_components = 1
    n_logistics = 5

    posterior_: Chain
    decoder_: Downward

    def __init__(
        self,
        latent_dims: tuple[int, ...] = (32, 16),
        width: int | None = None,
        depth: int = 1,
        likelihood: str = "auto",
        variance: float | str | None = None,
        beta: float = 1.0,
        free_bits: float = 0.0,
        kl_warmup: float = 0.1,
        k: int = 256,
        marginals: str | None = None,
        trainer: Trainer | None = None,
        random_state: Any = None,
    ) -> None:
        self.latent_dims = latent_dims
        self.width = width
        self.depth = depth
        self.likelihood = likelihood
        self.variance = variance
        self.beta = beta
        self.free_bits = free_bits
        self.kl_warmup = kl_warmup
        self.k = k
        self.marginals = marginals
        self.trainer = trainer
        self.random_state = random_state

    @property
    def latent_dim(self) -> int:  # type: ignore[override]
        """The dimensions of all layers together."""
        return sum(int(k) for k in self.latent_dims)

    # ------------------------------------------------------------------ the model

    def objective(self, x: Tensor, given: Tensor | None = None) -> Tensor:
        """E_q[log p(x | z)] − β Σ_l KL_l with one draw of z, a mean over rows in nats."""
        log_likelihood, kl = self._terms_of(x, given)
        layers = torch.stack([part.sum(1) for part in kl.split(self._dims, 1)], 1)
        spent = layers.mean(0).clamp_min(self.free_bits).sum()
        return log_likelihood.mean() - self.beta * self._warmth() * spent

    @on_rows
    def elbo(self, x: Tensor, given: Tensor | None = None) -> Tensor:
        """E_q[log p(x | z)] − Σ_l KL_l with one draw of z; (n,) nats."""
        log_likelihood, kl = self._terms_of(x, given)
        return log_likelihood - kl.sum(1)

    def _terms_of(self, x: Tensor, given: Tensor | None) -> tuple[Tensor, Tensor]:
        """log p(x | z) at one draw of q, (n,), and KL of every coordinate given those above."""
        q = self._q(x, given)
        e = torch.randn(q[0].shape, generator=self.rng, device=q[0].device)
        u, m, s, d = self.posterior_.down(q, e)
        kl = 0.5 * (m.square() + s.square() - 1) - torch.log(s)
        return self._log_p(self._parameters_at(d, u), x.flatten(1)), kl

    def _log_weights(
        self, x: Tensor, q: Parameters, e: Tensor, given: Tensor | None = None
    ) -> Tensor:
        u, _, s, d = self.posterior_.down(q, e)
        log_ratio = log_normal(u) - log_normal(e) + torch.log(s).sum(-1)
        return self._log_p(self._parameters_at(d, u), x.flatten(1)) + log_ratio

    def _parameters_at(self, d: Tensor, u: Tensor) -> Tensor:
        """The observation's parameters at the last state d of the way down, (..., n_out)."""
        out = self.decoder_.out(d).float()
        image = out.flatten(0, u.dim() - 2)
        p = self.output_(image).reshape(*u.shape[:-1], -1)
        return p if self.line_ is None else p + self.line_.expand(u)

    def _q(self, x: Tensor, given: Tensor | None = None) -> Parameters:
        code = super()._q(x, given)
        return (*code, *self._context(given))

    def validate(self, x: Tensor, given: Tensor | None = None) -> Tensor:
        """−ELBO of held-out rows, its KL times ``beta``."""
        log_likelihood, kl = self._terms_of(x, given)
        return -(log_likelihood - self.beta * kl.sum(1)).mean()

    # ------------------------------------------------------------------ construction

    @property
    def _dims(self) -> list[int]:
        return [int(k) for k in self.latent_dims]

    @property
    def encoder(self) -> Callable[..., nn.Module]:  # type: ignore[override]
        """The way up."""

        def up(in_shape: Any, out_shape: Any, context: int = 0) -> nn.Module:
            return Upward(in_shape, self._dims, self._width, self.depth, context)

        return up

    @property
    def decoder(self) -> Callable[..., nn.Module]:  # type: ignore[override]
        """The way down."""

        def down(in_shape: Any, out_shape: Any, context: int = 0) -> nn.Module:
            return Downward(self._dims, out_shape, self._width, self.depth, context)

        return down

    def build(self, space: Space) -> None:
        if not self._dims:
            raise ValueError("latent_dims=() is no layer: pass sizes, as (32, 16)")
        self._width = self.width or (512 if space.dim > 256 else 256)
        self.posterior_ = Chain(self._dims, self._width)
        initialise(self.posterior_, self.rng)
        Decoded.build(self, space)
        self.posterior_.ladder = (self.decoder_,)
        self.prior_ = priors.Normal(self.latent_dim)
        with torch.no_grad():
            for head in self.posterior_.heads:
                head.last.weight.mul_(SMALL)  # type: ignore[operator, union-attr]

    def start_spread(self, s: Tensor) -> None:
        """Not set: each layer says its own."""

    def defaults(self, n: int) -> Trainer:
        return super().defaults(n).replace(grad_clip=200.0)

    # ------------------------------------------------------------------ what the layers hold

    def kl_per_dimension(self, X: Any, *, given: Any = None) -> np.ndarray:
        """Mean KL of every latent coordinate given those above, in nats; near 0: unused."""
        x, conditions = self._enter(X, given)
        model = self._with_stream(0)

        def kl(some: Tensor, *g: Tensor) -> Tensor:
            return model._terms_of(some, *g or (None,))[1]

        return self._chunked(kl, x, *conditions).mean(0).numpy()

    def kl_per_layer(self, X: Any, *, given: Any = None) -> np.ndarray:
        """Mean KL[q(z_l | z_>l, x) ‖ p(z_l | z_>l)] of z_1 to z_L, in nats, (L,)."""
        each = self.kl_per_dimension(X, given=given)
        ends = np.cumsum(self._dims)[:-1]
        return np.array([part.sum() for part in np.split(each, ends)])


class Chain(Posterior):
    """q(u | x) = Π_l N(u_l | m_l(u_>l, x), s_l(u_>l, x)²) along the way down of a model.

    Its parameters are a place of u, (n, K), the states e_1 … e_L of the way up, and the context.
    """

    ladder: tuple[Downward]  # no part of this one

    def __init__(self, dims: Sequence[int], width: int) -> None:
        super().__init__(sum(dims))
        self.dims, self.width = [int(k) for k in dims], int(width)
        self.heads = nn.ModuleList(Apart(k, width) for k in dims)

    @property
    def code_size(self) -> int:
        return self.latent_dim + len(self.dims) * self.width

    def parameters_of(self, code: Tensor) -> Parameters:
        place, states = code.split([self.latent_dim, code.shape[1] - self.latent_dim], 1)
        return place, states

    def down(
        self, q: Parameters, e: Tensor | None, u: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """u, m, s and the last state along the way down, by noise e (..., n, K) or through u."""
        (ladder,) = self.ladder
        places = q[0].split(self.dims, -1)
        states = q[1].split(self.width, -1)
        noise = (e if u is None else u).split(self.dims, -1)  # type: ignore[union-attr]
        d = ladder.top(q[2] if len(q) > 2 else None)
        found: list[tuple[Tensor, Tensor, Tensor]] = []
        for layer in reversed(range(len(self.dims))):
            m, raw = self.heads[layer](d, states[layer])
            m, s = (places[layer] + m).float(), scale(raw.float())
            here = m + s * noise[layer] if u is None else noise[layer]
            d = ladder.step(layer, d, here)
            found.append((here, m.expand_as(here), s.expand_as(here)))
        us, ms, ss = (torch.cat(parts, -1) for parts in zip(*reversed(found), strict=True))
        return us, ms, ss, d

    def moments(self, q: Parameters) -> tuple[Tensor, Tensor]:
        """The way down without noise: where it leads, and s on it."""
        u, _, s, _ = self.down(q, torch.zeros_like(q[0]))
        return u, s

    def gaussian(self, q: Parameters) -> None:
        return None

    def draw(self, q: Parameters, e: Tensor) -> tuple[Tensor, Tensor]:
        u, _, s, _ = self.down(q, e)
        return u, log_normal(e) - torch.log(s).sum(-1)

    def log_prob(self, q: Parameters, z: Tensor) -> Tensor:
        _, m, s, _ = self.down(q, None, z)
        return log_normal((z - m) / s) - torch.log(s).sum(-1)
