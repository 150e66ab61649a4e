"""Where a descent stands between two steps."""

from __future__ import annotations

import dataclasses
import json

import pytest
import torch

from genus import Trainer
from genus.learn.fit import Fit
from genus.learn.rows import Rows
from genus.learn.run import Counters, Run
from toys import ToyVAE
from training import X


def run(stage: str = "", **settings: object) -> Run:
    model = ToyVAE(trainer=Trainer(epochs=1), random_state=0).fit(X)
    return Run(model, Fit(Rows(torch.from_numpy(X))), Trainer(**settings), stage)


def test_a_run_begins_at_the_first_step_of_the_first_pass() -> None:
    r = run()
    assert r.at == Counters() and r.history == [] and r.best is None
    assert r.where() == "epoch 1, step 1"
    assert run("first").where() == "first epoch 1, step 1"


def test_a_pass_ends_where_the_next_begins() -> None:
    r = run()
    r.at.step, r.at.batch, r.total = 7, 7, 3.5
    r.next_pass()
    assert (r.at.epoch, r.at.batch, r.total, r.at.step) == (1, 0, 0.0, 7)
    assert r.where() == "epoch 2, step 8"


def test_counters_go_through_a_file() -> None:
    at = Counters(step=7, epoch=1, lr_scale=0.5, scale=2.0)
    assert Counters(**json.loads(json.dumps(dataclasses.asdict(at)))) == at


def test_weights_are_averaged_where_it_is_asked_for() -> None:
    assert run().average is None
    assert run(ema=0.9).average is not None


def test_settings_are_whole_and_in_range() -> None:
    assert None not in (run().t.lr, run().t.batch_size, run().t.optimizer)
    with pytest.raises(ValueError, match="lr"):
        run(lr=-1.0)


def test_an_error_says_which_model_met_it_and_where() -> None:
    with pytest.raises(RuntimeError) as e, run("second").naming_errors():
        raise RuntimeError("out of memory")
    assert e.value.__notes__ == ["(while training ToyVAE, second epoch 1, step 1)"]
