"""Two ways to a posterior: draws of a Markov chain beside a Gaussian fitted by its ELBO.

Two hidden numbers and their product: y = a b + noise, a, b ~ N(0, 1). What is seen tells a b and
neither of them, so that the posterior of (a, b) is two banks that mirror each other. Hamiltonian
Monte Carlo follows a bank all along and hardly ever crosses, which R-hat tells: chains on both
banks look right together, and are worth few draws. A Gaussian with independent coordinates, fitted
by the reparameterised gradient, and one with a full covariance are quick, sit on one bank, and are
too narrow. All are judged against the posterior on a grid.

Writes mcmc_and_vi.png into the folder given (gallery/figures), and prints for each way the seconds,
the means and standard deviations, and KL or R-hat.
"""

from __future__ import annotations

import math
import sys
import time
from pathlib import Path

import matplotlib
import numpy as np
import torch
from torch import Tensor

matplotlib.use("Agg")
import matplotlib.pyplot as plt

from genus.learn.rows import generator
from genus.samplers.chains import hmc
from genus.samplers.diagnostics import autocorrelation_time, r_hat

SEEN, NOISE = 1.0, 0.25  # y and σ
SIDE = 3.0  # of the grid


def log_p(v: Tensor) -> Tensor:
    """log p(a, b, y) of points v (n, 2)."""
    prior = -0.5 * v.square().sum(1) - math.log(2 * math.pi)
    error = (SEEN - v[:, 0] * v[:, 1]) / NOISE
    return prior - 0.5 * error.square() - math.log(NOISE * math.sqrt(2 * math.pi))


def on_grid(n: int = 400) -> tuple[np.ndarray, np.ndarray, float]:
    """(the axis, log p(a, b | y) on n × n points, log p(y))."""
    axis = torch.linspace(-SIDE, SIDE, n, dtype=torch.float64)
    a, b = torch.meshgrid(axis, axis, indexing="ij")
    joint = log_p(torch.stack([a.flatten(), b.flatten()], 1)).reshape(n, n)
    evidence = float(torch.logsumexp(joint.flatten(), 0)) + 2 * math.log(float(axis[1] - axis[0]))
    return axis.numpy(), (joint - evidence).numpy(), evidence


def by_hmc(chains: int = 8, steps: int = 1500) -> tuple[np.ndarray, float, float]:
    """(points (steps, chains, 2), R-hat, effective number of draws) of chains from the prior."""
    rng = generator(0)
    v = torch.randn(chains, 2, generator=rng, dtype=torch.float64)
    path = []
    for t in range(steps + 200):
        v, _ = hmc(lambda u: -log_p(u), v, 1, 0.15, 8, rng)
        if t >= 200:
            path.append(v)
    points = torch.stack(path)
    trace = points[:, :, 0]
    return points.numpy(), r_hat(trace), steps * chains / autocorrelation_time(trace)


def by_elbo(full: bool, steps: int = 1500) -> tuple[np.ndarray, np.ndarray, float]:
    """(mean, covariance, ELBO) of a Gaussian q, by Adam on the reparameterised gradient."""
    rng = generator(1)
    m = torch.tensor([1.0, 1.0], dtype=torch.float64, requires_grad=True)
    log_s = torch.full((2,), -1.0, dtype=torch.float64, requires_grad=True)
    low = torch.zeros((), dtype=torch.float64, requires_grad=True)
    adam = torch.optim.Adam([m, log_s, low] if full else [m, log_s], 0.02)

    def elbo(n: int) -> Tensor:
        e = torch.randn(n, 2, generator=rng, dtype=torch.float64)
        below = low if full else torch.zeros_like(low)
        v = m + torch.stack(
            [log_s[0].exp() * e[:, 0], below * e[:, 0] + log_s[1].exp() * e[:, 1]], 1
        )
        return log_p(v).mean() + log_s.sum() + 1 + math.log(2 * math.pi)

    for _ in range(steps):
        adam.zero_grad()
        (-elbo(64)).backward()
        adam.step()
    with torch.no_grad():
        root = torch.diag(log_s.exp())
        root[1, 0] = low if full else 0.0
        return m.detach().numpy(), (root @ root.T).numpy(), float(elbo(100_000))


def main(folder: Path) -> None:
    axis, log_posterior, evidence = on_grid()
    cell = float(axis[1] - axis[0]) ** 2
    p = np.exp(log_posterior) * cell
    spread = math.sqrt(float((p.sum(1) * axis**2).sum()))
    print(f"truth by a grid: log p(y) = {evidence:.3f}; a has mean 0 and sd {spread:.3f}")
    begun = time.perf_counter()
    points, rhat, draws = by_hmc()
    a = points[:, :, 0]
    print(
        f"HMC: {time.perf_counter() - begun:.1f} s, mean {a.mean():+.3f}, sd {a.std():.3f}, "
        f"R-hat {rhat:.3f}, {a.size} points worth {draws:.0f} draws"
    )
    found = {}
    for name, full in (("mean field", False), ("full covariance", True)):
        begun = time.perf_counter()
        found[name] = by_elbo(full)
        mean, cov, bound = found[name]
        print(
            f"{name}: {time.perf_counter() - begun:.1f} s, mean {mean[0]:+.3f}, "
            f"sd {math.sqrt(cov[0, 0]):.3f}, KL(q‖p) = log p(y) − ELBO = {evidence - bound:.3f}"
        )
    fig, axes = plt.subplots(1, 4, figsize=(12, 3.4), sharex=True, sharey=True)
    titles = ("the posterior, on a grid", f"HMC, R-hat {rhat:.2f}", *found)
    for ax, title in zip(axes, titles, strict=True):
        ax.contourf(axis, axis, np.exp(log_posterior).T, 12, cmap="Greys")
        ax.set_title(title, fontsize=10)
        ax.set(aspect="equal", xlim=(-SIDE, SIDE), ylim=(-SIDE, SIDE))
        ax.set_xlabel("a")
    axes[0].set_ylabel("b")
    one = points[:, 0]
    axes[1].plot(*one[:150].T, lw=0.6, color="#1f77b4", alpha=0.7)
    axes[1].plot(*points[::6].reshape(-1, 2).T, ".", ms=1.2, color="#c8402f", alpha=0.5)
    turn = np.linspace(0, 2 * math.pi, 200)
    for ax, (mean, cov, bound) in zip(axes[2:], found.values(), strict=True):
        root = np.linalg.cholesky(cov)
        for k in (1, 2):
            ax.plot(*(mean[:, None] + k * root @ [np.cos(turn), np.sin(turn)]), color="#c8402f")
        ax.text(-2.8, 2.6, f"KL(q‖p) = {evidence - bound:.2f} nats", fontsize=9)
    axes[1].text(-2.8, 2.6, f"{a.size:,} points, worth {draws:,.0f}", fontsize=9)
    fig.tight_layout()
    folder.mkdir(parents=True, exist_ok=True)
    fig.savefig(folder / "mcmc_and_vi.png", dpi=110, facecolor="white")
    plt.close(fig)


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).parent / "figures"))
