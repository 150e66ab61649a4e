"""Write models and checkpoints, with the numbers they gave, for test_saved.py.

It was run once, with version 0.1 of genus, whose table of models it reads from tests/contract.py.
From a checkout of that version the run was

    PYTHONPATH=<old checkout>/src:<old checkout>/tests python tests/saved/make.py FOLDER

and FOLDER was tests/saved/0.1. It is kept to show where the files came from. A later version that
changes the format gets a folder of its own, and the files of earlier versions stay as they are.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

import genus
from contract import PREDICTORS, ROWS, questions, toy
from genus.models import bayesian_mlp

ROW = {row.name: row for row in ROWS}
CONDITIONS = {
    "realnvp": "continuous",
    "made": "binary",
    "pixelcnn": "image",
    "transformer": "categorical",
}
CHECKPOINTS = {
    "vae": "binary",
    "rbm": "binary",
    "realnvp": "continuous",
    "made": "binary",
    "pixelcnn": "image",
    "transformer": "categorical",
}


def main(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    print(f"genus {genus.__version__} of {genus.__file__}")
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    bayesian_mlp.WARM_UP = 20  # chains that begin to count early, as in test_predictors.py
    expected: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory() as scratch:
        os.chdir(scratch)  # checkpoints are named relative to it
        for row in ROWS:
            extra = [k for k in ("mixed", "image") if k in row.fits[1:]]
            for kind in (row.fits[0], *extra):
                name = f"{row.name}-{kind}.genus"
                model = row.fit(kind)
                model.save(folder / name)
                said = scores(model, kind)
                if hasattr(model, "sample"):
                    said["sample"] = cells(model.sample(4, random_state=3))
                expected[name] = {"sort": "model", "row": row.name, "kind": kind} | said
        for row_name, kind in CONDITIONS.items():
            name = f"{row_name}-{kind}-given.genus"
            model = ROW[row_name].fit(kind, given=labels(kind))
            model.save(folder / name)
            given = labels(kind)[:8]
            said = scores(model, kind, given=given)
            said["sample"] = cells(model.sample(4, given=given[:4], random_state=3))
            said["given"] = given.tolist()
            expected[name] = {"sort": "model", "row": row_name, "kind": kind} | said
        for row in PREDICTORS:
            name = f"{row.name}.genus"
            model = row.fit()
            model.save(folder / name)
            X, y = questions(row.task)
            expected[name] = {
                "sort": "predictor",
                "row": row.name,
                "kind": row.task,
                "predict": cells(model.predict(X[:8])),
                "log_prob": cells(model.log_prob(y[:8], given=X[:8]).nats),
                "sample": cells(model.sample(given=X[:4], random_state=3)),
            }
        for row_name, kind in CHECKPOINTS.items():
            name = f"checkpoint-{row_name}.genus"
            expected[name] = interrupted(row_name, kind, folder / name)
    with open(folder / "expected.json", "w", encoding="utf-8") as f:
        entries = (f"{json.dumps(k)}: {json.dumps(v)}" for k, v in expected.items())
        f.write("{\n" + ",\n".join(entries) + "\n}\n")


def interrupted(row_name: str, kind: str, path: Path) -> dict[str, Any]:
    """Leave at path the checkpoint of a run of 4 epochs that Ctrl-C ended after 2."""
    row, t = ROW[row_name], toy(kind)
    overrides = {"epochs": 4}
    whole = row.make()
    trainer = whole.trainer.replace(**overrides)
    whole.set_params(trainer=trainer).fit(t.X, space=t.space)

    file = Path("run.ckpt")
    file.unlink(missing_ok=True)
    saving = trainer.replace(checkpoint=file, checkpoint_every=0.0)
    cut, calls = row.make().set_params(trainer=saving), 0
    family = type(cut)
    losses, half = family.losses, 2 * -(-len(t.X) // trainer.batch_size)

    def stop(self: Any, *batch: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls > half:
            raise KeyboardInterrupt
        yield from losses(self, *batch)

    family.losses = stop
    try:
        cut.fit(t.X, space=t.space)
    finally:
        family.losses = losses
    path.write_bytes(file.read_bytes())

    resumed = row.make().set_params(trainer=trainer).fit(t.X, space=t.space, resume=path)
    assert (cut.n_steps_, resumed.n_steps_, whole.n_steps_) == (half, 2 * half, 2 * half)
    return {
        "sort": "checkpoint",
        "row": row_name,
        "kind": kind,
        "trainer": overrides,
        "steps": resumed.n_steps_,
        "log_prob": scores(resumed, kind)["log_prob"],
        "uninterrupted": scores(whole, kind)["log_prob"],
        "at_the_interruption": scores(cut, kind)["log_prob"],
    }


def scores(model: Any, kind: str, **given: Any) -> dict[str, Any]:
    """log p of the first 8 rows, of a model that has it."""
    if not hasattr(model, "log_prob"):
        return {}
    return {"log_prob": cells(model.log_prob(toy(kind).X[:8], **given).nats)}


def labels(kind: str) -> np.ndarray:
    """A whole number for each row that says something of its cells."""
    X = np.asarray(toy(kind).X, dtype=np.float64)
    X = X.reshape(len(X), -1)
    return (X - X.mean(0) > 0).sum(1)


def cells(X: Any) -> list[Any]:
    """The cells of rows of any sort in one list, as JSON holds them."""
    a = X.to_numpy(dtype=object) if isinstance(X, pd.DataFrame) else np.asarray(X)
    return [v.item() if isinstance(v, np.generic) else v for v in a.reshape(-1).tolist()]


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve())
