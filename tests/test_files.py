"""Files: bytes, checksum and JSON; whole or an error, and no code in them."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch

import genus
from genus import MLP, Trainer, files
from genus.files import BLANK, StoreError, from_json, read, replacing, to_json, write


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A whole file of two tensors."""
    tensors = {"w": torch.arange(300.0).reshape(3, 100), "b": torch.ones(7, dtype=torch.int64)}
    write(tmp_path / "file", tensors, {"said": ["something", 3]})
    return tmp_path / "file"


def test_every_dtype_and_shape_goes_there_and_back(tmp_path: Path) -> None:
    tensors = {str(d): torch.arange(6).reshape(2, 3).to(d) for d in files._DTYPES.values()}
    tensors |= {
        "scalar": torch.tensor(3.5),
        "none": torch.empty(0, 4),
        "strided": torch.arange(12.0).reshape(3, 4).T,
    }
    tensors |= {
        "shared": tensors["strided"],
        "channels": torch.rand(2, 3, 4, 4).to(memory_format=torch.channels_last),
    }
    write(tmp_path / "f", tensors, {"x": 1})
    back, meta = read(tmp_path / "f")
    assert meta == {"format": 2, "x": 1}
    for k, v in tensors.items():
        assert back[k].dtype == v.dtype and back[k].shape == v.shape and torch.equal(back[k], v)


def test_arguments_go_there_and_back() -> None:
    known = {"MLP": MLP, "Trainer": Trainer}
    value = {"a": (1, 2.5, None, "x", True), "b": [MLP(width=3), float("inf")], 3: {"c": ()}}
    assert from_json(json.loads(json.dumps(to_json(value, "v"))), known) == value
    assert to_json(np.float64(1.5), "v") == 1.5 and to_json(Path("a/b"), "v") == "a/b"
    array = from_json(to_json(np.array([[1, 2]], dtype=np.int8), "v"), known)
    assert array.dtype == np.int8 and array.tolist() == [[1, 2]]


# ---------------------------------------------------------------------- written whole


@pytest.mark.parametrize("call", ["replace", "fsync"])
def test_a_write_that_fails_leaves_the_old_file(
    call: str, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = path.read_bytes()

    def fail(*args: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, call, fail)
    with pytest.raises(OSError, match="No space left"):
        write(path, {"w": torch.ones(3)}, {})
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]


# ---------------------------------------------------------------------- damage


def test_forty_flipped_bits_are_forty_errors(path: Path) -> None:
    whole = path.read_bytes()
    rng = np.random.default_rng(0)
    header = 8 + int.from_bytes(whole[:8], "little")
    places = [*rng.choice(len(whole), 25, replace=False), *rng.choice(header, 15, replace=False)]
    for place in places:
        data = bytearray(whole)
        data[place] ^= 1 << int(rng.integers(8))
        path.write_bytes(data)
        with pytest.raises(StoreError):
            read(path)
    path.write_bytes(whole)
    read(path)


def test_truncated_and_lengthened_files(path: Path) -> None:
    whole = path.read_bytes()
    for n in [0, 1, 7, 8, 9, 100, len(whole) // 2, len(whole) - 1]:
        path.write_bytes(whole[:n])
        with pytest.raises(StoreError):
            read(path)
    path.write_bytes(whole + b"\0")
    with pytest.raises(StoreError, match="damaged"):
        read(path)


def test_foreign_files(tmp_path: Path) -> None:
    safetensors.torch.save_file({"w": torch.zeros(3)}, tmp_path / "foreign")
    safetensors.torch.save_file(
        {"w": torch.zeros(3)}, tmp_path / "other", metadata={"format": "pt"}
    )
    torch.save({"w": 1}, tmp_path / "pickle")
    (tmp_path / "text").write_text("hello " * 100)
    for name in ("foreign", "other"):
        with pytest.raises(StoreError, match="not a genus file"):
            read(tmp_path / name)
    for name in ("pickle", "text"):
        with pytest.raises(StoreError, match="header cannot be read"):
            read(tmp_path / name)


def raw(path: Path, header: Any, body: bytes = b"") -> None:
    """A file with any header and a good checksum."""
    text = (
        header if isinstance(header, bytes) else json.dumps(header, separators=(",", ":")).encode()
    )
    data = bytearray(len(text).to_bytes(8, "little") + text + body)
    where = data.find(BLANK.encode())
    if where >= 0:
        data[where : where + 64] = hashlib.sha256(data).hexdigest().encode()
    path.write_bytes(data)


def test_hostile_headers(tmp_path: Path) -> None:
    path = tmp_path / "f"
    meta = {"genus": json.dumps({"format": 1, "model": {}}), "sha256": BLANK}
    entries: list[Any] = [
        {"dtype": "F32", "shape": [10**15], "data_offsets": [0, 16]},
        {"dtype": "F32", "shape": [4], "data_offsets": [0, 10**15]},
        {"dtype": "F32", "shape": [4], "data_offsets": [-16, 0]},
        {"dtype": "F32", "shape": [-4], "data_offsets": [0, 16]},
        {"dtype": "F32", "shape": [-2, -2], "data_offsets": [0, 16]},
        {"dtype": "F32", "shape": [5], "data_offsets": [0, 16]},
        {"dtype": "F32", "shape": [4], "data_offsets": [16, 32]},
        {"dtype": "F128", "shape": [4], "data_offsets": [0, 16]},
        {"dtype": "F32", "shape": "four", "data_offsets": [0, 16]},
        {"dtype": "F32", "shape": [4], "data_offsets": [0.5, 16]},
        {"dtype": "F32", "shape": [0, 10**30], "data_offsets": [0, 0]},
        {"shape": [4]},
        "tensor",
        None,
        [],
    ]
    for entry in entries:
        raw(path, {"__metadata__": meta, "w": entry}, bytes(16))
        with pytest.raises(StoreError):
            read(path)
    raw(
        path,
        {"__metadata__": meta, "w": {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]}},
        bytes(16),
    )
    assert torch.equal(read(path)[0]["w"], torch.zeros(4))
    for said in [
        "[]",
        "{",
        "null",
        "[" * 100_000,
        '{"format": "x"}',
        '{"format": null}',
        "{}",
        "1" * 10_000,
    ]:
        raw(path, {"__metadata__": {**meta, "genus": said}})
        with pytest.raises(StoreError):
            read(path)
    for header in (
        b"[" * 200_000,
        b"{}",
        b"[]",
        b"3",
        b"\xff" * 20,
        {"__metadata__": 3},
        {"__metadata__": ["genus", "sha256"]},
    ):
        raw(path, header)
        with pytest.raises(StoreError):
            read(path)


