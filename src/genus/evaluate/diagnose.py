"""What went right and wrong in a latent-variable model, measured on rows and said in words.

    log p(x) − ELBO(x) = KL[q*(z | x) ‖ p(z | x)]  +  (ELBO of q* − ELBO of q)
                         approximation gap            amortisation gap

q* is q(z | x) refined on its own row (Cremer, Li & Duvenaud, 2018). With q(z) the average of the
q(z | x_i), the aggregated posterior (Hoffman & Johnson, 2016; Chen et al., 2018):

    mean KL[q(z | x) ‖ p(z)] = I(x; z) + KL[q(z) ‖ Π_l q(z_l)] + E_q(z) log Π_l q(z_l)/p(z)
                               mutual     total correlation      dimension-wise KL
                               information
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from genus.coding import as_frame
from genus.distributions.points import log_mean_exp
from genus.evaluate.latents import Latents, latents_of
from genus.learn.rows import generator
from genus.model import seed_of
from genus.samplers.annealing import anneal
from genus.samplers.chains import hmc
from genus.settings import Whole
from genus.space import has_parts, unwrap

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DRAWS = 8  # of z, a row
ACTIVE = 0.01  # variance of a dimension's mean above which it is in use
TOLD = 0.05  # nats that a dimension tells of a row, below which it is not
HOLE = 0.05  # q(z)/p(z) below which the prior draws what the decoder never saw
FEW = 10  # of the prior's 2,000 draws: what holds fewer is no hole, but a tail
RARE = 0.01  # of a model's own draws, the least and the most probable


@dataclass(frozen=True, repr=False)
class Diagnosis:
    """What :func:`genus.diagnose` found; it prints as words, and ``figure()`` draws it.

    Attributes
    ----------
    n, latent_dim, active
        Rows looked at; dimensions of z; how many of them are in use.
    told
        (latent_dim,) nats that each dimension tells of a row.
    information, total_correlation, dimension_wise, kl
        The three parts of the mean KL[q(z | x) ‖ p(z)], and their sum, in nats.
    divergence
        (low, high): KL[q(z) ‖ p(z)] with each row left out of its own average, and with it.
    holes, hole_places
        The share of the prior, in the plane of ``plane``, that no row comes near; where.
    elbo, refined, log_p
        Mean bound in nats of q, of q refined row by row, and log p(x) by annealing or NaN.
    amortisation, approximation
        Pairs of the gaps in nats and their standard errors; NaN where not measured.
    coverage
        The share of cells inside the central 50 % and 90 % of their reconstructions.
    ranks
        The ranks, from 0 to 1, of cells among draws of their own reconstruction.
    surprise
        (n,) the share of the model's own draws that are less probable than each row.
    strange
        Places of the rows of X that are less probable than nearly all of the model's own draws.
    """

    name: str
    n: int
    latent_dim: int
    active: int
    told: np.ndarray
    information: float
    total_correlation: float
    dimension_wise: float
    divergence: tuple[float, float]
    plane: tuple[int, ...]
    points: np.ndarray
    prior_points: np.ndarray
    holes: float
    hole_places: np.ndarray
    elbo: float
    refined: float
    log_p: float
    amortisation: tuple[float, float]
    approximation: tuple[float, float]
    coverage: tuple[float, float]
    ranks: np.ndarray
    surprise: np.ndarray
    own_scores: np.ndarray
    scores: np.ndarray
    strange: np.ndarray
    layers: tuple[float, ...] = field(default=())

    @property
    def kl(self) -> float:
        """Mean KL[q(z | x) ‖ p(z)], in nats."""
        return self.information + self.total_correlation + self.dimension_wise

    @property
    def collapsed(self) -> str:
        """Posterior collapse: ``whole``, ``partial`` or ``none``."""
        if self.active == 0 or self.information < TOLD:
            return "whole"
        return "partial" if self.active <= self.latent_dim / 2 else "none"

    @property
    def advice(self) -> list[str]:
        """What is worth trying, one sentence each."""
        said = []
        if self.collapsed == "whole":
            said.append(
                "The decoder does without z: try free bits, a KL term that is warmed up, a decoder "
                "with fewer layers, or beta below 1."
            )
        elif self.collapsed == "partial":
            said.append(
                "Unused dimensions cost nothing; if more should be used, try free bits, a warm-up "
                f"or beta below 1, else latent_dim={max(self.active, 1)} does."
            )
        if self.divergence[0] > 1:
            said.append(
                "The prior is not where the rows are, so that samples are worse than "
                "reconstructions: try a learned prior (a mixture, VampPrior or a flow)."
            )
        if self.amortisation[0] > max(1.0, 3 * self.amortisation[1]):
            said.append(
                "The encoder misses the best q of its family: widen it, train for longer, or bring "
                "beta nearer to 1."
            )
        if self.approximation[0] > max(2.0, 3 * self.approximation[1]):
            said.append(
                "The posterior's family is too narrow: try a full covariance, a flow, or more "
                "importance samples."
            )
        if self.coverage[1] < 0.8:
            said.append(
                "Reconstructions are too sure of themselves: learn the variance, or choose a "
                "likelihood that suits the cells."
            )
        return said

    def __str__(self) -> str:
        low, high = self.divergence
        lines = [
            f"{self.name} on {self.n} rows",
            f"latent dimensions: {self.active} of {self.latent_dim} in use; "
            f"posterior collapse: {self.collapsed}",
            f"KL {self.kl:.2f} nats a row = mutual information {self.information:.2f} "
            f"+ total correlation {self.total_correlation:.2f} "
            f"+ dimension-wise {self.dimension_wise:.2f}",
            f"aggregated posterior against prior: KL between {low:.2f} and {high:.2f} nats; "
            f"{self.holes:.0%} of the prior's plane is empty",
            f"bound: {self.elbo:.2f} nats a row",
        ]
        if self.layers:
            each = ", ".join(f"{v:.2f}" for v in self.layers)
            lines.append(f"KL a layer, from the top: {each} nats")
        if self.information > math.log(self.n) - 1:
            lines.append(
                f"  (no more than log n = {math.log(self.n):.2f} nats of information can be seen "
                "in n rows: pass more)"
            )
        if not math.isnan(self.amortisation[0]):
            gap, error = self.amortisation
            lines.append(f"amortisation gap: {gap:.2f} ± {error:.2f} nats")
        if not math.isnan(self.approximation[0]):
            gap, error = self.approximation
            which = "inference" if math.isnan(self.amortisation[0]) else "approximation"
            lines.append(
                f"{which} gap: {gap:.2f} ± {error:.2f} nats "
                f"(log p(x) of its rows by annealing: {self.log_p:.2f})"
            )
        half, most = self.coverage
        lines.append(
            f"reconstructions: {half:.0%} of the cells in their central 50 %, {most:.0%} in 90 %"
        )
        shown = ", ".join(map(str, self.strange[:8].tolist()))
        more = " …" if len(self.strange) > 8 else ""
        rows = f": rows {shown}{more}" if len(self.strange) else ""
        lines.append(
            f"rows that do not belong: {len(self.strange)} "
            f"(the model expects {RARE * self.n:.0f} so improbable){rows}"
        )
        lines += [f"→ {sentence}" for sentence in self.advice]
        return "\n".join(lines)

    __repr__ = __str__

    def figure(self) -> Figure:
        """The aggregated posterior, use of the dimensions, calibration and scores, as a figure."""
        from genus.report.latents import diagnosis

        return diagnosis(self)


def diagnose(
    model: Any,
    X: Any,
    *,
    given: Any = None,
    n: int = 500,
    ais: int = 0,
    random_state: Any = 0,
) -> Diagnosis:
    """Say what went right and wrong in a latent-variable model, by rows it has not seen.

    Collapse: a dimension is in use where the variance of its mean over rows exceeds 0.01 (Burda et
    al., 2016) and it tells more than 0.05 nats of the row. Holes: where the average of q(z | x)
    is less than a twentieth of the prior, in the plane of the two dimensions that tell most.
    Calibration looks at the row that was encoded, and so errs on the safe side. Strange are rows
    less probable than 99 % of the model's own draws.

    Parameters
    ----------
    model : Model
        Fitted, with a latent vector: VAE, HierarchicalVAE (its top layer), MultimodalVAE,
        ProbabilisticPCA or FactorAnalysis.
    X : rows
        Held out, of the model's space.
    given : conditions or None, default=None
        Of the rows, where the model has them.
    n : int, default=500
        Rows to look at, at most, drawn from X.
    ais : int, default=0
        Rows, at most 64, for which log p(x) is estimated by annealed importance sampling, which
        takes about a second a row; 0: the approximation gap is not measured.
    random_state : int, generator or None, default=0
        An int, or a numpy generator.

    Raises
    ------
    CapabilityError
        Where the model has no latent vector of real numbers.

    Examples
    --------
    >>> import genus
    >>> data = genus.data.load("digits")
    >>> found = genus.diagnose(genus.ProbabilisticPCA(5).fit(data.train), data.test, n=100)
    >>> found.active, found.collapsed
    (5, 'none')
    """
    Whole(2).check("n", n)
    Whole(0, 64).check("ais", ais)
    X, given, places = some_rows(X, given, n, random_state)
    rng = model._stream(random_state)
    view = latents_of(model, X, given)
    with torch.no_grad():
        parts = divergences(view, rng)
        picture = plane_of(view, parts["told"], rng)
        covered = calibration(view, rng)
    chosen = torch.arange(min(len(view.posterior), 128), device=view.x.device)
    bounds = amortisation(view, chosen, rng)
    annealed: dict[str, Any] = {"log_p": math.nan, "approximation": (math.nan, math.nan)}
    if ais:
        annealed = approximation(view, chosen[:ais], bounds["refined_rows"], rng)
    own = model.sample(len(view.posterior), given=given, random_state=_seed(rng))
    own_scores = np.asarray(model.log_prob(own, given=given).nats, dtype=float)
    scores = np.asarray(model.log_prob(X, given=given).nats, dtype=float)
    surprise = np.searchsorted(np.sort(own_scores), scores) / len(own_scores)
    strange = np.flatnonzero(surprise <= RARE)
    strange = strange[np.argsort(scores[strange])]
    layers = getattr(model, "kl_per_layer", None)
    bounds.pop("refined_rows")
    return Diagnosis(
        name=type(model).__name__,
        n=len(scores),
        latent_dim=view.posterior.mean.shape[-1],
        own_scores=own_scores,
        scores=scores,
        surprise=surprise,
        strange=places[strange],
        layers=() if layers is None else tuple(map(float, layers(X, given=given)[::-1])),
        **parts,
        **picture,
        **covered,
        **bounds,
        **annealed,
    )


def some_rows(X: Any, given: Any, n: int, random_state: Any) -> tuple[Any, Any, np.ndarray]:
    """At most n rows with their conditions, drawn without replacement, and their places."""
    X = unwrap(X)
    count = len(next(iter(X.values()))) if has_parts(X) else len(X)
    places = np.arange(count)
    if count > n:
        order = torch.randperm(count, generator=generator(seed_of(random_state)))[:n]
        places = np.sort(order.numpy())
    return take(X, places), given if given is None else take(given, places), places


def take(X: Any, places: np.ndarray) -> Any:
    """Rows at these places, of an array, a frame or a dict of them."""
    if has_parts(X):
        return {name: None if v is None else take(v, places) for name, v in X.items()}
    if hasattr(X, "iloc"):
        return X.iloc[places]
    return X[places] if hasattr(X, "shape") else as_frame(X).iloc[places]


def divergences(view: Latents, rng: torch.Generator) -> dict[str, Any]:
    """The parts of the KL term, what each dimension tells, and how far q(z) is from p(z)."""
    q = view.posterior
    n, K = len(q), q.mean.shape[-1]
    z = q.draw(DRAWS, rng)
    log_q = q.log_prob(z)
    flat = z.flatten(0, 1)
    pairs = torch.cat([q.log_pairs(some) for some in flat.split(1024)])  # (k n, n)
    log_all = torch.logsumexp(pairs, 1) - math.log(n)
    own = torch.arange(n, device=pairs.device).repeat(DRAWS)
    pairs[torch.arange(len(pairs), device=pairs.device), own] = -math.inf
    log_others = torch.logsumexp(pairs, 1) - math.log(n - 1)
    each = q.log_coordinates(flat)
    log_prior = view.log_prior(flat)
    # nats of one dimension, under the row and under all rows
    t = (z[:, :, None] - q.mean) / q.spread
    log_row = torch.logsumexp(
        q.log_weight[..., None] - 0.5 * (t.square() + math.log(2 * math.pi)) - q.spread.log(), 2
    )
    told = (log_row.flatten(0, 1) - each).mean(0)
    active = (q.centre.var(0) > ACTIVE) & (told > TOLD)
    return {
        "active": int(active.sum()),
        "told": told.cpu().numpy().reshape(K),
        "information": float((log_q.flatten() - log_all).mean()),
        "total_correlation": float((log_all - each.sum(1)).mean()),
        "dimension_wise": float((each.sum(1) - log_prior).mean()),
        "divergence": (
            max(0.0, float((log_others - log_prior).mean())),
            float((log_all - log_prior).mean()),
        ),
    }


def plane_of(view: Latents, told: np.ndarray, rng: torch.Generator) -> dict[str, Any]:
    """The two dimensions that tell most: draws of q and of p in their plane, and its holes."""
    plane = tuple(int(j) for j in np.argsort(-told, kind="stable")[:2])
    z = view.posterior.draw(DRAWS, rng).flatten(0, 1)[:, plane].double().cpu().numpy()
    prior = view.draw_prior(2000, rng)[:, plane].double().cpu().numpy()
    ratio = np.log(density(z, prior)) - np.log(density(prior, prior))
    empty = prior[ratio < math.log(HOLE)]
    return {
        "plane": plane,
        "points": z,
        "prior_points": prior,
        "holes": len(empty) / len(prior),
        "hole_places": centres(empty),
    }


def density(points: np.ndarray, at: np.ndarray) -> np.ndarray:
    """A Gaussian on every point, of the width that suits a normal of so many; (len(at),)."""
    d = points.shape[1]
    h = len(points) ** (-1 / (d + 4)) * np.maximum(points.std(0), 1e-3)
    gap = (at[:, None] - points) / h
    kernel = np.exp(-0.5 * np.square(gap).sum(-1)) / np.prod(h * math.sqrt(2 * math.pi))
    return np.maximum(kernel.mean(1), 1e-300)


def centres(empty: np.ndarray, most: int = 5, radius: float = 1.0) -> np.ndarray:
    """The middles of at most five holes, the one with most of the prior first."""
    found: list[np.ndarray] = []
    while len(empty) and len(found) < most:
        near = np.square(empty[:, None] - empty).sum(-1) < radius**2
        best = int(near.sum(1).argmax())
        if near[best].sum() < FEW:
            break
        found.append(empty[near[best]].mean(0))
        empty = empty[~near[best]]
    return np.array(found).reshape(len(found), empty.shape[1])


def calibration(view: Latents, rng: torch.Generator, k: int = 40) -> dict[str, Any]:
    """The ranks of cells among k draws of their own reconstruction, ties broken by chance."""
    cells = view.draw_cells(view.posterior.draw(k, rng), rng).to(view.x.dtype)
    below, equal = (cells < view.x).double().sum(0), (cells == view.x).double().sum(0)
    u = torch.rand(view.x.shape, generator=rng, dtype=torch.float64, device=view.x.device)
    ranks = ((below + u * (equal + 1)) / (k + 1))[~torch.isnan(view.x)].cpu().numpy()
    half, most = (float(np.mean(np.abs(ranks - 0.5) <= width / 2)) for width in (0.5, 0.9))
    return {"ranks": ranks, "coverage": (half, most)}


def amortisation(
    view: Latents, rows: Tensor, rng: torch.Generator, steps: int = 150, lr: float = 0.03
) -> dict[str, Any]:
    """The bound of q(z | x), and of q refined on each row by itself."""
    if not view.refinable:
        with torch.no_grad():
            bound = view.bound(rows, rng)
        nothing = {"refined": math.nan, "amortisation": (math.nan, math.nan)}
        return {"elbo": float(bound.mean()), "refined_rows": bound, **nothing}
    q = view.posterior
    mean, root = q.mean[rows, 0], q.root[rows, 0]
    log_det = root.diagonal(dim1=-2, dim2=-1).log().sum(-1)
    shift = torch.zeros_like(mean, requires_grad=True)  # in units of the posterior's own spread
    scale = torch.zeros_like(mean, requires_grad=True)

    def at(e: Tensor) -> Tensor:
        z = mean + (root @ (shift + scale.exp() * e)[..., None])[..., 0]
        log_q = -0.5 * (e.square() + math.log(2 * math.pi)).sum(-1) - scale.sum(-1) - log_det
        return view.log_likelihood(z, rows) + view.log_prior(z) - log_q

    def noise(k: int) -> Tensor:
        return torch.randn(k, *mean.shape, generator=rng, dtype=mean.dtype, device=mean.device)

    test = noise(64)
    with torch.no_grad():
        before = at(test).mean(0)
    optimizer = torch.optim.Adam([shift, scale], lr=lr)
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = lr * (1 - step / steps)
        loss = -at(noise(8)).mean(0).sum()
        shift.grad, scale.grad = torch.autograd.grad(loss, [shift, scale])
        optimizer.step()
    with torch.no_grad():
        after = torch.maximum(at(test).mean(0), before)
    gap = (after - before).double()
    error = float(gap.std() / math.sqrt(len(gap)))
    return {
        "elbo": float(before.mean()),
        "refined": float(after.mean()),
        "amortisation": (float(gap.mean()), error),
        "refined_rows": after,
    }


def approximation(
    view: Latents,
    rows: Tensor,
    refined: Tensor,
    rng: torch.Generator,
    chains: int = 16,
    n_temperatures: int = 300,
) -> dict[str, Any]:
    """log p(x) by annealing from p(z) to p(z) p(x | z) in z, and how far the bound stays below.

    The logarithm of an unbiased estimate errs downwards, and so does the gap (Wu et al., 2017).
    """
    K, n = view.size, len(rows)
    z = view.draw_prior(chains * n, rng)
    size = 0.3

    def log_x(z: Tensor) -> Tensor:
        return view.log_likelihood(z.reshape(chains, n, K), rows).flatten()

    def step(z: Tensor, now: float, then: float) -> tuple[Tensor, Tensor]:
        nonlocal size
        with torch.no_grad():
            gain = (then - now) * log_x(z)
        z, accepted = hmc(lambda z: -view.log_prior(z) - then * log_x(z), z, 1, size, 5, rng)
        size = min(1.0, size * (1.05 if accepted > 0.7 else 0.95))
        return z, gain

    betas = [b**2 for b in np.linspace(0, 1, n_temperatures + 1).tolist()]
    _, log_w = anneal(step, z, betas)
    value = log_mean_exp(log_w.reshape(chains, n), 0)[0]
    gap = (value - refined[:n]).double()
    error = float(gap.std() / math.sqrt(n)) if n > 1 else math.nan
    return {"log_p": float(value.mean()), "approximation": (float(gap.mean()), error)}


def _seed(rng: torch.Generator) -> int:
    return int(torch.randint(2**31, (1,), generator=rng, device=rng.device))
