"""The command line as a user's shell sees it, and its refusals, in this process."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import genus
from genus.data.loading import load

ENV = {**os.environ, "OMP_NUM_THREADS": "1"}


# ---------------------------------------------------------------------- help


def test_models_and_data(run):
    assert {"VAE", "RBM", "GaussianMixture"} <= {
        r["name"] for r in json.loads(run("models", "--json")[0])
    }
    assert "digits" in {r["name"] for r in json.loads(run("data", "--json")[0])}
    assert run("models")[0].count("\n") == len(json.loads(run("models", "--json")[0]))


# ---------------------------------------------------------------------- fit


def test_fit_learns_from_the_training_rows_alone(here: Path):
    model = genus.load("run.genus")
    assert model.n_components == 4 and model.random_state == 0
    data = load("digits")
    same = genus.GaussianMixture(4, random_state=0).fit(data.train)
    assert np.array_equal(model.score_samples(data.test), same.score_samples(data.test))


def test_settings_reach_the_model_and_nothing_else_does(here: Path, run):
    out, _ = run(
        "fit",
        "VAE",
        "digits",
        "--out",
        "small",
        "--latent_dim",
        3,
        "--trainer.max_steps",
        5,
        "--encoder",
        "MLP",
        "--encoder.width",
        16,
        "--json",
    )
    said = json.loads(out)
    model = genus.load(said["run"])
    assert (model.latent_dim, model.encoder, model.decoder) == (3, genus.MLP(width=16), None)
    assert model.trainer == genus.Trainer(max_steps=5)  # no checkpoint path of this run
    assert said["parameters"] == model.n_parameters() and said["rows"] == len(load("digits").train)


def test_resume_goes_on_from_the_checkpoint(here: Path, run):
    few = ["fit", "VAE", "digits", "--latent_dim", 2, "--trainer.schedule", "constant"]
    run(*few, "--out", "whole", "--trainer.epochs", 4)
    run(*few, "--out", "parts", "--trainer.epochs", 2)
    run(*few, "--out", "parts", "--trainer.epochs", 4, "--resume")
    whole, parts = genus.load("whole.genus"), genus.load("parts.genus")
    assert parts.n_steps_ == whole.n_steps_
    x = load("digits").test.X[:20]
    assert np.array_equal(whole.score_samples(x), parts.score_samples(x))


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_ctrl_c_saves_the_model_and_exits_130(number: int, code: int, tmp_path: Path):
    command = [
        sys.executable,
        "-m",
        "genus",
        "fit",
        "VAE",
        "digits",
        "--out",
        "run",
        "--trainer.epochs",
        "100000",
        "--trainer.checkpoint_every",
        "0.2",
    ]
    child = subprocess.Popen(
        command, cwd=tmp_path, env=ENV, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 60
    checkpoint, written = tmp_path / "run.checkpoint", set()
    while len(written) < 2 and time.monotonic() < deadline:  # the first is from before it learns
        if checkpoint.exists():
            written.add(checkpoint.stat().st_mtime_ns)
        time.sleep(0.05)
    child.send_signal(number)
    out, err = child.communicate(timeout=60)
    assert child.returncode == code, err
    assert "--resume goes on" in err and "Traceback" not in err
    model = genus.load(tmp_path / "run.genus")
    assert model.n_steps_ > 0 and np.isfinite(model.score(load("digits").test.X[:20]))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["run.checkpoint", "run.genus"]


@pytest.mark.parametrize(
    ("args", "code", "text"),
    [
        (["fit", "VAEE", "digits", "--out", "x"], 2, "did you mean VAE?"),
        (["fit"], 2, "a model is missing"),
        (
            ["fit", "BayesianLinearRegression", "wine.csv", "--out", "x"],
            2,
            "a model of p(y | X), for use from Python",
        ),
        (["fit", "VAE"], 2, "data is missing"),
        (["fit", "VAE", "digits"], 2, "--out is missing"),
        (
            ["fit", "VAE", "digits", "--out", "x", "--latent_dim", "two"],
            2,
            "--latent_dim=two: int is needed",
        ),
        (
            ["fit", "VAE", "digits", "--out", "x", "--trainer.epochs", "0.5"],
            2,
            "--trainer.epochs=0.5: int or null is needed",
        ),
        (["fit", "VAE", "digits", "--out", "x", "--nonsense", "1"], 2, "nonsense"),
        (["fit", "VAE", "digits", "--out", "x", "--trainer.lr", "-1"], 1, "Trainer(lr=-1.0)"),
        (["fit", "VAE", "digits", "--out", "nowhere/x"], 1, "cannot be written"),
        (["fit", "VAE", "digitz", "--out", "x"], 1, "did you mean 'digits'?"),
        (["fit", "VAE", "digits", "--out", "x", "--budget", "soon"], 1, "budget='soon'"),
        (["fit", "--config", "absent.yaml"], 2, "absent.yaml"),
        (["sample", "absent"], 1, "there is no model absent"),
        (["sample", "wine.csv"], 1, "not a genus file"),
        (["sample", "run", "-n", "0"], 2, "positive"),
        (["sample", "run", "--out", "x.gif"], 1, ".png"),
        (["sample", "wine", "--out", "x.png"], 1, "no images"),
        (["score", "run", "wine.csv"], 1, "column"),
        (["complete", "run"], 2, "file"),
        (["compare"], 2, "data are missing"),
        (["compare", "digits", "--report", "x.pdf"], 2, "the page is HTML: name it .html"),
        (["fit", "VAE", "digits", "--out", "x", "--trainer.lr", "-1e-3"], 1, "Trainer(lr=-0.001)"),
        (["fit", "VAE", "digits", "--out", "x", "--beta=-1"], 1, "beta=-1.0"),
        (["compare", "digits", "--models", "VEA"], 1, "did you mean VAE?"),
        (
            ["compare", "digits", "--models", "RBM", "--VAE.latent_dim", "2"],
            2,
            "VAE is not among --models",
        ),
    ],
    ids=lambda v: " ".join(v)[:60] if isinstance(v, list) else None,
)
def test_mistakes_are_answered_in_one_line(args: list[str], code: int, text: str, here: Path, run):
    before = sorted(p.name for p in here.iterdir())
    out, err = run(*args, code=code)
    assert text in err and err.startswith("genus: ") and err.count("\n") == 1 and out == ""
    assert sorted(p.name for p in here.iterdir()) == before


# ---------------------------------------------------------------------- the others


def test_sample_to_a_file(here: Path, run):
    out, _ = run("sample", "run", "-n", 6, "--out", "s.npy", "--random_state", 3)
    expected = genus.load("run.genus").sample(6, random_state=3)
    assert np.array_equal(np.load("s.npy"), expected) and out == "6 rows in s.npy\n"


def test_sample_to_a_picture(here: Path, run):
    run("sample", "run", "-n", 9, "--out", "s.png")
    assert (here / "s.png").read_bytes().startswith(b"\x89PNG")


def test_sample_to_stdout_is_csv(here: Path, run):
    out, _ = run("sample", "wine", "-n", 3)
    frame = pd.read_csv(io.StringIO(out))
    assert (
        list(frame.columns) == ["a", "b", "colour"]
        and len(frame) == 3
        and set(frame["colour"]) <= {"red", "white"}
    )


def test_score_every_row_and_the_lowest(here: Path, run):
    out, _ = run("score", "wine", "wine.csv")
    rows = pd.read_csv(io.StringIO(out))
    expected = genus.load("wine.genus").score_samples(load("wine.csv"))
    assert np.allclose(rows["nats"], expected, rtol=1e-4) and list(rows["row"]) == list(range(120))
    lowest = json.loads(run("score", "wine", "wine.csv", "--lowest", 4, "--json")[0])["rows"]
    assert [r["row"] for r in lowest] == np.argsort(expected, kind="stable")[:4].tolist()


def test_scores_stand_beside_the_rows(here: Path, run):
    wine = pd.read_csv("wine.csv").assign(name=[f"w{i}" for i in range(120)], row="mine")
    wine.to_csv("named.csv", index=False)
    rows = pd.read_csv(io.StringIO(run("score", "wine", "named.csv", "--lowest", 5)[0]))
    assert list(rows.columns[:4]) == ["row", "nats", "stderr", "bits_per_dim"]
    assert (rows["name"] == "w" + rows["row"].astype(str)).all() and (rows["row_"] == "mine").all()
    assert np.allclose(rows["a"], wine["a"][rows["row"]])
    said = json.loads(run("score", "wine", "named.csv", "--lowest", 5, "--json")[0])
    assert [r["name"] for r in said["rows"]] == list(rows["name"])


def test_whole_numbers_are_printed_as_such_where_they_have_gaps(here: Path, run):
    r = np.random.default_rng(0)
    X = pd.DataFrame({"age": r.integers(18, 80, 60), "bit": r.integers(0, 2, 60)}).astype("Int64")
    X = X.mask(r.random(X.shape) < 0.2)
    X.to_csv("ages.csv", index=False)
    X["other"] = X["age"]
    X.to_csv("more.csv", index=False)
    run("fit", "Independent", "ages.csv", "--out", "ages")
    for command in (
        ("score", "ages", "more.csv"),
        ("complete", "ages", "more.csv"),
        ("sample", "ages", "-n", 9),
    ):
        rows = pd.read_csv(io.StringIO(run(*command)[0]), dtype=str)
        for name in set(rows) & set(X):
            assert rows[name].dropna().str.fullmatch(r"\d+").all()
        said = json.loads(run(*command, "--json")[0])
        told = said["rows"] if "kind" in said else said
        assert len(told) == len(rows) and {type(r["age"]) for r in told} <= {int, type(None)}
        assert [r["bit"] for r in told if r["bit"] is not None] == [
            int(bit) for bit in rows["bit"].dropna()
        ]


def test_a_folder_of_parquet_is_learned_from_and_scored_in_chunks(
    here: Path, run, monkeypatch: pytest.MonkeyPatch
):
    from genus import sources
    from genus.data import arrays

    table = pd.read_csv("wine.csv")
    Path("wine").mkdir(exist_ok=True)
    for i in range(3):
        table.iloc[40 * i : 40 * (i + 1)].to_parquet(f"wine/{i}.parquet")
    fit = ("fit", "GaussianMixture", "wine", "--n_components", "2", "--all_rows", "--out")
    run(*fit, "memory")
    monkeypatch.setattr(arrays, "LARGE", 0)
    monkeypatch.setattr(sources, "CHUNK", 50)
    assert "learned from 120 rows" in run(*fit, "stream")[0]
    scores = [pd.read_csv(io.StringIO(run("score", m, "wine")[0])) for m in ("memory", "stream")]
    assert scores[1]["row"].tolist() == list(range(120))
    assert np.allclose(scores[0]["nats"], scores[1]["nats"], rtol=1e-4)
    assert len(run("score", "stream", "wine", "--lowest", "3")[0].splitlines()) == 4
    assert "on 24 held-out rows" in run("evaluate", "stream", "wine")[0]


def test_samples_have_the_decimals_of_the_data(here: Path, run):
    X = pd.DataFrame({"a": np.random.default_rng(0).normal(size=200).round(2)})
    X.assign(b=X["a"] / 3).to_csv("two.csv", index=False)
    run("fit", "GaussianMixture", "two.csv", "--out", "two", "--n-components", 1)
    run("sample", "two", "-n", 50, "--out", "drawn.csv")
    for text in (run("sample", "two", "-n", 50)[0], (here / "drawn.csv").read_text()):
        drawn = pd.read_csv(io.StringIO(text), dtype=str)
        assert drawn["a"].str.fullmatch(r"-?\d+\.\d{1,2}").all()
        assert (drawn["b"].str.len() > 8).any()


def test_a_table_comes_by_pipe(here: Path, run, monkeypatch: pytest.MonkeyPatch):
    file = (here / "wine.csv").read_bytes()
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(file)))
    piped = run("score", "wine", "-")[0]
    assert piped == run("score", "wine", "wine.csv")[0]


def test_complete_fills_what_is_missing_and_nothing_else(here: Path, run):
    frame = pd.read_csv(here / "holes.csv")
    assert frame["b"].isna().all()
    whole, _ = run("complete", "wine", "holes.csv")
    assert not pd.read_csv(io.StringIO(whole)).isna().any().any()
    frame.loc[0, "b"] = 0.5
    frame.assign(note="kept", nothing=np.nan).to_csv(here / "some.csv", index=False)
    out, _ = run("complete", "wine", "some.csv")
    filled = pd.read_csv(io.StringIO(out))
    # what the model does not know
    assert (filled.pop("note") == "kept").all() and filled.pop("nothing").isna().all()
    assert not filled.isna().any().any() and filled["b"][0] == 0.5
    assert np.allclose(filled["a"], frame["a"]) and (filled["colour"] == frame["colour"]).all()
    assert np.abs(filled["b"] - filled["a"])[1:].max() < 1  # b is a, nearly
    frame.to_csv(here / "some.csv", index=False)
    out, _ = run("complete", "wine", "some.csv", "--how", "mean")
    again, _ = run("complete", "wine", "some.csv", "--how", "mean", "--random_state", 5)
    error = (pd.read_csv(io.StringIO(out))["b"] - frame["a"])[1:]
    assert error.std() < (filled["b"] - filled["a"])[1:].std()
    assert len(out.splitlines()) == len(again.splitlines())


def test_evaluate(here: Path, run):
    said = json.loads(run("evaluate", "run", "digits", "--samples", 60, "--json")[0])
    expected = genus.load("run.genus").log_prob(load("digits").test)
    assert (
        said["nats"] == pytest.approx(expected.mean())
        and said["kind"] == "lower bound"
        and said["samples"] == 60
    )
    assert 0 <= said["c2st"] <= 1 and said["memorisation"] == "no copying"


def test_compare_writes_the_report(here: Path, run, monkeypatch: pytest.MonkeyPatch):
    line = "compare wine.csv --models GaussianMixture --GaussianMixture.n_components 2"
    args = [*line.split(), "--samples", "20", "--report", "out.html", "--json"]
    monkeypatch.setattr(sys, "argv", ["genus", *args])  # the report says how it was made
    out, err = run(*args)
    said = json.loads(out)
    assert {r["model"] for r in said["rows"]} == {
        "GaussianMixture",
        "Independent",
        "Gaussian",
    }
    assert "The report is in out.html" in err and "GaussianMixture" in err
    assert "s, judged in " in err
    page = (here / "out.html").read_text()
    assert "GaussianMixture(n_components=2" in page and line in page
    assert not [p for p in here.iterdir() if p.name.startswith(".")]


def test_the_command_lines_of_the_readme_run_in_their_order(
    tmp_path: Path, run, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    text = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
    text = text.partition("## The command line")[2].partition("## More")[0]
    lines = [line for line in text.splitlines() if line.startswith("genus ")]
    few = {"fit": ["--trainer.max_steps", 5], "compare": ["--models", "Gaussian", "--samples", 20]}
    for line in lines:
        command = line.partition("#")[0].split()[1:]
        run(*command, *few.get(command[0], []))
    assert [line.split()[1] for line in lines] == ["fit", "sample", "score", "complete", "compare"]
    assert (tmp_path / "out.html").exists() and len(pd.read_csv("rows.csv")) == 64
