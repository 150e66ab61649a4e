"""Files: whole or an error, and no code in them."""

from __future__ import annotations

import hashlib
import os
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import safetensors.torch
import torch
from torch import nn

import genus
from genus import Trainer
from genus.files import StoreError, read, write
from toys import EBM, EM, GAN, Conditional, Stack, Toy, ToyVAE

X = np.random.default_rng(0).normal(size=(60, 3)) + 2


@pytest.fixture
def model() -> ToyVAE:
    return ToyVAE(trainer=Trainer(epochs=1), random_state=0).fit(X)


@pytest.fixture
def path(model: ToyVAE, tmp_path: Path) -> Path:
    model.save(tmp_path / "model.genus")
    return tmp_path / "model.genus"


def load(path: Path) -> Any:
    return genus.load(path, models=[ToyVAE, GAN, EBM, EM, Conditional, Stack, Toy])


def forged(
    path: Path, tensors: dict[str, torch.Tensor] | None = None, change: Any = None, **replaced: Any
) -> Path:
    """Rewrite the file at ``path`` with a good checksum; ``change(description)`` edits its JSON."""
    old, meta = read(path)
    if change is not None:
        change(meta["model"])
    meta |= replaced
    meta.pop("format") if "format" not in replaced else None
    write(path, old if tensors is None else tensors, meta)
    return path


# ---------------------------------------------------------------------- there and back


@pytest.mark.parametrize("cls", [ToyVAE, GAN, EBM, Stack, Conditional, EM])
def test_load_gives_the_same_model(cls: type, tmp_path: Path) -> None:
    given = {"given": (X[:, 0] > 2).astype(int)} if cls is Conditional else {}
    model = cls(random_state=0).fit(X, **given)
    model.save(tmp_path / "m")
    other = load(tmp_path / "m")
    assert type(other) is cls and repr(other) == repr(model)
    assert (
        other.history_ == model.history_
        and other.space_ == model.space_
        and other.n_features_in_ == 3
    )
    assert other.state_dict().keys() == model.state_dict().keys()
    assert all(
        torch.equal(a, b)
        for a, b in zip(other.state_dict().values(), model.state_dict().values(), strict=True)
    )
    assert all(not t.is_meta for t in [*other.buffers(), *other.parameters()])
    if hasattr(model, "sample"):
        one = {"given": 1} if cls is Conditional else {}
        assert np.array_equal(
            model.sample(9, random_state=5, **one), other.sample(9, random_state=5, **one)
        )
    if hasattr(model, "log_prob"):
        assert np.array_equal(model.log_prob(X, **given).nats, other.log_prob(X, **given).nats)
    other.fit(X, **given)  # and it can learn again
    assert not hasattr(other, "rng")


@pytest.mark.full
def test_a_fresh_process_gives_identical_scores_and_samples(path: Path, model: ToyVAE) -> None:
    script = f"""
import sys; sys.path.insert(0, {str(Path(__file__).parent)!r})
import numpy as np, genus, hashlib
from toys import ToyVAE
m = genus.load({str(path)!r}, models=[ToyVAE])
X = np.random.default_rng(0).normal(size=(60, 3)) + 2
told = m.score_samples(X).tobytes() + m.sample(7, random_state=1).tobytes()
print(hashlib.sha256(told).hexdigest())
"""
    env = {**os.environ, "PYTHONPATH": str(Path(genus.__file__).parents[1])}
    out = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, env=env, check=True
    ).stdout
    assert (
        out.strip()
        == hashlib.sha256(
            model.score_samples(X).tobytes() + model.sample(7, random_state=1).tobytes()
        ).hexdigest()
    )


def test_tables_keep_their_columns_and_sharing_models_their_names(tmp_path: Path) -> None:
    table = pd.DataFrame(
        {"a": X[:, 0], "word": np.where(X[:, 1] > 2, "yes", "no"), "n": np.arange(60)}
    )
    model = genus.Independent().fit(table)
    model.save(tmp_path / "m")
    other = genus.load(tmp_path / "m")
    assert other.sample(5, random_state=0).equals(model.sample(5, random_state=0))
    assert np.array_equal(other.feature_names_in_, ["a", "word", "n"])


def test_a_file_is_plain_safetensors(path: Path, model: ToyVAE) -> None:
    tensors = safetensors.torch.load_file(path)
    assert tensors.keys() == model.state_dict().keys()
    assert all(torch.equal(tensors[k], v) for k, v in model.state_dict().items())


