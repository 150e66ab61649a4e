"""Figures, tables of rows and refusals as HTML."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from genus.report.figures import INK, new_axes, new_figure
from genus.report.markup import refused, svg, table


def test_cells_of_a_table_read_as_one_would_write_them():
    rows = pd.DataFrame(
        {
            "age": [63.0, np.nan],
            "share": [0.25, -2.0],
            "on": pd.to_datetime(["2020-01-31", None]),
            "yes": [True, False],
        }
    )
    cells = re.findall(r"<td>(.*?)</td>", str(table(rows)))
    assert cells == ["63", "0.2500", "2020-01-31", "True", "—", "−2.000", "—", "False"]


def test_names_and_values_are_escaped_and_marked_cells_are_marked():
    rows = pd.DataFrame({"a<b": ["<i>", "x"], "c": [1.0, 2.0]})
    html = str(table(rows, mask=np.array([[True, False], [False, False]])))
    assert "<mark>&lt;i&gt;</mark>" in html and "a&lt;b" in html and html.count("<mark>") == 1


def test_a_wide_table_says_how_many_columns_are_not_shown():
    rows = pd.DataFrame(np.zeros((1, 15)))
    assert "and 3 more columns" in str(table(rows)) and str(table(rows)).count("<td>") == 12


def test_figures_of_one_page_share_no_name_and_take_the_colours_of_the_page():
    def drawn() -> Figure:
        figure = new_figure(100, 60)
        ax = new_axes(figure, left=5, right=5, bottom=5, top=5)
        ax.plot([0, 1], [0, 1], color=INK, clip_on=True)
        return figure

    one, two = (str(svg(drawn(), 'a "curve" < b', n)) for n in (1, 2))
    ids = [set(re.findall(r'id="([^"]+)"', text)) for text in (one, two)]
    assert ids[0] and not ids[0] & ids[1]
    used = set(re.findall(r"url\(#([^)]+)\)", one))
    assert used <= ids[0]
    assert "currentColor" in one and INK not in one
    assert 'role="img"' in one and "&lt; b" in one and "<metadata>" not in one


def test_a_refusal_keeps_its_first_line():
    card = refused("Filters", ValueError("too <large>\nat line 3"))
    assert card["above"] == "Filters" and str(card["body"]) == "<p>too &lt;large&gt;</p>"
