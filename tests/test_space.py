"""Space: what is inferred, what goes in and out, and what a bad value is told."""

import json
import warnings

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import genus
from genus.coding import Column
from genus.space import Space

NAN = float("nan")


def again(space):
    """The space after a trip through a JSON file."""
    return Space.from_json(json.loads(json.dumps(space.to_json())))


def same(a, b):
    assert type(a) is type(b)
    if isinstance(a, pd.DataFrame):
        pd.testing.assert_frame_equal(a, b)
    elif isinstance(a, torch.Tensor):
        assert a.dtype == b.dtype and torch.equal(a, b)
    else:
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(a, b)


# ---------------------------------------------------------------------- inference


@pytest.mark.parametrize("dtype", ["bool", "uint8", "int64", "float32", "float64"])
def test_zeros_and_ones_are_binary_whatever_the_dtype(dtype):
    space = Space.of(np.array([[0, 1], [1, 0]], dtype=dtype))
    assert (space.kind, space.levels, space.dtype, space.measure) == (
        "binary",
        2,
        dtype,
        "probability",
    )


def test_zeros_and_ones_with_gaps_are_binary():
    assert Space.of(np.array([[0.0, NAN], [1.0, 1.0]])).kind == "binary"


def test_bytes_are_ordinal_with_256_levels():
    space = Space.of(np.array([[3, 200]], dtype=np.uint8))
    assert (space.kind, space.levels, space.low) == ("ordinal", 256, 0)


def test_integers_are_ordered_however_few_they_are():
    few = Space.of(np.array([[1], [10], [1]]))
    assert (few.kind, few.levels, few.low) == ("integer", 10, 1)
    assert few.bounds(0) == (-1.0, None), "counts stay counts"
    assert Space.of(np.array([[-1], [10]])).bounds(0) == (None, None)


def test_labels_of_few_whole_numbers_are_categories():
    few, many = Space.of_labels(np.arange(20) * 3 - 7), Space.of_labels(np.arange(21) - 7)
    assert (few.kind, few.levels, few.values[:2]) == ("categorical", 20, (-7, -4))
    assert (many.kind, many.levels, many.low) == ("integer", 21, -7)
    frame = Space.of_labels(pd.DataFrame({"digit": [3, 1, 2], "size": [0.5, 1.5, 2.5]}))
    assert frame.kinds == ("categorical", "continuous")
    assert not any(Space.of_labels(np.array(["a", "b"])).open), "conditions stay as they were seen"


def test_floats_are_continuous_even_when_whole():
    assert Space.of(np.array([[1.0, 2.0]])).kind == "continuous"
    assert Space.of([[1.5, 2]]).measure == "density"


@pytest.mark.parametrize(
    ("shape", "layout", "image"),
    [
        ((4, 8, 6), "HW", (1, 8, 6)),
        ((4, 3, 8, 6), "CHW", (3, 8, 6)),
        ((4, 8, 6, 3), "HWC", (3, 8, 6)),
        ((4, 8, 6, 5), None, None),
        ((4, 9), None, None),
    ],
)
def test_layouts(shape, layout, image):
    space = Space.of(np.full(shape, 0.5))
    assert (space.layout, space.image_shape, space.shape) == (layout, image, shape[1:])


def test_an_ambiguous_layout_asks_for_a_space_and_takes_one():
    X = np.full((5, 3, 8, 3), 0.5)
    with pytest.raises(ValueError, match="layout='CHW' or 'HWC'"):
        Space.of(X)
    assert Space.of(X, Space((3, 8, 3), layout="HWC")).image_shape == (3, 3, 8)


def test_a_kind_overrides_the_inferred_one():
    X = np.array([[0, 1], [3, 1]], dtype=np.uint8)
    assert Space.of(X, "continuous").kind == "continuous"
    assert Space.of(X, "ordinal").levels == 256
    assert Space.of(X, "categorical").values == (0, 1, 3)
    assert Space.of(X.astype(int), "ordinal").levels == 4
    with pytest.raises(ValueError, match="'binray' is unknown"):
        Space.of(X, "binray")
    with pytest.raises(ValueError, match=r"X has 3 in column 0 \(row 1\): outside 0 … 1"):
        Space.of(X, "binary").encode(X)


