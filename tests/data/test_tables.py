"""Files of tables that nobody prepared."""

import importlib
import io

import numpy as np
import pytest

import genus
from genus.data.loading import load


def written(path, text, encoding="utf-8"):
    path.write_bytes(text.encode(encoding))
    return path


def test_a_plain_table(tmp_path):
    d = load(written(tmp_path / "t.csv", "age,job,pay\n30,cook,1.5\n41,smith,\n30,,3.5\n"))
    assert d.name == "t" and d.space.kinds == ("integer", "categorical", "continuous")
    assert d.X["pay"].isna().tolist() == [False, True, False] and d.X["job"].isna().sum() == 1


@pytest.mark.parametrize(
    ("text", "name", "encoding"),
    [
        ("a,b\n1.5,x\n2.5,y\n", "t.csv", "utf-8-sig"),
        ("a;b\n1,5;x\n2,5;y\n", "t.csv", "utf-8"),
        ("a\tb\n1.5\tx\n2.5\ty\n", "t.csv", "utf-16"),
        ("a\tb\n1.5\tx\n2.5\ty\n", "t.tsv", "utf-8"),
        ("a|b\n1.5|x\n2.5|y\n", "t.csv", "utf-8"),
        ("\n a , b\r\n 1.5 , x\r\n\r\n 2.5 , y \r\n\r\n", "t.csv", "utf-8"),
        (",a,b\n0,1.5,x\n1,2.5,y\n", "t.csv", "utf-8"),
        ("a,b,\n1.5,x,\n2.5,y,\n", "t.csv", "utf-8"),
    ],
)
@pytest.mark.filterwarnings("ignore:.*left out")
def test_a_table_that_nobody_prepared(tmp_path, text, name, encoding):
    X = load(written(tmp_path / name, text, encoding)).X
    assert (
        list(X.columns) == ["a", "b"]
        and X["a"].tolist() == [1.5, 2.5]
        and X["b"].tolist() == ["x", "y"]
    )


def test_old_western_letters_are_read(tmp_path):
    assert load(written(tmp_path / "t.csv", "naïf,b\né,1\nü,2\n", "cp1252")).X["naïf"].tolist() == [
        "é",
        "ü",
    ]


def test_thousands_gaps_and_truths(tmp_path):
    text = 'pay,yes,n\n"1,234.5",True,3\n"1,000",,?\n12,False,5\n'
    X = load(written(tmp_path / "t.csv", text)).X
    assert X["pay"].tolist() == [1234.5, 1000, 12] and X["n"].isna().tolist() == [
        False,
        True,
        False,
    ]
    assert load(tmp_path / "t.csv").space.kinds[1] == "binary"
    assert load(written(tmp_path / "e.csv", "a;b\n1.234,5;x\n2,5;y\n")).X["a"].tolist() == [
        1234.5,
        2.5,
    ]


def test_what_is_dropped_is_said(tmp_path):
    path = written(tmp_path / "t.csv", ",a,empty\n0,1.5,\n1,2.5,\n")
    with pytest.warns(
        UserWarning, match=r"left out 'Unnamed: 0' \(a mere row number\), 'empty' \(empty\)"
    ):
        assert list(load(path).X.columns) == ["a"]
    rows = "".join(f"{i},u{i},{i % 7 / 2},{'ab'[i % 2]},{20 * i}\n" for i in range(60))
    with pytest.warns(
        UserWarning,
        match=r"left out 'ID' \(a mere row number\), 'name' \(60 different words in 60 rows",
    ):
        assert list(load(written(tmp_path / "ids.csv", "ID,name,a,b,n\n" + rows)).X.columns) == [
            "a",
            "b",
            "n",
        ]
    assert list(genus.data.read_csv(tmp_path / "ids.csv").columns) == ["ID", "name", "a", "b", "n"]


def test_dates_are_read_and_come_back(tmp_path):
    days = "".join(
        f"2021-03-{d:02d},2021-03-{d:02d} 12:30:{d:02d},2021-03-x{d % 3}\n" for d in range(1, 29)
    )
    data = load(written(tmp_path / "t.csv", "day,time,word\n" + days))
    assert data.space.kinds == ("integer", "continuous", "categorical")
    drawn = genus.Independent(random_state=0).fit(data).sample(5, random_state=0)
    assert (drawn.dtypes[["day", "time"]] == data.X.dtypes[["day", "time"]]).all()
    assert (drawn["day"] == drawn["day"].dt.normalize()).all() and drawn["day"].between(
        "2021-02-01", "2021-04-28"
    ).all()


