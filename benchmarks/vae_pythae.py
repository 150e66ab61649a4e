"""Training speed of genus.VAE beside pythae's VAE and a hand-written PyTorch loop.

On the same model and settings. 784-400-20 with ReLU, Bernoulli pixels, ELBO with one draw, Adam at
1e-3, float32. The three take turns in one process. A step is what passes between two evaluations of
the loss, in seconds of the processor with one thread (which other work on the machine disturbs
least), else of the clock. That genus and pythae climb the same objective is checked by pythae's own
loss function on what genus computed. A fourth side is genus with the settings that it chooses by
itself: rate, schedule, batch and precision.
"""

from __future__ import annotations

import itertools
import logging
import os
import statistics
import tempfile
import time

os.environ["TQDM_DISABLE"] = "1"

import common
import torch
import torch.nn.functional as F
from pythae.data.datasets import BaseDataset
from pythae.models import VAE, VAEConfig
from pythae.models.base.base_utils import ModelOutput
from pythae.models.nn import BaseDecoder, BaseEncoder
from pythae.trainers import BaseTrainer, BaseTrainerConfig
from torch import nn

import genus

D, H, Z = 784, 400, 20
# the clock at every evaluation of the loss; mean training loss of the last epoch
Run = tuple[list[float], float]
now = time.process_time


class Encoder(BaseEncoder):
    """784 → 400 → (mean, log-variance) of 20."""

    def __init__(self) -> None:
        BaseEncoder.__init__(self)
        self.hidden, self.mean, self.log_var = nn.Linear(D, H), nn.Linear(H, Z), nn.Linear(H, Z)

    def forward(self, x: torch.Tensor) -> ModelOutput:
        h = torch.relu(self.hidden(x.reshape(-1, D)))
        return ModelOutput(embedding=self.mean(h), log_covariance=self.log_var(h))


class Decoder(BaseDecoder):
    """20 → 400 → 784 probabilities."""

    def __init__(self) -> None:
        BaseDecoder.__init__(self)
        self.hidden, self.out = nn.Linear(Z, H), nn.Linear(H, D)

    def forward(self, z: torch.Tensor) -> ModelOutput:
        return ModelOutput(reconstruction=torch.sigmoid(self.out(torch.relu(self.hidden(z)))))


class ClockedPythae(VAE):
    """pythae's VAE, which notes the time of every evaluation."""

    def forward(self, inputs: BaseDataset, **kwargs: object) -> ModelOutput:
        self.clock.append(now())
        return super().forward(inputs, **kwargs)


class ClockedGenus(genus.VAE):
    """genus's VAE, which notes the time of every evaluation."""

    clock: list[float] = []
    rows = 0  # of a batch

    def losses(self, x: torch.Tensor):  # type: ignore[no-untyped-def]
        self.clock.append(now())
        type(self).rows = max(len(x), self.rows)
        yield from super().losses(x)


def run_pythae(x: torch.Tensor, epochs: int, batch: int, seed: int) -> Run:
    """pythae's own trainer."""
    torch.manual_seed(seed)
    model = ClockedPythae(
        VAEConfig(input_dim=(D,), latent_dim=Z, reconstruction_loss="bce"), Encoder(), Decoder()
    )
    model.clock = clock = []
    losses = []
    with tempfile.TemporaryDirectory() as folder:
        config = BaseTrainerConfig(
            output_dir=folder,
            num_epochs=epochs,
            per_device_train_batch_size=batch,
            learning_rate=1e-3,
            seed=seed,
            no_cuda=True,
        )
        trainer = BaseTrainer(model, BaseDataset(x, torch.zeros(len(x))), training_config=config)
        step = trainer.train_step
        trainer.train_step = lambda epoch: losses.append(float(step(epoch))) or losses[-1]
        trainer.train()
    return clock, losses[-1]


def run_genus(
    x: torch.Tensor, epochs: int, batch: int, seed: int, threads: int, own: bool = False
) -> tuple[Run, genus.VAE]:
    """genus.VAE.fit; own: with the settings that it chooses."""
    net = genus.MLP(width=H, depth=1, activation="relu")
    trainer = genus.Trainer(epochs=epochs, device="cpu", threads=threads, progress=False)
    trainer = trainer if own else genus.Trainer(
        epochs=epochs, batch_size=batch,
        lr=1e-3, optimizer="adam", weight_decay=0.0, schedule="constant", warmup=0,
        validation=0.0, precision="float32", device="cpu", threads=threads, progress=False,
    )  # fmt: skip
    model = ClockedGenus(
        latent_dim=Z,
        encoder=net,
        decoder=net,
        likelihood="bernoulli",
        trainer=trainer,
        random_state=seed,
    )
    ClockedGenus.clock, ClockedGenus.rows = (clock := []), 0
    model.fit(x.numpy(), space="binary")
    return (clock, model.history_[-1]["objective"]), model