@pytest.mark.full
def test_reading_costs_less_than_twice_the_file(tmp_path: Path) -> None:
    write(tmp_path / "big", {f"w{i}": torch.rand(2_000_000) for i in range(16)}, {})  # 128 MB
    script = f"""
import resource, genus
from genus import files
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
tensors, _ = files.read({str(tmp_path / "big")!r})
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024 / 128e6)
"""
    env = {**os.environ, "PYTHONPATH": str(Path(genus.__file__).parents[1])}
    out = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, env=env, check=True
    ).stdout
    assert float(out) < 1.5


def test_replacing_leaves_the_old_file_when_the_block_fails(tmp_path: Path):
    path = tmp_path / "x.csv"
    path.write_text("old")
    with pytest.raises(RuntimeError), replacing(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert path.read_text() == "old" and [p.name for p in tmp_path.iterdir()] == ["x.csv"]


@pytest.mark.parametrize("name", ["folder", "n" * 300, "pipe"])
def test_what_cannot_be_replaced_is_named_as_the_caller_named_it(name: str, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    before = sorted(tmp_path.iterdir())
    with pytest.raises(OSError) as error:
        write(tmp_path / name, {"w": torch.ones(3)}, {})
    assert error.value.filename == str(tmp_path / name) and files.MARK not in str(error.value)
    assert sorted(tmp_path.iterdir()) == before


def test_a_link_stays_a_link_and_permissions_stay(path: Path, tmp_path: Path) -> None:
    path.chmod(0o600)
    (tmp_path / "link").symlink_to(path)
    write(tmp_path / "link", {"w": torch.ones(3)}, {})
    assert (tmp_path / "link").is_symlink() and path.stat().st_mode & 0o777 == 0o600
    assert torch.equal(read(path)[0]["w"], torch.ones(3))


def test_what_a_killed_process_left_is_swept(tmp_path: Path) -> None:
    dead = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"],
                          capture_output=True, text=True, check=True).stdout.strip()  # fmt: skip
    left = {
        "old": f"{files.MARK}{dead}.1.0",
        "new": f"{files.MARK}{dead}.1.1",
        "running": f"{files.MARK}{os.getpid()}.1.2",
        "another's": ".genus-notes",
    }
    for name in left.values():
        (tmp_path / name).write_text("half")
    for name in ("old", "running", "another's"):
        os.utime(tmp_path / left[name], (0, 0))
    write(tmp_path / "m", {"w": torch.ones(3)}, {})
    found = {p.name for p in tmp_path.iterdir()}
    assert found == {"m", left["new"], left["running"], left["another's"]}


def test_a_file_larger_than_memory_is_not_read(tmp_path: Path) -> None:
    path, size = tmp_path / "f", 10**14  # of a sparse file, whose header claims it all
    meta = {"genus": json.dumps({"format": 1, "model": {}}), "sha256": BLANK}
    entry = {"dtype": "U8", "shape": [size], "data_offsets": [0, size]}
    raw(path, {"__metadata__": meta, "w": entry})
    try:
        os.truncate(path, path.stat().st_size + size)
    except OSError:
        pytest.skip("this file system has no files of that size")
    with pytest.raises(StoreError, match=r"f has 100,000 GB, more than the memory"):
        read(path)


def test_the_same_tensors_and_facts_make_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write(tmp_path / name, {"w": torch.arange(5.0), "b": torch.ones(2)}, {"x": [1, {"y": 2}]})
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
