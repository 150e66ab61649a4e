"""The command line as a user's shell sees it, and its refusals, in this process."""

from __future__ import annotations

import io
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import genus
import genus_command
from genus.cli import commands as cli
from genus.data.loading import load
from genus.files import replacing
from genus.report.writing import write_rows

ENV = {**os.environ, "OMP_NUM_THREADS": "1"}


def shell(*args: object, cwd: Path, code: int = 0) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, "-m", "genus", *map(str, args)],
        cwd=cwd,
        env=ENV,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == code, done.stderr
    return done


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a mixture of the digits in run.genus and one of a table in wine.genus."""
    path = tmp_path_factory.mktemp("cli")
    rng = np.random.default_rng(0)
    x = rng.normal(size=(120, 2))
    frame = pd.DataFrame(
        {
            "a": x[:, 0],
            "b": x[:, 0] + 0.1 * x[:, 1],
            "colour": np.where(x[:, 0] > 0, "red", "white"),
        }
    )
    frame.to_csv(path / "wine.csv", index=False)
    frame.iloc[:5].assign(b=np.nan).to_csv(path / "holes.csv", index=False)
    for data, out, n in (("digits", "run", "4"), (str(path / "wine.csv"), "wine.genus", "2")):
        assert (
            genus_command.main(
                ["fit", "GaussianMixture", data, "--out", str(path / out), "--n_components", n]
            )
            == 0
        )
    return path


@pytest.fixture
def here(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]):
    def call(*args: object, code: int = 0) -> tuple[str, str]:
        capsys.readouterr()
        assert genus_command.main([str(a) for a in args]) == code, capsys.readouterr().err
        out, err = capsys.readouterr()
        return out, err

    return call


# ---------------------------------------------------------------------- help


def test_help_needs_no_torch():
    text = (
        "import sys, genus_command as g; g.main(['--help']); assert not {'torch', 'numpy', "
        "'genus'} & set(sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", text], env=ENV, capture_output=True, text=True, check=True
    )
    for name, f in cli.COMMANDS.items():
        assert re.search(
            rf"^  {name} +{re.escape(genus_command.COMMANDS[name])}$",
            done.stdout,
            flags=re.MULTILINE,
        )
        assert f.__doc__ == genus_command.COMMANDS[name]
    assert genus_command.COMMANDS.keys() == cli.COMMANDS.keys()


@pytest.mark.parametrize("command", cli.COMMANDS)
def test_every_command_has_help_with_examples(command: str, run):
    out, _ = run(command, "--help")
    assert f"genus {command}" in out and "examples:" in out


def test_help_of_a_model_lists_its_arguments(run):
    out, _ = run("fit", "VAE", "--help")
    assert (
        "--latent_dim" in out
        and "Size of z" in out
        and "--trainer.epochs" in out
        and "--encoder" in out
    )


def test_no_command_and_wrong_commands(run):
    assert run(code=2)[1].startswith("usage: genus")
    assert "did you mean sample?" in run("sampel", code=2)[1]


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


def test_config_is_what_print_config_printed(here: Path, run):
    out, _ = run(
        "fit", "VAE", "digits", "--latent_dim", 3, "--trainer.max_steps", 4, "--print_config"
    )
    (here / "vae.yaml").write_text(out)
    assert "  max_steps: 4" in out
    run("fit", "--config", "vae.yaml", "--out", "again", "--latent_dim", 5)
    model = genus.load("again.genus")
    assert model.latent_dim == 5 and model.trainer.max_steps == 4


def test_resume_goes_on_from_the_checkpoint(here: Path, run):
    few = ["fit", "VAE", "digits", "--latent_dim", 2, "--trainer.schedule", "constant"]
    run(*few, "--out", "whole", "--trainer.epochs", 4)
    run(*few, "--out", "parts", "--trainer.epochs", 2)
    run(*few, "--out", "parts", "--trainer.epochs", 4, "--resume")
    whole, parts = genus.load("whole.genus"), genus.load("parts.genus")
    assert parts.n_steps_ == whole.n_steps_
    x = load("digits").test.X[:20]
    assert np.array_equal(whole.score_samples(x), parts.score_samples(x))


def test_ctrl_c_saves_the_model_and_exits_130(tmp_path: Path):
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
    while not (tmp_path / "run.checkpoint").exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    child.send_signal(signal.SIGINT)
    out, err = child.communicate(timeout=60)
    assert child.returncode == 130, err
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


def test_debug_shows_the_traceback(here: Path, run):
    assert "Traceback" in run("--debug", "sample", "absent", code=1)[1]


# ---------------------------------------------------------------------- the others


@pytest.mark.parametrize("ending", [".npy", ".npz", ".csv", ".json", ".parquet"])
def test_sample_to_a_file_of_every_sort(ending: str, here: Path, run):
    if ending == ".parquet":
        pytest.importorskip("pyarrow", reason="needs pyarrow to write Parquet")
    run("sample", "run", "-n", 6, "--out", "s" + ending, "--random_state", 3)
    expected = genus.load("run.genus").sample(6, random_state=3)
    read = {
        ".npy": np.load,
        ".npz": lambda p: np.load(p)["X"],
        ".csv": pd.read_csv,
        ".json": pd.read_json,
        ".parquet": pd.read_parquet,
    }[ending]("s" + ending)
    assert np.array_equal(np.asarray(read).reshape(expected.shape), expected)


def test_sample_to_a_picture(here: Path, run):
    run("sample", "run", "-n", 9, "--out", "s.png")
    assert (here / "s.png").read_bytes().startswith(b"\x89PNG")


def test_sample_to_stdout_is_csv(here: Path):
    done = shell("sample", "wine", "-n", 3, cwd=here)
    frame = pd.read_csv(io.StringIO(done.stdout))
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


def test_evaluate(here: Path, run):
    said = json.loads(run("evaluate", "run", "digits", "--samples", 60, "--json")[0])
    expected = genus.load("run.genus").log_prob(load("digits").test)
    assert (
        said["nats"] == pytest.approx(expected.mean())
        and said["kind"] == "lower bound"
        and said["samples"] == 60
    )
    assert 0 <= said["c2st"] <= 1 and said["memorisation"] == "no copying"


def test_compare_writes_the_report(here: Path):
    done = shell(
        *[
            "compare",
            "wine.csv",
            "--models",
            "GaussianMixture",
            "--GaussianMixture.n_components",
            2,
            "--samples",
            20,
        ],
        *["--report", "out.html", "--json"],
        cwd=here,
    )
    said = json.loads(done.stdout)
    assert {r["model"] for r in said["rows"]} == {
        "GaussianMixture",
        "IndependentHistogram",
        "Gaussian",
    }
    assert "The report is in out.html" in done.stderr and "GaussianMixture" in done.stderr
    page = (here / "out.html").read_text()
    assert "GaussianMixture(n_components=2" in page and "wine.csv" in page
    assert not [p for p in here.iterdir() if p.name.startswith(".")]


def test_a_reader_that_goes_away_is_no_error(here: Path):
    command = f"{sys.executable} -m genus sample run -n 3000 | head -1"
    done = subprocess.run(
        command, shell=True, cwd=here, env=ENV, capture_output=True, text=True, timeout=60
    )
    assert "cell (0, 0)" in done.stdout and done.stderr == ""


# ---------------------------------------------------------------------- files


def test_replacing_leaves_the_old_file_when_the_block_fails(tmp_path: Path):
    path = tmp_path / "x.csv"
    path.write_text("old")
    with pytest.raises(RuntimeError), replacing(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert path.read_text() == "old" and [p.name for p in tmp_path.iterdir()] == ["x.csv"]


def test_write_rows_keeps_the_permissions_of_a_new_file(tmp_path: Path):
    write_rows(tmp_path / "x.csv", np.zeros((2, 2)), genus.Space((2,)))
    (tmp_path / "y").write_text("")
    assert (tmp_path / "x.csv").stat().st_mode == (tmp_path / "y").stat().st_mode
