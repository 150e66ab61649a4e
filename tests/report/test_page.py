"""The report: one file that asks for nothing, says what the numbers say, and fits a phone."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

import genus
from genus.compare.table import Comparison, Row
from genus.report import write
from genus.report.page import page as page_of
from genus.report.words import number, plus_minus

CHROMIUM = (
    shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
)


@pytest.fixture(scope="module")
def page(digits: Comparison, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("report") / "report.html"
    write(digits, path)
    return path


class Outline(HTMLParser):
    """The tags, attributes and words of a page, and whether every tag is closed in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.open: list[str] = []
        self.words = ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, {k: v or "" for k, v in attrs}))
        if tag not in ("meta", "link", "br", "img", "wbr"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, {k: v or "" for k, v in attrs}))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if not self.open or self.open[-1] != "style":
            self.words += data


def test_page_is_whole_and_self_contained(page: Path):
    text = page.read_text()
    outline = Outline(text)
    assert outline.open == []
    assert not [t for t, _ in outline.tags if t in ("script", "iframe")]
    for tag, attributes in outline.tags:
        for name in ("src", "href", "xlink:href"):
            assert attributes.get(name, "#").startswith(("#", "data:")), (
                tag,
                attributes[name][:80],
            )
    assert not re.findall(r"url\((?!#)|@import", text)
    assert page.stat().st_size < 3e6


def test_page_is_accessible(page: Path):
    outline = Outline(page.read_text())
    drawings = [a for t, a in outline.tags if t == "svg"]
    assert len(drawings) > 15
    assert all(a["role"] == "img" and a["aria-label"] for a in drawings)
    assert all(a.get("scope") for t, a in outline.tags if t == "th")
    ids = [a["id"] for _, a in outline.tags if "id" in a]
    assert len(ids) == len(set(ids))
    assert ("html", {"lang": "en"}) in outline.tags


def test_page_says_what_the_comparison_says(page: Path, digits: Comparison):
    words = Outline(page.read_text()).words
    best = digits.rows[0]
    assert (
        f"{best.likelihood.symbol} {plus_minus(best.likelihood.nats, best.likelihood.stderr)}"
        in words
    )
    for row in digits.rows:
        assert row.name in words
        assert f"{row.n_parameters:,}" in words
    for part in (
        "Reconstructions",
        "Filters",
        "Component means",
        "Manifold",
        "Latent map",
        "Learning curve",
        "baseline",
        "FID",
        "seed",
    ):
        assert part in words


def test_what_is_drawn_follows_from_what_a_model_has(page: Path):
    labels = [a["aria-label"] for t, a in Outline(page.read_text()).tags if t == "svg"]
    assert sum(s.startswith("Filters") for s in labels) == 1  # the RBM alone
    assert sum(s.startswith("Component means") for s in labels) == 1
    assert sum(s.startswith("Use of the latent") for s in labels) == 1


def test_page_of_a_table(wine: Comparison, tmp_path: Path):
    write(wine, tmp_path / "wine.html")
    text = (tmp_path / "wine.html").read_text()
    assert "sweet &amp; &lt;dry&gt;" in text and "<dry>" not in text
    assert "Column by column" in text and "principal plane" in text and "red" in text
    assert len(re.findall("<mark>", text)) > 0


def test_page_of_a_table_says_what_it_holds_and_what_models_are_good_for(
    wine: Comparison, digits: Comparison
) -> None:
    text = page_of(wine)
    words = " ".join(Outline(text).words.split())
    for part in (
        "Columns: continuous: sweet & <dry>, acid; categorical: colour.",
        "numbers filled in",
        "swapped rows found",
        "AUROC",
        "Hidden numbers are filled in best by",
        "hidden words by",
        "Rows with swapped cells are found best by",
        "Of the cells of at most 300 held-out rows 20 % were hidden",
    ):
        assert part in words
    row = min(wine.of_use, key=lambda r: r.completion.rmse)
    assert f"Hidden numbers are filled in best by {row.name}" in words
    assert number(row.completion.rmse) in words
    assert plus_minus(row.outliers.auroc, row.outliers.stderr) in words
    assert words.index("Columns: continuous") < words.index("The numbers")
    assert "filled in best" not in page_of(digits) and "swapped rows" not in page_of(digits)


def test_failed_models_keep_their_reason(digits: Comparison, tmp_path: Path):
    row = Row("broken", error="n_components=9: more than <rows>")
    write(replace(digits, rows=[*digits.rows, row]), tmp_path / "x.html")
    text = (tmp_path / "x.html").read_text()
    # in the answer and in the table
    assert text.count("n_components=9: more than &lt;rows&gt;") == 2


def test_an_old_page_survives_a_failure(tmp_path: Path):
    path = tmp_path / "report.html"
    path.write_text("old")
    with pytest.raises(AttributeError):
        write(object(), path)
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["report.html"]


# ---------------------------------------------------------------------- in a browser


def _chromium(url: str, folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = [
        str(CHROMIUM),
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-background-networking",
        "--no-first-run",
    ]
    command += [
        "--disable-component-update",
        "--disable-sync",
        "--no-default-browser-check",
        f"--user-data-dir={folder / 'profile'}",
    ]
    return subprocess.run([*command, *options, url], capture_output=True, text=True, timeout=90)


@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium, which is not installed")
def test_page_in_chromium_is_quiet(page: Path, tmp_path: Path):
    log = tmp_path / "net.json"
    done = _chromium(
        page.as_uri(), tmp_path, "--dump-dom", "--enable-logging=stderr", f"--log-net-log={log}"
    )
    assert "What the numbers mean" in done.stdout
    assert "CONSOLE" not in done.stderr
    text = log.read_text()
    urls = set(re.findall(r'"url":"([^"]+)"', text))
    json.loads(text)
    assert not [
        u for u in urls if u.startswith("http") and "google" not in u and "gvt1" not in u
    ], urls


@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium, which is not installed")
@pytest.mark.parametrize("which", ["digits", "wine"])
def test_page_fits_a_phone(which: str, request: pytest.FixtureRequest, tmp_path: Path):
    write(request.getfixturevalue(which), tmp_path / "page.html")
    tell = (
        "<script>onload = () "
        "=> parent.postMessage(document.documentElement.scrollWidth, '*')</script></body>"
    )
    text = (tmp_path / "page.html").read_text().replace("</body>", tell)
    (tmp_path / "page.html").write_text(text)
    frame = tmp_path / "frame.html"
    frame.write_text(
        "<body><script>onmessage = e => { document.body.dataset.width = e.data }</script>"
        "<iframe src='page.html' style='width:390px;height:800px;border:0'></iframe></body>"
    )
    done = _chromium(
        frame.as_uri(),
        tmp_path,
        "--dump-dom",
        "--virtual-time-budget=5000",
        "--window-size=800,900",
    )
    found = re.search(r'data-width="(\d+)"', done.stdout)
    assert found, done.stderr
    assert int(found[1]) <= 390


def test_one_real_column_has_a_page(tmp_path):
    X = np.random.default_rng(0).normal(size=(60, 1))
    found = genus.compare(["ProbabilisticPCA"], X, samples=20, progress=False)
    found.report(tmp_path / "one.html")
    page = (tmp_path / "one.html").read_text()
    assert "no latent coordinate: one column has nothing to share" in page
