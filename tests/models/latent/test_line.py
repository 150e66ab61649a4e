"""The linear path beside the networks."""

from __future__ import annotations

import torch

from genus.learn.rows import generator
from genus.models.latent.line import Line, factors


def test_factors_of_a_covariance_that_has_some() -> None:
    W = torch.randn(6, 2, generator=generator(0), dtype=torch.float64)
    noise = torch.tensor([0.3, 0.5, 0.7, 0.4, 0.6, 0.8], dtype=torch.float64)
    S = W @ W.T + torch.diag(noise)
    found, rest = factors(S, 2, torch.full_like(noise, 1e-3))
    torch.testing.assert_close(found @ found.T, W @ W.T, atol=0.15, rtol=0)
    V = found / rest[:, None]
    assert abs(float((found.T @ V)[0, 1])) < 1e-8


def test_a_line_starts_at_principal_axes() -> None:
    z = torch.randn(4000, 2, generator=generator(1), dtype=torch.float64)
    e = torch.randn(4000, 4, generator=generator(2), dtype=torch.float64)
    W = torch.tensor([[2.0, 0.0], [2.0, 0.0], [0.0, 1.0], [0.0, -1.0]], dtype=torch.float64)
    y = z @ W.T + 0.5 * e
    line = Line(4, 2, 4, generator(0))
    h = torch.ones(3, 4)
    assert not line.project(h).any() and not line.expand(h[:, :2]).any()
    s, noise = line.start_at_pca(y)
    assert abs(float(noise) - 0.25) < 0.02
    B = line.expand_.weight.double()
    torch.testing.assert_close(B @ B.T, W @ W.T, atol=0.4, rtol=0)
    # the posterior of probabilistic PCA: s² = σ²/(σ² + |w|²)
    torch.testing.assert_close(
        s.square(), torch.tensor([0.25 / 8.25, 0.25 / 2.25]).double(), atol=0.01, rtol=0
    )
    given = torch.linalg.inv(B.T @ B + noise * torch.eye(2)) @ B.T
    torch.testing.assert_close(line.project_.weight.double(), given, atol=1e-3, rtol=0)
