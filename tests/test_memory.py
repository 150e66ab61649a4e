"""What is too large is one ValueError that names what is large, and what to do."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

import genus
from genus import memory
from genus.memory import check_fits, naming_what_is_large

RNG = np.random.default_rng(0)
WIDE = RNG.integers(0, 2**40, (100, 2))
WORDS = pd.DataFrame({"word": [f"w{i % 40}" for i in range(80)], "x": RNG.normal(size=80)})
REAL = RNG.normal(size=(60, 30))
GM, BGM = genus.GaussianMixture, genus.BayesianGaussianMixture


@pytest.mark.parametrize("family", [genus.BayesNet, genus.CategoricalMixture])
def test_levels_without_end_are_learned_in_bins(family: Any) -> None:
    assert np.isfinite(family().fit(WIDE, space="ordinal").score(WIDE))


def test_levels_without_end_in_a_table_are_refused_by_name() -> None:
    model = genus.CategoricalMixture(marginals="affine")
    with pytest.raises(ValueError, match=r"columns of .* levels would take .* GB.*learned"):
        model.fit(WIDE, space="ordinal")


@pytest.mark.parametrize(
    ("model", "X", "says"),
    [
        (GM(5), REAL, "n_components=5 with covariance='full' over 30 columns .* 'diag'|.*diag"),
        (BGM(5), REAL, "n_components=5 with covariance='full' over 30 columns .*diag"),
        (genus.Gaussian(), REAL, "a covariance of 30 columns .*fewer columns"),
        (genus.RBM(n_hidden=500), WORDS, "n_hidden=500 beside .*lower n_hidden"),
        (genus.CategoricalMixture(50), WORDS, "n_components=50 over columns of [0-9]+ levels"),
    ],
    ids=lambda v: type(v).__name__,
)
def test_a_model_larger_than_the_machine_is_refused_before_it_is_made(
    model: Any, X: Any, says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "available", lambda: 10_000)
    with pytest.raises(ValueError, match=says):
        model.fit(X)


def test_small_things_fit() -> None:
    assert memory.available() > 2**20
    check_fits(1000, "a thing", "shrink it")
    with pytest.raises(ValueError, match=r"a thing would take .* GB of memory, .*: shrink it"):
        check_fits(1e18, "a thing", "shrink it")


def test_only_errors_of_allocators_are_renamed() -> None:
    with pytest.raises(RuntimeError, match="of another sort"), naming_what_is_large(GM()):
        raise RuntimeError("of another sort")
    model = GM(7)
    for error in (MemoryError("711 GiB"), RuntimeError("CUDA out of memory")):
        with pytest.raises(ValueError, match="n_components=7 does not fit into memory.*smaller"):
            with naming_what_is_large(model):
                raise error
