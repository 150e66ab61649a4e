"""The loop: what it promises every family, shown on the toys."""

from __future__ import annotations

import copy
import threading
import warnings
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import genus
from genus import MLP, Trainer
from genus.learn import rows
from genus.learn import trainer as trainers
from genus.learn.descent import descend
from genus.learn.fit import Fit
from genus.learn.rows import Rows
from genus.likelihood import Estimate
from toys import EBM, EM, GAN, Conditional, Duel, Stack, ToyVAE
from training import TOYS, X2, Slope, X, extra, same, slope


@pytest.mark.parametrize("cls", [*TOYS, EM])
def test_same_seed_same_bits_and_no_global_state(cls: type) -> None:
    torch.manual_seed(7)
    np.random.seed(7)  # noqa: NPY002
    before, before_np = torch.random.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    a, b, c = (cls(random_state=s).fit(X, **extra(cls)) for s in (1, 1, 2))
    assert same(a, b)
    assert not same(a, c)
    assert torch.equal(before, torch.random.get_rng_state())
    assert np.array_equal(before_np, np.random.get_state()[1])  # noqa: NPY002


def test_two_threads_train_as_each_would_alone() -> None:
    alone = {
        cls: cls(random_state=1, trainer=Trainer(epochs=10)).fit(X2, **extra(cls))
        for cls in (ToyVAE, EBM, GAN)
    }
    torch.manual_seed(7)
    before = torch.random.get_rng_state()
    together: dict[type, Any] = {}

    def fit(cls: type) -> None:
        together[cls] = cls(random_state=1, trainer=Trainer(epochs=10)).fit(X2, **extra(cls))

    threads = [threading.Thread(target=fit, args=(cls,)) for cls in alone]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert all(same(alone[cls], together[cls]) for cls in alone)
    assert torch.equal(before, torch.random.get_rng_state())


def test_an_error_in_a_loss_names_the_step() -> None:
    class Fails(ToyVAE):
        def losses(self, x: torch.Tensor) -> Any:
            raise RuntimeError("out of memory")
            yield

    with pytest.raises(RuntimeError, match="out of memory") as e:
        Fails().fit(X)
    assert e.value.__notes__ == ["(while training Fails, epoch 1, step 1)"]


def test_epochs_max_steps_and_batch_size() -> None:
    assert [s["rows"] for s in slope().log] == [25] * 8
    assert len(slope(epochs=3).log) == 12
    model = slope(epochs=3, max_steps=5)
    assert len(model.log) == model.n_steps_ == 5
    assert [line["step"] for line in model.history_] == [4, 5]
    assert [s["rows"] for s in slope(epochs=1, batch_size=30).log] == [30, 30, 30, 10]
    assert [s["rows"] for s in slope(epochs=1, batch_size=1000).log] == [100]


def test_lr_and_momentum() -> None:
    assert np.allclose([s["bias"] for s in slope(epochs=1).log], [1, 0.9, 0.8, 0.7])
    assert np.allclose([s["bias"] for s in slope(epochs=1, lr=0.01).log], [1, 0.99, 0.98, 0.97])
    assert np.allclose(
        [s["bias"] for s in slope(epochs=1, momentum=0.5).log], [1, 0.9, 0.75, 0.575]
    )
    plain, heavy = (
        slope(epochs=1, optimizer="rmsprop", momentum=m).log[-1]["bias"] for m in (0.0, 0.5)
    )
    assert plain != heavy


def test_schedule_and_warmup() -> None:
    def rates(**settings: Any) -> np.ndarray:
        return -np.diff([s["bias"] for s in slope(lr=1.0, epochs=2, **settings).log])

    t = np.arange(7) / 8
    assert np.allclose(rates(), 1)
    assert np.allclose(rates(schedule="linear"), 1 - t)
    assert np.allclose(rates(schedule="cosine"), 0.5 + 0.5 * np.cos(np.pi * t))
    assert np.allclose(rates(warmup=4), [0.25, 0.5, 0.75, 1, 1, 1, 1])


