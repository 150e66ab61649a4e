"""How much a step computes, and what follows from it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from genus import Trainer
from genus.learn import work
from toys import ToyVAE
from training import Slope, X, slope


def test_bfloat16_is_chosen_where_it_pays(monkeypatch: pytest.MonkeyPatch) -> None:
    class Wide(Slope):
        network_bound = True

    def dtype(native: bool, large: int, kind: type[Slope] = Wide, **settings: Any) -> torch.dtype:
        monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: native)
        monkeypatch.setattr(work, "LARGE_STEP", large)
        return kind(trainer=Trainer(epochs=1, **settings), random_state=0).fit(X).log[0]["dtype"]

    assert dtype(True, 150) is torch.bfloat16  # 25 rows x 6 parameters
    assert dtype(True, 151) is dtype(False, 150) is dtype(True, 150, Slope) is torch.float32
    assert dtype(True, 150, precision="float32") is torch.float32


def test_precision() -> None:
    assert slope(epochs=1).log[0]["dtype"] is torch.float32
    assert slope(epochs=1, precision="bfloat16").log[0]["dtype"] is torch.bfloat16
    assert slope(epochs=1, precision="float16").log[0]["dtype"] is torch.float16
    assert np.isfinite(
        ToyVAE(trainer=Trainer(precision="bfloat16"), random_state=0).fit(X).score(X)
    )
    assert not torch.is_autocast_enabled("cpu")


def test_threads() -> None:
    before = torch.get_num_threads()
    assert slope(epochs=1, threads=2).log[0]["threads"] == 2
    assert torch.get_num_threads() == before
