"""Arrays and images in files, and folders of images."""

from __future__ import annotations

import contextlib
import csv
import math
import warnings
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from genus.data.dataset import KEYS, Data, published
from genus.memory import available
from genus.sources import Parquet
from genus.space import Space

LARGE = 1 << 28  # bytes of a table of Parquet above which its rows stay on disk
SWOLLEN = 1 << 30  # bytes up to which an archive may be mostly air


def pillow(path: Path) -> Any:
    """Pillow's Image module, or a message that says how to install it."""
    try:
        from PIL import Image
    except ImportError as e:
        raise ImportError(
            f"{path} holds images, which need pillow: pip install 'genus[images]'"
        ) from e
    return Image


@contextlib.contextmanager
def naming_damage(path: Path) -> Iterator[None]:
    """Inside this context errors of readers, which name no file, are a ValueError that does."""
    try:
        yield
    except MemoryError as e:
        raise ValueError(f"{path} claims more than fits into memory: {e}") from None
    except UnicodeError as e:
        raise ValueError(f"{path} cannot be read as text ({e}): save it as UTF-8") from None
    except csv.Error as e:
        raise ValueError(f"{path} cannot be read as a table: {e}") from None
    except (zipfile.BadZipFile, zlib.error, EOFError) as e:
        raise ValueError(f"{path} is damaged: {e}. Get or write it anew") from None


def _check_claim(f: Any, size: int, name: Any) -> None:
    """Raise ValueError where an array's header claims more bytes than follow it.

    f: a file at the beginning of the array. size: its bytes, header included.
    """
    version = np.lib.format.read_magic(f)
    readers = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }
    if version not in readers:
        return
    shape, _, dtype = readers[version](f)
    claimed = math.prod(shape) * dtype.itemsize
    if min(shape, default=0) < 0 or (claimed > size and not dtype.hasobject):
        raise ValueError(f"{name} claims an array of shape {shape}, and has {size:,} bytes")


def _check_archive(path: Path) -> None:
    """Raise ValueError where a .npz claims more than it holds, or unpacks to more than memory."""
    with zipfile.ZipFile(path) as z:
        whole = sum(part.file_size for part in z.infolist())
        swollen = whole > 200 * path.stat().st_size and whole > SWOLLEN
        if swollen or whole > available():
            raise ValueError(
                f"it unpacks to {whole / 1e9:,.1f} GB of {path.stat().st_size / 1e6:,.1f} MB: "
                "unpack it and pass the .npy file, if it is to be trusted"
            )
        for part in z.infolist():
            if part.filename.endswith(".npy"):
                with z.open(part) as f:
                    _check_claim(f, part.file_size, part.filename)


def read_npy(path: Path) -> Data:
    """Rows of a .npy file; a large one stays on disk."""
    large = path.stat().st_size > 2**31
    try:
        with path.open("rb") as f:
            _check_claim(f, path.stat().st_size, "it")
        X = np.load(path, mmap_mode="r" if large else None, allow_pickle=False)
    except (ValueError, EOFError) as e:
        raise ValueError(f"{path} cannot be read as an array of numbers: {e}") from None
    return named(path, X)


def read_npz(path: Path) -> Data:
    """Rows of a .npz file: one array, or ``x_train``, ``x_test`` and their labels."""
    try:
        _check_archive(path)
        with np.load(path, allow_pickle=False) as z:
            arrays = {k: z[k] for k in z.files}
    except (ValueError, OSError, AttributeError) as e:
        raise ValueError(f"{path} cannot be read as arrays of numbers: {e}") from None
    lower = {k.lower(): a for k, a in arrays.items()}
    if "x_train" in lower and "x_test" in lower:
        x, y, tx, ty = (lower.get(k) for k in KEYS)
        return published(path.stem, x, y, tx, ty)
    X = lower.get("x")
    if X is None and len(arrays) == 1:
        (X,) = arrays.values()
    if X is None:
        raise ValueError(
            f"{path} holds {', '.join(arrays) or 'nothing'}: "
            f"expected {', '.join(KEYS)}; or X (and y); or one array"
        )
    return named(path, X, lower.get("y"))


def read_parquet(path: Path) -> Data:
    """Rows of a Parquet file, or of a folder of them; many stay on disk."""
    found = Parquet(path)
    if found.nbytes > LARGE:
        return named(path, found)
    try:
        whole = pd.read_parquet(path) if path.is_file() else found.read()
    except (OSError, ValueError) as e:
        raise ValueError(f"{path} cannot be read as Parquet: {e}") from None
    return named(path, whole)


