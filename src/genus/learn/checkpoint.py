"""The whole state of a descent as tensors and JSON, and back, so that a run can be resumed.

A resumed run equals an uninterrupted one.
"""

from __future__ import annotations

import dataclasses
import math
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from genus import files
from genus.learn import checks, processes
from genus.learn.fit import State
from genus.learn.protocol import Learner
from genus.learn.rows import take_up
from genus.learn.run import Counters, Run

# settings that may change between the two halves of a run
FREE = {
    "epochs",
    "max_steps",
    "max_time",
    "checkpoint",
    "checkpoint_every",
    "progress",
    "patience",
    "device",
    "compile",
    "capture",
    "threads",
}


def save(run: Run) -> None:
    """Write the state of a descent between two steps to ``run.t.checkpoint``.

    Raises OSError that names the file. Of several processes the first writes.
    """
    if processes.rank():
        return
    path = Path(run.t.checkpoint or "")
    try:
        files.write(path, *pack(run))
    except OSError as e:
        raise type(e)(e.errno, f"the checkpoint {path} cannot be written: {e.strerror}") from e


def pack(run: Run) -> State:
    """(tensors, JSON) of a descent between two steps."""
    model = run.model
    average = run.average.state() if run.average else {}
    tensors = {f"model/{k}": v for k, v in everything(model).items()}
    tensors["rng"] = model.rng.get_state()
    tensors |= {f"ended/{stage}": rng for stage, rng in model._done.items()}
    tensors |= {f"ema/{k}": v for k, v in average.items()}
    tensors |= {f"best/{k}": v for k, v in (run.best or {}).items()}
    tensors |= {f"optim/{k}": v for k, v in run.players.state().items()}
    meta = {
        "stage": run.stage,
        "loop": {
            **dataclasses.asdict(run.at),
            "total": float(run.total),
            "history": run.history,
            "players": {n: [float(p.total), p.rows] for n, p in run.players},
        },
        "earlier": {
            "history": getattr(model, "history_", []),
            "steps": getattr(model, "n_steps_", 0),
        },
        "notes": notes(model),
        "work": run.work,
        "players": [name for name, _ in run.players],
        "scaler": run.scaler.state_dict() if run.scaler else None,
        "said": {k: v for k, v in files.describe(model).items() if k in ("class", "params")},
        "rows": fingerprints(run),
        "seed": run.fit.seed,
        "spent": time.perf_counter() - run.fit.begun,
    }
    return tensors, meta


def unpack(run: Run, tensors: dict[str, Tensor], meta: dict[str, Any]) -> None:
    """Take up the state of :func:`pack`, bit for bit.

    Raises ValueError when it was trained on other rows, StoreError where it is not of such a run.
    """
    here = fingerprints(run)
    with checks.naming_what_is_wrong():
        if meta["rows"] != here:
            raise ValueError(
                "the checkpoint was trained on other rows: "
                "resume on the same data, conditions and validation rows"
            )
        loop = meta["loop"]
        checks.check_loop(loop, Counters, run.batches)
        restore_model(run.model, tensors, meta)
        take_up(run.model.rng, tensors["rng"])
        run.at = Counters(**{f.name: loop[f.name] for f in dataclasses.fields(Counters)})
        run.history = list(loop["history"])
        run.total = loop["total"]
        run.work = _work(meta.get("work"))
        run.best = under(tensors, "best/") or None
        if run.best:
            kept = run.model.state_dict()
            checks.check_tensors("the best", run.best, kept, finite=run.weights)
        if run.average:
            run.average.load(under(tensors, "ema/"))
        if run.scaler and meta["scaler"]:
            checks.check_scaler(meta["scaler"])
            run.scaler.load_state_dict(meta["scaler"])
        run.players.load(meta["players"], under(tensors, "optim/"))
        for name, (total, rows) in loop.get("players", {}).items():
            player = run.players.by_name[name]
            player.total, player.rows = total, rows


def _work(value: Any) -> int | None:
    """The multiply-adds of a step, which a checkpoint may not know."""
    if value is not None and not (isinstance(value, int) and value >= 0):
        checks.refuse(f"work={value!r:.40}")
    return value


def fingerprints(run: Run) -> list[str | None]:
    """Digests of the rows learned from and of those held out."""
    return [None if rows is None else rows.fingerprint() for rows in (run.fit.rows, run.fit.held)]


