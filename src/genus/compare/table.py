"""The table of a comparison: its rows, their ranks, and how it is printed.

Numbers that mean different things are kept in different groups, and each says what kind of number
it is:

    =  the log-likelihood itself
    ≥  a lower bound on it
    ≈  an estimate, which may err on either side
"""

from __future__ import annotations

import io
import math
import shutil
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from markupsafe import Markup

from genus.compare.uses import DRAWS, HIDDEN, ROWS, SWAPPED
from genus.evaluate.completion import Completion
from genus.evaluate.likelihood import COMPARABLE, Likelihood, paired_difference
from genus.evaluate.outliers import Outliers
from genus.evaluate.samples import SampleQuality
from genus.learn import processes
from genus.likelihood import LogProb
from genus.model import Model
from genus.space import Space

TITLES = {
    "probability": "Log-likelihood: probabilities of discrete rows",
    "density": "Log-likelihood: densities per unit of the data",
    "": "No likelihood",
}
SYMBOLS = {
    "=": "= is the log-likelihood itself",
    "≥": "≥ is a lower bound on it",
    "≈": "≈ is a Monte Carlo estimate",
}
USES = (
    f"Hidden cells: {100 * HIDDEN:.0f} % of the cells of at most {ROWS} test rows were hidden and "
    f"drawn {DRAWS} times by each model. Numbers: error of the mean, in standard deviations of "
    "the column, 1 for a model that knows nothing of the row. Words: share of the most frequent "
    "draws that are right. Interval: share of numbers within the central 90 % of their draws. "
    f"Swapped rows: {100 * SWAPPED:.0f} % of the test rows got cells of others; AUROC of −log p, "
    "0.5 for chance."
)


