"""The six flows: what each step bends, and what it leaves alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from genus import IAF, MAF, MLP, NICE, Glow, RealNVP, SameConv, Space, SplineFlow, Trainer
from genus.distributions.bijections import ActNorm
from genus.models.flows.flow import Flow

QUICK = Trainer(epochs=2, batch_size=100, lr=1e-2, validation=0.0, progress=False)
NET = MLP(16, 1, "silu")
D = 5
X = np.random.default_rng(0).normal(size=(300, D)).cumsum(1)


def fitted(family: Any, steps: int = 1, **args: Any) -> Flow:
    return family(steps, NET, trainer=QUICK, random_state=0, dtype="float64", **args).fit(X)


def jacobian(f: Any, v: Tensor) -> Tensor:
    """∂f/∂v at one row, (d, d)."""
    return torch.autograd.functional.jacobian(lambda u: f(u[None])[0], v)


def volumes(model: Flow) -> np.ndarray:
    """log |det ∂z/∂y| at some rows."""
    return np.array(
        [
            float(torch.linalg.slogdet(jacobian(model.to_base, y))[1])
            for y in torch.from_numpy(X[:6])
        ]
    )


def test_nice_keeps_volumes_and_the_others_do_not() -> None:
    assert np.ptp(volumes(fitted(NICE, 3))) < 1e-9
    for family in (RealNVP, Glow, MAF, IAF, SplineFlow):
        assert np.ptp(volumes(fitted(family, 3))) > 1e-3


@pytest.mark.parametrize("family", [NICE, RealNVP, SplineFlow])
def test_a_coupling_bends_one_half_and_reads_the_other(family: Any) -> None:
    """One step leaves 2 or 3 of 5 coordinates as they are; three steps bend all."""
    y = torch.from_numpy(X[7])
    one = jacobian(fitted(family).to_base, y)
    busy = (one.abs() > 1e-12).sum(1)
    assert sorted(busy.tolist())[:2] == [1, 1] and busy.max() > 1
    three = jacobian(fitted(family, 3).to_base, y)
    assert ((three.abs() > 1e-12).sum(1) > 1).all()


def test_autoregressive_steps_see_the_coordinates_before_their_own() -> None:
    """MAF bends y_j by those before it; IAF draws z_j by those before it, at one pass."""
    for model, f in ((fitted(MAF), "to_base"), (fitted(IAF), "from_base")):
        J = jacobian(getattr(model, f), torch.from_numpy(X[3]))
        seen = (J.abs() > 1e-12).sum(1)
        assert sorted(seen.tolist()) == [1, 2, 3, 4, 5]


def test_only_iaf_is_left_out_of_comparisons() -> None:
    assert not IAF.by_default
    assert all(f.by_default for f in (NICE, RealNVP, Glow, MAF, SplineFlow))


def test_glow_starts_from_the_first_training_rows_alone() -> None:
    quick = QUICK.replace(epochs=1, lr=1e-12)
    m = Glow(4, NET, marginals="affine", trainer=quick, random_state=0).fit(X)
    norms = [f for f in m.modules() if isinstance(f, ActNorm)]
    before = [f.b_.clone() for f in norms]
    assert len(norms) == 4 and any(bool(b.any()) for b in before)
    with torch.no_grad():
        first = norms[0](m.scale_(torch.from_numpy(X))[0])[0]
    torch.testing.assert_close(first.mean(0), torch.zeros(D, dtype=first.dtype), atol=1e-4, rtol=0)
    m.log_prob(X + 1000)
    m.sample(10)
    assert all(torch.equal(a, f.b_) for a, f in zip(before, norms, strict=True))


def test_glow_gives_what_leaves_a_base_of_its_own() -> None:
    x = np.random.default_rng(0).integers(0, 4, (40, 8, 8))
    space = Space((8, 8), "ordinal", levels=4, layout="HW")
    glow, plain = (
        family(1, SameConv(4), levels=2, trainer=QUICK, random_state=0).fit(x, space=space)
        for family in (Glow, RealNVP)
    )
    assert glow.flow_.maps[0].leave is not None and plain.flow_.maps[0].leave is None


def test_a_spline_is_the_identity_beyond_its_bound() -> None:
    m = fitted(SplineFlow, 2, bins=4, bound=2.0, marginals="affine")
    far = torch.from_numpy(X.mean(0) + 10 * X.std(0))
    J = jacobian(m.to_base, far) * torch.from_numpy(X.std(0))
    np.testing.assert_allclose(J.abs().sum(1), 1, rtol=1e-6)
    np.testing.assert_allclose(J.abs().sum(0), 1, rtol=1e-6)


def test_levels_of_images_that_cannot_be_halved() -> None:
    x = np.zeros((20, 6, 6), dtype=int)
    x[::2] = 1
    for levels, match in ((2, "from 0 to 1"), (-1, "levels=-1: a whole number of at least 0")):
        with pytest.raises(ValueError, match=match):
            RealNVP(levels=levels, trainer=QUICK).fit(x)


@pytest.mark.parametrize("family", [MAF, IAF, lambda **k: SplineFlow(autoregressive=True, **k)])
def test_autoregressive_steps_take_images_as_vectors(family: Any) -> None:
    x = np.zeros((20, 6, 6), dtype=int)
    x[::2] = 1
    with pytest.raises(ValueError, match="as vectors"):
        family(levels=1, trainer=QUICK).fit(x)
