"""Likelihoods on sampled-binarised MNIST with a stated budget.

Of the VAE, the RBM, the PixelCNN, MADE and the transformer. Pixels are drawn as Bernoulli(grey):
the test rows once, with a fixed seed; the VAE's training rows afresh for every batch, as the
PixelCNN's and MADE's; the RBM's once. Nothing is chosen by the test rows.

    GENUS_DATA=folder python benchmarks/mnist.py vae 600     # seconds of training
    GENUS_DATA=folder python benchmarks/mnist.py vae-steps 45000     # where others use the machine
    GENUS_DATA=folder python benchmarks/mnist.py ladder 1800 # seconds of training
    GENUS_DATA=folder python benchmarks/mnist.py rbm 43      # epochs
    GENUS_DATA=folder python benchmarks/mnist.py dbn 36      # epochs a layer; dbm 27 as well
    GENUS_DATA=folder python benchmarks/mnist.py pixelcnn 1200     # seconds of training
    GENUS_DATA=folder python benchmarks/mnist.py made 240     # seconds of training
    GENUS_DATA=folder python benchmarks/mnist.py transformer 1200    # seconds of training
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable
from typing import Any

import genus
from genus import (
    DBM,
    DBN,
    MADE,
    MLP,
    RBM,
    VAE,
    AutoregressiveTransformer,
    HierarchicalVAE,
    PixelCNN,
    Trainer,
)


def vae(seconds: float = math.inf, steps: int | None = None) -> None:
    """IWAE-500 of a 2 × 500 VAE with 50 latent dimensions on all 10,000 test rows."""
    data = genus.data.load("mnist", binarize="dynamic")
    trainer = Trainer(
        max_time=seconds if math.isfinite(seconds) else None,
        max_steps=steps,
        epochs=1000,
        batch_size=256,
        optimizer="adam",
        lr=2e-3,
        schedule="cosine",
        warmup=200,
        weight_decay=0.0,
        ema=0.999,
        validation=0.0,
    )
    net = MLP(500, 2, "silu")
    model = VAE(50, net, net, k=500, kl_warmup=0.05, trainer=trainer, random_state=0)
    begun = time.process_time()
    model.fit(data.train)
    spent = time.process_time() - begun
    last = model.history_[-1]
    print(
        f"VAE 784-500-500-50: {model.n_steps_} steps, {last['epoch']} epochs in "
        f"{last['seconds']:.0f} s, {spent:.0f} s of processors",
        flush=True,
    )
    begun = time.process_time()
    scores = model.log_prob(data.test)
    spent = time.process_time() - begun
    print(f"IWAE-500 on {len(data.test)} test rows: {scores!r} ({spent:.0f} s of processors)")
    print(f"active units: {model.active_units(data.test)} of 50")


def ladder(seconds: float) -> None:
    """IWAE-500 of a ladder of 32 + 16 latents on all 10,000 test rows."""
    data = genus.data.load("mnist", binarize="dynamic")
    trainer = Trainer(
        max_time=seconds, epochs=1000, batch_size=128, weight_decay=0.0, validation=0.02, ema=0.999
    )
    model = HierarchicalVAE((32, 16), k=500, trainer=trainer, random_state=0).fit(data.train)
    last = model.history_[-1]
    print(f"ladder: {model.n_steps_} steps, {last['epoch']} epochs in {last['seconds']:.0f} s")
    print(f"KL a layer, z_1 first: {model.kl_per_layer(data.test).round(2)}")
    print(f"IWAE-500 on {len(data.test)} test rows: {model.log_prob(data.test)!r}")


def rbm(epochs: float) -> None:
    """Annealed importance sampling for 500 hidden units, forward and back; all test rows."""
    data = genus.data.load("mnist", binarize="sample")
    trainer = Trainer(epochs=int(epochs), batch_size=100, lr=0.1, schedule="linear")
    model = RBM(500, k=(1, 5), n_annealing=10_000, trainer=trainer, random_state=0)
    begun, used = time.perf_counter(), time.process_time()
    model.fit(data.train)
    print(
        f"RBM 784-500: {int(epochs)} epochs in {time.perf_counter() - begun:.0f} s, "
        f"{time.process_time() - used:.0f} of the processor",
        flush=True,
    )
    used = time.process_time()
    z = model.log_partition(n_chains=200)
    print(
        f"log Z = {z.value:.2f} ± {z.stderr:.2f}, ESS {z.ess:.0f} of {z.chains}, moved "
        f"{z.moved:+.2f} when the temperatures were doubled to {z.detail['n_annealing']}, "
        f"backwards {z.reverse:.2f} ({time.process_time() - used:.0f} s of the processor)"
    )
    print(f"training rows: {-float(model.free_energy(data.train.X[:10_000]).mean()) - z.value:.2f}")
    f = model.free_energy(data.test.X)
    print(f"{len(f)} test rows: {-float(f.mean()) - z.value:.2f} nats")


def deep(model: Any, epochs: float, lr: float) -> None:
    """The bound of a DBN or DBM of 500 and 500 hidden units, by importance points and plainly."""
    data = genus.data.load("mnist", binarize="sample")
    trainer = Trainer(epochs=int(epochs), batch_size=100, lr=lr, schedule="linear", threads=1)
    used = time.process_time()
    model.set_params(trainer=trainer, n_points=16, random_state=0).fit(data.train)
    print(
        f"{type(model).__name__} 784-500-500: {model.n_steps_} steps in "
        f"{time.process_time() - used:.0f} s of the processor",
        flush=True,
    )
    print(model.log_partition(n_chains=200), flush=True)
    rows = data.train.X[:3000]
    print(f"plain bound: {model.elbo(data.test.X).mean():.2f} nats of test rows")
    print(f"plain bound: {model.elbo(rows).mean():.2f} nats of training rows")
    print(model.log_prob(data.test))


def exact(model: Any, seconds: float, rows: int, bar: str, **settings: Any) -> None:
    """Exact log-probability of the first test rows by a model trained for so long."""
    data = genus.data.load("mnist", binarize="dynamic")
    trainer = Trainer(max_time=seconds, epochs=1000, validation=0.0, **settings)
    model.set_params(trainer=trainer, random_state=0).fit(data.train)
    last = model.history_[-1]
    print(
        f"{type(model).__name__}: {model.n_steps_} steps, "
        f"{last['epoch']} epochs in {last['seconds']:.0f} s"
    )
    begun = time.perf_counter()
    print(
        f"{model.log_prob(data.test.X[:rows])!r} ({time.perf_counter() - begun:.0f} s) "
        f"  (bar: {bar} on two cores)"
    )


def pixelcnn(seconds: float) -> None:
    """A PixelCNN of 32 channels and 7 layers."""
    exact(PixelCNN(), seconds, 10_000, "-92 in 1200 s", batch_size=16, lr=6e-3)


def made(seconds: float) -> None:
    """A MADE of 1000 hidden units, in raster order."""
    exact(MADE(MLP(1000, 1), prior=0.0), seconds, 10_000, "-90 in 240 s", batch_size=256, lr=1e-2)


def transformer(seconds: float) -> None:
    """A transformer of width 64 and depth 3, in raster order; 2,000 rows."""
    exact(
        AutoregressiveTransformer(dropout=0.0),
        seconds,
        2000,
        "within reach of PixelCNN's -92 in 1200 s",
        batch_size=16,
        lr=3e-3,
    )


if __name__ == "__main__":
    runs: dict[str, Callable[[float], None]] = {
        "vae": vae,
        "vae-steps": lambda n: vae(steps=int(n)),
        "ladder": ladder,
        "pixelcnn": pixelcnn,
        "made": made,
        "transformer": transformer,
        "rbm": lambda n: rbm(int(n)),
        "dbn": lambda epochs: deep(DBN((500, 500), k=(1, 5), n_annealing=10_000), epochs, lr=0.2),
        "dbm": lambda epochs: deep(
            DBM((500, 500), k=(1, 2), n_mean_field=2, n_annealing=3000), epochs, lr=0.2
        ),
    }
    runs[sys.argv[1]](float(sys.argv[2]))