def test_an_argument_that_cannot_be_stored_is_named(tmp_path: Path) -> None:
    model = ToyVAE(
        encoder=lambda i, o: nn.Sequential(nn.Flatten(), nn.Linear(i[0], o[0])), random_state=0
    ).fit(X)
    with pytest.raises(TypeError, match=r"ToyVAE\(encoder\)=<function"):
        model.save(tmp_path / "m")
    assert not list(tmp_path.iterdir())


class Wide:
    """A blueprint of the caller's own."""

    def __init__(self, width: int = 5) -> None:
        self.width = width

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        return {"width": self.width}

    def __call__(self, i: Any, o: Any) -> nn.Module:
        return nn.Sequential(nn.Linear(i[0], self.width), nn.Tanh(), nn.Linear(self.width, o[0]))


def test_a_callers_own_classes_are_passed_to_load(tmp_path: Path) -> None:
    model = ToyVAE(encoder=Wide(4), random_state=0).fit(X)
    model.save(tmp_path / "m")
    with pytest.raises(StoreError, match=r"holds a 'ToyVAE'.*models=\["):
        genus.load(tmp_path / "m")
    with pytest.raises(StoreError, match=r"'Wide'.*models=\["):
        load(tmp_path / "m")
    other = genus.load(tmp_path / "m", models=[ToyVAE, Wide])
    assert other.encoder.width == 4 and other.score(X) == model.score(X)


