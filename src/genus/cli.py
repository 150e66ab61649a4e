"""The command ``genus``: results on stdout, progress and complaints on stderr.

Exit codes: 0 done, 1 failed, 2 wrong usage, 130 interrupted. :mod:`genus_command` stands before it: help at once, without torch.
"""

from __future__ import annotations

import difflib
import json
import math
import os
import re
import sys
import time
import traceback
import typing
import warnings
from argparse import SUPPRESS, RawDescriptionHelpFormatter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from genus.model import Model


class UsageError(Exception):
    """The command line says something that cannot be meant."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command line that begins with one of COMMANDS and return its exit code."""
    args = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in args
    args = [a for a in args if a != "--debug"]
    try:
        with warnings.catch_warnings():
            warnings.showwarning = _warn
            return COMMANDS[args[0]](args[1:])
    except KeyboardInterrupt:
        print("genus: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader of our output has gone: no more to say
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except SystemExit as e:
        return e.code if isinstance(e.code, int) else 0
    except UsageError as e:
        print(f"genus: {e}", file=sys.stderr)
        return 2
    except Exception as e:
        if debug:
            traceback.print_exc()
        else:
            text = " ".join(str(e).split()) or type(e).__name__
            plain = isinstance(e, ValueError | OSError | RuntimeError) and type(e).__name__ not in ("RuntimeError", "UnicodeDecodeError")
            print(f"genus: {text}" if plain else f"genus: {type(e).__name__}: {text} (--debug shows where)", file=sys.stderr)
        return 1


# ---------------------------------------------------------------------- the commands


def models(args: list[str]) -> int:
    """list the families of models"""
    parser = _parser(
        "models", "List the families of models and what learns them.", "genus models\ngenus fit VAE --help    the arguments of one"
    )
    said = _parse(parser, args)
    from genus.compare import families

    rows = [{"name": n, "learned_by": getattr(c, "learned_by", ""), "about": _first_line(c)} for n, c in families(True).items()]
    _print_rows(rows, said.json)
    return 0


def data(args: list[str]) -> int:
    """list the named data sets"""
    parser = _parser("data", "List the named data sets.", "genus data\ngenus compare digits --report report.html")
    said = _parse(parser, args)
    import genus.data

    _print_rows(genus.data.names(), said.json)
    return 0


def fit(args: list[str]) -> int:
    """learn a model from data and save it"""
    cls = _model_of(args)
    examples = """\
genus fit VAE digits --out run
genus fit GaussianMixture table.csv --out run --n_components 20
genus fit VAE digits --out run --trainer.epochs 5 --trainer.lr 0.002 --encoder MLP --encoder.width 256
genus fit VAE digits --out run --print_config > vae.yaml; genus fit --config vae.yaml
genus fit VAE digits --out run --resume    go on from run.checkpoint, after Ctrl-C or with more epochs"""
    about = "Learn a model from the training rows of DATA and save it. Ctrl-C keeps what is learned (exit code 130)."
    about += " `genus fit MODEL --help` lists the arguments of that model." if cls is None else ""
    parser = _parser("fit", about, examples)
    parser.add_argument("model", nargs="?", default=SUPPRESS, help="a family of `genus models`")
    parser.add_argument("data", nargs="?", default=SUPPRESS, help="a name, a file or a folder")
    parser.add_argument("--out", metavar="RUN", help="the file to write")
    parser.add_argument("--budget", help="time to learn: 60s, 2m, 1h")
    parser.add_argument("--all_rows", action="store_true", help="learn from the test rows too (nothing is left to evaluate on)")
    parser.add_argument("--resume", action="store_true", help="go on from the checkpoint beside RUN, if there is one")
    _data_options(parser)
    if cls is not None:
        _model_arguments(parser, cls)
    said = _parse(parser, args)
    if cls is None:
        raise UsageError("a model is missing: genus fit MODEL DATA --out RUN (`genus models` lists them)")
    for name in ("data", "out"):
        if said.get(name) is None:
            raise UsageError(f"{name if name == 'data' else '--out'} is missing: genus fit MODEL DATA --out RUN")

    from genus.compare import parse_seconds
    from genus.learn import time_limit

    made = parser.instantiate(said)
    params = {k: made[k] for k in _parameters(cls)}
    if "random_state" in params and params["random_state"] is None:
        params["random_state"] = 0
    model: Any = cls(**params)
    run, rows = _out(said.out), _load(said)
    checkpoint = run.with_suffix(".checkpoint")
    resume: Any = None
    if hasattr(model, "losses"):
        given = model.trainer
        model.trainer = given.replace(checkpoint=given.checkpoint or checkpoint)
        resume = said.resume or None
    elif said.resume and run.exists():
        resume = str(run)
    x = rows.X if said.all_rows else _part(rows, "train")
    begun = time.perf_counter()
    with time_limit(parse_seconds(said.budget)):
        model.fit(x, space=said.space or rows.space, resume=resume)
    seconds = time.perf_counter() - begun
    if hasattr(model, "losses"):
        model.trainer = given
    model.save(run)
    interrupted = bool(getattr(model, "interrupted_", False))
    facts = {
        "run": str(run),
        "model": type(model).__name__,
        "rows": len(x),
        "space": str(model.space_),
        "parameters": model.n_parameters(),
        "seconds": round(seconds, 3),
        "interrupted": interrupted,
    }
    text = f"{facts['model']} learned from {len(x):,} rows ({facts['space']}) in {seconds:.1f} s: saved as {run}"
    print(json.dumps(facts) if said.json else text)
    if interrupted:
        print(
            "genus: interrupted: the model as it was is saved" + ("; --resume goes on" if resume or hasattr(model, "losses") else ""),
            file=sys.stderr,
        )
    return 130 if interrupted else 0


def sample(args: list[str]) -> int:
    """draw rows from a model"""
    examples = "genus sample run -n 64 --out samples.png\ngenus sample run -n 1000 --out rows.csv --random_state 7\ngenus sample run -n 5"
    parser = _parser("sample", "Draw rows from a saved model, to a file or as CSV on stdout.", examples)
    parser.add_argument("run", help="a saved model")
    parser.add_argument("-n", "--n", type=int, default=64, help="how many")
    parser.add_argument("--out", help="x.png (images), .csv, .json, .npy, .npz or .parquet")
    parser.add_argument("--random_state", type=int, default=0, help="seed: the same gives the same rows")
    said = _parse(parser, args)
    if said.n < 1:
        raise UsageError(f"-n {said.n}: a positive number of rows is needed")
    from genus.output import check_ending

    model = _open(said.run)
    if said.out:
        check_ending(said.out, model.space_)
    _needs(model, "sample")
    _hand_over(model.sample(said.n, random_state=said.random_state), model, said)
    return 0


def evaluate(args: list[str]) -> int:
    """judge a model on held-out rows"""
    examples = "genus evaluate run digits\ngenus evaluate run table.csv --json"
    about = "Judge a saved model on the test rows of DATA: held-out likelihood, and whether its samples look real."
    parser = _parser("evaluate", about, examples)
    parser.add_argument("run", help="a saved model")
    parser.add_argument("data", help="the data that it was learned from")
    parser.add_argument("--samples", type=int, default=1000, help="samples compared with real rows, at most")
    parser.add_argument("--random_state", type=int, default=0, help="seed of samples and tests")
    _data_options(parser)
    said = _parse(parser, args)
    from genus.evaluate import SampleTest, likelihood_summary

    model, rows = _open(said.run), _load(said)
    train, test = _part(rows, "train"), _part(rows, "test")
    facts: dict[str, Any] = {"model": type(model).__name__, "data": rows.name, "test_rows": len(test)}
    lines = [f"{facts['model']} on {len(test):,} held-out rows of {rows.name}"]
    if hasattr(model, "log_prob"):
        found = likelihood_summary(model.log_prob(test))
        facts |= {"nats": found.nats, "nats_stderr": found.stderr, "kind": found.kind, "measure": found.measure}
        facts |= {"bits_per_dim": found.bits_per_dim, "bits_stderr": found.bits_stderr, "detail": found.detail}
        lines.append(f"log-likelihood  {found} nats a row ({found.kind} of a {found.measure})")
        lines.append(f"bits/dim        {found.bits_per_dim:.4f} ± {found.bits_stderr:.4f}")
    if hasattr(model, "sample"):
        judge = SampleTest(model.space_, train, test, _labels(rows), rows=said.samples, random_state=said.random_state)
        q = judge(model.sample(judge.n, random_state=said.random_state))
        facts |= {"samples": q.n, "c2st": q.classifier.accuracy, "c2st_stderr": q.classifier.stderr, "mmd_p": q.mmd.p_value}
        facts |= {"frechet": q.frechet.distance, "frechet_floor": q.frechet.floor, "frechet_embedding": q.frechet.embedding}
        facts |= {"memorisation": q.memorisation.word}
        lines += [
            f"C2ST            {q.classifier.accuracy:.3f} ± {q.classifier.stderr:.3f} told apart ({q.n} of each; 0.5: guessing)",
            f"MMD             p = {q.mmd.p_value:.3f}",
            f"Fréchet         {q.frechet.distance:.4g} in {q.frechet.embedding} (real against real {q.frechet.floor:.4g})",
            f"memorisation    {q.memorisation.word}",
        ]
    print(_json(facts) if said.json else "\n".join(lines))
    return 0


def score(args: list[str]) -> int:
    """print the log-probability of every row of a file"""
    examples = "genus score run rows.csv > scores.csv\ngenus score run rows.csv --lowest 10    the rows least like the data: outliers"
    parser = _parser("score", "Print the log-probability of every row, in nats: low ones do not belong. CSV on stdout.", examples)
    parser.add_argument("run", help="a saved model")
    parser.add_argument("file", help="rows: a file, a folder or a name")
    parser.add_argument("--lowest", type=int, help="only so many rows, the least probable first")
    _data_options(parser, space=False)
    said = _parse(parser, args)
    import numpy as np

    model = _open(said.run)
    _needs(model, "log_prob")
    found = model.log_prob(_rows_for(model, said)[0])
    stderr = np.broadcast_to(found.stderr, (len(found),))
    order = range(len(found)) if said.lowest is None else np.argsort(found.nats, kind="stable")[: said.lowest].tolist()
    values = [(i, float(found.nats[i]), float(stderr[i]), float(found.bits_per_dim[i])) for i in order]
    if said.json:
        rows = [{"row": i, "nats": v, "stderr": e, "bits_per_dim": b} for i, v, e, b in values]
        print(_json({"kind": found.kind, "measure": found.measure, "rows": rows}))
        return 0
    print("row,nats,stderr,bits_per_dim")
    for i, v, e, b in values:
        print(f"{i},{v:.6g},{e:.3g},{b:.6g}")
    return 0


def complete(args: list[str]) -> int:
    """fill in the missing cells of a file"""
    examples = "genus complete run holes.csv --out filled.csv\ngenus complete run holes.npy --out filled.png --random_state 3"
    parser = _parser("complete", "Fill in missing cells (empty or NaN) with draws from p(missing | observed).", examples)
    parser.add_argument("run", help="a saved model")
    parser.add_argument("file", help="rows with missing cells: a file")
    parser.add_argument("--out", help="x.png (images), .csv, .json, .npy, .npz or .parquet; without it CSV on stdout")
    parser.add_argument("--random_state", type=int, default=0, help="seed: another gives other completions")
    _data_options(parser, space=False)
    said = _parse(parser, args)
    from genus.output import check_ending

    model = _open(said.run)
    if said.out:
        check_ending(said.out, model.space_)
    _needs(model, "complete")
    rows, whole = _rows_for(model, said)
    filled = model.complete(rows, random_state=said.random_state)
    if whole is not None:  # columns that the model was not fitted on go through as they are
        for name in filled.columns:
            whole[name] = filled[name].to_numpy()
        filled = whole
    _hand_over(filled, model, said)
    return 0


def compare(args: list[str]) -> int:
    """compare models on data, and write the report"""
    examples = """\
genus compare digits --report report.html
genus compare table.csv --models GaussianMixture VAE --budget 60s --report report.html
genus compare digits --models VAE --VAE.latent_dim 2 --VAE.trainer.epochs 20 --json"""
    about = "Fit models on the same rows, judge them on the same others, and say which describes the data best. Baselines are always added."
    parser = _parser("compare", about, examples)
    parser.add_argument("data", nargs="?", default=SUPPRESS, help="a name, a file or a folder")
    parser.add_argument("--models", nargs="+", help="families of `genus models`; all that suit the data when left out")
    parser.add_argument("--report", metavar="FILE", help="write the page to this .html file")
    parser.add_argument("--budget", help="time for each fit: 60s, 2m, 1h; without it as long as each model wants")
    parser.add_argument("--samples", type=int, default=1000, help="samples compared with real rows, at most")
    parser.add_argument("--max_test", type=int, default=2000, help="test rows used, at most")
    parser.add_argument("--jobs", type=int, default=1, help="models fitted at once")
    parser.add_argument("--random_state", type=int, default=0, help="seed of everything")
    _data_options(parser)
    classes: dict[str, Any] = {}
    if not {"-h", "--help"} & set(args):
        from genus.compare import families

        classes = families()
        for cls in classes.values():
            _model_arguments(parser, cls, prefix=f"{cls.__name__}.", shown=False)
    said = _parse(parser, args)
    if said.get("data") is None:
        raise UsageError("data are missing: genus compare DATA --report report.html")
    from genus.compare import compare as run
    from genus.compare import resolve

    made = parser.instantiate(said)
    names = [n for entry in said.models or [] for n in entry.split(",") if n] or None
    changed = {n: {k: v for k, v in made[n].items() if v != p[k]} for n, c in classes.items() if (p := _parameters(c))}
    chosen: Any = names
    if any(changed.values()):
        chosen = resolve(names)
        for _, model in chosen:
            model.set_params(**changed.get(type(model).__name__, {}))
        absent = {n for n, v in changed.items() if v} - {type(m).__name__ for _, m in chosen}
        if absent:
            raise UsageError(f"--{min(absent)}... is set, but {min(absent)} is not among --models")
    if said.report:
        _writable(said.report)
    found = run(
        chosen,
        _load(said),
        space=said.space,
        budget=said.budget,
        samples=said.samples,
        max_test=said.max_test,
        jobs=said.jobs,
        random_state=said.random_state,
        progress=lambda line: print(line, file=sys.stderr, flush=True),
    )
    print(_json(found.to_json()) if said.json else found)
    if said.report:
        found.report(said.report)
        print(f"The report is in {said.report}", file=sys.stderr)
    failed = [r.name for r in found.rows if r.error]
    if any("interrupted" in (r.error or "") for r in found.rows) or any(getattr(r.model, "interrupted_", False) for r in found.rows):
        return 130
    return 1 if len(failed) == len(found.rows) else 0


COMMANDS: dict[str, Callable[[list[str]], int]] = {
    "models": models,
    "data": data,
    "fit": fit,
    "sample": sample,
    "evaluate": evaluate,
    "score": score,
    "complete": complete,
    "compare": compare,
}


# ---------------------------------------------------------------------- command lines


def _parser(name: str, about: str, examples: str) -> Any:
    from jsonargparse import ArgumentParser, DefaultHelpFormatter

    class Formatter(DefaultHelpFormatter, RawDescriptionHelpFormatter):
        pass

    parser = ArgumentParser(
        prog=f"genus {name}",
        description=about,
        epilog="examples:\n" + "\n".join(f"  {line}" for line in examples.splitlines()),
        formatter_class=Formatter,
        exit_on_error=False,
    )
    parser.add_argument("--config", action="config", metavar="FILE", help="options from a YAML file")
    parser.add_argument("--json", action="store_true", help="print JSON")
    return parser


def _data_options(parser: Any, space: bool = True) -> None:
    how = typing.Literal["sample", "threshold", "dynamic"] | None
    parser.add_argument("--binarize", type=how, default=None, help="make bits of grey pixels, see genus.data.load")
    if space:
        parser.add_argument("--space", help="a kind, where the inferred one is not wanted: binary, ordinal, categorical, continuous")


def _parse(parser: Any, args: list[str]) -> Any:
    from jsonargparse import ArgumentError

    try:
        return parser.parse_args(args)
    except ArgumentError as e:
        raise UsageError(f"{parser.prog.removeprefix('genus ')}: {_one_line(str(e))} (genus {parser.prog.split()[1]} --help)") from None


def _one_line(text: str) -> str:
    """jsonargparse's tree of errors in a line: which option, what was given and what was expected."""
    key, given = re.findall(r'Parser key "([^"]+)"', text), re.findall(r"(?:Given|Got) value: (.*)", text)
    wanted = list(dict.fromkeys(re.findall(r"Expected an? <class '(?:\w+\.)*(\w+)'>", text)))
    if key and given and wanted:
        options = " or ".join({"NoneType": "null"}.get(w, w) for w in wanted)
        return f"--{'.'.join(dict.fromkeys(key))}={given[0]}: {options} is needed"
    return " ".join(text.split())[:300]


def _model_of(args: list[str]) -> type[Model] | None:
    """The class that a `fit` command line, or its --config file, names."""
    from genus.compare import families

    known = families()
    for a in args:
        if a in known:
            return known[a]
        if a in families(True):
            raise UsageError(f"fit: {a} is a model of p(y | X), for use from Python: genus.{a}().fit(X, y)")
    if "--config" in args[:-1]:
        try:
            text = Path(args[args.index("--config") + 1]).read_text(encoding="utf-8")
        except OSError as e:
            raise UsageError(f"fit: --config: {e}") from None
        if (named := re.search(r'^\s*"?model"?\s*:\s*["\']?(\w+)', text, flags=re.MULTILINE)) and named[1] in known:
            return known[named[1]]
    if args and not args[0].startswith("-"):
        near = difflib.get_close_matches(args[0].lower(), {n.lower(): n for n in known}, 1, 0.5)
        hint = f"did you mean {next(n for n in known if n.lower() == near[0])}?" if near else f"choose from {', '.join(known)}"
        raise UsageError(f"fit: there is no model {args[0]!r}: {hint}")
    return None


def _parameters(cls: type[Model]) -> dict[str, Any]:
    """The arguments of a model and their defaults, settings objects in place of None."""
    from genus.trainer import Trainer

    return {k: Trainer() if k == "trainer" and v is None else v for k, v in cls().get_params(deep=False).items()}


def _model_arguments(parser: Any, cls: type[Model], prefix: str = "", shown: bool = True) -> None:
    """An option for each argument of a model: dotted for settings objects, such as --trainer.epochs."""
    from jsonargparse import set_parsing_settings

    from genus.networks import MLP, Conv, ResNet
    from genus.trainer import Trainer

    set_parsing_settings(subclasses_disabled=[Trainer])  # so that YAML says trainer: {epochs: 5}
    hints = typing.get_type_hints(cls.__init__)
    about = _argument_docs(cls)
    for name, default in _parameters(cls).items():
        kind = hints.get(name, Any)
        if name == "trainer":
            kind = Trainer
        elif "Callable" in str(kind):
            kind = MLP | Conv | ResNet | None
        text = about.get(name, "how the gradient is descended" if name == "trainer" else "seed" if name == "random_state" else name)
        parser.add_argument(f"--{prefix}{name}", type=kind, default=default, help=text if shown else SUPPRESS)


def _argument_docs(cls: type) -> dict[str, str]:
    """What the docstring of a class says of each argument: ``name, name: text`` lines."""
    found: dict[str, str] = {}
    for names, text in re.findall(r"^    ((?:\w+, )*\w+): (.*(?:\n     +\S.*)*)", cls.__doc__ or "", flags=re.MULTILINE):
        for name in names.split(", "):
            found[name] = " ".join(text.split()).replace("``", "").replace("%", "%%")
    return found


# ---------------------------------------------------------------------- files


def _out(path: str) -> Path:
    run = Path(path)
    run = run if run.suffix == ".genus" else run.with_name(run.name + ".genus")
    _writable(run)
    return run


def _writable(path: str | Path) -> None:
    """Say so before the work, not after it, when a file cannot be written."""
    folder = Path(path).resolve().parent
    if Path(path).is_dir() or not folder.is_dir() or not os.access(folder, os.W_OK):
        raise OSError(f"{path} cannot be written: {'it is a folder' if Path(path).is_dir() else f'{folder} is no folder to write in'}")


def _open(path: str) -> Model:
    import genus

    tried = (Path(path), Path(path + ".genus"))
    for run in tried:
        if run.is_file():
            model: Model = genus.load(run)
            return model
    raise FileNotFoundError(f"there is no model {path} or {path}.genus: `genus fit MODEL DATA --out {path}` makes one")


def _load(said: Any) -> Any:
    import genus.data

    return genus.data.load(said.data if "data" in said else said.file, binarize=said.binarize)


def _rows_for(model: Model, said: Any) -> tuple[Any, Any]:
    """The rows of a file; and, of a table, all that stands in it: columns the model does not know, and empty ones."""
    from genus import data

    path, names = Path(said.file), [c.name for c in model.space_.columns]
    if not names or not path.is_file() or path.suffix.lower() not in (".csv", ".tsv", ".txt"):
        return _load(said).X, None
    whole = data.read_csv(path)
    absent = [n for n in names if n not in whole.columns]
    if absent:
        raise ValueError(f"{path} lacks the column {absent[0]!r} that the model was fitted on")
    return whole[names], whole


def _part(rows: Any, name: str) -> Any:
    part = getattr(rows, name)
    return getattr(part, "X", part)


def _labels(rows: Any) -> Any:
    return getattr(rows.train, "y", None)


def _needs(model: Model, verb: str) -> None:
    if not hasattr(model, verb):
        from genus.model import CapabilityError

        raise CapabilityError(f"{type(model).__name__} has no {verb}: `genus models` lists other families")


def _hand_over(X: Any, model: Model, said: Any) -> None:
    """Rows to --out, or as CSV (or JSON) to stdout."""
    from genus.output import frame, write_rows

    if said.out:
        write_rows(said.out, X, model.space_)
        print(_json({"out": said.out, "rows": len(X)}) if said.json else f"{len(X)} rows in {said.out}")
        return
    table = frame(X, model.space_)
    if said.json:
        print(table.to_json(orient="records"))
    else:
        table.to_csv(sys.stdout, index=False)


# ---------------------------------------------------------------------- words


def _first_line(cls: type) -> str:
    return (cls.__doc__ or "").strip().split("\n\n")[0].replace("\n    ", " ")


def _print_rows(rows: list[dict[str, str]], as_json: bool) -> None:
    if as_json:
        print(_json(rows))
        return
    widths = {k: max(len(r[k]) for r in rows) for k in rows[0]}
    for r in rows:
        print("  ".join(f"{v:<{widths[k]}}" for k, v in r.items()).rstrip())


def _json(value: Any) -> str:
    def plain(v: Any) -> Any:
        if isinstance(v, dict):
            return {str(k): plain(x) for k, x in v.items()}
        if isinstance(v, list | tuple):
            return [plain(x) for x in v]
        if hasattr(v, "item"):
            v = v.item()
        return None if isinstance(v, float) and not math.isfinite(v) else v

    return json.dumps(plain(value), ensure_ascii=False)


def _warn(message: Any, category: Any, filename: str, lineno: int, file: Any = None, line: str | None = None) -> None:
    if issubclass(category, UserWarning | RuntimeWarning):
        print(f"genus: warning: {' '.join(str(message).split())}", file=sys.stderr)
