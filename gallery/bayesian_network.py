"""Bayesian networks: an expert's graph, what evidence does to beliefs, graphs of digits.

Prints how many table entries the graph saves and the tables themselves; writes bayesian_network.png
into the folder given (gallery/figures).
"""

from __future__ import annotations

import itertools
import sys
from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd
from sklearn.datasets import load_digits

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.patches import FancyArrowPatch, Rectangle

from genus import BayesNet

STATES = {
    "age": ["young", "middle", "old"],
    "salary": ["low", "medium", "high"],
    "gender": ["woman", "man"],
    "marital": ["single", "married"],
    "label": ["no", "yes"],
}
EXPERT = [("age", "salary"), ("marital", "salary"), ("salary", "label"), ("gender", "label")]
PLACES = {
    "age": (0.0, 2.0),
    "marital": (1.4, 2.0),
    "salary": (0.7, 1.0),
    "gender": (2.1, 1.0),
    "label": (1.4, 0.0),
}
PRIOR, POSTERIOR, KNOWN = "#c3cad0", "#1f77b4", "#c8402f"


def people(n: int, seed: int = 0) -> pd.DataFrame:
    """Rows that follow the expert's graph."""
    rng = np.random.default_rng(seed)
    age, marital, gender = (
        rng.choice(3, n, p=[0.35, 0.4, 0.25]),
        rng.choice(2, n, p=[0.45, 0.55]),
        rng.integers(0, 2, n),
    )
    salary = np.clip(
        np.rint(0.85 * age + 0.8 * marital - 0.4 + rng.normal(0, 0.5, n)), 0, 2
    ).astype(int)
    label = (
        rng.random(n) < np.array([[0.1, 0.2], [0.35, 0.5], [0.75, 0.9]])[salary, gender]
    ).astype(int)
    codes = {"age": age, "salary": salary, "gender": gender, "marital": marital, "label": label}
    return pd.DataFrame({k: pd.Categorical.from_codes(v, STATES[k]) for k, v in codes.items()})


def show_beliefs(ax: plt.Axes, model: BayesNet, evidence: dict[str, str], title: str) -> None:
    """The graph; in every node p(state) before, in grey, and given the evidence."""
    before, after = model.marginals(), model.marginals(evidence)
    width, height = 1.22, 0.66
    for parent, child in EXPERT:
        (x, y), (u, v) = PLACES[parent], PLACES[child]
        ends = (x + width / 2, y), (u + width / 2, v + height)
        ax.add_patch(
            FancyArrowPatch(
                *ends,
                arrowstyle="-|>",
                mutation_scale=11,
                color="#5b6770",
                lw=1.1,
                shrinkA=0,
                shrinkB=1,
            )
        )
    for name, (x, y) in PLACES.items():
        known = name in evidence
        edge = KNOWN if known else "#5b6770"
        ax.add_patch(
            Rectangle(
                (x, y),
                width,
                height,
                facecolor="white",
                edgecolor=edge,
                lw=1.8 if known else 0.9,
                zorder=2,
            )
        )
        ax.text(
            x + 0.04,
            y + height - 0.04,
            name,
            va="top",
            fontsize=9.5,
            weight="bold",
            color=edge,
            zorder=4,
        )
        states, step = STATES[name], 0.15
        for i, s in enumerate(states):
            at = y + height - 0.32 - i * step
            p, q = before[name][s].iloc[0], after[name][s].iloc[0]
            ax.add_patch(Rectangle((x + 0.53, at), 0.37 * p, 0.11, color=PRIOR, zorder=3, lw=0))
            if evidence:
                ax.add_patch(
                    Rectangle(
                        (x + 0.53, at + 0.02),
                        0.37 * q,
                        0.07,
                        color=KNOWN if known else POSTERIOR,
                        zorder=4,
                        lw=0,
                    )
                )
            ax.text(x + 0.5, at + 0.055, s, ha="right", va="center", fontsize=8, zorder=4)
            ax.text(
                x + 1.19,
                at + 0.055,
                f"{q if evidence else p:.2f}",
                ha="right",
                va="center",
                fontsize=8,
                zorder=4,
            )
    ax.set(xlim=(-0.05, 3.37), ylim=(-0.06, 2.72), title=title)
    ax.axis("off")


