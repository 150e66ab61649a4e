"""Training rows, in memory or read batch by batch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from genus import Trainer, sources
from genus.learn import rows
from genus.learn.rows import Rows, generator, take_up
from toys import ToyVAE
from training import Slope, X, same


class Items(torch.utils.data.Dataset):
    def __init__(self, x: np.ndarray) -> None:
        self.x = x

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, i: int) -> Any:
        return torch.from_numpy(self.x[i]), 0


@pytest.mark.parametrize("trainer", [Trainer(), Trainer(validation=0.2)])
@pytest.mark.parametrize(
    "X",
    [X.astype(np.float32), np.random.default_rng(0).integers(0, 256, (100, 3)).astype(np.uint8)],
    ids=["float", "uint8"],
)
def test_streams_equal_memory_bit_for_bit(
    X: np.ndarray, trainer: Trainer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory = ToyVAE(trainer=trainer, random_state=0).fit(X)
    assert same(memory, ToyVAE(trainer=trainer, random_state=0).fit(Items(X)))
    np.save(tmp_path / "x.npy", X)
    monkeypatch.setattr(sources, "IN_MEMORY", 0)
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    model = ToyVAE(trainer=trainer, random_state=0).fit(mapped)
    assert same(memory, model)
    assert isinstance(model._rows(mapped).x, rows.Stream)


def test_grey_values_under_a_binary_space_are_drawn_afresh_for_every_batch() -> None:
    class Seen(Slope):
        def losses(self, x: torch.Tensor) -> Any:
            self.log.append({"x": x.clone()})
            yield self, self.bias_.sum()

    grey = np.random.default_rng(0).random((400, 3))
    model = Seen(trainer=Trainer(batch_size=400, epochs=20), random_state=0).fit(
        grey, space="binary"
    )
    xs = torch.stack([s["x"].sort(0).values for s in model.log])
    assert set(xs.unique().tolist()) == {0.0, 1.0}
    assert not torch.equal(xs[0], xs[1])
    assert np.allclose(xs.mean((0, 1)), grey.mean(0), atol=0.02)


def test_the_state_of_a_stream_of_another_device_seeds_it() -> None:
    there = torch.arange(16, dtype=torch.uint8)  # of a GPU
    one, two = generator(0), generator(1)
    take_up(one, there), take_up(two, there)
    assert torch.equal(one.get_state(), two.get_state())
    take_up(two, there + 1)
    assert not torch.equal(one.get_state(), two.get_state())
    take_up(two, one.get_state())
    assert torch.equal(one.get_state(), two.get_state())
    with pytest.raises(RuntimeError):
        take_up(one, torch.zeros(3, dtype=torch.uint8))


def test_the_order_of_rows_is_that_of_the_stream() -> None:
    order = Rows(torch.zeros(5, 2)).order(generator(3))
    assert torch.equal(order, torch.randperm(5, generator=generator(3)))
