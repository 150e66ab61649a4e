"""Normalizing flows beside zuko, nflows and normflows: rows a second of the processor.

In training, log_prob and sampling. The same architecture on both sides: 5 transforms, MLPs of 2 x
64 units in 6 dimensions and 2 x 128 in 43, ReLU, 8 bins a spline, batches of 512, the same
optimiser. Each ratio is genus over the fastest of the three. Training is steps of Adam on the mean
of -log p, by one and the same loop. Sides take turns, and each round gives ratios, whose median is
shown; seconds of the processor. At the end the spline flow beside itself compiled.
"""

from __future__ import annotations

import statistics
import time
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

import common
import numpy as np
import torch
from torch import Tensor, nn

import genus

BATCH, STEPS = 512, 5
SHORT = 0.05  # seconds of one measurement at least
BARS = {
    6: {
        "train": {"RealNVP": 1.2, "MAF": 1.2, "spline": 1.2},
        "log_prob": {"RealNVP": 1.4, "MAF": 1.4, "spline": 1.25},
        "sample": {"RealNVP": 1.3, "MAF": 1.3, "spline": 3},
    },
    43: {
        "train": {"RealNVP": 1.05, "MAF": 1.05, "spline": 1.05},
        "log_prob": {"RealNVP": 1.05, "MAF": 1.05, "spline": 1.05},
        "sample": {"RealNVP": 1.2, "MAF": 1.2, "spline": 3},
    },
}


class Side:
    """A flow of somebody's: its parameters, log p of rows, and draws."""

    def __init__(
        self,
        net: nn.Module,
        log_prob: Callable[[Tensor], Tensor],
        sample: Callable[[int], Any] | None,
    ) -> None:
        self.net, self.log_prob, self.sample = net, log_prob, sample
        self.optimiser = torch.optim.Adam(net.parameters(), lr=1e-3, fused=True)

    def step(self, x: Tensor) -> None:
        self.optimiser.zero_grad()
        (-self.log_prob(x).mean()).backward()
        self.optimiser.step()


def data(d: int, n: int, seed: int) -> Tensor:
    """Rows with curved dependences, standardised."""
    r = np.random.default_rng(seed)
    x = r.normal(size=(n, d))
    for j in range(1, d):
        x[:, j] = 0.5 * x[:, j] * (1 + 0.5 * np.abs(x[:, j - 1])) + np.sin(2 * x[:, j - 1])
    return torch.from_numpy((x - x.mean(0)) / x.std(0)).float()


def genus_side(kind: str, d: int, width: int, x: Tensor, seed: int = 0) -> Side:
    net = genus.MLP(width, 2, "relu")
    once = genus.Trainer(max_steps=1, batch_size=BATCH, validation=0.0, progress=False)
    family = {"RealNVP": genus.RealNVP, "MAF": genus.MAF, "spline": genus.SplineFlow}[kind]
    more = {"autoregressive": True} if kind == "spline" else {}
    model = family(STEPS, net, trainer=once, random_state=seed, **more).fit(x[:2048].numpy())
    return Side(
        model.train(),
        lambda v: model.log_density(v.double()),
        lambda n: model.draw(n, torch.Generator().manual_seed(0)),
    )


def zuko_side(kind: str, d: int, width: int) -> Side:
    import zuko

    family = {"RealNVP": zuko.flows.RealNVP, "MAF": zuko.flows.MAF, "spline": zuko.flows.NSF}[kind]
    more = {"bins": 8} if kind == "spline" else {}
    flow = family(d, transforms=STEPS, hidden_features=(width, width), **more)
    return Side(flow, lambda v: flow().log_prob(v), lambda n: flow().sample((n,)))


def nflows_side(kind: str, d: int, width: int) -> Side:
    from nflows import distributions, flows, nn, transforms

    class Plain(nn.nets.MLP):  # couplings hand it a context too, here None
        def forward(self, inputs: Tensor, context: Tensor | None = None) -> Tensor:
            return super().forward(inputs)

    steps = []
    for i in range(STEPS):
        if kind == "RealNVP":
            mask = torch.ones(d)
            mask[i % 2 :: 2] = -1
            make = lambda a, b: Plain((a,), (b,), [width, width])  # noqa: E731
            steps.append(transforms.AffineCouplingTransform(mask, make))
            continue
        if kind == "MAF":
            steps.append(
                transforms.MaskedAffineAutoregressiveTransform(
                    d, width, num_blocks=2, use_residual_blocks=False
                )
            )
        else:
            steps.append(
                transforms.MaskedPiecewiseRationalQuadraticAutoregressiveTransform(
                    d,
                    width,
                    num_bins=8,
                    tails="linear",
                    tail_bound=5.0,
                    num_blocks=2,
                    use_residual_blocks=False,
                )
            )
        steps.append(transforms.ReversePermutation(d))
    flow = flows.Flow(transforms.CompositeTransform(steps), distributions.StandardNormal([d]))
    return Side(flow, flow.log_prob, flow.sample)


