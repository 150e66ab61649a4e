"""Numbers as charts: in the units of the data, bounds told from exact numbers."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pandas as pd

import genus
from genus.report import charts, plots
from genus.report.figures import MODEL, PAPER


def test_marginals_are_labelled_in_the_units_of_the_data():
    days = pd.date_range("2020-01-01", periods=400)
    X = pd.DataFrame({"age": np.arange(400) % 60 + 30, "day": days})
    age, day = plots.marginals(X, X, genus.Space.of(X)).axes
    assert age.get_xlim()[0] > 25 and age.get_xlim()[1] < 95
    assert day.xaxis.get_major_formatter()((days[40] - pd.Timestamp(0)).days, 0) == "2020-02"


def test_a_bound_is_an_open_dot_with_an_arrow_to_fewer_bits():
    ax = charts.whiskers(["a", "b"], [2.0, 2.1], [0.01, 0.02], ["=", "≥"], "bits").axes[0]
    dots = [line for line in ax.lines if line.get_marker() == "o"]
    assert [float(d.get_xdata()[0]) for d in dots] == [2.0, 2.1]
    assert dots[0].get_markerfacecolor() == MODEL and dots[1].get_markerfacecolor() == PAPER
    (arrow,) = [t for t in ax.texts if getattr(t, "arrow_patch", None)]
    assert arrow.xy[0] < arrow.xyann[0] or arrow.get_position()[0] > arrow.xy[0]
    bars = [line for line in ax.lines if line.get_marker() != "o"]
    np.testing.assert_allclose(bars[1].get_xdata(), [2.06, 2.14])


def test_a_learning_curve_has_a_panel_a_stage_and_both_objectives():
    history = [
        {"stage": s, "epoch": e, "objective": 5.0 - e, "validation": 6.0 - e, "lr": 0.1}
        for s in ("first", "second")
        for e in (1, 2, 3)
    ]
    figure = charts.learning_curve(SimpleNamespace(history_=history))
    assert [ax.get_title(loc="left") for ax in figure.axes] == ["first", "second"]
    assert [len(ax.lines) for ax in figure.axes] == [2, 2]
    assert figure.axes[0].get_xlabel() == "epoch"
    em = [{"epoch": e, "objective": -float(e)} for e in range(3)]
    alone = charts.learning_curve(SimpleNamespace(history_=em)).axes[0]
    assert alone.get_xlabel() == "iteration" and len(alone.lines) == 1


def test_rows_become_numbers_whatever_they_were():
    table = pd.DataFrame({"x": [1.5, None], "word": ["b", "a"]})
    np.testing.assert_array_equal(
        charts.codes(table, genus.Space.of(table)), [[1.5, 1.0], [np.nan, 0.0]]
    )
    assert charts.codes(np.zeros((3, 2, 2)), genus.Space((2, 2))).shape == (3, 4)


def test_one_column_has_a_principal_line():
    X = np.random.default_rng(0).normal(size=(50, 1))
    figure = charts.principal_plane(X, X, genus.Space((1,)))
    assert (figure.axes[0].collections[0].get_offsets()[:, 1] == 0).all()


def test_a_reliability_diagram_has_a_bar_a_bin_at_its_accuracy():
    from genus.evaluate.calibration import reliability

    proba = np.array([[0.9, 0.1], [0.7, 0.3], [0.2, 0.8], [0.4, 0.6]])
    told = reliability(proba, np.array([0, 1, 1, 1]), bins=4)
    ax = plots.reliability_diagram(told).axes[0]
    assert [bar.get_height() for bar in ax.containers[0]] == [0.5, 1.0]
    assert [bar.get_x() for bar in ax.containers[0]] == [0.5, 0.75]


def test_attacks_are_lines_over_their_size():
    table = pd.DataFrame({"eps": [0.1, 0.2], "noise": [1, 1], "fgsm": [0.9, 0.5], "pgd": [0.8, 0]})
    ax = plots.attacked(SimpleNamespace(table=table, norm="linf")).axes[0]
    assert [line.get_ydata().tolist() for line in ax.lines] == [[1, 1], [0.9, 0.5], [0.8, 0]]
