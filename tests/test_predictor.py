"""The laws of test_contract.py for models of p(y | X), over PREDICTORS of contract.py."""

from __future__ import annotations

import copy
import pickle
import re
import subprocess
import sys
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats
from sklearn.datasets import load_diabetes, load_digits
from sklearn.exceptions import DataConversionWarning, NotFittedError
from sklearn.model_selection import train_test_split
from sklearn.utils.estimator_checks import check_estimator

import genus
from bad import AT_THE_DOOR, BEHIND, Bad
from contract import PREDICTORS, Predicts, once_a_class, questions, with_bad_input
from genus import Estimate, Exact
from genus.learn.rows import generator
from test_contract import CURE, PLACE, global_state, same

pytestmark = pytest.mark.filterwarnings(
    "ignore::sklearn.exceptions.ConvergenceWarning", "ignore:training diverged"
)
rows = pytest.mark.parametrize("row", PREDICTORS, ids=lambda r: r.name)
NAMES = (
    "bayesian-linear",
    "bayesian-linear-student",
    "bayesian-mlp-vi",
    "bayesian-mlp-laplace",
    "bayesian-mlp-vi-classes",
)
FAST = [r for r in PREDICTORS if r.name in NAMES]  # hundreds of fits


@pytest.fixture(autouse=True, scope="module")
def hasty() -> Iterator[None]:
    """Chains of HMC that begin to count early."""
    with pytest.MonkeyPatch.context() as m:
        m.setattr("genus.models.regression.bayesian_mlp.WARM_UP", 20)
        yield


@cache
def fitted(row: Predicts) -> Any:
    return row.fit()


def bits(model: Any, X: np.ndarray, y: np.ndarray) -> list[Any]:
    """Everything a fitted model says."""
    out = [t.detach().numpy() for t in model.state_dict().values()]
    p = model.log_prob(y, given=X)
    return [*out, model.predict(X), model.sample(given=X, random_state=3), p.nats, p.stderr]


@pytest.mark.parametrize("row", once_a_class([r for r in FAST if "laplace" not in r.name]))
def test_1_scikit_learn(row: Predicts) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = row.make()
        if hasattr(model, "trainer"):
            model.set_params(
                trainer__epochs=20, trainer__batch_size=100, trainer__lr=3e-2, n_draws=4
            )
        results = check_estimator(model, on_fail=None)
    assert not {
        r["check_name"]: r["exception"] for r in results if r["status"] in ("failed", "xfail")
    }
    assert {r["check_name"] for r in results if r["status"] == "skipped"} <= {
        "check_array_api_input"
    }
    assert len(results) >= 50


@rows
def test_2_the_same_seed_gives_the_same_bits(row: Predicts) -> None:
    X, y = questions(row.task)
    one, before = bits(fitted(row), X, y), global_state()
    assert same(bits(row.fit(), X, y), one)
    assert global_state() == before
    assert not same(
        [fitted(row).sample(given=X, random_state=1)], [fitted(row).sample(given=X, random_state=2)]
    )
    if hasattr(fitted(row), "losses"):
        other = row.make().set_params(random_state=1).fit(X, y)
        assert not torch.equal(other.mean_, fitted(row).mean_)


@pytest.mark.parametrize("row", once_a_class(PREDICTORS))
def test_2_fits_in_threads_are_those_alone(row: Predicts) -> None:
    asked = questions(row.task)
    with ThreadPoolExecutor(2) as pool:
        for model in pool.map(lambda _: row.fit(), range(2)):
            assert same(bits(model, *asked), bits(fitted(row), *asked))


