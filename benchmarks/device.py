"""What a step costs on a CUDA device: plain, captured as a graph, and by hand.

A fit of the same seed is made twice, with Trainer(capture=False) and with capture=True;
milliseconds a step are those after the first pass, without the time that capturing took. Both
end at the same objective, or the line says how far apart they are. By hand: the loop that
everybody writes, in float32, and zuko's spline flow where it is installed. Then what follows
training: IWAE, annealed importance sampling, draws pixel by pixel, completion by a flow.

    python benchmarks/device.py [--steps 200] [--device cuda] [--only VAE,RBM]
"""

from __future__ import annotations

import argparse
import contextlib
import time
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from common import binarised, mnist, versions
from torch import Tensor, nn

import genus


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=200, help="a pass; two are timed (200)")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--only", default="", help="names of models, by commas")
    args = parser.parse_args()
    cuda = args.device.startswith("cuda")
    name = torch.cuda.get_device_name() if cuda else args.device
    print(f"{name}; {versions('genus', 'torch', 'zuko')}")
    grey, _, what = mnist()
    bits = binarised(grey, 0).astype(np.uint8)
    images = bits.reshape(-1, 28, 28)
    small = (grey.reshape(-1, 28, 28)[:, ::2, ::2] >> 4).astype(np.uint8)
    rng = np.random.default_rng(0)
    table = (rng.normal(size=(60_000, 30)) @ rng.normal(size=(30, 30))).astype(np.float32)
    labels = rng.integers(0, 10, 60_000)
    print(f"rows: {what}; milliseconds a step, two passes of {args.steps} steps\n")
    MLP, Exact = genus.MLP, {"validation": 0.0}
    runs: dict[str, tuple[Callable[..., Any], Any, int, Any]] = {
        "VAE 784-500-500-40": (
            lambda **kw: genus.VAE(40, encoder=MLP(500, 2), decoder=MLP(500, 2), **kw),
            bits,
            256,
            vae_by_hand,
        ),
        "MADE 500": (lambda **kw: genus.MADE(MLP(500, 1), **kw), bits, 256, made_by_hand),
        "RBM 500, PCD": (lambda **kw: genus.RBM(500, **kw), bits, 256, rbm_by_hand),
        "DBM 500-500": (lambda **kw: genus.DBM((500, 500), **kw), bits, 256, None),
        "PixelCNN 32 x 7": (lambda **kw: genus.PixelCNN(32, 7, **kw), images, 64, None),
        "SplineFlow, 30 columns": (lambda **kw: genus.SplineFlow(**kw), table, 256, zuko_flow),
        "RealNVP, 30 columns": (lambda **kw: genus.RealNVP(**kw), table, 256, None),
        "Glow 14 x 14": (lambda **kw: genus.Glow(**kw), small, 64, None),
        "Transformer 128 x 6": (
            lambda **kw: genus.AutoregressiveTransformer(128, 6, **kw),
            small,
            64,
            None,
        ),
        "HierarchicalVAE": (lambda **kw: genus.HierarchicalVAE(**kw), images, 128, None),
        "FlowMatching 14 x 14": (lambda **kw: genus.FlowMatching(**kw), small, 64, None),
        "GAN 14 x 14": (lambda **kw: genus.GAN(**kw), small, 64, None),
        "EBM, 30 columns": (lambda **kw: genus.EBM(**kw), table, 128, None),
        "JEM 14 x 14": (lambda **kw: genus.JEM(**kw), (small, labels), 64, None),
    }
    wanted = [w for w in args.only.split(",") if w]
    print(f"{'':24}{'plain':>9}{'captured':>10}{'ratio':>8}{'apart':>9}{'by hand':>9}")
    for name, (make, rows, batch, peer) in runs.items():
        if wanted and not any(name.startswith(w) for w in wanted):
            continue
        n = args.steps * batch
        some = tuple(r[:n] for r in rows) if isinstance(rows, tuple) else (rows[:n],)
        times, ends, why = [], [], ""
        for capture in (False, True):
            trainer = genus.Trainer(
                epochs=3, batch_size=batch, device=args.device, capture=capture, **Exact,
            )  # fmt: skip
            with warnings.catch_warnings(record=True) as said:
                warnings.simplefilter("always")
                try:
                    model = make(trainer=trainer, random_state=0).fit(*some)
                except Exception as e:
                    why = f"{type(e).__name__}: {str(e).splitlines()[0]:.100}"
                    break
            lines = model.history_[-3:]
            times.append(1e3 * (lines[-1]["seconds"] - lines[0]["seconds"]) / (2 * args.steps))
            ends.append(lines[-1]["objective"])
            why = "; ".join(str(w.message) for w in said if "captured" in str(w.message))
        if len(times) < 2:
            print(f"{name:24} {why}", flush=True)
            continue
        hand = ""
        if peer is not None:
            with contextlib.suppress(ImportError):
                hand = f"{peer(some[0], batch, args.device, args.steps):9.2f}"
        apart = abs(ends[0] - ends[1]) / (1 + abs(ends[0]))
        print(
            f"{name:24}{times[0]:9.2f}{times[1]:10.2f}{times[0] / times[1]:8.1f}{apart:9.0e}{hand}"
            f"{'   ' + why[:160] if why else ''}",
            flush=True,
        )
    if not wanted:
        after(bits, images, table, args.device)


# ---------------------------------------------------------------------- the loops of others


