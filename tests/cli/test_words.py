"""What a command prints."""

from __future__ import annotations

import json
import math
import warnings

import numpy as np
import pytest

import genus
from genus.cli.words import first_line, json_text, print_rows, show_warning

ROWS = [{"name": "VAE", "about": "a bound"}, {"name": "Gaussian", "about": ""}]


def test_rows_stand_in_columns_or_as_json(capsys: pytest.CaptureFixture[str]):
    print_rows(ROWS, as_json=False)
    assert capsys.readouterr().out == "VAE       a bound\nGaussian\n"
    print_rows(ROWS, as_json=True)
    assert json.loads(capsys.readouterr().out) == ROWS


def test_json_holds_numbers_of_every_sort_and_none_for_what_is_not_finite():
    value = {1: (np.float64(0.5), math.inf), "é": [np.int64(3), float("nan"), None, "x"]}
    assert json_text(value) == '{"1": [0.5, null], "é": [3, null, null, "x"]}'


def test_the_first_line_of_a_class_is_its_first_sentence():
    for cls in (genus.VAE, genus.GaussianMixture):
        line = first_line(cls)
        assert line and "\n" not in line and line in " ".join((cls.__doc__ or "").split())
    assert first_line(type("Bare", (), {})) == ""


def test_warnings_for_users_take_one_line_and_others_none(capsys: pytest.CaptureFixture[str]):
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.showwarning = show_warning
        warnings.warn("left out\n  'a'", stacklevel=1)
        warnings.warn("old", DeprecationWarning, stacklevel=1)
    out, err = capsys.readouterr()
    assert (out, err) == ("", "genus: warning: left out 'a'\n")
