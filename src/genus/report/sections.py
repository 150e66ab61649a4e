"""The pictures of the report: samples, completions, insides of models and extreme rows.

A section is a title, a note and blocks of cards; a card is a picture or a table with its captions.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
from markupsafe import Markup
from matplotlib.figure import Figure

from genus.evaluate import diagnose, hide
from genus.report import markup, plots
from genus.report.words import number, seconds
from genus.report.writing import frame

Card = dict[str, Any]
REFUSALS = (ValueError, RuntimeError, ArithmeticError)  # CapabilityError is a RuntimeError


class Sections:
    """The sections of one page, whose figures are numbered."""

    def __init__(self, comparison: Any) -> None:
        self.space, self.test = comparison.space, comparison.test
        self.labels = comparison.y_test
        self.models = [r for r in comparison.rows if r.model is not None]
        self.drawn = comparison.settings.get("samples", 0)
        self.of_use = comparison.of_use
        self.images = self.space.image_shape is not None
        self.scale = plots.limits(self.space, comparison.train) if self.images else None
        self.figures = 0

    def all(self) -> list[dict[str, Any]]:
        """The sections that have anything to show."""
        found = [self.costs(), self.samples(), self.completions(), self.insides(), self.extremes()]
        return [s for s in found if s["blocks"]]

    # ------------------------------------------------------------------ what it gives and costs

    def costs(self) -> dict[str, Any]:
        """The table that courses end with: what each model can do, and how long it takes."""
        note = (
            "What each model can be asked (●), how good it is, and how long it took here: to fit, "
            "to draw rows, and to find the log-probability of the held-out rows. Conditions: "
            "whether it can be fitted with given=, or must be."
        )
        lines = [self.cost(r) for r in self.models]
        body = markup.table(pd.DataFrame(lines))
        card = {"above": "", "body": body, "below": "", "wide": True}
        cards = [card] if lines else []
        return section("costs", "What each gives and costs", note, [("", cards)])

    def cost(self, r: Any) -> dict[str, str]:
        """One model's line of it."""
        m, v, q = r.model, r.likelihood, r.quality
        drawn = {}
        if self.drawn:
            drawn["told from real"] = f"{100 * q.classifier.accuracy:.0f} %" if q else "—"
            drawn["to draw one"] = seconds(r.one_seconds)
            drawn[f"to draw {self.drawn:,}"] = seconds(r.sample_seconds)
        return {
            "model": r.name,
            "likelihood": v.kind if v else "—",
            "bits/dim": f"{v.bits_per_dim:.3f}" if v else "—",
            "to fit": seconds(r.fit_seconds),
            **drawn,
            f"to score {len(self.test):,}": seconds(r.score_seconds),
            "latents": "●" if hasattr(m, "encode") else "",
            "fills in cells": "●" if hasattr(m, "complete") else "",
            "learns from gaps": "●" if m.allow_nan else "",
            "conditions": "" if m.conditions == "none" else m.conditions,
        }

    # ------------------------------------------------------------------ samples

    def samples(self) -> dict[str, Any]:
        """Real rows beside samples."""
        title = "Real rows beside samples"
        drawn = {r.name: r.samples for r in self.models if r.samples is not None}
        shown = {"Real, held out": self.test, **drawn}
        if self.images:
            small = max(self.space.image_shape) <= 40
            columns, n = (8, 48) if small else (4, 16)
            cards = [
                self.images_card(name, first(X, n), columns=columns) for name, X in shown.items()
            ]
            return section("samples", title, "The first rows of each, not chosen.", [("", cards)])
        note = "How single columns are spread, and how they go together."
        blocks = [
            ("The first rows of each", [self.table_card(k, first(X, 5)) for k, X in shown.items()]),
            (
                "Column by column: real filled, sampled as a line",
                [self.beside(k, plots.marginals, X) for k, X in drawn.items()],
            ),
            (
                "Together: on the principal plane of the real rows",
                [self.beside(k, plots.principal_plane, X) for k, X in drawn.items()],
            ),
        ]
        return section("samples", title, note, blocks if drawn else [])

    def images_card(self, name: str, X: Any, *, columns: int) -> Card:
        """Rows as a grid of images."""
        return self.card(
            name, "", plots.image_grid, X, self.space, columns=columns, scale=self.scale
        )

    def beside(self, name: str, draw: Callable[..., Figure], X: Any) -> Card:
        """A plot of samples X beside the held-out rows."""
        return self.card(name, "", draw, self.test, X, self.space)

    # ------------------------------------------------------------------ completions

    def completions(self) -> dict[str, Any]:
        """Rows with cells hidden, as each model fills them."""
        title = "Filling in what is hidden"
        able = [r for r in self.models if hasattr(r.model, "complete")]
        if self.images:
            note = (
                "The lower half is hidden; each model draws it three times from p(hidden | seen). "
                "Different draws show how unsure it is."
            )
            X = first(self.test, 8)
            cards = [
                self.card(r.name, "", plots.completions, r.model, X, scale=self.scale) for r in able
            ]
            return section("completions", title, note, [("", cards)])
        note = "The marked cells were hidden; each model drew them from p(hidden | seen)."
        some = first(self.test, 4)
        mask = hide(self.space, len(some), 0.35) | frame(some, self.space).isna().to_numpy()
        cards = [self.table_card("Real, held out", some, mask)]
        for r in able:
            try:
                filled = r.model.complete(some, mask=mask, random_state=0)
                cards.append(self.table_card(r.name, filled, mask))
            except REFUSALS as e:
                cards.append(markup.refused(r.name, e))
        return section("completions", title, note, [("", cards)] if able else [])

    # ------------------------------------------------------------------ inside each model

    def insides(self) -> dict[str, Any]:
        """What each model has learned."""
        note = (
            "What each model has learned, and how. Lower objectives are better, but each model "
            "has its own: do not compare their curves."
        )
        blocks = [(r.name, self.inside(r.model)) for r in self.models]
        return section("inside", "Inside each model", note, blocks)

    def inside(self, model: Any) -> list[Card]:
        """What can be drawn of a model, decided by what it has."""
        return self.learned(model) + self.latent(model)

    def learned(self, model: Any) -> list[Card]:
        """How it learned, and its parameters."""
        cards = []
        if len(getattr(model, "history_", [])) > 1:
            cards.append(self.card("Learning curve", "", plots.learning_curve, model))
        if hasattr(model, "means_") and hasattr(model, "weights_"):
            note = "Components by weight; orange above, violet below the mean of all."
            if self.images:
                note = "The heaviest first."
            cards.append(
                self.card("Component means", note, plots.component_means, model, scale=self.scale)
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
            where = ", from pixel to pixel." if self.images else "."
            note = "An arrow from each parent to its child" + where
            cards.append(self.card("Graph", note, plots.graph, model))
        return cards

    def latent(self, model: Any) -> list[Card]:
        """Its latent space."""
        cards = []
        flat = getattr(model, "latent_dim", None) == 2
        if self.images and hasattr(model, "reconstruct"):
            note, rows = "Held-out rows, encoded and decoded.", first(self.test, 8)
            draw = plots.reconstructions
            cards.append(self.card("Reconstructions", note, draw, model, rows, scale=self.scale))
        if hasattr(model, "kl_per_dimension"):
            note, rows = "A dimension near 0 says nothing about the row.", first(self.test, 500)
            title = "Use of the latent dimensions"
            cards.append(self.card(title, note, plots.latent_use, model, rows))
        if hasattr(model, "posterior"):
            cards.append(self.diagnosis(model))
        if hasattr(model, "encode"):
            where = "." if flat else ", on its first two principal components."
            note = "Held-out rows in latent space" + where
            cards.append(
                self.card("Latent map", note, plots.latent_map, model, self.test, self.labels)
            )
        if self.images and flat and hasattr(model, "decode"):
            note = "Decoded on a grid of the latent plane, evenly spaced in probability."
            cards.append(self.card("Manifold", note, plots.manifold, model, scale=self.scale))
        if self.images and hasattr(model, "interpolate") and len(self.test) > 1:
            note = "Straight lines in latent space between two held-out rows."
            rows = first(self.test, 12)
            cards.append(
                self.card(
                    "Interpolations", note, plots.interpolations, model, rows, scale=self.scale
                )
            )
        return cards

    def diagnosis(self, model: Any) -> Card:
        """What is right and wrong in its latent space, as a figure and in words."""
        title = "Diagnosis"
        try:
            found = diagnose(model, self.test, n=200)
        except REFUSALS as e:
            return markup.refused(title, e)
        card = self.card(title, "", plots.diagnosis, found)
        lines = Markup("<br>").join(str(found).splitlines()[1:])
        return card | {"below": lines}

    # ------------------------------------------------------------------ extreme rows

    def extremes(self) -> dict[str, Any]:
        """The held-out rows that each model finds most and least probable."""
        title = "The most and the least probable rows"
        note = (
            "Of the held-out rows. What a model finds least probable is where to look for "
            "outliers and for errors in the data."
        )
        able = [r for r in self.models if r.log_prob is not None]
        if self.images:
            cards = [self.extreme_images(r.name, r.log_prob.nats) for r in able]
        else:
            cards = [self.extreme_rows(r.name, np.asarray(r.log_prob.nats)) for r in able[:3]]
        return section("extremes", title, note, [("", cards)])

    def extreme_images(self, name: str, nats: Any) -> Card:
        """The images with the highest and the lowest log-probability."""
        return self.card(name, "", plots.extremes, self.test, nats, self.space, scale=self.scale)

    def extreme_rows(self, name: str, nats: np.ndarray) -> Card:
        """The three rows with the highest, and the three with the lowest log-probability."""
        order = np.argsort(-nats)
        index = np.concatenate([order[:3], order[3:][-3:]])
        shown = frame(rows_of(self.test, index), self.space).reset_index(drop=True)
        shown.insert(0, "log p(x)", [number(float(v)) for v in nats[index]])
        return {"above": name, "body": markup.table(shown), "below": "", "wide": True}

    # ------------------------------------------------------------------ cards

    def card(
        self, above: str, below: str, draw: Callable[..., Figure], *args: Any, **options: Any
    ) -> Card:
        """A plot with its captions, or the reason why the model cannot answer."""
        try:
            figure = draw(*args, **options)
        except REFUSALS as e:
            return markup.refused(above, e)
        body = self.svg(figure, f"{above}. {below}".strip())
        wide = figure.get_size_inches()[0] > 5
        return {"above": above, "body": body, "below": below, "wide": wide}

    def table_card(self, above: str, X: Any, mask: Any = None) -> Card:
        """Rows as a table, with its caption."""
        body = markup.table(frame(X, self.space), mask)
        return {"above": above, "body": body, "below": "", "wide": True}

    def svg(self, figure: Figure, alt: str) -> Markup:
        """The next figure of the page."""
        self.figures += 1
        return markup.svg(figure, alt, self.figures)


def section(
    ident: str, title: str, note: str, blocks: list[tuple[str, list[Card]]]
) -> dict[str, Any]:
    """A section of the page, without the blocks that have no cards."""
    shown = [{"title": title, "cards": cards} for title, cards in blocks if cards]
    return {"id": ident, "title": title, "note": note, "blocks": shown}


def first(X: Any, n: int) -> Any:
    """The first n rows."""
    return X.iloc[:n] if hasattr(X, "iloc") else X[:n]


def rows_of(X: Any, index: Any) -> Any:
    """Some rows of an array, tensor or DataFrame."""
    return X.iloc[index].reset_index(drop=True) if hasattr(X, "iloc") else X[index]
