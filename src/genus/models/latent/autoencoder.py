"""The autoencoder: a code z of every row, and no probability of it (Rumelhart et al., 1986).

    z = encoder(x̃),    loss(x) = −log p(x | z),    p(x | z) = observation(decoder(z))

x̃ is x, or x with some cells hidden, which the code must then tell from the others: a denoising
autoencoder (Vincent et al., 2008). What a VAE has besides, KL[q(z | x) ‖ p(z)], is what says how
probable a code is. Without it there is no log p(x), and no draw either. A density that is learned
of the codes afterwards gives draws.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor

from genus.density import DensityModel
from genus.distributions.observation import Observation, observe
from genus.learn.fit import Fit
from genus.learn.rows import Rows, generator
from genus.learn.trainer import BASE, Trainer
from genus.model import CapabilityError, Model
from genus.models.latent.decoded import Decoded
from genus.networks.blueprints import Blueprint
from genus.settings import Instance, Number, OneOf, Rule, Whole
from genus.space import Space
from genus.typing import available_if

CODES = 1 << 16  # rows of which the density of codes is learned, at most


class NoLikelihood(CapabilityError, AttributeError):
    """A verb that a model has not, and why."""


WHY = (
    "Autoencoder has no {}: its codes have no distribution, and so its rows have no probability. "
    "Use VAE for a bound on log p(x), or reconstruction(X) for how well rows come back"
)


def _never(model: Any) -> bool:
    return False


class Autoencoder(Decoded):
    r"""A code z of every row, from which the row is decoded; no prior, and so no likelihood.

        z = encoder(x),    loss = −log p(x | z),    p(x | z) = observation(decoder(z))

    It stands beside :class:`genus.VAE` on the same networks. It has no ``log_prob``, which says
    why where it is asked for.

    Parameters
    ----------
    latent_dim : int, default=16
        Size of z.
    encoder : blueprint or None, default=None
        See :class:`genus.VAE`.
    decoder : blueprint or None, default=None
        See :class:`genus.VAE`.
    likelihood : str, default="auto"
        p(x | z), see :class:`genus.VAE`.
    variance : float, "shared" or None, default=None
        Of the Gaussian, see :class:`genus.VAE`.
    corruption : float, default=0.0
        Share of the cells, from 0 up to 1, that are hidden from the encoder while it learns.
    density : a density of genus or None, default=None
        Learned of the codes once they are, so that rows can be drawn: for example
        ``genus.GaussianMixture(10)`` or ``genus.RealNVP()``. None: ``sample`` is refused.
    marginals : {"learned", "affine"} or None, default=None
        How numbers are observed, see :class:`genus.VAE`.
    n_logistics : int, default=5
        Components of ``logistic-mixture``.
    trainer : Trainer or None, default=None
        How the gradient is descended; None: this model's own settings.
    random_state : int, generator or None, default=None
        An int, or a numpy generator; None: fresh at every fit.

    Raises
    ------
    CapabilityError
        By ``log_prob``, ``score`` and ``score_samples``; by ``sample`` without a density.

    Examples
    --------
    >>> import genus
    >>> data = genus.data.load("digits")
    >>> few = genus.Trainer(epochs=1)
    >>> model = genus.Autoencoder(2, density=genus.Gaussian(), trainer=few, random_state=0)
    >>> model.fit(data.train).sample(3).shape, hasattr(model, "log_prob")
    ((3, 8, 8), False)
    """

    arguments: ClassVar[dict[str, Rule]] = {
        "variance": Number(above=0) | OneOf("shared") | None,
        "corruption": Number(0, below=1),
        "density": Instance(DensityModel, says="a density such as genus.GaussianMixture(10)")
        | None,
        "n_logistics": Whole(1, 100),
    }
    by_default = False  # compare() goes by likelihoods
    learned_by = "gradient of reconstructions"
    density_: DensityModel

    def __init__(
        self,
        latent_dim: int = 16,
        encoder: Blueprint | None = None,
        decoder: Blueprint | None = None,
        likelihood: str = "auto",
        variance: float | str | None = None,
        corruption: float = 0.0,
        density: DensityModel | None = None,
        marginals: str | None = None,
        n_logistics: int = 5,
        trainer: Trainer | None = None,
        random_state: Any = None,
    ) -> None:
        self.latent_dim = latent_dim
        self.encoder = encoder
        self.decoder = decoder
        self.likelihood = likelihood
        self.variance = variance
        self.corruption = corruption
        self.density = density
        self.marginals = marginals
        self.n_logistics = n_logistics
        self.trainer = trainer
        self.random_state = random_state

    log_prob = available_if(_never)(Model.log_prob)
    score = available_if(_never)(Model.score)
    score_samples = available_if(_never)(Model.score_samples)

    def __getattr__(self, name: str) -> Any:
        if name in ("log_prob", "score", "score_samples"):
            raise NoLikelihood(WHY.format(name))
        return super().__getattr__(name)

    # ------------------------------------------------------------------ the model

    def losses(self, x: Tensor, given: Tensor | None = None) -> Any:
        """−log p(x | z), with z of what the encoder is shown."""
        yield self, self._loss(x, *self._corrupted(x), given)

    def validate(self, x: Tensor, given: Tensor | None = None) -> Tensor:
        """The same of held-out rows, of which nothing is hidden."""
        return self._loss(x, self.features(x), self._gap(x), given)

    def _loss(self, x: Tensor, h: Tensor, gap: Tensor, given: Tensor | None) -> Tensor:
        return -self.log_likelihood(self.code_of(h, given, gap), x, given).mean()

    def _corrupted(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Features of rows of which some cells are hidden, as missing ones are, and which are."""
        h, gap = self.features(x), self._gap(x)
        if not self.corruption:
            return h, gap
        drawn = torch.rand(len(x), self.space_.dim, generator=self.rng, device=x.device)
        hidden = drawn < self.corruption
        gap = gap | hidden
        if self._learned:
            hidden = hidden[:, self.observation_.places]
        nothing = self.features_.shift_ if self.features_.bits else h.new_zeros(())
        cells = torch.where(hidden, nothing, h.flatten(1))
        return cells.reshape(h.shape), gap

    def reconstruction(self, X: Any, *, given: Any = None) -> Any:
        """log p(x | z) of each row by its own code, (n,) nats; no likelihood of the row."""
        x, conditions = self._enter(X, given)

        def log_p(some: Tensor, *g: Tensor) -> Tensor:
            return self.log_likelihood(self._encode(some, *g), some, *g)

        return self._chunked(log_p, x, *conditions).numpy()

    # ------------------------------------------------------------------ construction

    def build(self, space: Space) -> None:
        super().build(space)
        if self.density is not None:
            part: Any = self.part(self.density, Space((self.latent_dim,), "continuous"))
            self.density_ = part

    def _observe(self, space: Space) -> Observation:
        return observe(space, self.likelihood, self.variance, self._learned, self.n_logistics)

    def learn(self, fit: Fit) -> None:
        """The networks first, then the density of the codes."""
        super().learn(fit)
        if self.density is not None:
            self._learn_density(fit.rows)

    def _learn_density(self, rows: Rows) -> None:
        """Fit the density to the codes of rows, at most ``CODES`` of them."""
        self.eval()
        pieces = []
        with torch.no_grad():
            for batch in rows.chunks(4096, self.rng):
                pieces.append(self._encode(*batch))
                if 4096 * len(pieces) >= CODES:
                    break
        own, codes = self.density_, torch.cat(pieces)
        own.rng, own._seed = generator(self._seed, codes.device), self._seed
        trainer = own._trainer().over(own.defaults(len(codes)), BASE)
        kept, held = Rows(codes).split(trainer.validation or 0.0, self._seed)
        own.prepare(kept)
        own.learn(Fit(kept, held, trainer, self._seed))
        own.eval()
        own.__dict__.pop("spent", None)

    # ------------------------------------------------------------------ hooks

    def _encode(self, x: Tensor, given: Tensor | None = None) -> Tensor:
        return self.code(x, given)

    def _sample(self, n: int, rng: torch.Generator, given: Tensor | None = None) -> Tensor:
        if self.density is None:
            raise CapabilityError(
                "an Autoencoder has no distribution of codes to draw from: pass density=, such as "
                "genus.GaussianMixture(10), or use genus.VAE"
            )
        z = self.density_.draw(n, rng).to(self.features_.shift_.dtype)
        drawn = [
            self.observation_.sample(self.parameters_of(z[i : i + 1024], *_some(given, i)), rng)
            for i in range(0, n, 1024)
        ]
        return self._shaped(torch.cat(drawn))


def _some(given: Tensor | None, i: int) -> tuple[Tensor, ...]:
    """The conditions of 1,024 rows from row i on; () without."""
    return () if given is None else (given[i : i + 1024],)
