"""How much a step computes, and what follows from it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import genus
from genus import MLP, Trainer, files
from genus.learn import descent
from genus.learn.descent import Descent
from genus.learn.work import MultiplyAdds, using_threads
from toys import ToyVAE
from training import TOYS, Slope, X, extra, same, slope


class Wide(Slope):
    """25 rows times a matrix of 3 x 2: 150 multiply-adds a step."""

    may_use_bfloat16 = True

    def losses(self, x: torch.Tensor) -> Any:
        yield from super().losses(x)
        self.log.append({"product": (x.float() @ self.matrix_.new_ones(3, 2)).dtype})


class Plain(Wide):
    may_use_bfloat16 = False


@pytest.fixture
def native(monkeypatch: pytest.MonkeyPatch) -> None:
    """A processor that computes in bfloat16."""
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: True)


def dtype(large: int, kind: type[Slope] = Wide, **settings: Any) -> torch.dtype:
    """The type of a product in the first step."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(descent, "LARGE_STEP", large)
        model = kind(trainer=Trainer(epochs=1, **settings), random_state=0).fit(X)
    return model.log[1]["product"]


def test_bfloat16_is_chosen_where_it_pays(native: None, monkeypatch: pytest.MonkeyPatch) -> None:
    assert dtype(150) is torch.bfloat16
    assert dtype(151) is torch.float32
    assert dtype(150, Plain) is torch.float32
    assert dtype(150, precision="float32") is torch.float32
    assert dtype(151, precision="bfloat16") is torch.bfloat16
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)
    assert dtype(150) is torch.float32


def test_one_thread_is_chosen_for_small_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    def threads(small: int, **settings: Any) -> int:
        monkeypatch.setattr(descent, "SMALL_STEP", small)
        model = Plain(trainer=Trainer(epochs=1, **settings), random_state=0).fit(X)
        return model.log[0]["threads"]

    with using_threads(2):
        assert threads(151) == 1
        assert threads(150) == 2
        assert threads(150, threads=1) == 1
        assert threads(151, threads=2) == 2
        assert torch.get_num_threads() == 2


@pytest.mark.parametrize(
    ("f", "count"),
    [
        (lambda: nn.Linear(3, 4)(torch.ones(25, 3)), 25 * 3 * 4),
        (lambda: torch.ones(2, 5, 3) @ torch.ones(2, 3, 7), 2 * 5 * 3 * 7),
        (lambda: nn.Conv2d(2, 4, 3, padding=1)(torch.ones(5, 2, 8, 6)), 5 * 8 * 6 * 2 * 4 * 9),
        (
            lambda: F.scaled_dot_product_attention(*[torch.ones(2, 4, 16, 8)] * 3),
            2 * (2 * 4 * 16 * 16 * 8),
        ),
        (lambda: torch.ones(9).exp(), 0),
    ],
    ids=["linear", "products", "convolution", "attention", "elementwise"],
)
def test_multiply_adds(f: Any, count: int) -> None:
    with MultiplyAdds() as work:
        f()
    assert work.count == count


@pytest.mark.parametrize("cls", [*TOYS, Wide])
def test_counting_leaves_no_trace(cls: type, monkeypatch: pytest.MonkeyPatch) -> None:
    """The model trains bit for bit as if nobody had counted."""
    args = {"encoder": MLP(8, 1, dropout=0.3)} if cls is ToyVAE else {}
    counts: list[int] = []

    def fit() -> Any:
        return cls(random_state=3, trainer=Trainer(epochs=2), **args).fit(X, **extra(cls))

    monkeypatch.setattr(Descent, "choose", lambda self: None)
    plain = fit()
    monkeypatch.setattr(Descent, "choose", lambda self: counts.append(self.count_work()))
    counted = fit()
    assert min(counts) > 0
    assert same(plain, counted)
    assert vars(plain).keys() == vars(counted).keys()
    if cls is Wide:
        assert plain.log == counted.log


def test_a_resumed_run_chooses_as_before(
    native: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(descent, "LARGE_STEP", 150)
    counts: list[int] = []
    count_work = Descent.count_work

    def counted(self: Descent) -> int:
        counts.append(count_work(self))
        return counts[-1]

    monkeypatch.setattr(Descent, "count_work", counted)
    path = tmp_path / "run"

    def fit(epochs: int) -> Wide:
        trainer = Trainer(epochs=epochs, checkpoint=path)
        return Wide(trainer=trainer, random_state=0).fit(X, resume=True)

    fit(1)
    assert counts == [150]
    tensors, meta = files.read(path)
    assert meta["work"] == 150
    assert fit(2).log[1]["product"] is torch.bfloat16
    assert counts == [150]  # not again
    meta.pop("work")
    files.write(path, tensors, meta)  # as earlier versions wrote it
    assert fit(2).log[1]["product"] is torch.bfloat16
    assert counts == [150, 150]


def test_an_error_while_counting_names_the_step(native: None) -> None:
    class Fails(Wide):
        def losses(self, x: torch.Tensor) -> Any:
            raise RuntimeError("out of memory")
            yield

    with pytest.raises(RuntimeError, match="out of memory") as e:
        Fails().fit(X)
    assert e.value.__notes__ == ["(while training Fails, epoch 1, step 1)"]


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


POOL = """
import multiprocessing
import numpy as np, torch, genus
torch.set_num_threads(2)
X = np.random.default_rng(0).normal(size=(4000, 64))
trainer = genus.Trainer(max_steps=5, threads=2, progress=False)
model = genus.VAE(trainer=trainer, random_state=0).fit(X)
mixture = genus.GaussianMixture(4, random_state=0, max_iter=5, tol=0.0).fit(X)
def ask(i):
    again = genus.VAE(trainer=trainer, random_state=0).fit(X)
    return mixture.score(X), model.score(X[:500]), again.score(X[:500])
with multiprocessing.get_context("fork").Pool(2) as pool:
    told = pool.map(ask, range(2))
assert np.allclose(told[0], told[1]) and np.allclose(told[0], ask(0), rtol=1e-3)
print(torch.get_num_threads())
"""


@pytest.mark.full
@pytest.mark.skipif(sys.platform == "win32", reason="there are no forks")
def test_forks_of_a_process_that_used_threads_do_not_wait_for_them() -> None:
    env = {k: v for k, v in os.environ.items() if not k.endswith("_NUM_THREADS")}
    env["PYTHONPATH"] = str(Path(genus.__file__).parents[1])
    done = subprocess.run(
        [sys.executable, "-c", POOL],
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
        env=env,
    )
    assert done.stdout == "2\n", done.stderr
