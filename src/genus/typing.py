"""What the verbs take, in words that editors and type checkers know."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import numpy as np
import pandas as pd
from sklearn.utils import metaestimators
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from genus.sources import Parquet

if TYPE_CHECKING:
    from genus.space import Space


class HasArray(Protocol):
    """An array of another library."""

    def __array__(self, *args: Any, **kwargs: Any) -> np.ndarray: ...


class HasRows(Protocol):
    """A set of :mod:`genus.data`: rows and their space."""

    @property
    def X(self) -> Any: ...

    @property
    def space(self) -> Space: ...


ArrayLike = np.ndarray | Tensor | pd.DataFrame | pd.Series | list[Any] | tuple[Any, ...] | HasArray
RowsLike = ArrayLike | Dataset[Any] | DataLoader[Any] | Parquet | Mapping[str, Any] | HasRows
GivenLike = RowsLike | bool | int | float | str | None  # conditions, or one for all rows
RandomState = int | np.integer | np.random.Generator | np.random.RandomState | None

Verb = TypeVar("Verb", bound=Callable[..., Any])


def available_if(check: Callable[[Any], bool]) -> Callable[[Verb], Verb]:
    """scikit-learn's ``available_if``: a method that objects have only where ``check`` says so."""
    return metaestimators.available_if(check)
