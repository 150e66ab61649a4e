"""What is said of a table before the ranking, column by column."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from comparing import Toy, few, none
from genus import Space
from genus.compare.describing import describe, left_out, listed
from genus.compare.entries import not_compared
from genus.compare.run import compare

RNG = np.random.default_rng(0)
N = 200
A, B = RNG.normal(size=N), RNG.normal(size=N)
LETTERS = np.array(list("abcdefgh"))[RNG.integers(8, size=N)]


def said(**columns: object) -> list[str]:
    """Sentences about two plain columns and some more, but for the one about kinds."""
    frame = pd.DataFrame({"plain": A, **columns})
    first, *rest = describe(frame, Space.of(frame))
    assert first.startswith("Columns: continuous: plain")
    return rest


def test_columns_are_grouped_by_kind() -> None:
    frame = pd.DataFrame({"a": A, "word": LETTERS, "b": B, "many": RNG.integers(500, size=N)})
    first, *rest = describe(frame, Space.of(frame))
    assert first == "Columns: continuous: a, b; categorical: word; integer: many." and not rest


def test_long_lists_are_cut() -> None:
    assert listed(list("abcdefghijklm")) == "a, b, c, d, e, f, g, h, i, j, k, l, m"
    assert listed(list("abcdefghijklmn")).endswith("k, l and 2 more")


def test_arrays_and_images_have_no_names() -> None:
    x = np.stack([A, B], 1)
    assert describe(x, Space.of(x)) == []
    x[:, 1] = 4.0
    assert describe(x, Space.of(x)) == ["Constant: column 1."]
    images = np.zeros((9, 4, 4), np.uint8)
    assert describe(images, Space.of(images)) == []


@pytest.mark.parametrize("value", [0.5, "same", np.where(A > 0, 7.5, np.nan)])
def test_a_constant_is_named(value: object) -> None:
    assert said(still=value) == ["Constant: still."]


def test_an_atom_is_named_with_its_share() -> None:
    rain = np.where(np.arange(N) % 10 < 3, 0.0, np.exp(A))
    (line,) = said(rain=rain)
    assert line == "One number holds much of a continuous column: rain (0 in 30 % of the rows)."
    (line,) = said(rain=np.where(np.arange(N) % 10 < 3, -0.0, A))
    assert "rain (0 in 30 %" in line
    assert said(rain=np.where(np.arange(N) < 10, 0.0, np.exp(A))) == []  # not more than 5 %
    assert said(whole=np.where(np.arange(N) % 10 < 3, 0, np.arange(N) * 7)) == []


def test_a_function_of_another_column_is_named() -> None:
    many = RNG.integers(30, size=N) + 100
    assert said(word=LETTERS, grade=np.char.str_len(np.char.multiply(LETTERS, 2))) == [
        "Constant: grade."
    ]
    of = np.array([(ord(letter) - 97) % 7 * 10.5 for letter in LETTERS])
    (_, line) = said(word=LETTERS, of=of)
    assert line == "Functions of another column: of of word."
    (line,) = said(many=many, half=many // 2)
    assert line == "Functions of another column: half of many."
    (line,) = said(many=many, twice=2 * many)
    assert line == "Functions of another column: many and twice of each other."
    broken = 2 * many
    broken[7] = broken[8] + 2 * (broken[7] == broken[8])
    assert said(many=many, twice=broken) == []


def test_real_columns_are_functions_of_each_other_by_their_order() -> None:
    assert said(dollars=-1.1 * A) == [
        "Functions of another column: plain and dollars of each other."
    ]
    assert said(noisy=-1.1 * A + 0.01 * B) == []


def test_few_values_are_no_function() -> None:
    assert said(word=LETTERS, vowel=np.isin(LETTERS, ["a", "e"])) == []


def test_copies_of_rows_are_counted() -> None:
    frame = pd.DataFrame({"a": np.r_[A, A[:30]], "b": np.r_[B, B[:30]]})
    assert describe(frame, Space.of(frame))[1:] == ["30 of 230 rows are copies of earlier ones."]
    bits = RNG.integers(2, size=(N, 4))  # there are sixteen different rows at most
    assert describe(bits, Space.of(bits)) == []


def test_identifiers_of_any_name_are_found() -> None:
    start = "Likely mere names or numbers of the rows, better left out: "
    assert said(patient=np.arange(N) + 1000) == [start + "patient."]
    assert said(order=np.arange(N) + 0.0) == [start + "order."]
    assert said(name=[f"n{i}" for i in range(N)]) == [start + "name."]
    assert said(day=pd.date_range("2020-01-01", periods=N)) == []
    assert said(shuffled=RNG.permutation(N)) == []
    assert said(name=[f"n{i // 2}" for i in range(N)]) == []


def test_fewer_rows_than_columns_are_told() -> None:
    x = RNG.normal(size=(20, 50))
    (line,) = describe(x, Space.of(x))
    assert line.startswith("Fewer rows (20) than columns (50)")
    square = RNG.normal(size=(20, 20))
    assert describe(square, Space.of(square)) == []


def test_families_left_out_are_grouped_by_why() -> None:
    assert left_out({"A": "no.", "B": "too large", "C": "no"}) == [
        "Not compared: A, C (no).",
        "Not compared: B (too large).",
    ]
    reasons = not_compared(Space((3,)), missing=True)
    assert "image" in reasons["PixelCNN"]
    assert not {"GaussianMixture", "MADE", "VAE", "RealNVP", "RBM"} & set(reasons), "all take gaps"
    bits = Space((4, 4), "binary", layout="HW")
    assert "not taken" in not_compared(bits, missing=True)["PixelCNN"]
    assert "PixelCNN" not in not_compared(bits)


def test_it_is_said_before_the_ranking_and_about_all_rows() -> None:
    frame = pd.DataFrame({"key": np.arange(N), "a": A, "b": B})
    table = compare(Toy(), frame, **none)
    text = str(table)
    assert "better left out: key." in table.about[-1]
    assert text.index("Columns: ") < text.index("rank") and "key." in text
    assert table.to_json()["about"] == table.about
    assert "Columns: " in table._repr_html_()
    assert compare(Toy(), np.stack([A, B], 1), **few).about == []
