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
import pandas as pd
import pytest
from matplotlib.figure import Figure

import genus
from genus.compare.run import compare
from genus.compare.table import Comparison, Row
from genus.data.loading import load
from genus.evaluate import likelihood_summary
from genus.report import plots, write
from genus.report.figures import MISSING
from genus.report.markup import table
from genus.report.words import answer, plus_minus, seconds

CHROMIUM = (
    shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
)


@pytest.fixture(scope="module")
def digits() -> Comparison:
    data = load("digits")
    few = genus.Trainer(max_steps=25)
    models = {
        "mixture": genus.GaussianMixture(5),
        "VAE": genus.VAE(latent_dim=2, trainer=few, k=8),
        "RBM": genus.RBM(n_hidden=8, trainer=few),
    }
    return compare(
        models,
        data.train.X[:300],
        test=data.test.X[:80],
        y=data.train.y[:300],
        space=data.space,
        samples=40,
    )


@pytest.fixture(scope="module")
def page(digits: Comparison, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("report") / "report.html"
    write(digits, path)
    return path


@pytest.fixture(scope="module")
def wine() -> Comparison:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(200, 2))
    frame = pd.DataFrame(
        {
            "sweet & <dry>": x[:, 0],
            "acid": 0.8 * x[:, 0] + 0.2 * x[:, 1],
            "colour": np.where(x[:, 0] > 0, "red", "white"),
        }
    )
    return compare([genus.GaussianMixture(2)], frame, samples=40)


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


# ---------------------------------------------------------------------- words


def _shifted(comparison: Comparison, by: dict[str, float]) -> Comparison:
    """The comparison with each row's log-probability that of the first, moved by so many nats.

    With small noise.
    """
    base = comparison.rows[0].log_prob
    noise = np.random.default_rng(0).normal(size=(len(by), len(base)))
    rows = []
    for (name, nats), e in zip(by.items(), noise, strict=True):
        log_prob = genus.Exact(base.nats + nats + e, dims=base.dims, measure=base.measure)
        rows.append(
            replace(comparison[name], log_prob=log_prob, likelihood=likelihood_summary(log_prob))
        )
    found = replace(comparison, rows=rows)
    for name, rank in found.rank().items():
        found[name].rank = rank
    found.rows.sort(key=lambda r: (r.rank, -r.likelihood.nats))
    return found


def test_answer_names_the_winner_and_the_margin(digits: Comparison):
    said = " ".join(answer(_shifted(digits, {"VAE": 0.0, "mixture": -5.0, "Gaussian": -9.0})))
    assert "<b>VAE</b> describes these rows best" in said
    margin = re.search(r"([\d.]+) ± ([\d.]+) nats above mixture", said)
    assert margin and abs(float(margin[1]) - 5) < 0.6 and float(margin[2]) < 0.3
    assert "baseline" not in said


def test_answer_calls_level_models_level(digits: Comparison):
    said = " ".join(answer(_shifted(digits, {"VAE": 0.0, "mixture": 0.0, "Gaussian": -9.0})))
    assert "describe these rows equally well" in said and "Gaussian follows" in said


def test_answer_says_who_does_not_beat_a_baseline(digits: Comparison):
    said = " ".join(answer(_shifted(digits, {"Gaussian": 0.0, "VAE": -5.0, "mixture": 3.0})))
    assert "<b>VAE</b> does not beat the baseline Gaussian" in said


def test_answer_never_ranks_a_density_with_a_probability(digits: Comparison):
    found = _shifted(digits, {"VAE": 0.0, "mixture": -5.0})
    density = genus.Exact(found["mixture"].log_prob.nats + 500, dims=64, measure="density")
    rows = [
        found["VAE"],
        replace(found["mixture"], log_prob=density, likelihood=likelihood_summary(density), rank=1),
    ]
    said = " ".join(answer(replace(found, rows=rows)))
    assert "not ranked together" in said and "nats above" not in said


@pytest.mark.parametrize(
    ("value", "error", "text"),
    [
        (-91.886, 0.584, "−91.89 ± 0.58"),
        (-1234.5, 12.3, "−1,234 ± 12"),
        (2.0, 0.0, "2.000 ± 0.000"),
        (-np.inf, np.nan, "−∞"),
    ],
)
def test_plus_minus(value: float, error: float, text: str):
    assert plus_minus(value, error) == text


def test_seconds():
    assert [seconds(s) for s in (0.034, 25.2, 61.0, 3700.0, float("nan"))] == [
        "0.034 s",
        "25 s",
        "1 min 1 s",
        "1 h 1 min",
        "—",
    ]


# ---------------------------------------------------------------------- plots


def test_pixels_scale_by_levels_in_every_layout():
    grey = np.array([[[0, 16], [8, 4]]], dtype=np.uint8)
    space = genus.Space((2, 2), "ordinal", 17, layout="HW")
    assert np.allclose(plots.pixels(grey, space)[0, :, :, 0], grey[0] / 16)
    rgb = np.random.default_rng(0).integers(0, 256, (3, 4, 5, 3)).astype(np.uint8)
    last = plots.pixels(rgb, genus.Space((4, 5, 3), "ordinal", 256, layout="HWC"))
    first = plots.pixels(
        np.moveaxis(rgb, 3, 1), genus.Space((3, 4, 5), "ordinal", 256, layout="CHW")
    )
    assert np.array_equal(first, last) and np.allclose(last[..., :3], rgb / 255)


