"""Arrays and images in files, and folders of images."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from genus.data.dataset import KEYS, Data, published
from genus.space import Space


def pillow(path: Path) -> Any:
    """Pillow's Image module, or a message that says how to install it."""
    try:
        from PIL import Image
    except ImportError as e:
        raise ImportError(
            f"{path} holds images, which need pillow: pip install 'genus[images]'"
        ) from e
    return Image


def read_npy(path: Path) -> Data:
    """Rows of a .npy file; a large one stays on disk."""
    try:
        X = np.load(
            path, mmap_mode="r" if path.stat().st_size > 2**31 else None, allow_pickle=False
        )
    except (ValueError, EOFError) as e:
        raise ValueError(f"{path} cannot be read as an array of numbers: {e}") from None
    return named(path, X)


def read_npz(path: Path) -> Data:
    """Rows of a .npz file: one array, or ``x_train``, ``x_test`` and their labels."""
    try:
        with np.load(path, allow_pickle=False) as z:
            arrays = {k: z[k] for k in z.files}
    except (ValueError, EOFError, OSError, AttributeError) as e:
        raise ValueError(f"{path} cannot be read as arrays of numbers: {e}") from None
    lower = {k.lower(): a for k, a in arrays.items()}
    if "x_train" in lower and "x_test" in lower:
        x, y, tx, ty = (lower.get(k) for k in KEYS)
        return published(path.stem, x, y, tx, ty)
    X = lower["x"] if "x" in lower else next(iter(arrays.values())) if len(arrays) == 1 else None
    if X is None:
        raise ValueError(
            f"{path} holds {', '.join(arrays) or 'nothing'}: "
            f"expected {', '.join(KEYS)}; or X (and y); or one array"
        )
    return named(path, X, lower.get("y"))


def read_parquet(path: Path) -> Data:
    """Rows of a Parquet file."""
    try:
        frame = pd.read_parquet(path)
    except ImportError as e:
        raise ImportError(
            f"{path} is Parquet, which needs pyarrow: pip install 'genus[parquet]'"
        ) from e
    except (OSError, ValueError) as e:
        raise ValueError(f"{path} cannot be read as Parquet: {e}") from None
    return named(path, frame)


def named(path: Path, X: Any, y: Any = None) -> Data:
    """Data named after their file, which errors name too."""
    try:
        return Data(X, y, name=path.stem)
    except (ValueError, TypeError) as e:
        raise type(e)(f"{path}: {e}") from None


def image_folder(folder: Path) -> Data:
    """Images of one size in a folder, whose sub-folders are labels."""
    files = sorted(
        p
        for p in folder.rglob("*")
        if p.suffix.lower() in (".png", ".jpg", ".jpeg") and not p.name.startswith(".")
    )
    if not files:
        raise ValueError(
            f"{folder} has no images: .png and .jpg files are looked for, "
            "in it and in its sub-folders"
        )
    image = pillow(folder)
    pictures: list[np.ndarray] = []
    for path in files:
        try:
            with image.open(path) as i:
                pictures.append(
                    np.asarray(
                        i
                        if i.mode in ("L", "RGB")
                        else i.convert("L" if i.mode in ("1", "LA") else "RGB")
                    )
                )
        except OSError as e:
            raise ValueError(f"{path} cannot be read as an image: {e}") from None
        if pictures[-1].shape[:2] != pictures[0].shape[:2]:
            sizes = ["×".join(map(str, p.shape[1::-1])) for p in (pictures[-1], pictures[0])]
            raise ValueError(
                f"{path} is {sizes[0]} pixels, {files[0]} is {sizes[1]}: resize them to one size"
            )
    colour = any(p.ndim == 3 for p in pictures)
    X = np.stack([np.repeat(p[..., None], 3, 2) if colour and p.ndim == 2 else p for p in pictures])
    labels = [p.relative_to(folder).parts[0] if p.parent != folder else "" for p in files]
    space = Space(
        X.shape[1:], "ordinal", levels=256, layout="HWC" if colour else "HW", dtype="uint8"
    )
    return Data(X, np.array(labels) if any(labels) else None, space, folder.name)
