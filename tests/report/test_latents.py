"""The figure of a diagnosis."""

import numpy as np
import pytest

import genus
from genus.report.latents import diagnosis

X = np.random.default_rng(0).normal(size=(80, 4)) @ np.diag([3.0, 2.0, 1.0, 0.5])


@pytest.mark.parametrize("size", [1, 2, 3])
def test_four_panels_whatever_the_size_of_z(size):
    found = genus.diagnose(genus.ProbabilisticPCA(size).fit(X), X)
    figure = diagnosis(found)
    titles = [ax.get_title(loc="left") for ax in figure.axes]
    assert len(titles) == 4 and f"of {size} dimensions in use" in titles[1]
    assert "empty" in titles[0] and "do not belong" in titles[3]