def test_numbers_without_a_header_are_all_kept(tmp_path):
    X = load(written(tmp_path / "t.csv", "1.5,2\n2.5,3\n")).X
    assert X.shape == (2, 2) and list(X.columns) == [0, 1]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "t.csv is empty"),
        ("a,b\n", "a header but no rows"),
        ("a,b\nr1,1,2\nr2,3,4\n", "more cells than the header"),
        ("a,b\n1,2\n3,4,5\n", "Expected 2 fields in line 3, saw 3"),
        ("a,a\n1,x\n", None),
        (
            "n\n" + "\n".join(map(str, range(50))) + "\n5o\n",
            r"t.csv, line 52, column 'n': '5o' is not a number",
        ),
        (
            "\n\nn;b\n" + "\n".join(f"{i},5;w" for i in range(50)) + "\n5o;w\n",
            r"line 54, column 'n'",
        ),
        (
            "when\n" + "".join(f"u{i}\n" for i in range(1200)),
            r"t.csv has no column to learn from: 'when' is 1200 different words",
        ),
    ],
)
def test_a_table_that_cannot_be_read_says_where(tmp_path, text, message):
    path = written(tmp_path / "t.csv", text)
    if message is None:  # pandas renames the second of two equal names
        assert list(load(path).X.columns) == ["a", "a.1"]
        return
    with pytest.raises(ValueError, match=message):
        load(path)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("t.csv", "# made by hand\n# on a Monday\na,b\n1.5,x\n# a pause\n2.5,y\n"),
        ("t.csv", "# a,b\n1.5,x\n2.5,y\n"),
        ("t.csv", "Sales of 2024\n\na,b\n1.5,x\n2.5,y\n"),
        ("t.csv", "Sales of 2024,\na,b\n1.5,x\n2.5,y\n"),
        ("t.json", '[{"a": 1.5, "b": "x"}, {"a": 2.5, "b": "y"}]'),
        ("t.json", '{"a": [1.5, 2.5], "b": ["x", "y"]}'),
        ("t.json", '{"data": [{"a": 1.5, "b": "x"}, {"a": 2.5, "b": "y"}]}'),
        ("t.jsonl", '{"a": 1.5, "b": "x"}\n\n{"a": 2.5, "b": "y"}\n'),
    ],
)
@pytest.mark.filterwarnings("ignore:.*left out the lines")
def test_files_of_other_sorts(tmp_path, name, text):
    X = load(written(tmp_path / name, text)).X
    assert list(X.columns) == ["a", "b"]
    assert X["a"].tolist() == [1.5, 2.5] and X["b"].tolist() == ["x", "y"]


@pytest.mark.parametrize("pack", ["gzip", "bz2", "lzma"])
def test_packed_files(tmp_path, pack):
    data = importlib.import_module(pack).compress(b"a,b\n1.5,x\n2.5,y\n")
    path = tmp_path / {"gzip": "t.csv.gz", "bz2": "t.csv.bz2", "lzma": "t.csv.xz"}[pack]
    path.write_bytes(data)
    d = load(path)
    assert d.X["a"].tolist() == [1.5, 2.5] and d.name == "t"
    path.write_bytes(data[:-9])
    with pytest.raises(ValueError, match=r"t\.csv\..* cannot be unpacked"):
        load(path)


def test_stdin(monkeypatch):
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"a,b\n1.5,x\n2.5,y\n")))
    assert load("-").X["a"].tolist() == [1.5, 2.5]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[1, 2", "cannot be read as JSON"),
        ("[1, 2]", "holds no table"),
        ("{}", "holds no table"),
        ('[{"a": {"b": 1}}]', "column 'a' holds lists or records"),
        ('{"a": [1, 2], "b": [1]}', "cannot be read as a table"),
    ],
)
def test_json_that_is_no_table_says_so(tmp_path, text, says):
    with pytest.raises(ValueError, match=rf"t\.json.*{says}"):
        load(written(tmp_path / "t.json", text))


