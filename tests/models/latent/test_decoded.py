"""What the encoder sees, and what the decoder's outputs mean."""

from __future__ import annotations

import math

import torch

from genus import Space
from genus.models.latent.decoded import Features, Output
from genus.networks.layers import Linear


def test_missing_cells_are_0_beside_standardised_ones() -> None:
    seen = Features(2, Space((2,), "continuous"))
    h = torch.tensor([[1.0, 10.0], [3.0, math.nan], [5.0, 30.0]], dtype=torch.float64)
    seen.fit(h, False)
    out = seen(h, False)
    assert float(out[1, 1]) == 0
    torch.testing.assert_close(out[:, 0].mean(), torch.tensor(0.0))
    torch.testing.assert_close(out[[0, 2], 1], torch.tensor([-1.0, 1.0]))
    bits = Features(2, Space((2,), "binary"))
    bits.fit(h, False)
    assert torch.equal(bits(torch.ones(1, 2), True), torch.ones(1, 2))


def test_outputs_of_images_are_put_cell_after_cell() -> None:
    out = Output(2 * 3, (1, 1, 3), None)
    offset = torch.arange(6.0)  # two parameters of each of three cells
    with torch.no_grad():
        out.start(offset, None)
    parameter_after_parameter = torch.tensor([[10.0, 20, 30, 1, 2, 3]])
    expected = torch.tensor([[10.0, 1, 20, 2, 30, 3]]) + offset
    assert torch.equal(out(parameter_after_parameter), expected)
    last = Linear(4, 6)
    own = Output(6, (1, 1, 3), last)
    assert own.biased and not list(own.parameters())
    with torch.no_grad():
        own.start(offset, last)
    assert torch.equal(own(last.bias[None])[0], offset)
