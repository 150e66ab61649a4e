"""Sums over missing cells against sums over all that they may be."""

from __future__ import annotations

import itertools
import math

import pytest
import torch

from genus import Space
from genus.learn.rows import generator
from genus.models.boltzmann.gaps import expected_phi, log_sum
from genus.models.boltzmann.units import Units


@pytest.mark.parametrize("kind", ["binary", "categorical", "ordinal"])
def test_sums_and_means_over_missing_cells(kind: str) -> None:
    levels = 2 if kind == "binary" else 3
    units = Units(Space((3,), kind, levels=None if kind == "binary" else levels), "auto")
    rng = generator(0)
    b = torch.randn(units.n_bias, generator=rng)
    a = torch.randn(1, units.n_phi, generator=rng)
    row = torch.tensor([1.0, math.nan, math.nan])
    filled = torch.tensor([[1.0, *rest] for rest in itertools.product(range(levels), repeat=2)])
    each = (units.linear(filled, b) + units.phi(filled) @ a[0]).double()
    assert float(log_sum(units, row[None], b, a)) == pytest.approx(
        float(torch.logsumexp(each, 0)), abs=1e-5
    )
    assert float(log_sum(units, filled[:1], b, a)) == pytest.approx(float(each[0]), abs=1e-5)
    mean = torch.softmax(each, 0).float() @ units.phi(filled)
    torch.testing.assert_close(expected_phi(units, row[None], b, a)[0], mean)
