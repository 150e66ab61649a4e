"""The fine-tuned deep belief network: what is copied, what learns, and from which rows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import genus
from genus import DBN, RBM, DBNClassifier, Trainer

QUICK = Trainer(epochs=30, batch_size=20, lr=0.3)


def rows(n: int = 200, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    r = np.random.default_rng(seed)
    y = r.integers(0, 3, n)
    codes = np.array([[0, 0, 1, 1, 0, 1], [1, 1, 0, 0, 0, 1], [1, 0, 1, 0, 1, 0]])
    return codes[y] ^ (r.random((n, 6)) < 0.05), np.array(["a", "b", "c"])[y]


def some_labels() -> tuple[np.ndarray, np.ndarray]:
    """Rows of which every fourth has a label."""
    X, y = rows()
    return X, np.where(np.arange(len(y)) % 4, None, y)


def test_rows_without_a_label_count_for_the_stack() -> None:
    X, y = some_labels()
    m = DBNClassifier((8, 6), trainer=QUICK, random_state=0).fit(X, y)
    alone = DBN((8, 6), trainer=QUICK, random_state=0).fit(X)
    for ours, theirs in zip(m.dbn_.layers_, alone.layers_, strict=True):
        assert torch.equal(ours.W_, theirs.W_) and torch.equal(ours.c_, theirs.c_)
    held, labels = rows(seed=1)
    assert list(m.classes_) == ["a", "b", "c"] and m.score(held, labels) > 0.9


def test_fine_tuning_begins_at_the_stack_and_moves_all_of_it() -> None:
    X, y = rows()
    m = DBNClassifier((8, 6), trainer=QUICK, random_state=0).fit(X, y)
    tuned = [p.clone() for p in m.network_.parameters()]
    features = m.encode(X)
    m._copy_recognition()
    np.testing.assert_allclose(m.encode(X), m.dbn_.encode(X), atol=1e-6)
    assert np.abs(features - m.dbn_.encode(X)).max() > 0.05
    begin = list(m.network_.parameters())[:-2]
    assert all(not torch.equal(a, b) for a, b in zip(tuned, begin, strict=False))


def test_cells_that_are_missing() -> None:
    X, y = rows()
    gaps = np.where(np.random.default_rng(5).random(X.shape) < 0.15, np.nan, X)
    m = DBNClassifier((8, 6), trainer=QUICK.replace(epochs=90), random_state=0).fit(gaps, y)
    assert m.score(gaps, y) > 0.8 and np.isfinite(m.transform(gaps)).all()


@pytest.mark.parametrize(("learner", "steps"), [(RBM, 5), (RBM, 15), (DBNClassifier, 5)])
def test_it_is_saved_and_a_broken_run_goes_on(learner: Any, steps: int, tmp_path: Path) -> None:
    X, y = some_labels()
    trainer = Trainer(epochs=1, batch_size=20, schedule="constant")
    whole = DBNClassifier((8, 6), trainer=trainer, random_state=0).fit(X, y)
    cut = trainer.replace(checkpoint=tmp_path / "run", checkpoint_every=0.0)
    calls, losses = 0, learner.losses

    def stop(self: Any, *batch: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == steps:
            raise KeyboardInterrupt
        yield from losses(self, *batch)

    with pytest.MonkeyPatch.context() as patch, pytest.warns(UserWarning, match="interrupted"):
        patch.setattr(learner, "losses", stop)
        DBNClassifier((8, 6), trainer=cut, random_state=0).fit(X, y)
    again = DBNClassifier((8, 6), trainer=cut, random_state=0).fit(X, y, resume=True)
    for a, b in zip(whole.parameters(), again.parameters(), strict=True):
        assert torch.equal(a, b)
    whole.save(tmp_path / "m")
    loaded = genus.load(tmp_path / "m")
    assert np.array_equal(loaded.predict_proba(X), whole.predict_proba(X))
    ours, theirs = (m.dbn_.sample(5, random_state=0) for m in (loaded, whole))
    assert np.array_equal(ours, theirs)


def test_what_it_cannot_learn_from_is_told() -> None:
    X, y = rows()
    with pytest.raises(ValueError, match="DBNClassifier needs bits, words or .* use RBMClassifier"):
        DBNClassifier().fit(X + 0.5 * np.random.default_rng(0).normal(size=X.shape), y)