def test_columns_of_a_table_have_a_kind_each():
    df = pd.DataFrame(
        {
            "real": [1.5, 2.0, NAN],
            "yes": [True, False, True],
            "bit": [0, 1, 1],
            "few": [7, 9, 7],
            "gaps": [7.0, NAN, 9.0],
            "word": ["b", "a", None],
            "size": pd.Categorical(["s", "l", "s"], categories=["s", "m", "l"], ordered=True),
        }
    )
    space = Space.of(df)
    assert space.kinds == (
        "continuous",
        "binary",
        "binary",
        "integer",
        "integer",
        "categorical",
        "categorical",
    )
    assert space.cardinality == (0, 2, 2, 3, 3, 2, 3)
    assert space.open == (False, False, False, False, False, True, False)
    assert (
        space.measure == "mixed"
        and str(space) == "table of 7 columns: 2 binary, 2 integer, 2 categorical, 1 continuous"
    )
    assert (
        Space.of(df[["bit", "word"]]).measure == "probability"
        and Space.of(df[["real"]]).measure == "density"
    )
    # a kind's name is for numbers
    assert Space.of(df[["few", "word"]], "ordinal").kinds == ("ordinal", "categorical")


def test_whole_numbers_of_a_table_are_whole_whatever_holds_them():
    frame = pd.DataFrame(
        {"year": range(1990, 2020), "gaps": [NAN, *range(29)], "rating": [1.0, 3.0, 5.0] * 10}
    )
    assert [(c.kind, c.low, c.levels) for c in Space.of(frame).columns] == [
        ("integer", 1990, 30),
        ("integer", 0, 29),
        ("integer", 1, 5),
    ]
    assert Space.of(frame.dropna()).kinds == Space.of(frame).kinds


def test_a_kind_a_column_overrides():
    frame = pd.DataFrame({"code": [7, 9, 7], "size": [1, 2, 3]})
    space = Space.of(frame, {"code": "categorical"})
    assert space.kinds == ("categorical", "integer") and not any(space.open)
    with pytest.raises(ValueError, match="'colour' that X has not"):
        Space.of(frame, {"colour": "categorical"})
    with pytest.raises(ValueError, match="column 'code' has the kind 'words'"):
        Space.of(frame, {"code": "words"})
    with pytest.raises(ValueError, match="needs X to be a DataFrame"):
        Space.of(frame.to_numpy(), {"code": "categorical"})


def test_real_numbers_of_a_table_have_bounds_atoms_and_decimals():
    r = np.random.default_rng(0)
    n = 500
    frame = pd.DataFrame(
        {
            "rain": np.where(r.random(n) < 0.9, 0.0, r.gamma(1, 3, n)).round(1),
            "height": r.normal(0, 1, n),
            "price": r.lognormal(0, 1, n).round(2),
            "grade": r.choice([1.0, 1.3, 1.7, 2.0], n),
            "share": r.beta(1, 1, n),
            "capped": np.minimum(r.normal(0, 1, n), 1.0),
        }
    )
    space = Space.of(frame)
    rain, height, price, grade, share, capped = space.columns
    assert (rain.atoms, rain.bounds, rain.decimals) == ((0.0,), (0.0, None), 1)
    assert (height.atoms, height.bounds, height.decimals) == ((), (None, None), None)
    assert (price.atoms, price.bounds, price.decimals) == ((), (0.0, None), 2)
    assert grade.atoms == (1.0, 1.3, 1.7, 2.0)
    assert share.bounds == (0.0, 1.0) and capped.bounds == (None, 1.0) and capped.atoms == (1.0,)
    assert space.measure == "mixed" and Space.of(frame[["height", "price"]]).measure == "density"
    said = repr(space)
    assert "rain: continuous (not below 0; with mass at 0; 1 decimals)" in said
    assert again(space) == space


