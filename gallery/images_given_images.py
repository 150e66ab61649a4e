"""Images given images: one question, many answers, by families that have nothing else in common.

    super-resolution   14 × 14 → 28 × 28         digits of MNIST
    inpainting         the left half → all       digits of MNIST
    colour             grey → red, green, blue   CIFAR-10, 16 × 16
    article            a digit → an article      MNIST → Fashion-MNIST of the same class

Every model learns p(answer | question) by ``fit(X, given=questions)`` and draws by
``sample(given=...)``. Told of each, on test questions:

    PSNR        10 log₁₀(range² / mean squared error) of one answer and of the mean of eight, dB;
                where many answers are right, a good answer need not be near the one in the file
    diversity   the standard deviation of eight answers to one question, over that of all truths
    Fréchet     between answers and truths, beside what as many rows of the two real sets have

Writes a picture a task, such as given_colour.png, into the folder given (gallery/figures), and
prints its table. A second argument is the seconds of each fit (90), a third the device (cpu), and
more are names of tasks.
The GAN stands three times: as it is; with the distance to the true answer in its loss, for pairs;
and with two generators that are consistent there and back, for two sets without pairs.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pandas as pd

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import torch
from torch import Tensor, nn

import genus
from genus.evaluate.embedding import Embedding, frechet, frechet_spread
from genus.models.adversarial.losses import LOSSES, slope
from genus.models.adversarial.sight import Sight

ANSWERS = 8  # to one question


class CycleGAN(genus.GAN):
    """Two generators, there and back, between two sets of images without pairs.

    Zhu et al. (2017): each is held to what a critic of the other set takes for real, and both
    together to E |F(G(y)) − y| + E |G(F(x)) − x|. Which question stands beside which answer in
    ``fit`` is not used. One class of one's own: what it does not say, it has from genus.GAN.
    """

    cycle = 10.0  # the weight of the way there and back

    def build(self, space: Any) -> None:
        super().build(space)
        usual = genus.MLP(256, 3, "leaky_relu")
        self.asked_ = Sight(self.given_space_, [])
        here, there = self.sight_.shape, self.asked_.shape
        self.back_ = self.make_network(self.generator, here, there, usual)
        self.judge_ = self.make_network(self.critic, there, (1,), usual)
        self.judge_.averaged = False
        self.both_ = nn.ModuleList([self.generator_, self.back_])

    def criticise(self, seen: Tensor, *context: Tensor) -> Tensor:
        """Is it an answer at all? To which question, the critic is not told."""
        return self.critic_(seen)[:, 0]

    def losses(self, x: Tensor, given: Tensor) -> Any:
        of_critic, of_generator = LOSSES[self.loss]
        order = torch.randperm(len(x), generator=self.rng, device=x.device)
        y = given[order].flatten(1)
        answers, questions = self.sight_.seen(x.flatten(1)), self.asked_.seen(y)
        yield self.critic_, self.critic_loss(x, *self._context(y))
        with torch.no_grad():
            asked = self.back_(answers).tanh()
        real, square = slope(lambda q: self.judge_(q)[:, 0], questions)
        yield (
            self.judge_,
            of_critic(real, self.judge_(asked)[:, 0]) + self._penalty * square.mean() / 2,
        )
        made = self.generate(len(x), *self._context(y))
        asked = self.back_(answers).tanh()
        fooled = of_generator(self.criticise(made)) + of_generator(self.judge_(asked)[:, 0])
        top = self.asked_.top
        codes = (asked.flatten(1) + 1) / 2 * top
        again = self.generate(len(x), *self._context(codes))
        there_and_back = (self.back_(made).tanh() - questions).abs().mean()
        yield self.both_, fooled + self.cycle * (there_and_back + (again - answers).abs().mean())


def paired(**args: Any) -> genus.GAN:
    """Adversarial, and near the true answer (Isola et al., 2017)."""
    return genus.GAN(l1=100.0, **args)


MODELS: dict[str, Callable[..., Any]] = {
    "VAE": genus.VAE,
    "GAN": genus.GAN,
    "GAN, paired": paired,
    "GAN, cycle": CycleGAN,
    "Glow": genus.Glow,
    "PixelCNN": genus.PixelCNN,
    "FlowMatching": genus.FlowMatching,
}


@dataclass
class Task:
    """Questions and answers of training and of test rows, (n, H, W) or (n, H, W, 3)."""

    name: str
    asked: np.ndarray
    answers: np.ndarray
    asked_test: np.ndarray
    answers_test: np.ndarray


def halved(X: np.ndarray) -> np.ndarray:
    """Images of half the height and width, each pixel the mean of four."""
    n, H, W, *more = X.shape
    parts = X.reshape(n, H // 2, 2, W // 2, 2, *more)
    return parts.mean((2, 4)).round().astype(X.dtype)


def left_half(X: np.ndarray) -> np.ndarray:
    """Images whose right half is empty."""
    left = X.copy()
    left[:, :, X.shape[2] // 2 :] = 0
    return left


def grey(X: np.ndarray) -> np.ndarray:
    """Luminance as the eye weighs it."""
    return (X @ np.array([0.299, 0.587, 0.114])).round().astype(X.dtype)


def tasks(n: int, m: int) -> list[Task]:
    """The four tasks: n training and m test rows."""
    digits, clothes = genus.data.load("mnist"), genus.data.load("fashion_mnist")
    rng = np.random.default_rng(0)

    def images(part: Any, rows: int) -> np.ndarray:
        return np.asarray(part.X[:rows]).reshape(rows, 28, 28)

    def articles(part: Any, labels: np.ndarray) -> np.ndarray:
        """An article of the class of each label."""
        rows = [rng.choice(np.flatnonzero(np.asarray(part.y) == k)) for k in labels]
        return np.asarray(part.X)[rows].reshape(len(rows), 28, 28)

    def coloured(part: Any, rows: int) -> np.ndarray:
        some = rng.permutation(len(part.X))[:rows]  # the file has class after class
        return halved(np.asarray(part.X)[some].reshape(rows, 32, 32, 3))

    X, T = images(digits.train, n), images(digits.test, m)
    to = articles(clothes.train, np.asarray(digits.train.y)[:n])
    of = articles(clothes.test, np.asarray(digits.test.y)[:m])
    colours = genus.data.load("cifar10")
    C, D = coloured(colours.train, n), coloured(colours.test, m)
    return [
        Task("super-resolution", halved(X), X, halved(T), T),
        Task("inpainting", left_half(X), X, left_half(T), T),
        Task("colour", grey(C), C, grey(D), D),
        Task("article", X, to, T, of),
    ]


def psnr(truth: np.ndarray, answer: np.ndarray) -> float:
    """Peak signal to noise of images of levels 0 to 255, in dB, the mean over images."""
    error = np.square(truth.astype(float) - answer).reshape(len(truth), -1).mean(1)
    return float((10 * np.log10(255.0**2 / np.maximum(error, 1e-9))).mean())


def answered(task: Task, make: Callable[..., Any], trainer: Any) -> tuple[dict, np.ndarray]:
    """A row of the table, and the answers (m, ANSWERS, ...)."""
    start = time.perf_counter()
    model = make(trainer=trainer, random_state=0).fit(task.answers, given=task.asked)
    fitted = time.perf_counter()
    m, truth = len(task.asked_test), task.answers_test
    asked = np.repeat(task.asked_test, ANSWERS, axis=0)
    drawn = np.asarray(model.sample(m * ANSWERS, given=asked, random_state=1))
    seconds = time.perf_counter() - fitted
    drawn = drawn.reshape(m, ANSWERS, *truth.shape[1:])
    embed = Embedding(task.answers.reshape(len(task.answers), -1).astype(np.float32))
    of_truth, of_drawn = (embed(x.reshape(m, -1)) for x in (truth, drawn[:, 0]))
    others = embed(task.answers[:m].reshape(m, -1))
    low, high = frechet_spread(of_truth, others)
    row = {
        "PSNR of one": psnr(truth, drawn[:, 0]),
        "PSNR of the mean": psnr(truth, drawn.mean(1)),
        "diversity": float(drawn.std(1).mean() / truth.std(0).mean()),
        "Fréchet": frechet(of_truth, of_drawn),
        "real/real": f"{low:.3f}–{high:.3f}",
        "fit, s": fitted - start,
        "draw one, ms": 1e3 * seconds / len(asked),
    }
    return row, drawn


def picture(task: Task, answers: dict[str, np.ndarray], path: Path) -> None:
    """Questions, what each family answers (twice), and the truth."""
    shown = min(8, len(task.asked_test))
    ink = "gray" if task.answers_test.ndim == 4 else "gray_r"  # of photographs, of digits
    lines: list[tuple[str, np.ndarray]] = [("question", task.asked_test)]
    for name, drawn in answers.items():
        lines += [(name, drawn[:, 0]), ("", drawn[:, 1])]
    lines.append(("truth", task.answers_test))
    fig, axes = plt.subplots(len(lines), shown, figsize=(0.62 * shown + 1, 0.62 * len(lines)))
    for line, (label, images) in zip(axes, lines, strict=True):
        for ax, image in zip(line, images, strict=False):
            ax.imshow(image, cmap=ink, vmin=0, vmax=255, interpolation="none")
            ax.set_xticks([])
            ax.set_yticks([])
        line[0].set_ylabel(label, fontsize=7, rotation=0, ha="right", va="center")
    axes[0, shown // 2].set_title(task.name, fontsize=9)
    fig.subplots_adjust(left=0.2, right=0.99, top=0.95, bottom=0.01, wspace=0.05, hspace=0.05)
    fig.savefig(path, dpi=110, facecolor="white")
    plt.close(fig)


def table(task: Task, trainer: Any, out: Path) -> pd.DataFrame:
    """All families on one task: the table; the picture goes into the folder."""
    rows, answers = {}, {}
    for name, make in MODELS.items():
        rows[name], answers[name] = answered(task, make, trainer)
        print(f"{task.name}, {name}: {rows[name]}", flush=True)
    out.mkdir(parents=True, exist_ok=True)
    picture(task, answers, out / f"given_{task.name.replace('-', '_')}.png")
    return pd.DataFrame(rows).T


if __name__ == "__main__":
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).parent / "figures")
    seconds = float(sys.argv[2]) if len(sys.argv) > 2 else 90.0
    device = sys.argv[3] if len(sys.argv) > 3 else "cpu"
    names = sys.argv[4:]  # of the tasks; none: all
    for one in (t for t in tasks(10_000, 100) if t.name in names or not names):
        settings = genus.Trainer(max_time=seconds, device=device, progress=False)
        found = table(one, settings, folder)
        print(f"\n{one.name}\n{found.to_string(float_format='{:.3g}'.format)}\n", flush=True)
