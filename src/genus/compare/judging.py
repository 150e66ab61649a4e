"""Every model fitted on the same rows and judged on the same others; what fails keeps its row."""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.base import clone

from genus.compare.entries import baselines
from genus.compare.rows import pick
from genus.compare.table import Row, in_words
from genus.compare.uses import UseTest
from genus.evaluate.likelihood import likelihood_summary
from genus.evaluate.samples import SampleTest
from genus.learn.fit import time_limit
from genus.learn.progress import stopping_as_ctrl_c
from genus.model import CapabilityError, Model
from genus.space import Space


@dataclass(frozen=True)
class Task:
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
    uses: UseTest | None = None

    def __call__(self, name: str, model: Model) -> Row:
        """Fit and judge. Errors become text in the row; only KeyboardInterrupt leaves."""
        row = self.row(name, model)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            try:
                row.model = self.fitted(model, row)
            except Exception as e:
                row.error = _say(e)
            if row.model is not None:
                begun = time.perf_counter()
                self.judged(row.model, row)
                row.judge_seconds = time.perf_counter() - begun
        told = [w for w in caught if issubclass(w.category, UserWarning | RuntimeWarning)]
        row.notes += list(dict.fromkeys(str(w.message).split("\n")[0] for w in told))
        return row

    def row(self, name: str, model: Model, error: str | None = None) -> Row:
        """An empty row for a model."""
        baseline = type(model).__name__ in baselines(self.space)
        learned_by = getattr(type(model), "learned_by", "")
        return Row(name, learned_by=learned_by, baseline=baseline, error=error)

    def fitted(self, model: Model, row: Row) -> Model:
        """The model as it is where it is fitted, else a copy fitted on the training rows."""
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
        if given is None or model.conditions == "none":
            return {}
        return {"given": given}

    def judged(self, model: Model, row: Row) -> None:
        """Note likelihood and sample quality in the row, or why there is none."""
        seen = self.conditions(model, self.test_given)
        if seen:
            row.notes.append("p(x | given): it saw the conditions")
        row.history = list(getattr(model, "history_", []))
        row.n_parameters = int(model.n_parameters())
        if hasattr(model, "log_prob"):
            try:
                self.score(model, row, seen)
            except Exception as e:
                row.notes.append(f"no log-likelihood: {_say(e)}")
        if self.samples and hasattr(model, "sample"):
            more = {"given": _cycled(self.test_given, self.samples)} if seen else {}
            try:
                self.draw(model, row, more)
            except Exception as e:
                row.notes.append(f"no sample quality: {_say(e)}")
        if self.uses is not None:
            self.use(model, row, self.uses, seen.get("given"))

    def score(self, model: Model, row: Row, seen: dict[str, Any]) -> None:
        """The likelihood of the test rows."""
        begun = time.perf_counter()
        row.log_prob = model.log_prob(self.test, **seen)
        row.score_seconds = time.perf_counter() - begun
        row.likelihood = likelihood_summary(row.log_prob)
        if math.isnan(row.likelihood.nats):
            row.log_prob = row.likelihood = None
            row.notes.append("the log-likelihood is NaN: the model did not fit")

    def draw(self, model: Model, row: Row, seen: dict[str, Any]) -> None:
        """Samples, how long they took, and what they are like."""
        begun = time.perf_counter()
        row.samples = model.sample(self.samples, random_state=self.seed, **seen)
        row.sample_seconds = time.perf_counter() - begun
        row.n_sampled = self.samples
        row.quality = self.judge(row.samples) if self.judge else None
        one = {"given": _cycled(self.test_given, 1)} if seen else {}
        begun = time.perf_counter()
        model.sample(1, random_state=self.seed, **one)
        row.one_seconds = time.perf_counter() - begun

    def use(self, model: Model, row: Row, uses: UseTest, given: Any) -> None:
        """What it is worth for filling in cells and for finding strange rows."""
        if hasattr(model, "complete"):
            try:
                row.completion = uses.completion(model, given)
            except TimeoutError as e:
                row.notes.append(f"not judged by the cells that it fills in: {e}")
            except Exception as e:
                row.notes.append(f"no cells filled in: {_say(e)}")
        if row.log_prob is not None:
            try:
                row.outliers = uses.outliers(model, row.log_prob, given)
            except Exception as e:
                row.notes.append(f"no strange rows found: {_say(e)}")


def _cycled(given: Any, n: int) -> Any:
    """n conditions: those of the test rows, over and over."""
    return pick(given, np.arange(n) % len(given))


def _say(e: Exception) -> str:
    """An error in one line."""
    text = str(e).strip().split("\n")[0]
    if isinstance(e, ValueError | CapabilityError) and text:
        return text
    return f"{type(e).__name__}: {text}"


def run_all(
    task: Task, entries: list[tuple[str, Model]], jobs: int, say: Callable[[str], None]
) -> list[Row]:
    """A row for every entry, in order; after Ctrl-C or SIGTERM the rest are marked as not run."""
    rows: list[Row] = []
    try:
        with stopping_as_ctrl_c():
            for row in _rows(task, entries, jobs, say):
                rows.append(row)
                if row.error:
                    say(f"{row.name} failed: {row.error}")
                else:
                    value = str(row.likelihood) if row.likelihood else "—"
                    fitted, judged = in_words(row.fit_seconds), in_words(row.judge_seconds)
                    say(f"{row.name}: {value} nats, fitted in {fitted} s, judged in {judged} s")
                if getattr(row.model, "interrupted_", False) and "fitted before" not in row.notes:
                    raise KeyboardInterrupt
    except KeyboardInterrupt:
        say("interrupted: what is done is kept")
    left = entries[len(rows) :]
    return rows + [task.row(name, model, error="not run: interrupted") for name, model in left]


def _rows(
    task: Task, entries: list[tuple[str, Model]], jobs: int, say: Callable[[str], None]
) -> Iterator[Row]:
    if jobs == 1:
        for i, (name, model) in enumerate(entries):
            say(f"{name} ({i + 1} of {len(entries)}) …")
            yield task(name, model)
        return
    say(f"{len(entries)} models, {jobs} at once …")
    done = 0
    try:
        for row in _in_workers(task, entries, jobs):
            yield row
            done += 1
        return
    except Exception as e:  # of a worker: those of models are in their rows
        say(f"a worker ended ({_say(e)}): the models left are fitted one by one")
    for name, model in entries[done:]:
        try:
            yield from _in_workers(task, [(name, model)], jobs)
        except Exception as e:
            ended = "the process that fitted it ended: it was killed, or out of memory"
            yield task.row(name, model, error=f"{ended} ({_say(e)})")


def _row_of(task: Task, name: str, model: Model) -> Row:
    """What a worker runs; some back ends want a function that has a hash."""
    return task(name, model)


def _in_workers(task: Task, entries: list[tuple[str, Model]], jobs: int) -> Iterator[Row]:
    """Rows in order, from workers of joblib's back end: its own, or one the caller chose."""
    import joblib

    calls = [joblib.delayed(_row_of)(task, name, model) for name, model in entries]
    backend, _ = joblib.parallel.get_active_backend()
    # others give all rows at once, or never say that a worker died while they are waited for
    lazily = type(backend).__name__ in ("LokyBackend", "ThreadingBackend", "RayBackend")
    return_as = "generator" if lazily else "list"
    yield from joblib.Parallel(n_jobs=jobs, return_as=return_as)(calls)
