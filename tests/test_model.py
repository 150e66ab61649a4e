"""The base class: verbs and their errors, scikit-learn's checks, refits, and what they return."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks
from torch import nn

import genus
from genus import MLP, CapabilityError, Gaussian, LogProb, LowerBound, Space, Trainer
from toys import EBM, EM, GAN, Conditional, Stack, Toy, ToyVAE

X = np.random.default_rng(0).normal(size=(60, 3)) + 2
QUICK = Trainer(epochs=2, batch_size=32)
LABELS = (X[:, 0] > 2).astype(int)


@parametrize_with_checks([ToyVAE(trainer=QUICK, random_state=0), EM(random_state=0)])
def test_scikit_learn(estimator: Any, check: Any) -> None:
    check(estimator)


# ---------------------------------------------------------------------- which verbs


VERBS = {
    ToyVAE: {
        "log_prob",
        "score_samples",
        "score",
        "sample",
        "encode",
        "decode",
        "reconstruct",
        "interpolate",
    },
    GAN: {"sample"},
    EBM: {"sample"},
    Stack: {"encode", "decode", "reconstruct", "interpolate"},
    Conditional: {"log_prob", "score_samples", "score", "sample", "complete"},
}


@pytest.mark.parametrize("cls", VERBS)
def test_a_model_has_the_verbs_of_its_hooks(cls: type) -> None:
    every = {
        "log_prob",
        "score_samples",
        "score",
        "sample",
        "complete",
        "encode",
        "decode",
        "reconstruct",
        "interpolate",
    }
    assert {v for v in every if hasattr(cls(), v)} == VERBS[cls]


def test_every_verb_of_a_fitted_model() -> None:
    model = ToyVAE(trainer=QUICK, random_state=0).fit(X)
    p = model.log_prob(X)
    assert (
        isinstance(p, LowerBound)
        and p.measure == "density"
        and p.nats.shape == p.stderr.shape == p.dims.shape == (60,)
    )
    assert (
        np.array_equal(model.score_samples(X), p.nats)
        and model.score(X) == p.mean()
        and set(p.dims) == {3}
    )
    assert model.encode(X).shape == (60, 2) and model.decode(np.zeros((4, 2))).shape == (4, 3)
    assert model.reconstruct(X).shape == X.shape and model.reconstruct(X).dtype == X.dtype
    path = model.interpolate(X[0], X[1], 5)
    assert path.shape == (5, 3) and np.allclose(path[[0, -1]], model.reconstruct(X[:2]))
    assert model.sample(4).shape == (4, 3) and model.n_parameters() == sum(
        p.numel() for p in model.parameters()
    )
    assert not any(p.grad is not None and p.grad.requires_grad for p in model.parameters())
    assert isinstance(model, nn.Module) and not model.training


def test_scores_do_not_depend_on_batch_order_or_chunk(monkeypatch: pytest.MonkeyPatch) -> None:
    model = ToyVAE(trainer=QUICK, random_state=0).fit(X)
    whole = model.score_samples(X)
    order = np.random.default_rng(0).permutation(60)
    assert np.allclose(model.score_samples(X[order]), whole[order], rtol=0, atol=1e-5)
    assert np.allclose(
        [model.score_samples(X[[i]])[0] for i in range(60)], whole, rtol=0, atol=1e-5
    )
    monkeypatch.setattr(ToyVAE, "chunk", 7)
    assert np.allclose(model.score_samples(X), whole, rtol=0, atol=1e-5)


def test_verbs_leave_no_gradient() -> None:
    class Watch(ToyVAE):
        def _log_prob(self, x: torch.Tensor) -> LogProb:
            assert not torch.is_grad_enabled()
            return super()._log_prob(x)

    Watch(trainer=QUICK, random_state=0).fit(X).log_prob(X)


# ---------------------------------------------------------------------- errors


@pytest.mark.parametrize(
    "call",
    [
        lambda m: m.log_prob(X),
        lambda m: m.score(X),
        lambda m: m.score_samples(X),
        lambda m: m.sample(3),
        lambda m: m.encode(X),
        lambda m: m.decode(X),
        lambda m: m.reconstruct(X),
        lambda m: m.interpolate(X[0], X[1]),
        lambda m: m.save("x"),
        lambda m: m.n_parameters(),
    ],
)
def test_unfitted(call: Any) -> None:
    with pytest.raises(NotFittedError, match="ToyVAE instance is not fitted yet"):
        call(ToyVAE())


@pytest.mark.parametrize(
    ("call", "error", "says"),
    [
        (lambda m: m.log_prob(X[:, :2]), ValueError, "2 features"),
        (lambda m: m.log_prob(X[0]), ValueError, "Expected 2D array"),
        (lambda m: m.log_prob(X[:0]), ValueError, "0 sample"),
        (lambda m: m.log_prob(X[:, :, None]), ValueError, "shape"),
        (
            lambda m: m.log_prob(np.where(X == X[3, 1], np.nan, X)),
            ValueError,
            "NaN in column 1 .row 3",
        ),
        (
            lambda m: m.log_prob(np.where(X == X[3, 1], np.inf, X)),
            ValueError,
            "inf in column 1 .row 3",
        ),
        (lambda m: m.log_prob([["a", "b", "c"]]), ValueError, "must hold numbers"),
        (lambda m: m.encode(X[:, :2]), ValueError, "2 features"),
        (lambda m: m.sample(0), ValueError, "n=0"),
        (lambda m: m.sample(-1), ValueError, "n=-1"),
        (lambda m: m.sample(2.5), ValueError, "n=2.5"),
        (lambda m: m.sample(True), ValueError, "n=True"),
        (lambda m: m.sample(3, random_state="x"), ValueError, "random_state='x'"),
        (lambda m: m.sample(3, given=1), CapabilityError, "leave given out"),
        (lambda m: m.log_prob(X, given=LABELS), CapabilityError, "leave given out"),
        (lambda m: m.interpolate(X[0], X[1], 1), ValueError, "steps=1"),
        (lambda m: clone(m).fit(X, given=LABELS), CapabilityError, "leave given out"),
        (lambda m: clone(m).fit(X, validation=1.5), ValueError, "validation=1.5"),
        (lambda m: clone(m).fit(X, space="round"), ValueError, "space='round'"),
        (lambda m: clone(m).set_params(trainer=3).fit(X), ValueError, "trainer=3: genus.Trainer"),
        (lambda m: clone(m).set_params(encoder=3).fit(X), TypeError, "3 is no blueprint"),
        (lambda m: clone(m).set_params(random_state="x").fit(X), ValueError, "random_state='x'"),
        (lambda m: m.set_params(coder__width=3), ValueError, "Invalid parameter 'coder'"),
    ],
)
def test_errors_say_what_to_do(call: Any, error: type, says: str) -> None:
    model = ToyVAE(trainer=QUICK, random_state=0).fit(X)
    with pytest.raises(error, match=says):
        call(model)


# ---------------------------------------------------------------------- conditions


def test_conditions() -> None:
    model = Conditional(trainer=Trainer(epochs=60), random_state=0).fit(X, given=LABELS)
    p = model.log_prob(X, given=LABELS)
    assert p.mean() > model.log_prob(X, given=1 - LABELS).mean()
    assert np.allclose(
        model.log_prob(X[:5], given=1).nats, model.log_prob(X[:5], given=[1] * 5).nats
    )
    low, high = (model.sample(2000, given=g, random_state=0)[:, 0].mean() for g in (0, 1))
    assert low < X[:, 0].mean() < high
    assert model.sample(3, given=[0, 1, 0]).shape == (3, 3)
    for call, says in (
        (lambda: model.log_prob(X), "pass given="),
        (lambda: model.sample(3, given=[0, 1]), "given has 2 rows"),
        (lambda: model.log_prob(X, given=LABELS[:7]), "given has 7 rows"),
        (lambda: model.log_prob(X, given=LABELS + 7), "not seen in fit|outside 0"),
        (lambda: clone(model).fit(X, given=LABELS[:7]), "given has 7 rows, X has 60"),
    ):
        with pytest.raises(ValueError, match=says):
            call()


def test_completions_hold_the_conditions_fixed(monkeypatch: pytest.MonkeyPatch) -> None:
    model = Conditional(trainer=Trainer(epochs=60), random_state=0).fit(X, given=LABELS)
    many = np.repeat(X[:2], 500, 0)
    gaps = np.broadcast_to([True, False, False], many.shape)
    low, high = (model.complete(many, mask=gaps, given=g, random_state=0) for g in (0, [1] * 1000))
    assert (low[:, 1:] == many[:, 1:]).all() and low[:, 0].mean() < high[:, 0].mean() - 0.2
    each = model.complete(many, mask=gaps, given=np.arange(1000) % 2, random_state=0)
    assert (each[::2] == low[::2]).all() and (each[1::2] == high[1::2]).all()
    monkeypatch.setattr(Conditional, "chunk", 7)  # a row keeps its condition when rows go in pieces
    parts = model.complete(many, 2, mask=gaps, given=np.arange(1000) % 2, random_state=0)
    assert (
        parts.shape == (2, 1000, 3)
        and (parts[:, 1::2, 0].mean(1) > parts[:, ::2, 0].mean(1) + 0.2).all()
    )
    for call, error, says in (
        (lambda: model.complete(many, mask=gaps), ValueError, "pass given="),
        (
            lambda: model.complete(many, mask=gaps, given=LABELS[:7]),
            ValueError,
            "given has 7 rows: pass one, or one for each of 1000",
        ),
        (lambda: Gaussian().fit(X).complete(X, given=1), CapabilityError, "leave given out"),
    ):
        with pytest.raises(error, match=says):
            call()


def test_sampling_a_conditional_model_needs_a_condition() -> None:
    model = Conditional(trainer=QUICK, random_state=0).fit(X, given=LABELS)
    with pytest.raises(ValueError, match="pass given="):
        model.sample(3)


def test_conditions_may_be_words_arrays_or_tables() -> None:
    words = np.where(LABELS, "yes", "no")
    for given, one in (
        (words, "yes"),
        (pd.Series(words, name="w"), "yes"),
        (X + 1, X[:1]),
        (torch.tensor(LABELS), 1),
    ):
        model = Conditional(trainer=QUICK, random_state=0).fit(X, given=given)
        assert np.isfinite(model.log_prob(X, given=given).mean())
        assert model.sample(2, given=one).shape == (2, 3)
    with pytest.raises(ValueError, match="'maybe'"):
        Conditional(trainer=QUICK).fit(X, given=words).sample(2, given="maybe")


# ---------------------------------------------------------------------- scikit-learn's half


def test_set_params_reaches_into_frozen_settings() -> None:
    model = ToyVAE().set_params(trainer__lr=0.5, encoder__width=7)
    assert model.trainer == Trainer(lr=0.5) and model.encoder == MLP(width=7)
    model.set_params(trainer__epochs=3, encoder=MLP(depth=1), encoder__width=9)
    assert model.trainer == Trainer(lr=0.5, epochs=3) and model.encoder == MLP(9, 1)
    shared = Trainer(lr=1.0)
    a, b = ToyVAE(trainer=shared), ToyVAE(trainer=shared)
    a.set_params(trainer__lr=2.0)
    assert b.trainer.lr == 1.0


def test_a_refit_swaps_and_a_failed_one_changes_nothing() -> None:
    model = ToyVAE(trainer=QUICK, random_state=0).fit(X)
    keys = set(vars(model))
    model.fit(X[:, :2])
    assert (
        model.n_features_in_ == 2
        and model.encoder_[1].in_features == 2
        and set(vars(model)) == keys
    )
    before = model.score_samples(X[:, :2])
    with pytest.raises(ValueError):
        model.fit(np.array([["a"]]))
    with pytest.raises(ValueError):
        model.set_params(latent_dim=2).fit(X, validation=7)
    assert np.array_equal(model.score_samples(X[:, :2]), before)
    again = ToyVAE(trainer=QUICK, random_state=0).fit(X[:, :2])
    assert np.array_equal(again.score_samples(X[:, :2]), before)


def test_fit_changes_no_argument_and_clones_are_unfitted() -> None:
    model = ToyVAE(trainer=QUICK, random_state=np.random.RandomState(0))
    params = model.get_params(deep=False)
    fitted = model.fit(X)
    assert fitted is model and all(model.get_params(deep=False)[k] is v for k, v in params.items())
    with pytest.raises(NotFittedError):
        clone(model).score(X)
    assert make_pipeline(StandardScaler(), ToyVAE(trainer=QUICK)).fit(X).score(X) < 0
    assert repr(ToyVAE(latent_dim=3)) == "ToyVAE(latent_dim=3)"


def test_pickle_deepcopy_state_dict_and_to() -> None:
    for model in (ToyVAE(trainer=QUICK, random_state=0).fit(X), EM(random_state=0).fit(X)):
        for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
            assert np.array_equal(other.score_samples(X), model.score_samples(X))
            assert np.array_equal(other.sample(3, random_state=0), model.sample(3, random_state=0))
        other = clone(model).set_params(random_state=5).fit(X)
        other.load_state_dict(model.state_dict())
        assert np.array_equal(other.score_samples(X), model.score_samples(X))
        assert model.to("cpu") is model
        assert all(k.endswith("_") or "." in k for k in model.state_dict())


def test_samples_come_in_the_callers_type() -> None:
    kinds: list[tuple[Any, type, Any]] = [
        (X.astype(np.float32), np.ndarray, np.float32),
        (torch.tensor(X), torch.Tensor, torch.float64),
        (np.random.default_rng(0).integers(0, 256, (60, 3)).astype(np.uint8), np.ndarray, np.uint8),
        (pd.DataFrame(X, columns=list("abc")), pd.DataFrame, None),
    ]
    for data, kind, dtype in kinds:
        sample = EM(random_state=0, max_iter=3).fit(data).sample(5)
        assert (
            isinstance(sample, kind)
            and (dtype is None or sample.dtype == dtype)
            and len(sample) == 5
        )
    images = EM(random_state=0, max_iter=3).fit(np.random.default_rng(0).random((50, 4, 5)))
    assert images.sample(2).shape == (2, 4, 5)


def test_random_states() -> None:
    model = EM(random_state=0).fit(X)
    assert np.array_equal(model.sample(5), model.sample(5))
    assert not np.array_equal(model.sample(5, random_state=1), model.sample(5, random_state=2))
    free = EM().fit(X)
    assert not np.array_equal(free.sample(5), free.sample(5))
    rng = np.random.default_rng(0)
    assert not np.array_equal(free.sample(5, random_state=rng), free.sample(5, random_state=rng))
    assert np.array_equal(
        free.sample(5, random_state=np.random.RandomState(1)),
        free.sample(5, random_state=np.random.RandomState(1)),
    )


# ---------------------------------------------------------------------- completion


class Halves(Toy):
    """Every missing cell is a standard normal about the mean of the row's observed ones."""

    allow_nan = True

    def build(self, space: Space) -> None:
        self.register_buffer("one_", torch.ones(1))

    def learn(self, data: Any) -> None:
        pass

    def _complete(self, x: torch.Tensor, rng: torch.Generator) -> torch.Tensor:
        mean = x.nanmean(1, keepdim=True)
        return torch.where(
            torch.isnan(x), mean + torch.randn(x.shape, generator=rng, dtype=x.dtype), x
        )


