"""Many models, one table: fitted on the same rows, judged on the same others.

Test rows serve to judge alone: nothing is chosen by them. What comes out is a
:class:`genus.compare.Comparison`.
"""

from __future__ import annotations

import math
import platform
import re
import shlex
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from torch import Tensor

from genus.compare.describing import describe, left_out
from genus.compare.entries import not_compared, resolve
from genus.compare.judging import Task, run_all
from genus.compare.rows import bits, cap, conditions_of, take
from genus.compare.table import Comparison
from genus.compare.uses import UseTest
from genus.evaluate.samples import SampleTest
from genus.learn import processes
from genus.space import Space, has_parts


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
        Models, or (name, model) pairs; None: every family that suits the data; ``"all"``: also
        those that are slow by themselves (diffusion, scores). The baselines, an
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
        Judging a model comes on top, seconds on 1,000 rows of 86 columns; see ``judge_seconds``.
    samples : int, default=1000
        Samples and held-out rows in the two-sample measures, at most; 0: draw none, and leave
        hidden and swapped cells of tables out as well.
    max_test : int, default=2000
        Test rows used, at most; a fixed random part where there are more.
    random_state : int, default=0
        Seed of the split, of every model that has none, and of every measure.
    jobs : int, default=1
        Models fitted at once, in processes of joblib, or where a back end of joblib says that the
        caller chose with ``joblib.parallel_config``. A worker that dies costs its model's row.
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
    {'Gaussian': 1, 'Independent': 2}
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
    name = str(getattr(X, "name", None) or "data")
    note = getattr(X, "note", "")
    if has_parts(X):  # inside they are columns of a table, and so they are judged as one
        parts = Space.of(X, space)
        space = parts.flat()
        X = space.decode(parts.encode(X))
        test = space.decode(parts.encode(test)) if has_parts(test) else test
    x, held, y_x, y_held, space_ = take(X, test, y, space, random_state)
    g_x, g_held = conditions_of(given, (x, y_x), (held, y_held), test, random_state)
    described = describe(_whole(X, x), space_)
    about = [f"{name}: {note.rstrip('.')}.", *described] if note else described
    held, y_held, g_held, notes = cap(held, y_held, g_held, max_test, random_state)
    # what the models see of grey rows that are drawn afresh for every batch
    seen = bits(x, space_, random_state)
    missing = any(bool(space_.encode(part).isnan().any()) for part in (seen, held))
    entries = resolve(models, space_, missing=missing)
    if models is None:
        about += left_out(not_compared(space_, missing=missing))
    judge: SampleTest | None = None
    if samples:
        try:
            judge = SampleTest(space_, seen, held, y_x, rows=samples, random_state=random_state)
        except ValueError as e:
            notes.append(f"Sample quality was not measured: {e}.")
    uses: UseTest | None = None
    if samples and space_.image_shape is None and len(space_.shape) == 1:
        try:
            uses = UseTest(space_, seen, held, random_state)
        except ValueError as e:
            notes.append(f"Hidden and swapped cells were not judged: {e}.")
    count = judge.n if judge else min(samples, len(held))

    task = Task(space_, x, held, g_x, g_held, seconds, random_state, judge, count, uses)
    rows = run_all(task, entries, jobs, _announcer(progress))
    comparison = Comparison(rows, seen, held, space_, name, y_x, y_held, notes=notes, about=about)
    comparison.put_in_order()
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


def _whole(X: Any, train: Any) -> Any:
    """All rows in the order in which they came; the training rows where X is no array or frame."""
    rows = getattr(X, "X", X)
    return rows if isinstance(rows, np.ndarray | pd.DataFrame | Tensor) else train


def parse_seconds(budget: float | str | None) -> float | None:
    """Seconds of ``60``, ``"60s"``, ``"2m"`` or ``"1.5h"``. Raises ValueError."""
    if budget is None:
        return None
    unit = {"": 1, "s": 1, "m": 60, "h": 3600}
    found = re.fullmatch(r"\s*([0-9]+\.?[0-9]*|\.[0-9]+)\s*(s|m|h|)\s*", str(budget))
    value = float(found[1]) * unit[found[2]] if found else math.nan
    if not 0 < value < math.inf:
        raise ValueError(f"budget={budget!r}: seconds such as 60, '60s', '2m' or '1h' are needed")
    return value


def _announcer(progress: bool | Callable[[str], None] | None) -> Callable[[str], None]:
    if processes.rank():  # of several processes the first speaks
        return lambda line: None
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

    return {
        "python": platform.python_version(),
        "genus": genus.__version__,
        "torch": str(torch.__version__),
        "numpy": np.__version__,
        "scipy": scipy.__version__,
        "scikit-learn": sklearn.__version__,
        "pandas": pd.__version__,
    }
