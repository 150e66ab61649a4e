"""Law 10: every model on every device, a real one or one that pretends (device.py).

A model that was moved says what it said on the processor. One that learned on the device stays
there, and its verbs meet nothing left behind. Moves and files carry both back.
"""

from __future__ import annotations

import copy
import dataclasses
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

import genus
from contract import (
    CLASSIFIERS,
    PREDICTORS,
    ROWS,
    SPEAKERS,
    Predicts,
    Row,
    first_of_each_class,
    labelled,
    questions,
    toy,
)
from device import DEVICE, PRETENDS, there
from genus import MLP, LogProb, Model, Trainer, evaluate
from genus.learn.trainer import Device
from genus.models.diffusion import denoiser
from genus.models.regression import bayesian_mlp

pytestmark = pytest.mark.filterwarnings("ignore")
N = 3  # rows that are asked about
CLOSE = 1e-3  # how far an answer of the device may be from that of the processor
# fewer steps, for numbers at which no test looks; on a real device errors of log Z are looked at
LIGHT = {"burn_in": 4, "steps": 3, "k": 4, "n_draws": 3, "max_iter": 6, "n_annealing": 100}
LIGHT |= {"n_times": 8, "particles": 4, "n_points": 8}
if PRETENDS:
    LIGHT |= {"n_annealing": 4, "n_chains": 8}


@pytest.fixture(autouse=True)
def few_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(denoiser, "ODE_STEPS", 4)
    monkeypatch.setattr(bayesian_mlp, "WARM_UP", 4)


# ---------------------------------------------------------------------- what a model says


SAME_AS_OTHERS = {"score", "score_samples", "transform"}


def answers(model: Any, X: Any, y: Any) -> dict[str, Any]:
    """What every public verb says that needs rows, or nothing, by its name; or its error."""
    verbs: dict[str, Callable[[], Any]] = {}
    for name in dir(type(model)):
        if name.startswith(("_", "fit", "partial_fit", "set_", "get_", "save")):
            continue
        inside = any(name in vars(c) for c in type(model).__mro__ if c.__module__[:6] == "genus.")
        if not inside or name in SAME_AS_OTHERS or not hasattr(type(model), name):
            continue
        if isinstance(inspect.getattr_static(type(model), name), property):
            verbs[name] = lambda name=name: getattr(model, name)
        elif hasattr(model, name) and callable(verb := getattr(model, name)):
            takes = inspect.signature(verb).parameters
            if any("Tensor" in str(p.annotation) for p in takes.values()):
                continue  # a hook
            needed = [p.name for p in takes.values() if p.default is p.empty and p.kind < 2]
            some = {"random_state": 0} if "random_state" in takes else {}
            some |= {"steps": 3} if "steps" in takes else {}
            if needed in ([], ["X"]):
                rows = [X] if needed else []
                verbs[name] = lambda verb=verb, rows=rows, some=some: verb(*rows, **some)
    if isinstance(model, genus.Predictor):
        verbs["log_prob"] = lambda: model.log_prob(y, given=X)
        verbs["sample"] = lambda: model.sample(given=X, random_state=0)
        verbs["draws"] = lambda: model.sample(2, given=X, random_state=0)
    if hasattr(model, "complete"):
        mask = np.zeros((len(X), model.space_.dim), dtype=bool)
        mask[:, 0] = True
        mask = mask.reshape(len(X), *model.space_.shape)
        verbs["complete"] = lambda: model.complete(X, mask=mask, random_state=0)
        verbs["means"] = lambda: model.complete(X, 2, how="mean", mask=mask, random_state=0)
    if hasattr(model, "interpolate"):
        one, two = (X.iloc[i] if isinstance(X, pd.DataFrame) else X[i] for i in (0, 1))
        verbs["interpolate"] = lambda: model.interpolate(one, two, 3)
    return {name: tried(verb) for name, verb in verbs.items()}


def tried(verb: Callable[[], Any]) -> Any:
    try:
        return verb()
    except Exception as e:
        return e


DRAWN = {"sample", "draws", "complete", "means", "edit", "chains", "gibbs", "diagnose"}
DRAWN |= {"sample_latent", "sample_weights", "sample_parameters", "elbo_terms", "mean_field"}


