"""Settings: frozen objects, and what the value of an argument may be.

A class says in one table what each of its arguments may be, over the tables of its bases:

    arguments = {"n_components": Whole(1), "bins": Whole(2) | None, "method": OneOf("pcd", "cd")}

A model's table is checked where ``fit`` begins, and there alone; that of a settings object where
the object is used too. A refusal reads ``k=0: a whole number of at least 1 is needed``, or, of a
settings object, ``MLP(width=0): ...``.
"""

from __future__ import annotations

import dataclasses
import math
import sys
from collections.abc import Collection, Mapping
from typing import Any, ClassVar, Self

import numpy as np
from sklearn.base import BaseEstimator

FINITE = sys.float_info.max  # the largest number that is not infinite


class Settings:
    """Frozen dataclass with scikit-learn's ``get_params``, so that its fields can be searched.

    As in ``model__encoder__width``.
    """

    arguments: ClassVar[dict[str, Rule]] = {}

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Every field and its value."""
        return {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}  # type: ignore[arg-type]

    def replace(self, **changes: Any) -> Self:
        """A copy with some fields changed."""
        known = self.get_params()
        for name in changes:
            if name not in known:
                raise ValueError(
                    f"{type(self).__name__} has no field {name!r}: choose from {', '.join(known)}"
                )
        return dataclasses.replace(self, **changes)  # type: ignore[type-var]

    def check(self) -> Self:
        """These settings; raises ValueError that names the field for a value out of range."""
        check_arguments(self, of=type(self).__name__)
        return self


def table(cls: type) -> dict[str, Rule]:
    """What each argument of a class may be: its own table over those of its bases."""
    rules: dict[str, Rule] = {}
    for base in reversed(cls.__mro__):
        rules |= vars(base).get("arguments", {})
    return rules


def check_arguments(owner: Any, of: str = "") -> None:
    """Raise ValueError that names an argument of ``owner`` whose value its table refuses.

    The arguments of what is given as an argument, a blueprint or another model, are checked too.
    """
    for name, rule in table(type(owner)).items():
        settled = isinstance(
            getattr(type(owner), name, None), property
        )  # no argument of this class
        if not settled and hasattr(owner, name):
            rule.check(name, getattr(owner, name), of)


# ---------------------------------------------------------------------- what a value may be


class Rule:
    """What a value may be.

    words: the alternatives, in words. why: what else the message says. nonsense:
    some values that it refuses.
    """

    words: tuple[str, ...]
    why: str = ""
    nonsense: tuple[Any, ...]

    def accepts(self, value: Any) -> bool:
        """May it be this value?"""
        raise NotImplementedError

    def check(self, name: str, value: Any, of: str = "") -> None:
        """Raise ValueError that names the argument, and whose it is, unless the value may be."""
        if not self.accepts(value):
            said = f"{name}={_short(value)}"
            *most, last = self.words
            what = f"{', '.join(most)} or {last}" if most else last
            raise ValueError(f"{f'{of}({said})' if of else said}: {what} is needed{self.why}")
        if isinstance(value, Settings | BaseEstimator):
            check_arguments(value, of=type(value).__name__)

    def __or__(self, other: Rule | None) -> Either:
        return Either(self, Nothing() if other is None else other)


def _short(value: Any) -> str:
    said = " ".join(repr(value).split())
    return said if len(said) <= 80 else said[:79] + "…"


class Either(Rule):
    """What one of several rules accepts."""

    def __init__(self, *options: Rule) -> None:
        self.options = options
        self.words = tuple(word for rule in options for word in rule.words)
        examples = [value for rule in options for value in rule.nonsense]
        self.nonsense = tuple(value for value in examples if not self.accepts(value))

    def accepts(self, value: Any) -> bool:
        return any(rule.accepts(value) for rule in self.options)


class Nothing(Rule):
    """None."""

    words = ("None",)
    nonsense = ("None", False)

    def accepts(self, value: Any) -> bool:
        return value is None


class Flag(Rule):
    """True or False."""

    words = ("True", "False")
    nonsense = ("yes", 1, 0.0, None)

    def accepts(self, value: Any) -> bool:
        return isinstance(value, bool | np.bool_)


class OneOf(Rule):
    """One of these words."""

    def __init__(self, *choices: str) -> None:
        self.choices = choices
        self.words = tuple(map(repr, choices))
        self.nonsense = ("nonsense", "", choices[0].upper(), 1, True, [choices[0]], None)

    def accepts(self, value: Any) -> bool:
        return isinstance(value, str) and value in self.choices


class Whole(Rule):
    """A whole number from ``least`` to ``most``, both included; numpy's too, and no bool."""

    def __init__(self, least: int, most: int | None = None) -> None:
        self.least, self.most = least, most
        ends = f"of at least {least}" if most is None else f"from {least} to {most}"
        self.words = (f"a whole number {ends}",)
        beyond = [] if most is None else [most + 1]
        self.nonsense = (least - 1, *beyond, least + 0.5, float(least), True, "3", [3], None)

    def accepts(self, value: Any) -> bool:
        if isinstance(value, bool) or not isinstance(value, int | np.integer):
            return False
        return bool(self.least <= value and (self.most is None or value <= self.most))


