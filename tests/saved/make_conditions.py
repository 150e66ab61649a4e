"""Write models of images under conditions, with the numbers they gave, for test_saved.py.

It was run once, with version 0.1 of genus, beside make.py and in the same way:

    PYTHONPATH=<old checkout>/src python tests/saved/make_conditions.py tests/saved/0.1-conditions

That version saw conditions that are images as rows of numbers.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch

from genus import Glow, PixelCNN, PixelRNN, RealNVP, SameConv, Space, Trainer

QUICK = Trainer(epochs=4, batch_size=20, lr=1e-2, validation=0.0, progress=False)


def images(seed: int, shape: tuple[int, ...], levels: int) -> np.ndarray:
    """Images that are brighter or darker as a whole."""
    r = np.random.default_rng(seed)
    rows = r.integers(0, levels, (40, *shape)) + r.integers(0, levels, (40, *[1] * len(shape)))
    return rows // 2


def main(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    X, colours = images(0, (4, 4), 4), images(1, (4, 4, 2), 3)
    bits = (X > 1).astype(np.uint8)
    label = X.reshape(40, -1).mean(1).round().astype(int)
    grey = Space((4, 4), "ordinal", levels=4, layout="HW")
    binary = Space((4, 4), "binary", layout="HW")
    settings: dict[str, Any] = {"trainer": QUICK, "random_state": 0}
    flow = {"n_transforms": 2, "conditioner": SameConv(4), "levels": 2} | settings
    models: dict[str, tuple[Any, Any, Any, Any]] = {
        "realnvp-label": (RealNVP(**flow), X, grey, label),
        "realnvp-image": (RealNVP(**flow), X, grey, bits),
        "realnvp-colours": (RealNVP(**flow), X, grey, colours),
        "glow-label": (Glow(**flow), X, grey, label),
        "pixelcnn-image": (PixelCNN(4, 2, **settings), bits, binary, X),
        "pixelcnn-colours": (PixelCNN(4, 2, **settings), bits, binary, colours),
        "pixelrnn-image": (PixelRNN(3, 2, **settings), bits, binary, X),
    }
    expected: dict[str, Any] = {}
    for name, (model, rows, space, given) in models.items():
        model.fit(rows, space=space, given=given)
        model.save(folder / f"{name}.genus")
        expected[f"{name}.genus"] = {
            "X": rows[:6].tolist(),
            "given": given[:6].tolist(),
            "log_prob": model.log_prob(rows[:6], given=given[:6]).nats.tolist(),
            "sample": np.asarray(model.sample(4, given=given[:4], random_state=3)).tolist(),
        }
    (folder / "expected.json").write_text(json.dumps(expected) + "\n", "utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve())