def run_by_hand(x: torch.Tensor, epochs: int, batch: int, seed: int) -> Run:
    """The loop that one would write: rows indexed in memory, fused Adam, losses from logits."""
    torch.manual_seed(seed)
    encoder = nn.Sequential(nn.Linear(D, H), nn.ReLU(), nn.Linear(H, 2 * Z))
    decoder = nn.Sequential(nn.Linear(Z, H), nn.ReLU(), nn.Linear(H, D))
    adam = torch.optim.Adam([*encoder.parameters(), *decoder.parameters()], lr=1e-3, fused=True)
    clock, mean_loss = [], 0.0
    for _ in range(epochs):
        total = torch.zeros(())
        for index in torch.randperm(len(x)).split(batch):
            v = x[index]
            clock.append(now())
            mean, log_var = encoder(v).chunk(2, 1)
            z = mean + torch.exp(0.5 * log_var) * torch.randn_like(mean)
            nll = F.binary_cross_entropy_with_logits(decoder(z), v, reduction="sum")
            loss = (nll - 0.5 * (1 + log_var - mean.square() - log_var.exp()).sum()) / len(v)
            adam.zero_grad(set_to_none=True)
            loss.backward()
            adam.step()
            total += loss.detach() * len(v)
        mean_loss = float(total) / len(x)
    return clock, mean_loss


@torch.no_grad()
def objectives(model: genus.VAE, x: torch.Tensor) -> tuple[float, float]:
    """(genus's −ELBO, pythae's loss) of the same rows, weights and noise."""
    model.rng = torch.Generator().manual_seed(0)
    ours = -float(model.elbo(x).mean())
    m, s = model.posterior(x)
    z = m + s * torch.randn(m.shape, generator=torch.Generator().manual_seed(0))
    judge = VAE(
        VAEConfig(input_dim=(D,), latent_dim=Z, reconstruction_loss="bce"), Encoder(), Decoder()
    )
    theirs = float(
        judge.loss_function(torch.sigmoid(model.parameters_of(z)), x, m, 2 * s.log(), z)[0]
    )
    del model.rng
    return ours, theirs


def main() -> None:
    global now
    args = common.options(__doc__, epochs=2, batch=100)
    now = time.process_time if args.threads == 1 else time.perf_counter
    logging.disable(logging.INFO)
    train, test, name = common.mnist(args.rows)
    x, held = (torch.from_numpy(common.binarised(a, seed)) for seed, a in enumerate((train, test)))
    what = "processor" if args.threads == 1 else "clock"
    print(f"data: {name}, {len(x)} rows, pixels binarised by sampling once")
    print(
        f"batch {args.batch}, {args.threads} thread(s), {what} time; "
        f"median of {args.rounds} rounds [least, most]"
    )
    models: dict[str, genus.VAE] = {}
    batches: dict[str, int] = {}

    def ours(side: str, seed: int) -> Run:
        own = side == "genus's own"
        run, models[side] = run_genus(x, args.epochs, args.batch, seed, args.threads, own)
        batches[side] = ClockedGenus.rows
        return run

    sides = {
        "pythae": lambda seed: run_pythae(x, args.epochs, args.batch, seed),
        "by hand": lambda seed: run_by_hand(x, args.epochs, args.batch, seed),
        "genus": lambda seed: ours("genus", seed),
        "genus's own": lambda seed: ours("genus's own", seed),
    }
    rates: dict[str, list[float]] = {side: [] for side in sides}
    losses: dict[str, list[float]] = {side: [] for side in sides}
    for r in range(args.rounds):
        for side in list(sides) if r % 2 == 0 else list(sides)[::-1]:
            clock, loss = sides[side](r)
            steps = [b - a for a, b in itertools.pairwise(clock)]
            rates[side].append(batches.get(side, args.batch) / statistics.median(steps))
            losses[side].append(loss)
    for side in sides:
        print(
            f"{side:11} {common.spread(rates[side])} samples/s; loss of epoch {args.epochs}: "
            f"{common.spread(losses[side])} nats"
        )
    own = "genus's own"
    best = {side: statistics.median(v) for side, v in rates.items()}
    print(f"genus / pythae: {best['genus'] / best['pythae']:.2f}x   (bar: 1.25x)")
    print(f"genus / by hand: {best['genus'] / best['by hand']:.3f}x   (bar: 0.95x)")
    print(f"genus's own / pythae: {best[own] / best['pythae']:.2f}x   (bar: 2.5x)")
    print(f"its own settings: {batches[own]} rows a batch")
    a, b = objectives(models["genus"], held[:2000])
    same = "yes" if abs(a - b) < 1e-2 else "NO"
    print(
        f"same objective: -ELBO {a:.4f} by genus, {b:.4f} by pythae's loss ({same}, bar: 0.01 nats)"
    )
    print(
        "(after equal steps genus's loss is the lower one where it starts "
        "the output biases at the data's log-odds)"
    )


if __name__ == "__main__":
    main()
