"""The table: who is in it, what is ranked with what, and what happens when things go wrong."""

import json
import math
import time
import warnings
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

import genus
from genus import Exact, Gaussian, IndependentHistogram, Model, Space
from genus.compare.run import compare, families, parse_seconds, resolve


class Toy(Model):
    """A unit Gaussian about the mean of the rows; ``mode`` says how it misbehaves."""

    learned_by = "closed form"

    def __init__(self, mode="", seconds=0.0, random_state=None):
        self.mode = mode
        self.seconds = seconds
        self.random_state = random_state

    def build(self, space):
        self.register_buffer("mean_", torch.zeros(space.dim, dtype=torch.float64))

    def learn(self, data):
        if self.mode == "broken":
            raise FloatingPointError("the loss is not finite")
        if self.mode == "interrupted":
            raise KeyboardInterrupt
        if self.mode == "stopped":
            self.interrupted_ = True
        if self.mode == "warns":
            warnings.warn("careful with that", stacklevel=2)
        self.mean_ = data.rows.take(slice(None))[0].double().mean(0)
        self.seed_ = self._seed

    def _log_prob(self, x):
        if self.mode == "unscored":
            raise RuntimeError("too large to normalise")
        value = -0.5 * (x.double() - self.mean_).square().sum(1) - x.shape[1] / 2 * math.log(
            2 * math.pi
        )
        return Exact(value + (math.nan if self.mode == "nan" else 0))

    def _sample(self, n, rng):
        draws = self.mean_ + torch.randn(n, len(self.mean_), generator=rng, dtype=torch.float64)
        return draws * math.nan if self.mode == "nan" else draws


X = np.random.RandomState(0).randn(150, 2)
few = {"samples": 30, "random_state": 0}
none = {"samples": 0, "random_state": 0}  # likelihoods alone
MISCHIEF = ("", "broken", "unscored", "warns", "nan")


@pytest.fixture(scope="module")
def table():
    return compare({m or "toy": Toy(m) for m in MISCHIEF}, X, **few)


# ---------------------------------------------------------------- who is in it


def test_names_are_found_in_any_case_and_typos_get_a_hint():
    assert [n for n, _ in resolve("gaussian")] == ["Gaussian", "IndependentHistogram"]
    assert type(resolve(["independent_histogram"])[0][1]) is IndependentHistogram
    with pytest.raises(ValueError, match="did you mean Gaussian"):
        resolve("Gausian")
    with pytest.raises(ValueError, match="choose from"):
        resolve("qqqqqq")
    for bad in (3, [None], np.zeros(3), [int]):
        with pytest.raises(TypeError, match="model"):
            resolve([bad])


def test_unasked_are_those_that_suit_the_data():
    images, numbers = (
        {n for n, _ in resolve(None, s)}
        for s in (Space((4, 4), "binary", layout="HW"), Space((4,)))
    )
    assert {"PixelCNN", "VAE", "GaussianMixture", "CategoricalMixture"} <= images
    # IAF takes d passes to score
    assert images - numbers == {"PixelCNN", "PixelRNN"} and "IAF" not in images | numbers
    assert {n for n, _ in resolve(["IAF"], Space((4,)))} == {
        "IAF",
        "Gaussian",
        "IndependentHistogram",
    }


def test_classes_instances_pairs_and_dicts_are_models_and_baselines_always_there():
    names = [n for n, _ in resolve([Toy, Toy(), ("mine", Toy("x")), Gaussian()])]
    assert names == ["Toy", "Toy (2)", "mine", "Gaussian", "IndependentHistogram"]
    assert [n for n, _ in resolve({"a": Toy, "b": "gaussian"})] == [
        "a",
        "b",
        "IndependentHistogram",
    ]
    everyone = [n for n, _ in resolve(None)]
    assert set(everyone) <= set(families()) and {"Gaussian", "IndependentHistogram"} <= set(
        everyone
    )
    assert "Model" not in families() and "DensityModel" not in families()
    assert all(
        m.allow_nan
        for n, m in resolve(None, missing=True)
        if n not in ("Gaussian", "IndependentHistogram")
    )