def named(path: Path, X: Any, y: Any = None, note: str = "") -> Data:
    """Data named after their file, which errors name too."""
    try:
        return Data(X, y, name=path.stem.removesuffix(".csv"), note=note)
    except (ValueError, TypeError) as e:
        raise type(e)(f"{path}: {e}") from None


def image_folder(folder: Path) -> Data:
    """Images of one size in a folder, whose sub-folders are labels."""
    inside = [p for p in sorted(folder.rglob("*")) if not p.name.startswith(".")]
    files = [p for p in inside if p.suffix.lower() in (".png", ".jpg", ".jpeg")]
    if not files:
        raise ValueError(
            f"{folder} has no images: .png and .jpg files are looked for, "
            "in it and in its sub-folders"
        )
    notes: set[str] = set()
    pictures = [_picture(path, notes) for path in files]
    for path, picture in zip(files, pictures, strict=True):
        own, first = _size(picture), _size(pictures[0])
        if own != first:
            raise ValueError(
                f"{path} is {own} pixels, {files[0]} is {first}: resize them to one size"
            )
    colour = any(p.ndim == 3 for p in pictures)
    deep = [p.dtype == np.uint16 for p in pictures]
    if any(deep) and (colour or not all(deep)):
        raise ValueError(
            f"{files[deep.index(True)]} has 16 bits a pixel, and {folder} has others besides: "
            "save all of them alike"
        )
    bits = all(p.dtype == bool for p in pictures)
    if not bits:
        pictures = [p.astype(np.uint8) * 255 if p.dtype == bool else p for p in pictures]
    if colour:
        pictures = [np.repeat(p[..., None], 3, 2) if p.ndim == 2 else p for p in pictures]
    X = np.stack(pictures)
    labels = [p.relative_to(folder).parts[0] if p.parent != folder else "" for p in files]
    note = "; ".join(sorted(notes))
    if note:
        warnings.warn(f"{folder}: {note}", stacklevel=2)
    y = np.array(labels) if any(labels) else None
    return Data(X.astype(np.uint8) if bits else X, y, _space_of(X), folder.name, note)


def _space_of(X: np.ndarray) -> Space:
    """The space of images: bits, 256 levels, or as many as the brightest of 16-bit pixels needs."""
    shape, layout = X.shape[1:], "HWC" if X.ndim == 4 else "HW"
    if X.dtype == bool:
        return Space(shape, "binary", layout=layout, dtype="uint8")
    if X.dtype == np.uint8:
        return Space(shape, "ordinal", levels=256, layout=layout, dtype="uint8")
    levels = max(256, 2 ** int(X.max()).bit_length())
    return Space(shape, "ordinal", levels=levels, layout=layout, dtype="uint16")


def _picture(path: Path, notes: set[str]) -> np.ndarray:
    """An image file as (H, W) bits or grey values, or (H, W, 3) colours; ``notes`` gets losses."""
    image = pillow(path)
    try:
        with image.open(path) as opened:
            return _pixels(opened, path, notes)
    except image.DecompressionBombError as e:
        raise ValueError(f"{path} is too large for an image: {e}") from None
    except (OSError, SyntaxError) as e:
        raise ValueError(f"{path} cannot be read as an image: {e}") from None


def _pixels(image: Any, path: Path, notes: set[str]) -> np.ndarray:
    mode = image.mode
    if mode.startswith("I"):
        deep = np.asarray(image)
        if deep.min() < 0 or deep.max() > 65535:
            raise ValueError(f"{path} has pixels beyond 16 bits: save them as .npy")
        return deep.astype(np.uint16)
    if mode == "F":
        raise ValueError(f"{path} has pixels of real numbers: save them as .npy")
    if mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        alpha = np.asarray(image.convert("RGBA"))[..., 3]
        if alpha.min() < 255:
            notes.add("how transparent pixels are (alpha) is left out")
    if mode in ("RGB", "RGBA") and _has_16_bits(path):
        notes.add("colours of 16 bits are cut to 8")
    if mode in ("1", "L", "RGB"):
        return np.asarray(image)
    return np.asarray(image.convert("L" if mode == "LA" else "RGB"))


def _has_16_bits(path: Path) -> bool:
    """Does a PNG file say so? Pillow reads colours as 8 bits."""
    with path.open("rb") as f:
        head = f.read(25)
    return head[:4] == b"\x89PNG" and head[24:25] == b"\x10"


def _size(picture: np.ndarray) -> str:
    height, width = picture.shape[:2]
    return f"{width}×{height}"