def differences(here: dict[str, Any], away: dict[str, Any]) -> dict[str, str]:
    """The verbs that say something else on the device, and what."""
    found = {}
    for verb, value in here.items():
        # the same seed is another stream on a real device
        close = np.inf if verb in DRAWN and not PRETENDS else CLOSE
        found[verb] = disagreement(value, away[verb], close)
    return {verb: text for verb, text in found.items() if text}


def disagreement(here: Any, away: Any, close: float = CLOSE) -> str:
    """In what an answer of the device is another than that of the processor; "" for nothing."""
    if isinstance(away, Exception) or isinstance(here, Exception):
        return "" if type(here) is type(away) else f"{away!r:.500}"
    if isinstance(here, torch.Tensor) and isinstance(away, torch.Tensor):
        return disagreement(here.detach().cpu().numpy(), away.detach().cpu().numpy(), close)
    if type(here) is not type(away):
        return f"a {type(away).__name__}, not a {type(here).__name__}"
    if hasattr(here, "stderr"):  # an estimate, by other points on a real device
        error = 0.0 if PRETENDS else 6 * (here.stderr + away.stderr)
        if isinstance(here, LogProb):
            error += 0.0 if PRETENDS else 6 * (here.shared_stderr + away.shared_stderr)
        a, b = (np.asarray(v.nats if isinstance(v, LogProb) else v.value) for v in (here, away))
        off = ~(np.abs(a - b) <= close * (1 + np.abs(a)) + error) & (a != b)
        return f"{b[off]} is not {a[off]}" if off.any() else ""
    if isinstance(here, pd.DataFrame):
        here, away = ([c.to_numpy() for _, c in frame.items()] for frame in (here, away))
    if isinstance(here, pd.Series):
        return disagreement(here.to_numpy(), away.to_numpy(), close)
    if isinstance(here, float):
        return disagreement(np.array(here), np.array(away), close)
    if isinstance(here, np.ndarray):
        if here.shape != away.shape or here.dtype != away.dtype:
            return f"{away.dtype} {away.shape}, not {here.dtype} {here.shape}"
        if close == np.inf:
            return ""
        real = here.dtype.kind == "f"
        near = np.isclose(away, here, close, close, equal_nan=True) if real else here == away
        return "" if np.all(near) else f"{away!r:.300} is not {here!r:.300}"
    if dataclasses.is_dataclass(here):
        here, away = vars(here), vars(away)
    if isinstance(here, dict):
        here, away = list(here.values()), list(away.values())
    if isinstance(here, list | tuple):
        if len(here) != len(away):
            return f"{len(away)} values, not {len(here)}"
        return next(filter(None, (disagreement(a, b, close) for a, b in zip(here, away))), "")
    return ""


def left_behind(model: Model) -> list[str]:
    """The names of tensors that are not on the device."""
    tensors = [*model.named_parameters(), *model.named_buffers()]
    return [name for name, t in tensors if t.device.type != torch.device(DEVICE).type]


# ---------------------------------------------------------------------- models and rows


TABLES = {"vae", "bayesnet", "made"}  # asked about mixed tables in the short suite as well


def cases() -> list[Any]:
    """Every class on its first kind; the rest of the matrix is ``full``."""
    found = []
    for row in ROWS:
        for kind in row.fits:
            asked = row in SPEAKERS and kind == row.fits[0]
            asked = asked or (row.name in TABLES and kind == "mixed")
            marks = [] if asked else [pytest.mark.full]
            found.append(pytest.param(row, kind, id=f"{row.name}-{kind}", marks=marks))
    for row in [*PREDICTORS, *CLASSIFIERS]:
        spoken_for = "classes" in row.name or "hmc" in row.name
        marks = [pytest.mark.full] if spoken_for else []
        found.append(pytest.param(row, "", id=row.name, marks=marks))
    return found


def light(row: Any, **trainer: Any) -> Any:
    """A model of the row that takes a moment to learn and to answer."""
    model = row.make()
    known = model.get_params(deep=False)
    if "trainer" in known:
        given = known["trainer"] or Trainer(progress=False)
        model.set_params(trainer=given.replace(**({"epochs": 1} | trainer)))
    return model.set_params(**{k: v for k, v in LIGHT.items() if k in known})


