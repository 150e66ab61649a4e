r"""The variational autoencoder (Kingma & Welling, 2014; Rezende et al., 2014).

    z ~ p(z),    p(x | z) = observation(decoder(z)),    z = z(ε; x) ~ q(z | x),  ε ~ N(0, I)

    log p(x) ≥ ELBO(x)   = E_q[log p(x | z)] − KL[q(z | x) ‖ p(z)]       reconstruction − KL
                         = E_q[log p(x, z)] + H[q(z | x)]                energy + entropy
    log p(x) ≥ IWAE_k(x) = E log (1/k) Σ_i w_i,  w_i = p(x, z_i)/q(z_i | x)    (Burda et al., 2016)

The bound climbs by one of three gradients with regard to the parameters φ of q:

    reparameterised   ∇_φ through z(ε; x)
    score             E_q[(log p(x | z) − b) ∇_φ log q(z | x)], b a mean over the other rows
    dreg              E Σ_i w̃_i² ∇_z log w_i ∇_φ z_i, w̃ the normalised weights, of IWAE_k alone
                      (Tucker et al., 2019)

Priors are in ``priors.py``, posteriors in ``posteriors.py``, what VAEs share with plain
autoencoders in ``decoded.py``. Under conditions y it is p(x | z, y) and q(z | x, y), and z has the
same prior (Sohn et al., 2015). Missing cells drop out of p(x | z), and the encoder sees them at
their mean (Mattei & Frellsen, 2019), with an indicator a cell where the training rows have gaps.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from genus.density import DensityModel
from genus.distributions.observation import Observation, observe
from genus.distributions.points import by_blocks, log_mean_exp, row_normals
from genus.learn import processes
from genus.learn.rows import Rows
from genus.learn.trainer import Trainer
from genus.likelihood import LogProb, LowerBound
from genus.model import CapabilityError, on_rows, with_index
from genus.models.flows.families import RealNVP
from genus.models.latent import priors
from genus.models.latent.decoded import Decoded
from genus.models.latent.posteriors import (
    POSTERIORS,
    Parameters,
    Posterior,
    log_normal,
    posterior_of,
    raw_of,
)
from genus.models.latent.priors import PRIORS, Prior
from genus.networks.blueprints import MLP, Blueprint
from genus.networks.layers import output_layer
from genus.samplers.particles import enough, pick_several
from genus.settings import Instance, Number, OneOf, Rule, Whole
from genus.space import Space
from genus.typing import GivenLike, RandomState, RowsLike, available_if


def _has_kl_of_each(model: Any) -> bool:
    """Is KL a sum over latent dimensions?"""
    return model.posterior_family != "flow" and model.prior in ("normal", "gaussian")


QUARTER = -0.6744897501960817  # Φ of it is ¼


class VAE(Decoded):
    r"""A latent vector z decoded into p(x | z), with an amortised posterior q(z | x).

        z ~ p(z),    log p(x) ≥ E_q[log p(x | z)] − KL[q(z | x) ‖ p(z)]

    Parameters
    ----------
    latent_dim : int, default=16
        Size of z.
    encoder : blueprint or None, default=None
        Or a callable (in_shape, out_shape) -> nn.Module, with a context where there are
        conditions; None: an MLP of 2 × 256 units, 2 × 512 where rows have more than 256 cells.
    decoder : blueprint or None, default=None
        As ``encoder``.
    likelihood : str, default="auto"
        p(x | z) of each cell. ``auto``: by its kind. ``bernoulli`` of bits; ``categorical`` of
        words and levels; of ordered levels ``logistic``, ``logistic-mixture`` and
        ``beta-binomial``; ``continuous-bernoulli`` of levels, and of numbers from 0 to 1;
        ``gaussian`` of numbers, which gives a level its mass within ½ of it.
    variance : float, "shared" or None, default=None
        η > 0, of the Gaussian in squared units of the data; "shared": one for all cells, learned;
        None: learned, one a cell.
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
    prior : {"normal", "gaussian", "mixture", "vamp", "flow"} or a model, default="normal"
        p(z): N(0, I); or learned with the rest, a Gaussian of independent coordinates, a mixture
        of them, the mean of q(z | u) over learned pseudo-inputs u, a RealNVP; or a density of
        genus that learns by gradient, such as ``genus.MAF()``.
    prior_components : int, default=32
        Gaussians of ``mixture``, pseudo-inputs of ``vamp``.
    posterior_family : {"diagonal", "full", "flow"}, default="diagonal"
        q(z | x): a Gaussian with independent coordinates or with a full covariance; or such a
        Gaussian of independent coordinates bent by an inverse autoregressive flow.
    gradient : {"reparameterised", "score", "dreg"}, default="reparameterised"
        How the bound is climbed; ``dreg`` is for ``iwae``. The last two need a Gaussian posterior.
    free_bits : float, default=0.0
        λ ≥ 0 in nats: no gain where the KL of a latent dimension, in the mean over the batch, is
        below λ (Kingma et al., 2016). Where KL has no closed form: where all of it is below λ times
        ``latent_dim``. It depends on the batch, and no other term does.
    kl_warmup : float, default=0.0
        Share of the training, from 0 up to 1, over which the weight of KL rises from 0 to ``beta``
        (Bowman et al., 2016). Held-out rows are judged at ``beta``, and patience starts after it.
    n_logistics : int, default=5
        Components of ``logistic-mixture``.
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
        "variance": Number(above=0) | OneOf("shared") | None,
        "beta": Number(0),
        "bound": OneOf("elbo", "iwae"),
        "k_train": Whole(1),
        "k": Whole(1),
        "prior": OneOf(*PRIORS) | Instance(DensityModel, says="a density such as genus.RealNVP()"),
        "prior_components": Whole(1),
        "posterior_family": OneOf(*POSTERIORS),
        "gradient": OneOf("reparameterised", "score", "dreg"),
        "free_bits": Number(0, most=1e6),
        "kl_warmup": Number(0, below=1),
        "n_logistics": Whole(1, 100),
    }
    learned_by = "gradient of a bound"

    posterior_: Posterior
    prior_: Prior

    def __init__(
        self,
        latent_dim: int = 16,
        encoder: Blueprint | None = None,
        decoder: Blueprint | None = None,
        likelihood: str = "auto",
        variance: float | str | None = None,
        beta: float = 1.0,
        bound: str = "elbo",
        k_train: int = 8,
        k: int = 256,
        marginals: str | None = None,
        prior: str | DensityModel = "normal",
        prior_components: int = 32,
        posterior_family: str = "diagonal",
        gradient: str = "reparameterised",
        free_bits: float = 0.0,
        kl_warmup: float = 0.0,
        n_logistics: int = 5,
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
        self.prior = prior
        self.prior_components = prior_components
        self.posterior_family = posterior_family
        self.gradient = gradient
        self.free_bits = free_bits
        self.kl_warmup = kl_warmup
        self.n_logistics = n_logistics
        self.trainer = trainer
        self.random_state = random_state

    # ------------------------------------------------------------------ the model

    @on_rows
    def posterior(self, x: Tensor, given: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of each z_j under q(z | x), each (n, latent_dim).

        Of a flow: the image of the mean of the Gaussian that it bends, and that Gaussian's s.
        """
        return self.posterior_.moments(self._q(x, given))

    def _q(self, x: Tensor, given: Tensor | None = None) -> Parameters:
        """The parameters of q(z | x)."""
        return self.posterior_.parameters_of(self.code(x, given))

    def _p(self) -> Prior:
        """p(z); its components, where they are posteriors, as the encoder has them now."""
        if isinstance(self.prior_, priors.Vamp):
            q = self.posterior_.parameters_of(self.code_of(self.prior_.pseudo_))
            return self.prior_.at(self.posterior_, q)
        return self.prior_

    # ------------------------------------------------------------------ bounds

    def losses(self, x: Tensor, given: Tensor | None = None) -> Any:
        """−ELBO with the weight of KL and free bits, or −IWAE."""
        yield self, -self.objective(x, given)

    def objective(self, x: Tensor, given: Tensor | None = None) -> Tensor:
        """What training climbs, a mean over rows in nats."""
        beta = self.beta * self._warmth()
        q, p = self._q(x, given), self._p()
        if self.bound == "iwae":
            return self._iwae(x, q, p, given, beta).mean()
        z, log_q = self._drawn(q)
        kl = self._kl(q, p)
        log_likelihood = self.log_likelihood(z, x, given)
        if kl is None:
            sampled = log_q - p.log_prob(z)
            value = log_likelihood - beta * sampled
            free = sampled.mean().clamp_min(self.free_bits * self.latent_dim)
        else:
            value = log_likelihood - beta * kl.sum(1)
            free = kl.mean(0).clamp_min(self.free_bits).sum() if self.free_bits else kl
        signal = log_likelihood if kl is not None else value
        score = self._score(signal, log_q) if self.gradient == "score" else None
        if self.free_bits:
            climbed = log_likelihood.mean() - beta * free
        else:
            climbed = value.mean()
        return climbed if score is None else climbed + score.mean()

    def _warmth(self) -> Any:
        """The share of ``beta`` that counts now."""
        if not (self.kl_warmup and self.training):
            return 1.0
        return self.ramp(self.kl_warmup)

    @property
    def patience_from(self) -> float:
        """The share of the training before which patience does not count."""
        return self.kl_warmup

    def _drawn(self, q: Parameters, k: int | None = None) -> tuple[Tensor, Tensor]:
        """One z of every row, or k, and log q(z | x). Where q climbs by its score, z stands."""
        shape = q[0].shape if k is None else (k, *q[0].shape)
        e = torch.randn(*shape, generator=self.rng, device=q[0].device)
        if self.gradient == "reparameterised" or not torch.is_grad_enabled():
            return self.posterior_.draw(q, e)
        z = self.posterior_.draw(q, e)[0]
        if self.gradient == "score":
            z = z.detach()
            return z, self.posterior_.log_prob(q, z)
        still = tuple(t.detach() for t in q)
        return z, self.posterior_.log_prob(still, z)

    def _score(self, signal: Tensor, log_q: Tensor) -> Tensor:
        """What adds the score-function gradient, of value 0: (signal − b) ∇ log q, (n,)."""
        signal = signal.detach()
        n = processes.rows_of_batch(len(signal))
        total = n * processes.over_batch(signal.mean())
        others = (total - signal) / max(n - 1, 1)
        return (signal - others) * (log_q - log_q.detach())

    def _kl(self, q: Parameters, p: Prior) -> Tensor | None:
        """KL[q ‖ p] in parts that belong to latent dimensions, (n, latent_dim), or None."""
        normal = self.posterior_.gaussian(q)
        return None if normal is None else p.kl(*normal)

    def kl(self, m: Tensor, s: Tensor) -> Tensor:
        """KL[N(m, s²) ‖ p(z_j)] of each latent dimension; (n, latent_dim) nats.

        ½ (m² + s² − 1) − log s where p(z) is N(0, I).
        """
        out = self._p().kl(m, s.square(), torch.log(s))
        if out is None:
            raise CapabilityError(
                f"KL from prior={self.prior!r} has no closed form in each dimension: "
                "elbo_terms(X) has all of it by its draws"
            )
        return out

    @on_rows
    def elbo(self, x: Tensor, given: Tensor | None = None) -> Tensor:
        """E_q[log p(x | z)] − KL[q ‖ p] with one draw of z; (n,) nats."""
        q, p = self._q(x, given), self._p()
        z, log_q = self._drawn(q)
        kl = self._kl(q, p)
        reduced = log_q - p.log_prob(z) if kl is None else kl.sum(1)
        return self.log_likelihood(z, x, given) - reduced

    @on_rows
    def iwae(self, x: Tensor, given: Tensor | None = None) -> Tensor:
        """log (1/k) Σ_i p(x, z_i)/q(z_i | x) with k_train fresh draws; (n,) nats."""
        return self._iwae(x, self._q(x, given), self._p(), given, 1.0)

    def _iwae(
        self, x: Tensor, q: Parameters, p: Prior, given: Tensor | None, beta: float
    ) -> Tensor:
        z, log_q = self._drawn(q, self.k_train)
        log_ratio = p.log_prob(z) - log_q
        log_w = self.log_likelihood(z, x, given) + beta * log_ratio
        value = torch.logsumexp(log_w, 0) - math.log(self.k_train)
        if not torch.is_grad_enabled():
            return value
        if self.gradient == "score":
            value = value + self._score(value, log_q.sum(0))
        if self.gradient == "dreg" and z.requires_grad:
            # log w has the weight w̃ already, and only what comes by way of z has it twice
            w = torch.softmax(log_w.detach(), 0)[..., None]
            z.register_hook(lambda slope: slope * w.to(slope.dtype))
        return value

    def elbo_terms(
        self,
        X: RowsLike,
        *,
        given: GivenLike = None,
        draws: int = 1,
        random_state: RandomState = None,
    ) -> pd.DataFrame:
        """The ELBO of each row, in nats, term by term in both of its forms.

            elbo = reconstruction − kl = energy + entropy

        reconstruction: E_q[log p(x | z)]; kl: KL[q(z | x) ‖ p(z)]; energy: E_q[log p(x, z)], which
        is minus the expected energy of physics; entropy: H[q(z | x)]. KL and entropy are in closed
        form where there is one, the others a mean over ``draws`` of z. Returns a frame with a row
        for each of X.
        """
        Whole(1).check("draws", draws)
        x, conditions = self._enter(X, given)
        model = self._with_stream(random_state)

        def terms(some: Tensor, *g: Tensor) -> Tensor:
            return model._terms(some, draws, *g)

        columns = ["reconstruction", "kl", "energy", "entropy", "elbo"]
        values = self._chunked(terms, x, *conditions).double().numpy()
        return with_index(pd.DataFrame(values, columns=columns), X)

    def _terms(self, x: Tensor, draws: int, given: Tensor | None = None) -> Tensor:
        """reconstruction, kl, energy, entropy and their sum, (n, 5)."""
        q, p = self._q(x, given), self._p()
        total = torch.zeros(len(x), 3, dtype=torch.float64, device=x.device)
        for _ in range(draws):
            z, log_q = self._drawn(q)
            terms = [self.log_likelihood(z, x, given), log_q - p.log_prob(z), -log_q]
            total += torch.stack(terms, 1)
        reconstruction, kl, entropy = (total / draws).unbind(1)
        normal, exact = self.posterior_.gaussian(q), self._kl(q, p)
        if normal is not None:
            constant = 0.5 * self.latent_dim * (1 + math.log(2 * math.pi))
            entropy = normal[2].double().sum(1) + constant
        if exact is not None:
            kl = exact.double().sum(1)
        elbo = reconstruction - kl
        return torch.stack([reconstruction, kl, elbo - entropy, entropy, elbo], 1)

    def validate(self, x: Tensor, given: Tensor | None = None) -> Tensor:
        """−ELBO of held-out rows, its KL times ``beta``."""
        if self.beta == 1:
            return -self.elbo(x, given).mean()
        q, p = self._q(x, given), self._p()
        z, log_q = self._drawn(q)
        kl = self._kl(q, p)
        reduced = log_q - p.log_prob(z) if kl is None else kl.sum(1)
        return -(self.log_likelihood(z, x, given) - self.beta * reduced).mean()

    # ------------------------------------------------------------------ construction

    def code_size(self) -> int:
        return self.posterior_.code_size

    def build(self, space: Space) -> None:
        self._check_together()
        self.posterior_ = posterior_of(self.posterior_family, self.latent_dim, self.rng)
        super().build(space)
        self.prior_ = self._prior(space)

    def _check_together(self) -> None:
        """Raise ValueError where arguments do not go together."""
        family = self.posterior_family
        if self.gradient == "dreg" and self.bound != "iwae":
            raise ValueError("gradient='dreg' is for bound='iwae': pass that, or leave it out")
        if self.gradient != "reparameterised" and family == "flow":
            raise ValueError(
                f"gradient={self.gradient!r} needs log q at any z, which a flow has no quick way "
                "to: use posterior_family='full', or gradient='reparameterised'"
            )
        if self.free_bits and self.bound == "iwae":
            raise ValueError("free_bits is of the KL term: use bound='elbo', or free_bits=0")
        if self.prior == "vamp" and family == "flow":
            raise ValueError(
                "prior='vamp' needs log q at any z, which a flow has no quick way to: "
                "use posterior_family='full', or prior='flow'"
            )
        if self.prior == "vamp" and hasattr(self, "given_space_"):
            raise ValueError(
                "prior='vamp' takes no conditions, since q needs one for each pseudo-input: "
                "use prior='mixture' or 'flow'"
            )

    def _observe(self, space: Space) -> Observation:
        return observe(space, self.likelihood, self.variance, self._learned, self.n_logistics)

    def _prior(self, space: Space) -> Prior:
        """p(z) as ``prior`` says."""
        d, K = self.latent_dim, self.prior_components
        if self.prior == "normal":
            return priors.Normal(d)
        if self.prior == "gaussian":
            return priors.Gaussian(d)
        if self.prior == "mixture":
            return priors.Mixture(d, K, self.rng)
        if self.prior == "vamp":
            return priors.Vamp(d, K, self.features_.shape)
        own = RealNVP(4, MLP(64, 1, "silu")) if self.prior == "flow" else self.prior
        if not hasattr(own, "losses"):
            raise ValueError(
                f"prior={own!r} does not learn by gradient, and z moves while it learns: "
                "use a flow, or prior='mixture'"
            )
        return priors.Density(d, self.part(own, Space((d,), "continuous")))  # type: ignore[arg-type]

    @torch.no_grad()
    def start(self, rows: Rows) -> None:
        super().start(rows)
        if isinstance(self.prior_, priors.Vamp):
            x = rows.look(65536, self.rng)[0]
            K = len(self.prior_.pseudo_)
            some = torch.randperm(len(x), generator=self.rng, device=self.rng.device)
            again = some.repeat(1 + K // len(x))[:K]
            self.prior_.pseudo_.copy_(self.features(x[again.to(x.device)]))

    def start_spread(self, s: Tensor) -> None:
        d = self.latent_dim
        spread = s.new_ones(d)
        spread[: len(s)] = s
        last = output_layer(self.encoder_)
        if last is not None and last.bias is not None and last.bias.shape == (self.code_size(),):
            last.bias[d : 2 * d] = raw_of(spread).float()

    # ------------------------------------------------------------------ likelihood and draws

    def _points(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """k normals e of each row, (k, n, latent_dim), and log of their density over N(e | 0, I).

        A quarter of them is wider, e ~ ¾ N(0, I) + ¼ N(0, c² I) with c = 1 + 1/√latent_dim: where
        q is narrower than the posterior, its own draws seldom see what it leaves out, and an error
        that is estimated from them is too small. Fewer than 8 points are all of q.
        """
        k, d = self.k, self.latent_dim
        if k < 8:
            return row_normals(x, k, d).transpose(0, 1), torch.zeros((), device=x.device)
        e, pick = row_normals(x, k, d + 1).transpose(0, 1).split([d, 1], -1)
        c = 1 + 1 / math.sqrt(d)
        e = torch.where(pick < QUARTER, c * e, e)
        wider = 0.25 / c**d * torch.exp(0.5 * (1 - c**-2) * e.square().sum(-1))
        return e, torch.log(0.75 + wider)

    def _log_weights(
        self, x: Tensor, q: Parameters, e: Tensor, given: Tensor | None = None
    ) -> Tensor:
        """log p(x, z)/q(z | x) at z drawn by way of e; (k, n)."""
        z, log_q = self.posterior_.draw(q, e)
        return self.log_likelihood(z, x, given) + self._p().log_prob(z) - log_q

    def _resampled(
        self, x: Tensor, given: Tensor | None, rng: torch.Generator, proposals: int, n: int
    ) -> Tensor:
        """n times z of every row, (n, rows, latent_dim).

        They are drawn from ``proposals`` by their weights p(observed, z)/r(z),
        r = ½ q + ¼ N(m, 1) + ¼ prior: where q lies beside the posterior, the others may not.
        """
        q, p = self._q(x, given), self._p()
        m = self.posterior_.moments(q)[0]
        half, rest = proposals // 2, proposals - proposals // 2
        e = torch.randn(proposals, *m.shape, generator=rng, device=m.device)
        own = self.posterior_.draw(q, e[:half])[0]
        wide = m + e[half : half + rest // 2]
        far = e[half + rest // 2 :]
        if not isinstance(p, priors.Normal):
            far = p.sample(len(far) * len(m), rng).reshape(far.shape)
        z = torch.cat([own, wide, far])
        log_p = p.log_prob(z)
        others = torch.logaddexp(log_normal(z - m), log_p) - math.log(2)
        log_r = torch.logaddexp(self.posterior_.log_prob(q, z), others)
        log_w = self._log_likelihood(z, x.flatten(1), given) + log_p - log_r
        return z.transpose(0, 1).flatten(0, 1)[pick_several(log_w.T, n, rng)]

    def _log_joint(self, z: Tensor, cells: Tensor, given: Tensor | None) -> Tensor:
        """log p(observed cells, z), (n,)."""
        return self._log_likelihood(z, cells, given) + self._p().log_prob(z)

    # ------------------------------------------------------------------ what the latent space holds

    def sample_latent(self, n: int = 1, *, random_state: RandomState = None) -> np.ndarray:
        """n draws of z from the prior, (n, latent_dim)."""
        self._check_fitted()
        Whole(1).check("n", n)
        with torch.no_grad():
            return self._p().sample(int(n), self._stream(random_state)).cpu().numpy()

    def log_prior(self, Z: Any) -> np.ndarray:
        """log p(z) of latent rows (n, latent_dim), in nats, (n,)."""
        self._check_fitted()
        like = self.features_.shift_
        z = torch.as_tensor(np.asarray(Z), dtype=like.dtype, device=like.device)
        return self._chunked(lambda some: self._p().log_prob(some), z).numpy()

    @available_if(_has_kl_of_each)
    def kl_per_dimension(self, X: Any, *, given: Any = None) -> np.ndarray:
        """Mean KL[q(z_j | x) ‖ p(z_j)] of every latent dimension, in nats; near 0: unused.

        There where q and p are Gaussian; else ``elbo_terms`` has KL of all dimensions together.
        """
        x, conditions = self._enter(X, given)

        def kl(some: Tensor, *g: Tensor) -> Tensor:
            each: Any = self._kl(self._q(some, *g), self._p())
            return each

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
            e, log_more = self._points(c)
            c = self._read(c.flatten(1)) if self._learned else c
            w = self._log_weights(c, self._q(c, g), e, g) - log_more
            value, _, ess = log_mean_exp(w, 0)
            values.append((value, by_blocks(w.T), ess))
        value, stderr, ess = (torch.cat(v) for v in zip(*values, strict=True))
        return LowerBound(value, stderr, detail={"k": self.k, "ess": float(ess.mean())})

    def _sample(self, n: int, rng: torch.Generator, given: Tensor | None = None) -> Tensor:
        z = self._p().sample(n, rng)
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
            q = self._q(self._shaped(filled), given)
            new = self.posterior_.draw(q, torch.randn(z.shape, generator=rng, device=z.device))[0]
            after, before = (
                self._log_joint(v, filled, given) - self.posterior_.log_prob(q, v) for v in (new, z)
            )
            accept = torch.log(torch.rand(len(z), generator=rng, device=z.device)) < after - before
            z = torch.where(accept[:, None], new, z)
            # and a small step from z, for where q lies beside p(z | observed)
            new = z + walk * torch.randn(z.shape, generator=rng, device=z.device)
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


def _pieces(size: int, x: Tensor, given: Tensor | None) -> Iterator[tuple[Tensor, Tensor | None]]:
    """Rows and their conditions, ``size`` at a time."""
    for i in range(0, len(x), size):
        yield x[i : i + size], None if given is None else given[i : i + size]
