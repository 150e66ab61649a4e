"""Networks in files: what is written is read back bit for bit, and what is wrong is said."""

from __future__ import annotations

import gzip
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from genus.models.graphs.bif import BifNetwork, read_bif, write_bif

SPRINKLER = """
// a comment
network "wet grass" { property author nobody; }
variable Cloudy { type discrete [ 2 ] { yes, no }; }   /* another
one */
variable Sprinkler { type discrete[2] {on, off}; property position = (1, 2); }
variable Rain {
  type discrete [ 3 ] { none, light rain, >=5 mm };
}
variable Wet { type discrete [ 2 ] { yes, no }; }
probability ( Cloudy ) { table 0.4, 0.6; }
probability ( Sprinkler | Cloudy ) {
  (no) 0.5, 0.5; // rows in any order
  (yes) 0.1, 0.9;
}
probability ( Rain | Cloudy ) { (yes) 0.2, 0.5, 0.3; default 0.8, 0.15, 5e-2; }
probability ( Wet | Sprinkler, Rain ) {
  (on, none) 0.9, 0.1;
  (on, light rain) 0.95, 0.05;
  (on, >=5 mm) 0.99, 0.01;
  (off, none) 0.0, 1.0;
  default 0.9 0.1;
}
"""


def read(tmp_path: Path, text: str) -> BifNetwork:
    path = tmp_path / "net.bif"
    path.write_text(text, encoding="utf-8")
    return read_bif(path)


def one(block: str, states: str = "a, b", count: int = 2) -> str:
    """A network of X and Y with this block for Y."""
    return f"""variable X {{ type discrete [ 2 ] {{ s, t }}; }}
variable Y {{ type discrete [ {count} ] {{ {states} }}; }}
probability ( X ) {{ table 0.5, 0.5; }}
{block}
"""


def test_the_dialect_is_read(tmp_path: Path) -> None:
    net = read(tmp_path, SPRINKLER)
    assert net.name == "wet grass"
    assert net.states == {
        "Cloudy": ("yes", "no"),
        "Sprinkler": ("on", "off"),
        "Rain": ("none", "light rain", ">=5 mm"),
        "Wet": ("yes", "no"),
    }
    assert net.parents == {
        "Cloudy": (),
        "Sprinkler": ("Cloudy",),
        "Rain": ("Cloudy",),
        "Wet": ("Sprinkler", "Rain"),
    }
    assert net.tables["Sprinkler"].tolist() == [[0.1, 0.9], [0.5, 0.5]]
    assert net.tables["Rain"].tolist() == [[0.2, 0.5, 0.3], [0.8, 0.15, 0.05]]
    assert net.tables["Wet"].shape == (2, 3, 2)
    assert net.tables["Wet"][0, 2].tolist() == [0.99, 0.01] and net.tables["Wet"][
        1, 1
    ].tolist() == [0.9, 0.1]
    assert net.tables["Wet"].dtype == torch.float64


def test_a_table_with_parents_runs_through_the_parents_first(tmp_path: Path) -> None:
    net = read(tmp_path, one("probability ( Y | X ) { table 0.1 0.3 0.9 0.7; }"))
    assert net.tables["Y"].tolist() == [[0.1, 0.9], [0.3, 0.7]]


def test_blocks_stand_in_any_order(tmp_path: Path) -> None:
    lines = one("probability ( Y | X ) { (s) 0.1, 0.9; (t) 0.3, 0.7; }").strip().split("\n")
    there, back = read(tmp_path, "\n".join(lines)), read(tmp_path, "\n".join(lines[::-1]))
    assert all(torch.equal(there.tables[v], back.tables[v]) for v in "XY")


def test_quoted_names_hold_anything(tmp_path: Path) -> None:
    text = one(
        r"probability ( Y | X ) { (s) 0.1, 0.9; (t) 0.3, 0.7; }", r'"(-1,2] // \"x\" \\ {;}", "a|b"'
    )
    net = read(tmp_path, text)
    assert net.states["Y"] == (r'(-1,2] // "x" \ {;}', "a|b")


