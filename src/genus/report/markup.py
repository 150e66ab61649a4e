"""Figures, tables of rows and refusals as HTML."""

from __future__ import annotations

import io
import math
import re
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from markupsafe import Markup, escape
from matplotlib.figure import Figure

from genus.report.figures import INK, PAPER
from genus.report.words import number

NAMELESS = {"Date": None, "Creator": None, "Format": None, "Type": None}
NOT_DRAWN = re.compile(
    r"<metadata>.*?</metadata>|<style[^>]*>.*?</style>|<!--.*?-->", flags=re.DOTALL
)


def svg(figure: Figure, alt: str, number: int) -> Markup:
    """A figure as inline SVG in the page's font and colours.

    Names inside it begin with the number of the figure, so that those of figures do not clash.
    """
    out = io.StringIO()
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": f"figure {number}"}):
        figure.savefig(out, format="svg", dpi=192, metadata=NAMELESS, transparent=True)
    text = out.getvalue()
    text = NOT_DRAWN.sub("", text[text.index("<svg") :])
    head, _, body = text.partition(">")
    width = float(_found(r'width="([\d.]+)pt"', head)[1]) * 4 / 3
    box = _found(r'viewBox="[^"]*"', head)[0]
    body = body.replace(INK, "currentColor").replace(PAPER, "var(--paper)")
    body = re.sub(r'\bid="([^"]+)"', rf'id="f{number}-\1"', body)
    body = re.sub(r'(href="|url\()#([^")]+)', rf"\1#f{number}-\2", body)
    body = re.sub(r">\s+<", "><", body)
    return Markup(
        f'<svg class="plot" role="img" aria-label="{escape(alt)}" {box} '
        f'style="width:{width:.0f}px" xmlns="http://www.w3.org/2000/svg" '
        f'xmlns:xlink="http://www.w3.org/1999/xlink">{body}'
    )


def _found(pattern: str, text: str) -> re.Match[str]:
    match = re.search(pattern, text)
    assert match is not None
    return match


def table(rows: pd.DataFrame, mask: Any = None, *, most: int = 12) -> Markup:
    """A few rows as HTML, cells of ``mask`` marked; the first ``most`` columns."""
    shown = rows.iloc[:, :most]
    marked = np.zeros(shown.shape, dtype=bool)
    if mask is not None:
        marked = np.asarray(mask).reshape(len(rows), -1)[:, :most]
    whole = [_whole(shown.iloc[:, j]) for j in range(shown.shape[1])]
    body = Markup("")
    for i in range(len(shown)):
        cells = Markup("")
        for j in range(shown.shape[1]):
            template = "<td><mark>{}</mark></td>" if marked[i, j] else "<td>{}</td>"
            cells += Markup(template).format(_cell(shown.iat[i, j], whole[j]))
        body += Markup("<tr>{}</tr>").format(cells)
    head = Markup("").join(Markup("<th scope=col>{}</th>").format(str(c)) for c in shown.columns)
    html = Markup(
        '<div class="wide" role="region" aria-label="rows" tabindex="0"><table class="rows">'
        "<thead><tr>{}</tr></thead><tbody>{}</tbody></table></div>"
    ).format(head, body)
    if rows.shape[1] > most:
        html += Markup("<small>and {} more columns</small>").format(rows.shape[1] - most)
    return html


def _whole(column: pd.Series) -> bool:
    """Are these whole numbers, which stand as 63.0 only because others are missing?"""
    return column.dtype.kind == "f" and bool((column.dropna() % 1 == 0).all())


def _cell(value: Any, whole: bool) -> str:
    """One value of a table, as one would write it."""
    if value is pd.NaT or value is pd.NA:
        return "—"
    if not isinstance(value, float | np.floating):
        return str(value).removesuffix(" 00:00:00")  # a date has no hour
    if math.isnan(value):
        return "—"
    return f"{value:,.0f}".replace("-", "−") if whole else number(float(value), 4)


def refused(above: str, e: Exception) -> dict[str, Any]:
    """A card with the reason why there is no plot."""
    reason = Markup("<p>{}</p>").format(str(e).split("\n")[0])
    return {"above": above, "body": reason, "below": "", "wide": False}
