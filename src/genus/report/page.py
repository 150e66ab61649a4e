"""The report: everything a comparison found, as one HTML file that needs nothing else.

The page is assembled from numbers, the pictures of :mod:`genus.report.sections` (inline SVG, images
in it as data) and a Jinja template; it has no script and asks nothing of the network.
"""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from genus.files import replacing
from genus.report import plots
from genus.report.sections import Sections
from genus.report.words import MEANINGS, USES_MEAN, answer, number, plus_minus, seconds

TITLES = {
    "probability": "Probabilities",
    "density": "Densities",
    "": "Not ranked: no likelihood",
}
USES = (
    ("numbers filled in", "error in sd"),
    ("words filled in", "share right"),
    ("90 % interval", "covers"),
    ("swapped rows found", "AUROC"),
)
Cell = tuple[str, str]  # a value, and what stands in small print below it
NONE: Cell = ("—", "")


def write(comparison: Any, path: str | Path) -> None:
    """Write the page of a :class:`genus.compare.Comparison` to ``path``, whole or not at all."""
    html = page(comparison)
    with replacing(path) as temporary:
        temporary.write_text(html, encoding="utf-8")


def page(comparison: Any) -> str:
    """The page as HTML."""
    c, env = comparison, _environment()
    assert env.loader is not None
    style, _, _ = env.loader.get_source(env, "page.css")
    sections = Sections(c)
    about = (
        f"{len(c.train):,} training rows, {len(c.test):,} held out · {c.space}"
        f" · {c.settings.get('date', '')}"
    )
    made = [re.sub(r"\s+", " ", repr(r.model)) for r in c.rows if r.model is not None]
    return env.get_template("page.html.j2").render(
        title=f"Which model describes {c.name} best?",
        style=Markup(style),
        answer=answer(c),
        facts=about,
        about=c.about,
        columns=columns(c),
        groups=[group(sections, measure, rows) for measure, rows in c.groups.items()],
        notes=[*c.notes, *(f"{r.name}: {note}" for r in c.rows for note in r.notes)],
        sections=sections.all(),
        meanings=[*MEANINGS, *(USES_MEAN if c.of_use else ())],
        command=c.settings.get("command"),
        settings=settings(c),
        models="\n".join(made),
        version=c.settings.get("versions", {}).get("genus", ""),
    )