def rows_of(row: Any, kind: str) -> tuple[Any, Any, dict[str, Any]]:
    """(X, y, what else fit takes)."""
    if isinstance(row, Row):
        return toy(kind).X, None, {"space": toy(kind).space}
    return (*(questions(row.task) if isinstance(row, Predicts) else labelled()), {})


# ---------------------------------------------------------------------- the law


@pytest.mark.parametrize(("row", "kind"), cases())
def test_10_a_model_that_was_moved_says_the_same(row: Any, kind: str, tmp_path: Path) -> None:
    X, y, more = rows_of(row, kind)
    model = light(row).fit(X, y, device="cpu", **more)
    some = X[:N], None if y is None else y[:N]
    here = answers(model, *some)
    with there() as device:
        moved = copy.deepcopy(model).to(device)
        assert not left_behind(moved)
        assert not differences(here, answers(moved, *some))
        moved.save(tmp_path / "m")
        loaded = genus.load(tmp_path / "m").to(device)
        assert not disagreement(said(moved, *some), said(loaded, *some))
    for again in (genus.load(tmp_path / "m"), moved.to("cpu")):
        assert not disagreement(said(model, *some), said(again, *some))


@pytest.mark.parametrize(("row", "kind"), cases())
def test_10_a_model_learns_on_the_device(row: Any, kind: str) -> None:
    X, y, more = rows_of(row, kind)
    some = X[:N], None if y is None else y[:N]
    with there() as device:
        model = light(row, max_steps=2, device=device)
        if "trainer" not in model.get_params(deep=False):
            more["device"] = device
        model.fit(X, y, **more)
        assert not left_behind(model)
        away = said(model, *some)
        if hasattr(model, "partial_fit") and y is None:
            model.partial_fit(X[-60:])
            assert not left_behind(model)
            away = said(model, *some)
    assert not disagreement(said(model.to("cpu"), *some), away)


def said(model: Any, X: Any, y: Any) -> Any:
    """Its scores of rows, or the shape of a draw of a model that has none."""
    if isinstance(model, genus.Predictor):
        return model.log_prob(y, given=X)
    for verb in ("log_prob", "predict_proba"):
        if hasattr(model, verb):
            return getattr(model, verb)(X)
    return np.shape(model.sample(5))


CONDITIONAL = first_of_each_class([r for r in ROWS if r.make().conditions != "none"])


@pytest.mark.parametrize(
    "row",
    [
        pytest.param(row, id=row.name, marks=[] if row.name == "vae" else pytest.mark.full)
        for row in CONDITIONAL
    ],
)
def test_10_conditions_follow_the_model(row: Any) -> None:
    X, _, more = rows_of(row, row.fits[0])
    given = np.where(np.arange(len(X)) % 2, "a", "b")
    few = {"given": given[:N], "random_state": 0}
    with there() as device:
        model = light(row, max_steps=2).fit(X, given=given, device=device, **more)
        assert not left_behind(model)
        assert np.shape(model.sample(N, **few)) == np.shape(X[:N])
        scores = model.score_samples(X[:N], given="a") if hasattr(model, "log_prob") else None
        if hasattr(model, "complete"):
            mask = np.ones(np.shape(X[:N]), dtype=bool)
            assert np.shape(model.complete(X[:N], mask=mask, **few)) == np.shape(X[:N])
        if hasattr(model, "encode"):
            assert np.shape(model.reconstruct(X[:N], given="b")) == np.shape(X[:N])
    if scores is not None:
        again = model.to("cpu").score_samples(X[:N], given="a")
        np.testing.assert_allclose(scores, again, CLOSE, CLOSE)


BITS = [row for row in SPEAKERS if "binary" in row.fits]
SHORT = {"vae", "rbm", "categorical-mixture", "bayesnet", "multimodal-vae"}


