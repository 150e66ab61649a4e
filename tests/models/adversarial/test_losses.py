"""What the players lose, against numbers that are known."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from genus.learn.rows import generator
from genus.models.adversarial.losses import (
    LOSSES,
    hinge,
    minimax,
    minimax_generator,
    non_saturating_generator,
    one_slope,
    slope,
    wasserstein,
)

N = 25_000


def normals(mean: float, seed: int) -> Tensor:
    return mean + torch.randn(N, generator=generator(seed), dtype=torch.float64)


def test_equal_distributions_cost_the_best_critic_what_theory_says() -> None:
    nothing = torch.zeros(5)  # of the first two, log p/q = 0
    assert minimax(nothing, nothing).item() == pytest.approx(2 * math.log(2))
    assert hinge(nothing, nothing).item() == 2
    one, other = normals(0, 1), normals(0, 2)
    assert wasserstein(one, other).item() == pytest.approx(0, abs=0.03)  # D(x) = x


def test_the_best_critics_measure_divergences_of_two_normals() -> None:
    """N(0, 1) against N(2, 1): log p/q = 2 − 2x."""
    real, drawn = normals(0, 1), normals(2, 2)
    a, b = 2 - 2 * real, 2 - 2 * drawn
    assert math.log(2) - minimax(a, b).item() / 2 == pytest.approx(0.33683, abs=0.01)
    distance = math.erf(1 / math.sqrt(2))  # TV = 2 Φ(1) − 1
    assert 1 - hinge(a.sign(), b.sign()).item() / 2 == pytest.approx(distance, abs=0.01)
    assert wasserstein(-real, -drawn).item() == pytest.approx(-2, abs=0.03)  # −W₁, D(x) = −x


def test_generators_of_a_sure_critic_learn_from_one_loss_and_not_from_the_other() -> None:
    b = torch.tensor([-10.0], requires_grad=True)
    for loss, expected in (
        (non_saturating_generator, -1.0),  # −σ(−b)
        (minimax_generator, 0.0),  # −σ(b)
    ):
        (gradient,) = torch.autograd.grad(loss(b), b)
        assert gradient.item() == pytest.approx(expected, abs=1e-4)
    both = minimax_generator(b) + non_saturating_generator(b)
    assert both.item() == pytest.approx(10)  # log(1 − σ) − log σ = −b
    assert {of_generator for _, of_generator in LOSSES.values()} >= {
        minimax_generator,
        non_saturating_generator,
    }


def log_sigma(x: float) -> float:
    return -math.log1p(math.exp(-x))


A, B = 0.5, 2.0  # the critic's numbers on a real row and on a drawn one
SURE = -log_sigma(A) - log_sigma(-B)  # 1 − σ(b) = σ(−b)


@pytest.mark.parametrize(
    ("name", "critic", "generates"),
    [
        ("minimax", SURE, log_sigma(-B)),
        ("non-saturating", SURE, -log_sigma(B)),
        ("wasserstein-gp", B - A, -B),
        ("hinge", (1 - A) + (1 + B), -B),
    ],
)
def test_each_name_stands_for_its_pair(name: str, critic: float, generates: float) -> None:
    of_critic, of_generator = LOSSES[name]
    assert of_critic(torch.tensor([A]), torch.tensor([B])).item() == pytest.approx(critic)
    assert of_generator(torch.tensor([B])).item() == pytest.approx(generates)


def test_hinge_asks_no_more_than_a_margin() -> None:
    a, b = torch.tensor([3.0, 0.5]), torch.tensor([-3.0, 0.5])
    assert hinge(a, b).item() == pytest.approx(0.5 / 2 + 1.5 / 2)


def test_slopes_of_a_known_critic() -> None:
    def critic(x: Tensor, weight: Tensor) -> Tensor:
        return (weight * x.square()).sum(1)  # ∇D = 2 w x

    x, weight = torch.tensor([[1.0, 2.0], [0.0, 3.0]]), torch.tensor(0.5, requires_grad=True)
    value, square = slope(critic, x, weight)
    assert value.tolist() == [2.5, 4.5] and square.tolist() == [5.0, 9.0]
    (gradient,) = torch.autograd.grad(square.sum(), weight)
    assert gradient.item() == pytest.approx(8 * 0.5 * 14)  # of Σ 4 w² |x|²

    def line(x: Tensor) -> Tensor:
        return 3 * x[:, 0]

    u = torch.rand(4, 1, generator=generator(0))
    assert one_slope(line, torch.zeros(4, 2), torch.ones(4, 2), u).item() == pytest.approx(4)
    middle = one_slope(
        critic, 4 * torch.ones(1, 1), torch.zeros(1, 1), torch.tensor([[0.25]]), weight
    )
    assert middle.item() == pytest.approx(0, abs=1e-6)  # at 0.25 · 4 the slope is 1