class Odd(Whole):
    """An odd number of at least ``least``."""

    def __init__(self, least: int) -> None:
        super().__init__(least)
        self.words = (f"an odd number of at least {least}",)
        self.nonsense = (least + 1, *self.nonsense)

    def accepts(self, value: Any) -> bool:
        return super().accepts(value) and value % 2 == 1


class Number(Rule):
    """A real number, numpy's too, and no bool; infinite only where ``most=math.inf``."""

    def __init__(
        self,
        least: float = -FINITE,
        most: float = FINITE,
        *,
        above: float = -math.inf,
        below: float = math.inf,
        why: str = "",
    ) -> None:
        self.least, self.most, self.above, self.below, self.why = least, most, above, below, why
        ends = {
            f"of at least {least:g}": least > -FINITE,
            f"above {above:g}": above > -math.inf,
            f"at most {most:g}": most < FINITE,
            f"below {below:g}": below < math.inf,
        }
        said = " and ".join(end for end, told in ends.items() if told)
        self.words = ("a positive number" if said == "above 0" else f"a number {said}".strip(),)
        candidates = (least - 1, most + 1, above, below, -math.inf, math.inf, 10**400, math.nan)
        numbers = [value for value in candidates if not self.accepts(value)]
        self.nonsense = (*numbers, True, "0.5", [0.5], 0.5j, None)

    def accepts(self, value: Any) -> bool:
        if isinstance(value, bool) or not isinstance(value, int | float | np.integer | np.floating):
            return False
        number = value.item() if isinstance(value, np.generic) else value
        inside = self.least <= number <= self.most and number > self.above
        return bool(inside and (number < self.below or self.below == math.inf))


class Array(Rule):
    """Finite numbers in an array, a list, a tensor or a frame. says: which, in words."""

    nonsense = ([], [1.0, math.nan], [math.inf], ["a"], [[1.0], [1.0, 2.0]], "a", {1.0}, None)

    def __init__(self, says: str = "an array of numbers") -> None:
        self.words = (says,)

    def accepts(self, value: Any) -> bool:
        try:
            a = np.asarray(value)
        except (TypeError, ValueError, RuntimeError):  # ragged, or a tensor that is elsewhere
            return False
        return a.ndim > 0 and a.size > 0 and a.dtype.kind in "biuf" and bool(np.isfinite(a).all())


class Each(Rule):
    """A list of what another rule accepts, a tuple, set or array too. says: the same in words."""

    def __init__(self, rule: Rule, says: str) -> None:
        self.rule, self.words = rule, (says,)
        self.nonsense = (3, {"a": 1}, [[]], *([value] for value in rule.nonsense))

    def accepts(self, value: Any) -> bool:
        if isinstance(value, str | bytes | Mapping):
            return False
        values = value.tolist() if hasattr(value, "tolist") else value
        return isinstance(values, Collection) and all(map(self.rule.accepts, values))


class Several(Rule):
    """A tuple or list of fixed length, with a rule for each member. says: the same in words."""

    def __init__(self, *rules: Rule, says: str) -> None:
        self.rules, self.words = rules, (says,)
        self.nonsense = (3, (), *((value,) * len(rules) for value in rules[0].nonsense))

    def accepts(self, value: Any) -> bool:
        if not isinstance(value, tuple | list) or len(value) != len(self.rules):
            return False
        return all(rule.accepts(member) for rule, member in zip(self.rules, value, strict=True))


class Label(Rule):
    """The name of a column, or its number."""

    words = ("the name or number of a column",)
    nonsense = (-1, 0.5, True, [], None)

    def accepts(self, value: Any) -> bool:
        return isinstance(value, str) or Whole(0).accepts(value)


class Instance(Rule):
    """An object of one of these classes. says: how to make one."""

    def __init__(self, *classes: type, says: str) -> None:
        self.classes, self.words = classes, (says,)
        self.nonsense = (object(), 3.5, [], *classes)

    def accepts(self, value: Any) -> bool:
        return isinstance(value, self.classes)


class Function(Rule):
    """What can be called, as a blueprint is. says: which."""

    nonsense = (object(), "nonsense", 3.5, [], Settings)

    def __init__(self, says: str) -> None:
        self.words = (says,)

    def accepts(self, value: Any) -> bool:
        # a class of settings is a slip: MLP where MLP() is meant
        is_class = isinstance(value, type) and issubclass(value, Settings)
        return callable(value) and not is_class
