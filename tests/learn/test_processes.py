"""One fit in several processes."""

from __future__ import annotations

import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import genus
from genus.learn import processes
from genus.learn.processes import OwnNoise, Part
from genus.learn.rows import generator
from processes import killed, states

SCRIPT = Path(__file__).parents[1] / "processes.py"
# what rounding decides, and why: (the row, the part of its state)
BY_ROUNDING = {
    ("gan-wasserstein", "critic_"): "the gradient of its last bias is 0, of which Adam makes steps",
    ("gan-wasserstein", "generator_"): "it follows that critic",
    ("autoencoder", "density_"): "clusters of its codes, from which the mixture starts",
}


MANY = ("dbm", "hierarchical-vae", "pixelrnn")  # sweeps or layers, which carry rounding on


def torchrun(n: int, out: Path, *names: str, code: int = 0) -> str:
    """Run the script of these tests in n processes; what they said."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    done = subprocess.run(
        [*command, f"--nproc-per-node={n}", str(SCRIPT), str(out), *names],
        capture_output=True,
        text=True,
        timeout=1200,
    )
    assert (done.returncode != 0) == code, done.stderr[-3000:]
    return done.stdout + done.stderr


def check_equal(alone: dict[str, Any], together: dict[str, Any]) -> None:
    """States are equal to what rounding of float32 leaves after a few steps."""
    assert alone.keys() == together.keys()
    off = {}
    for name, state in alone.items():
        row = name.rsplit("-", 1)[0]
        bar = 1e-4 if row.startswith(MANY) else 1e-6
        for key, value in state.items():
            if any(row == r and key.startswith(part) for r, part in BY_ROUNDING):
                continue
            gap = (value - together[name][key]).abs() / (1 + value.abs())
            if (gap > bar).any():
                off[name] = f"{key}: {float(gap.nan_to_num().max()):.1e}"
    assert not off


def test_two_processes_fit_the_model_of_one(tmp_path: Path) -> None:
    """By gradient, by EM and by counting: the script is one that knows nothing of processes."""
    names = ["vae", "mixture-full", "bayesnet"]
    said = torchrun(2, tmp_path / "out", *names)
    assert "ProcessGroup" not in said
    together = pickle.loads((tmp_path / "out").read_bytes())
    check_equal(states(names), together)
    assert all(t.abs().sum() > 0 for t in together["vae-mixed"].values() if t.numel() > 10)


@pytest.mark.full
@pytest.mark.parametrize("n", [2, 4])
def test_every_model_is_that_of_one_process(n: int, tmp_path: Path) -> None:
    torchrun(n, tmp_path / "out")
    check_equal(states([]), pickle.loads((tmp_path / "out").read_bytes()))


@pytest.mark.full
def test_a_run_goes_on_after_a_process_was_killed(tmp_path: Path) -> None:
    said = torchrun(2, tmp_path, "die", code=1)
    assert "SIGKILL" in said and "fit(X, resume=True) goes on from the last checkpoint" in said
    assert (tmp_path / "run").exists() and not (tmp_path / "model.genus").exists()
    torchrun(2, tmp_path, "resume")
    whole = tmp_path / "whole"
    whole.mkdir()
    alone = killed(whole, False)
    model = genus.load(tmp_path / "model.genus")
    for name, value in alone.state_dict().items():
        torch.testing.assert_close(model.state_dict()[name], value, rtol=1e-4, atol=1e-5)


DRAWS = {
    "rand": lambda n, rng: torch.rand(n, 3, generator=rng),
    "randn": lambda n, rng: torch.randn((5, n, 2), generator=rng, dtype=torch.float64),
    "points": lambda n, rng: torch.randn(6, n, 2, generator=rng),
    "size": lambda n, rng: torch.randn(size=(n,), generator=rng),
    "randint": lambda n, rng: torch.randint(2, 9, (n, 4), generator=rng),
    "bernoulli": lambda n, rng: torch.bernoulli(torch.full((n, 3), 0.3), generator=rng),
    "multinomial": lambda n, rng: torch.multinomial(torch.ones(n, 6), 2, generator=rng),
    "words": lambda n, rng: torch.multinomial(torch.ones(6), n, replacement=True, generator=rng),
    "normal": lambda n, rng: torch.normal(torch.zeros(n, 3), 1.0, generator=rng),
    "normal_": lambda n, rng: torch.empty(n, 20).normal_(generator=rng),
    "exponential_": lambda n, rng: torch.empty(2, n).exponential_(generator=rng),
}


@pytest.mark.parametrize("name", DRAWS)
def test_a_row_has_the_same_noise_in_any_company(name: str) -> None:
    draw, whole, rng = DRAWS[name], generator(3), generator(3)
    expected = draw(17, whole)
    with OwnNoise(rng, Part(5, 11, 17, 6 / 17)):
        own = draw(6, rng)
        again = torch.rand(2, 2, generator=rng)
    axis = expected.shape.index(17)
    assert torch.equal(own, expected.narrow(axis, 5, 6))
    assert torch.equal(again, torch.rand(2, 2, generator=whole))  # and what belongs to no row


def test_draws_of_a_chain_belong_to_no_row() -> None:
    rng = generator(0)
    with OwnNoise(rng, Part(0, 4, 8, 0.5)), processes.common():
        chain = torch.rand(4, 2, generator=rng)
    assert torch.equal(chain, torch.rand(4, 2, generator=generator(0)))


def test_alone_nothing_is_shared() -> None:
    rng, batch = generator(0), (torch.ones(3, 1),)
    with processes.shared(batch, rng) as (part, share):
        assert part is batch and share == 1
        assert processes.rows_of_batch(3) == 3
        for same in (processes.own_rows, processes.all_rows, processes.over_batch):
            assert same(batch[0]) is batch[0]
    assert processes.mean(2.0, 1.0) == 2.0 and processes.agreed(0.5) == 0.5
    assert processes.agreed_seed(7) == 7 and not processes.any_of(False)
    assert list(processes.mine(range(0, 10, 5))) == [0, 5]
    sums = {"n": torch.ones(1)}
    assert processes.add_up(sums) is sums
    processes.check_same_rows("x")


def test_only_torchrun_makes_a_group(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "1")
    monkeypatch.setenv("RANK", "0")
    processes.start()
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("GENUS_PROCESS", "1")  # a worker of a process that is one of them
    processes.start()
    assert processes.count() == 1 and processes.rank() == 0
    assert np.isfinite(genus.Gaussian().fit(np.eye(5)[:, :2]).mean_).all()