def show_graph(ax: plt.Axes, model: BayesNet, ink: np.ndarray, title: str) -> None:
    """Edges between the pixels of an 8 × 8 image, on the mean image.

    Those between pixels that do not touch are red.
    """
    ax.imshow(ink.reshape(8, 8), cmap="Greys", vmin=0, vmax=2.2)
    few = len(model.edges_) < 64
    for p, c in model.edges_:
        ends = [(k % 8, k // 8) for k in (p, c)]
        far = max(abs(ends[0][i] - ends[1][i]) for i in (0, 1)) > 1
        arc = f"arc3,rad={0.25 if far and few else 0.0}"
        style = {
            "arrowstyle": "-" if far else "-|>",
            "mutation_scale": 7,
            "shrinkA": 1,
            "shrinkB": 1,
            "connectionstyle": arc,
        }
        shade = (
            {"color": KNOWN, "lw": 0.9, "alpha": 1.0 if few else 0.4}
            if far
            else {"color": POSTERIOR, "lw": 1.2, "zorder": 3}
        )
        ax.add_patch(FancyArrowPatch(*ends, **style, **shade))
    ax.set(xticks=[], yticks=[], title=title)


def show_halves(ax: plt.Axes, models: dict[str, BayesNet], rows: np.ndarray) -> None:
    """Digits, their upper halves, and p(pixel | upper half) under each model."""
    half = rows.astype(float)
    half[:, 32:] = np.nan
    lines = [("digit", rows.astype(float)), ("given", half)]
    for name, model in models.items():
        lines.append((name, np.stack([p[1].to_numpy() for p in model.marginals(half).values()], 1)))
    canvas = np.full((len(lines) * 9 - 1, len(rows) * 9 - 1), np.nan)
    for i, j in itertools.product(range(len(lines)), range(len(rows))):
        image = lines[i][1][j].reshape(8, 8)
        canvas[i * 9 : i * 9 + 8, j * 9 : j * 9 + 8] = image
    shown = plt.get_cmap("Greys").copy()
    shown.set_bad("#dce6ee")
    ax.imshow(canvas, cmap=shown, vmin=0, vmax=1)
    ax.set(
        xticks=[],
        yticks=[i * 9 + 3.5 for i in range(len(lines))],
        title="p(lower half | upper half), exactly",
    )
    ax.set_yticklabels([name for name, _ in lines], fontsize=8)
    ax.tick_params(length=0)


def main(folder: Path) -> None:
    X = people(5000)
    chain = BayesNet(list(itertools.combinations(STATES, 2))).fit(X)
    expert = BayesNet(EXPERT).fit(X)
    for name, model in (("the chain rule alone", chain), ("the expert's graph", expert)):
        print(
            f"{name}: {model.n_parameters()} table entries, "
            f"{model.n_parameters(free=True)} of them free"
        )
    for name in STATES:
        parents = [p for p, c in expert.edges_ if c == name]
        given = " | " + ", ".join(parents) if parents else ""
        print(f"\np({name}{given})")
        print(expert.cpt(name).round(3).to_string())
    age = expert.query("age", {"salary": "high", "label": "yes"})
    print("\np(age | salary high, label yes)")
    print(age.round(3).to_string(index=False))

    digits = (load_digits().data > 7).astype(np.uint8)
    train, test = digits[:1400], digits[1400:]
    alone, tree, graph = (
        BayesNet([]).fit(train),
        BayesNet("chow-liu").fit(train),
        BayesNet("hill-climb", max_parents=3).fit(train),
    )
    scores = {
        "no edges": alone.score(test),
        "Chow–Liu": tree.score(test),
        "hill climbing": graph.score(test),
    }
    print(
        "\ndigits in black and white, nats a test row:",
        ", ".join(f"{k} {v:.2f}" for k, v in scores.items()),
    )

    fig, axes = plt.subplots(2, 3, figsize=(12, 7.6), layout="constrained")
    show_beliefs(axes[0, 0], expert, {}, "An expert's graph, nothing known")
    show_beliefs(axes[0, 1], expert, {"salary": "high"}, "High salary: older, or married?")
    show_beliefs(
        axes[0, 2],
        expert,
        {"salary": "high", "marital": "single"},
        "High salary, yet single: surely old",
    )
    show_graph(
        axes[1, 0],
        tree,
        train.mean(0),
        f"Chow–Liu tree of 64 pixels, {scores['Chow–Liu']:.1f} nats",
    )
    show_graph(
        axes[1, 1],
        graph,
        train.mean(0),
        f"Hill climbing, BIC, {len(graph.edges_)} edges, {scores['hill climbing']:.1f} nats",
    )
    show_halves(axes[1, 2], {"no edges": alone, "tree": tree, "climbed": graph}, test[:6])
    folder.mkdir(parents=True, exist_ok=True)
    fig.savefig(folder / "bayesian_network.png", dpi=78)


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).parent / "figures"))