def normflows_side(kind: str, d: int, width: int) -> Side | None:
    import normflows as nf

    if kind == "MAF":
        return None  # its masked affine autoregressive flow is an IAF
    steps: list[Any] = []
    for _ in range(STEPS):
        if kind == "RealNVP":
            steps.append(
                nf.flows.AffineCouplingBlock(
                    nf.nets.MLP([d - d // 2, width, width, 2 * (d // 2)], init_zeros=True)
                )
            )
            steps.append(nf.flows.Permute(d, mode="swap"))
        else:
            steps.append(
                nf.flows.AutoregressiveRationalQuadraticSpline(
                    d, 2, width, num_bins=8, tail_bound=5.0
                )
            )
            steps.append(nf.flows.Permute(d, mode="shuffle"))
    flow = nf.NormalizingFlow(nf.distributions.DiagGaussian(d, trainable=False), steps)
    return Side(flow, flow.log_prob, lambda n: flow.sample(n)[0])


def seconds(act: Callable[[], Any]) -> float:
    """Of the processor, a call."""
    act()
    begun, times = time.process_time(), 0
    while (spent := time.process_time() - begun) < SHORT or times == 0:
        act()
        times += 1
    return spent / times


def taken(acts: dict[str, Callable[[], Any]], rounds: int) -> dict[str, list[float]]:
    """Seconds of each side, in turn, round by round."""
    found: dict[str, list[float]] = {name: [] for name in acts}
    for r in range(rounds):
        for name in list(acts)[:: 1 if r % 2 == 0 else -1]:
            found[name].append(seconds(acts[name]))
    return found


def ratio(slow: list[float], fast: list[float]) -> float:
    """The median over rounds of how many times as fast."""
    return statistics.median(a / b for a, b in zip(slow, fast, strict=True))


def speeds(d: int, width: int, rounds: int) -> None:
    """All kinds in d dimensions."""
    x = data(d, 8192, 0)
    for kind in ("RealNVP", "MAF", "spline"):
        sides = {
            "genus": genus_side(kind, d, width, x),
            "zuko": zuko_side(kind, d, width),
            "nflows": nflows_side(kind, d, width),
        }
        if (normflows := normflows_side(kind, d, width)) is not None:
            sides["normflows"] = normflows
        acts: dict[str, Callable[[Side], Any]] = {
            "train": lambda s: s.step(x[:BATCH]),
            "log_prob": lambda s: s.log_prob(x[:BATCH]),
            "sample": lambda s: s.sample(BATCH),
        }
        for what, act in acts.items():
            with torch.set_grad_enabled(what == "train"):
                found = taken({n: partial(act, s) for n, s in sides.items()}, rounds)
            ratios = {n: ratio(found[n], found["genus"]) for n in sides if n != "genus"}
            best = min(ratios, key=lambda n: ratios[n])
            shown = ", ".join(
                f"{n} {BATCH / statistics.median(v) / 1000:.3g}" for n, v in found.items()
            )
            bar = BARS[d][what][kind]
            verdict = (
                f"{ratios[best]:.2f}x (bar: {bar}x{'' if ratios[best] >= bar else ', MISSED'})"
            )
            print(f"{d:2d}-d {kind:8s}{what:9s} thousand rows/s: {shown}; genus / {best} {verdict}")


def compiled(rounds: int) -> None:
    """Training of the spline flow by ``compile=True``, beside itself without."""
    x = data(6, 8192, 0)
    sides = {}
    for compiles in (False, True):
        once = genus.Trainer(
            max_steps=1, batch_size=BATCH, validation=0.0, progress=False, compile=compiles
        )
        model = (
            genus.SplineFlow(STEPS, genus.MLP(64, 2, "relu"), trainer=once, random_state=0)
            .fit(x[:2048].numpy())
            .train()
        )
        sides["compiled" if compiles else "plain"] = Side(
            model, lambda v, m=model: m.log_density(v.double()), None
        )
    for _ in range(3):
        sides["compiled"].step(x[:BATCH])
    found = taken({n: partial(s.step, x[:BATCH]) for n, s in sides.items()}, rounds)
    plain, fast = (BATCH / statistics.median(found[n]) / 1000 for n in sides)
    times = ratio(found["plain"], found["compiled"])
    print(
        " 6-d spline by coupling, train, thousand rows/s: "
        f"{plain:.3g}, compiled {fast:.3g}: {times:.2f}x (bar: 2x)"
    )


def main() -> None:
    args = common.options(__doc__, rounds=15)
    warnings.simplefilter("ignore")
    print(
        f"{common.versions('genus', 'torch', 'zuko', 'nflows', 'normflows')}; {args.threads} "
        f"thread(s), {args.rounds} rounds"
    )
    for d, width in ((6, 64), (43, 128)):
        speeds(d, width, args.rounds)
    compiled(args.rounds)


if __name__ == "__main__":
    main()
