"""Many models, one table: fitted on the same rows, judged on the same others.

Test rows serve to judge alone: nothing is chosen by them. What comes out is a
:class:`genus.compare.Comparison`.
"""

from __future__ import annotations

import difflib
import math
import platform
import re
import shlex
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from sklearn.base import clone

from genus.coding import as_array
from genus.compare.table import Comparison, Row, in_words
from genus.evaluate.likelihood import likelihood_summary
from genus.evaluate.samples import SampleTest
from genus.learn.fit import time_limit
from genus.learn.rows import generator
from genus.model import CapabilityError, Model
from genus.predictor import Predictor
from genus.space import Space, has_parts

BASELINES = ("IndependentHistogram", "Gaussian")


def compare(
    models: Any = None,
    X: Any = None,
    *,
    test: Any = None,
    y: Any = None,
    given: Any = None,
    space: Space | str | None = None,
    budget: float | str | None = None,
    samples: int = 1000,
    max_test: int = 2000,
    random_state: int = 0,
    jobs: int = 1,
    progress: bool | Callable[[str], None] | None = None,
) -> Comparison:
    """Fit models on the same rows and judge them on others that none of them has seen.

    A model that fails keeps its row, with the error. Ctrl-C keeps what is done.

    Parameters
    ----------
    models : name, class, instance, list or dict, default=None
        Models, or (name, model) pairs; None: every family that suits the data. The baselines, an
        independent histogram and one Gaussian, are always added; on binary data a mixture of
        Bernoullis too. A fitted instance is used as it is (it must not have seen the test rows);
        others are cloned.
    X : str, path, data set, array, tensor or DataFrame, default=None
        Rows, or what ``genus.data.load`` takes: a name, file or folder.
    test : rows, float or None, default=None
        Rows, or the share of X set aside by the seed; None: the set's own test rows, else 0.2.
    y : array or None, default=None
        Labels of X, used only for the embedding of the Fréchet distance and for pictures.
    given : array, "y", pair or None, default=None
        Conditions of X for models of p(x | given): one a row, ``"y"`` for the labels, or a pair
        (of X, of test). Models without conditions are compared as they are; the rows of the others
        say that they saw them.
    space : Space, str or None, default=None
        A Space or a kind's name, for all models. ``"continuous"`` makes every likelihood a density.
    budget : float, str or None, default=None
        Time for each fit, in seconds or as ``"60s"``, ``"2m"``; None: as long as each model wants.
    samples : int, default=1000
        Samples and held-out rows in the two-sample measures, at most; 0: draw none.
    max_test : int, default=2000
        Test rows used, at most; a fixed random part where there are more.
    random_state : int, default=0
        Seed of the split, of every model that has none, and of every measure.
    jobs : int, default=1
        Models fitted at once, in processes.
    progress : bool, callable or None, default=None
        A function is called with a line for each step; None: where stderr is a terminal.

    Returns
    -------
    Comparison
        Print it, or take its ``rows``, ``to_frame()``, ``to_json()`` or ``report(path)``.

    Raises
    ------
    ValueError
        For data or names that cannot be used, before anything is fitted.
    TypeError
        For what is no model and no rows.

    Examples
    --------
    >>> import numpy as np, genus
    >>> X = np.random.default_rng(0).multivariate_normal([0, 0], [[1, 0.9], [0.9, 1]], 200)
    >>> table = genus.compare("Gaussian", X, samples=0, progress=False)
    >>> table.rank()
    {'Gaussian': 1, 'IndependentHistogram': 2}
    """
    started = time.perf_counter()
    if X is None:
        raise ValueError(
            "X is missing: compare(models, X), where X is a name such as 'digits', "
            "a file, an array or a DataFrame"
        )
    seconds = parse_seconds(budget)
    if isinstance(X, str | Path):
        import genus.data

        X = genus.data.load(X)
    name, note = str(getattr(X, "name", None) or "data"), getattr(X, "note", "")
    if has_parts(X):  # inside they are columns of a table, and so they are judged as one
        parts = Space.of(X, space)
        space = parts.flat()
        X = space.decode(parts.encode(X))
        test = space.decode(parts.encode(test)) if has_parts(test) else test
    x, held, y_x, y_held, space_ = _take(X, test, y, space, random_state)
    g_x, g_held = _conditions_of(given, (x, y_x), (held, y_held), test, random_state)
    held, y_held, g_held, notes = _cap(held, y_held, g_held, max_test, random_state)
    notes += [f"{name}: {note}"] if note else []
    # what the models see of grey rows that are drawn afresh for every batch
    seen = _bits(x, space_, random_state)
    codes, held_codes = space_.encode(seen), space_.encode(held)
    missing = any(c.is_floating_point() and bool(c.isnan().any()) for c in (codes, held_codes))
    entries = resolve(models, space_, missing=missing)
    judge: SampleTest | None = None
    if samples:
        try:
            judge = SampleTest(space_, seen, held, y_x, rows=samples, random_state=random_state)
        except ValueError as e:
            notes.append(f"Sample quality was not measured: {e}.")
    count = judge.n if judge else min(samples, len(held))

    task = _Task(space_, x, held, g_x, g_held, seconds, random_state, judge, count)
    rows = _run(task, entries, jobs, _announcer(progress))
    comparison = Comparison(rows, seen, held, space_, name, y_x, y_held, notes=notes)
    for measure in comparison.groups:
        if measure:
            for key, rank in comparison.rank(measure).items():
                comparison[key].rank = rank
    order = list(comparison.groups)
    comparison.rows.sort(
        key=lambda r: (
            r.error is not None,
            order.index(comparison._group(r)),
            r.rank or 0,
            -(r.likelihood.nats if r.likelihood else 0),
        )
    )
    comparison.settings = {
        "random_state": random_state,
        "budget": seconds,
        "samples": count,
        "test_rows": len(held),
        "jobs": jobs,
        "seconds": time.perf_counter() - started,
        "date": time.strftime("%Y-%m-%d"),
        "versions": _versions(),
        "machine": f"{platform.machine()} {platform.system()}",
        "command": shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]),
    }
    return comparison