@dataclass
class Row:
    """One model of a comparison: what it is, what it cost and how it did; None where unknown.

    Attributes
    ----------
    name
        As given.
    model
        Fitted.
    learned_by
        What learned it, such as ``EM``.
    baseline
        Does it stand in every table?
    log_prob, likelihood
        Of the test rows, and its summary.
    rank
        Among rows of one measure, 1 the best, equal where the paired difference is within 2
        standard errors; see :meth:`Comparison.rank`.
    samples, quality
        Drawn rows, in the caller's type, and what they are like.
    completion, outliers
        Of a table: hidden cells filled in, and rows with swapped cells found.
    fit_seconds, judge_seconds, score_seconds, sample_seconds, n_sampled, one_seconds
        Wall clock (nan: fitted before, or not asked): of the fit, of all that judges it, of the
        log-probability of the test rows, of the samples and how many they are, of a single one.
    n_parameters
        Learned values.
    history
        Of training.
    notes
        Warnings, and verbs that could not answer.
    error
        Why there is no fitted model.
    """

    name: str
    model: Model | None = None
    learned_by: str = ""
    baseline: bool = False
    log_prob: LogProb | None = None
    likelihood: Likelihood | None = None
    rank: int | None = None
    samples: Any = None
    quality: SampleQuality | None = None
    completion: Completion | None = None
    outliers: Outliers | None = None
    fit_seconds: float = math.nan
    judge_seconds: float = math.nan
    score_seconds: float = math.nan
    sample_seconds: float = math.nan
    n_sampled: int = 0
    one_seconds: float = math.nan
    n_parameters: int | None = None
    history: list[dict[str, Any]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    error: str | None = None

    @property
    def measure(self) -> str | None:
        """``probability``, ``density`` or ``mixed``: only rows of one measure may be ranked."""
        return self.likelihood.measure if self.likelihood else None

    def numbers(self) -> dict[str, Any]:
        """Every number of the row under the names of :meth:`Comparison.to_frame`."""
        l, q, c, o = self.likelihood, self.quality, self.completion, self.outliers
        return {
            "model": self.name,
            "learned_by": self.learned_by,
            "baseline": self.baseline,
            "rank": self.rank,
            "measure": self.measure,
            "kind": l.kind if l else None,
            "symbol": l.symbol if l else "—",
            "nats": l.nats if l else math.nan,
            "nats_stderr": l.stderr if l else math.nan,
            "nats_mc_stderr": l.mc_stderr if l else math.nan,
            "bits_per_dim": l.bits_per_dim if l else math.nan,
            "bits_stderr": l.bits_stderr if l else math.nan,
            "c2st": q.classifier.accuracy if q else math.nan,
            "c2st_stderr": q.classifier.stderr if q else math.nan,
            "c2st_p": q.classifier.p_value if q else math.nan,
            "mmd2": q.mmd.mmd2 if q else math.nan,
            "mmd_p": q.mmd.p_value if q else math.nan,
            "frechet": q.frechet.distance if q else math.nan,
            "frechet_floor": q.frechet.floor if q else math.nan,
            "frechet_spread": q.frechet.spread[1] - q.frechet.spread[0] if q else math.nan,
            "frechet_embedding": q.frechet.embedding if q else None,
            "precision": q.overlap.precision if q else math.nan,
            "recall": q.overlap.recall if q else math.nan,
            "density": q.overlap.density if q else math.nan,
            "coverage": q.overlap.coverage if q else math.nan,
            "memorisation": q.memorisation.word if q else None,
            "memorisation_excess": q.memorisation.excess if q else math.nan,
            "memorisation_p": q.memorisation.p_value if q else math.nan,
            "filled_rmse": c.rmse if c else math.nan,
            "filled_accuracy": c.accuracy if c else math.nan,
            "filled_coverage": c.coverage if c else math.nan,
            "swapped_auroc": o.auroc if o else math.nan,
            "swapped_auroc_stderr": o.stderr if o else math.nan,
            "fit_seconds": self.fit_seconds,
            "judge_seconds": self.judge_seconds,
            "score_seconds": self.score_seconds,
            "sample_seconds": self.sample_seconds,
            "n_sampled": self.n_sampled,
            "one_seconds": self.one_seconds,
            "n_parameters": self.n_parameters,
            "notes": "; ".join(self.notes),
            "error": self.error,
        }


@dataclass
class Comparison:
    """What :func:`compare` found: a table to print, to read, or to write as a page.

    Attributes
    ----------
    rows
        One a model, best first within each measure.
    train, test
        The rows, in the caller's type.
    space, name
        Of the data.
    y_train, y_test
        Labels or None.
    settings
        Seed, budget, counts, versions, command.
    notes
        For the reader.
    about
        What the table holds, for the reader to know before the ranking.
    """

    rows: list[Row]
    train: Any
    test: Any
    space: Space
    name: str = "data"
    y_train: Any = None
    y_test: Any = None
    settings: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    about: list[str] = field(default_factory=list)

    def __getitem__(self, name: str) -> Row:
        """The row of a model's name. Raises KeyError."""
        for row in self.rows:
            if row.name == name:
                return row
        raise KeyError(f"no row {name!r}: there are {', '.join(r.name for r in self.rows)}")

    @property
    def groups(self) -> dict[str, list[Row]]:
        """Rows by measure, and under ``""`` those without: nothing is ranked across groups."""
        found: dict[str, list[Row]] = {}
        for row in sorted(self.rows, key=lambda r: r.likelihood is None):
            found.setdefault(self._group(row), []).append(row)
        return found

    def _group(self, row: Row) -> str:
        """The measure of a row; another split of columns into sorts is another measure."""
        if row.measure == "mixed" and row.model is not None:
            own = row.model.space_.discrete
            if own != self.space.discrete:
                return f"mixed, {sum(own)} discrete"
        return row.measure or ""

    def put_in_order(self) -> None:
        """Rank the rows of each measure, and sort them: measures, ranks, values, failures."""
        groups = list(self.groups)
        for measure in filter(None, groups):
            for name, rank in self.rank(measure).items():
                self[name].rank = rank

        def place(r: Row) -> tuple[Any, ...]:
            nats = r.likelihood.nats if r.likelihood else 0.0
            return r.error is not None, groups.index(self._group(r)), r.rank or 0, -nats

        self.rows.sort(key=place)

    def rank(self, measure: str | None = None) -> dict[str, int]:
        """The rank of each model by held-out log-likelihood, 1 the best.

        Models whose paired difference from the best of their rank is within 2 standard errors share
        it. Bounds and estimates are ranked by their value; a bound may be lower than the truth.
        measure: the group to rank; it may be left out where there is one only. Raises ValueError
        when the rows hold several measures: a probability is never ranked with a density.
        """
        groups = {k: v for k, v in self.groups.items() if k}
        if measure is None and len(groups) > 1:
            raise ValueError(
                f"this table holds {' and '.join(map(repr, groups))} values, which cannot be "
                f"ranked together: {COMPARABLE}"
            )
        if measure is not None and measure not in groups:
            raise ValueError(
                f"measure={measure!r}: the rows have {', '.join(groups) or 'no likelihood'}"
            )
        if measure is not None:
            return _ranks(groups[measure])
        return _ranks([r for rows in groups.values() for r in rows])

    def to_frame(self) -> pd.DataFrame:
        """One row a model, one column a number; NaN where there is none.

        The columns are nats, bits_per_dim, c2st, mmd_p, frechet and so on.
        """
        return pd.DataFrame([r.numbers() for r in self.rows])

    def to_json(self) -> dict[str, Any]:
        """A plain dict of all but data and models; numbers that are not finite become None."""
        said = {
            "name": self.name,
            "space": str(self.space),
            "train_rows": len(self.train),
            "test_rows": len(self.test),
            "settings": self.settings,
            "about": self.about,
            "notes": self.footnotes(),
            "rows": [{**r.numbers(), "notes": r.notes, "history": r.history} for r in self.rows],
        }
        plain: dict[str, Any] = _plain(said)
        return plain

    def report(self, path: str | Path) -> Path:
        """Write the HTML report to ``path``."""
        from genus import report

        if not processes.rank():  # of several processes the first writes
            report.write(self, path)
        return Path(path)

    # ------------------------------------------------------------------ for people

    def table(self, rows: Iterable[Row] | None = None) -> list[dict[str, str]]:
        """The printed cells of each row, under the headings of the table."""
        return [self._cells(r) for r in (self.rows if rows is None else rows)]

    def _cells(self, r: Row) -> dict[str, str]:
        l, q = r.likelihood, r.quality
        frechet = next((s.quality.frechet for s in self.rows if s.quality), None)
        heading = f"{frechet.name}, floor {frechet.floor:.3f}" if frechet else "Fréchet"
        cells = {
            "rank": "" if r.rank is None else str(r.rank),
            "model": r.name,
            "learned by": r.learned_by,
            "nats": str(l) if l else "—",
            "bits/dim": f"{l.bits_per_dim:.3f}" if l else "—",
            "fit s": in_words(r.fit_seconds),
            "parameters": f"{r.n_parameters:,}" if r.n_parameters is not None else "—",
            "C2ST": f"{q.classifier.accuracy:.3f} ± {q.classifier.stderr:.3f}" if q else "—",
            "MMD p": f"{q.mmd.p_value:.3f}" if q else "—",
            heading: f"{q.frechet.distance:.3f}" if q else "—",
            "memorisation": q.memorisation.word if q else "—",
            f"sample s (n={self.settings.get('samples', 0)})": in_words(r.sample_seconds),
        }
        return {**cells, **_uses(r)} if self.of_use else cells

    @property
    def of_use(self) -> list[Row]:
        """The rows that were judged by what people use the model of a table for."""
        return [r for r in self.rows if r.completion or r.outliers]

    def footnotes(self) -> list[str]:
        """What a reader of the table must know, one sentence or two each."""
        present = {r.likelihood.symbol for r in self.rows if r.likelihood}
        lines = []
        if present:
            said = "; ".join(text for symbol, text in SYMBOLS.items() if symbol in present)
            if "≥" in present:
                said += (
                    ". A bound may lie below the truth, so its model may be better than its rank"
                )
            lines.append(
                "Log-likelihood: mean nats a test row ± standard error, higher is better. "
                f"{said}. Models within 2 standard errors (paired by row) share a rank."
            )
        groups = [g for g in self.groups if g]
        if len(groups) > 1:
            lines.append(
                "Groups of different measure are not ranked with each other, "
                f"nor by bits/dim: {COMPARABLE}."
            )
        if any(r.quality for r in self.rows):
            n = next(r.quality.n for r in self.rows if r.quality)
            lines.append(
                f"Samples: {n} samples against {n} test rows. C2ST: accuracy of a classifier "
                "between them, 0.5 when it cannot tell. MMD p: small when the two differ. "
                "Fréchet: lower is better; its floor is training against test rows in the same "
                "counts. Compare none of them with a table of other counts."
            )
        if self.of_use:
            lines.append(USES)
        baselines = [r.name for r in self.rows if r.baseline]
        if baselines:
            lines.append(
                f"Baselines: {' and '.join(baselines)}. "
                "A model that does not beat them has learned little."
            )
        return [*lines, *self.notes]

    def __rich__(self) -> Any:
        from rich.console import Group
        from rich.text import Text

        counts = f"{len(self.train)} training rows, {len(self.test)} test rows"
        parts: list[Any] = [Text(f"{self.name}: {self.space}; {counts}", style="bold")]
        parts += [Text(line) for line in self.about]
        fitted = {g: [r for r in rows if not r.error] for g, rows in self.groups.items()}
        for measure, rows in fitted.items():
            if rows:
                title = TITLES.get(measure, f"Log-likelihood: {measure}")
                parts.append(_rich_table(title, self.table(rows), slice(0, 7)))
        drawn = [r for rows in fitted.values() for r in rows if r.n_sampled]
        if drawn:
            parts.append(_rich_table("Samples", self.table(drawn), slice(7, 12), first=["model"]))
        if self.of_use:
            title = "Hidden cells filled in, and rows with swapped cells found"
            cells = self.table(self.of_use)
            parts.append(_rich_table(title, cells, slice(12, None), first=["model"]))
        parts += [Text(f"{r.name} failed: {r.error}", style="red") for r in self.rows if r.error]
        parts += [Text(f"{r.name}: {note}", style="dim") for r in self.rows for note in r.notes]
        parts += [Text(line, style="dim") for line in self.footnotes()]
        return Group(*parts)

    def __str__(self) -> str:
        from rich.console import Console

        out = io.StringIO()
        Console(file=out, width=max(100, shutil.get_terminal_size().columns)).print(self)
        return "\n".join(line.rstrip() for line in out.getvalue().splitlines())

    __repr__ = __str__

    def _repr_html_(self) -> str:
        parts = [Markup("<p><b>{}</b>: {}</p>").format(self.name, self.space)]
        parts += [Markup("<p>{}</p>").format(line) for line in self.about]
        for measure, rows in self.groups.items():
            cells = self.table([r for r in rows if not r.error])
            if cells:
                parts.append(_html_table(measure or "no likelihood", cells))
        failed = Markup("<p>{} failed: {}</p>")
        parts += [failed.format(r.name, r.error) for r in self.rows if r.error]
        note = Markup("<p><small>{}</small></p>")
        parts += [note.format(line) for line in self.footnotes()]
        return "".join(parts)


# ---------------------------------------------------------------------- small things


def _ranks(rows: list[Row]) -> dict[str, int]:
    """1 for the best and for all within 2 paired standard errors of it, and so on from the next."""
    ordered = sorted(rows, key=lambda r: -r.likelihood.nats)  # type: ignore[union-attr]
    ranks: dict[str, int] = {}
    best: Row | None = None
    for place, row in enumerate(ordered, start=1):
        if best is None or not _tied(best, row):
            best, rank = row, place
        ranks[row.name] = rank
    return ranks


def _tied(a: Row, b: Row) -> bool:
    assert a.log_prob is not None and b.log_prob is not None
    d = paired_difference(a.log_prob, b.log_prob)
    return bool(abs(d.nats) <= 2 * d.stderr)


def _uses(r: Row) -> dict[str, str]:
    """The printed cells of what a model of a table is used for."""
    c, o = r.completion, r.outliers
    return {
        "numbers (error in sd)": _figure(c.rmse if c else math.nan),
        "words (right)": _figure(c.accuracy if c else math.nan),
        "90 % interval (covers)": _figure(c.coverage if c else math.nan),
        "swapped rows (AUROC)": f"{o.auroc:.3f} ± {o.stderr:.3f}" if o else "—",
    }


def _figure(value: float) -> str:
    return "—" if math.isnan(value) else f"{value:.3f}"


def in_words(s: float) -> str:
    """Seconds, as a table shows them."""
    if math.isnan(s):
        return "—"
    return f"{s:.2f}" if s < 10 else f"{s:.0f}"


def _html_table(caption: str, rows: list[dict[str, str]]) -> Markup:
    """Rows of one measure as HTML."""
    head = Markup("").join(Markup("<th>{}</th>").format(heading) for heading in rows[0])
    body = Markup("")
    for row in rows:
        cells = Markup("").join(Markup("<td>{}</td>").format(value) for value in row.values())
        body += Markup("<tr>{}</tr>").format(cells)
    return Markup(
        "<table><caption>{}</caption><thead><tr>{}</tr></thead><tbody>{}</tbody></table>"
    ).format(caption, head, body)


def _rich_table(
    title: str, rows: list[dict[str, str]], part: slice, first: list[str] | None = None
) -> Any:
    """Some of the cells, narrow enough for a terminal."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    headings = (first or []) + list(rows[0])[part]
    table = Table(title=title, box=box.SIMPLE_HEAD, title_justify="left")
    for heading in headings:
        words = heading in ("model", "learned by", "memorisation")
        table.add_column(
            heading.replace(" (", "\n(").replace(", ", "\n"),
            justify="left" if words else "right",
            no_wrap=heading in ("model", "nats"),
        )
    for row in rows:
        table.add_row(*(Text(row[h]) for h in headings))
    return table


def _plain(value: Any) -> Any:
    """Value as JSON holds it."""
    if isinstance(value, dict):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
