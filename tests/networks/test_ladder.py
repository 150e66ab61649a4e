"""The two paths of a ladder."""

import torch

from genus.learn.rows import generator
from genus.networks.ladder import LEAST, Downward, Upward, scale
from genus.networks.layers import initialise


def test_priors_start_standard_normal_and_branches_at_zero():
    down = initialise(Downward((3, 2), (5,), 8, 1, 0), generator(0))
    d = torch.randn(4, 8, generator=generator(1))
    u = torch.randn(4, 2, generator=generator(2))
    mean, raw = down.prior[1](d).chunk(2, -1)
    assert not mean.any() and torch.allclose(scale(raw), torch.tensor(1.0 + LEAST))
    expected = d + down.enter[1]((1 + LEAST) * u)
    assert torch.allclose(down.step(1, d, u), expected, atol=1e-6)


def test_scales_never_vanish():
    assert float(scale(torch.tensor(-1e4))) >= LEAST


def test_both_paths_take_a_context_and_any_leading_axes():
    up = initialise(Upward((2, 3), (3, 2), 8, 1, 4), generator(0))
    context = torch.ones(5, 4)
    assert up(torch.zeros(5, 2, 3), context).shape == (5, 5 + 2 * 8)
    down = initialise(Downward((3, 2), (1, 2, 2), 8, 1, 4), generator(0))
    assert down(torch.zeros(5, 5), context).shape == (5, 1, 2, 2)
    assert down.out(torch.zeros(7, 5, 8)).shape == (7, 5, 1, 2, 2)
    other = down(torch.zeros(5, 5), 2 * context)
    assert not torch.equal(other, down(torch.zeros(5, 5), context))