def test_a_mixture_of_bernoullis_stands_in_every_table_of_binary_data():
    bits = (np.random.RandomState(0).rand(60, 4) < 0.5).astype(int)
    frame = pd.DataFrame(bits, columns=list("abcd")).astype({"a": bool, "b": str})
    for rows, space in ((bits, "binary"), (frame, None)):
        out = compare(IndependentHistogram, rows, space=space, **none)
        assert {r.name for r in out.rows} == {
            "IndependentHistogram",
            "Gaussian",
            "CategoricalMixture",
        }
        assert (
            out["CategoricalMixture"].baseline
            and "CategoricalMixture" in str(out).split("Baselines:")[1]
        )
    mine = compare({"mine": genus.CategoricalMixture(2)}, bits, space="binary", **none)
    assert {r.name for r in mine.rows} == {"mine", "IndependentHistogram", "Gaussian"}
    for rows in (X, frame.assign(e=X[:60, 0]), np.random.RandomState(0).randint(3, size=(60, 2))):
        assert "CategoricalMixture" not in {r.name for r in compare(Toy, rows, **none).rows}


def test_models_are_cloned_seeded_and_fitted_ones_used_as_they_are():
    mine = Toy()
    seeded = Toy(random_state=7)
    ready = Toy(random_state=5).fit(X[:10])
    mean = ready.mean_.clone()
    out = compare(
        [("mine", mine), ("seeded", seeded), ("ready", ready)], X, samples=0, random_state=3
    )
    assert not hasattr(mine, "mean_") and out["mine"].model is not mine
    assert out["mine"].model.random_state == 3 and mine.random_state is None
    assert out["seeded"].model.random_state == 7
    assert (
        out["ready"].model is ready
        and torch.equal(ready.mean_, mean)
        and math.isnan(out["ready"].fit_seconds)
    )


# ---------------------------------------------------------------- what it says


def test_numbers_are_those_of_the_test_rows(table):
    row = table["toy"]
    expected = row.model.score_samples(table.test)
    assert row.likelihood.nats == pytest.approx(expected.mean())
    assert row.measure == "density" and row.likelihood.symbol == "="
    assert len(table.train) == 120 and len(table.test) == 30
    both = np.concatenate([table.train, table.test])
    assert sorted(map(tuple, both)) == sorted(map(tuple, X))
    # fitted on the training rows alone
    np.testing.assert_allclose(row.model.mean_, table.train.mean(0))
    assert row.learned_by == "closed form" and row.fit_seconds > 0 and row.sample_seconds > 0
    assert row.n_parameters == 0 and len(row.samples) == row.n_sampled == 30
    assert row.quality.n == 30
    assert table["Gaussian"].baseline and not row.baseline


def test_a_model_that_fails_stays_in_the_table(table):
    row = table["broken"]
    assert row.model is None and row.rank is None and row.likelihood is None
    assert row.error == "FloatingPointError: the loss is not finite"
    assert table["unscored"].error is None and table["unscored"].likelihood is None
    assert any("too large to normalise" in n for n in table["unscored"].notes)
    assert table["unscored"].quality is not None
    assert table["nan"].likelihood is None and table["nan"].quality is None
    assert any("NaN" in n for n in table["nan"].notes)
    assert "careful with that" in table["warns"].notes
    text = str(table)
    assert "broken failed: FloatingPointError" in text and "careful with that" in text
    assert table.rows[-1].name == "broken"


def test_it_prints_frames_and_json(table):
    frame = table.to_frame().set_index("model")
    assert frame.loc["toy", "nats"] == table["toy"].likelihood.nats
    assert frame.loc["toy", "c2st"] == table["toy"].quality.classifier.accuracy
    assert math.isnan(frame.loc["broken", "nats"]) and frame.loc["broken", "error"]
    said = json.loads(json.dumps(table.to_json(), allow_nan=False))
    assert {r["model"] for r in said["rows"]} == {r.name for r in table.rows}
    assert said["settings"]["random_state"] == 0 and said["settings"]["versions"]["torch"]
    text = str(table)
    for word in ("toy", "= -", "floor", "pca-2", "no copying", "2 standard errors", "Baselines"):
        assert word in text
    assert max(map(len, text.splitlines())) <= 200
    markup = table._repr_html_()
    assert markup.count("<tr>") >= 5 and "broken failed" in markup
    table.rows[0].name, old = "<b>", table.rows[0].name
    assert "<td>&lt;b&gt;" in table._repr_html_()
    table.rows[0].name = old


