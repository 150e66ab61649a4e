"""What arguments may be: every rule, and two laws over every public class.

Every argument of every model refuses nonsense by name, and no argument hides an attribute.
"""

from __future__ import annotations

import inspect
import math
import warnings
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.base import BaseEstimator, clone

import genus
from contract import CLASSIFIERS, PREDICTORS, ROWS, questions, toy
from genus import MLP, RBM, BayesianLinearRegression, BayesianMLP, Gaussian, Model, Trainer
from genus.learn import DivergenceError
from genus.settings import (
    Array,
    Each,
    Flag,
    Function,
    Instance,
    Label,
    Number,
    Odd,
    OneOf,
    Rule,
    Settings,
    Several,
    Whole,
    table,
)

PUBLIC = [getattr(genus, name) for name in genus.__all__]
CLASSES = [thing for thing in PUBLIC if inspect.isclass(thing)]
MODELS = [cls for cls in CLASSES if issubclass(cls, Model)]
SETTINGS = [cls for cls in CLASSES if issubclass(cls, Settings)]

# ---------------------------------------------------------------------- the rules

PAIR = Several(Whole(1), Whole(1), says="a pair of them")


@pytest.mark.parametrize(
    ("rule", "good", "bad", "says"),
    [
        (Whole(1), [1, 10**30, np.int8(3), np.uint64(2**63)], [0, 1.0, True], "of at least 1"),
        (Whole(2, 5), [2, np.int64(5)], [1, 6, np.int64(6), "3"], "a whole number from 2 to 5"),
        (Odd(3), [3, np.int64(7)], [1, 4, 3.0], "an odd number of at least 3"),
        (Number(), [-1e300, 0, np.float32(1), np.int8(1)], [math.inf, math.nan, 10**400], "number"),
        (Number(above=0), [1e-300, 1], [0, -0.0, -1, np.float32(0), True], "a positive number"),
        (Number(0, below=1), [0, np.float32(0.5)], [1, 1.0, -1e-300], "at least 0 and below 1"),
        (Number(above=0.5, most=1), [1, 0.6], [0.5, 1.1], "above 0.5 and at most 1"),
        (Number(0, math.inf), [math.inf, np.float32(np.inf)], [-math.inf, math.nan], "at least 0"),
        (Flag(), [True, np.bool_(False)], [0, 1, None, "True"], "True or False"),
        (OneOf("pcd", "cd"), ["cd", np.str_("pcd")], ["CD", 3, ["cd"], None], "'pcd' or 'cd'"),
        (Whole(1) | None, [None, 4], [0, "None", False], "of at least 1 or None"),
        (Whole(1) | PAIR, [3, (1, 2), [1, 2]], [(1,), (1, 0), np.array([1, 2])], "or a pair of"),
        (
            Number(above=0) | OneOf("evidence") | None,
            [1.5, "evidence", None],
            [0, "evidense", np.array([1.0])],
            "a positive number, 'evidence' or None is needed",
        ),
        (
            Array(),
            [[1, 2], (0.5,), np.eye(2), torch.ones(3), [[1.0], [2.0]]],
            [[], 3.0, "ab", ["a"], [1, math.nan], [[1], [1, 2]], {1.0}, None, [None]],
            "an array of numbers",
        ),
        (
            Each(Label(), "a list of columns"),
            [[], ["a", 0], (1, 2), {"a"}, np.arange(3), torch.arange(2)],
            ["ab", [None], {"a": 1}, 3, np.eye(2), [-1]],
            "a list of columns",
        ),
        (Label(), ["a", 0, np.int64(2)], [-1, 0.5, True, None], "the name or number of a column"),
        (Instance(MLP, says="MLP()"), [MLP()], [MLP, object(), None], "MLP()"),
        (Function("MLP()"), [MLP(), lambda i, o: None, torch.nn.Linear], [MLP, 3, None], "MLP()"),
    ],
)
def test_rules(rule: Rule, good: list[Any], bad: list[Any], says: str) -> None:
    for value in good:
        rule.check("x", value)
    for value in (*bad, *rule.nonsense, object()):
        with pytest.raises(ValueError, match=r"(?s)^x=.*: .* is needed") as error:
            rule.check("x", value)
        assert says in str(error.value)


def test_long_values_are_cut_and_reasons_told() -> None:
    with pytest.raises(ValueError) as error:
        Whole(1).check("n", np.arange(1000.0).reshape(50, 20))
    assert str(error.value).startswith("n=array([[") and len(str(error.value)) < 150
    with pytest.raises(ValueError, match=r"^a=0: a positive number is needed, or it is 0$"):
        Number(above=0, why=", or it is 0").check("a", 0)


def test_a_table_stands_on_those_of_the_bases() -> None:
    own = {"shrinkage", "max_iter", "tol", "marginals"}
    assert set(table(Gaussian)) == {"random_state", "trainer"} | own

    class Wide(MLP):
        arguments = {"width": Whole(100)}

    Wide(100).check()
    with pytest.raises(ValueError, match=r"^Wide\(width=99\): a whole number of at least 100"):
        Wide(99).check()
    with pytest.raises(ValueError, match=r"^Wide\(depth=-1\)"):
        Wide(100, -1).check()


def test_a_model_given_as_an_argument_is_checked_too() -> None:
    rule = Instance(Model, says="a model") | None
    rule.check("prior", genus.GaussianMixture(3))
    with pytest.raises(ValueError, match=r"^GaussianMixture\(n_components=0\): a whole number"):
        rule.check("prior", genus.GaussianMixture(0))


