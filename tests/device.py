"""A device to try models on: a real one where there is one, else one that pretends.

``DEVICE`` is the environment variable GENUS_TEST_DEVICE, else "cuda" where torch finds one, else
"pretend", a back end of torch's PrivateUse1 key that is written in Python (a torch of before it had
such has "cpu"). Its tensors hold their numbers on the processor, so that these are right, but as on
a GPU

    a tensor of the processor may not meet one of the device, but for one number in an operation
        cell by cell. An index of the processor, which a GPU takes after a copy and a wait, is
        refused as well;
    a generator draws on its own device alone;
    ``numpy()`` is refused, and ``cpu()`` is a copy.

``there()`` is the context in which all of this is watched. torch keeps one such back end a process.
"""

from __future__ import annotations

import contextlib
import os
import weakref
from collections.abc import Iterator
from typing import Any
from unittest import mock

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils import backend_registration
from torch.utils._device import _device_constructors
from torch.utils._mode_utils import no_dispatch
from torch.utils._python_dispatch import TorchDispatchMode

NAME = "pretend"
CAN_PRETEND = hasattr(backend_registration, "_setup_privateuseone_for_python_backend")
USUAL = "cuda" if torch.cuda.is_available() else NAME if CAN_PRETEND else "cpu"
DEVICE = os.environ.get("GENUS_TEST_DEVICE") or USUAL
PRETENDS = DEVICE == NAME
aten = torch.ops.aten


class Away(Tensor):
    """A tensor of the pretended device; ``inside`` has its numbers, on the processor."""

    inside: Tensor

    @staticmethod
    def __new__(cls, inside: Tensor) -> Away:
        self = Tensor._make_wrapper_subclass(
            cls,
            inside.shape,
            strides=inside.stride(),
            storage_offset=inside.storage_offset(),
            dtype=inside.dtype,
            device=torch.device(NAME, 0),
        )
        self.inside = inside
        return self

    __torch_function__ = torch._C._disabled_torch_function_impl

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return run(func, args, kwargs or {})

    def __repr__(self, **_: Any) -> str:
        return f"{NAME}({self.inside!r})"

    def tolist(self) -> Any:
        return self.inside.tolist()

    def numpy(self, **_: Any) -> Any:
        raise TypeError(f"can't convert a tensor of {NAME} to numpy: use Tensor.cpu() first")

    __array__ = numpy

    def new_tensor(self, data: Any, *, dtype: Any = None) -> Tensor:
        return torch.tensor(data, dtype=dtype or self.dtype).to(NAME)

    def __deepcopy__(self, memo: dict[int, Any]) -> Tensor:
        own: Tensor = Away(self.inside.clone())
        if isinstance(self, nn.Parameter):
            own = nn.Parameter(own, self.requires_grad)
        return memo.setdefault(id(self), own)

    @property
    def data(self) -> Tensor:
        return self.detach()

    @data.setter
    def data(self, value: Away) -> None:  # what Module.double does
        Tensor.data.__set__(self, value)
        self.inside = value.inside

    def __getitem__(self, index: Any) -> Tensor:
        return super().__getitem__(_indices(index))

    def __setitem__(self, index: Any, value: Any) -> None:
        super().__setitem__(_indices(index), value)


class Generator(torch._C.Generator):
    """torch.Generator for the pretended device as well: it draws as that of the processor."""

    away: weakref.WeakValueDictionary[int, Generator] = weakref.WeakValueDictionary()

    def __new__(cls, device: Any = "cpu") -> Generator:
        away = torch.device(device).type == NAME
        self = super().__new__(cls, "cpu" if away else device)
        if away:
            cls.away[self._cdata] = self
        return self

    @property
    def device(self) -> torch.device:
        return torch.device(NAME, 0) if self._cdata in self.away else super().device


def run(func: Any, args: Any, kwargs: Any) -> Any:
    """An operation on the numbers inside; its results lie where its tensors do, or as is asked."""
    leaves = list(_leaves((*args, *kwargs.values())))
    tensors = [a for a in leaves if isinstance(a, Tensor)]
    own = {id(t.inside): t for t in tensors if isinstance(t, Away)}
    away, asked = bool(own), kwargs.get("device")
    if func is aten.copy_.default:
        away = isinstance(args[0], Away)
    elif asked is not None:
        away = asked.type == NAME
    if Waiting.refused and waits(func, args, tensors, own, away):
        raise RuntimeError(f"called a synchronizing operation of {NAME}: {func}")
    if own and func not in (aten.copy_.default, aten._to_copy.default):
        refuse_strangers(func, tensors)
    for g in leaves:
        if isinstance(g, torch._C.Generator):
            refuse_stranger_generator(g, away)
    if not own and not away:
        return func(*args, **kwargs)
    here = {"device": torch.device("cpu")} if away and asked is not None else {}
    kwargs = {k: _inside(v) for k, v in kwargs.items()} | here
    if func is aten._efficientzerotensor.default:  # no kernel of the processor takes it here
        func = aten.zeros.default
    out = func(*map(_inside, args), **kwargs)
    if own and torch.Tag.inplace_view in func.tags:  # as squeeze_: the shape outside as well
        with no_dispatch():
            func(*args)
    return _outside(out, own) if away else out