def test_the_same_seed_gives_the_same_table_and_another_does_not(table):
    again = compare({m or "toy": Toy(m) for m in MISCHIEF}, X, **few)
    clock = ["fit_seconds", "sample_seconds"]
    pd.testing.assert_frame_equal(
        table.to_frame().drop(columns=clock), again.to_frame().drop(columns=clock)
    )
    np.testing.assert_array_equal(table["toy"].samples, again["toy"].samples)
    other = compare([Toy()], X, samples=0, random_state=1)
    assert other["Toy"].likelihood.nats != table["toy"].likelihood.nats


def test_processes_give_the_same_numbers():
    one, two = (compare([Gaussian(0.01)], X, jobs=j, **none).to_frame() for j in (1, 2))
    clock = ["fit_seconds", "sample_seconds"]
    pd.testing.assert_frame_equal(one.drop(columns=clock), two.drop(columns=clock))


# ---------------------------------------------------------------- ranks


def test_a_continuous_model_of_whole_numbers_stands_apart_until_it_dequantises():
    counts = np.random.RandomState(0).poisson(20, (200, 2))
    own = Gaussian(random_state=0).fit(counts[:50], space="continuous")
    t = compare([("raw", own)], counts, **few)
    assert t["raw"].measure == "density" and t["IndependentHistogram"].measure == "probability"
    assert t["raw"].rank == 1 and t["IndependentHistogram"].rank == 1
    with pytest.raises(ValueError, match="space="):
        t.rank()
    assert t["raw"].quality is not None  # draws between the whole numbers are measured too
    same = compare([Gaussian()], counts, **none)
    assert same["Gaussian"].likelihood.symbol == "≥" and set(same.rank()) == {
        "Gaussian",
        "IndependentHistogram",
    }
    assert {r.measure for r in compare([Gaussian()], counts, space="continuous", **none).rows} == {
        "density"
    }


# ---------------------------------------------------------------- time


class Endless(Toy):
    """EM that never ends by itself."""

    def statistics(self, x):
        time.sleep(0.02)
        self.at = getattr(self, "at", 0.0) + 1.0
        return {
            "weight": torch.tensor(float(len(x))),
            "log_likelihood": torch.tensor(self.at * len(x)),
            "mean": x.double().sum(0),
        }

    def maximise(self, sums):
        self.mean_ = sums["mean"] / sums["weight"]

    def learn(self, data):
        from genus.learn.sums import solve

        solve(self, data, max_iter=10_000, tol=1e-9)


def test_the_budget_is_kept_by_each_fit():
    t = compare([Endless()], X, budget="0.5s", **none)
    assert 0.4 < t["Endless"].fit_seconds < 2
    assert t["Endless"].likelihood.nats > -10 and len(t["Endless"].history) > 2
    assert t.settings["budget"] == 0.5


def test_budgets_are_read():
    assert [parse_seconds(b) for b in (None, 60, 1.5, "60", "60s", "2m", "1.5h")] == [
        None,
        60,
        1.5,
        60,
        60,
        120,
        5400,
    ]
    for bad in ("soon", 0, -1, "1d", "..s", math.inf, math.nan):
        with pytest.raises(ValueError, match="budget"):
            parse_seconds(bad)


@pytest.mark.parametrize("mode", ["interrupted", "stopped"])
def test_ctrl_c_keeps_what_is_done(mode):
    t = compare([("first", Toy()), ("second", Toy(mode)), ("third", Toy())], X, **none)
    assert t["first"].likelihood is not None
    assert (t["second"].error is None) == (mode == "stopped")
    assert t["third"].error == "not run: interrupted" == t["Gaussian"].error


def test_progress_is_told_to_a_function():
    lines = []
    compare([Toy("broken")], X, progress=lines.append, **none)
    assert (
        any("Toy (1 of 3)" in s for s in lines)
        and any("failed" in s for s in lines)
        and any("nats" in s for s in lines)
    )


# ---------------------------------------------------------------- data


def test_rows_to_judge_by_may_be_given():
    t = compare([Toy()], X[:100], test=X[100:140], **none)
    np.testing.assert_array_equal(t.test, X[100:140])
    np.testing.assert_array_equal(t.train, X[:100])
    t = compare([Toy()], X, test=0.5, max_test=40, **none)
    assert len(t.train) == 75 and len(t.test) == 40
    assert any("40 of the 75 test rows" in n for n in t.footnotes())


