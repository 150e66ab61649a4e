"""The report in words: the answer, and what each kind of number means."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from markupsafe import Markup, escape

from genus.compare.uses import DRAWS, HIDDEN, ROWS, SWAPPED
from genus.evaluate import paired_difference
from genus.evaluate.likelihood import COMPARABLE

MEANINGS = [
    (
        "log-likelihood, nats",
        "The mean over held-out rows of log p(x), the natural logarithm of the probability that "
        "the model gives to a row it has not seen. Higher is better; one nat more means that the "
        "row is e = 2.718… times as probable. It is in the units of the data: whatever a model "
        "does to them inside (scaling, noise) is paid for.",
    ),
    (
        "= exact, ≥ lower bound, ≈ estimate, — none",
        "= is log p(x) itself. ≥ is at most log p(x): the model is at least so good, and how much "
        "better is not known; a bound that beats another number has won, one that loses may only "
        "be loose. ≈ contains a normaliser estimated by simulation and may err on either side. — "
        "means that the model has no likelihood.",
    ),
    (
        "±",
        "One standard error: how much the number would move with other held-out rows, "
        "and with other random numbers where it was simulated. "
        "Differences between models are taken row by row, because rows that are hard "
        "for one are hard for all: their error is smaller than that of either number. "
        "Two models are called level when they differ by less than two of these errors.",
    ),
    (
        "bits per dimension",
        "−log₂ p(x), divided by the number of coordinates (pixels, columns): the space a row "
        "would take if it were compressed with the model, lower is better. Numbers for data of "
        "the same kind but other sizes become comparable.",
    ),
    (
        "probability and density",
        "A model of discrete values gives a probability, at most 1. A model of continuous values "
        "gives a density, per unit of the data, which has no upper limit and changes when metres "
        "become millimetres. The two are never ranked together here.",
    ),
    (
        "told from real (classifier two-sample test)",
        "A classifier is trained to tell samples of the model from real held-out rows. 50 % right "
        "is guessing: it cannot. 100 %: always.",
    ),
    (
        "MMD p",
        "The chance that two sets of real rows would differ as much as samples and real rows do "
        "(maximum mean discrepancy, permuted labels). A small p says that the samples are not "
        "real rows; a large one says only that this test sees no difference.",
    ),
    (
        "Fréchet distance",
        "The distance between Gaussians fitted to samples and to held-out rows in "
        "the embedding that the column names, a small one made from these data. "
        "Lower is better; the floor is the same distance between real rows and real rows. "
        "It is not FID, and is not comparable between data sets.",
    ),
    (
        "copies",
        "Whether samples lie nearer to training rows than to held-out rows, beyond chance. A "
        "model that recites its training rows has nice samples and has learned nothing.",
    ),
    (
        "baselines",
        "Independent knows each coordinate on its own and nothing of how they go together; the "
        "full Gaussian knows their pairwise correlations. A model that does not "
        "beat them has little to say about these data.",
    ),
]

USES_MEAN = [
    (
        "numbers and words filled in",
        f"Of the cells of at most {ROWS} held-out rows {100 * HIDDEN:.0f} % were hidden, the same "
        f"for all models, and each model drew them {DRAWS} times. The error is that of the mean "
        "of the draws, in standard deviations of the column: 1 is as good as knowing nothing of "
        "the row. Of words and bits the most frequent draw counts. The marginals are the means "
        "and the most frequent values of the training rows.",
    ),
    (
        "90 % interval",
        "The share of hidden numbers that lie in the central 90 % of their draws. Less than 0.9: "
        "the model is too sure of itself; more: it could say more than it does.",
    ),
    (
        "swapped rows found",
        f"Of the held-out rows {100 * SWAPPED:.0f} % got a fifth of their cells, at least two, "
        "from other rows: every value is an ordinary one, but they do not go together. The "
        "number is the chance that such a row has a lower log-probability than one that was left "
        "alone: 1 is always, 0.5 is guessing.",
    ),
]


def answer(comparison: Any) -> list[Markup]:
    """The question answered: what describes the data best, by how much, and what was refused."""
    good = {m: [r for r in rows if r.error is None] for m, rows in comparison.groups.items()}
    ranked = {m: rows for m, rows in good.items() if m and rows}
    said: list[Markup] = []
    for measure, rows in ranked.items():
        among = ""
        if len(ranked) > 1:
            among = f"Among the models whose number is {_a(measure)}: "
        said.append(Markup(escape(among)) + _best(rows) + _caution(rows))
        said += _baselines(rows)
    said += _samples(comparison.rows)
    said += _uses(comparison.of_use)
    if len(ranked) > 1:
        said.append(_apart(ranked))
    said += [_unranked(r) for r in good.get("", [])]
    failed = Markup("<b>{}</b> has no numbers: {}.")
    said += [failed.format(r.name, r.error.rstrip(".")) for r in comparison.rows if r.error]
    return said


def _apart(ranked: dict[str, list[Any]]) -> Markup:
    """Why models of different measure are not ranked together."""
    part = Markup("{}: {}")
    parts = [part.format(_a(m), listed([r.name for r in rows])) for m, rows in ranked.items()]
    text = Markup("These are not ranked together ({}), because {}.")
    return text.format(Markup("; ").join(parts), COMPARABLE)


def _unranked(r: Any) -> Markup:
    """Why a model that was fitted has no likelihood."""
    start = "no log-likelihood: "
    reasons = [note.removeprefix(start) for note in r.notes if note.startswith(start)]
    silent = any(note.startswith("no sample quality: ") for note in r.notes)
    why = "it has no likelihood, and " + (
        "draws no rows" if silent else "only its samples speak for it"
    )
    if reasons:
        why = f"its likelihood could not be computed ({reasons[0].rstrip('.')})"
    return Markup("<b>{}</b> is not ranked: {}.").format(r.name, why)


def _a(measure: str) -> str:
    return f"of {measure} measure" if measure.startswith("mixed") else f"a {measure}"


def _best(rows: Sequence[Any]) -> Markup:
    """Which model is best, or which are level, and how far the next one is."""
    best, found = rows[0], rows[0].likelihood
    value = f"{found.symbol} {plus_minus(found.nats, found.stderr)} nats a row"
    if len(rows) == 1:
        text = Markup("<b>{}</b> scores {}, and nothing else has a number to set beside it.")
        return text.format(best.name, value)
    level = [r.name for r in rows if r.rank == 1]
    rest = [r for r in rows if r.rank != 1]
    behind = ""
    if rest:
        d = paired_difference(best.log_prob, rest[0].log_prob)
        behind = plus_minus(d.nats, d.stderr)
    if len(level) == 1:
        text = Markup("<b>{}</b> describes these rows best: {}, {} nats above {}.")
        return text.format(best.name, value, behind, rest[0].name)
    text = Markup(
        "{} describe these rows equally well: "
        "they differ by less than two standard errors ({} for {})."
    ).format(listed(level), value, best.name)
    if rest:
        text += Markup(" {} follows, {} nats lower.").format(rest[0].name, behind)
    return text


def _caution(rows: Sequence[Any]) -> Markup:
    """That an estimate may be too good, and bounds that lose may be better than shown."""
    text = Markup("")
    if rows[0].likelihood.symbol == "≈":
        estimate = Markup(" The number of {} is an estimate and may err on either side.")
        text += estimate.format(rows[0].name)
    loose = [r.name for r in rows[1:] if r.likelihood.symbol == "≥"]
    if len(loose) == 1:
        bound = " The number of {} is a lower bound, and that model may be better than shown."
        text += Markup(bound).format(listed(loose))
    elif loose:
        bounds = " The numbers of {} are lower bounds, and those models may be better than shown."
        text += Markup(bounds).format(listed(loose))
    return text


def _baselines(rows: Sequence[Any]) -> list[Markup]:
    """The models that the better baseline is level with or above."""
    base = next((r for r in rows if r.baseline), None)
    if base is None:
        return []
    beaten = [r.name for r in rows if not r.baseline and r.rank >= base.rank]
    if not beaten:
        return []
    verb = "does" if len(beaten) == 1 else "do"
    text = Markup("{} {} not beat the baseline {} by more than the error.")
    return [text.format(listed(beaten), verb, base.name)]


def _samples(rows: Sequence[Any]) -> list[Markup]:
    """Whose samples pass for real rows, and whose are copies."""
    judged = [r for r in rows if r.quality is not None]
    if len(judged) < 2:
        return []
    fooled = [r.name for r in judged if r.quality.classifier.p_value >= 0.05]
    if fooled:
        text = Markup("A classifier cannot tell samples of {} from real rows ({:,} of each).")
        text = text.format(listed(fooled), judged[0].quality.n)
    else:
        best = min(judged, key=lambda r: r.quality.classifier.accuracy)
        share = round(100 * best.quality.classifier.accuracy)
        text = Markup(
            "By samples, <b>{}</b> is the hardest to tell from real rows: "
            "a classifier is right {} % of the time."
        ).format(best.name, share)
    copying = [r.name for r in judged if r.quality.memorisation.word == "copies training rows"]
    if copying:
        copies = Markup(" The samples of {} look like copies of training rows.")
        text += copies.format(listed(copying))
    return [text]


def _uses(rows: Sequence[Any]) -> list[Markup]:
    """Which model fills in hidden cells best, and which finds rows with swapped cells best."""
    parts = []
    filled = [r for r in rows if r.completion is not None]
    numbers = [r for r in filled if not math.isnan(r.completion.rmse)]
    words = [r for r in filled if not math.isnan(r.completion.accuracy)]
    if numbers:
        best = min(numbers, key=lambda r: r.completion.rmse)
        text = Markup(
            "Hidden numbers are filled in best by <b>{}</b> (error {} standard deviations)"
        )
        parts.append(text.format(best.name, number(best.completion.rmse)))
    if words:
        best = max(words, key=lambda r: r.completion.accuracy)
        text = Markup("hidden words by <b>{}</b> ({} % right)")
        if not numbers:
            text = Markup("Hidden words are filled in best by <b>{}</b> ({} % right)")
        parts.append(text.format(best.name, round(100 * best.completion.accuracy)))
    said = [Markup(", ").join(parts) + "."] if parts else []
    found = [r for r in rows if r.outliers is not None]
    if found:
        best = max(found, key=lambda r: r.outliers.auroc)
        text = Markup("Rows with swapped cells are found best by <b>{}</b> (AUROC {}).")
        said.append(text.format(best.name, plus_minus(best.outliers.auroc, best.outliers.stderr)))
    return said


# ---------------------------------------------------------------------- numbers and lists


def listed(names: Sequence[str]) -> Markup:
    """``a``, ``a and b``, ``a, b and c``."""
    bold = [Markup("<b>{}</b>").format(n) for n in names]
    return bold[0] if len(bold) == 1 else Markup(", ").join(bold[:-1]) + Markup(" and ") + bold[-1]


def plus_minus(value: float, error: float) -> str:
    """A value and its standard error, with the two digits of the error that mean something."""
    if not math.isfinite(value) or not math.isfinite(error):
        return number(value)
    digits = 3 if error <= 0 else max(0, min(3, 1 - math.floor(math.log10(error))))
    return f"{_minus(f'{value:,.{digits}f}')} ± {error:,.{digits}f}"


def number(value: float, digits: int = 3) -> str:
    """A number to so many significant digits."""
    if not math.isfinite(value):
        return _minus(str(value)).replace("inf", "∞")
    if value == 0:
        return "0"
    decimals = max(0, digits - 1 - math.floor(math.log10(abs(value))))
    return _minus(f"{value:,.{min(decimals, 6)}f}")


def seconds(value: float | None) -> str:
    """Milliseconds, seconds, minutes or hours, as one would say them."""
    if value is None or not math.isfinite(value):
        return "—"
    if value < 0.1:
        return f"{number(1e3 * value, 2)} ms"
    if value < 60:
        return f"{number(value, 2)} s"
    minutes, rest = divmod(round(value), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def _minus(text: str) -> str:
    return str(escape(text)).replace("-", "−")