def test_values_that_fit_never_saw_have_codes():
    frame = pd.DataFrame(
        {"n": [3, 5, 4], "word": ["b", "a", "b"], "day": pd.date_range("2024", periods=3)}
    )
    space = Space.of(frame)
    later = frame.assign(n=[1, 9, 4], word=["a", "new", None], day=pd.date_range("2025", periods=3))
    codes = space.encode(later)
    assert codes[:, 0].tolist() == [-2, 6, 1]
    assert codes[:2, 1].tolist() == [0, 2] and torch.isnan(codes[2, 1])
    assert codes[:, 2].tolist() == [366, 367, 368]
    strict = Space((1,), "ordinal", levels=3, low=3)
    with pytest.raises(ValueError, match="outside 3 … 5"):
        strict.encode([[9]])


def test_the_kind_of_a_dataset_is_that_of_its_first_items():
    data = torch.utils.data.TensorDataset(torch.tensor([[0, 1], [1, 1]]), torch.tensor([0, 1]))
    space = Space.of(data)
    assert (space.kind, space.container) == ("binary", "torch")
    same(space.decode(space.encode(data)), torch.tensor([[0, 1], [1, 1]]))


# ---------------------------------------------------------------------- there and back


DTYPES = st.sampled_from(
    ["bool", "uint8", "int8", "int16", "int32", "uint32", "int64", "float16", "float32", "float64"]
)


@st.composite
def arrays(draw):
    dtype = np.dtype(draw(DTYPES))
    shape = draw(st.sampled_from([(3, 1), (5, 4), (2, 3, 5), (2, 1, 4, 5), (2, 4, 5, 3)]))
    if dtype.kind == "f":
        cells = st.floats(-1e4, 1e4, width=dtype.itemsize * 8)
        cells = cells | st.just(NAN) | st.sampled_from([0.0, 1.0])
    else:
        small = dtype.kind == "b" or draw(st.booleans())
        cells = (
            st.integers(0, 1)
            if small
            else st.integers(max(np.iinfo(dtype).min, -(2**51)), min(np.iinfo(dtype).max, 2**51))
        )
    return draw(hnp.arrays(dtype, shape, elements=cells))


@settings(deadline=None, max_examples=100)
@given(arrays())
def test_arrays_come_back_as_they_were(X):
    if X.dtype.kind == "f" and np.isnan(X).all():
        with pytest.raises(ValueError, match="only NaN"):
            Space.of(X)
        return
    before = X.copy()
    space = Space.of(X)
    codes = space.encode(X)
    assert codes.shape == (len(X), *space.cell_shape) and again(space) == space
    for kind, top in zip(space.kinds, space.cardinality, strict=True):
        seen = codes.double()[~torch.isnan(codes.double())]
        assert kind == "continuous" or (seen.min() >= 0 and seen.max() < top)
    same(space.decode(codes), X)
    np.testing.assert_array_equal(X, before)
    # torch's half comes back as single: numpy has no bfloat16 to keep the two alike
    if X.dtype != np.float16:
        T = torch.from_numpy(X)
        both = Space.of(T)
        assert torch.equal(both.encode(T).nan_to_num(), codes.nan_to_num())
        out = both.decode(codes)
        assert out.dtype == T.dtype and torch.equal(out.nan_to_num(), T.nan_to_num())


@settings(deadline=None, max_examples=50)
@given(arrays(), st.sampled_from(["ordinal", "categorical", "continuous"]))
def test_a_chosen_kind_comes_back_too(X, kind):
    if X.dtype.kind == "f":
        X = np.nan_to_num(X).round()
    if X.astype(float).max() - X.astype(float).min() >= 2**53:
        return
    space = Space.of(X, kind)
    out = space.decode(space.encode(X))
    np.testing.assert_array_equal(out, X.astype(float) if kind == "continuous" else X)
    assert out.dtype == (X.dtype if kind != "continuous" or X.dtype.kind == "f" else np.float64)


WORDS = st.text("abcé ", max_size=3)
COLUMNS = {  # dtype: what its cells may hold
    "bool": st.booleans(),
    "int64": st.integers(1 - 2**52, 2**52),
    "int8": st.integers(-128, 127),
    "uint8": st.integers(0, 255),
    "float64": st.floats(-1e50, 1e50),
    "float32": st.floats(-(2.0**60), 2.0**60, width=32),
    "str": WORDS,
    "object": WORDS,
    "category": WORDS,
    "Int64": st.integers(-9, 9),
    "Float64": st.floats(-1e3, 1e3),
    "boolean": st.booleans(),
    "string": WORDS,
}
GAPS = {"float64", "float32", "str", "object", "category", "Int64", "Float64", "boolean", "string"}