def parse_seconds(budget: float | str | None) -> float | None:
    """Seconds of ``60``, ``"60s"``, ``"2m"`` or ``"1.5h"``. Raises ValueError."""
    if budget is None:
        return None
    found = re.fullmatch(r"\s*([0-9.]+)\s*(s|m|h|)\s*", str(budget))
    try:
        value = (
            float(found[1]) * {"": 1, "s": 1, "m": 60, "h": 3600}[found[2]] if found else math.nan
        )
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise ValueError(f"budget={budget!r}: seconds such as 60, '60s', '2m' or '1h' are needed")
    return value


# ---------------------------------------------------------------------- which models


def families(predictors: bool = False) -> dict[str, type[Model]]:
    """The public models of p(x), by name; with ``predictors`` those of p(y | X) too."""
    import genus

    found = {n: getattr(genus, n) for n in genus.__all__}
    models = {
        n: c
        for n, c in found.items()
        if isinstance(c, type) and issubclass(c, Model) and c.build is not Model.build
    }
    return {n: c for n, c in models.items() if predictors or not issubclass(c, Predictor)}


def baselines(space: Space) -> tuple[str, ...]:
    """The families that stand in every table of such data.

    A mixture of Bernoullis is one where every cell has two values.
    """
    return (*BASELINES, "CategoricalMixture") if set(space.cardinality) == {2} else BASELINES


def suits(family: type[Model], space: Space) -> bool:
    """Whether the family, with no arguments, models rows of this space at all."""
    model: Any = family()
    model.space_, model.rng = space, generator(0)
    try:
        model.build(space)
    except ValueError:
        return False
    return True


