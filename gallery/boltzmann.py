"""Machines of bits on digits: an Ising model, CD against the gradient, filters, fantasies, gaps.

Writes boltzmann.png into the folder given (gallery/figures).
"""

from __future__ import annotations

import itertools
import sys
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import torch

matplotlib.use("Agg")
import matplotlib.pyplot as plt

import genus
from genus import DBM, DBN, RBM, BoltzmannMachine, Trainer

QUICK = Trainer(progress=False)
SHOWN = 16


def bits() -> tuple[np.ndarray, np.ndarray]:
    """Digits of 8 × 8 bits, to learn from and held out."""
    digits = genus.data.load("digits")
    train, test = (np.asarray(part.X) >= 8 for part in (digits.train, digits.test))
    return train.reshape(-1, 64).astype(int), test.reshape(-1, 64).astype(int)


def tiles(ax: plt.Axes, X: np.ndarray, title: str, colours: str = "gray_r") -> None:
    """Rows of 64 numbers as 8 × 8 images, in a grid of 4 × 4; what is missing is light grey."""
    most = np.nanmax(np.abs(X))
    X = np.where(np.isnan(X), 0.3 * most, X)
    low = -most if colours == "RdBu_r" else 0
    grid = np.full((4 * 9 + 1, 4 * 9 + 1), np.nan)
    for i, x in enumerate(X[:SHOWN]):
        r, c = 9 * (i // 4) + 1, 9 * (i % 4) + 1
        grid[r : r + 8, c : c + 8] = x.reshape(8, 8)
    shades = plt.get_cmap(colours).with_extremes(bad="#d8d8d8")
    ax.imshow(grid, cmap=shades, vmin=low, vmax=most)
    ax.set_title(title, fontsize=9)
    ax.set(xticks=[], yticks=[])


def ising(ax: plt.Axes) -> None:
    """⟨|m|⟩ of 3 × 3 spins with free edges at every temperature, enumerated and by chains."""
    edges = [(i, i + 1) for i in range(9) if i % 3 < 2] + [(i, i + 3) for i in range(6)]
    s = np.array(list(itertools.product((-1, 1), repeat=9)))
    bonds = sum(s[:, i] * s[:, j] for i, j in edges)
    m = BoltzmannMachine(states="spins", trainer=Trainer(epochs=1, progress=False), random_state=0)
    m.fit((s[:40] + 1) // 2)
    T = np.linspace(0.8, 6, 40)
    for temperature in T[::4]:
        with torch.no_grad():
            m.b_.zero_()
            m.base_.zero_()
            m.W_.zero_()
            for i, j in edges:
                m.W_[i, j] = 1 / temperature
        x = 2 * m.sample(2000, random_state=0) - 1
        ax.plot(temperature, np.abs(x.mean(1)).mean(), "o", color="#c04020", ms=4)
    exact = []
    for temperature in T:
        p = np.exp(bonds / temperature - (bonds / temperature).max())
        exact.append(p @ np.abs(s.mean(1)) / p.sum())
    ax.plot(T, exact, color="#204060")
    ax.set(xlabel="T", ylim=(0, 1))
    ax.set_title("Ising 3 × 3, ⟨|m|⟩:\nenumerated, and 2,000 draws", fontsize=9)


def gradient(m: RBM, v: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """Of the weighted sum of free energies of states v."""
    total = weight @ m.free_energy(v).double()
    return torch.cat([g.flatten() for g in torch.autograd.grad(total, [m.W_, m.b_, m.c_])])


def divergence(ax: plt.Axes) -> None:
    """How far the expected CD-k gradient is from the exact one, by the chain's own matrix."""
    r = np.random.default_rng(0)
    X = np.repeat(r.integers(0, 2, (200, 3)), 2, axis=1)
    for size, colour in ((1, "#204060"), (3, "#c04020")):
        m = RBM(4, centred=False, trainer=Trainer(epochs=1, progress=False), random_state=0).fit(X)
        with torch.no_grad():
            m.W_.copy_(size * torch.tensor(r.normal(size=(6, 4))))
        v = torch.tensor(list(itertools.product((0.0, 1.0), repeat=6)))
        h = torch.tensor(list(itertools.product((0.0, 1.0), repeat=4)))
        with torch.no_grad():
            e = torch.stack([m.energy(v, row.expand(len(v), -1)) for row in h], 1).double()
        up, down = torch.softmax(-e, 1), torch.softmax(-e, 0)
        P = up @ down.T
        start = torch.zeros(64, dtype=torch.float64)
        for row in X:
            start[int(row @ 2 ** np.arange(5, -1, -1))] += 1 / len(X)
        exact = gradient(m, v, start - torch.softmax(torch.logsumexp(-e, 1), 0))
        k = [1, 2, 4, 8, 16, 32, 64, 128]
        far = []
        for steps in k:
            cd = gradient(m, v, start - start @ torch.linalg.matrix_power(P, steps))
            far.append(float((cd - exact).norm() / exact.norm()))
        ax.loglog(k, far, "o-", ms=3, color=colour, label=f"weights of size {size}")
    ax.set(xlabel="k")
    ax.legend(fontsize=7)
    ax.set_title("expected CD-k, relative distance\nfrom the exact gradient", fontsize=9)


def free_energies(ax: plt.Axes, model: RBM, train: np.ndarray, test: np.ndarray) -> None:
    """Free energies of rows learned from, held out, and of noise."""
    noise = np.random.default_rng(0).random(test.shape) < train.mean(0)
    for X, name, colour in (
        (train, "learned from", "#204060"),
        (test, "held out", "#c04020"),
        (noise.astype(int), "pixels alone", "#909090"),
    ):
        ax.hist(model.free_energy(X), 30, density=True, histtype="step", color=colour, label=name)
    ax.legend(fontsize=7)
    ax.set(yticks=[], xlabel="nats")
    ax.set_title("free energy F(v) of an RBM", fontsize=9)


def annealing(ax: plt.Axes, model: RBM) -> None:
    """log Z by annealing forward and back, as the temperatures become more."""
    steps = [10, 30, 100, 300, 1000, 3000]
    found = [model.log_partition("ais", n_annealing=n) for n in steps]
    last = found[-1].value
    forward = [z.value - last for z in found]
    ax.errorbar(steps, forward, [z.stderr for z in found], fmt="o-", ms=3, label="forward")
    ax.plot(steps, [z.reverse - last for z in found], "s-", ms=3, label="back")
    ax.set(xscale="log", xlabel="temperatures")
    ax.legend(fontsize=7)
    ax.set_title("log Z by annealing,\nless the last value", fontsize=9)


def activities(ax: plt.Axes, q: list[np.ndarray]) -> None:
    """How certain mean field is of the units of either layer."""
    for means, name, colour in zip(q, ("h₁", "h₂"), ("#204060", "#c04020"), strict=True):
        ax.hist(means.flatten(), 40, density=True, histtype="step", color=colour, label=name)
    ax.set(yticks=[], xlabel="q", yscale="log")
    ax.legend(fontsize=7)
    ax.set_title("means of the DBM's units\nby mean field", fontsize=9)


def main(folder: Path) -> None:
    train, test = bits()
    models: dict[str, Any] = {
        "BoltzmannMachine": BoltzmannMachine(trainer=QUICK, random_state=0),
        "RBM": RBM(trainer=QUICK, random_state=0),
        "DBN": DBN(trainer=QUICK, random_state=0),
        "DBM": DBM(trainer=QUICK, random_state=0),
    }
    for model in models.values():
        model.fit(train)

    fig, axes = plt.subplots(4, 4, figsize=(10, 10.4), layout="constrained")
    ising(axes[0, 0])
    divergence(axes[0, 1])
    annealing(axes[0, 2], models["RBM"])
    free_energies(axes[0, 3], models["RBM"], train, test)
    for ax, (name, model) in zip(axes[1], models.items(), strict=True):
        p = model.log_prob(test)
        drawn = model.sample(SHOWN, random_state=0)
        tiles(ax, drawn, f"fantasies of {name}\n{p.symbol} {p.mean():.2f} nats")
    rbm = models["RBM"]
    W = rbm.W_.detach().numpy()
    strongest = np.argsort(-np.linalg.norm(W, axis=0))
    tiles(axes[2, 0], W.T[strongest], "filters of the RBM", "RdBu_r")
    for ax, name in zip(axes[2, 1:3], ("RBM", "DBM"), strict=True):
        way = models[name].gibbs(start=test[:1], steps=30, every=2, random_state=0)[:, 0]
        tiles(ax, way, f"a chain of {name} from one row,\n2 sweeps a picture")
    activities(axes[2, 3], models["DBM"].mean_field(test, random_state=0).q)
    gaps = np.where(np.arange(64) >= 32, np.nan, test[:SHOWN].astype(float))
    tiles(axes[3, 0], gaps, "lower halves are missing")
    for ax, name in zip(axes[3, 1:], ("RBM", "DBN", "DBM"), strict=True):
        tiles(ax, models[name].complete(gaps, random_state=0), f"filled in by {name}")
    folder.mkdir(parents=True, exist_ok=True)
    fig.savefig(folder / "boltzmann.png", dpi=70)
    for name, model in models.items():
        print(name, model.log_prob(test), "train", round(model.score(train), 2))
    print("Independent", genus.Independent().fit(train).score(test))


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent / "figures")
