"""Sections of the page: what is drawn of each model, and why something is not."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch

from genus.compare.table import Comparison
from genus.report.figures import new_figure
from genus.report.sections import Sections, first, rows_of, section


@pytest.fixture
def sections(digits: Comparison) -> Sections:
    return Sections(digits)


def test_blocks_without_cards_are_left_out():
    made = section("a", "A", "", [("empty", []), ("full", [{"above": "x"}])])
    assert [b["title"] for b in made["blocks"]] == ["full"]


def test_a_plot_that_cannot_be_drawn_says_why(sections: Sections):
    def fails() -> None:
        raise ValueError("no <latent> space\nsecond line")

    card = sections.card("Manifold", "", fails)
    assert card["above"] == "Manifold" and "no &lt;latent&gt; space" in str(card["body"])
    assert "second line" not in str(card["body"])

    def broken() -> None:
        raise KeyError("a fault")

    with pytest.raises(KeyError):  # a fault of ours is not hidden
        sections.card("Manifold", "", broken)


def test_figures_are_numbered_and_wide_ones_take_the_width(sections: Sections):
    before = sections.figures
    narrow = sections.card("a", "b", lambda: new_figure(300, 100))
    wide = sections.card("c", "", lambda: new_figure(700, 100))
    assert sections.figures == before + 2
    assert not narrow["wide"] and wide["wide"] and 'aria-label="a. b"' in str(narrow["body"])


def test_what_each_model_gives_and_costs(sections: Sections):
    (block,) = sections.costs()["blocks"]
    page = str(block["cards"][0]["body"])
    assert "to draw 40" in page and "to score 80" in page
    lines = {line["model"]: line for line in map(sections.cost, sections.models)}
    assert lines["VAE"]["latents"] == "●" and lines["mixture"]["latents"] == ""
    assert lines["mixture"]["fills in cells"] == "●" and lines["VAE"]["likelihood"] == "lower bound"
    assert lines["mixture"]["told from real"].endswith("%") and lines["RBM"]["bits/dim"] > "0"
    assert all(line["to draw one"].endswith("s") for line in lines.values())


def test_rows_of_every_sort_are_picked():
    table = pd.DataFrame({"a": [1, 2, 3]}, index=[7, 8, 9])
    index = np.array([2, 0])
    assert rows_of(table, index)["a"].tolist() == [3, 1]
    assert rows_of(table, index).index.tolist() == [0, 1]
    for X in (np.array([1, 2, 3]), torch.tensor([1, 2, 3])):
        assert rows_of(X, index).tolist() == [3, 1] and first(X, 2).tolist() == [1, 2]
    assert first(table, 2)["a"].tolist() == [1, 2]


def test_a_latent_space_is_diagnosed_in_words_and_as_a_figure(sections: Sections):
    (vae,) = [r.model for r in sections.models if r.name == "VAE"]
    card = sections.diagnosis(vae)
    assert "posterior collapse" in str(card["below"]) and "<svg" in str(card["body"])
    titles = [c["above"] for r in sections.models for c in sections.latent(r.model)]
    assert titles.count("Diagnosis") == 1