@st.composite
def tables(draw):
    n = draw(st.integers(1, 30))
    frame = {}
    for j in range(draw(st.integers(1, 5))):
        dtype = draw(st.sampled_from(sorted(COLUMNS)))
        cell = COLUMNS[dtype] | st.none() if dtype in GAPS else COLUMNS[dtype]
        cells = draw(
            st.lists(cell, min_size=n, max_size=n).filter(lambda v: any(x is not None for x in v))
        )
        s = pd.Series(cells, dtype=dtype)
        if dtype == "category":
            s = s.cat.set_categories(s.cat.categories, ordered=draw(st.booleans()))
        frame[draw(st.sampled_from([f"c{j}", j]))] = s
    return pd.DataFrame(frame)


@settings(deadline=None, max_examples=100)
@given(tables(), st.randoms(use_true_random=False))
def test_tables_come_back_as_they_were(df, random):
    space = Space.of(df)
    assert again(space) == space
    codes = space.encode(df)
    assert torch.equal(torch.isnan(codes), torch.tensor(df.isna().to_numpy()))
    pd.testing.assert_frame_equal(space.decode(codes), df, check_index_type=False)
    assert again(space).decode(codes).equals(space.decode(codes))
    # columns are found by name, and others left out
    order = random.sample(list(df.columns), df.shape[1])
    wider = pd.concat([df[order], pd.DataFrame({"another": range(len(df))})], axis=1)
    assert torch.equal(space.encode(wider).nan_to_num(), codes.nan_to_num())


def test_arrow_tables_come_back_as_they_were():
    pytest.importorskip("pyarrow")
    df = pd.DataFrame(
        {"i": [1, None, 3], "f": [0.5, None, 2.5], "b": [True, None, False], "s": ["x", None, "y"]}
    )
    df = df.astype(
        {
            "i": "int64[pyarrow]",
            "f": "double[pyarrow]",
            "b": "bool[pyarrow]",
            "s": "string[pyarrow]",
        }
    )
    space = Space.of(df)
    assert space.kinds == ("integer", "continuous", "binary", "categorical")
    pd.testing.assert_frame_equal(space.decode(space.encode(df)), df)


def test_objects_of_numbers_and_truths_with_gaps_come_back():
    df = pd.DataFrame(
        {"truth": [True, None, False], "count": [30, 1, None], "real": [0.5, None, 1.0]},
        dtype=object,
    )
    space = Space.of(df)
    assert space.kinds == ("binary", "integer", "continuous")
    out = space.decode(space.encode(df))
    assert (
        set(out.dtypes.astype(str)) == {"object"}
        and out["truth"][0] is True
        and out["count"][0] == 30
    )
    assert out.fillna(-1).equals(df.fillna(-1))


def test_draws_fit_the_callers_dtype_though_gaps_do_not():
    df = pd.DataFrame({"i": [5, 6], "b": [True, False]})
    space = Space.of(df)
    out = space.decode(torch.tensor([[0.0, 1.0], [NAN, NAN]]))
    assert out["i"].tolist()[0] == 5 and out["b"].tolist()[0] == 1 and out.isna().iloc[1].all()
    X = np.array([[5, 6]])
    np.testing.assert_array_equal(Space.of(X).decode(torch.tensor([[1.0, NAN]])), [[6.0, NAN]])


def test_continuous_draws_are_not_cut_to_whole_numbers():
    draws = torch.tensor([[0.7, -0.7]], dtype=torch.float64)
    X = np.array([[1, 5], [9, 7]])
    np.testing.assert_array_equal(Space.of(X, "continuous").decode(draws), draws.numpy())
    df = pd.DataFrame(X, columns=["a", "b"])
    np.testing.assert_array_equal(
        Space.of(df, "continuous").decode(draws).to_numpy(), draws.numpy()
    )
    df["a"] = df["a"].astype("Int64")
    np.testing.assert_array_equal(
        Space.of(df, "continuous").decode(draws).to_numpy(float), draws.numpy()
    )