@pytest.mark.parametrize(
    "row",
    [
        pytest.param(row, id=row.name, marks=[] if row.name in SHORT else pytest.mark.full)
        for row in BITS
    ],
)
def test_10_grey_values_are_drawn_as_bits_on_the_device(row: Any) -> None:
    grey = np.clip(toy("binary").X, 0.1, 0.9)
    with there() as device:
        model = light(row, max_steps=2)
        model.fit(grey, space="binary", device=device, validation=0.2)
        assert not left_behind(model)
        assert said(model, toy("binary").X[:N], None) is not None


class Streamed(torch.utils.data.Dataset):
    """Rows that are read one by one."""

    def __init__(self, X: np.ndarray) -> None:
        self.X = X

    def __len__(self) -> int:
        return len(self.X)

    def __getitem__(self, i: int) -> np.ndarray:
        return self.X[i]


SLOWLY = pytest.param("bayesian-mixture-svi", marks=pytest.mark.full)


@pytest.mark.parametrize("name", ["made", "bayesnet", "categorical-mixture", SLOWLY])
def test_10_streamed_rows_go_to_the_device(name: str) -> None:
    row = next(row for row in ROWS if row.name == name)
    X = toy("binary").X
    with there() as device:
        model = light(row, max_steps=2).fit(Streamed(X), space="binary", device=device)
        assert not left_behind(model)
        streamed = said(model, X[:N], None)
        whole = light(row, max_steps=2).fit(X, space="binary", device=device)
        assert not disagreement(said(whole, X[:N], None), streamed)


def test_10_the_device_of_fit_goes_before_that_of_the_trainer() -> None:
    X = toy("binary").X
    with there() as device:
        trainer = Trainer(epochs=1, device=device, progress=False)
        model = genus.MADE(MLP(4, 1), trainer=trainer)
        assert not left_behind(model.fit(X))
        assert next(model.fit(X, device="cpu").parameters()).device.type == "cpu"
        assert not left_behind(genus.Independent().fit(X, device=device))
    with pytest.raises(ValueError, match="device='abacus': a device that this machine has"):
        genus.Gaussian().fit(X, device="abacus")


def test_10_unasked_only_models_with_a_trainer_leave_the_processor(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    X = toy("binary").X
    with there() as device:
        monkeypatch.setattr("genus.model.usual_device", lambda: device)
        trainer = Trainer(epochs=1, progress=False)
        assert not left_behind(genus.MADE(MLP(4, 1), trainer=trainer).fit(X))
        for model in (
            genus.MADE(MLP(4, 1), trainer=trainer.replace(device="cpu")),
            genus.BayesNet(),
        ):
            assert {t.device.type for t in model.fit(X).state_dict().values()} == {"cpu"}


def test_10_a_device_without_float64_is_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Device, "accepts", lambda self, value: True)
    with pytest.raises(ValueError, match="no float64, in which Gaussian keeps mean_"):
        genus.Gaussian().fit(toy("continuous").X, device="mps")


LATENT = [("ppca", "continuous"), ("vae", "mixed"), ("hierarchical-vae", "binary")]


@pytest.mark.parametrize(
    ("name", "kind"),
    [pytest.param(n, k, marks=[] if n == "ppca" else pytest.mark.full) for n, k in LATENT],
)
def test_10_a_diagnosis_is_that_of_the_processor(name: str, kind: str) -> None:
    row = next(row for row in ROWS if row.name == name)
    X, _, more = rows_of(row, kind)
    model = light(row).fit(X, device="cpu", **more)
    here = evaluate.diagnose(model, X[:40], random_state=0)
    with there() as device:
        away = evaluate.diagnose(copy.deepcopy(model).to(device), X[:40], random_state=0)
    assert not disagreement(here, away, CLOSE if PRETENDS else np.inf)


def test_10_robustness_is_measured_where_the_model_is() -> None:
    X, y = questions("classification")
    model = light(next(row for row in CLASSIFIERS if row.name == "jem")).fit(X, y, device="cpu")
    few: dict[str, Any] = {"eps": (0.1,), "steps": 2, "restarts": 1, "refine": 1}
    here = evaluate.robustness(model, X[:9], y[:9], **few)
    with there() as device:
        away = evaluate.robustness(copy.deepcopy(model).to(device), X[:9], y[:9], **few)
    assert not disagreement(here, away, CLOSE if PRETENDS else np.inf)
