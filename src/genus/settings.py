"""Frozen settings objects, and what their values may be."""

from __future__ import annotations

import dataclasses
import numbers
from typing import Any


class Settings:
    """Frozen dataclass with scikit-learn's ``get_params``, so that its fields can be searched.

    As in ``model__encoder__width``.
    """

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Every field and its value."""
        return {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}  # type: ignore[arg-type]

    def replace(self, **changes: Any) -> Any:
        """A copy with some fields changed."""
        known = self.get_params()
        for name in changes:
            if name not in known:
                raise ValueError(
                    f"{type(self).__name__} has no field {name!r}: choose from {', '.join(known)}"
                )
        return dataclasses.replace(self, **changes)  # type: ignore[type-var]


def within(name: str, value: int, low: int, high: int) -> None:
    """Raise where a setting is no whole number from ``low`` to ``high``."""
    if (
        isinstance(value, bool)
        or not isinstance(value, numbers.Integral)
        or not low <= int(value) <= high
    ):
        raise ValueError(f"{name}={value!r}: an integer from {low} to {high} is needed")
