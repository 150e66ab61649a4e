"""What all plots share: sizes in pixels, and names that fit."""

from __future__ import annotations

import numpy as np

from genus.report.figures import FAINT, PX, new_axes, new_figure, shortened


def test_sizes_are_in_pixels_of_the_page():
    figure = new_figure(460, 190)
    np.testing.assert_allclose(figure.get_size_inches() * PX, [460, 190])
    assert figure.patch.get_alpha() == 0


def test_margins_are_inside_the_panel():
    figure = new_figure(400, 200)
    ax = new_axes(figure, left=40, right=8, bottom=30, top=10, panel=(1, 2), column=(0, 2))
    x, y, w, h = ax.get_position().bounds
    np.testing.assert_allclose([400 * x, 200 * y, 400 * w, 200 * h], [40, 30, 152, 60])
    assert not ax.spines["top"].get_visible() and not ax.spines["right"].get_visible()
    assert ax.spines["left"].get_edgecolor()[:3] == tuple(
        int(FAINT[i : i + 2], 16) / 255 for i in (1, 3, 5)
    )


def test_long_names_are_cut_and_short_ones_are_not():
    assert shortened("a name that is far too long", 14) == "a name that i…"
    assert shortened("fourteen chars", 14) == "fourteen chars"
