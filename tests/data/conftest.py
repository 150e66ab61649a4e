"""What the tests of data share."""

import urllib.error

import numpy as np
import pytest

from genus.data import known


@pytest.fixture(autouse=True)
def nowhere(monkeypatch, tmp_path):
    """No data folder, no cache, no Debian package and no network, unless a test makes one."""
    monkeypatch.delenv("GENUS_DATA", raising=False)
    monkeypatch.setenv("GENUS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(known, "DEBIAN", {})

    def offline(url):
        raise urllib.error.URLError("no network")

    monkeypatch.setattr(known, "_get", offline)


@pytest.fixture
def mnist(tmp_path, monkeypatch):
    """A folder with a small mnist.npz."""
    rng = np.random.default_rng(0)
    arrays = {
        "x_train": rng.integers(0, 256, (6, 28, 28), np.uint8),
        "y_train": np.arange(6, dtype=np.uint8),
        "x_test": rng.integers(0, 256, (3, 28, 28), np.uint8),
        "y_test": np.arange(3, dtype=np.uint8),
    }
    np.savez(tmp_path / "mnist.npz", **arrays)
    monkeypatch.setenv("GENUS_DATA", str(tmp_path))
    return arrays
