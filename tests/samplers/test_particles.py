"""Particles against weights, frequencies and posteriors that are known."""

from __future__ import annotations

import math

import pytest
import torch
from scipy.stats import chisquare

from genus.learn.rows import generator
from genus.samplers.particles import (
    effective_number,
    enough,
    pick,
    pick_several,
    resample,
    weights,
)

P = torch.tensor([0.5, 0.3, 0.15, 0.05], dtype=torch.float64)


def test_weights_sum_to_one_whatever_is_added_to_them() -> None:
    log_w = torch.log(P)[None] + torch.tensor([[0.0], [-2000.0], [2000.0]])
    assert torch.allclose(weights(log_w), P.expand(3, 4))


def test_a_row_without_any_weight_picks_among_all_alike() -> None:
    nothing = torch.full((4000, 4), -math.inf, dtype=torch.float64)
    assert torch.allclose(weights(nothing), torch.full_like(nothing, 0.25))
    counts = torch.bincount(pick(nothing, generator(0)) % 4, minlength=4)
    assert chisquare(counts.numpy()).pvalue > 1e-3


def test_the_effective_number_goes_from_one_to_all() -> None:
    one = torch.tensor([0.0, -math.inf, -math.inf, -math.inf])
    log_w = torch.stack([one, torch.zeros(4), torch.tensor([0.0, 0.0, -math.inf, -math.inf])])
    assert torch.allclose(effective_number(weights(log_w)), torch.tensor([1.0, 4.0, 2.0]))


def test_particles_are_picked_as_often_as_they_weigh() -> None:
    n = 20_000
    places = pick(torch.log(P).expand(n, 4), generator(0))
    rows, chosen = places // 4, places % 4
    assert torch.equal(rows, torch.arange(n))  # each row one of its own
    assert chisquare(torch.bincount(chosen).numpy(), n * P.numpy()).pvalue > 1e-3


def test_particles_go_on_as_often_as_they_weigh() -> None:
    n = 5000
    log_w = (torch.log(torch.tensor([0.85, 0.05, 0.05, 0.05]).double()) + 3).expand(n, 4)
    again = resample(log_w, generator(0))
    assert again is not None
    places, after = again
    assert torch.equal(places // 4, torch.arange(n).repeat_interleave(4))
    share = [0.85, 0.05, 0.05, 0.05]
    counts = torch.bincount(places % 4).numpy()
    assert chisquare(counts, [4 * n * p for p in share]).pvalue > 1e-3
    # they weigh the same now, and the mean weight of a row is what it was
    assert torch.allclose(after, torch.full_like(after, 3 - math.log(4)))


@pytest.mark.parametrize("k", [1, 4])
def test_rows_whose_particles_count_are_left_alone(k: int) -> None:
    assert resample(torch.log(P[:k]).expand(5, k), generator(0)) is None


def test_only_the_rows_that_need_it_are_drawn_anew() -> None:
    poor = torch.tensor([0.0, -50.0, -50.0, -50.0]).double()
    log_w = torch.stack([torch.log(P), poor, torch.log(P)])
    again = resample(log_w, generator(0))
    assert again is not None
    places, after = again
    assert places.tolist() == [0, 1, 2, 3, 4, 4, 4, 4, 8, 9, 10, 11]
    assert torch.equal(after[0], log_w[0]) and torch.equal(after[2], log_w[2])
    assert len(after[1].unique()) == 1


def filtered(n: int, k: int, steps: int, resampled: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """Fair coins z_t, each told by a witness who is right nine times in ten and says 1.

    P(z_t = 1 | told) = 0.9 at every step, and P(told) = 2^−steps. Returns the coins (n, steps) of
    one particle a row, and log of the estimates of P(told), (n,).
    """
    rng = generator(1)
    z = torch.zeros(n * k, steps)
    log_w = torch.zeros(n, k, dtype=torch.float64)
    for t in range(steps):
        z[:, t] = (torch.rand(n * k, generator=rng) < 0.5).float()
        log_w = log_w + torch.log(0.1 + 0.8 * z[:, t].double()).reshape(n, k)
        again = resample(log_w, rng) if resampled else None
        if again is not None:
            places, log_w = again
            z = z[places]
    return z[pick(log_w, rng)], torch.logsumexp(log_w, 1) - math.log(k)


def test_resampling_keeps_the_posterior_where_weights_alone_lose_it() -> None:
    n, k, steps = 400, 64, 40
    z, _ = filtered(n, k, steps, resampled=True)
    assert abs(float(z[:, -10:].mean()) - 0.9) < 0.02
    lost, _ = filtered(n, k, steps, resampled=False)
    assert float(lost[:, -10:].mean()) < 0.8


def test_the_mean_weight_is_unbiased() -> None:
    steps = 10
    _, log_p = filtered(2000, 16, steps, resampled=True)
    ratio = torch.exp(log_p + steps * math.log(2))
    assert abs(float(ratio.mean()) - 1) < 4 * float(ratio.std()) / math.sqrt(2000)


def test_several_are_picked_as_often_as_they_weigh() -> None:
    p = torch.tensor([[0.5, 0.3, 0.2, 0.0], [0.1, 0.1, 0.1, 0.7]], dtype=torch.float64)
    places = pick_several(torch.log(p), 10, generator(0))
    assert places.shape == (10, 2)
    counts = torch.stack([(places[:, i, None] == 4 * i + torch.arange(4)).sum(0) for i in (0, 1)])
    assert torch.equal(counts, torch.tensor([[5, 3, 2, 0], [1, 1, 1, 7]]))


def test_each_of_several_is_a_draw_by_weight() -> None:
    p = torch.tensor([0.45, 0.25, 0.3], dtype=torch.float64)
    places = pick_several(torch.log(p).expand(20_000, 3), 4, generator(0)) % 3
    for one in places:
        shares = torch.bincount(one, minlength=3) / len(one)
        assert (shares - p).abs().max() < 0.015


def test_one_of_several_is_the_one_that_is_picked() -> None:
    log_w = torch.randn(50, 6, dtype=torch.float64, generator=generator(0))
    assert torch.equal(pick_several(log_w, 1, generator(3))[0], pick(log_w, generator(3)))
    assert enough(8, 1) == 8 and enough(8, 10) == 40 and enough(128, 10) == 128