def restore_model(model: Learner, tensors: dict[str, Tensor], meta: dict[str, Any]) -> None:
    """The model's own part of a checkpoint: parameters, buffers, history, stages it ended."""
    with checks.naming_what_is_wrong():
        saved, earlier = under(tensors, "model/"), meta["earlier"]
        checks.check_model(model, saved)
        checks.check_history(earlier["history"])
        if not isinstance(earlier["steps"], int):
            checks.refuse(f"its number of steps is {earlier['steps']!r:.40}")
        for name, module in model.named_modules():
            noted = meta.get("notes", {}).get(name, {})
            vars(module).update(checks.taken_notes(name, module, noted))
        put_back(model, saved)
        model.history_ = list(earlier["history"])
        model.n_steps_ = earlier["steps"]
        model._done = under(tensors, "ended/")


def read(resume: str | Path | bool, model: Learner, checkpoint: str | Path | None) -> State | None:
    """Read the checkpoint to resume from and make sure that it is of this very model.

    ``resume=True`` means the file ``checkpoint``, or a fresh start where there is none yet.
    """
    if resume is True:
        if checkpoint is None:
            raise ValueError(
                "resume=True needs trainer=Trainer(checkpoint='file'), the file to go on from"
            )
        if not Path(checkpoint).exists():
            return None
        resume = checkpoint
    tensors, meta = files.read(resume)  # type: ignore[arg-type]
    if "loop" not in meta:
        raise files.StoreError(
            f"{resume} is a saved model, not a training checkpoint: genus.load reads it"
        )
    here = files.describe(model)
    with checks.naming_what_is_wrong():
        _check_origin(resume, here, meta)
    return tensors, meta


def _check_origin(resume: Any, here: dict[str, Any], meta: dict[str, Any]) -> None:
    """Raise ValueError unless the checkpoint is of the model that ``here`` describes."""
    seed, spent = meta["seed"], meta["spent"]
    if not isinstance(seed, int) or not 0 <= seed < 2**63:
        checks.refuse(f"seed={seed!r:.40}")
    if not isinstance(spent, int | float) or not 0 <= spent < math.inf:
        checks.refuse(f"spent={spent!r:.40}")
    if not isinstance(meta["stage"], str):
        checks.refuse(f"stage={meta['stage']!r:.40}")
    there = meta["said"]
    if there["class"] != here["class"]:
        raise ValueError(f"{resume} is a checkpoint of {there['class']}, not of {here['class']}")
    own = {k: v for k, v in here["params"].items() if k != "trainer"}
    for new in _only_in(own, there["params"]):
        raise ValueError(
            f"{resume} was written by a version of genus whose {here['class']} had no {new}=: "
            "it cannot be gone on with; start anew"
        )
    for k, v in here["params"].items():
        if k != "trainer" and there["params"].get(k) != v:
            raise ValueError(
                f"{resume} was trained with {k}={there['params'].get(k)!r}, not {v!r}: "
                "resume with the same arguments"
            )
    mine, theirs = (
        (said["params"].get("trainer") or {}).get("params", {}) for said in (here, there)
    )
    for k in sorted((set(mine) | set(theirs)) - FREE):
        if mine.get(k) != theirs.get(k):
            raise ValueError(
                f"{resume} was trained with trainer {k}={theirs.get(k)!r}, not {mine.get(k)!r}: "
                "resume with the same settings"
            )


def _only_in(here: Any, there: Any) -> list[str]:
    """The names of settings that stand in one description alone, those of blueprints too."""
    found: list[str] = []
    if isinstance(here, dict) and isinstance(there, dict):
        same_class = here.get("!") == there.get("!")
        for name, value in here.items() if same_class else ():
            found += [name] if name not in there else _only_in(value, there[name])
    return found


def everything(model: Learner) -> dict[str, Tensor]:
    """Parameters and all buffers, those left out of state_dict (chains, replay buffers) too."""
    return {**dict(model.named_parameters()), **dict(model.named_buffers())}


def notes(model: Learner) -> dict[str, dict[str, Any]]:
    """Numbers, flags and words that a model's modules keep beside their tensors, by name."""
    found = {}
    for name, module in model.named_modules():
        if type(module).__module__.startswith("torch."):  # its layers keep none that change
            continue
        plain = {k: v for k, v in vars(module).items() if isinstance(v, bool | int | float | str)}
        found[name] = {k: v for k, v in plain.items() if k not in ("training", "interrupted_")}
    return found


def put_back(model: Learner, tensors: dict[str, Tensor]) -> None:
    """Copy the tensors of :func:`everything` back, in place where the shape is the same."""
    with torch.no_grad():
        for name, t in everything(model).items():
            saved = tensors[name]
            if saved.shape == t.shape:
                t.copy_(saved)
            else:
                path, _, leaf = name.rpartition(".")
                model.get_submodule(path)._buffers[leaf] = saved.to(t.device)


def under(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The tensors whose name begins with ``prefix``, without it."""
    return {k[len(prefix) :]: v for k, v in tensors.items() if k.startswith(prefix)}
