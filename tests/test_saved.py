"""Models and checkpoints that earlier versions saved: they load, and say what they said.

tests/saved/make.py and make_conditions.py wrote them, each folder with the version of genus that
it is named after.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import genus
from contract import ROWS, questions, toy

SAVED = Path(__file__).parent / "saved" / "0.1"
CONDITIONS = SAVED.with_name("0.1-conditions")
EXPECTED: dict[str, dict[str, Any]] = json.loads((SAVED / "expected.json").read_text("utf-8"))


def of_sort(sort: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("name", [k for k, v in EXPECTED.items() if v["sort"] == sort])


def close(found: Any, expected: list[float]) -> None:
    """Real numbers agree to 1e-5 of the largest of them."""
    found = np.asarray(found, dtype=np.float64).reshape(-1)
    scale = max(1.0, float(np.abs(expected).max()))
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * scale)


def same_cells(found: Any, expected: list[Any]) -> None:
    """Words, bits and whole numbers are equal, and real numbers close."""
    frame = isinstance(found, pd.DataFrame)
    cells = (found.to_numpy(dtype=object) if frame else np.asarray(found)).reshape(-1).tolist()
    assert len(cells) == len(expected)
    real = [isinstance(v, float) for v in expected]
    assert [v for v, r in zip(cells, real, strict=True) if not r] == [
        v for v, r in zip(expected, real, strict=True) if not r
    ]
    if any(real):
        close(*([v for v, r in zip(a, real, strict=True) if r] for a in (cells, expected)))


@of_sort("model")
def test_a_saved_model_says_what_it_said(name: str) -> None:
    said = EXPECTED[name]
    if name.startswith("histogram"):
        with pytest.raises(genus.files.StoreError, match=r"fit genus.Independent\(\) in its place"):
            genus.load(SAVED / name)
        return
    model = genus.load(SAVED / name)
    given = said.get("given")
    conditions = {} if given is None else {"given": np.array(given)}
    if "log_prob" in said:
        answer = model.log_prob(toy(said["kind"]).X[:8], **conditions)
        found = answer.nats
        if name.startswith("vae"):  # some of its points are drawn wider now
            assert (np.abs(found - said["log_prob"]) <= 6 * answer.stderr + 0.02).all()
        elif hasattr(model, "gaussians") and said["kind"] != "continuous":
            tighter = found - said["log_prob"]  # the same model, by bounds nearer to the truth
            assert tighter.min() > -0.12 and tighter.mean() > 0 and tighter.max() < 0.2
        else:
            close(found, said["log_prob"])
    if "sample" in said:
        conditions = {k: v[:4] for k, v in conditions.items()}
        same_cells(model.sample(4, random_state=3, **conditions), said["sample"])


@of_sort("predictor")
def test_a_saved_predictor_says_what_it_said(name: str) -> None:
    said = EXPECTED[name]
    model = genus.load(SAVED / name)
    X, y = questions(said["kind"])
    same_cells(model.predict(X[:8]), said["predict"])
    close(model.log_prob(y[:8], given=X[:8]).nats, said["log_prob"])
    same_cells(model.sample(given=X[:4], random_state=3), said["sample"])


@of_sort("checkpoint")
def test_a_saved_checkpoint_goes_on(name: str) -> None:
    said = EXPECTED[name]
    model = next(r for r in ROWS if r.name == said["row"]).make()
    model.set_params(trainer=model.trainer.replace(**said["trainer"]))
    t = toy(said["kind"])
    if said["row"] in ("realnvp", "made", "transformer", "vae", "rbm"):
        with pytest.raises(ValueError, match=r"whose .* had no \w+=.*start anew"):
            model.fit(t.X, space=t.space, resume=SAVED / name)
        return
    model.fit(t.X, space=t.space, resume=SAVED / name)
    assert model.n_steps_ == said["steps"]
    close(model.log_prob(t.X[:8]).nats, said["log_prob"])
    close(said["log_prob"], said["uninterrupted"])
    with pytest.raises(AssertionError):  # it did learn after it was resumed
        close(model.log_prob(t.X[:8]).nats, said["at_the_interruption"])


IMAGES = json.loads((SAVED / "images.json").read_text())


@pytest.mark.parametrize("name", [n for n in IMAGES["models"] if n != "hwc-histogram"])
def test_images_with_their_channels_last_score_as_they_did(name: str) -> None:
    """Version 0.1 took them as they lay; in files of later versions they are channel-first."""
    model, said = genus.load(SAVED / f"{name}.genus"), IMAGES["models"][name]
    X = np.array(IMAGES["rows"])
    found = model.log_prob(X)
    # a bound's Monte Carlo points come from a hash of the cells, which lie in another order now
    if name == "hwc-vae":
        assert (np.abs(found.nats - said["log_prob"]) <= 6 * found.stderr).all()
    else:  # bounds by more points, or by masses in boxes, are nearer to the truth
        tighter = found.nats - said["log_prob"]
        assert tighter.min() > -1 and tighter.mean() > 0
    assert np.array_equal(model.sample(2, random_state=3), said["sample"])


@pytest.mark.parametrize("name", json.loads((CONDITIONS / "expected.json").read_text("utf-8")))
def test_saved_images_under_conditions_say_what_they_said(name: str) -> None:
    said = json.loads((CONDITIONS / "expected.json").read_text("utf-8"))[name]
    model, given = genus.load(CONDITIONS / name), np.array(said["given"])
    close(model.log_prob(np.array(said["X"]), given=given).nats, said["log_prob"])
    drawn = model.sample(4, given=given[:4], random_state=3)
    same_cells(drawn, np.array(said["sample"]).reshape(-1).tolist())