def _leaves(values: Any) -> Iterator[Any]:
    for v in values:
        if isinstance(v, list | tuple):
            yield from _leaves(v)
        else:
            yield v


def _inside(value: Any) -> Any:
    """A tensor of the device as one of the processor, also in a list; all else as it is."""
    if isinstance(value, Away):
        return value.inside
    return type(value)(map(_inside, value)) if type(value) in (list, tuple) else value


def _outside(value: Any, own: dict[int, Away]) -> Any:
    """The way back; what an operation changed in place is the tensor that it was."""
    if isinstance(value, Tensor):
        return own[id(value)] if id(value) in own else Away(value)
    if isinstance(value, list | tuple):
        return type(value)([_outside(v, own) for v in value])
    return value


class Waiting:
    """Does whoever waits for the device to tell a number raise RuntimeError?"""

    refused = False


@contextlib.contextmanager
def no_waiting(*_: Any) -> Iterator[None]:
    """Inside this context it does, as under torch.cuda.set_sync_debug_mode("error")."""
    before, Waiting.refused = Waiting.refused, True
    try:
        yield
    finally:
        Waiting.refused = before


TELLS = {"_local_scalar_dense", "nonzero", "masked_select", "equal", "_unique2", "unique_dim"}
TELLS |= {"bincount", "repeat_interleave"}


def waits(func: Any, args: Any, tensors: list[Tensor], own: Any, away: bool) -> bool:
    """Would a GPU keep the processor waiting here?"""
    if func in (aten.copy_.default, aten._to_copy.default):
        there = [isinstance(t, Away) for t in tensors]
        return any(there) != all(there) or bool(there) and all(there) != away
    masks = isinstance(args[1], list) if func._opname in ("index", "index_put", "index_put_") else 0
    mask = masks and any(t is not None and t.dtype == torch.bool for t in args[1])
    return bool(own) and (func._opname in TELLS or bool(mask))


def refuse_strangers(func: Any, tensors: list[Tensor]) -> None:
    """Raise RuntimeError where a tensor of the processor meets one of the device."""
    by_cell = torch.Tag.pointwise in func.tags
    for t in tensors:
        if not isinstance(t, Away) and not (by_cell and t.dim() == 0):
            raise RuntimeError(
                f"Expected all tensors to be on the same device, but {func} was given one of shape "
                f"{tuple(t.shape)} on {t.device} beside those on {NAME}"
            )


def refuse_stranger_generator(g: Any, away: bool) -> None:
    """Raise RuntimeError where a generator would fill a tensor of another device."""
    wanted, found = (NAME if a else "cpu" for a in (away, g._cdata in Generator.away))
    if wanted != found:
        raise RuntimeError(f"Expected a {wanted!r} device type for generator but found {found!r}")


class _Module(backend_registration._DummyBackendModule):
    """What torch asks of a back end before it turns autocast off."""

    def get_amp_supported_dtype(self) -> list[torch.dtype]:
        return [torch.bfloat16]


class _Watch(TorchDispatchMode):
    """Sees draws on the processor too, which may come from a generator of the device."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return run(func, args, kwargs or {})


def _set_up() -> torch.library.Library:
    """Make the device known to torch; what makes tensors from nothing, as zeros do, comes here."""
    _device_constructors()  # torch remembers them: before any is replaced, in ``there``
    backend_registration._setup_privateuseone_for_python_backend(NAME, backend_module=_Module())
    library = torch.library.Library("_", "IMPL")
    library.fallback(lambda op, *args, **kwargs: run(op, args, kwargs), "PrivateUse1")
    return library


_LIBRARY = _set_up() if PRETENDS else None


def _indices(index: Any) -> Any:
    """An index whose lists are tensors of the device: torch would make them behind our back."""
    if isinstance(index, tuple):
        return tuple(_indices(list(i) if isinstance(i, tuple) else i) for i in index)
    if isinstance(index, list | np.ndarray):
        return torch.as_tensor(index, dtype=None if len(index) else torch.long).to(NAME)
    return index


def _carried(make: Any) -> Any:
    """torch.tensor and its like, which fill their result behind the back of a Python device."""

    def carried(data: Any, *, device: Any = None, dtype: Any = None, **more: Any) -> Tensor:
        if isinstance(data, Tensor):
            return data.to(device=device or data.device, dtype=dtype or data.dtype)
        made = make(data, dtype=dtype, **more)
        return made if device is None else made.to(device)

    return carried


@contextlib.contextmanager
def there() -> Iterator[str]:
    """Inside this context the device, whose name it gives, can be used."""
    if not PRETENDS:
        with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
            yield DEVICE
        return
    ours = {"Generator": Generator}
    ours |= {name: _carried(getattr(torch, name)) for name in ("tensor", "as_tensor")}
    with mock.patch.multiple(torch, **ours), _Watch():
        yield DEVICE