def test_complete_fills_what_is_missing_and_nothing_else() -> None:
    model = Halves(random_state=0).fit(X)
    holed = X.copy()
    holed[:, 1] = np.nan
    one = model.complete(holed)
    assert (
        one.shape == X.shape
        and np.array_equal(one[:, [0, 2]], X[:, [0, 2]])
        and np.isfinite(one).all()
    )
    many = model.complete(holed, 5, random_state=1)
    assert many.shape == (5, 60, 3) and len(np.unique(many[:, 0, 1])) == 5
    mask = np.zeros((60, 3), bool)
    mask[:, 1] = True
    assert np.array_equal(
        model.complete(X, mask=mask, random_state=3), model.complete(holed, random_state=3)
    )
    assert np.array_equal(
        model.complete(X, mask=mask[0], random_state=3), model.complete(holed, random_state=3)
    )
    assert np.array_equal(model.complete(X), X)
    assert np.isnan(holed[:, 1]).all()  # the caller's array is not touched
    for call, says in (
        (lambda: model.complete(X, mask=mask[:, :2]), "mask has shape"),
        (lambda: model.complete(X, mask=mask[:7]), "mask has shape"),
        (lambda: model.complete(X, 0), "n=0"),
        (lambda: model.complete(X[:, :2]), "2 features"),
    ):
        with pytest.raises(ValueError, match=says):
            call()