def test_pixels_tint_what_is_missing_and_refuse_tables():
    x = np.array([[[np.nan, 1.0], [0.0, 1.0]]])
    shown = plots.pixels(x, genus.Space((2, 2), "binary", layout="HW"))
    assert tuple(shown[0, 0, 0]) == MISSING and shown[0, 0, 1, 3] == 1
    with pytest.raises(ValueError, match="not images"):
        plots.pixels(np.zeros((1, 4)), genus.Space((4,), "binary"))


def test_plots_are_figures_of_their_own(digits: Comparison):
    import matplotlib.pyplot as plt

    vae, mixture, space = digits["VAE"].model, digits["mixture"].model, digits.space
    drawn = [
        plots.image_grid(digits.test[:10], space),
        plots.learning_curve(vae),
        plots.completions(mixture, digits.test[:3], n=2),
        plots.reconstructions(vae, digits.test[:3]),
        plots.interpolations(vae, digits.test[:4], steps=3),
        plots.latent_map(vae, digits.test, digits.y_test),
        plots.manifold(vae, side=3),
        plots.latent_use(vae, digits.test),
        plots.component_means(mixture),
        plots.filters(digits["RBM"].model),
        plots.extremes(digits.test, digits["VAE"].log_prob.nats, space, n=3),
        plots.marginals(digits.test, digits["VAE"].samples, space),
        plots.principal_plane(digits.test, digits["VAE"].samples, space),
        plots.whiskers(["a", "b"], [2.0, 2.1], [0.01, 0.02], ["=", "≥"], "bits"),
    ]
    assert all(isinstance(f, Figure) for f in drawn)
    assert plt.get_fignums() == []


def test_component_means_are_in_the_units_of_the_data(digits: Comparison):
    sheet = plots.component_means(digits["mixture"].model).axes[0].images[0].get_array()
    grey = np.asarray(sheet)[..., 0][np.asarray(sheet)[..., 3] == 1]
    assert abs(grey.mean() - digits.train.mean() / 16) < 0.08
    classes = genus.CategoricalMixture(3, random_state=0).fit(digits.train, space=digits.space)
    sheet = np.asarray(plots.component_means(classes).axes[0].images[0].get_array())
    assert abs(sheet[..., 0][sheet[..., 3] == 1].mean() - digits.train.mean() / 16) < 0.08


def test_every_edge_of_a_network_is_an_arrow_between_its_pixels_or_names():
    x = np.random.default_rng(0).integers(0, 2, (200, 2, 3))
    net = genus.BayesNet([(0, 5), (2, 1)]).fit(x, space=genus.Space((2, 3), "binary", layout="HW"))
    arrows = [(t.xyann, t.xy) for t in plots.graph(net).axes[0].texts]
    (x0, y0), (x5, y5) = arrows[0]
    assert len(arrows) == 2 and x5 > x0 and y5 < y0  # from the top left to the bottom right
    table = pd.DataFrame(
        x.reshape(200, 6)[:, :3], columns=["a", "b", "a name that is far too long"]
    )
    texts = [
        t.get_text() for t in plots.graph(genus.BayesNet([("a", "b")]).fit(table)).axes[0].texts
    ]
    assert texts == ["", "a", "b", "a name that i…"]


def test_loadings_are_the_columns_of_W_the_strongest_first(digits: Comparison):
    model = genus.ProbabilisticPCA(3, random_state=0).fit(digits.train, space=digits.space)
    drawn = plots.loadings(model).axes[0].images[0].get_array()
    model.loadings_ = model.loadings_.flip(1)
    assert np.array_equal(drawn, plots.loadings(model).axes[0].images[0].get_array())


def test_cells_of_a_table_read_as_one_would_write_them():
    rows = pd.DataFrame(
        {
            "age": [63.0, np.nan],
            "share": [0.25, -2.0],
            "on": pd.to_datetime(["2020-01-31", None]),
            "yes": [True, False],
        }
    )
    cells = re.findall(r"<td>(.*?)</td>", str(table(rows)))
    assert cells == ["63", "0.2500", "2020-01-31", "True", "—", "−2.000", "—", "False"]


def test_marginals_are_labelled_in_the_units_of_the_data():
    days = pd.date_range("2020-01-01", periods=400)
    X = pd.DataFrame({"age": np.arange(400) % 60 + 30, "day": days})
    age, day = plots.marginals(X, X, genus.Space.of(X)).axes
    assert age.get_xlim()[0] > 25 and age.get_xlim()[1] < 95
    assert day.xaxis.get_major_formatter()((days[40] - pd.Timestamp(0)).days, 0) == "2020-02"


def test_extremes_are_in_order(digits: Comparison):
    nats = np.arange(80.0)
    sheet = np.asarray(
        plots.extremes(digits.test, nats, digits.space, n=2).axes[0].images[0].get_array()
    )
    assert np.allclose(sheet[:8, :8, 0], digits.test[79] / 16)  # the most probable first
    assert np.allclose(sheet[9:17, :8, 0], digits.test[0] / 16)  # the least probable first


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
