"""Attacks, against the closed form of a linear classifier."""

import numpy as np
import pytest
import torch

import genus
from genus.evaluate import robustness


@pytest.fixture(scope="module")
def linear():
    """A logistic regression of three columns; two far rows keep the box away from the others."""
    rng = np.random.default_rng(0)
    X = np.concatenate([rng.normal(size=(150, 3)), [[-9.0] * 3, [9.0] * 3]]) * [1.0, 5.0, 0.2]
    y = np.where(X @ [1.0, 0.1, -2.0] + 0.5 * rng.normal(size=152) > 0, "b", "a")
    y[-2:] = ["a", "b"]
    trainer = genus.Trainer(epochs=30, lr=0.05, progress=False)
    model = genus.BayesianMLP(
        genus.MLP(depth=0), "map", prior_scale=5.0, trainer=trainer, random_state=0
    )
    return model.fit(X, y), X, y


def margins(model, X, y):
    """The margin of each row, and its slope with respect to the range of each column."""
    x = torch.from_numpy(X).requires_grad_()
    log_p = model._log_classes(x)
    m = log_p[:, 1] - log_p[:, 0]
    (g,) = torch.autograd.grad(m.sum(), x)
    sign = np.where(y == "b", 1.0, -1.0)
    return sign * m.detach().numpy(), np.abs(g.numpy()) * np.ptp(X, axis=0)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_a_linear_classifier_loses_what_the_dual_norm_says(linear, norm):
    model, X, y = linear
    m, slope = margins(model, X, y)
    fall = slope.sum(1) if norm == "linf" else np.linalg.norm(slope, axis=1)
    eps = [0.01, 0.05]
    told = robustness(model, X, y, eps=eps, norm=norm, steps=10, restarts=1)
    assert told.clean == pytest.approx((m > 0).mean())
    for name in ("fgsm", "pgd"):
        exact = [(m > e * fall).mean() for e in eps]
        np.testing.assert_allclose(told.table[name], exact, atol=0.01)
    assert (told.table.noise >= told.table.pgd).all() and told.masked == ()


def test_it_stays_inside_the_box(linear):
    model, X, y = linear
    inside = X[:150]
    m, slope = margins(model, inside, y[:150])
    told = robustness(model, inside, y[:150], eps=[0.5], steps=10, restarts=1)
    low, high = inside.min(0), inside.max(0)
    x = torch.from_numpy(inside).requires_grad_()
    log_p = model._log_classes(x)
    (g,) = torch.autograd.grad((log_p[:, 1] - log_p[:, 0]).sum(), x)
    down = -np.sign(g.numpy()) * np.where(y[:150] == "b", 1, -1)[:, None]
    end = np.clip(inside + 0.5 * (high - low) * down, low, high)
    assert told.table.fgsm[0] == pytest.approx((margins(model, end, y[:150])[0] > 0).mean())


class Rounded:
    """A classifier that rounds what it sees: its gradients are masked, its errors are not."""

    def __init__(self, model):
        self.model, self.classes_, self.space_ = model, model.classes_, model.given_space_

    def _check_fitted(self):
        pass

    def _codes(self, X):
        return self.model._given(X)

    def _log_classes(self, x):
        return self.model._log_classes((20 * x).round() / 20)


def test_masked_gradients_are_found(linear):
    model, X, y = linear
    told = robustness(Rounded(model), X, y, eps=[0.05], steps=5, restarts=0)
    text = " ".join(told.masked)
    assert "have no gradient" in text and "without limits" in text


def test_what_has_no_gradient_says_so(linear):
    _, X, y = linear
    with pytest.raises(genus.CapabilityError, match="no gradient"):
        robustness(genus.Gaussian().fit(X), X, y)
    with pytest.raises(genus.CapabilityError, match="refine=0"):
        robustness(linear[0], X, y, refine=3)
    with pytest.raises(ValueError, match="eps"):
        robustness(linear[0], X, y, eps=[0.0])


def test_a_model_that_looks_its_cells_up_is_flat_and_said_to_be():
    rng = np.random.default_rng(0)
    X = (rng.random((80, 6)) < 0.5).astype("uint8")
    few = genus.Trainer(max_steps=3, progress=False)
    model = genus.JEM(genus.MLP(4, 1), trainer=few, random_state=0).fit(X, X[:, 0])
    found = robustness(model, X[:10], X[:10, 0], random_state=0)
    assert "100% of the rows have no gradient" in repr(found)
