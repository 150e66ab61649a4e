"""The Python blocks of the README and the pages run, in order, with tiny budgets."""

import doctest
import re
from pathlib import Path

import pytest

import contract
import genus
import test_contract

ROOT = Path(__file__).resolve().parents[1]
BLOCK = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)


def blocks(page):
    text = (ROOT / page).read_text(encoding="utf-8")
    for found in BLOCK.finditer(text):
        yield text.count("\n", 0, found.start(1)), found[1]


@pytest.mark.parametrize(
    "page",
    [
        "README.md",
        "docs/tutorial.md",
        "docs/mixtures.md",
        "docs/bayesian-mixtures.md",
        "docs/bayesian-networks.md",
        "docs/bayesian-regression.md",
        "docs/linear-latent.md",
        "docs/vae.md",
        "docs/multimodal.md",
        "docs/boltzmann.md",
        "docs/energy.md",
        "docs/evaluation.md",
        "docs/flows.md",
        "docs/diffusion.md",
        "docs/autoregressive.md",
        "docs/gan.md",
        "docs/rows-and-conditions.md",
        "docs/missing.md",
        "docs/columns.md",
        "docs/devices.md",
        "docs/scale.md",
        "docs/images-given-images.md",
    ],
)
def test_code_runs(page, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    small = genus.learn.time_limit(1.0)  # seconds a fit
    names = {"__name__": "docs"}
    count = 0
    with small:
        for line, code in blocks(page):
            code = re.sub(r"epochs=\d+", "epochs=2", code)
            exec(compile("\n" * line + code, str(ROOT / page), "exec"), names)
            count += 1
    assert count > 0
    assert capsys.readouterr().out


LINK = re.compile(r"\]\((?!https?:|#)([^)#]+)")


PAGES = [
    "README.md",
    "CONTRIBUTING.md",
    *sorted(p.relative_to(ROOT).as_posix() for p in (ROOT / "docs").glob("*.md")),
]


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page):
    here = (ROOT / page).parent
    text = (ROOT / page).read_text(encoding="utf-8")
    missing = [t for t in LINK.findall(text) if not (here / t).exists()]
    assert not missing


def test_contributors_page_works(monkeypatch):
    """The family of the contributor's page passes its test, its example and laws of its row."""
    family, export, line, test = [code for _, code in blocks("docs/contributing-a-model.md")]
    names = {"__name__": "kernel"}
    exec(family, names)
    KernelDensity = names["KernelDensity"]
    assert export == "from genus.models.mixtures.kernel import KernelDensity\n"
    monkeypatch.setattr(genus, "KernelDensity", KernelDensity, raising=False)
    exec(test, names)
    names["test_equals_scipy_on_one_column"]()

    (example,) = doctest.DocTestFinder(recurse=False).find(KernelDensity, globs={})
    assert example.examples and not doctest.DocTestRunner().run(example).failed

    row = eval(line, {**vars(contract), "KernelDensity": KernelDensity})
    assert row.fits[0] == "continuous" and isinstance(row.digits(), KernelDensity)
    for kind in row.fits:
        test_contract.test_3_a_row_has_its_score_in_any_company(row, kind)
    test_contract.test_4_probabilities_are_what_they_are_called(row, "continuous")
    test_contract.test_5_samples_follow_the_likelihood(row, "continuous")
    with pytest.raises(ValueError, match="bandwidth=-1"):
        KernelDensity(-1).fit(contract.toy("continuous").X)
