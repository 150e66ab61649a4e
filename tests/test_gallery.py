"""Scripts of the gallery that also stand as measurements, in a small version."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import genus

GALLERY = Path(__file__).parents[1] / "gallery"


def script(name: str) -> Any:
    spec = importlib.util.spec_from_file_location(name, GALLERY / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def test_images_given_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    s = script("images_given_images")
    digits = genus.data.load("digits")
    X, T = (np.asarray(part.X)[:n] * 15 for part, n in ((digits.train, 300), (digits.test, 12)))
    X, T = X.astype(np.uint8), T.astype(np.uint8)
    task = s.Task("super-resolution", s.halved(X), X, s.halved(T), T)
    monkeypatch.setattr(s, "MODELS", {"VAE": genus.VAE, "PixelCNN": genus.PixelCNN})
    found = s.table(task, genus.Trainer(max_steps=3, progress=False), tmp_path)
    assert list(found.index) == ["VAE", "PixelCNN"]
    assert (found["PSNR of the mean"] >= found["PSNR of one"]).all()
    assert (found["diversity"].astype(float) > 0).all()
    assert (tmp_path / "given_super_resolution.png").stat().st_size > 5000


def test_a_question_keeps_what_the_task_says() -> None:
    s = script("images_given_images")
    X = np.arange(16, dtype=np.uint8).reshape(1, 4, 4)
    assert s.halved(X).tolist() == [[[2, 4], [10, 12]]]
    assert s.left_half(X).shape == (1, 4, 2)
    assert s.psnr(np.zeros((1, 2, 2)), np.full((1, 2, 2), 25.5)) == pytest.approx(20)
    assert s.grey(np.full((1, 1, 1, 3), 200, np.uint8)).tolist() == [[[200]]]