def stepping(step: Callable[[Tensor], Any], x: Any, batch: int, device: str, steps: int) -> float:
    """Milliseconds a step of a loop by hand over batches."""
    rows = torch.as_tensor(x).to(device)
    each = list(torch.randperm(len(rows), device=device).split(batch))
    for index in each[:20]:
        step(rows[index].float())
    wait(device)
    begun = time.perf_counter()
    for index in each[:steps]:
        step(rows[index].float())
    wait(device)
    return 1e3 * (time.perf_counter() - begun) / min(steps, len(each))


def wait(device: str) -> None:
    if device.startswith("cuda"):
        torch.cuda.synchronize()


def descending(parts: list[nn.Module], loss: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Any]:
    adam = torch.optim.Adam([p for part in parts for p in part.parameters()], 1e-3, fused=True)

    def step(x: Tensor) -> None:
        adam.zero_grad(set_to_none=True)
        loss(x).backward()
        adam.step()

    return step


def perceptron(*sizes: int) -> nn.Sequential:
    def layers() -> Iterator[nn.Module]:
        for i in range(len(sizes) - 1):
            yield nn.Linear(sizes[i], sizes[i + 1])
            if i < len(sizes) - 2:
                yield nn.ReLU()

    return nn.Sequential(*layers())


def vae_by_hand(x: Any, batch: int, device: str, steps: int) -> float:
    encoder = perceptron(784, 500, 500, 80).to(device)
    decoder = perceptron(40, 500, 500, 784).to(device)

    def loss(x: Tensor) -> Tensor:
        mean, log_var = encoder(x).chunk(2, 1)
        z = mean + torch.exp(0.5 * log_var) * torch.randn_like(mean)
        surprise = F.binary_cross_entropy_with_logits(decoder(z), x, reduction="sum")
        return (surprise - 0.5 * (1 + log_var - mean.square() - log_var.exp()).sum()) / len(x)

    return stepping(descending([encoder, decoder], loss), x, batch, device, steps)


def made_by_hand(x: Any, batch: int, device: str, steps: int) -> float:
    net = perceptron(784, 500, 784).to(device)
    degree = torch.arange(500, device=device) % 783
    inputs = (degree[:, None] >= torch.arange(784, device=device)).float()
    outputs = (torch.arange(784, device=device)[:, None] > degree).float()

    def loss(x: Tensor) -> Tensor:
        h = F.linear(x, net[0].weight * inputs, net[0].bias).relu()
        logits = F.linear(h, net[2].weight * outputs, net[2].bias)
        return F.binary_cross_entropy_with_logits(logits, x, reduction="sum") / len(x)

    return stepping(descending([net], loss), x, batch, device, steps)


def rbm_by_hand(x: Any, batch: int, device: str, steps: int) -> float:
    W = 0.01 * torch.randn(784, 500, device=device)
    b, c = torch.zeros(784, device=device), torch.zeros(500, device=device)
    chain = torch.rand(batch, 500, device=device).round()

    def step(v: Tensor) -> None:
        nonlocal chain
        h = torch.sigmoid(v @ W + c)
        fantasy = torch.bernoulli(torch.sigmoid(chain @ W.T + b))
        p = torch.sigmoid(fantasy @ W + c)
        chain = torch.bernoulli(p)
        W.add_((v.T @ h - fantasy.T @ p) / len(v), alpha=0.05)
        b.add_(v.mean(0) - fantasy.mean(0), alpha=0.05)
        c.add_(h.mean(0) - p.mean(0), alpha=0.05)

    return stepping(step, x, batch, device, steps)


def zuko_flow(x: Any, batch: int, device: str, steps: int) -> float:
    import zuko

    flow = zuko.flows.NSF(30, transforms=6, hidden_features=(128, 128)).to(device)
    return stepping(
        descending([flow], lambda v: -flow().log_prob(v).mean()), x, batch, device, steps
    )


# ---------------------------------------------------------------------- after training


def after(bits: np.ndarray, images: np.ndarray, table: np.ndarray, device: str) -> None:
    """Seconds of what is asked of fitted models, which are trained for a few steps alone."""
    few = genus.Trainer(max_steps=50, device=device, validation=0.0)
    vae = genus.VAE(
        40, encoder=genus.MLP(500, 2), decoder=genus.MLP(500, 2), trainer=few, random_state=0
    ).fit(bits[:12_800])
    rbm = genus.RBM(500, trainer=few, random_state=0).fit(bits[:12_800])
    cnn = genus.PixelCNN(32, 7, trainer=few, random_state=0).fit(images[:3200])
    flow = genus.SplineFlow(trainer=few, random_state=0).fit(table[:12_800])
    gaps = table[:200].copy()
    gaps[:, ::3] = np.nan
    tasks: dict[str, Callable[[], Any]] = {
        "IWAE-500 of 10,000 rows, VAE": lambda: vae.set_params(k=500).log_prob(bits[-10_000:]),
        "AIS, 100 chains, RBM": lambda: rbm.log_partition(),
        "100 draws of 28 x 28, PixelCNN": lambda: cnn.sample(100, random_state=0),
        "200 rows completed, SplineFlow": lambda: flow.complete(gaps, random_state=0),
    }
    print("\nseconds after training")
    for name, task in tasks.items():
        begun = time.perf_counter()
        try:
            task()
        except Exception as e:
            print(f"{name:36} {type(e).__name__}: {str(e).splitlines()[0]:.100}", flush=True)
            continue
        wait(device)
        print(f"{name:36}{time.perf_counter() - begun:8.2f}", flush=True)


if __name__ == "__main__":
    main()
