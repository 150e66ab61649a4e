"""EM, counting and closed forms."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from genus.learn.fit import DivergenceError
from genus.learn.rows import Rows
from toys import EM
from training import X


def test_em_converges_resumes_and_is_interrupted(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    X = np.concatenate(
        [
            np.random.default_rng(0).normal(-3, 1, (50, 2)),
            np.random.default_rng(1).normal(3, 1, (50, 2)),
        ]
    )
    whole = EM(random_state=0, max_iter=30).fit(X)
    values = [-line["objective"] for line in whole.history_]
    assert np.all(np.diff(values) > -1e-9)
    half = EM(random_state=0, max_iter=2).fit(X)
    half.save(tmp_path / "half")
    for go_on in (
        half.set_params(max_iter=30).fit(X, resume=True),
        EM(max_iter=30).fit(X, resume=tmp_path / "half"),
    ):
        assert torch.equal(go_on.means_, whole.means_) and len(go_on.history_) == len(
            whole.history_
        )

    def interrupt(self: EM, sums: Any) -> None:
        EM_maximise(self, sums)
        if len(values) and self.weights_[0] != 0.5:
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.01)

    EM_maximise = EM.maximise
    monkeypatch.setattr(EM, "maximise", interrupt)
    with pytest.warns(UserWarning, match="interrupted at iteration 1"):
        model = EM(random_state=0).fit(X)
    assert model.interrupted_ and np.isfinite(model.score(X))


def test_em_stops_at_a_number_that_is_none() -> None:
    class Breaks(EM):
        def maximise(self, sums: Any) -> None:
            self.means_ = self.means_ * float("nan")

    with pytest.raises(DivergenceError, match="iteration 2"):
        Breaks().fit(X)


def test_sums_do_not_depend_on_the_chunk() -> None:
    from genus.learn.sums import accumulate

    model = EM(random_state=0).fit(X)
    model.rng = torch.Generator()
    a, b = (accumulate(model, Rows(torch.from_numpy(X)), chunk) for chunk in (7, 1000))
    assert all(torch.allclose(a[k].double(), b[k].double(), rtol=1e-12) for k in a)