def test_several_draws_a_row_have_a_leading_axis():
    codes = torch.zeros(3, 2, 4)
    assert Space.of(np.ones((2, 4), int)).decode(codes).shape == (3, 2, 4)
    frames = Space.of(pd.DataFrame(np.ones((2, 4), int), columns=list("abcd"))).decode(codes)
    assert [f.shape for f in frames] == [(2, 4)] * 3


def test_a_table_is_read_from_arrays_and_lists_by_place():
    df = pd.DataFrame({"n": [3, 1, 2], "w": ["x", "y", "x"], "f": [0.5, 1.5, 2.5]})
    space, codes = Space.of(df), Space.of(df).encode(df)
    assert torch.equal(space.encode(df.to_numpy()), codes)
    assert torch.equal(space.encode(df.to_numpy().tolist()), codes)
    assert torch.equal(space.encode(np.array([["1", "y", "1.5"]])), codes[1:2])
    numbers = Space.of(df[["f"]])
    assert torch.equal(numbers.encode(torch.tensor([[0.5]])), codes[:1, 2:])
    with pytest.raises(ValueError, match="X has 2 columns, but the model was fitted on 3"):
        space.encode([[1, "x"]])


def test_an_array_is_read_from_a_table():
    space = Space.of(np.array([[0.5, 2.0]]))
    df = pd.DataFrame({"a": pd.array([1, None], dtype="Int64"), "b": [1.5, 2.5]})
    np.testing.assert_array_equal(space.encode(df), [[1, 1.5], [NAN, 2.5]])
    with pytest.raises(ValueError, match="column 'a' must hold numbers"):
        space.encode(pd.DataFrame({"a": ["x"], "b": [1.0]}))


def test_columns_named_by_numbers_keep_their_names_and_are_not_mistaken_for_places():
    df = pd.DataFrame({1: [0.5, 1.5], 0: [7.5, 8.5]})
    space = Space.of(df)
    assert list(space.decode(space.encode(df)).columns) == [1, 0] and space.names() == ["1", "0"]
    assert torch.equal(space.encode(df[[0, 1]]), space.encode(df))


def test_a_series_is_a_table_of_one_column():
    s = pd.Series([1.5, 2.5], name="x")
    assert Space.of(s).encode(s).tolist() == [[1.5], [2.5]]
    assert Space.of(s).names() == ["x"]


def test_codes_are_small_and_the_callers_own_memory_is_left_alone():
    X = np.arange(12, dtype=np.uint8).reshape(3, 4)
    X.setflags(write=False)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # torch warns of tensors that share memory it may not write
        codes = Space.of(X).encode(X[:, ::-1])
    assert codes.dtype == torch.uint8
    codes.zero_()
    assert X.any()
    assert Space((2,), "ordinal", levels=1000).encode([[1, 999]]).dtype == torch.float32


def test_large_whole_numbers_keep_every_digit():
    X = 1_700_000_000_000_000_001 + np.arange(30).reshape(-1, 1)
    space = Space.of(X)
    same(space.decode(space.encode(X)), X)
    with pytest.raises(ValueError, match="use space='continuous'"):
        Space.of(np.concatenate([X, -X]))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_tensors_are_read_in_single(dtype):
    space = Space.of(torch.tensor([[0.5, 2.0]], dtype=dtype))
    assert (space.dtype, space.container) == ("float32", "torch")


# ---------------------------------------------------------------------- refusals


