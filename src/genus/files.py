"""Files: safetensors with JSON in the metadata and a SHA-256, written whole or not at all.

A file is written beside its destination, flushed to disk, then renamed over it: a reader sees the
old file or the new one, never half of either. Nothing in it is code; loading runs none. This module
knows no model.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import itertools
import json
import math
import os
import shutil
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import safetensors.torch
import torch
import torch.overrides
from torch import Tensor, nn

from genus.memory import available
from genus.version import __version__

FORMAT = 2  # 1: images of the layout HWC lay as they came, not channel-first
LARGEST_HEADER = 1 << 28  # bytes
BLANK = "0" * 64  # what stands in the place of the checksum while it is computed


class StoreError(ValueError):
    """A file that cannot be read: damaged, foreign, or of a newer format."""


def write(path: str | Path, tensors: dict[str, Tensor], meta: dict[str, Any]) -> None:
    """Write tensors and JSON atomically.

    Raises OSError and leaves the old file whole when the disk is full.
    """
    path = Path(path)
    said = {"sha256": BLANK, "genus": json.dumps({"format": FORMAT, **meta})}
    body = _with_metadata(safetensors.torch.save({k: _plain(v) for k, v in tensors.items()}), said)
    where = _digest_at(body)
    body[where : where + 64] = hashlib.sha256(body).hexdigest().encode()
    with replacing(path) as temporary, open(temporary, "wb") as f:
        f.write(body)
        f.flush()
        os.fsync(f.fileno())
    with contextlib.suppress(OSError):  # the rename itself, on file systems that can flush a folder
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def _with_metadata(body: bytes, said: dict[str, str]) -> bytearray:
    """A safetensors file with metadata in their order: safetensors writes them in any order."""
    size = int.from_bytes(body[:8], "little")
    header = {"__metadata__": said, **json.loads(body[8 : 8 + size])}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # tensors begin at a multiple of 8 bytes
    whole = bytearray(len(text).to_bytes(8, "little") + text)
    whole += memoryview(body)[8 + size :]
    return whole


def read(path: str | Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """(tensors, JSON) of a file of :func:`write`, after its checksum.

    Raises StoreError, FileNotFoundError. The tensors are views of the bytes read, so that a file
    costs its own size in memory and no more.
    """
    path = Path(path)
    if path.is_dir():
        raise StoreError(f"{path} is a folder, not a genus file")
    with open(path, "rb") as f:
        data, size, header = _opened(f, path)
    meta = header.pop("__metadata__", {})
    if "genus" not in meta or "sha256" not in meta:
        raise StoreError(f"{path} is not a genus file (a safetensors file of another program?)")
    where = _digest_at(data)
    found, data[where : where + 64] = bytes(data[where : where + 64]), BLANK.encode()
    if hashlib.sha256(data).hexdigest().encode() != found:
        raise StoreError(
            f"{path} is damaged: its SHA-256 does not match. Restore it from a backup or fit again"
        )
    try:  # the file is whole, but anyone can write a checksum
        facts = json.loads(meta["genus"])
        newer = facts["format"] > FORMAT
        tensors = {} if newer else _tensors(data, 8 + size, header)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError, RuntimeError) as e:
        raise StoreError(
            f"{path} is not a genus file: its tensors or its JSON cannot be read "
            f"({type(e).__name__}: {e})"
        ) from None
    if newer:
        raise StoreError(
            f"{path} has format {facts['format']}; this genus reads up to {FORMAT}: upgrade genus"
        )
    return tensors, facts


def _opened(f: BinaryIO, path: Path) -> tuple[bytearray, int, dict[str, Any]]:
    """All bytes of a file, the size of its header and the header, which is believed first.

    A file that is longer than its header says is not read.
    """
    length = os.fstat(f.fileno()).st_size
    start = f.read(8)
    size = int.from_bytes(start, "little")
    try:
        if not 2 <= size <= min(length - 8, LARGEST_HEADER):
            raise ValueError
        text = f.read(size)
        header = json.loads(text)
        if not isinstance(header.get("__metadata__", {}), dict):
            raise ValueError
        ends = [t["data_offsets"][1] for name, t in header.items() if name != "__metadata__"]
        if length != 8 + size + max(ends, default=0):
            raise ValueError
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError):
        raise StoreError(
            f"{path} is damaged or not a genus file: its header cannot be read"
        ) from None
    if length > available():
        raise StoreError(f"{path} has {length / 1e9:,.0f} GB, more than the memory of this machine")
    data = bytearray(length)
    data[: 8 + size] = start + text
    data[8 + size :] = f.read()
    return data, size, header


_DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}


def _tensors(data: bytearray, start: int, header: dict[str, dict[str, Any]]) -> dict[str, Tensor]:
    """The tensors of a safetensors header, as views of ``data``, where they begin at ``start``.

    They are moved, last first, to multiples of 64 bytes, where torch puts its own: kernels sum in
    an order that depends on it, and a model must give the same bits before and after.
    """
    limit = len(data) - start
    data.extend(bytes(64 * (len(header) + 1)))
    memory, end = memoryview(data), len(data)
    base = torch.frombuffer(data, dtype=torch.uint8).data_ptr()
    tensors = {}
    for name in sorted(header, key=lambda name: header[name]["data_offsets"], reverse=True):
        entry = header[name]
        dtype, shape = _DTYPES[entry["dtype"]], [int(s) for s in entry["shape"]]
        first, last = entry["data_offsets"]
        count, size = math.prod(shape), last - first
        inside = 0 <= first <= last <= limit
        if min(shape, default=0) < 0 or not inside or count * dtype.itemsize != size:
            raise ValueError(f"a tensor of shape {shape} does not fit its place")
        limit = first
        if count == 0:
            tensors[name] = torch.empty(shape, dtype=dtype)
            continue
        end -= size
        end -= (base + end) % 64
        memory[end : end + size] = memory[start + first : start + last]
        flat = torch.frombuffer(data, dtype=dtype, count=count, offset=end)
        tensors[name] = flat.reshape(shape)
    return {name: tensors[name] for name in header}


def _digest_at(body: bytearray) -> int:
    """Where the 64 digits of the checksum stand."""
    key = b'"sha256":"'
    where = body.find(key)
    if where < 0 or where + len(key) + 64 > len(body):
        raise StoreError("the file has no checksum: it is damaged or not a genus file")
    return where + len(key)


def _plain(t: Tensor) -> Tensor:
    """A dense, unshared copy on the CPU, which is what safetensors takes."""
    return t.detach().to("cpu", copy=True).contiguous(memory_format=torch.contiguous_format)


# ---------------------------------------------------------------------- values in JSON


def to_json(value: Any, name: str) -> Any:
    """A constructor argument or learned fact as JSON; TypeError that names it when it cannot be."""
    import numpy as np

    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, os.PathLike):
        return str(value)
    if isinstance(value, np.ndarray | Tensor):
        dtype = str(value.dtype).removeprefix("torch.")
        return {"!": "array", "dtype": dtype, "values": value.tolist()}
    if isinstance(value, tuple):
        return {"!": "tuple", "values": [to_json(v, name) for v in value]}
    if isinstance(value, list):
        return [to_json(v, name) for v in value]
    if isinstance(value, dict):
        items = [[to_json(k, name), to_json(v, name)] for k, v in value.items()]
        return {"!": "dict", "items": items}
    if hasattr(value, "get_params"):
        params = {k: to_json(v, f"{name}.{k}") for k, v in value.get_params(deep=False).items()}
        return {"!": type(value).__name__, "params": params}
    if hasattr(value, "to_json"):
        return {"!": type(value).__name__, "json": value.to_json()}
    if isinstance(value, np.random.RandomState | np.random.Generator):
        return None
    if isinstance(value, nn.Module):
        return {"!": type(value).__name__, "code": "module"}
    if callable(value) and getattr(value, "__name__", "<lambda>") != "<lambda>":
        return {"!": value.__name__, "code": "function"}
    raise TypeError(
        f"{name}={value!r} cannot be saved: use a blueprint such as genus.MLP, a module, "
        "or a function that has a name"
    )


def from_json(value: Any, known: dict[str, Any]) -> Any:
    """The value of :func:`to_json`; classes and functions are found among ``known`` names only."""
    import numpy as np

    if isinstance(value, list):
        return [from_json(v, known) for v in value]
    if not isinstance(value, dict):
        return value
    sort = value.get("!")
    if sort == "tuple":
        return tuple(from_json(v, known) for v in value["values"])
    if sort == "dict":
        return {from_json(k, known): from_json(v, known) for k, v in value["items"]}
    if sort == "array":
        dtype: Any = np.dtype(value["dtype"])
        if dtype.kind in "US":  # a hostile file could state words of any length
            dtype = str
        return np.asarray(value["values"], dtype=dtype)
    if sort not in known:
        raise StoreError(
            f"the file names {sort!r}, which genus does not know: "
            f"pass your class or function to load(path, models=[{sort}])"
        )
    if value.get("code") == "function":
        return known[sort]
    if value.get("code") == "module":
        return _module(known[sort], str(sort))
    if "json" in value:
        return known[sort].from_json(value["json"])
    return known[sort](**{k: from_json(v, known) for k, v in value["params"].items()})


def _module(known: Any, name: str) -> nn.Module:
    """A module of the caller's own class, whose weights the file's tensors replace."""
    if isinstance(known, nn.Module):
        return known
    try:
        module: nn.Module = known()
    except TypeError:
        raise StoreError(
            f"{name} cannot be made without arguments: pass a module made with those that it had, "
            f"load(path, models=[{name}(...)])"
        ) from None
    return module


# ---------------------------------------------------------------------- whole or not at all


@contextlib.contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """A temporary file beside ``path`` that takes its place when the block ends well.

    A reader sees the old file or the new one, never half of either. A link stays a link, and a file
    that was there keeps its permissions. Raises OSError that names ``path``.
    """
    target = Path(os.path.realpath(path))
    if target.is_dir():
        raise IsADirectoryError(errno.EISDIR, "a folder, where a file is to be written", str(path))
    if target.exists() and not target.is_file():
        raise OSError(errno.EINVAL, "not a plain file", str(path))
    target.parent.mkdir(parents=True, exist_ok=True)
    _sweep(target.parent)
    own = f"{MARK}{os.getpid()}.{threading.get_ident()}.{next(_COUNT)}{target.suffix}"
    temporary = target.with_name(own)
    try:
        os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
        if target.exists():
            shutil.copymode(target, temporary)
        yield temporary
        os.replace(temporary, target)
    except OSError as e:
        if e.filename is not None and Path(str(e.filename)) == temporary:
            raise type(e)(e.errno, e.strerror, str(path)) from None
        raise
    finally:
        with contextlib.suppress(OSError):
            os.unlink(temporary)


def _sweep(folder: Path) -> None:
    """Remove temporary files that processes left behind that were killed an hour ago or earlier."""
    with contextlib.suppress(OSError):
        for left in folder.glob(f"{MARK}*"):
            process = left.name.removeprefix(MARK).split(".")[0]
            old = time.time() - left.stat().st_mtime > 3600
            if old and process.isdigit() and not _runs(int(process)):
                left.unlink()


def _runs(process: int) -> bool:
    """Is there such a process?"""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:  # it is another user's
        return True
    return True


MARK = ".genus-"  # how names of temporary files begin
_COUNT = itertools.count()


# ---------------------------------------------------------------------- what is no tensor


def describe(model: Any) -> dict[str, Any]:
    """Everything of a fitted model that is not a tensor, as JSON.

    Its class, its arguments, the facts whose names end in ``_``, and those of
    models that it is made of.
    """
    name = type(model).__name__
    params = {k: to_json(v, f"{name}({k})") for k, v in model.get_params(deep=False).items()}
    said = {"class": name, "params": params, "facts": _facts(model), "genus": __version__}
    parts = {n: _facts(m) for n, m in model.named_modules() if n and hasattr(m, "space_")}
    return {**said, "parts": parts} if parts else said


def _facts(model: Any) -> dict[str, Any]:
    """What a model learned beside its tensors."""
    own = vars(model).items()
    return {k: to_json(v, k) for k, v in own if k.endswith("_") and not k.startswith("_")}
