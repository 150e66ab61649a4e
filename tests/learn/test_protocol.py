"""What someone who adds a model may get wrong, and what the default ``learn`` does."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.exceptions import ConvergenceWarning
from torch import Tensor, nn

from genus import Trainer, files
from genus.learn import Rows, accumulate, descend
from genus.learn.fit import Fit
from genus.model import Model
from toys import EM, Toy
from training import Slope, X, same, stop_after

# ---------------------------------------------------------------------- slips


class Slip(Toy):
    """A line through the rows, which a test gives some hook of its own."""

    def build(self, space: Any) -> None:
        self.line_ = nn.Linear(space.dim, 1)
        self.other_ = nn.Linear(space.dim, 1)

    def loss(self, x: Tensor) -> Tensor:
        return self.line_(x.float()).square().mean()


def returns_a_tensor(self: Slip, x: Tensor) -> Any:
    return self.loss(x)


def returns_a_pair(self: Slip, x: Tensor) -> Any:
    return self, self.loss(x)


def returns_nothing(self: Slip, x: Tensor) -> Any:
    self.loss(x)


def yields_a_tensor(self: Slip, x: Tensor) -> Any:
    yield self.loss(x)


def yields_nothing(self: Slip, x: Tensor) -> Any:
    yield


def yields_the_loss_first(self: Slip, x: Tensor) -> Any:
    yield self.loss(x), self


def yields_three(self: Slip, x: Tensor) -> Any:
    yield self, self.loss(x), "line"


def yields_a_number(self: Slip, x: Tensor) -> Any:
    yield self, self.loss(x).item()


def yields_a_loss_a_row(self: Slip, x: Tensor) -> Any:
    yield self, self.line_(x.float())[:, 0].square()


def yields_no_gradient(self: Slip, x: Tensor) -> Any:
    yield self, self.loss(x).detach()


def yields_another_player(self: Slip, x: Tensor) -> Any:
    yield self.other_, self.loss(x)


def yields_a_stranger(self: Slip, x: Tensor) -> Any:
    yield nn.Linear(1, 1), self.loss(x)


SLIPS: list[tuple[Callable[..., Any], str]] = [
    (returns_a_tensor, "returned a Tensor: write `yield self, loss` in place of `return`"),
    (returns_a_pair, "returned a tuple \\(Slip, Tensor\\): write `yield self, loss`"),
    (returns_nothing, "returned nothing: write `yield self, loss`"),
    (yields_a_tensor, "yielded a Tensor: yield a pair \\(player, loss\\), .*`yield self, loss`"),
    (yields_nothing, "yielded nothing: yield a pair"),
    (yields_the_loss_first, "yielded a tuple \\(Tensor, Slip\\): yield a pair"),
    (yields_three, "yielded a tuple \\(Slip, Tensor, str\\): yield a pair"),
    (yields_a_number, "yielded a tuple \\(Slip, float\\): yield a pair"),
    (yields_a_loss_a_row, "yielded a loss of shape \\(16,\\): yield one number, .*loss.mean\\(\\)"),
    (yields_no_gradient, "yielded a loss that has no gradient: .*without detach"),
    (yields_another_player, "yielded other_ with a loss that does not depend on it"),
    (yields_a_stranger, "a Linear that is no submodule of Slip: assign it in build"),
]


@pytest.mark.parametrize(("losses", "said"), SLIPS, ids=lambda v: getattr(v, "__name__", ""))
@pytest.mark.parametrize("counted", [False, True])
def test_a_slip_in_losses_is_named(
    losses: Any, said: str, counted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether it is met in the first step or when the work of a step is counted."""
    monkeypatch.setattr(Slip, "losses", losses, raising=False)
    monkeypatch.setattr(Slip, "may_use_bfloat16", counted)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: True)
    with pytest.raises((TypeError, ValueError), match=said) as e:
        Slip().fit(X)
    assert "losses" in str(e.value) and "Slip" in str(e.value)
    assert e.value.__notes__ == ["(while training Slip, epoch 1, step 1)"]


def test_a_model_that_cannot_learn_says_which_hooks_there_are() -> None:
    with pytest.raises(NotImplementedError, match=r"Slip does not say how it learns.*losses\(x\)"):
        Slip().fit(X)

    class Descends(Slip):
        def learn(self, fit: Fit) -> None:
            descend(self, fit)

    with pytest.raises(NotImplementedError, match=r"Descends does not define losses\(x\)"):
        Descends().fit(X)


class Sums(Model):
    """A mean, which a test gives some statistics of its own."""

    def __init__(self, random_state: Any = None) -> None:
        self.random_state = random_state

    def build(self, space: Any) -> None:
        self.register_buffer("mean_", torch.zeros(space.shape, dtype=torch.float64))

    def maximise(self, sums: dict[str, Tensor]) -> None:
        self.mean_ = sums["x"] / sums["weight"]


def test_a_slip_in_statistics_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(NotImplementedError, match=r"Sums does not define statistics\(x\)"):
        Sums().fit(X)
    for statistics, said in (
        (lambda self, x: x.sum(0), "Sums.statistics returned a Tensor: return a dict of sums"),
        (
            lambda self, x: {"x": x.sum(0), "weight": torch.tensor(1.0)},
            "Sums.statistics returned x, weight, but no log_likelihood: .*accumulate",
        ),
        (lambda self, x: {"x": x.sum(0)}, "no log_likelihood and no weight"),
    ):
        monkeypatch.setattr(Sums, "statistics", statistics, raising=False)
        with pytest.raises((TypeError, ValueError), match=said):
            Sums().fit(X)


