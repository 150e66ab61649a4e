"""What genus costs over a PyTorch loop written by hand.

A VAE 784-400-20, Bernoulli pixels, batch 100, fused Adam, one thread. Once with the loss of the
hand-written side, which leaves the loop alone, and once with genus.VAE as it is. The two take turns
step by step in one process, so that neither has the quieter machine: every time genus asks for its
loss, one step is made by hand first. Times are those of the processor.

    python benchmarks/loop.py [--steps 3000]
"""

from __future__ import annotations

import argparse
import itertools
import platform
import statistics
import time
from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import genus

BATCH = 100
now = time.process_time


def negative_elbo(encoder: nn.Module, decoder: nn.Module, x: Tensor) -> Tensor:
    """The loss that everybody writes."""
    mean, log_var = encoder(x).chunk(2, 1)
    z = mean + torch.exp(0.5 * log_var) * torch.randn_like(mean)
    surprise = F.binary_cross_entropy_with_logits(decoder(z), x, reduction="sum")
    return (surprise - 0.5 * (1 + log_var - mean.square() - log_var.exp()).sum()) / len(x)


class ByHand:
    """The loop that everybody writes."""

    def __init__(self, x: Tensor) -> None:
        self.x, self.batches = x, iter(())
        self.encoder = nn.Sequential(nn.Linear(784, 400), nn.ReLU(), nn.Linear(400, 40))
        self.decoder = nn.Sequential(nn.Linear(20, 400), nn.ReLU(), nn.Linear(400, 784))
        self.adam = torch.optim.Adam(
            [*self.encoder.parameters(), *self.decoder.parameters()], lr=1e-3, fused=True
        )

    def step(self) -> None:
        index = next(self.batches, None)
        if index is None:
            self.batches = iter(torch.randperm(len(self.x)).split(BATCH))
            index = next(self.batches)
        loss = negative_elbo(self.encoder, self.decoder, self.x[index])
        self.adam.zero_grad(set_to_none=True)
        loss.backward()
        self.adam.step()


class Alternating(genus.VAE):
    """genus.VAE, which lets the other step before each of its own and notes the time of both."""

    other: ByHand
    times: list[tuple[float, float]]
    alone = False  # the loop, with the loss of the other

    def losses(self, x: Tensor) -> Iterator[Any]:
        begun = now()
        self.other.step()
        self.times.append((begun, now()))
        if self.alone:
            yield self, negative_elbo(self.encoder_, self.decoder_, x)
        else:
            yield from super().losses(x)


class LoopAlone(Alternating):
    """genus's loop around the loss of the other."""

    alone = True


def main() -> None:
    """Print the ratios."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--steps", type=int, default=3000)
    args = parser.parse_args()
    torch.set_num_threads(1)
    x = (torch.rand(10_000, 784, generator=torch.Generator().manual_seed(0)) < 0.13).float()
    net = genus.MLP(width=400, depth=1, activation="relu")
    trainer = genus.Trainer(
        max_steps=args.steps, epochs=args.steps, batch_size=BATCH,
        lr=1e-3, optimizer="adam", weight_decay=0.0, schedule="constant",
        validation=0.0, threads=1, progress=False,
    )  # fmt: skip
    print(
        f"torch {torch.__version__}, {platform.machine()}, 1 thread, "
        f"{args.steps} steps of each, in turn, processor time"
    )
    for name, kind in (("the loop alone", LoopAlone), ("genus.VAE", Alternating)):
        Alternating.other, Alternating.times = ByHand(x), []
        kind(latent_dim=20, encoder=net, decoder=net, trainer=trainer, random_state=0).fit(
            x.numpy(), space="binary"
        )
        times = Alternating.times[100:]  # the first ones warm up
        hand = [done - begun for begun, done in times[:-1]]
        ours = [after - done for (_, done), (after, _) in itertools.pairwise(times)]
        median = [1e3 * statistics.median(t) for t in (hand, ours)]
        print(f"{name}: median step {median[1]:.3f} ms, by hand {median[0]:.3f} ms", end="; ")
        print(
            f"{name} / by hand: {median[1] / median[0]:.3f} by medians, "
            f"{sum(ours) / sum(hand):.3f} in total"
        )
    print("(bar of the loop: 1.05)")


if __name__ == "__main__":
    main()