def test_grad_clip_really_clips() -> None:
    # the gradient is 6 ones, of norm √6
    assert np.isclose(slope(epochs=1, lr=1.0, grad_clip=0.5).log[1]["bias"], 1 - 0.5 / np.sqrt(6))
    assert np.isclose(slope(epochs=1, lr=1.0, grad_clip=5.0).log[1]["bias"], 0)


def test_validation_and_best_weights() -> None:
    # 4 steps of 20 rows … the bias passes .45 in the third epoch
    model = slope(epochs=5, validation=0.2, lr=0.05)
    assert model.validated_ == 5 * 20
    assert sum(s["rows"] for s in model.log) == 5 * 80
    values = [line["validation"] for line in model.history_]
    best = int(np.argmin(values))
    assert best < 4
    assert np.isclose((model.bias_[0].item() - 0.45) ** 2, values[best])
    assert "validation" not in slope(epochs=1).history_[0]


def test_validation_rows_are_not_trained_on_nor_the_test_set_used() -> None:
    seen: list[torch.Tensor] = []

    class Watch(Slope):
        def losses(self, x: torch.Tensor) -> Any:
            seen.append(x.clone())
            yield from super().losses(x)

        def validate(self, x: torch.Tensor) -> float:
            self.held_ = x
            return 0.0

    model = Watch(trainer=Trainer(epochs=1, validation=0.25)).fit(X)
    trained = {tuple(r) for r in torch.cat(seen).tolist()}
    held = {tuple(r) for r in model.held_.tolist()}
    assert (
        len(held) == 25 and not trained & held and trained | held == {tuple(r) for r in X.tolist()}
    )
    model = Watch(trainer=Trainer(epochs=1)).fit(X, validation=X2[:7])
    assert np.array_equal(model.held_.numpy(), X2[:7])


def test_patience_stops_and_holds_out_a_tenth_by_itself() -> None:
    model = slope(epochs=100, patience=2, lr=0.05)
    assert model.validated_ % 10 == 0
    values = [line["validation"] for line in model.history_]
    assert len(values) == np.argmin(values) + 3 < 100
    assert len(slope(epochs=30, lr=0.05, validation=0.1).history_) == 30


def test_patience_ends_training_without_a_likelihood() -> None:
    class Judged(Duel):
        def validate(self, x: torch.Tensor) -> float:
            return abs(self.left_.weight.item() - 0.45)

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = Judged(trainer=Trainer(epochs=100, patience=2, lr=0.05)).fit(X)
    values = [line["validation"] for line in model.history_]
    assert len(values) == np.argmin(values) + 3 < 100
    assert np.isclose(abs(model.left_.weight.item() - 0.45), min(values))


def test_patience_that_nothing_can_try_says_what_is_missing() -> None:
    class Estimates(Duel):
        def _log_prob(self, x: torch.Tensor) -> Any:
            return Estimate(torch.zeros(len(x)), torch.ones(len(x)))

    trainer = Trainer(epochs=2, patience=3)
    for cls in (GAN, Estimates):
        with pytest.warns(UserWarning, match="patience=3 .*, because") as said:
            cls(trainer=trainer).fit(X)
        assert len(said) == 1
        assert f"{cls.__name__} has nothing to judge held-out rows by" in str(said[0].message)
        assert "validate(x)" in str(said[0].message)
    with (
        pytest.warns(UserWarning, match="Stack first has nothing to judge"),
        pytest.warns(UserWarning, match="Stack second has nothing to judge"),
    ):
        Stack(trainer=trainer).fit(X)
    with pytest.warns(UserWarning, match="no rows are held out: raise validation"):
        ToyVAE(trainer=trainer).fit(X, validation=0.0)
    with warnings.catch_warnings():  # nobody asked for patience
        warnings.simplefilter("error")
        GAN(trainer=Trainer(epochs=1)).fit(X, validation=0.2)
        genus.MADE(trainer=Trainer(epochs=1)).fit(X, validation=0.0)


def test_the_default_objective_is_the_mean_log_probability() -> None:
    model = ToyVAE(trainer=Trainer(epochs=3), random_state=0).fit(X, validation=X2)
    best = min(line["validation"] for line in model.history_)
    assert np.isclose(-model.score(X2), best, rtol=1e-5)
    assert "validation" not in GAN(trainer=Trainer(epochs=1)).fit(X, validation=X2).history_[0]