def test_an_unfitted_model_is_not_saved(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not fitted"):
        ToyVAE().save(tmp_path / "m")


# ---------------------------------------------------------------------- written whole or not at all


def test_folders_are_made_and_modes_are_the_users(tmp_path: Path, model: ToyVAE) -> None:
    model.save(tmp_path / "a" / "b" / "m")
    (tmp_path / "plain").write_text("")
    assert (tmp_path / "a" / "b" / "m").stat().st_mode == (tmp_path / "plain").stat().st_mode
    with pytest.raises(StoreError, match="folder"):
        load(tmp_path / "a")
    with pytest.raises(FileNotFoundError):
        load(tmp_path / "absent")


# ---------------------------------------------------------------------- damage


def test_a_newer_format_is_refused_clearly(path: Path) -> None:
    with pytest.raises(StoreError, match="format 3; this genus reads up to 2: upgrade genus"):
        load(forged(path, format=3))


def test_a_checkpoint_is_not_a_model(tmp_path: Path) -> None:
    ToyVAE(trainer=Trainer(epochs=1, checkpoint=tmp_path / "run")).fit(X)
    with pytest.raises(StoreError, match="training checkpoint, not a model"):
        load(tmp_path / "run")


# ------------------------------------------------------------- malice: good checksums, bad contents


def _mlp(**fields: Any) -> dict[str, Any]:
    return {"!": "MLP", "params": {"width": 8, "depth": 1, **fields}}


def _set(key: str, value: Any) -> Any:
    return lambda said: said["params"].__setitem__(key, value)


def _space(**fields: Any) -> Any:
    return lambda said: said["facts"]["space_"]["json"].update(fields)


HOSTILE: dict[str, Any] = {
    "width": _set("encoder", _mlp(width=10**12)),
    "wide": _set("encoder", _mlp(width=1 << 20)),
    "depth": _set("encoder", _mlp(depth=10**9)),
    "deep": _set("encoder", _mlp(depth=1000)),
    "latent": _set("latent_dim", 10**15),
    "negative": _set("latent_dim", -1),
    "type": _set("latent_dim", "two"),
    "argument": _set("no_such_argument", 1),
    "nested class": _set("encoder", {"!": "system", "params": {}}),
    "nested model": _set("encoder", {"!": "Independent", "params": {}}),
    "object": _set("encoder", {"!": "array", "dtype": "object", "values": ["x"]}),
    "no params": lambda said: said.pop("params"),
    "no facts": lambda said: said.pop("facts"),
    "no space": lambda said: said["facts"].pop("space_"),
    "no class": lambda said: said.pop("class"),
    "class": lambda said: said.__setitem__("class", "os.system"),
    "not a model": lambda said: said.__setitem__("class", "Trainer"),
    "abstract": lambda said: said.__setitem__("class", "Model"),
    "a list": lambda said: said.__setitem__("class", ["ToyVAE"]),
    "huge rows": _space(shape=[10**12]),
    "a million cells": _space(shape=[10**6]),
    "huge image": _space(shape=[10**6, 10**6]),
    "negative rows": _space(shape=[-3]),
    "categories": _space(kind="categorical", levels=10**12, values=None),
    "kind": _space(kind="magic"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_descriptions_are_errors_in_no_time_and_memory(name: str, path: Path) -> None:
    forged(path, change=HOSTILE[name])
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    begun = time.process_time()
    with pytest.raises(StoreError):
        load(path)
    assert time.process_time() - begun < 2
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 40_000  # KiB


def test_many_layers_are_stopped_before_they_are_built(path: Path) -> None:
    class Tower(Toy):
        def build(self, space: Any) -> None:
            self.layers = nn.ModuleList(nn.Linear(3, 3) for _ in range(10**7))

    forged(path, change=lambda said: said.update({"class": "Tower", "params": {}}))
    begun = time.process_time()
    with pytest.raises(StoreError, match="far more tensors"):
        genus.load(path, models=[Tower])
    assert time.process_time() - begun < 2


def test_unsaved_buffers_have_a_limit(path: Path) -> None:
    class Hoard(Toy):
        def build(self, space: Any) -> None:
            self.register_buffer("chains", torch.ones(10**12), persistent=False)

    forged(path, tensors={}, change=lambda said: said.update({"class": "Hoard", "params": {}}))
    with pytest.raises(StoreError, match="256 MiB"):
        genus.load(path, models=[Hoard])


def test_no_class_outside_the_list_is_called(path: Path) -> None:
    calls: list[Any] = []

    class Trap:
        def __init__(self, **kwargs: Any) -> None:
            calls.append(kwargs)

    forged(path, change=_set("encoder", {"!": "Trap", "params": {}}))
    with pytest.raises(StoreError, match="'Trap', which genus does not know"):
        load(path)
    assert calls == []


@pytest.mark.parametrize("change", ["missing", "extra", "shape", "transposed", "dtype"])
def test_tensors_that_do_not_fit(change: str, path: Path) -> None:
    tensors, _ = read(path)
    name = "decoder_.1.weight"
    if change == "missing":
        del tensors[name]
    elif change == "extra":
        tensors["more"] = torch.zeros(3)
    elif change == "shape":
        tensors[name] = torch.zeros(3, 3)
    elif change == "transposed":
        tensors[name] = tensors[name].T.contiguous()
    else:
        tensors[name] = tensors[name].long()
    with pytest.raises(StoreError, match=r"does not describe a working model|missing"):
        load(forged(path, tensors=tensors))


def test_hostile_models(tmp_path: Path) -> None:
    path = tmp_path / "f"
    deep: Any = 1
    for _ in range(500):
        deep = [deep]
    for model in (
        {},
        [],
        None,
        3,
        {"class": 3, "params": {}, "facts": {}},
        {"class": "ToyVAE", "params": {"latent_dim": deep}, "facts": {}},
    ):
        write(path, {}, {"model": model})
        with pytest.raises(StoreError):
            load(path)


def test_a_file_does_not_choose_where_a_checkpoint_is_written(tmp_path: Path) -> None:
    trainer = Trainer(epochs=1, checkpoint=tmp_path / "theirs", lr=0.02)
    ToyVAE(trainer=trainer, random_state=0).fit(X).save(tmp_path / "m")
    (tmp_path / "theirs").unlink()
    model = load(tmp_path / "m")
    assert model.trainer == trainer.replace(checkpoint=None)
    model.fit(X)
    assert not (tmp_path / "theirs").exists()


@pytest.mark.parametrize("family", ["Independent", "GaussianMixture", "VAE", "BayesNet"])
def test_saves_of_one_model_and_of_the_loaded_one_are_the_same_bytes(
    family: str, tmp_path: Path
) -> None:
    cls = getattr(genus, family)
    table = pd.DataFrame({"a": X[:, 0], "w": np.where(X[:, 1] > 2, "yes", "no")})
    settings = {"trainer": Trainer(max_steps=3)} if family == "VAE" else {}
    model = cls(**settings, random_state=0).fit(table)
    model.save(tmp_path / "a")
    model.save(tmp_path / "b")
    genus.load(tmp_path / "a").save(tmp_path / "c")
    first = (tmp_path / "a").read_bytes()
    assert first == (tmp_path / "b").read_bytes()
    assert first == (tmp_path / "c").read_bytes()
