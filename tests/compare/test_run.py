"""The table of one run: its numbers, what it prints, and that it repeats."""

import json
import math
import os
import signal

import numpy as np
import pandas as pd
import pytest

from comparing import Toy, X, few, none
from genus import Gaussian
from genus.compare.run import compare, parse_seconds

MISCHIEF = ("", "broken", "unscored", "warns", "nan")


@pytest.fixture(scope="module")
def table():
    return compare({m or "toy": Toy(m) for m in MISCHIEF}, X, **few)


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
    assert row.learned_by == "closed form" and min(row.numbers()[t] for t in CLOCK) > 0
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


CLOCK = ["fit_seconds", "judge_seconds", "score_seconds", "sample_seconds", "one_seconds"]


def test_the_same_seed_gives_the_same_table_and_another_does_not(table):
    again = compare({m or "toy": Toy(m) for m in MISCHIEF}, X, **few)
    pd.testing.assert_frame_equal(
        table.to_frame().drop(columns=CLOCK), again.to_frame().drop(columns=CLOCK)
    )
    np.testing.assert_array_equal(table["toy"].samples, again["toy"].samples)
    other = compare([Toy()], X, samples=0, random_state=1)
    assert other["Toy"].likelihood.nats != table["toy"].likelihood.nats


def test_processes_give_the_same_numbers():
    one, two = (compare([Gaussian(0.01)], X, jobs=j, **none).to_frame() for j in (1, 2))
    pd.testing.assert_frame_equal(one.drop(columns=CLOCK), two.drop(columns=CLOCK))


class Deadly(Gaussian):
    """A model whose fit takes its process with it."""

    def learn(self, fit):
        os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.full
def test_a_worker_that_dies_costs_its_row_alone():
    said = []
    models = {"deadly": Deadly(), "plain": Gaussian(0.01)}
    t = compare(models, X, jobs=2, progress=said.append, **none)
    assert "the process that fitted it ended: it was killed" in t["deadly"].error
    assert t["plain"].likelihood is not None and t["Independent"].likelihood is not None
    assert any("the models left are fitted one by one" in line for line in said)


def test_a_continuous_model_of_whole_numbers_stands_apart_until_it_dequantises():
    counts = np.random.RandomState(0).poisson(20, (200, 2))
    own = Gaussian(random_state=0).fit(counts[:50], space="continuous")
    t = compare([("raw", own)], counts, **few)
    assert t["raw"].measure == "density" and t["Independent"].measure == "probability"
    assert t["raw"].rank == 1 and t["Independent"].rank == 1
    with pytest.raises(ValueError, match="space="):
        t.rank()
    assert t["raw"].quality is not None  # draws between the whole numbers are measured too
    same = compare([Gaussian()], counts, **none)
    assert same["Gaussian"].likelihood.symbol == "≥" and set(same.rank()) == {
        "Gaussian",
        "Independent",
    }
    assert {r.measure for r in compare([Gaussian()], counts, space="continuous", **none).rows} == {
        "density"
    }


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
