"""The table of what every family can do is read off the classes, and the pages show it."""

from pathlib import Path

import pytest

import genus
from genus.compare.capabilities import as_markdown, capabilities

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("page", ["README.md", "docs/catalogue.md"])
def test_the_pages_show_the_table_as_it_is_now(page):
    table = as_markdown(capabilities())
    assert table in (ROOT / page).read_text(), f"{page}: paste what `genus models --can` prints"


def test_what_a_class_refuses_is_no_capability():
    table = capabilities()
    assert not table.loc["PixelCNN", "tables"]
    assert table.loc["PixelCNN", "images"]
    assert not table.loc["BoltzmannMachine", "numbers"]
    assert table.loc["BayesianLinearRegression", "tables"] is None


def test_every_family_has_a_row_and_every_verb_is_the_classs_own():
    table = capabilities()
    for name, row in table.iterrows():
        model = getattr(genus, name)()
        assert row["missing"] == model.allow_nan
        for verb in ("sample", "log_prob", "complete", "encode", "predict"):
            assert row[verb] == hasattr(model, verb)