# ---------------------------------------------------------------------- the laws


def names_of(cls: type) -> list[str]:
    """The arguments of a constructor."""
    return list(inspect.signature(cls.__init__).parameters)[1:]


@pytest.mark.parametrize("cls", [*MODELS, *SETTINGS], ids=lambda cls: cls.__name__)
def test_the_table_has_every_argument_and_no_other(cls: type) -> None:
    known, told = set(names_of(cls)), set(table(cls))
    assert known <= told
    fixed = set(vars(cls))  # what a base asks for, and this class has settled
    assert told <= known | {"random_state", "trainer"} | fixed


@pytest.mark.parametrize("cls", MODELS, ids=lambda cls: cls.__name__)
def test_no_argument_hides_an_attribute(cls: type) -> None:
    """An argument that is stored under the name of a method takes its place."""
    for name in names_of(cls):
        assert not any(hasattr(base, name) for base in (cls, torch.nn.Module, BaseEstimator)), name


@pytest.mark.parametrize("cls", SETTINGS, ids=lambda cls: cls.__name__)
def test_settings_refuse_nonsense_by_name(cls: Any) -> None:
    assert cls().check() == cls()
    for name, rule in table(cls).items():
        for value in (*ANYWHERE, *rule.nonsense):
            if not (name == "checkpoint" and isinstance(value, str)):
                with pytest.raises(ValueError, match=rf"^{cls.__name__}\({name}=.*\):.* is needed"):
                    cls(**{name: value}).check()


# one fresh model a class, and few rows for it
FRESH: dict[type, tuple[Any, tuple[Any, Any]]] = {}
for row in ROWS:
    FRESH.setdefault(type(row.make()), (row.hasty, (toy(row.fits[0]).X[:24], None)))
for predictor in PREDICTORS:
    FRESH.setdefault(type(predictor.make()), (predictor.make(), questions(predictor.task)))
LABELS = np.repeat(["a", "b"], 12)
for classifier in CLASSIFIERS:
    hasty = classifier.make().set_params(trainer=Trainer(epochs=1, progress=False))
    FRESH.setdefault(type(hasty), (hasty, (toy("binary").X[:24], LABELS)))
for model, _ in FRESH.values():
    if "max_iter" in model.get_params():
        model.set_params(max_iter=5)
    if isinstance(model, BayesianMLP):
        model.set_params(posterior="map", trainer=Trainer(epochs=1, progress=False))

# what is wrong whatever the argument, and what lies at the ends of many ranges
ANYWHERE = [object(), "nonsense", math.nan, -math.inf, 0.5j, b"x", {"a": object()}, [[object()]]]
ENDS = [True, -1, 0, 1, 2, 0.5, 1e-300, 1e300, math.inf, [], (), "", [0, 1], (1.0, 2.0)]
ARGUMENTS = [(cls, name) for cls in FRESH for name in names_of(cls)]
arguments = pytest.mark.parametrize(
    ("cls", "name"), ARGUMENTS, ids=[f"{cls.__name__}-{name}" for cls, name in ARGUMENTS]
)


def refusal(cls: type, changes: dict[str, Any]) -> Exception | None:
    """What is said where a small model has these arguments; it stays unfitted then."""
    model, rows = FRESH[cls]
    model = clone(model).set_params(**changes)
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        try:
            model.fit(*rows)
        except (ValueError, TypeError, DivergenceError) as error:
            assert not model.__sklearn_is_fitted__() and not model.state_dict()
            return error
    return None


def test_every_model_is_asked() -> None:
    abstract = {genus.Model, genus.DensityModel, genus.Predictor}
    assert set(FRESH) == set(MODELS) - abstract


@arguments
def test_nonsense_is_refused_by_name(cls: type, name: str) -> None:
    rule = table(cls)[name]
    assert len(rule.nonsense) >= 2
    for value in (*ANYWHERE, *rule.nonsense):
        error = refusal(cls, {name: value})
        assert isinstance(error, ValueError) and name in str(error), (value, error)


@arguments
def test_what_is_accepted_fits_or_is_refused_by_name(cls: type, name: str) -> None:
    """What lies far out may end in numbers that are not finite, and no other error."""
    for value in ENDS:
        if table(cls)[name].accepts(value):
            error = refusal(cls, {name: value})
            said = error is None or name in str(error) or isinstance(error, DivergenceError)
            assert said, (value, error)


@pytest.mark.parametrize("cls", FRESH, ids=lambda cls: cls.__name__)
def test_numbers_may_be_numpys(cls: type) -> None:
    kinds = {bool: np.bool_, int: np.int64, float: np.float32}
    values = FRESH[cls][0].get_params(deep=False).items()
    changes = {name: kinds[type(v)](v) for name, v in values if type(v) in kinds}
    assert changes and refusal(cls, changes) is None


def test_arguments_are_checked_before_anything_is_looked_at() -> None:
    for model, says in (
        (RBM(k=0), "^k=0"),
        (RBM(trainer=Trainer(lr=-1.0)), r"^Trainer\(lr=-1.0\)"),
        (genus.VAE(encoder=MLP(0)), r"^MLP\(width=0\)"),
        (BayesianLinearRegression(genus.Polynomial(0)), r"^Polynomial\(degree=0\)"),
    ):
        with pytest.raises(ValueError, match=says):
            model.fit("no rows at all")
    with pytest.raises(ValueError, match="^n_components=0"):
        genus.GaussianMixture(0).partial_fit("no rows at all")
