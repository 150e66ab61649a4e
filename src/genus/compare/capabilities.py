"""What every family can do, asked of the classes themselves.

A family suits a kind of data where it builds, with no arguments, on rows of that kind. It has a
verb where its class has the hook of the verb.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import pandas as pd

from genus.compare.entries import families, refusal
from genus.predictor import Predictor
from genus.space import Space

VERBS = ("sample", "log_prob", "complete", "encode", "predict")


@cache
def _spaces() -> dict[str, Space]:
    """One small space of each kind of data."""
    rows = np.arange(12)
    numbers = rows / 7
    words = np.array(["a", "b", "c"])[rows % 3]
    images = np.arange(12 * 64).reshape(12, 8, 8) % 17
    table = pd.DataFrame({"word": words, "count": rows, "size": numbers})
    return {
        "bits": Space.of((rows[:, None] >> np.arange(4)) & 1, "binary"),
        "levels": Space.of(np.stack([rows % 5, rows % 4], 1), "ordinal"),
        "words": Space.of(pd.DataFrame({"first": words, "second": words[::-1]})),
        "numbers": Space.of(np.stack([numbers, numbers**2], 1), "continuous"),
        "tables": Space.of(table),
        "images": Space.of(images, "ordinal"),
    }


def capabilities() -> pd.DataFrame:
    """What every family of genus can do: a row a family, its name the index.

    Columns
    -------
    learned_by : how it learns.
    bits, levels, words, numbers, tables, images : whether it models such rows with no arguments;
        None for models of p(y | X), which take any X.
    missing : whether ``fit`` and ``log_prob`` take rows with missing cells.
    given : "none", "optional" or "required": whether it models p(x | given).
    sample, log_prob, complete, encode, predict : whether it has the verb.

    Examples
    --------
    >>> import genus
    >>> table = genus.capabilities()
    >>> bool(table.loc["Gaussian", "complete"]), bool(table.loc["PixelCNN", "tables"])
    (True, False)
    """
    rows = {}
    labels = Space.of(pd.DataFrame({"label": ["a", "b"]}))
    for name, cls in families(predictors=True).items():
        about: dict[str, object] = {"learned_by": cls.learned_by}
        for kind, space in _spaces().items():
            if issubclass(cls, Predictor):
                about[kind] = None
            else:
                about[kind] = not refusal(cls, space, labels if cls.y_is_given else None)
        about["missing"] = cls.allow_nan
        about["given"] = cls.conditions
        model = cls()
        for verb in VERBS:
            about[verb] = hasattr(model, verb)
        rows[name] = about
    return pd.DataFrame.from_dict(rows, orient="index")


def as_markdown(table: pd.DataFrame) -> str:
    """The table of :func:`capabilities` as Markdown: ● where it can, – where it does not apply."""
    names = [f"`{name}`" for name in table.index]
    columns = {"model": names}
    for column in table:
        columns[str(column).replace("_", " ")] = [_in_a_cell(value) for value in table[column]]
    parts = []
    for header, cells in columns.items():
        width = max(map(len, (header, *cells)))
        parts.append([text.ljust(width) for text in (header, "-" * width, *cells)])
    return "\n".join("| " + " | ".join(line) + " |" for line in zip(*parts, strict=True))


def _in_a_cell(value: object) -> str:
    """Words as they are, but "none" as nothing; True ●, False nothing, None –."""
    if value is None:
        return "–"
    if isinstance(value, str):
        return "" if value == "none" else value.replace("|", r"\|")
    return "●" if value else ""
