"""The Bayesian Interchange Format, in which networks are exchanged (Cozman, 1998).

The dialect is that of the bnlearn repository.

    network name { }
    variable A { type discrete [ 2 ] { yes, no }; }
    probability ( A ) { table 0.2, 0.8; }
    probability ( B | A ) { (yes) 0.9, 0.1; default 0.5, 0.5; }

Names are words, several words between commas, or quoted. A ``table`` with parents runs through all
states with the last parent fastest and B slowest; ``default`` fills the rows that have none. ``//``
and ``/* */`` are comments.
"""

from __future__ import annotations

import gzip
import itertools
import math
import re
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from os import PathLike
from pathlib import Path

import torch
from torch import Tensor

from genus.files import replacing

__all__ = ["BifNetwork", "read_bif", "write_bif"]

# a row this close to 1 is left as it is, so that a written file is read back bit for bit
ROUNDING = 1e-12
FAR = 1e-3  # a row further from 1 is worth a warning

TOKEN = re.compile(
    r'\s+|//[^\n]*|/\*.*?\*/|(?P<quoted>"(?:[^"\\]|\\.)*")|(?P<mark>[{}()\[\]|,;])|(?P<word>(?!")[^\s{}()\[\]|,;]+)',
    re.DOTALL,
)
WORD = re.compile(r'(?!//|/\*)[^\s{}()\[\]|,;"\\]+')


@dataclass
class BifNetwork:
    """A discrete Bayesian network as a file holds it.

    states: variable → its states. parents: variable → its parents. tables: variable → p(variable |
    parents), float64, an axis for each parent in order, then one for the variable.
    """

    name: str
    states: dict[str, tuple[str, ...]]
    parents: dict[str, tuple[str, ...]]
    tables: dict[str, Tensor]


def read_bif(path: str | PathLike[str]) -> BifNetwork:
    """The network in a BIF file (``.gz`` too), its tables normalised.

    A row off by more than 1e-3 gives a warning. Raises ValueError, with the line,
    where the file is no network.
    """
    path = Path(path)
    raw = path.read_bytes()
    text = (gzip.decompress(raw) if path.suffix == ".gz" else raw).decode("utf-8-sig")
    return _Reader(text, path.name).network()


def write_bif(network: BifNetwork, path: str | PathLike[str]) -> None:
    """Write the network so that :func:`read_bif` gives the same names and bits.

    A ``.gz`` file is compressed.
    """
    lines = [f"network {_quoted(network.name or 'unknown')} {{", "}"]
    for v, states in network.states.items():
        lines += [
            f"variable {_quoted(v)} {{",
            f"  type discrete [ {len(states)} ] {{ {', '.join(map(_quoted, states))} }};",
            "}",
        ]
    for v, table in network.tables.items():
        parents = network.parents[v]
        shape = [len(network.states[u]) for u in (*parents, v)]
        if list(table.shape) != shape:
            raise ValueError(
                f"the table of {v!r} has shape {tuple(table.shape)}, "
                f"its states and parents say {tuple(shape)}"
            )
        given = f" | {', '.join(map(_quoted, parents))}" if parents else ""
        lines.append(f"probability ( {_quoted(v)}{given} ) {{")
        rows = table.detach().double().cpu().reshape(-1, shape[-1]).tolist()
        for key, row in zip(
            itertools.product(*(network.states[u] for u in parents)), rows, strict=True
        ):
            start = f"({', '.join(map(_quoted, key))})" if parents else "table"
            lines.append(f"  {start} {', '.join(map(repr, row))};")
        lines.append("}")
    data = ("\n".join(lines) + "\n").encode()
    path = Path(path)
    with replacing(path) as temporary:
        temporary.write_bytes(gzip.compress(data, mtime=0) if path.suffix == ".gz" else data)


def _quoted(name: str) -> str:
    if WORD.fullmatch(name):
        return name
    return '"' + name.replace("\\", "\\\\").replace('"', '\\"') + '"'


