"""How well a model fills in what is hidden, beside what the marginals alone would do."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from genus.filling import FEW, quantiles
from genus.learn import generator
from genus.space import Space

LEAST = 19  # draws whose 0.05- and 0.95-quantiles lie within their range
FIRST = 10  # rows that show how long all will take


@dataclass(frozen=True)
class Completion:
    """Errors over the hidden cells; nan where the space has no cell of that sort.

    Attributes
    ----------
    rmse
        Of the mean of the draws, over ordinal and continuous cells, in the units of the data (for a
        table: in standard deviations of each column).
    accuracy
        Of the most frequent draw, over binary and categorical cells.
    baseline_rmse, baseline_accuracy
        The same of each coordinate's mean and most frequent value.
    cells
        How many were hidden.
    coverage
        The share of continuous cells, and of ordinal ones of more than 20 levels, that lie in the
        central 90 % interval of their draws; nan of fewer than 19 draws, which cannot tell.
    """

    rmse: float
    baseline_rmse: float
    accuracy: float
    baseline_accuracy: float
    cells: int
    coverage: float = math.nan

    def __str__(self) -> str:
        parts = []
        if not math.isnan(self.rmse):
            parts.append(f"RMSE {self.rmse:.3f} (marginals {self.baseline_rmse:.3f})")
        if not math.isnan(self.accuracy):
            parts.append(f"accuracy {self.accuracy:.3f} (marginals {self.baseline_accuracy:.3f})")
        if not math.isnan(self.coverage):
            parts.append(f"90 % intervals cover {self.coverage:.3f}")
        return ", ".join(parts) + f" over {self.cells} cells"


def hide(space: Space, n: int, what: float | str = 0.3, random_state: int = 0) -> np.ndarray:
    """A boolean mask of shape (n, *space.shape), True where hidden.

    Parameters
    ----------
    space : Space
        Of the rows.
    n : int
        Rows.
    what : float or "lower", default=0.3
        The share of cells hidden at random, between 0 and 1, or the lower half of an image.
    random_state : int, default=0
        Seed of the cells that are hidden at random.

    Raises
    ------
    ValueError
        For another value, or ``"lower"`` where the rows are no images.
    """
    if what == "lower":
        if space.image_shape is None:
            raise ValueError(
                f"'lower' hides half of an image, and rows of shape {space.shape} "
                "are none: pass a share such as 0.3"
            )
        mask = np.zeros(space.image_shape, dtype=bool)
        mask[:, space.image_shape[1] // 2 :] = True
        rows = space.rows(mask.reshape(space.cell_shape))
        return np.array(np.broadcast_to(rows, (n, *space.shape)))
    if isinstance(what, str) or not 0 < what < 1:
        raise ValueError(f"hide={what!r}: a share of the cells between 0 and 1, or 'lower'")
    return np.asarray(torch.rand(n, *space.shape, generator=generator(random_state)) < what)


def completion_score(
    model: Any,
    X: Any,
    *,
    hidden: Any = 0.3,
    train: Any = None,
    draws: int = 8,
    given: Any = None,
    seconds: float | None = None,
    random_state: int = 0,
) -> Completion:
    """Hide cells of X, let the model draw them, and compare with the truth and with the marginals.

    Cells already missing in X are not scored.

    Parameters
    ----------
    model : Model
        Fitted, with ``complete``.
    X : rows
        Held-out rows.
    hidden : float, "lower" or boolean mask, default=0.3
        What to hide: see :func:`hide`, or a mask of X's shape.
    train : rows or None, default=None
        Rows whose marginals are the baseline; None: the cells of X that stay visible, or where a
        coordinate is never visible, the middle of its range.
    draws : int, default=8
        Completions a row, averaged or put to the vote; 39 and more tell the coverage well.
    given : conditions or None, default=None
        Of the rows, for models of p(x | given).
    seconds : float or None, default=None
        How long the draws may take.
    random_state : int, default=0
        Seed of the mask and of the draws.

    Raises
    ------
    ValueError
        When nothing is left to score.
    TimeoutError
        When the draws of the first rows show that those of all would take longer than ``seconds``.
    """
    space: Space = model.space_
    truth = space.encode(X).double()
    if isinstance(hidden, float | int | str):
        mask = hide(space, len(truth), hidden, random_state)
    else:
        mask = np.asarray(hidden, dtype=bool)
    if mask.shape != (len(truth), *space.shape):
        raise ValueError(f"the mask has shape {mask.shape}, X has {(len(truth), *space.shape)}")
    codes = _drawn(model, X, mask, draws, given, seconds, random_state)
    truth = truth.flatten(1)
    scored = space.cells(torch.from_numpy(mask)).flatten(1) & ~torch.isnan(truth)
    if not scored.any():
        raise ValueError("no observed cell of X is hidden: nothing to score")
    if train is None:
        seen = torch.where(scored, math.nan, truth)
    else:
        seen = space.encode(train).double().flatten(1)
    numeric = torch.tensor([k not in ("binary", "categorical") for k in space.kinds])
    numbers, labels = scored & numeric, scored & ~numeric

    unit = _units(truth) if space.kind == "table" else torch.ones(space.dim, dtype=torch.float64)
    middle = (torch.tensor(space.cardinality, dtype=torch.float64) - 1).clamp_min(0) / 2
    mean = torch.nanmean(seen, 0)
    mean = torch.where(torch.isnan(mean), middle, mean)

    accuracy = baseline_accuracy = math.nan
    if labels.any():
        drawn, usual = _mode(codes.transpose(0, 1), space), _mode(seen[None], space)[0]
        accuracy = _share((drawn == truth)[labels])
        baseline_accuracy = _share((usual == truth)[labels])
    wide = torch.tensor([not 0 < levels <= FEW for levels in space.cardinality])
    coverage = math.nan
    if draws >= LEAST and (numbers & wide).any():
        low, high = quantiles(codes, (0.05, 0.95))
        coverage = _share(((low <= truth) & (truth <= high))[numbers & wide])
    return Completion(
        rmse=_rms(((codes.mean(0) - truth) / unit)[numbers]),
        baseline_rmse=_rms(((mean - truth) / unit)[numbers]),
        accuracy=accuracy,
        baseline_accuracy=baseline_accuracy,
        cells=int(scored.sum()),
        coverage=coverage,
    )


def _drawn(
    model: Any, X: Any, mask: Any, draws: int, given: Any, seconds: float | None, seed: int
) -> Tensor:
    """Codes of the completions, (draws, n, d): of a few rows first where time is short."""
    n, begun = len(mask), time.perf_counter()
    ends = [n] if seconds is None else sorted({min(n, FIRST), min(n, 5 * FIRST), n})
    parts, begin, each = [], 0, 0.0
    for end in ends:
        spent = time.perf_counter() - begun
        if seconds is not None and spent + each * (n - begin) > seconds:
            raise TimeoutError(
                f"{begin} rows took {spent:.0f} s, "
                f"and {n} would take about {spent + each * (n - begin):.0f}"
            )
        some = slice(begin, end)
        more = {} if given is None else {"given": given[some] if len(given) == n else given}
        rows = X.iloc[some] if hasattr(X, "iloc") else X[some]
        completed = model.complete(rows, n=draws, mask=mask[some], random_state=seed, **more)
        space = model.space_
        parts.append(torch.stack([space.encode(c).double().flatten(1) for c in completed]))
        each = (time.perf_counter() - begun - spent) / (end - begin)
        begin = end
    return torch.cat(parts, 1)


def _units(truth: Tensor) -> Tensor:
    """The standard deviation of each column, missing cells at the mean; 1 where there is none."""
    filled = torch.where(torch.isnan(truth), torch.nanmean(truth, 0), truth)
    std = filled.std(0, correction=0).nan_to_num(1.0)
    return torch.where(std > 0, std, 1.0)


def _mode(codes: Tensor, space: Space) -> Tensor:
    """Most frequent code of the draws (n, draws, d), the least of equals; NaN has no vote."""
    levels = torch.arange(max(max(space.cardinality), 1), dtype=codes.dtype)
    best = torch.zeros(codes.shape[0], codes.shape[2], dtype=codes.dtype)
    most = torch.zeros_like(best)
    for v in levels:
        votes = (codes == v).sum(1).to(codes.dtype)
        best = torch.where(votes > most, v, best)
        most = torch.maximum(most, votes)
    return best


def _rms(error: Tensor) -> float:
    return float(error.square().mean().sqrt()) if error.numel() else math.nan


def _share(right: Tensor) -> float:
    return float(right.double().mean()) if right.numel() else math.nan