@pytest.mark.parametrize(
    ("text", "header"),
    [
        ("5.1,3.5,setosa\n4.9,3.0,setosa\n6.1,3.1,versicolor\n", False),
        ("red,small\nblue,large\nred,large\n", False),
        ("Alice,3.5\nBob,4.5\n", False),
        ("2024-01-01,rain,3.5\n2024-01-02,sun,4.5\n", False),
        ("country,2019,2020\nGermany,83.1,83.2\n", True),
        ("colour,size\nblue,large\nred,large\n", True),
        (",2019,x\na,1,2\nb,3,4\n", True),
    ],
)
@pytest.mark.filterwarnings("ignore:.*the first line is read as a row")
def test_a_first_line_is_a_header_or_a_row(tmp_path, text, header):
    X = genus.data.read_csv(written(tmp_path / "t.csv", text))
    assert len(X) == text.count("\n") - header


def test_a_first_line_that_is_a_row_is_said(tmp_path):
    path = written(tmp_path / "t.csv", "5.1,setosa\n4.9,setosa\n")
    with pytest.warns(UserWarning, match="the first line is read as a row"):
        load(path)


def test_codes_that_begin_with_0_stay_words(tmp_path):
    path = written(tmp_path / "t.csv", "zip,n,x\n08580,1,0.5\n12345,2,01.5\n08580,03,2\n")
    X = load(path).X
    assert X["zip"].tolist() == ["08580", "12345", "08580"]
    assert X["n"].tolist() == ["1", "2", "03"] and X["x"].tolist() == [0.5, 1.5, 2]


def test_words_that_begin_with_a_mark_are_no_comments(tmp_path):
    rows = "#ff0000,1\n#00ff00,2\n"
    assert len(load(written(tmp_path / "t.csv", "colour,n\n" + rows)).X) == 2


def test_a_number_that_stands_for_missing_ones_is_said(tmp_path):
    rows = "".join(f"{20 + i % 9},{i / 7:.3f}\n" for i in range(40))
    path = written(tmp_path / "t.csv", "t,x\n" + rows + "-999,1\n-999,2\n")
    with pytest.warns(UserWarning, match="column 't' has -999 in 2 rows, far from all others"):
        d = load(path)
    assert d.note == "column 't' has -999 in 2 rows, far from all others"


def test_dates_and_codes_of_a_file_come_back(tmp_path):
    rows = "".join(f"{d}/1/2024,2024-{1 + d % 12:02d},${d}.50,0{d}\n" for d in range(1, 31))
    data = load(written(tmp_path / "t.csv", "day,month,price,code\n" + rows))
    assert data.space.kinds == ("integer", "integer", "continuous", "categorical")
    drawn = genus.Independent().fit(data).sample(3, random_state=0)
    assert (drawn.dtypes == data.X.dtypes).all()


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("t.csv", "a,b\r1.5,x\r2.5,y\r"),
        ("t.csv", "sep=|\na|b\n1.5|x\n2.5|y\n"),
        ("t.txt", "a   b\n1.5 x\n2.5 y\n"),
    ],
)
def test_other_line_ends_and_separators(tmp_path, name, text):
    X = load(written(tmp_path / name, text)).X
    assert X["a"].tolist() == [1.5, 2.5] and X["b"].tolist() == ["x", "y"]


def test_numpys_own_text(tmp_path):
    values = np.random.default_rng(0).normal(size=(20, 3))
    np.savetxt(tmp_path / "t.txt", values, header="x y z")
    X = load(tmp_path / "t.txt").X
    assert list(X.columns) == ["x", "y", "z"]
    np.testing.assert_allclose(X, values)


@pytest.mark.parametrize("gap", ["", "\n"])
def test_totals_below_a_table_are_no_rows(tmp_path, gap):
    rows = "".join(f"{'AB'[i % 2]},{i}\n" for i in range(40))
    path = written(tmp_path / "t.csv", "shop,n\n" + rows + gap + "Total,780\n\nSource: us\n")
    with pytest.warns(UserWarning, match="left out the lines 'Total,780'; 'Source: us'"):
        X = load(path).X
    assert len(X) == 40 and set(X["shop"]) == {"A", "B"}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("<!DOCTYPE html>\n<html></html>", "is a page of HTML"),
        ("version https://git-lfs.github.com/spec/v1\noid sha256:a\n", "is a pointer of Git LFS"),
    ],
)
def test_what_is_no_table_is_named(tmp_path, text, says):
    with pytest.raises(ValueError, match=f"t.csv {says}"):
        load(written(tmp_path / "t.csv", text))
