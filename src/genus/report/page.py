"""The report: everything a comparison found, as one HTML file that needs nothing else.

The page is assembled from the plots of :mod:`genus.report.plots` (inline SVG, images in it as data)
and a Jinja template; it has no script and asks nothing of the network.
"""

from __future__ import annotations

import io
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape
from matplotlib.figure import Figure

from genus.evaluate import hide
from genus.files import replacing
from genus.report import plots
from genus.report.words import MEANINGS, answer, number, plus_minus, seconds
from genus.report.writing import frame
from genus.space import Space

Card = dict[str, Any]
REFUSALS = (ValueError, RuntimeError, ArithmeticError)  # CapabilityError is a RuntimeError


def write(comparison: Any, path: str | Path) -> None:
    """Write the page of a :class:`genus.comparison.Comparison` to ``path``, whole or not at all."""
    html = page(comparison)
    with replacing(path) as temporary:
        temporary.write_text(html, encoding="utf-8")


def page(comparison: Any) -> str:
    """The page as HTML."""
    return _Page(comparison).html()


class _Page:
    """What the parts of one page share."""

    def __init__(self, comparison: Any) -> None:
        self.comparison = comparison
        self.space: Space = comparison.space
        self.test, self.train = comparison.test, comparison.train
        self.images = self.space.image_shape is not None
        self.scale = plots.limits(self.space, self.train) if self.images else None
        self.models = [r for r in comparison.rows if r.model is not None]
        self.figures = 0

    def html(self) -> str:
        env = Environment(
            loader=PackageLoader("genus.report", "."),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        env.filters["breakable"] = lambda name: Markup("<wbr>").join(
            re.split("(?<=[a-z])(?=[A-Z])", name)
        )
        assert env.loader is not None
        style, _, _ = env.loader.get_source(env, "page.css")
        c = self.comparison
        sections = [self.samples(), self.completions(), self.insides(), self.extremes()]
        return env.get_template("page.html.j2").render(
            title=f"Which model describes {c.name} best?",
            style=Markup(style),
            answer=answer(c),
            facts=f"{len(self.train):,} training rows, {len(self.test):,} held out · {self.space} "
            f"· {c.settings.get('date', '')}",
            columns=self.columns(),
            groups=[self.group(measure, rows) for measure, rows in c.groups.items()],
            notes=[*c.notes, *(f"{r.name}: {note}" for r in c.rows for note in r.notes)],
            sections=[s for s in sections if s["blocks"]],
            meanings=MEANINGS,
            command=c.settings.get("command"),
            settings=self.settings(),
            models="\n".join(re.sub(r"\s+", " ", repr(r.model)) for r in self.models),
            version=c.settings.get("versions", {}).get("genus", ""),
        )

    # ------------------------------------------------------------------ the numbers

    def columns(self) -> list[tuple[str, str]]:
        frechet = next((r.quality.frechet for r in self.comparison.rows if r.quality), None)
        return [
            ("log-likelihood", "nats, higher is better"),
            ("bits/dim", "lower is better"),
            ("told from real", "50 % is best"),
            ("MMD p", ""),
            (
                "Fréchet distance",
                f"{frechet.embedding}, floor {number(frechet.floor)}" if frechet else "",
            ),
            ("copies", ""),
            ("time to fit", f"to sample {self.comparison.settings.get('samples', 0):,}"),
            ("parameters", ""),
        ]

    def group(self, measure: str, rows: list[Any]) -> dict[str, Any]:
        good = [
            r for r in rows if r.likelihood is not None and math.isfinite(r.likelihood.bits_per_dim)
        ]
        chart = None
        if len(good) > 1:
            ls = [r.likelihood for r in good]
            names, values = [r.name for r in good], [v.bits_per_dim for v in ls]
            figure = plots.whiskers(
                names,
                values,
                [v.bits_stderr for v in ls],
                [v.symbol for v in ls],
                "bits per dimension, lower is better",
            )
            listing = ", ".join(f"{n} {v:.3f}" for n, v in zip(names, values, strict=True))
            chart = self.svg(figure, f"Bits per dimension with errors: {listing}")
        title = {
            "probability": "Probabilities",
            "density": "Densities",
            "": "Not ranked: no likelihood",
        }.get(measure, "Mixed measure")
        return {
            "title": title,
            "chart": chart,
            "arrows": any(r.likelihood.symbol == "≥" for r in good),
            "rows": [self.row(r) for r in rows],
        }

    def row(self, r: Any) -> dict[str, Any]:
        dash = ("—", "")
        likelihood = bits = told = mmd = frechet = copies = dash
        if (v := r.likelihood) is not None:
            detail = ", ".join(
                f"{k} {number(x) if isinstance(x, float) else x}"
                for k, x in v.detail.items()
                if isinstance(x, int | float | str)
            )
            likelihood, bits = (
                (f"{v.symbol} {plus_minus(v.nats, v.stderr)}", detail),
                (plus_minus(v.bits_per_dim, v.bits_stderr), ""),
            )
        if (q := r.quality) is not None:
            told = (f"{100 * q.classifier.accuracy:.0f} ± {100 * q.classifier.stderr:.0f} %", "")
            mmd = (f"{q.mmd.p_value:.3f}", "")
            frechet = (number(q.frechet.distance), "")
            copies = (
                q.memorisation.word,
                f"p = {q.memorisation.p_value:.2g}" if q.memorisation.word != "no copying" else "",
            )
        return {
            "name": r.name,
            "learned_by": r.learned_by,
            "baseline": r.baseline,
            "best": r.rank == 1,
            "error": r.error,
            "cells": [
                likelihood,
                bits,
                told,
                mmd,
                frechet,
                copies,
                (seconds(r.fit_seconds), seconds(r.sample_seconds)),
                (f"{r.n_parameters:,}" if r.n_parameters is not None else "—", ""),
            ],
        }

    # ------------------------------------------------------------------ pictures

    def samples(self) -> dict[str, Any]:
        drawn = {r.name: r.samples for r in self.models if r.samples is not None}
        title = "Real rows beside samples"
        if self.images:
            columns, n = (8, 48) if max(self.space.image_shape or (0,)) <= 40 else (4, 16)
            shown = {"Real, held out": self.test, **drawn}
            cards = [
                self.card(
                    name,
                    "",
                    plots.image_grid,
                    first(X, n),
                    self.space,
                    scale=self.scale,
                    columns=columns,
                )
                for name, X in shown.items()
            ]
            return self.section(
                "samples", title, "The first rows of each, not chosen.", [("", cards)]
            )
        blocks = [
            (
                "The first rows of each",
                [
                    self.rows_card(name, first(X, 5))
                    for name, X in {"Real, held out": self.test, **drawn}.items()
                ],
            ),
            (
                "Column by column: real filled, sampled as a line",
                [
                    self.card(name, "", plots.marginals, self.test, X, self.space)
                    for name, X in drawn.items()
                ],
            ),
            (
                "Together: on the principal plane of the real rows",
                [
                    self.card(name, "", plots.principal_plane, self.test, X, self.space)
                    for name, X in drawn.items()
                ],
            ),
        ]
        return self.section(
            "samples",
            title,
            "How single columns are spread, and how they go together.",
            blocks if drawn else [],
        )

    def completions(self) -> dict[str, Any]:
        able = [r for r in self.models if hasattr(r.model, "complete")]
        title = "Filling in what is hidden"
        if self.images:
            cards = [
                self.card(
                    r.name, "", plots.completions, r.model, first(self.test, 8), scale=self.scale
                )
                for r in able
            ]
            note = (
                "The lower half is hidden; each model draws it three times from p(hidden | seen). "
                "Different draws show how unsure it is."
            )
            return self.section("completions", title, note, [("", cards)])
        some = first(self.test, 4)
        mask = hide(self.space, len(some), 0.35) | frame(some, self.space).isna().to_numpy()
        cards = [self.rows_card("Real, held out", some, mask)]
        for r in able:
            try:
                cards.append(
                    self.rows_card(r.name, r.model.complete(some, mask=mask, random_state=0), mask)
                )
            except REFUSALS as e:
                cards.append(refused(r.name, e))
        note = "The marked cells were hidden; each model drew them from p(hidden | seen)."
        return self.section("completions", title, note, [("", cards)] if able else [])

    def insides(self) -> dict[str, Any]:
        note = (
            "What each model has learned, and how. Lower objectives are better, but each model "
            "has its own: do not compare their curves."
        )
        return self.section(
            "inside",
            "Inside each model",
            note,
            [(r.name, self.inside(r.model)) for r in self.models],
        )

    def inside(self, model: Any) -> list[Card]:
        """What can be drawn of a model, decided by what it has."""
        scale = self.scale
        cards: list[Card] = []
        if len(getattr(model, "history_", [])) > 1:
            cards.append(self.card("Learning curve", "", plots.learning_curve, model))
        if hasattr(model, "means_") and hasattr(model, "weights_"):
            note = (
                "The heaviest first."
                if self.images
                else "Components by weight; orange above, violet below the mean of all."
            )
            cards.append(
                self.card("Component means", note, plots.component_means, model, scale=scale)
            )
        if self.images and hasattr(model, "W_") and hasattr(model, "lambda_"):
            note = (
                "One hidden unit each, the strongest first. Orange: "
                "pixels that are brighter when it is on; blue: darker."
            )
            cards.append(self.card("Filters", note, plots.filters, model))
        if self.images and hasattr(model, "loadings_"):
            note = (
                "What each latent coordinate adds, the strongest first. "
                "Orange: brighter; blue: darker."
            )
            cards.append(self.card("Loadings", note, plots.loadings, model))
        if hasattr(model, "adjacency_"):
            note = "An arrow from each parent to its child" + (
                ", from pixel to pixel." if self.images else "."
            )
            cards.append(self.card("Graph", note, plots.graph, model))
        if self.images and hasattr(model, "reconstruct"):
            note = "Held-out rows, encoded and decoded."
            cards.append(
                self.card(
                    "Reconstructions",
                    note,
                    plots.reconstructions,
                    model,
                    first(self.test, 8),
                    scale=scale,
                )
            )
        if hasattr(model, "kl_per_dimension"):
            note = "A dimension near 0 says nothing about the row."
            cards.append(
                self.card(
                    "Use of the latent dimensions",
                    note,
                    plots.latent_use,
                    model,
                    first(self.test, 500),
                )
            )
        if hasattr(model, "encode"):
            flat = getattr(model, "latent_dim", None) == 2
            note = "Held-out rows in latent space" + (
                "." if flat else ", on its first two principal components."
            )
            cards.append(
                self.card(
                    "Latent map", note, plots.latent_map, model, self.test, self.comparison.y_test
                )
            )
            if flat and self.images and hasattr(model, "decode"):
                note = "Decoded on a grid of the latent plane, evenly spaced in probability."
                cards.append(self.card("Manifold", note, plots.manifold, model, scale=scale))
        if self.images and hasattr(model, "interpolate") and len(self.test) > 1:
            note = "Straight lines in latent space between two held-out rows."
            cards.append(
                self.card(
                    "Interpolations",
                    note,
                    plots.interpolations,
                    model,
                    first(self.test, 12),
                    scale=scale,
                )
            )
        return cards

    def extremes(self) -> dict[str, Any]:
        able = [r for r in self.models if r.log_prob is not None]
        title = "The most and the least probable rows"
        note = (
            "Of the held-out rows. What a model finds least probable is where to look for "
            "outliers and for errors in the data."
        )
        if self.images:
            cards = [
                self.card(
                    r.name,
                    "",
                    plots.extremes,
                    self.test,
                    r.log_prob.nats,
                    self.space,
                    scale=self.scale,
                )
                for r in able
            ]
            return self.section("extremes", title, note, [("", cards)])
        cards = []
        for r in able[:3]:
            nats = np.asarray(r.log_prob.nats)
            order = np.argsort(-nats)
            index = np.concatenate([order[:3], order[3:][-3:]])
            shown = frame(rows_of(self.test, index), self.space).reset_index(drop=True)
            shown.insert(0, "log p(x)", [number(float(v)) for v in nats[index]])
            cards.append({"above": r.name, "body": table(shown), "below": "", "wide": True})
        return self.section("extremes", title, note, [("", cards)])

    # ------------------------------------------------------------------ how to do it again

    def settings(self) -> list[tuple[str, str]]:
        s = dict(self.comparison.settings)
        versions = ", ".join(f"{k} {v}" for k, v in s.pop("versions", {}).items())
        s.pop("command", None)
        took = s.pop("seconds", None)
        budget = s.pop("budget", None)
        lines = [
            (
                "data",
                f"{self.comparison.name}: {self.space}; {len(self.train):,} training rows, "
                f"{len(self.test):,} held out",
            ),
            ("seed", str(s.pop("random_state", ""))),
            ("time for each fit", seconds(budget) if budget else "as long as each model wants"),
            ("took", seconds(took)),
        ]
        return (
            lines + [(k.replace("_", " "), str(v)) for k, v in s.items()] + [("versions", versions)]
        )

    # ------------------------------------------------------------------ pieces

    def section(
        self, ident: str, title: str, note: str, blocks: list[tuple[str, list[Card]]]
    ) -> dict[str, Any]:
        shown = [{"title": t, "cards": cards} for t, cards in blocks]
        return {
            "id": ident,
            "title": title,
            "note": note,
            "blocks": [b for b in shown if b["cards"]],
        }

    def card(
        self, above: str, below: str, draw: Callable[..., Figure], *args: Any, **options: Any
    ) -> Card:
        """A plot with its captions, or the reason why the model cannot answer."""
        try:
            figure = draw(*args, **options)
        except REFUSALS as e:
            return refused(above, e)
        return {
            "above": above,
            "body": self.svg(figure, f"{above}. {below}".strip()),
            "below": below,
            "wide": figure.get_size_inches()[0] > 5,
        }

    def rows_card(self, above: str, X: Any, mask: Any = None) -> Card:
        return {
            "above": above,
            "body": table(frame(X, self.space), mask),
            "below": "",
            "wide": True,
        }

    def svg(self, figure: Figure, alt: str) -> Markup:
        """A figure as inline SVG: text in the page's font and colours, names that do not clash."""
        self.figures += 1
        out = io.StringIO()
        with matplotlib.rc_context(
            {"svg.fonttype": "none", "svg.hashsalt": f"figure {self.figures}"}
        ):
            figure.savefig(
                out,
                format="svg",
                dpi=192,
                metadata={"Date": None, "Creator": None, "Format": None, "Type": None},
                transparent=True,
            )
        body = out.getvalue()
        body = body[body.index("<svg") :]
        body = re.sub(
            r"<metadata>.*?</metadata>|<style[^>]*>.*?</style>|<!--.*?-->",
            "",
            body,
            flags=re.DOTALL,
        )
        width = float(re.search(r'width="([\d.]+)pt"', body)[1]) * 4 / 3  # type: ignore[index]
        box = re.search(r'viewBox="[^"]*"', body)[0]  # type: ignore[index]
        body = (
            body[body.index(">") + 1 :]
            .replace(plots.INK, "currentColor")
            .replace(plots.PAPER, "var(--paper)")
        )
        body = re.sub(r'\bid="([^"]+)"', rf'id="f{self.figures}-\1"', body)
        body = re.sub(r'(href="|url\()#([^")]+)', rf"\1#f{self.figures}-\2", body)
        body = re.sub(r">\s+<", "><", body)
        label = escape(alt)
        return Markup(
            f'<svg class="plot" role="img" aria-label="{label}" {box} style="width:{width:.0f}px" '
            'xmlns="http://www.w3.org/2000/svg" '
            f'xmlns:xlink="http://www.w3.org/1999/xlink">{body}'
        )


def table(rows: pd.DataFrame, mask: Any = None, *, most: int = 12) -> Markup:
    """A few rows as HTML, cells of ``mask`` marked; the first ``most`` columns."""
    head = Markup("").join(
        Markup("<th scope=col>{}</th>").format(str(c)) for c in rows.columns[:most]
    )
    whole = [  # 63 beside gaps
        d.kind == "f" and bool((rows.iloc[:, j].dropna() % 1 == 0).all())
        for j, d in enumerate(rows.dtypes)
    ]
    body = []
    marked = None if mask is None else np.asarray(mask).reshape(len(rows), -1)
    for i in range(len(rows)):
        cells = []
        for j in range(min(most, rows.shape[1])):
            v = rows.iat[i, j]
            if isinstance(v, float | np.floating):
                text = (
                    "—"
                    if math.isnan(v)
                    else f"{v:,.0f}".replace("-", "−")
                    if whole[j]
                    else number(float(v), 4)
                )
            else:
                # a date has no hour
                text = "—" if v is pd.NaT or v is pd.NA else str(v).removesuffix(" 00:00:00")
            cells.append(
                Markup(
                    "<td><mark>{}</mark></td>"
                    if marked is not None and marked[i, j]
                    else "<td>{}</td>"
                ).format(text)
            )
        body.append(Markup("<tr>") + Markup("").join(cells) + Markup("</tr>"))
    more = (
        Markup("<small>and {} more columns</small>").format(rows.shape[1] - most)
        if rows.shape[1] > most
        else Markup("")
    )
    return (
        Markup(
            '<div class="wide" role="region" aria-label="rows" tabindex="0"><table '
            'class="rows"><thead><tr>'
        )
        + head
        + Markup("</tr></thead><tbody>")
        + Markup("").join(body)
        + Markup("</tbody></table></div>")
        + more
    )


def refused(above: str, e: Exception) -> Card:
    """A card with the reason why there is no plot."""
    return {
        "above": above,
        "body": Markup("<p>{}</p>").format(str(e).split("\n")[0]),
        "below": "",
        "wide": False,
    }


def first(X: Any, n: int) -> Any:
    """The first n rows."""
    return X.iloc[:n] if hasattr(X, "iloc") else X[:n]


def rows_of(X: Any, index: Any) -> Any:
    """Some rows of an array, tensor or DataFrame."""
    return X.iloc[index].reset_index(drop=True) if hasattr(X, "iloc") else X[index]