TABLE = pd.DataFrame(
    {"age": [30, 41, 30], "job": ["cook", "smith", "cook"], "pay": [1.5, 2.5, 3.5]}
)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"job": ["cook", 1.5, None]}, r"1.5 in column 'job' \(row 1\): a word is expected"),
        ({"age": [30, 30, 7.5]}, r"7.5 in column 'age' \(row 2\): a whole number is expected"),
        ({"pay": [0.5, np.inf, 1.0]}, r"inf in column 'pay' \(row 1\)"),
        ({"pay": [0.5, 1.0, 1e200]}, r"1e\+200 in column 'pay' \(row 2\): too large"),
        ({"pay": ["1", "two", "3"]}, r"column 'pay' must hold numbers.*two"),
        ({"age": ["30", "young", "41"]}, r"column 'age' must hold numbers.*young"),
    ],
)
def test_a_bad_cell_of_a_table_is_named(change, message):
    with pytest.raises(ValueError, match=message):
        Space.of(TABLE).encode(TABLE.assign(**change))


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ([[0, 16], [17, 0]], r"X has 17 in column 0 \(row 1\): outside 0 … 16; pass space="),
        ([[0, -1], [3, 0]], r"X has -1 in column 1 \(row 0\): outside"),
        ([[0, 1], [3, 0.5]], r"X has 0.5 in column 1 \(row 1\): a whole number is expected"),
        ([[0, 1], [3, np.inf]], r"X has inf in column 1 \(row 1\)"),
        ([[0, 1, 2]], r"rows of shape \(3,\).* fitted on rows of shape \(2,\)"),
        ([1, 2], "Expected 2D array, got 1D array"),
        (np.zeros((0, 2)), r"0 sample\(s\)"),
        (np.zeros((3, 0)), r"0 feature\(s\)"),
        ([["a", "b"]], "X must hold numbers"),
        ([[1j, 0]], "Complex data not supported"),
    ],
)
def test_a_bad_array_is_told_where_and_why(bad, message):
    with pytest.raises(ValueError, match=message):
        Space((2,), "ordinal", levels=17).encode(bad)


def test_every_axis_of_an_image_is_checked():
    space = Space.of(np.full((2, 4, 6), 0.5))
    with pytest.raises(ValueError, match=r"rows of shape \(6, 4\)"):
        space.encode(np.full((2, 6, 4), 0.5))
    X = np.full((3, 4, 6), 0.5)
    X[2, 1, 5] = np.inf
    with pytest.raises(ValueError, match=r"inf in cell \(1, 5\) \(row 2\)"):
        space.encode(X)


def test_missing_cells_are_refused_where_the_model_takes_none():
    X = np.array([[0.5, 1.5], [2.5, NAN]])
    assert torch.isnan(Space.of(X).encode(X)[1, 1])
    with pytest.raises(ValueError, match=r"NaN in column 1 \(row 1\)"):
        Space.of(X).encode(X, missing=False)
    with pytest.raises(ValueError, match=r"NaN in job \(row 1\)"):
        Space.of(TABLE).encode(TABLE.assign(job=["cook", None, "smith"]), missing=False)


def test_grey_is_binary_only_where_it_is_asked_for():
    space, X = Space((2,), "binary"), np.array([[0.25, 1.0]])
    assert space.encode(X, fractional=True).tolist() == [[0.25, 1.0]]
    with pytest.raises(ValueError, match="genus.data.binarize"):
        space.encode(X)
    with pytest.raises(ValueError, match="outside 0 … 1"):
        space.encode(X * 3, fractional=True)


def test_a_declared_unknown_takes_what_fit_never_saw():
    kinds = pd.CategoricalDtype(["cook", "king", "unknown"])
    space = Space.of(pd.DataFrame({"job": pd.Series(["cook", "king"], dtype=kinds)}))
    assert again(space).encode(
        pd.DataFrame({"job": ["king", "poet", "unknown"]})
    ).flatten().tolist() == [1, 2, 2]
    assert torch.isnan(space.encode(pd.DataFrame({"job": [None, "poet"]}))).flatten().tolist() == [
        True,
        False,
    ]
    seen = Space.of(pd.DataFrame({"job": ["cook", "unknown"]}))  # a word like others
    assert seen.encode(pd.DataFrame({"job": ["poet"]})).tolist() == [[2]]


