"""What ``diagnose`` finds is what is there."""

import numpy as np
import pytest
import torch

import genus
from genus.evaluate import diagnose
from genus.evaluate.diagnose import amortisation, approximation, divergences, plane_of, some_rows
from genus.evaluate.latents import Latents, Posterior, latents_of
from genus.learn.rows import generator

RNG = np.random.default_rng(0)
Z = RNG.normal(size=(400, 2))
W = np.array([[2.0, 0, 1, 0, 1, 0], [0, 2.0, 0, 1, 0, -1]])
X = Z @ W + 0.3 * RNG.normal(size=(400, 6))
SHORT = genus.Trainer(epochs=10, batch_size=40, lr=1e-2, progress=False)
NET = genus.MLP(16, 1, "tanh")


@pytest.fixture(scope="module")
def line():
    return genus.ProbabilisticPCA(3).fit(X)


@pytest.fixture(scope="module")
def of_line(line):
    return diagnose(line, X, n=200)


class At(Latents):
    """Rows whose q(z | x) are narrow, at given places."""

    def __init__(self, places, width=0.1):
        mean = torch.as_tensor(places)
        n, d = mean.shape
        root = width * torch.eye(d, dtype=mean.dtype).expand(n, 1, d, d)
        self.posterior = Posterior(mean.new_zeros(n, 1), mean[:, None], root)
        self.x = mean


def test_the_three_parts_are_the_kl_term(line, of_line):
    """Σ ½ (m² + s² − 1) − log s, in closed form."""
    mean, cov = line.posterior(X)
    v = np.diagonal(cov, axis1=1, axis2=2)
    kl = 0.5 * (mean**2 + v - 1).sum(1) - 0.5 * np.linalg.slogdet(cov)[1]
    assert of_line.kl == pytest.approx(kl.mean(), abs=0.2)
    assert of_line.information > 0 and of_line.told.shape == (3,)
    low, high = of_line.divergence
    assert (
        0
        <= low
        <= high
        == pytest.approx(of_line.total_correlation + of_line.dimension_wise, abs=1e-5)
    )


def test_a_dimension_that_tells_nothing_is_not_in_use():
    silent = genus.ProbabilisticPCA(3).fit(X)
    silent.loadings_[:, 2] = 0
    found = diagnose(silent, X, n=100)
    assert found.latent_dim == 3 and found.active == 2


def test_an_exact_posterior_has_no_gaps(line):
    found = diagnose(line, X, n=60, ais=8)
    assert found.amortisation[0] == pytest.approx(0, abs=0.02)
    assert found.approximation[0] == pytest.approx(0, abs=0.1)
    assert found.elbo == pytest.approx(found.refined, abs=0.02)


def test_a_wrong_posterior_has_both_gaps(line):
    """One beside the truth, refined to it; and one refined, but of the wrong height."""
    view = latents_of(line, X[:40])
    view.posterior = Posterior(
        view.posterior.log_weight, view.posterior.mean + 0.3, view.posterior.root
    )
    rows = torch.arange(40)
    gap, error = amortisation(view, rows, generator(0))["amortisation"]
    assert gap > 5 * error and gap > 0.5
    too_low = torch.from_numpy(line.score_samples(X[:8]) - 3.0)
    gap, _ = approximation(view, rows[:8], too_low, generator(0))["approximation"]
    assert gap == pytest.approx(3, abs=0.15)


def test_correlated_codes_are_total_correlation_and_shifted_ones_are_not():
    e = np.random.default_rng(1).normal(size=(300, 1))
    same = divergences(At(np.concatenate([e, e], 1), 0.2), generator(0))
    apart = np.random.default_rng(2).normal(size=(300, 2)) + [3.0, 0]
    moved = divergences(At(apart, 0.2), generator(0))
    assert same["total_correlation"] > 0.8 > 0.4 > same["dimension_wise"]
    assert moved["dimension_wise"] == pytest.approx(4.5, abs=0.8)
    assert moved["divergence"][0] > 3


def test_a_hole_is_found_where_it_is():
    ring = np.random.default_rng(0).normal(size=(400, 2))
    ring = ring / np.linalg.norm(ring, axis=1, keepdims=True) * 2
    found = plane_of(At(ring), np.ones(2), generator(0))
    assert 0.2 < found["holes"] < 0.7
    assert np.linalg.norm(found["hole_places"][0]) < 0.8
    whole = np.random.default_rng(0).normal(size=(400, 2))
    assert plane_of(At(whole), np.ones(2), generator(0))["holes"] < 0.05


def test_collapse_is_detected_and_its_cure_named():
    bits = (X > 0).astype(int)
    fine = genus.VAE(2, NET, NET, k=16, trainer=SHORT, random_state=0).fit(bits)
    strict = genus.VAE(2, NET, NET, k=16, beta=50.0, trainer=SHORT, random_state=0).fit(bits)
    found = diagnose(strict, bits, n=200)
    assert found.collapsed == "whole" and found.active == 0
    assert "free bits" in str(found) and "posterior collapse: whole" in str(found)
    assert diagnose(fine, bits, n=200).collapsed == "none"


def test_reconstructions_that_are_too_sure_are_told(line):
    sure = genus.ProbabilisticPCA(2).fit(X)
    sure.noise_ = sure.noise_ / 100
    found = diagnose(sure, X, n=100)
    assert found.coverage[1] < 0.4 and "too sure" in str(found)
    fine = diagnose(line, X, n=100)
    assert fine.coverage[1] > 0.85 and "too sure" not in str(fine)


def test_rows_that_do_not_belong_are_named(line):
    odd = X[:50].copy()
    odd[[7, 31]] += 4 * np.array([1, -1, 1, -1, 1, -1])
    found = diagnose(line, odd)
    assert set(found.strange[:2]) == {7, 31}
    assert "rows 7, 31" in str(found) or "rows 31, 7" in str(found)


def test_it_is_repeatable_and_few_rows_are_drawn(line):
    a, b = (diagnose(line, X, n=50, random_state=3) for _ in range(2))
    assert str(a) == str(b) and a.n == 50
    assert str(diagnose(line, X, n=50, random_state=4)) != str(a)


def test_bits_of_tables_and_gaps_are_welcome():
    table = np.where(RNG.random(X.shape) < 0.1, np.nan, X)
    model = genus.VAE(2, NET, NET, k=16, trainer=SHORT, random_state=0).fit(table)
    found = diagnose(model, table, n=100)
    assert len(found.ranks) == int((~np.isnan(table[found_rows(found, table)])).sum())
    assert np.isfinite(found.kl)


def found_rows(found, table):
    return some_rows(table, None, found.n, 0)[2]


def test_what_is_asked_is_checked(line):
    with pytest.raises(ValueError, match="ais"):
        diagnose(line, X, ais=65)