def test_a_data_set_brings_its_own_parts_and_labels():
    y = (X[:, 0] > 0).astype(int)
    part = SimpleNamespace(X=X[:100], y=y[:100]), SimpleNamespace(X=X[100:], y=y[100:])
    data = SimpleNamespace(
        X=X,
        y=y,
        space=Space.of(X),
        name="two bells",
        note="They ring.",
        train=part[0],
        test=part[1],
    )
    t = compare([Toy()], data, **few)
    assert "two bells: They ring." in t.notes
    assert t.name == "two bells" and len(t.train) == 100 and len(t.test) == 50
    np.testing.assert_array_equal(t.y_test, y[100:])
    assert t["Toy"].quality.frechet.embedding == "classifier-16"
    data.test = None
    assert len(compare([Toy()], data, test=0.4, **none).test) == 60


def test_grey_rows_drawn_afresh_for_every_batch_are_compared():
    grey = np.random.RandomState(1).rand(120, 4).astype(np.float32)
    data = genus.data.load(grey, binarize="dynamic")
    table = compare(["IndependentHistogram"], data, samples=20, random_state=0)
    assert table["IndependentHistogram"].samples is not None and set(np.unique(table.train)) == {
        0,
        1,
    }
    assert data.train.X.dtype == np.float32  # and the models saw the grey


def test_tables_with_missing_cells_are_compared():
    rng = np.random.RandomState(0)
    frame = pd.DataFrame({"a": rng.choice(["x", "y"], 120), "b": rng.randn(120)})
    frame.loc[::5, "b"] = np.nan
    # the toy takes no missing cells, both baselines do
    t = compare([Toy], frame, y=frame["a"], **few)
    assert t["IndependentHistogram"].likelihood.measure == "mixed"
    assert isinstance(t["IndependentHistogram"].samples, pd.DataFrame)
    assert t["Gaussian"].error is None and ("NaN" in t["Toy"].error or "missing" in t["Toy"].error)


def test_few_rows_are_said_to_be_too_few():
    t = compare([Toy()], X[:20], random_state=0)
    assert t["Toy"].likelihood is not None and t["Toy"].quality is None
    assert any("too few" in n for n in t.footnotes())


def test_bad_arguments_are_named():
    with pytest.raises(ValueError, match="X is missing"):
        compare([Toy()])
    with pytest.raises(ValueError, match="labels"):
        compare([Toy()], X, y=[1, 2])
    for bad in (0.0, 1.0, 2, -0.1):
        with pytest.raises(ValueError, match="test="):
            compare([Toy()], X, test=bad)


def test_conditional_models_are_compared_with_their_conditions():
    labels = np.arange(150) % 2
    X = np.random.RandomState(0).randn(150, 2) + 4 * labels[:, None]
    model = genus.RealNVP(2, trainer=genus.Trainer(epochs=5), random_state=0)
    for more in ({"given": labels}, {"y": labels, "given": "y"}):
        table = compare([model], X, **few, **more)
        row = table["RealNVP"]
        assert row.error is None and "saw the conditions" in row.notes[0]
        assert row.likelihood.nats > table["Gaussian"].likelihood.nats and row.quality is not None
    with pytest.raises(ValueError, match="given has 5 rows, X 120 and test 30"):
        compare([model], X, given=labels[:5], **few)
    with pytest.raises(ValueError, match="given='y': .*no labels"):
        compare([model], X, given="y", **few)
    fitted = model.fit(X, given=labels)
    unasked = compare([("it", fitted)], X, **few)["it"]
    assert any("pass given=" in note for note in unasked.notes)


def test_dicts_of_arrays_are_compared_as_tables_of_their_cells():
    r = np.random.RandomState(0)
    label = r.randint(0, 2, 150)
    parts = {
        "image": (r.rand(150, 2, 2) < 0.2 + 0.6 * label[:, None, None]).astype(np.uint8),
        "label": np.where(label, "a", "b"),
    }
    table = compare(["CategoricalMixture"], parts, **few)
    assert table["CategoricalMixture"].error is None and table.space.dim == 5
    assert (
        table["CategoricalMixture"].likelihood.nats > table["IndependentHistogram"].likelihood.nats
    )
    assert "label" in table.test.columns and "image: cell (0, 1)" in table.test.columns
