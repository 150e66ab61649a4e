"""Which models are compared: those that were asked for, or all that suit, and the baselines."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from typing import Any

from sklearn.utils import get_tags

from genus.learn.rows import generator
from genus.model import Model
from genus.predictor import Predictor
from genus.space import Space

BASELINES = ("Independent", "Gaussian")


def families(predictors: bool = False) -> dict[str, type[Model]]:
    """The public models of p(x), by name; with ``predictors`` those of p(y | X) too."""
    import genus

    found: dict[str, type[Model]] = {}
    for name in genus.__all__:
        cls = getattr(genus, name)
        if not isinstance(cls, type) or not issubclass(cls, Model):
            continue
        abstract = cls.build is Model.build
        if not abstract and (predictors or not issubclass(cls, Predictor)):
            found[name] = cls
    return found


def baselines(space: Space) -> tuple[str, ...]:
    """The families that stand in every table of such data.

    A mixture of Bernoullis is one where every cell has two values.
    """
    if set(space.cardinality) == {2}:
        return (*BASELINES, "CategoricalMixture")
    return BASELINES


def suits(family: type[Model], space: Space) -> bool:
    """Whether the family, with no arguments, models rows of this space at all."""
    return not refusal(family, space)


def refusal(family: type[Model], space: Space, given: Space | None = None) -> str:
    """Why the family, with no arguments, does not model rows of this space; empty where it does.

    given: the space of conditions, for a family that has to have some.
    """
    model: Any = family()
    if given is not None:
        model.given_space_ = given
    model.space_, model.rng = space, generator(0)
    try:
        model._make(space)
    except ValueError as e:
        return str(e).split("\n")[0]
    except (RuntimeError, MemoryError):  # torch's word for memory that is not there
        return "it needs more memory for them than there is"
    return ""


def not_compared(space: Space, *, missing: bool = False) -> dict[str, str]:
    """The families that :func:`resolve` leaves out when nobody names any, and why."""
    reasons = {}
    for name, cls in families().items():
        if not cls.by_default or not hasattr(cls, "_sample") or name in baselines(space):
            continue
        why = refusal(cls, space)
        if not why and missing and not cls.allow_nan:
            why = "missing cells are not taken: fill them in by genus.Imputer, or drop their rows"
        if why:
            reasons[name] = why
    return reasons


def resolve(
    models: Any, space: Space | None = None, *, missing: bool = False
) -> list[tuple[str, Model]]:
    """(name, model) pairs of whatever :func:`compare` was given, baselines added, names distinct.

    models: see :func:`compare`; None: all families that are compared unasked; "all": those that
    are slow by themselves as well.
    space: of the data; of those, families that do not suit them are left out.
    missing: the data have missing cells; of those, families that take none are left out.
    Raises ValueError with the nearest name for one that is unknown, TypeError for what is no model.
    """
    known = families()
    base = BASELINES if space is None else baselines(space)
    everything = isinstance(models, str) and models == "all"
    if isinstance(models, list | tuple) and len(models) == 1:
        everything = isinstance(models[0], str) and models[0] == "all"
    if models is None or everything:
        given: list[Any] = _suiting(known, base, space, missing, everything)
    elif isinstance(models, Mapping):
        given = list(models.items())
    elif isinstance(models, str | type | Model):
        given = [models]
    else:
        given = list(models)
    pairs = [_one(entry, known) for entry in given]
    present = {type(model).__name__ for _, model in pairs}
    beside = [(name, known[name]()) for name in base if name in known and name not in present]
    # what every model must beat comes first, where nobody asked for an order
    pairs = beside + pairs if models is None or everything else pairs + beside
    for name, model in pairs:
        if isinstance(model, Predictor):
            raise ValueError(
                f"{name} models p(y | X), and rows are compared by p(x): leave it out, "
                "and judge it with scikit-learn's cross_val_score"
            )
    named: dict[str, Model] = {}
    for name, model in pairs:
        fresh, i = name, 2
        while fresh in named:
            fresh, i = f"{name} ({i})", i + 1
        named[fresh] = model
    return list(named.items())


def _suiting(
    known: dict[str, type[Model]],
    base: tuple[str, ...],
    space: Space | None,
    missing: bool,
    everything: bool,
) -> list[str]:
    """The families, without the baselines, that are compared when nobody names any.

    everything: with those of p(x) that are not compared unasked.
    """
    found = []
    for name, cls in known.items():
        asked = cls.by_default or (everything and not get_tags(cls()).target_tags.required)
        able = asked and hasattr(cls, "_sample") and (cls.allow_nan or not missing)
        if able and name not in base and (space is None or suits(cls, space)):
            found.append(name)
    return found


def _one(entry: Any, known: dict[str, type[Model]]) -> tuple[str, Model]:
    """The (name, model) pair of one thing that was asked for."""
    if isinstance(entry, tuple) and len(entry) == 2 and isinstance(entry[0], str):
        return entry[0], _one(entry[1], known)[1]
    if isinstance(entry, str):
        plain = {_squash(n): n for n in known}
        key = _squash(entry)
        if key not in plain:
            near = difflib.get_close_matches(key, plain, n=1, cutoff=0.5)
            hint = f"did you mean {plain[near[0]]}?" if near else f"choose from {', '.join(known)}"
            raise ValueError(f"there is no model {entry!r}: {hint}")
        return plain[key], known[plain[key]]()
    if isinstance(entry, type) and issubclass(entry, Model):
        return entry.__name__, entry()
    if isinstance(entry, Model):
        return type(entry).__name__, entry
    raise TypeError(
        f"{entry!r} is no model: pass a name, "
        "a genus Model class or instance, or a (name, model) pair"
    )


def _squash(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())