@rows
def test_3_a_row_has_its_answer_in_any_company(row: Predicts) -> None:
    X, y = questions(row.task)
    model = fitted(row)
    whole, said = (
        model.log_prob(y, given=X).nats,
        model.functions(X) if hasattr(model, "functions") else model.predict(X),
    )
    assert whole.shape == (60,) and np.isfinite(whole).all()
    for size in (1, 7):
        parts = [slice(i, i + size) for i in range(0, 60, size)]
        np.testing.assert_allclose(
            np.concatenate([model.log_prob(y[s], given=X[s]).nats for s in parts]),
            whole,
            rtol=1e-7,
            atol=1e-9,
        )
        again = [
            model.functions(X[s]) if hasattr(model, "functions") else model.predict(X[s])
            for s in parts
        ]
        np.testing.assert_allclose(
            np.concatenate(again, axis=1 if said.ndim > 1 else 0), said, rtol=1e-7, atol=1e-9
        )
    same = model.log_prob(y[:1].repeat(5), given=X[:1])  # one condition for all
    np.testing.assert_allclose(same.nats, whole[0], rtol=1e-9)


@rows
def test_3_the_loss_of_a_batch_is_the_mean_of_its_parts(
    row: Predicts, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = copy.deepcopy(fitted(row))
    if not hasattr(model, "losses"):
        pytest.skip("learns in closed form")
    model.rng, randn = generator(0), torch.randn

    def still(shape: tuple[int, ...], **more: Any) -> torch.Tensor:
        row = randn(shape[-1], generator=generator(5), dtype=torch.float64)
        return row.expand(shape)

    monkeypatch.setattr(torch, "randn", still)
    X, y = questions(row.task)
    x, y = model._numbers(X), model._encode_rows(y, missing=False)
    loss = [
        next(model.losses(y[s], x[s]))[1].item()
        for s in (slice(0, 60), slice(0, 10), slice(10, 60))
    ]
    assert loss[0] == pytest.approx((10 * loss[1] + 50 * loss[2]) / 60)


@rows
def test_4_and_5_densities_integrate_to_1_and_samples_follow(row: Predicts) -> None:
    X, _ = questions(row.task)
    model = fitted(row)
    for x in (X[:1], X[:1] + 6):
        if row.task == "classification":
            p = model.log_prob(model.classes_, given=x)
            assert p.measure == "probability" and np.exp(p.nats).sum() == pytest.approx(1)
            draws = model.sample(4000, given=x, random_state=5)
            shares = (draws[:, None] == model.classes_).mean(0)
            assert np.abs(shares - np.exp(p.nats)).max() < 4 * np.sqrt(0.25 / 4000)
        else:
            mean, std = (float(v[0]) for v in model.predict(x, return_std=True))
            y = np.linspace(mean - 40 * std, mean + 40 * std, 80_001)
            p = model.log_prob(y, given=x)
            assert p.measure == "density"
            mass = np.cumsum(np.exp(p.nats)) * (y[1] - y[0])
            assert mass[-1] == pytest.approx(1, abs=1e-4)
            draws = model.sample(4000, given=x, random_state=5)
            assert stats.kstest(draws, lambda v: np.interp(v, y, mass)).pvalue > 1e-3
            assert (np.exp(p.nats) * y).sum() * (y[1] - y[0]) == pytest.approx(mean, abs=0.01 * std)
        assert isinstance(
            p, Exact if row.name.startswith("bayesian-linear") or "map" in row.name else Estimate
        )


LOAD = """
import pickle, sys
sys.path[:0] = sys.argv[2:]
from pathlib import Path
import genus
from contract import questions
from test_predictor import bits
out = {}
for path in sorted(Path(sys.argv[1]).glob("*.genus")):
    model = genus.load(path)
    out[path.stem] = bits(model, *questions(model.task_))
Path(sys.argv[1], "out.pickle").write_bytes(pickle.dumps(out))
"""


def test_6_a_saved_model_says_the_same_in_another_process(tmp_path: Path) -> None:
    for row in PREDICTORS:
        fitted(row).save(tmp_path / f"{row.name}.genus")
    paths = [str(Path(__file__).parent), str(Path(genus.__file__).parents[1])]
    done = subprocess.run(
        [sys.executable, "-c", LOAD, str(tmp_path), *paths], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    there = pickle.loads((tmp_path / "out.pickle").read_bytes())
    for row in PREDICTORS:
        assert same(there[row.name], bits(fitted(row), *questions(row.task))), row.name


@rows
def test_6_an_interrupted_run_resumes(
    row: Predicts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    X, y = questions(row.task)
    model = row.make()
    if not hasattr(model, "losses"):
        pytest.skip("learns in one go")
    trainer, calls, losses = (
        model.trainer.replace(checkpoint=tmp_path / "run", checkpoint_every=0.0),
        0,
        type(model).losses,
    )

    def stop(self: Any, *batch: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 12:
            raise KeyboardInterrupt
        yield from losses(self, *batch)

    with monkeypatch.context() as m, pytest.warns(UserWarning, match="interrupted"):
        m.setattr(type(model), "losses", stop)
        cut = row.make().set_params(trainer=trainer).fit(X, y)
    assert np.isfinite(cut.log_prob(y, given=X).nats).all()
    half = row.make().set_params(trainer=trainer).fit(X, y, resume=True)
    assert same(bits(half, X, y), bits(fitted(row), X, y))


def refused(e: Exception, says: str) -> None:
    assert type(e) in (ValueError, TypeError, NotFittedError), repr(e)
    assert not says or re.search(says, str(e)), str(e)
    assert PLACE.search(str(e)) and CURE.search(str(e)), f"says neither where nor what to do: {e}"


@pytest.mark.parametrize(("row", "bad"), with_bad_input(FAST, AT_THE_DOOR, BEHIND))
def test_7_bad_X_gets_a_finite_answer_or_a_clear_error(row: Predicts, bad: Bad) -> None:
    X, y = questions(row.task)
    spoiled = bad.spoil(X)
    # two equal columns of 1e30 are more than α = 1 can tell apart; a NaN is never taken
    must = "error" if "NaN" in bad.name or "None" in bad.name else bad.must
    old = copy.deepcopy(fitted(row))
    before = bits(old, X, y)
    try:
        model = row.make()
        if hasattr(model, "trainer"):
            model.set_params(trainer__epochs=2)
        n = (getattr(spoiled, "shape", None) or [60])[0]
        y = y[:n] if 0 < n < 60 else y
        model = old if bad.scored else model.fit(spoiled, y)
        said = [
            model.log_prob(y, given=spoiled).nats,
            *(model.predict(spoiled, return_std=True) if row.task == "regression" else ()),
        ]
    except (ValueError, TypeError) as e:
        refused(e, bad.says)
        assert must != "answer", str(e)
        if not bad.scored:
            with pytest.raises((ValueError, TypeError)):
                old.fit(spoiled, y)
    else:
        assert must != "error", "this had to be refused"
        assert (
            np.isfinite(said).all()
            and np.isfinite(
                model.sample(given=spoiled).astype(float) if row.task == "regression" else 0.0
            ).all()
        )
    X, y = questions(row.task)
    assert same(bits(old, X, y), before), "a failed refit changed the model"


@pytest.mark.parametrize(
    "row", [PREDICTORS[0], PREDICTORS[4], PREDICTORS[-3]], ids=lambda r: r.name
)
def test_7_bad_y(row: Predicts) -> None:
    X, y = questions(row.task)
    number = row.task == "regression"

    def spoil(value: Any) -> np.ndarray:
        a = y.astype(object) if not number else y.copy()
        a[3] = value
        return a

    for bad, says in [
        (None, "requires y to be passed"),
        (y[:-1], "y has 59 rows, X has 60"),
        (np.stack([y, y], 1), "y should be a 1d array"),
        (spoil(np.nan), r"y contains NaN \(row 3\): drop"),
        *(
            [
                (spoil(np.inf), r"y has inf \(row 3\)"),
                (spoil(1e300), r"\(row 3\): rescale y"),
                (y + 1j, "Complex"),
            ]
            if number
            else []
        ),
        *([(np.array(["a", "b"] * 30), "y must hold numbers")] if number else []),
    ]:
        with pytest.raises((ValueError, TypeError), match=says):
            row.make().fit(X, bad)
    with pytest.warns(DataConversionWarning):
        row.make().fit(X, y[:, None])
    for sort in (pd.Series(y), list(y)):
        assert (row.make().fit(X, sort).predict(X) == fitted(row).predict(X)).all()
    model = fitted(row)
    for call, says in [
        (lambda: model.log_prob(y), "pass given="),
        (
            lambda: model.log_prob(y, given=X[:9]),
            "given has 9 rows: pass one, or one for each of 60 rows",
        ),
        (lambda: model.sample(3), "pass given=X"),
        (
            lambda: model.sample(3, given=X[:2]),
            "given has 2 rows: pass one, or one for each of 3 rows",
        ),
        (
            lambda: row.make().fit(pd.DataFrame({"word": ["a", "b"] * 30}), y),
            "column 'word' holds categories: turn it into numbers",
        ),
        (lambda: row.make().fit(X, y, validation=X), "validation="),
    ]:
        with pytest.raises(ValueError, match=says):
            call()
    table = pd.DataFrame(X, columns=["size", "age"])
    assert (row.make().fit(table, y).predict(table) == model.predict(X)).all()
    with pytest.raises(ValueError, match="feature names"):
        row.make().fit(table, y).predict(table[["age", "size"]])
    for verb in ("predict", "predict_proba", "functions", "log_prob", "score"):
        if hasattr(row.make(), verb):
            with pytest.raises(NotFittedError, match="not fitted yet"):
                getattr(row.make(), verb)(*([X, y] if verb == "score" else [X]))
    assert not hasattr(model, "score_samples") and not hasattr(model, "complete")


@rows
def test_8_gradients_and_constant_data(row: Predicts) -> None:
    X, y = questions(row.task)
    model = copy.deepcopy(fitted(row))
    if hasattr(model, "losses"):
        model.rng = generator(0)
        next(model.losses(model._encode_rows(y, missing=False), model._numbers(X)))[1].backward()
        for name, p in model.named_parameters():
            assert p.grad is not None and torch.isfinite(p.grad).all() and p.grad.abs().sum() > 0, (
                name
            )
    X, y = X[:1].repeat(20, 0), y[:1].repeat(20)
    model = row.make().fit(X, y)
    for name, v in model.state_dict().items():
        assert not torch.isnan(v).any(), name
    if row.task == "regression":
        np.testing.assert_allclose(model.predict(X), y, rtol=0.02)
    else:
        assert (model.predict(X) == y).all() and model.predict_proba(X).shape == (20, 1)
    assert np.isfinite(model.log_prob(y, given=X).nats).all()


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("BayesianLinearRegression", "diabetes"),
        ("BayesianMLP", "diabetes"),
        pytest.param("BayesianMLP", "digits", marks=pytest.mark.full),
    ],
)
def test_14_the_defaults_learn(name: str, data: str) -> None:
    X, y = {"diabetes": load_diabetes, "digits": load_digits}[data](return_X_y=True)
    args = (
        {}
        if name == "BayesianLinearRegression"
        else {"task": "regression"}
        if data == "diabetes"
        else {}
    )
    A, B, a, b = train_test_split(X, y, random_state=0)
    model = getattr(genus, name)(random_state=0, **args).fit(A, a)
    assert model.score(B, b) > {"diabetes": 0.25, "digits": 0.9}[data]
    if name == "BayesianMLP":
        alone = (
            stats.norm(a.mean(), a.std()).logpdf(b).mean()
            if data == "diabetes"
            else -np.log(len(np.unique(y)))
        )
        assert model.log_prob(b, given=B).mean() > alone + 0.1