def _environment() -> Environment:
    env = Environment(
        loader=PackageLoader("genus.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    env.filters["breakable"] = _breakable
    return env


def _breakable(name: str) -> Markup:
    """A class's name that may be broken before its capitals."""
    return Markup("<wbr>").join(re.split("(?<=[a-z])(?=[A-Z])", name))


# ---------------------------------------------------------------------- the table of numbers


def columns(comparison: Any) -> list[tuple[str, str]]:
    """The name of every column, and the small print below it."""
    frechet = next((r.quality.frechet for r in comparison.rows if r.quality), None)
    made_of = f"{frechet.embedding}, floor {number(frechet.floor)}" if frechet else ""
    return [
        ("log-likelihood", "nats, higher is better"),
        ("bits/dim", "lower is better"),
        ("told from real", "50 % is best"),
        ("MMD p", ""),
        ("Fréchet distance", made_of),
        ("copies", ""),
        ("time to fit", f"to sample {comparison.settings.get('samples', 0):,}"),
        ("parameters", ""),
        *(USES if comparison.of_use else ()),
    ]


def group(sections: Sections, measure: str, rows: list[Any]) -> dict[str, Any]:
    """The rows whose numbers may be compared, with a chart of their bits per dimension."""
    scored = [r for r in rows if r.likelihood is not None]
    good = [r for r in scored if math.isfinite(r.likelihood.bits_per_dim)]
    return {
        "title": TITLES.get(measure, "Mixed measure"),
        "chart": _chart(sections, good) if len(good) > 1 else None,
        "arrows": any(r.likelihood.symbol == "≥" for r in good),
        "rows": [row(r, bool(sections.of_use)) for r in rows],
    }


def _chart(sections: Sections, rows: list[Any]) -> Markup:
    """Bits per dimension of rows, with their errors."""
    names, found = [r.name for r in rows], [r.likelihood for r in rows]
    figure = plots.whiskers(
        names,
        [v.bits_per_dim for v in found],
        [v.bits_stderr for v in found],
        [v.symbol for v in found],
        "bits per dimension, lower is better",
    )
    listing = ", ".join(f"{r.name} {r.likelihood.bits_per_dim:.3f}" for r in rows)
    return sections.svg(figure, f"Bits per dimension with errors: {listing}")


def row(r: Any, uses: bool = False) -> dict[str, Any]:
    """One model's line of the table; ``uses``: with what people use it for."""
    parameters = f"{r.n_parameters:,}" if r.n_parameters is not None else "—"
    return {
        "name": r.name,
        "learned_by": r.learned_by,
        "baseline": r.baseline,
        "best": r.rank == 1,
        "error": r.error,
        "cells": [
            *_likelihood(r.likelihood),
            *_quality(r.quality),
            (seconds(r.fit_seconds), seconds(r.sample_seconds)),
            (parameters, ""),
            *(_uses(r.completion, r.outliers) if uses else ()),
        ],
    }


def _likelihood(v: Any) -> list[Cell]:
    """Log-likelihood and bits per dimension."""
    if v is None:
        return [NONE] * 2
    told = {k: x for k, x in v.detail.items() if isinstance(x, int | float | str)}
    detail = ", ".join(f"{k} {number(x) if isinstance(x, float) else x}" for k, x in told.items())
    return [
        (f"{v.symbol} {plus_minus(v.nats, v.stderr)}", detail),
        (plus_minus(v.bits_per_dim, v.bits_stderr), ""),
    ]


def _quality(q: Any) -> list[Cell]:
    """The four measures of samples."""
    if q is None:
        return [NONE] * 4
    copies = q.memorisation
    p_value = "" if copies.word == "no copying" else f"p = {copies.p_value:.2g}"
    return [
        (f"{100 * q.classifier.accuracy:.0f} ± {100 * q.classifier.stderr:.0f} %", ""),
        (f"{q.mmd.p_value:.3f}", ""),
        (number(q.frechet.distance), ""),
        (copies.word, p_value),
    ]


def _uses(filled: Any, strange: Any) -> list[Cell]:
    """Hidden cells filled in, and rows with swapped cells found."""
    cells = [NONE] * 3
    if filled is not None:
        found = (
            (filled.rmse, filled.baseline_rmse),
            (filled.accuracy, filled.baseline_accuracy),
            (filled.coverage, math.nan),
        )
        cells = [(_figure(v), f"marginals {number(b)}" if b == b else "") for v, b in found]
    auroc = NONE if strange is None else (plus_minus(strange.auroc, strange.stderr), "")
    return [*cells, auroc]


def _figure(value: float) -> str:
    return "—" if math.isnan(value) else number(value)


# ---------------------------------------------------------------------- how to do it again


def settings(comparison: Any) -> list[tuple[str, str]]:
    """What the comparison was made with."""
    c, rest = comparison, dict(comparison.settings)
    rest.pop("command", None)
    versions = ", ".join(f"{k} {v}" for k, v in rest.pop("versions", {}).items())
    took, budget, seed = (rest.pop(k, None) for k in ("seconds", "budget", "random_state"))
    rows = f"{len(c.train):,} training rows, {len(c.test):,} held out"
    return [
        ("data", f"{c.name}: {c.space}; {rows}"),
        ("seed", "" if seed is None else str(seed)),
        ("time for each fit", seconds(budget) if budget else "as long as each model wants"),
        ("took", seconds(took)),
        *((k.replace("_", " "), str(v)) for k, v in rest.items()),
        ("versions", versions),
    ]
