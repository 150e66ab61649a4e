"""What genus's loop costs over a hand-written PyTorch loop: a 784-400-20 VAE, batch 100, fused Adam, one thread.

Both sides run the same model and the same steps, in turn; the ratio is of the medians of one process.

    python benchmarks/loop.py [--rounds 20] [--steps 100]
"""

from __future__ import annotations

import argparse
import platform
import statistics
import time
from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from genus import Model, Space, Trainer
from genus.learn import Data, Rows, descend, generator


class VAE(Model):
    """Kingma & Welling (2014), with Bernoulli pixels."""

    def __init__(self, trainer: Trainer | None = None, random_state: Any = None) -> None:
        self.trainer = trainer
        self.random_state = random_state

    def build(self, space: Space) -> None:
        self.hidden = nn.Linear(784, 400)
        self.mean = nn.Linear(400, 20)
        self.log_var = nn.Linear(400, 20)
        self.up = nn.Linear(20, 400)
        self.out = nn.Linear(400, 784)

    def loss(self, x: Tensor) -> Tensor:
        """−ELBO, a mean over rows."""
        h = F.relu(self.hidden(x))
        mean, log_var = self.mean(h), self.log_var(h)
        z = mean + (0.5 * log_var).exp() * torch.randn(mean.shape, generator=self.rng)
        logits = self.out(F.relu(self.up(z)))
        surprise = F.binary_cross_entropy_with_logits(logits, x, reduction="sum")
        return (surprise - 0.5 * (1 + log_var - mean.square() - log_var.exp()).sum()) / len(x)

    def losses(self, x: Tensor) -> Iterator[tuple[nn.Module, Tensor]]:
        yield self, self.loss(x)


def model() -> VAE:
    """The same weights each time."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        made = VAE()
        made.build(Space((784,), "binary"))
    made.rng, made._done = generator(0), {}
    return made.train()


def by_hand(made: VAE, x: Tensor, steps: int) -> None:
    """The loop that everybody writes."""
    optimizer = torch.optim.Adam(made.parameters(), lr=1e-3, fused=True)
    step = 0
    while step < steps:
        for index in torch.randperm(len(x), generator=generator(step)).split(100):
            loss = made.loss(x[index])
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            step += 1
            if step == steps:
                break


def by_genus(made: VAE, x: Tensor, steps: int) -> None:
    """The same through ``descend``."""
    trainer = Trainer(max_steps=steps, batch_size=100, lr=1e-3, schedule="constant", progress=False)
    descend(made, Data(Rows(x), None, trainer))


def main() -> None:
    """Print the ratio."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--steps", type=int, default=100)
    args = parser.parse_args()
    torch.set_num_threads(1)
    x = (torch.rand(10_000, 784, generator=generator(0)) < 0.13).float()
    sides = {"by hand": by_hand, "genus": by_genus}
    clocks = {"wall": time.perf_counter, "processor": time.process_time}  # the second is deaf to busy neighbours
    spent: dict[tuple[str, str], list[float]] = {(c, name): [] for c in clocks for name in sides}
    for i in range(args.rounds + 1):
        for name in sides if i % 2 else reversed(sides):
            made = model()
            begun = {c: clock() for c, clock in clocks.items()}
            sides[name](made, x, args.steps)
            for c, clock in clocks.items():
                if i:  # the first round warms up
                    spent[c, name].append(1e3 * (clock() - begun[c]) / args.steps)
    print(f"torch {torch.__version__}, {platform.machine()}, 1 thread, {args.rounds} rounds of {args.steps} steps")
    for c in clocks:
        hand, genus = spent[c, "by hand"], spent[c, "genus"]
        paired = statistics.median(g / h for g, h in zip(genus, hand, strict=True))
        print(
            f"{c} time: by hand {statistics.median(hand):.3f} ms a step, genus {statistics.median(genus):.3f} ms; "
            f"genus / by hand {statistics.median(genus) / statistics.median(hand):.4f}, median of pairs {paired:.4f}"
        )


if __name__ == "__main__":
    main()
