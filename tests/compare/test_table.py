"""The table of a comparison: ranks, groups and how it is printed."""

import json
import math

import numpy as np
import pytest

from genus import Exact, LowerBound, Space
from genus.compare.table import Comparison, Row, in_words
from genus.evaluate import likelihood_summary

X = np.random.RandomState(0).randn(150, 2)


def of(**rows):
    made = []
    for name, lp in rows.items():
        made.append(Row(name, log_prob=lp, likelihood=likelihood_summary(lp)))
    return Comparison(made, X, X, Space.of(X))


def test_ranks_are_shared_within_two_paired_standard_errors():
    rng = np.random.RandomState(0)
    hard = 20 * rng.randn(400)
    noise = rng.randn(400)
    noise -= noise.mean()
    se = noise.std() / math.sqrt(399)
    t = of(
        best=Exact(hard),
        near=LowerBound(hard - 1.9 * se + noise),
        far=Exact(hard - 2.1 * se - noise),
        last=Exact(hard - 5 + noise),
    )
    assert t.rank() == {"best": 1, "near": 1, "far": 3, "last": 4}
    # pairing is what separates them
    assert (
        abs(t["best"].likelihood.nats - t["last"].likelihood.nats)
        < 10 * t["best"].likelihood.stderr
    )


def test_an_impossible_row_comes_last():
    t = of(
        a=Exact(np.array([-math.inf, 0.0])),
        b=Exact(np.array([-9.0, -9.0])),
        c=Exact(np.array([-math.inf, 0.0])),
    )
    assert t.rank() == {"b": 1, "a": 2, "c": 2}


def test_a_probability_and_a_density_are_never_ranked_together():
    n = np.zeros(50)
    t = of(
        p=Exact(n - 5, measure="probability"),
        q=LowerBound(n - 6, measure="probability"),
        d=Exact(n + 3, measure="density"),
    )
    with pytest.raises(ValueError, match="cannot be ranked together.*dequantises"):
        t.rank()
    assert t.rank("probability") == {"p": 1, "q": 2}
    assert t.rank("density") == {"d": 1}
    with pytest.raises(ValueError, match="mixed"):
        t.rank("mixed")
    assert [[r.name for r in g] for g in t.groups.values()] == [["p", "q"], ["d"]]
    text = " ".join(str(t).split())
    assert "not ranked with each other" in text and "densities" in text and "probabilities" in text


def test_rows_without_a_likelihood_come_last_and_have_no_rank():
    t = of(a=Exact(np.zeros(5)))
    t.rows.insert(0, Row("silent", n_parameters=3, fit_seconds=0.5))
    assert list(t.groups) == ["density", ""]
    assert t.rank() == {"a": 1}
    cells = t.table()[0]
    assert (cells["nats"], cells["bits/dim"], cells["parameters"]) == ("—", "—", "3")
    assert cells["fit s"] == "0.50"
    with pytest.raises(KeyError, match="no row 'b': there are silent, a"):
        t["b"]


def test_numbers_that_are_not_finite_are_none_in_json():
    t = of(a=Exact(np.array([-math.inf, 0.0])))
    t.settings["counts"] = (np.int64(3), np.float64("nan"))
    said = json.loads(json.dumps(t.to_json(), allow_nan=False))
    assert said["settings"]["counts"] == [3, None]
    assert said["rows"][0]["nats"] is None and said["train_rows"] == len(X)


def test_names_are_escaped_and_errors_are_shown():
    t = of(**{"<b>": Exact(np.zeros(5))})
    t.rows.append(Row("broken", error="n <= 3"))
    markup = t._repr_html_()
    assert "<td>&lt;b&gt;</td>" in markup and "broken failed: n &lt;= 3" in markup
    assert "broken failed: n <= 3" in str(t)


@pytest.mark.parametrize(
    ("seconds", "text"), [(math.nan, "—"), (0.034, "0.03"), (9.994, "9.99"), (61.2, "61")]
)
def test_seconds_in_words(seconds, text):
    assert in_words(seconds) == text