@pytest.mark.parametrize("zone", [None, "Europe/Paris"])
@pytest.mark.parametrize(
    ("unit", "kind"), [("D", "integer"), ("7h", "continuous"), ("400D", "integer")]
)
def test_dates_are_days(zone: str | None, unit: str, kind: str) -> None:
    n = 40 if unit != "400D" else 15
    X = pd.DataFrame(
        {"when": pd.date_range("1969-12-20", periods=n, freq=unit, tz=zone), "a": np.arange(n) / 2}
    )
    X.loc[3, "when"] = pd.NaT
    space = Space.of(X)
    assert (
        space.kinds[0] == kind and Space.from_json(json.loads(json.dumps(space.to_json()))) == space
    )
    codes = space.encode(X)
    pd.testing.assert_frame_equal(space.decode(codes), X)
    if unit == "D":
        assert codes[4, 0] == 4


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        (pd.DataFrame({"d": pd.to_timedelta(["1D"])}), "column 'd' holds durations"),
        (pd.DataFrame({"c": [None, None]}), "column 'c' has no observed value"),
        (
            pd.DataFrame({"c": pd.Categorical([None], categories=["a"])}),
            "column 'c' has no observed value",
        ),
        (pd.DataFrame({"c": [1.0, np.inf]}), r"column 'c' contains inf \(row 1\)"),
        (pd.DataFrame([[1, 2]], columns=["a", "a"]), "'a' occurs more than once"),
        (
            pd.DataFrame({"id": [f"u{i}" for i in range(1500)]}),
            "column 'id' has 1500 different words",
        ),
        (pd.DataFrame({"c": pd.cut([1, 2, 3], 2)}), "column 'c' has categories of type Interval"),
        (pd.DataFrame({("a", "b"): [1]}), "column names"),
        (pd.DataFrame({"a": []}), r"0 sample\(s\)"),
        (pd.DataFrame(index=[0, 1]), r"0 feature\(s\)"),
    ],
)
def test_a_table_that_cannot_be_read_says_why(frame, message):
    with pytest.raises(ValueError, match=message):
        Space.of(frame)


def test_words_mixed_with_numbers_are_refused():
    with pytest.raises(TypeError, match="column 'c' mixes words with int"):
        Space.of(pd.DataFrame({"c": ["a", 1]}, dtype=object))


def test_a_column_that_is_lacking_is_named():
    with pytest.raises(ValueError, match="lacks the column 'job'"):
        Space.of(TABLE).encode(TABLE.drop(columns="job"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"shape": (2,), "kind": "binray"}, "unknown"),
        ({"shape": (2,), "kind": "ordinal"}, "needs levels="),
        ({"shape": (2, 3), "layout": "CHW"}, "does not fit the shape"),
        ({"shape": (2,), "kind": "table"}, "one Column per coordinate"),
    ],
)
def test_a_space_that_means_nothing_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        Space(**arguments)


# ---------------------------------------------------------------------- reading a space


def test_a_space_reads_well():
    assert str(Space((8, 8), "ordinal", levels=17, layout="HW")) == "8×8 ordinal, 17 levels"
    assert Space((2, 3)).dim == 6 and Space((2, 3)).names()[4] == "cell (1, 1)"
    assert Space((2,), "categorical", levels=3).values == (0, 1, 2)
    table = Space((2,), "table", columns=(Column("a", "binary", 2), Column("b", "continuous")))
    assert table.discrete == (True, False) and table.names() == ["a", "b"]


def test_masked_cells_are_missing_and_change_no_kind() -> None:
    rng = np.random.default_rng(0)
    values = rng.integers(0, 9, (30, 3))
    mask = rng.random(values.shape) < 0.3
    X = np.ma.masked_array(np.where(mask, -999, values), mask)
    space = Space.of(X)
    assert space == Space.of(values)
    codes = space.encode(X)
    assert (torch.isnan(codes).numpy() == mask).all()
    assert (codes.numpy()[~mask] == values[~mask]).all()
    filled = genus.Independent().fit(X).complete(X, random_state=0)
    assert filled.min() >= 0 and (filled[~mask] == values[~mask]).all()
    with pytest.raises(ValueError, match="only masked"):
        Space.of(np.ma.masked_array(values, True))


def test_a_path_is_no_array() -> None:
    with pytest.raises(TypeError, match=r"pass genus.data.load\('file.csv'\)"):
        genus.Independent().fit("file.csv")  # type: ignore[arg-type]
