"""Command lines: options made of a model's constructor."""

from __future__ import annotations

from pathlib import Path

import pytest

import genus
from genus.cli import commands as cli
from genus.cli.line import UsageError, _argument_docs, model_of, one_line, parameters_of


@pytest.mark.parametrize("command", cli.COMMANDS)
def test_every_command_has_help_with_examples(command: str, run):
    out, _ = run(command, "--help")
    assert f"genus {command}" in out and "examples:" in out


def test_help_of_a_model_lists_its_arguments(run):
    out, _ = run("fit", "VAE", "--help")
    assert (
        "--latent_dim" in out
        and "Size of z" in out
        and "--trainer.epochs" in out
        and "--encoder" in out
    )


def test_config_is_what_print_config_printed(here: Path, run):
    out, _ = run(
        "fit", "VAE", "digits", "--latent_dim", 3, "--trainer.max_steps", 4, "--print_config"
    )
    (here / "vae.yaml").write_text(out)
    assert "  max_steps: 4" in out
    run("fit", "--config", "vae.yaml", "--out", "again", "--latent_dim", 5)
    model = genus.load("again.genus")
    assert model.latent_dim == 5 and model.trainer.max_steps == 4


class Parent:
    """A base.

    Parameters
    ----------
    size : int, default=3
        Of a row.
    width : int, default=1
        Of a unit.
    """


class Child(Parent):
    """A model of one number.

    Parameters
    ----------
    width : int, default=2
        Whole numbers,
        at least 1; ``half`` of them 50 %.
    """


def test_the_docstrings_of_a_class_and_its_bases_tell_of_its_arguments():
    said = _argument_docs(Child)
    assert said == {"size": "Of a row.", "width": "Whole numbers, at least 1; half of them 50 %%."}


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["Vae"], "did you mean VAE"),
        (["zzz"], "choose from"),
        (["BayesianMLP"], "for use from Python"),
        (["--config", "absent.yaml"], "absent.yaml"),
    ],
)
def test_a_model_that_cannot_be_fitted_is_told_why(args: list[str], says: str):
    with pytest.raises(UsageError, match=f"fit: .*{says}"):
        model_of(args)


def test_the_model_of_a_command_line_is_named_in_it_or_in_its_file(tmp_path: Path):
    path = tmp_path / "c.yaml"
    path.write_text("model: VAE\nlatent_dim: 3\n")
    assert model_of(["digits", "GaussianMixture"]) is genus.GaussianMixture
    assert model_of(["--config", str(path)]) is genus.VAE
    assert model_of(["--latent_dim", "3"]) is None
    assert parameters_of(genus.VAE)["trainer"] == genus.Trainer()


def test_an_error_of_the_parser_takes_one_line():
    tree = """Parser key "trainer.epochs":
      Does not validate against any of the Union subtypes
        - Expected a <class 'int'>
        - Expected a <class 'NoneType'>
      Given value: 0.5"""
    assert one_line(tree) == "--trainer.epochs=0.5: int or null is needed"
    assert one_line("two\n  lines") == "two lines"
