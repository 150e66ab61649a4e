"""Denoisers: paths, scores and a bound in the plane; digits on the way from noise; guidance; steps.

Writes diffusion_plane.png and diffusion_digits.png into the folder given (gallery/figures).
"""

from __future__ import annotations

import itertools
import sys
from pathlib import Path

import matplotlib
import numpy as np
import torch
from sklearn.datasets import make_moons

matplotlib.use("Agg")
import matplotlib.pyplot as plt

import genus


def plane(folder: Path) -> None:
    """Where noise goes, which way the score points at three noises, the bound by steps."""
    X, _ = make_moons(2000, noise=0.06, random_state=0)
    quick = genus.Trainer(epochs=60, progress=False)
    model = genus.FlowMatching(trainer=quick, random_state=0).fit(X)
    fig, axes = plt.subplots(1, 5, figsize=(14, 3))
    times = model.path().times(30)
    x = torch.randn(250, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    way = [x]
    with torch.no_grad():
        for t, s in itertools.pairwise(times):
            x = x * model.path().radius(t)
            x = genus_heun(model, x, torch.stack([t, s])) / model.path().radius(s)
            way.append(x)
    paths = torch.stack(way)
    for i in range(250):
        axes[0].plot(*paths[:, i].T, color="#7a8fa6", lw=0.4)
    axes[0].scatter(*paths[-1].T, s=4, color="#b03a2e", zorder=3)
    axes[0].set_title("paths from noise to data", fontsize=9)
    ticks = torch.linspace(-2.6, 2.6, 22, dtype=torch.float64)
    grid = torch.cartesian_prod(ticks, ticks)
    y, _ = model.real(torch.from_numpy(X[:600]), torch.Generator().manual_seed(0))
    for ax, angle in zip(axes[1:4], (1.2, 0.7, 0.25), strict=True):
        t = model.path().time(torch.tensor(angle, dtype=torch.float64))
        with torch.no_grad():
            _, e = model.ends(grid * model.path().radius(t), t)
        noise = torch.randn(y.shape, generator=torch.Generator().manual_seed(1)).double()
        noisy = np.cos(angle) * y + np.sin(angle) * noise
        ax.scatter(*noisy.T, s=2, color="#c9b27c")
        ax.quiver(*grid.T, *-e.T, color="#34495e", width=0.004)
        ax.set_title(f"score at θ = {angle}", fontsize=9)
    for ax in axes[:4]:
        ax.set(xlim=(-2.7, 2.7), ylim=(-2.7, 2.7), xticks=[], yticks=[], aspect="equal")
    bound(axes[4], X)
    fig.tight_layout()
    fig.savefig(folder / "diffusion_plane.png", dpi=100)


def bound(ax: plt.Axes, X: np.ndarray) -> None:
    """The likelihood of the ODE, and the bound on that of the chain by its number of steps."""
    held, _ = make_moons(300, noise=0.06, random_state=1)
    quick = genus.Trainer(epochs=60, progress=False)
    model = genus.Diffusion(trainer=quick, random_state=0).fit(X)
    ode = model.log_prob(held)
    print(f"ODE: {ode!r}")
    steps, found = (3, 10, 30, 100, 300), []
    model.likelihood = "bound"
    for n in steps:
        model.steps = n
        found.append(model.log_prob(held))
        print(f"bound, {n} steps: {found[-1]!r}")
    ax.axhline(ode.mean(), color="#b03a2e", label="≈ of the ODE")
    means, errors = [p.mean() for p in found], [p.nats.std() / 300**0.5 for p in found]
    ax.errorbar(steps, means, errors, fmt="o-", ms=3, color="#34495e", label="≥ of the chain")
    ax.set(xscale="log", xlabel="steps")
    ax.legend(fontsize=7, frameon=False)
    ax.set_title("log p of held-out rows, nats", fontsize=9)


def genus_heun(model: genus.FlowMatching, x: torch.Tensor, times: torch.Tensor) -> torch.Tensor:
    """One step of the model's own sampler."""
    from genus.models.diffusion.samplers import heun

    return heun(model.field(), model.path(), x, times, torch.Generator())


def digits(folder: Path, epochs: int) -> None:
    """Noise becoming digits, three guidance strengths, and draws by fewer and more steps."""
    data = genus.data.load("digits")
    trainer = genus.Trainer(epochs=epochs, progress=False)
    model = genus.FlowMatching(trainer=trainer, random_state=0)
    model.fit(data.train.X, given=data.train.y)
    rows: list[tuple[str, np.ndarray]] = []
    path, start = model.path(), torch.Generator().manual_seed(3)
    x = torch.randn(1, 64, generator=start, dtype=torch.float64)
    for share in (1.0, 0.7, 0.5, 0.35, 0.2, 0.1, 0.0):
        angle = torch.tensor(share * path.last, dtype=torch.float64)
        if share == 1.0:
            frames = [x]
        else:
            steps = path.times(40)
            times = torch.cat([steps[path.angle(steps) > angle], path.time(angle)[None]])
            with torch.no_grad():
                moved = genus_heun(model, x * path.radius(times[0]), times)
            frames.append(moved / path.radius(times[-1]))
    shown = torch.cat(frames)
    rows.append(("reverse", model.unreal(shown).reshape(-1, 8, 8).numpy()))
    real = torch.as_tensor(np.asarray(data.test.X[:1]).reshape(1, -1)).double()
    y, _ = model.real(real, torch.full((1, 64), 0.5, dtype=torch.float64))
    e = torch.randn(1, 64, generator=start, dtype=torch.float64)
    shares = [0.0, 0.1, 0.2, 0.35, 0.5, 0.7, 1.0]
    angles = [share * path.last for share in shares]
    noisy = torch.cat([np.cos(a) * y + np.sin(a) * e for a in angles])
    rows.append(("forward", model.unreal(noisy).reshape(-1, 8, 8).numpy()))
    for w in (1.0, 3.0, 6.0):
        model.guidance = w
        rows.append((f"guidance {w:g}", np.asarray(model.sample(7, given=3, random_state=1))))
    model.guidance = 1.0
    for n in (1, 2, 5, 10, 40):
        model.steps = n
        rows.append((f"{n} Heun steps", np.asarray(model.sample(7, given=5, random_state=2))))
    fig, axes = plt.subplots(len(rows), 7, figsize=(6, 0.85 * len(rows)))
    for line, (name, images) in zip(axes, rows, strict=True):
        for ax, image in zip(line, images, strict=True):
            ax.imshow(image.reshape(8, 8), cmap="gray_r", vmin=0, vmax=16)
            ax.set(xticks=[], yticks=[])
        line[0].set_ylabel(name, rotation=0, ha="right", va="center", fontsize=8)
    fig.tight_layout(pad=0.3)
    fig.savefig(folder / "diffusion_digits.png", dpi=130)


def main() -> None:
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "docs/figures")
    folder.mkdir(parents=True, exist_ok=True)
    plane(folder)
    digits(folder, int(sys.argv[2]) if len(sys.argv) > 2 else 60)


if __name__ == "__main__":
    main()