def resolve(
    models: Any, space: Space | None = None, *, missing: bool = False
) -> list[tuple[str, Model]]:
    """(name, model) pairs of whatever :func:`compare` was given, baselines added, names distinct.

    models: see :func:`compare`. space: of the data, where None leaves out families that do not suit
    them; missing: the data have missing cells, where None leaves out families that take none.
    Raises ValueError with the nearest name for one that is unknown, TypeError for what is no model.
    """
    known = families()
    base = BASELINES if space is None else baselines(space)
    if models is None:
        able = {
            n: c
            for n, c in known.items()
            if n not in base
            and hasattr(c, "_sample")
            and c.by_default
            and (c.allow_nan or not missing)
        }
        given: list[Any] = [n for n, c in able.items() if space is None or suits(c, space)]
    elif isinstance(models, Mapping):
        given = list(models.items())
    elif isinstance(models, str | type | Model):
        given = [models]
    else:
        given = list(models)
    pairs = [_one(m, known) for m in given]
    present = {type(m).__name__ for _, m in pairs}
    pairs += [(b, known[b]()) for b in base if b in known and b not in present]
    out: list[tuple[str, Model]] = []
    for name, model in pairs:
        taken = {n for n, _ in out}
        fresh = next(
            n
            for n in (name, *(f"{name} ({i})" for i in range(2, len(pairs) + 2)))
            if n not in taken
        )
        out.append((fresh, model))
    return out


def _one(entry: Any, known: dict[str, type[Model]]) -> tuple[str, Model]:
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


# ---------------------------------------------------------------------- which rows


def _take(
    X: Any, test: Any, y: Any, space: Space | str | None, seed: int
) -> tuple[Any, Any, Any, Any, Space]:
    """(train, test, y of train, y of test, space)."""
    own = getattr(X, "space", None)
    whole = space if space is not None else own if isinstance(own, Space) else None
    labels = y
    if isinstance(own, Space) or (hasattr(X, "train") and hasattr(X, "X")):  # a genus.data set
        labels = getattr(X, "y", None) if y is None else y
        own_train, own_test = getattr(X, "train", None), getattr(X, "test", None)
        if test is None and own_test is not None:
            y_test = getattr(own_test, "y", None)
            x, held = _rows_of(own_train), _rows_of(own_test)
            y_train = getattr(own_train, "y", None)
            if y is not None:
                if len(y) != len(x):
                    raise ValueError(f"y has {len(y)} labels, the training part {len(x)} rows")
                y_train, y_test = y, None
            return x, held, y_train, y_test, Space.of(x, whole)
        X = _rows_of(X)
    elif not hasattr(X, "shape") and not isinstance(X, pd.DataFrame):
        X = as_array(X)
    if labels is not None and len(labels) != len(X):
        raise ValueError(f"y has {len(labels)} labels, X has {len(X)} rows")
    if test is not None and not isinstance(test, int | float):
        held = _rows_of(test)
        return X, held, labels, getattr(test, "y", None), Space.of(X, whole)
    share = 0.2 if test is None else float(test)
    n = round(share * len(X))
    if not 0 < share < 1 or not 0 < n < len(X):
        raise ValueError(
            f"test={test!r}: rows, or a share between 0 and 1 that leaves rows on both sides, "
            f"is needed (X has {len(X)})"
        )
    train_at, held_at = _parted(len(X), n, seed)
    return (
        _pick(X, train_at),
        _pick(X, held_at),
        _pick(labels, train_at),
        _pick(labels, held_at),
        Space.of(X, whole),
    )