def test_validation_draws_the_same_noise_for_the_model_and_its_parts() -> None:
    """Each time anew, and training goes on as if nobody had validated."""

    class Whole(Slope):
        def build(self, space: Any) -> None:
            super().build(space)
            self.part_ = self.part(ToyVAE(), space)

        def losses(self, x: torch.Tensor) -> Any:
            noise = torch.rand((), generator=self.part_.rng)
            yield self, noise * self.bias_.sum() + 0 * self.matrix_.sum()

        def validate(self, x: torch.Tensor) -> float:
            draws = [torch.rand((), generator=m.rng).item() for m in (self, self.part_)]
            return draws[0] + 10 * draws[1]

    plain = Whole(trainer=Trainer(epochs=3), random_state=0).fit(X)
    judged = Whole(trainer=Trainer(epochs=3), random_state=0).fit(X, validation=X2)
    assert len({line["validation"] for line in judged.history_}) == 1
    assert [line["objective"] for line in plain.history_] == [
        line["objective"] for line in judged.history_
    ]


def test_conditions_of_validation_rows() -> None:
    g = (X[:, 0] > 0).astype(int)
    model = Conditional(trainer=Trainer(epochs=3), random_state=0).fit(
        X, given=g, validation=(X2, g)
    )
    assert np.isclose(
        -model.log_prob(X2, given=g).mean(),
        min(line["validation"] for line in model.history_),
        rtol=1e-5,
    )
    with pytest.raises(ValueError, match=r"validation=\(X, given\)"):
        Conditional().fit(X, given=g, validation=X2)


def test_device(monkeypatch: pytest.MonkeyPatch) -> None:
    """There is no such device here, so moving to it is written down instead."""
    moved: list[Any] = []
    monkeypatch.setattr(trainers.Device, "accepts", lambda self, name: True)
    for cls in (Slope, Rows):
        monkeypatch.setattr(
            cls, "to", lambda self, device: moved.append((type(self), device)) or self
        )
    monkeypatch.setattr(
        "genus.model.generator",
        lambda seed, device="cpu": moved.append(("generator", device)) or rows.generator(seed),
    )
    Slope(trainer=Trainer(epochs=1, device="cuda:7", validation=0.2), random_state=0).fit(X)
    there = torch.device("cuda:7")
    assert moved == [
        ("generator", "cpu"),
        (Slope, there),
        ("generator", there),
        (Rows, there),
        (Rows, there),
    ]


def test_compile_passes_the_networks_through_torch_compile(monkeypatch: pytest.MonkeyPatch) -> None:
    compiled: list[nn.Module] = []
    monkeypatch.setattr(nn.Module, "compile", lambda self, *a, **k: compiled.append(self))
    model = ToyVAE(trainer=Trainer(epochs=1)).fit(X)
    assert not compiled
    model = ToyVAE(trainer=Trainer(epochs=1, compile=True)).fit(X)
    assert compiled == list(model.children())


def test_every_row_is_seen_once_an_epoch_in_another_order() -> None:
    seen: list[list[float]] = []

    class Watch(Slope):
        def losses(self, x: torch.Tensor) -> Any:
            seen.append(x[:, 0].tolist())
            yield from super().losses(x)

    Watch(trainer=Trainer(epochs=2, batch_size=30)).fit(X)
    first, second = sum(seen[:4], []), sum(seen[4:], [])
    assert sorted(first) == sorted(second) == sorted(X[:, 0].tolist()) and first != second


def test_descend_leaves_nothing_in_a_deep_copy_or_pickle() -> None:
    import pickle

    model = ToyVAE(encoder=MLP(4, 1, dropout=0.5), random_state=0).fit(X)
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert same(model, other) and other.score(X) == model.score(X)
    assert not hasattr(model, "rng") and "training" not in vars(model)


def test_descend_may_be_called_by_hand() -> None:
    """As a family's ``learn`` does: settings of the call win over the caller's."""

    class Short(Slope):
        def learn(self, fit: Fit) -> None:
            descend(self, fit, epochs=1, batch_size=50)

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert [s["rows"] for s in Short(trainer=Trainer(epochs=9)).fit(X).log] == [50, 50]
