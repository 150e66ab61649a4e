"""What a command prints."""

from __future__ import annotations

import inspect
import json
import math
import sys
from typing import Any


def first_line(cls: type) -> str:
    """The first paragraph of a class's docstring."""
    about = inspect.cleandoc(cls.__doc__ or "")
    return about.split("\n\n")[0].replace("\n", " ")


def print_rows(rows: list[dict[str, str]], as_json: bool) -> None:
    """Print rows as a table with a column a key, or as JSON."""
    if as_json:
        print(json_text(rows))
        return
    widths = {k: max(len(r[k]) for r in rows) for k in rows[0]}
    for r in rows:
        print("  ".join(f"{v:<{widths[k]}}" for k, v in r.items()).rstrip())


def print_scores(
    scores: dict[str, Any], table: Any, found: Any, as_json: bool, header: bool = True
) -> None:
    """Print a line a row: its number and scores, and what stands in the caller's table.

    A column of the table that is called as a score is gets a line below its name.
    """
    import pandas as pd

    from genus.report.writing import json_records

    out = pd.DataFrame(scores)
    if table is not None:
        names = [f"{name}_" if name in scores else name for name in table.columns]
        out = pd.concat([out, table.set_axis(names, axis=1).reset_index(drop=True)], axis=1)
    if as_json:
        rows = json.loads(json_records(out))
        print(json_text({"kind": found.kind, "measure": found.measure, "rows": rows}))
        return
    for name, form in (("nats", "{:.6g}"), ("stderr", "{:.3g}"), ("bits_per_dim", "{:.6g}")):
        out[name] = [form.format(v) for v in out[name]]
    out.to_csv(sys.stdout, index=False, header=header)


def json_text(value: Any) -> str:
    """JSON of a value; numbers that JSON lacks become words."""

    def plain(v: Any) -> Any:
        if isinstance(v, dict):
            return {str(k): plain(x) for k, x in v.items()}
        if isinstance(v, list | tuple):
            return [plain(x) for x in v]
        if hasattr(v, "item"):
            v = v.item()
        return None if isinstance(v, float) and not math.isfinite(v) else v

    return json.dumps(plain(value), ensure_ascii=False)


def show_warning(
    message: Any,
    category: Any,
    filename: str,
    lineno: int,
    file: Any = None,
    line: str | None = None,
) -> None:
    """A warning in one line, without the place in the code."""
    if issubclass(category, UserWarning | RuntimeWarning):
        print(f"genus: warning: {' '.join(str(message).split())}", file=sys.stderr)