NAMES = st.text(
    st.characters(codec="utf-8", exclude_categories=("Cs", "Cc")), max_size=8
) | st.sampled_from(
    [
        "<5.5",
        ">=10",
        "table",
        "default",
        "a b",
        "  a  ",
        '"',
        "\\",
        '\\"',
        "//",
        "/*x*/",
        "(1,2]",
        "{",
        "variable",
        "",
        "1e-3",
        "it's",
    ]
)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.data())
def test_writing_and_reading_gives_the_same_bits(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    names = data.draw(st.lists(NAMES, min_size=1, max_size=5, unique=True))
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    net = BifNetwork(data.draw(NAMES), {}, {}, {})
    for k, v in enumerate(names):
        net.states[v] = tuple(data.draw(st.lists(NAMES, min_size=1, max_size=4, unique=True)))
        net.parents[v] = tuple(data.draw(st.permutations(names[:k])))[: int(rng.integers(3))]
        shape = [len(net.states[u]) for u in net.parents[v]]
        net.tables[v] = torch.tensor(rng.dirichlet(np.full(len(net.states[v]), 0.3), shape))
    path = tmp_path_factory.mktemp("bif") / data.draw(st.sampled_from(["net.bif", "net.bif.gz"]))
    write_bif(net, path)
    back = read_bif(path)
    assert (back.name, back.states, back.parents) == (
        net.name or "unknown",
        net.states,
        net.parents,
    )
    assert list(back.states) == list(net.states)
    for v, table in net.tables.items():
        assert torch.equal(back.tables[v], table)


def test_a_second_round_changes_nothing_once_normalised(tmp_path: Path) -> None:
    net = read(
        tmp_path,
        one(
            "probability ( Y | X ) { (s) 0.3333, 0.3333, 0.3333; (t) 0.1, 0.2, 0.70005; }",
            "a, b, c",
            3,
        ),
    )
    torch.testing.assert_close(
        net.tables["Y"].sum(1), torch.ones(2, dtype=torch.float64), rtol=0, atol=1e-15
    )
    assert net.tables["Y"][0].tolist() == [1 / 3] * 3
    write_bif(net, tmp_path / "again.bif")
    assert torch.equal(read_bif(tmp_path / "again.bif").tables["Y"], net.tables["Y"])


def test_a_row_far_from_one_is_named(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match=r"1 variable.*'Y' \(a row sums to 0\.9\)"):
        net = read(tmp_path, one("probability ( Y | X ) { (s) 0.1, 0.9; (t) 0.3, 0.6; }"))
    np.testing.assert_allclose(net.tables["Y"][1], [1 / 3, 2 / 3], rtol=1e-15)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # rounding is no reason to warn
        read(tmp_path, one("probability ( Y | X ) { (s) 0.1, 0.9001; (t) 0.3, 0.7; }"))


@pytest.mark.parametrize(
    ("block", "message"),
    [
        ("", "no probability block for 'Y'"),
        (
            "probability ( Y | X ) { (s) 0.1, 0.9; }",
            r"line 4: 'Y' has no row for \(t\) and no default",
        ),
        (
            "probability ( Y | X ) {\n (s) 0.1, 0.8, 0.1; default 0.5, 0.5; }",
            "line 5: 'Y' needs 2 numbers here, there are 3",
        ),
        (
            "probability ( Y | X ) { (u) 0.1, 0.9; default 0.5, 0.5; }",
            "'X' has no state 'u'; it has s, t",
        ),
        (
            "probability ( Y | X ) { (s, t) 0.1, 0.9; default 0.5, 0.5; }",
            "'Y' has 1 parents, this row names 2",
        ),
        ("probability ( Y | X ) { (s) 0.1, 0.9; (s) 0.1, 0.9; }", "two rows for the same states"),
        (
            "probability ( Y | X ) { (s) 0, 0; (t) 0.1, 0.9; }",
            "'Y' has a row of probabilities that are all 0",
        ),
        ("probability ( Y | X ) { (s) -0.1, 1.1; (t) 0.1, 0.9; }", r"-0\.1 is no probability"),
        ("probability ( Y | X ) { (s) nan, 1; (t) 0.1, 0.9; }", "nan is no probability"),
        (
            "probability ( Y | X ) { (s) 0.1, x; (t) 0.1, 0.9; }",
            "expected a number or ';', found 'x'",
        ),
        ("probability ( Y | Z ) { default 0.1, 0.9; }", "no variable is called 'Z'"),
        ("probability ( Y | X, X ) { default 0.1, 0.9; }", "has a parent twice"),
        ("probability ( X ) { table 0.1, 0.9; }", "'X' has two probability blocks"),
        ("variable X { type discrete [ 1 ] { a }; }", "'X' is declared twice"),
        ("variable Z { type continuous; }", "expected 'discrete', found 'continuous'"),
        ("variable Z { type discrete [ 3 ] { a, b }; }", "says it has 3 states and lists 2"),
        ("probability ( Y ) { table 0.1, 0.9; ", "expected '}'"),
        ('variable "Z { type discrete [ 1 ] { a }; }', "a quoted name does not end"),
        ("nonsense", "expected 'network' or 'variable' or 'probability', found 'nonsense'"),
    ],
)
def test_what_is_wrong_is_said(tmp_path: Path, block: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read(tmp_path, one(block))


def test_every_truncation_is_an_error_with_a_line(tmp_path: Path) -> None:
    """No prefix of a file reads as the network, crashes or hangs."""
    whole = SPRINKLER.strip()
    for end in range(10, len(whole) - 1, 7):
        with pytest.raises(ValueError):
            read(tmp_path, whole[:end])


def test_compressed_files_are_the_same_text(tmp_path: Path) -> None:
    net = read(tmp_path, SPRINKLER)
    write_bif(net, tmp_path / "a.bif")
    write_bif(net, tmp_path / "a.bif.gz")
    assert (
        gzip.decompress((tmp_path / "a.bif.gz").read_bytes()) == (tmp_path / "a.bif").read_bytes()
    )


def test_a_table_of_the_wrong_shape_is_not_written(tmp_path: Path) -> None:
    net = read(tmp_path, SPRINKLER)
    net.tables["Rain"] = net.tables["Rain"].T
    with pytest.raises(ValueError, match=r"table of 'Rain' has shape \(3, 2\)"):
        write_bif(net, tmp_path / "x.bif")


def test_a_network_is_written_whole_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "net.bif"
    path.write_text("old")

    def full(self: Path, data: bytes) -> int:
        with self.open("wb") as f:
            f.write(data[:10])
        raise OSError(28, "No space left on device")

    network = BifNetwork("n", {"a": ("x", "y")}, {"a": ()}, {"a": torch.tensor([0.5, 0.5])})
    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match="No space left"):
        write_bif(network, path)
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]
