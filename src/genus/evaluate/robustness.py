r"""How far must a row be moved before a classifier errs? Accuracy under attack.

An attack moves x to x + δ inside the box of the data, ‖δ‖ ≤ ε, so that the margin

    m(x) = log p(y | x) − max_{k ≠ y} log p(k | x)

falls; the row is lost where it is below 0.

    noise   δ drawn at random with ‖δ‖ = ε, no gradient
    FGSM    one step of length ε along −∇m                     (Goodfellow et al., 2015)
    PGD     steps of 2.5 ε/n, projected after each, from several random starts (Madry et al., 2018)

The margin has a gradient also where the softmax is 1 to rounding (Carlini & Wagner, 2017). A
classifier whose gradients point nowhere looks robust and is not, so five checks look for that
(Athalye et al., 2018; Carlini et al., 2019).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from genus.evaluate.calibration import codes_of
from genus.learn import generator
from genus.model import CapabilityError
from genus.predictor import Predictor
from genus.settings import Number, OneOf, Whole
from genus.space import Space

SLACK = 0.02  # in accuracy, by which a stronger attack may seem weaker
STEP = 2.5  # of the ball's radius, that all steps of PGD together may go
ROWS = 1024  # attacked at once

Margin = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True, eq=False)
class Robustness:
    """Accuracy against the size of an attack.

    clean: the accuracy without one. table: a row an ε, with the accuracy under ``noise``, ``fgsm``
    and ``pgd``; the last counts a row as right where no start and no step found an error. masked:
    what speaks for gradients that are masked, in words; empty where no check found anything.
    ``report.plots.attacked`` draws it.
    """

    clean: float
    norm: str
    table: pd.DataFrame
    masked: tuple[str, ...]
    n: int

    def __str__(self) -> str:
        lines = [f"clean {self.clean:.3f} (n={self.n}, {self.norm})", self.table.to_string()]
        return "\n".join([*lines, *(f"masked gradients? {text}" for text in self.masked)])


def robustness(
    model: Any,
    X: Any,
    y: Any,
    *,
    eps: Sequence[float] = (0.02, 0.05, 0.1),
    norm: str = "linf",
    steps: int = 20,
    restarts: int = 2,
    refine: int = 0,
    random_state: int = 0,
) -> Robustness:
    """Accuracy of a classifier under noise, FGSM and PGD of several sizes, and checks of them.

    Parameters
    ----------
    model : classifier
        Fitted, with a gradient: a JEM, or a BayesianMLP of classes.
    X : rows
        Not used in fit, (n, *shape). Words are left as they are.
    y : array
        Their labels, (n,).
    eps : sequence of floats, default=(0.02, 0.05, 0.1)
        Sizes of attack, above 0, in units of each cell's range: of its levels, else of the numbers
        in X. In L2, of the length of δ in these units.
    norm : {"linf", "l2"}, default="linf"
        What ε bounds: every cell's move, or the length of all of them.
    steps : int, default=20
        Of PGD.
    restarts : int, default=2
        Random starts of PGD, besides x itself.
    refine : int, default=0
        Steps of the model's own chain that move a row before it is told, where the model has one.
        The attack passes the gradient at the refined row straight through, as if refining moved
        nothing (Athalye et al., 2018).
    random_state : int, default=0
        Seed of noise, starts and chains.

    Raises
    ------
    CapabilityError
        Where the model has no gradient, or no chain to refine with.

    Examples
    --------
    >>> import numpy as np, genus
    >>> from genus.evaluate import robustness
    >>> X = np.random.default_rng(0).normal(size=(120, 2))
    >>> y = np.where(X[:, 0] > 0, "right", "left")
    >>> model = genus.BayesianMLP(posterior="map", trainer=genus.Trainer(epochs=20), random_state=0)
    >>> told = robustness(model.fit(X, y), X, y, eps=(0.05, 0.2), steps=5, restarts=1)
    >>> list(told.table.columns)
    ['eps', 'noise', 'fgsm', 'pgd']
    >>> bool(told.table.pgd[1] <= told.table.pgd[0] <= told.clean)
    True
    """
    OneOf("linf", "l2").check("norm", norm)
    for size in eps:
        Number(above=0).check("eps", size)
    Whole(1).check("steps", steps)
    Whole(0).check("restarts", restarts)
    Whole(0).check("refine", refine)
    if not hasattr(model, "_log_classes"):
        raise CapabilityError(
            f"{type(model).__name__} has no gradient of its classes' probabilities: a JEM and a "
            "BayesianMLP of classes have"
        )
    if refine and not hasattr(model, "_refined"):
        raise CapabilityError(f"{type(model).__name__} has no chain to refine rows with: refine=0")
    space, x = _entered(model, X)
    x = x.flatten(1)
    truth = torch.from_numpy(codes_of(model, y, len(x))).to(x.device)
    low, high = _box(space, x)
    rng = generator(random_state, x.device)

    def log_classes(rows: Tensor) -> Tensor:
        rows = rows.reshape(-1, *space.cell_shape)
        if refine:
            with torch.no_grad():
                moved = model._refined(rows.detach(), refine, rng) - rows.detach()
            rows = rows + moved
        return torch.as_tensor(model._log_classes(rows))

    def margin(rows: Tensor, codes: Tensor) -> Tensor:
        log_p = log_classes(rows)
        own = log_p.gather(1, codes[:, None])[:, 0]
        rest = log_p.scatter(1, codes[:, None], -math.inf)
        return own - rest.amax(1)

    free = _movable(space, x.device)
    attack = _Attack(margin, low, high, free, norm, rng)
    parts = list(zip(x.split(ROWS), truth.split(ROWS), strict=True))
    whole = float(norm == "linf") + (norm == "l2") * math.sqrt(x.shape[1])  # the box itself
    clean = _share([attack.right(rows, codes) for rows, codes in parts])
    lines = []
    for size in sorted(eps):
        noise = [attack.noise(rows, codes, size) for rows, codes in parts]
        fgsm = [attack.fgsm(rows, codes, size) for rows, codes in parts]
        pgd = [attack.pgd(rows, codes, size, steps, restarts) for rows, codes in parts]
        lines.append([size, _share(noise), _share(fgsm), _share(pgd)])
    table = pd.DataFrame(lines, columns=["eps", "noise", "fgsm", "pgd"])
    far = _share([attack.pgd(r, c, whole, steps, 0) for r, c in parts])
    flat = _share([attack.flat(r, c) for r, c in parts])
    return Robustness(clean, norm, table, tuple(_doubts(table, clean, far, flat)), len(x))


def _doubts(table: pd.DataFrame, clean: float, far: float, flat: float) -> list[str]:
    """What speaks for masked gradients. far: accuracy when all of the box is free to move in."""
    said = []
    for size, noise, fgsm, pgd in table.to_numpy().tolist():
        if pgd > fgsm + SLACK:
            said.append(f"many small steps do less than a large one at ε={size:g}")
        if pgd > noise + SLACK:
            said.append(f"noise does more than the gradient at ε={size:g}")
    worst = [clean, *table.pgd]
    if any(b > a + SLACK for a, b in itertools.pairwise(worst)):
        said.append("a larger attack does less than a smaller one")
    if far > SLACK:
        said.append(f"an attack without limits leaves {far:.0%} of the rows right")
    if flat > SLACK:
        said.append(f"{flat:.0%} of the rows have no gradient")
    return said


class _Attack:
    """Attacks on rows (n, d) of one model; each says which rows are right afterwards, (n,)."""

    def __init__(
        self,
        margin: Margin,
        low: Tensor,
        high: Tensor,
        free: Tensor,
        norm: str,
        rng: torch.Generator,
    ) -> None:
        self.margin, self.norm, self.rng = margin, norm, rng
        self.low, self.high, self.free = low, high, free
        self.range = (high - low).clamp_min(1e-12) * free

    def right(self, x: Tensor, y: Tensor) -> Tensor:
        with torch.no_grad():
            return self.margin(x, y) > 0

    def noise(self, x: Tensor, y: Tensor, eps: float) -> Tensor:
        e = torch.randn(x.shape, generator=self.rng, dtype=x.dtype, device=x.device)
        return self.right(self._moved(x, self._longest(e, eps)), y)

    def fgsm(self, x: Tensor, y: Tensor, eps: float) -> Tensor:
        return self.right(self._moved(x, self._longest(self._downhill(x, y), eps)), y)

    def pgd(self, x: Tensor, y: Tensor, eps: float, steps: int, restarts: int) -> Tensor:
        right = self.right(x, y)
        for start in range(restarts + 1):
            delta = torch.zeros_like(x)
            if start:
                delta = torch.rand(x.shape, generator=self.rng, dtype=x.dtype, device=x.device)
                delta = self._within((2 * delta - 1) * eps * self.free, eps)
            for _ in range(steps):
                g = self._downhill(self._moved(x, delta), y)
                delta = self._within(delta + self._longest(g, STEP * eps / steps), eps)
                right &= self.right(self._moved(x, delta), y)
        return right

    def flat(self, x: Tensor, y: Tensor) -> Tensor:
        """Which rows have no gradient at all."""
        return self._downhill(x, y).abs().amax(1) == 0

    def _downhill(self, x: Tensor, y: Tensor) -> Tensor:
        """−∇m with respect to a move in units of each cell's range."""
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            margin = self.margin(x, y).sum()
            (g,) = torch.autograd.grad(margin, x, allow_unused=True)
        if g is None:  # the model looks its cells up, as the scores of bits: it is flat everywhere
            return torch.zeros_like(x)
        return -g.nan_to_num() * self.range

    def _longest(self, g: Tensor, size: float) -> Tensor:
        """The move of that size that goes furthest along g."""
        if self.norm == "linf":
            return size * g.sign()
        return size * g / g.norm(dim=1, keepdim=True).clamp_min(1e-30)

    def _within(self, delta: Tensor, eps: float) -> Tensor:
        if self.norm == "linf":
            return delta.clamp(-eps, eps)
        return delta * (eps / delta.norm(dim=1, keepdim=True).clamp_min(1e-30)).clamp_max(1)

    def _moved(self, x: Tensor, delta: Tensor) -> Tensor:
        """x + δ inside the box."""
        moved = x + delta * self.range
        return torch.where(self.free, moved.clamp(self.low, self.high), x)


def _share(parts: list[Tensor]) -> float:
    return float(torch.cat(parts).double().mean())


def _entered(model: Any, X: Any) -> tuple[Space, Tensor]:
    """The space of X and its codes."""
    if isinstance(model, Predictor):
        return model.given_space_, model._given(X)
    model._check_fitted()
    return model.space_, model._codes(X)


def _movable(space: Space, device: torch.device) -> Tensor:
    """Which cells an attack may move, (d,): not words."""
    return torch.tensor([kind != "categorical" for kind in space.kinds], device=device)


def _box(space: Space, x: Tensor) -> tuple[Tensor, Tensor]:
    """The ends of each cell, (d,): of its levels, or of the numbers in x."""
    low, high = x.amin(0), x.amax(0)
    levels = torch.tensor(np.array(space.cardinality), device=x.device)
    known = torch.tensor([kind in ("binary", "ordinal") for kind in space.kinds], device=x.device)
    low = torch.where(known, 0.0, low)
    return low, torch.where(known, (levels - 1).to(x.dtype), high)
