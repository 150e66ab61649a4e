"""What the tests of the command line share."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import genus_command


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
