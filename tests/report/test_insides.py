"""What is drawn of a model is what it learned."""

from __future__ import annotations

import numpy as np
import pandas as pd

import genus
from genus.compare.table import Comparison
from genus.report import plots


def test_component_means_are_in_the_units_of_the_data(digits: Comparison):
    sheet = plots.component_means(digits["mixture"].model).axes[0].images[0].get_array()
    grey = np.asarray(sheet)[..., 0][np.asarray(sheet)[..., 3] == 1]
    assert abs(grey.mean() - digits.train.mean() / 16) < 0.08
    classes = genus.CategoricalMixture(3, random_state=0).fit(digits.train, space=digits.space)
    sheet = np.asarray(plots.component_means(classes).axes[0].images[0].get_array())
    assert abs(sheet[..., 0][sheet[..., 3] == 1].mean() - digits.train.mean() / 16) < 0.08


def test_every_edge_of_a_network_is_an_arrow_between_its_pixels_or_names():
    x = np.random.default_rng(0).integers(0, 2, (200, 2, 3))
    net = genus.BayesNet([(0, 5), (2, 1)]).fit(x, space=genus.Space((2, 3), "binary", layout="HW"))
    arrows = [(t.xyann, t.xy) for t in plots.graph(net).axes[0].texts]
    (x0, y0), (x5, y5) = arrows[0]
    assert len(arrows) == 2 and x5 > x0 and y5 < y0  # from the top left to the bottom right
    table = pd.DataFrame(
        x.reshape(200, 6)[:, :3], columns=["a", "b", "a name that is far too long"]
    )
    texts = [
        t.get_text() for t in plots.graph(genus.BayesNet([("a", "b")]).fit(table)).axes[0].texts
    ]
    assert texts == ["", "a", "b", "a name that i…"]


def test_loadings_are_the_columns_of_W_the_strongest_first(digits: Comparison):
    model = genus.ProbabilisticPCA(3, random_state=0).fit(digits.train, space=digits.space)
    drawn = plots.loadings(model).axes[0].images[0].get_array()
    model.loadings_ = model.loadings_.flip(1)
    assert np.array_equal(drawn, plots.loadings(model).axes[0].images[0].get_array())


def test_extremes_are_in_order(digits: Comparison):
    nats = np.arange(80.0)
    sheet = np.asarray(
        plots.extremes(digits.test, nats, digits.space, n=2).axes[0].images[0].get_array()
    )
    assert np.allclose(sheet[:8, :8, 0], digits.test[79] / 16)  # the most probable first
    assert np.allclose(sheet[9:17, :8, 0], digits.test[0] / 16)  # the least probable first
