"""Digits drawn pixel by pixel, along the rows, and in an order that was shuffled.

By a PixelCNN and by an any-order transformer. Writes sampling_order.gif into the folder given
(gallery/figures). A pixel keeps the value it was drawn with, so that the frames are finished images
of which only the pixels drawn so far are shown.
"""

from __future__ import annotations

import sys
from pathlib import Path

import matplotlib.font_manager
import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont

import genus

SCALE, GAP, ROWS, COLUMNS, TOP = 6, 6, 3, 4, 22
PAPER, EMPTY, NOW, INK = 0, 1, 2, 3  # of the palette; from INK on the 17 greys of the digits
SAME = INK + 17  # as in the frame before
PALETTE = [
    (255, 255, 255),
    (205, 219, 232),
    (224, 122, 46),
    *[(int(255 * v / 16),) * 3 for v in range(17)],
    (255, 255, 255),
]


def sheet(images: np.ndarray, order: np.ndarray, t: int) -> np.ndarray:
    """Colours of a grid of images with their first t pixels drawn, the last one marked."""
    cells = np.full((len(images), images[0].size), EMPTY, dtype=np.uint8)
    cells[:, order[:t]] = INK + images.reshape(len(images), -1)[:, order[:t]]
    if 0 < t < len(order):
        cells[:, order[t - 1]] = NOW
    side = 8 * SCALE
    out = np.full((ROWS * (side + GAP) - GAP, COLUMNS * (side + GAP) - GAP), PAPER, dtype=np.uint8)
    for i, image in enumerate(cells.reshape(-1, 8, 8)):
        r, c = i // COLUMNS * (side + GAP), i % COLUMNS * (side + GAP)
        out[r : r + side, c : c + side] = np.kron(image, np.ones((SCALE, SCALE), dtype=np.uint8))
    return out


def main(folder: Path) -> None:
    data, n = genus.data.load("digits"), ROWS * COLUMNS
    shuffled = np.random.default_rng(0).permutation(64)
    trainer = genus.Trainer(progress=False)
    raster = genus.PixelCNN(trainer=trainer.replace(epochs=6), random_state=0).fit(data.train)
    any_order = genus.AutoregressiveTransformer(
        any_order=True,
        order=shuffled,
        n_orders=1,
        trainer=trainer.replace(epochs=10),
        random_state=0,
    ).fit(data.train)
    panels = []
    for name, model, order in (
        ("PixelCNN, row by row", raster, np.arange(64)),
        ("any-order transformer, shuffled", any_order, shuffled),
    ):
        bits = float(np.mean(model.log_prob(data.test).bits_per_dim))
        print(f"{name}: {bits:.3f} bits/dim on held-out digits", flush=True)
        panels.append((name, np.asarray(model.sample(n, random_state=1)), order))
    font = ImageFont.truetype(matplotlib.font_manager.findfont("DejaVu Sans"), 10)
    frames, last = [], None
    for t in range(65):
        sheets = [sheet(images, order, t) for _, images, order in panels]
        height, width = sheets[0].shape
        canvas = np.full((height + TOP + GAP, 2 * width + 5 * GAP), PAPER, dtype=np.uint8)
        for i, part in enumerate(sheets):
            left = GAP + i * (width + 3 * GAP)
            canvas[TOP : TOP + height, left : left + width] = part
        frame = Image.fromarray(
            canvas if last is None else np.where(canvas == last, SAME, canvas).astype(np.uint8)
        )
        frame.putpalette([v for colour in PALETTE for v in colour])
        if last is None:
            draw = ImageDraw.Draw(frame)
            draw.fontmode = "1"
            for i, (title, _, _) in enumerate(panels):
                draw.text((GAP + i * (width + 3 * GAP), 5), title, fill=INK, font=font)
        frames.append(frame)
        last = canvas
    waits = [600, *[70] * 63, 3000]
    file = folder / "sampling_order.gif"
    frames[0].save(
        file,
        save_all=True,
        append_images=frames[1:],
        duration=waits,
        loop=0,
        transparency=SAME,
        disposal=1,
        optimize=False,
    )
    print(f"{file.stat().st_size / 1024:.0f} kB")


if __name__ == "__main__":
    torch.set_num_threads(1)
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "gallery/figures")
    folder.mkdir(parents=True, exist_ok=True)
    main(folder)
