"""Causal attention: what a step sees, and what a cache gives."""

from __future__ import annotations

import torch
from torch import Tensor

from genus.learn.rows import generator
from genus.networks.attention import Block, attended
from genus.networks.layers import initialise


def block() -> Block:
    """A block whose every weight was drawn, in float64."""
    made = initialise(Block(8, 2, 0.0), generator(0)).double().eval()
    with torch.no_grad():
        for p in made.parameters():
            p.add_(0.3 * torch.randn(p.shape, generator=generator(1), dtype=p.dtype))
    return made  # type: ignore[return-value]


def rows() -> Tensor:
    return torch.randn(3, 5, 8, generator=generator(2), dtype=torch.float64)


def test_a_block_starts_as_the_identity() -> None:
    made = initialise(Block(8, 2, 0.0), generator(0)).double()
    assert torch.equal(made(rows()), rows())


def test_a_step_sees_itself_and_those_before_it_alone() -> None:
    made, h = block(), rows()
    J = torch.autograd.functional.jacobian(lambda v: made(v[None])[0].sum(1), h[0]).abs().sum(2)
    assert torch.equal(J, J.tril()) and bool((J[torch.ones(5, 5).tril() > 0] > 1e-6).all())


def test_steps_one_by_one_from_a_cache_are_those_of_a_whole_pass() -> None:
    made, h = block(), rows()
    store = h.new_zeros(2, 3, 2, 5, 4)
    with torch.no_grad():
        steps = [made(h[:, t : t + 1], (), (store, t)) for t in range(5)]
        torch.testing.assert_close(torch.cat(steps, 1), made(h))


def test_on_a_processor_attention_is_float32_whatever_networks_compute_in() -> None:
    """Its backward pass in bfloat16 takes more than ten times as long."""
    rng = generator(0)
    q, k, v = (torch.randn(2, 1, 5, 4, generator=rng).requires_grad_() for _ in range(3))
    exact = attended(q, k, v, is_causal=True)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = attended(q, k, v, is_causal=True)
    assert found.dtype is torch.float32 and torch.equal(found, exact)
    assert not torch.equal(attended(q, k, v), exact)
