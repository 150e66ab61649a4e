"""What each process of tests/learn/test_processes.py runs: fits of rows of the contract.

    torchrun --nproc-per-node 2 tests/processes.py OUT NAME ...

The script says nothing of processes. Of all of them one writes OUT, the state of every model.
"""

from __future__ import annotations

import os
import pickle
import signal
import sys
import warnings
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

import torch

from contract import ROWS, Row, toy
from genus import Trainer

warnings.simplefilter("ignore")


def state_of(row: Row, kind: str) -> dict[str, torch.Tensor]:
    """The state of a row of the contract after three passes."""
    t, model = toy(kind), row.make()
    if getattr(model, "trainer", None) is not None:
        model.set_params(trainer=model.trainer.replace(epochs=3, validation=0.1))
    model.fit(t.X, space=t.space)
    return {name: value.double() for name, value in model.state_dict().items()}


def states(names: list[str]) -> dict[str, Any]:
    """The states of rows, each on its first kind of data and on mixed tables."""
    found: dict[str, Any] = {}
    for row in ROWS:
        if names and row.name not in names:
            continue
        for kind in dict.fromkeys((row.fits[0], "mixed" if "mixed" in row.fits else row.fits[0])):
            found[f"{row.name}-{kind}"] = state_of(row, kind)
    return found


def killed(folder: Path, resume: bool) -> Any:
    """A MADE with checkpoints, whose last process dies at its 20th step unless it resumes."""
    row = next(r for r in ROWS if r.name == "made")
    trainer = Trainer(epochs=10, batch_size=40, checkpoint=folder / "run", checkpoint_every=0)
    model = row.make().set_params(trainer=trainer)
    steps, losses = 0, type(model).losses

    def dying(self: Any, *batch: Any) -> Any:
        nonlocal steps
        steps += 1
        if steps == 20 and not resume and os.environ.get("RANK") == "1":
            os.kill(os.getpid(), signal.SIGKILL)
        yield from losses(self, *batch)

    type(model).losses = dying
    return model.fit(toy("binary").X, resume=resume or None)


if __name__ == "__main__":
    out, *names = sys.argv[1:]
    if names[:1] in (["die"], ["resume"]):
        model = killed(Path(out), names == ["resume"])
        model.save(Path(out) / "model.genus")
    else:
        found = states(names)
        if os.environ.get("RANK", "0") == "0":
            Path(out).write_bytes(pickle.dumps(found))