def shuffled() -> pd.DataFrame:
    """Rows whose index is in no order."""
    rng = np.random.default_rng(0)
    a = rng.normal(size=60)
    X = pd.DataFrame({"a": a, "b": a + 0.1 * rng.normal(size=60)})
    return X.set_axis(rng.permutation(60))


def test_frames_keep_their_index() -> None:
    X = shuffled()
    model = genus.ProbabilisticPCA(1).fit(X)
    back = model.reconstruct(X)
    assert back.index.equals(X.index)
    assert np.abs(X - back).max().max() < 0.5
    holes = X.mask(np.tile([False, True], (60, 1)))
    assert np.abs(holes.fillna(model.complete(holes, how="mean")) - X).max().max() < 0.5
    one = genus.Gaussian().fit(X["a"])
    assert one.complete(X["a"], random_state=0).index.equals(X.index)


def test_explanations_keep_their_index() -> None:
    X = shuffled().assign(c=lambda t: np.where(t["a"] > 0, "up", "down"))
    model = genus.BayesNet().fit(X)
    holes = X.assign(c=None)
    assert (holes.fillna(model.explain(holes))["c"] == X["c"]).mean() > 0.9
    assert (model.explain(X.assign(a=None, c="new"))["c"] == "new").all()


def test_a_mask_follows_the_names_of_columns() -> None:
    X = shuffled().set_axis([0, 1], axis=1)
    model = genus.Gaussian().fit(X)
    mask = np.tile([True, False], (60, 1))  # of column 1, in rows whose columns are turned
    turned = X[[1, 0]]
    frame = pd.DataFrame(mask, columns=[1, 0], index=X.index)
    for rows, m in ((turned, mask), (turned, frame), (X, frame)):
        filled = model.complete(rows, mask=m, random_state=0)
        assert (filled[0] == X[0]).all() and (filled[1] != X[1]).all()
    with pytest.raises(ValueError, match="mask has another index"):
        model.complete(X, mask=frame.reset_index(drop=True))
    with pytest.raises(ValueError, match="mask lacks the column 0"):
        model.complete(X, mask=frame[[1]])


def test_what_cannot_be_is_told_once_by_column_and_value() -> None:
    rows = pd.DataFrame({"age": np.arange(40) % 7 + 20, "word": ["a", "b"] * 20})
    model = genus.Independent().fit(rows)
    odd = rows.head(4).assign(age=[21, -3, 22, 23])
    with pytest.warns(
        UserWarning, match=r"1 of 4 rows have probability 0.*has -3 in age \(row 1\)"
    ):
        nats = model.score_samples(odd)
    assert np.isneginf(nats[1]) and np.isfinite(np.delete(nats, 1)).all()


def test_held_out_rows_may_bring_new_words() -> None:
    r = np.random.default_rng(0)
    rows = pd.DataFrame({"word": r.choice(list("abc"), 80), "x": r.normal(size=80)})
    held = rows.head(10).assign(word=["new", *rows["word"][1:10]])
    for family in (genus.MADE, genus.VAE):
        model = family(trainer=QUICK, random_state=0).fit(rows, validation=held)
        assert np.isfinite(model.history_[-1]["validation"])
    mixture = genus.GaussianMixture(2, random_state=0).partial_fit(rows).partial_fit(held)
    assert np.isfinite(mixture.score_samples(held)).all()