class _Reader:
    """A recursive-descent parser; ``i`` is the next token."""

    def __init__(self, text: str, file: str) -> None:
        self.text, self.file = text, file
        self.tokens = list(_tokens(text))
        self.i = 0

    def fail(self, message: str) -> ValueError:
        at = self.tokens[min(self.i, len(self.tokens) - 1)][2] if self.tokens else 0
        return ValueError(f"{self.file}, line {self.text.count(chr(10), 0, at) + 1}: {message}")

    def peek(self) -> str:
        return (
            self.tokens[self.i][1]
            if self.i < len(self.tokens) and self.tokens[self.i][0] != "quoted"
            else ""
        )

    def take(self, *marks: str) -> str:
        """The next token, which has to be one of these."""
        token = self.peek()
        if token not in marks:
            found = (
                repr(self.tokens[self.i][1]) if self.i < len(self.tokens) else "the end of the file"
            )
            raise self.fail(f"expected {' or '.join(map(repr, marks))}, found {found}")
        self.i += 1
        return token

    def label(self) -> str:
        """A name: one quoted token, or all words up to the next mark, with one space between."""
        parts = []
        while self.i < len(self.tokens) and self.tokens[self.i][0] != "mark":
            kind, token, _ = self.tokens[self.i]
            parts.append(re.sub(r'\\(["\\])', r"\1", token[1:-1]) if kind == "quoted" else token)
            self.i += 1
        if not parts:
            raise self.fail("expected a name")
        return " ".join(parts)

    def labels(self, end: str) -> list[str]:
        """Names with commas between, and the closing mark."""
        names = [self.label()]
        while self.take(",", end) == ",":
            names.append(self.label())
        return names

    def numbers(self) -> list[float]:
        """Numbers up to a semicolon, with commas or spaces between."""
        values = []
        while self.peek() != ";":
            if self.peek() == ",":
                self.i += 1
                continue
            try:
                values.append(float(self.peek()))
            except ValueError:
                raise self.fail(f"expected a number or ';', found {self.peek()!r}") from None
            if not (0 <= values[-1] < math.inf):
                raise self.fail(f"{self.peek()} is no probability")
            self.i += 1
        self.i += 1
        return values

    def skip(self) -> None:
        """Past the next semicolon: properties say nothing about the joint."""
        while self.peek() != ";":
            if self.i >= len(self.tokens):
                raise self.fail("expected ';'")
            self.i += 1
        self.i += 1

    def network(self) -> BifNetwork:
        net = BifNetwork("unknown", {}, {}, {})
        late = []  # a probability block may stand before the variables
        while self.i < len(self.tokens):
            kind = self.take("network", "variable", "probability")
            if kind == "network":
                net.name = self.label()
                self.take("{")
                while self.peek() != "}":
                    self.skip()
                self.i += 1
            elif kind == "variable":
                self.variable(net)
            else:
                late.append(self.i)
                while self.peek() != "}":
                    if self.i >= len(self.tokens):
                        raise self.fail("expected '}'")
                    self.i += 1
                self.i += 1
        for self.i in late:
            self.probability(net)
        if not net.states:
            raise ValueError(f"{self.file}: no network is in this file")
        if missing := [v for v in net.states if v not in net.tables]:
            raise ValueError(
                f"{self.file}: no probability block for {', '.join(map(repr, missing[:5]))}"
            )
        net.parents = {v: net.parents[v] for v in net.states}
        net.tables = {v: net.tables[v] for v in net.states}
        self.normalise(net)
        return net

    def variable(self, net: BifNetwork) -> None:
        name = self.label()
        if name in net.states:
            raise self.fail(f"the variable {name!r} is declared twice")
        self.take("{")
        while self.peek() != "}":
            if self.take("type", "property") == "property":
                self.skip()
                continue
            self.take("discrete")
            self.take("[")
            count = self.label()
            self.take("]")
            self.take("{")
            states = self.labels("}")
            if len(states) == 1 and count != "1" and str(len(states[0].split())) == count:
                states = states[0].split()  # spaces between instead of commas
            self.take(";")
            if str(len(states)) != count or len(set(states)) < len(states):
                raise self.fail(
                    f"{name!r} says it has {count} states and lists "
                    f"{len(set(states))} different ones"
                )
            net.states[name] = tuple(states)
        if name not in net.states:
            raise self.fail(f"{name!r} has no 'type discrete': only discrete variables are read")
        self.i += 1

    def probability(self, net: BifNetwork) -> None:
        self.take("(")
        name, parents = self.label(), []
        if self.take("|", ",", ")") != ")":
            parents = self.labels(")")
        for v in (name, *parents):
            if v not in net.states:
                raise self.fail(f"no variable is called {v!r}")
        if name in net.tables:
            raise self.fail(f"{name!r} has two probability blocks")
        if len({name, *parents}) <= len(parents):
            raise self.fail(f"{name!r} has a parent twice, or is its own")
        shape = [len(net.states[v]) for v in (*parents, name)]
        rows: dict[tuple[int, ...], list[float]] = {}
        default: list[float] | None = None
        table: Tensor | None = None
        self.take("{")
        while self.peek() != "}":
            kind = self.take("(", "table", "default", "property")
            if kind == "property":
                self.skip()
                continue
            key = (
                tuple(self.state(net, v, s) for v, s in self.pairs(name, parents))
                if kind == "("
                else ()
            )
            if key in rows:
                raise self.fail(f"{name!r} has two rows for the same states of its parents")
            begun = self.i
            values = self.numbers()
            wanted = math.prod(shape) if kind == "table" else shape[-1]
            if len(values) != wanted:
                self.i = begun
                raise self.fail(f"{name!r} needs {wanted} numbers here, there are {len(values)}")
            if kind == "(":
                rows[key] = values
            elif kind == "default":
                default = values
            else:  # the variable itself runs slowest
                table = (
                    torch.tensor(values, dtype=torch.float64)
                    .reshape(shape[-1], -1)
                    .T.reshape(shape)
                )
        if table is None:
            keys = list(itertools.product(*map(range, shape[:-1])))
            if default is None and (absent := [k for k in keys if k not in rows]):
                states = ", ".join(
                    net.states[v][s] for v, s in zip(parents, absent[0], strict=True)
                )
                raise self.fail(f"{name!r} has no row for ({states}) and no default")
            table = torch.tensor([rows.get(k, default) for k in keys], dtype=torch.float64).reshape(
                shape
            )
        self.i += 1
        net.parents[name], net.tables[name] = tuple(parents), table

    def pairs(self, name: str, parents: list[str]) -> Iterator[tuple[str, str]]:
        states = self.labels(")")
        if len(states) != len(parents):
            raise self.fail(
                f"{name!r} has {len(parents)} parents, this row names {len(states)} states"
            )
        return zip(parents, states, strict=True)

    def state(self, net: BifNetwork, variable: str, state: str) -> int:
        if state not in net.states[variable]:
            raise self.fail(
                f"{variable!r} has no state {state!r}; it has {', '.join(net.states[variable])}"
            )
        return net.states[variable].index(state)

    def normalise(self, net: BifNetwork) -> None:
        far = {}
        for v, table in net.tables.items():
            total = table.sum(-1, keepdim=True)
            if bool((total == 0).any()):
                raise ValueError(f"{self.file}: {v!r} has a row of probabilities that are all 0")
            off = (total - 1).abs()
            if float(off.max()) > FAR:
                far[v] = float(total.reshape(-1)[off.argmax()])
            net.tables[v] = torch.where(off > ROUNDING, table / total, table)
        if far:
            worst = sorted(far, key=lambda v: -abs(far[v] - 1))[:5]
            listed = ", ".join(f"{v!r} (a row sums to {far[v]:.4g})" for v in worst)
            warnings.warn(
                f"{self.file}: probabilities of {len(far)} variable(s) were normalised: {listed}",
                stacklevel=4,
            )


def _tokens(text: str) -> Iterator[tuple[str, str, int]]:
    """(kind, text, place) of each token."""
    i = 0
    while i < len(text):
        m = TOKEN.match(text, i)
        if m is None:
            raise ValueError(f"line {text.count(chr(10), 0, i) + 1}: a quoted name does not end")
        if m.lastgroup:
            yield m.lastgroup, m.group(), i
        i = m.end()
