"""Seconds an epoch of genus.RBM beside scikit-learn's BernoulliRBM, and test nats by one AIS.

MNIST with pixels binarised by sampling once, float32, 500 hidden units, batches of 100, equal
epochs. They take turns in one process. scikit-learn has no default rate that suits all data, so it
gets its best of three. Annealed importance sampling (Salakhutdinov & Murray, 2008) is written here
once, on weights alone, and starts from the data's own pixel frequencies.
"""

from __future__ import annotations

import itertools
import math
import statistics
import time

import common
import numpy as np
import torch
import torch.nn.functional as F
from sklearn.neural_network import BernoulliRBM

import genus

# W (visible, hidden), visible bias, hidden bias
Parameters = tuple[torch.Tensor, torch.Tensor, torch.Tensor]


def of_sklearn(model: BernoulliRBM) -> Parameters:
    """W, b, c of scikit-learn's model."""
    arrays = (model.components_.T, model.intercept_visible_, model.intercept_hidden_)
    return tuple(torch.from_numpy(np.array(a, dtype=np.float64)) for a in arrays)  # type: ignore[return-value]


def of_genus(model: genus.RBM) -> Parameters:
    """W, b, c of genus's model, its centring (v − μ)ᵀW(h − λ) multiplied out and checked.

    The check is its free energy.
    """
    w, b, c, mu, lam = (
        v.detach().double() for v in (model.W_, model.b_, model.c_, model.mu_, model.lambda_)
    )
    parameters = w, b - w @ lam, c - mu @ w
    v = torch.randint(0, 2, (20, len(b)), generator=torch.Generator().manual_seed(0)).float()
    with torch.no_grad():
        gap = negative_free_energy(v.double(), *parameters) + model.free_energy(v)
    assert float(gap.std()) < 1e-2, "genus.RBM has another parametrisation than this file believes"
    return parameters


def negative_free_energy(
    v: torch.Tensor, w: torch.Tensor, b: torch.Tensor, c: torch.Tensor
) -> torch.Tensor:
    """log Σ_h exp(vᵀb + hᵀc + vᵀWh) = vᵀb + Σ_j softplus(c_j + vᵀW_j), (n,)."""
    return v @ b + F.softplus(v @ w + c).sum(1)


def ais(
    parameters: Parameters,
    frequencies: torch.Tensor,
    temperatures: int,
    chains: int = 100,
    seed: int = 0,
) -> tuple[float, float, float]:
    """(log Z, its standard error, ESS of the chains).

    The base model has independent pixels of these frequencies.
    """
    w, b, c = parameters
    rng = torch.Generator().manual_seed(0)
    base = torch.logit(frequencies)
    draw = lambda p: (torch.rand(p.shape, generator=rng, dtype=p.dtype) < p).to(p.dtype)  # noqa: E731
    at = lambda v, t: v @ ((1 - t) * base + t * b) + F.softplus(t * (v @ w + c)).sum(1)  # noqa: E731
    betas = torch.linspace(0, 1, temperatures, dtype=w.dtype)
    v = draw(frequencies.expand(chains, -1))
    log_w = torch.zeros(chains, dtype=w.dtype)
    for old, new in itertools.pairwise(betas):
        log_w += at(v, new) - at(v, old)
        h = draw(torch.sigmoid(new * (v @ w + c)))
        v = draw(torch.sigmoid((1 - new) * base + new * (b + h @ w.T)))
    log_z0 = F.softplus(base).sum() + w.shape[1] * math.log(2)
    share = torch.softmax(log_w, 0)
    ess = float(1 / share.square().sum())
    return (
        float(log_z0 + torch.logsumexp(log_w, 0) - math.log(chains)),
        math.sqrt(max(chains / ess - 1, 0) / (chains - 1)),
        ess,
    )


def run_sklearn(x: np.ndarray, epochs: int, lr: float, seed: int) -> tuple[float, BernoulliRBM]:
    """(processor seconds an epoch, the model)."""
    model = BernoulliRBM(
        n_components=500, learning_rate=lr, batch_size=100, n_iter=epochs, random_state=seed
    )
    begun = time.process_time()
    model.fit(x)
    return (time.process_time() - begun) / epochs, model


class Clocked(genus.RBM):
    """genus's RBM, which notes the processor time of every evaluation of its losses."""

    clock: list[float] = []

    def losses(self, x: torch.Tensor):  # type: ignore[no-untyped-def]
        self.clock.append(time.process_time())
        yield from super().losses(x)


def run_genus(
    x: np.ndarray, epochs: int, seed: int, threads: int, precision: str = "float32"
) -> tuple[float, float, genus.RBM]:
    """(processor seconds an epoch, those of the rest of fit, the model).

    The rest is reading the data and starting values.
    """
    trainer = genus.Trainer(
        epochs=epochs,
        batch_size=100,
        validation=0.0,
        precision=precision,
        device="cpu",
        threads=threads,
    )
    Clocked.clock = clock = []
    model = Clocked(n_hidden=500, trainer=trainer, random_state=seed)
    begun = time.process_time()
    model.fit(x, space="binary")
    whole = time.process_time() - begun
    training = (clock[-1] - clock[0]) * len(clock) / (len(clock) - 1)
    return training / epochs, whole - training, model


def main() -> None:
    args = common.options(__doc__, epochs=8, temperatures=1500)
    train, test, name = common.mnist(args.rows)
    x, held = common.binarised(train, 0), common.binarised(test, 1)
    print(
        f"data: {name}, {len(x)} rows, pixels binarised by sampling once "
        "(not thresholded: never compare the two)"
    )
    print(f"500 hidden, batch 100, {args.threads} thread(s), processor seconds")
    ours: list[tuple[float, float]] = []
    theirs: list[float] = []
    for r in range(args.rounds):
        turn = [
            lambda r=r: theirs.append(run_sklearn(x, 1, 0.05, r)[0]),
            lambda r=r: ours.append(run_genus(x, 1, r, args.threads)[:2]),
        ]
        for go in turn if r % 2 == 0 else turn[::-1]:
            go()
    print(f"scikit-learn {common.spread(theirs)} s an epoch")
    epoch, rest = ([t[i] for t in ours] for i in (0, 1))
    print(f"genus        {common.spread(epoch)} s an epoch, and {common.spread(rest)} s once a fit")
    print(
        "scikit-learn / genus: "
        f"{statistics.median(theirs) / statistics.median(epoch):.2f}x   (bar: 1x)"
    )

    rows = torch.from_numpy(held).double()
    frequencies = torch.from_numpy((x.sum(0, dtype=np.float64) + 1) / (len(x) + 2))

    def judge(who: str, parameters: Parameters) -> float:
        log_z, error, ess = ais(parameters, frequencies, args.temperatures)
        twice = ais(parameters, frequencies, 2 * args.temperatures)[0]
        nats = float(negative_free_energy(rows, *parameters).mean()) - log_z
        change = f"{twice - log_z:+.2f} at twice the temperatures"
        print(f"{who}: test ≈ {nats:.2f} nats; log Z ± {error:.2f}, ESS {ess:.0f} of 100, {change}")
        return nats

    print(f"after {args.epochs} epochs, {args.temperatures} temperatures:")
    best = max(
        judge(f"scikit-learn, rate {lr}", of_sklearn(run_sklearn(x, args.epochs, lr, 0)[1]))
        for lr in (0.1, 0.03, 0.01)
    )
    mine = judge("genus", of_genus(run_genus(x, args.epochs, 0, args.threads)[2]))
    print(f"genus - scikit-learn: {mine - best:+.1f} nats   (bar: +15)")


if __name__ == "__main__":
    main()