def _parted(rows: int, held: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Places of the training rows and of those set aside."""
    order = np.random.RandomState(seed).permutation(rows)
    return np.sort(order[held:]), np.sort(order[:held])


def _conditions_of(
    given: Any, train: tuple[Any, Any], held: tuple[Any, Any], test: Any, seed: int
) -> tuple[Any, Any]:
    """Conditions of the training rows and of the test rows; each part is its rows and labels."""
    (x, y_x), (x_held, y_held) = train, held
    if given is None:
        return None, None
    if isinstance(given, str) and given == "y":
        if y_x is None or y_held is None:
            raise ValueError("given='y': the rows of X or of test have no labels")
        return y_x, y_held
    if isinstance(given, tuple) and len(given) == 2:
        g_x, g_held = given
    elif len(given) == len(x) + len(x_held) and (test is None or isinstance(test, int | float)):
        train_at, held_at = _parted(len(given), len(x_held), seed)
        g_x, g_held = _pick(given, train_at), _pick(given, held_at)
    else:
        raise ValueError(
            f"given has {len(given)} rows, X {len(x)} and test {len(x_held)}: pass given='y' or a "
            "pair (given of X, given of test)"
        )
    for g, rows, name in ((g_x, x, "X"), (g_held, x_held, "test")):
        if len(g) != len(rows):
            raise ValueError(f"given of {name} has {len(g)} rows, {name} has {len(rows)}")
    return g_x, g_held


def _bits(x: Any, space: Space, seed: int) -> Any:
    """Grey rows under a binary space drawn once; other rows as they are."""
    if (
        space.kind != "binary"
        or not isinstance(x, np.ndarray)
        or x.dtype.kind != "f"
        or np.isin(x, (0, 1)).all()
        or np.isnan(x).any()
    ):
        return x
    import genus.data

    return genus.data.binarize(x, seed)


def _rows_of(part: Any) -> Any:
    return getattr(part, "X", part)


def _pick(a: Any, index: np.ndarray) -> Any:
    if a is None:
        return None
    if hasattr(a, "iloc"):
        return a.iloc[index].reset_index(drop=True)
    return a[index] if hasattr(a, "shape") else np.asarray(a)[index]


def _cap(held: Any, y: Any, given: Any, most: int, seed: int) -> tuple[Any, Any, Any, list[str]]:
    if len(held) <= most:
        return held, y, given, []
    chosen = np.sort(np.random.RandomState(seed).permutation(len(held))[:most])
    return (
        _pick(held, chosen),
        _pick(y, chosen),
        _pick(given, chosen),
        [f"{most} of the {len(held)} test rows were used, drawn by the seed."],
    )


# ---------------------------------------------------------------------- one model


@dataclass(frozen=True)
class _Task:
    """What every model is given; a model adds a Row."""

    space: Space
    train: Any
    test: Any
    train_given: Any
    test_given: Any
    budget: float | None
    seed: int
    judge: SampleTest | None
    samples: int

    def __call__(self, name: str, model: Model) -> Row:
        """Fit and judge. Errors become text in the row; only KeyboardInterrupt leaves."""
        row = Row(
            name,
            learned_by=getattr(type(model), "learned_by", ""),
            baseline=type(model).__name__ in baselines(self.space),
        )
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            try:
                row.model = self.fitted(model, row)
            except Exception as e:
                row.error = _say(e)
            if row.model is not None:
                self.judged(row.model, row)
        said = dict.fromkeys(
            str(w.message).split("\n")[0]
            for w in caught
            if issubclass(w.category, UserWarning | RuntimeWarning)
        )
        row.notes += list(said)
        return row

    def fitted(self, model: Model, row: Row) -> Model:
        if model.__sklearn_is_fitted__():
            row.notes.append("fitted before")
            return model
        model = clone(model)
        if model.get_params(deep=False).get("random_state", 0) is None:
            model.set_params(random_state=self.seed)
        begun = time.perf_counter()
        with time_limit(self.budget):
            model.fit(self.train, space=self.space, **self.conditions(model, self.train_given))
        row.fit_seconds = time.perf_counter() - begun
        return model

    def conditions(self, model: Model, given: Any) -> dict[str, Any]:
        """given= for a model that takes it, where there is any."""
        return {"given": given} if given is not None and model.conditions != "none" else {}

    def judged(self, model: Model, row: Row) -> None:
        seen = self.conditions(model, self.test_given)
        if seen:
            row.notes.append("p(x | given): it saw the conditions")
        row.history = list(getattr(model, "history_", []))
        row.n_parameters = int(model.n_parameters())
        if hasattr(model, "log_prob"):
            try:
                row.log_prob = model.log_prob(self.test, **seen)
                row.likelihood = likelihood_summary(row.log_prob)
                if math.isnan(row.likelihood.nats):
                    row.log_prob = row.likelihood = None
                    row.notes.append("the log-likelihood is NaN: the model did not fit")
            except Exception as e:
                row.notes.append(f"no log-likelihood: {_say(e)}")
        if self.samples and hasattr(model, "sample"):
            try:
                begun = time.perf_counter()
                more = {"given": _cycled(self.test_given, self.samples)} if seen else {}
                row.samples = model.sample(self.samples, random_state=self.seed, **more)
                row.sample_seconds, row.n_sampled = time.perf_counter() - begun, self.samples
                row.quality = self.judge(row.samples) if self.judge else None
            except Exception as e:
                row.notes.append(f"no sample quality: {_say(e)}")


def _cycled(given: Any, n: int) -> Any:
    """n conditions: those of the test rows, over and over."""
    return _pick(given, np.arange(n) % len(given))


def _say(e: Exception) -> str:
    text = str(e).strip().split("\n")[0]
    return (
        text
        if isinstance(e, ValueError | CapabilityError) and text
        else f"{type(e).__name__}: {text}"
    )


def _run(
    task: _Task, entries: list[tuple[str, Model]], jobs: int, say: Callable[[str], None]
) -> list[Row]:
    """A row for every entry, in order; after Ctrl-C the rest are marked as not run."""
    rows: list[Row] = []
    base = baselines(task.space)
    try:
        for row in _rows(task, entries, jobs, say):
            rows.append(row)
            value = str(row.likelihood) if row.likelihood else "—"
            say(
                f"{row.name} failed: {row.error}"
                if row.error
                else f"{row.name}: {value} nats, fitted in {in_words(row.fit_seconds)} s"
            )
            if getattr(row.model, "interrupted_", False) and "fitted before" not in row.notes:
                raise KeyboardInterrupt
    except KeyboardInterrupt:
        say("interrupted: what is done is kept")
    return rows + [
        Row(
            name,
            learned_by=getattr(type(m), "learned_by", ""),
            baseline=type(m).__name__ in base,
            error="not run: interrupted",
        )
        for name, m in entries[len(rows) :]
    ]


def _rows(
    task: _Task, entries: list[tuple[str, Model]], jobs: int, say: Callable[[str], None]
) -> Iterator[Row]:
    if jobs == 1:
        for i, (name, model) in enumerate(entries):
            say(f"{name} ({i + 1} of {len(entries)}) …")
            yield task(name, model)
        return
    import joblib

    say(f"{len(entries)} models, {jobs} at once …")
    yield from joblib.Parallel(n_jobs=jobs, return_as="generator")(
        joblib.delayed(task)(n, m) for n, m in entries
    )


def _announcer(progress: bool | Callable[[str], None] | None) -> Callable[[str], None]:
    if callable(progress):
        return progress
    if progress if progress is not None else sys.stderr.isatty():
        return lambda line: print(line, file=sys.stderr, flush=True)
    return lambda line: None


def _versions() -> dict[str, str]:
    import scipy
    import sklearn
    import torch

    import genus

    modules = {
        "genus": genus,
        "torch": torch,
        "numpy": np,
        "scipy": scipy,
        "scikit-learn": sklearn,
        "pandas": pd,
    }
    return {
        "python": platform.python_version(),
        **{n: str(m.__version__) for n, m in modules.items()},
    }