def test_sums_that_need_one_pass_need_no_likelihood() -> None:
    class OnePass(Sums):
        def statistics(self, x: Tensor) -> dict[str, Tensor]:
            return {"x": x.sum(0), "weight": torch.tensor(float(len(x)))}

        def learn(self, fit: Fit) -> None:
            self.maximise(accumulate(self, fit.rows))

    assert np.allclose(OnePass().fit(X).mean_, X.mean(0))


# ---------------------------------------------------------------------- the default learn


class DefaultEM(EM):
    """EM of the toys without a word of its own on how it learns."""

    begun = 0
    tol = 1e-9
    learn = Model.learn

    def start(self, rows: Rows) -> None:
        type(self).begun += 1
        y = torch.cat([self.real(x, self.rng)[0] for (x,) in rows.chunks(4096)])
        pick = torch.randint(len(y), (self.n_components,), generator=self.rng)
        self.means_ = y[pick].clone()
        self.variance_ = y.var(0, unbiased=False).mean()


def test_the_default_learn_solves_where_there_is_a_maximise(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(DefaultEM, "begun", 0)
    whole, other = (cls(max_iter=500, random_state=0).fit(X) for cls in (DefaultEM, EM))
    assert torch.equal(whole.means_, other.means_) and whole.converged_
    assert DefaultEM.begun == 1
    with pytest.warns(ConvergenceWarning, match="max_iter=2"):
        half = DefaultEM(max_iter=2, random_state=0).fit(X)
    half.save(tmp_path / "half")
    for source in (True, tmp_path / "half"):
        model = half if source is True else DefaultEM()
        model.set_params(max_iter=500).fit(X, resume=source)
        assert torch.equal(model.means_, whole.means_)
    assert DefaultEM.begun == 2  # not by those that went on
    # from a model that has learned nothing
    DefaultEM(max_iter=500, random_state=0).fit(X, resume=True)
    assert DefaultEM.begun == 3


def test_iterations_and_tolerance_need_not_be_arguments() -> None:
    class Mean(Sums):
        def statistics(self, x: Tensor) -> dict[str, Tensor]:
            log_p = -0.5 * (x - self.mean_).square().sum()
            weight = torch.tensor(float(len(x)))
            return {"x": x.sum(0), "weight": weight, "log_likelihood": log_p}

    model = Mean().fit(X)
    assert np.allclose(model.mean_, X.mean(0))
    assert model.converged_ and model.n_iter_ == 3


# ---------------------------------------------------------------------- start


class Notes(Slope):
    """What ``start`` finds out is kept in numbers, a buffer and a submodule."""

    begun = 0

    def build(self, space: Any) -> None:
        super().build(space)
        self.register_buffer("shift_", torch.zeros(()))
        self.part_ = Part()

    def start(self, rows: Rows) -> None:
        type(self).begun += 1
        self.shift_.fill_(float(rows.x[0, 0]))
        self._rows_seen, self.word_, self._flag = len(rows), "ready", True
        self.part_.rate = 0.5

    def losses(self, x: Tensor) -> Any:
        assert self.word_ == "ready" and self._flag
        self.steps_ = getattr(self, "steps_", 0) + 1  # carried from step to step
        scale = self.part_.rate * self._rows_seen * self.steps_
        yield self, 1e-3 * scale * (self.matrix_.sum() + self.bias_.sum() + 0 * self.shift_)


class Part(nn.Module):
    rate = 0.0


def test_start_is_for_fresh_fits_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that goes on from a checkpoint has what start left behind, bit for bit."""
    monkeypatch.setattr(Notes, "begun", 0)
    trainer = Trainer(epochs=3, checkpoint=tmp_path / "run", checkpoint_every=0.0)
    whole = Notes(trainer=trainer.replace(checkpoint=None), random_state=0).fit(X)
    with pytest.MonkeyPatch.context() as patch:
        stop_after(patch, 5)
        with pytest.warns(UserWarning, match="interrupted"):
            Notes(trainer=trainer, random_state=0).fit(X)
    assert Notes.begun == 2
    half = Notes(trainer=trainer, random_state=0).fit(X, resume=True)
    assert Notes.begun == 2
    assert same(whole, half)
    assert (half.steps_, half._rows_seen, half.part_.rate) == (12, 100, 0.5)
    assert not hasattr(half, "interrupted_")


def test_a_checkpoint_without_notes_has_start_called_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such are those of genus 0.1."""
    monkeypatch.setattr(Notes, "begun", 0)
    trainer = Trainer(epochs=2, checkpoint=tmp_path / "run")
    Notes(trainer=trainer, random_state=0).fit(X)
    tensors, meta = files.read(tmp_path / "run")
    assert meta.pop("notes")["part_"] == {"rate": 0.5}
    files.write(tmp_path / "run", tensors, meta)
    Notes(trainer=trainer.replace(epochs=3), random_state=0).fit(X, resume=True)
    assert Notes.begun == 2
