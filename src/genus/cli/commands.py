"""The commands."""

from __future__ import annotations

import json
import sys
import time
from argparse import SUPPRESS
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from genus.cli.line import (
    UsageError,
    data_options,
    model_arguments,
    model_of,
    parameters_of,
    parse,
    parser_of,
)
from genus.cli.rows import (
    data_for,
    hand_over,
    labels_of,
    load_rows,
    needs,
    open_model,
    out_path,
    part_of,
    rows_for,
    writable,
)
from genus.cli.words import first_line, json_text, print_rows, print_scores

if TYPE_CHECKING:
    from genus.evaluate import Likelihood, SampleQuality

FEW = 20_000  # rows of many that samples are compared with


def models(args: list[str]) -> int:
    """list the families of models"""
    parser = parser_of(
        "models",
        "List the families of models and what learns them.",
        "genus models\ngenus models --can       which data and verbs each has\n"
        "genus fit VAE --help    the arguments of one",
    )
    parser.add_argument(
        "--can",
        action="store_true",
        help="a table of the kinds of data that each family models, and of its verbs",
    )
    said = parse(parser, args)
    if said.can:
        return _can(said.json)
    from genus.compare.entries import families

    rows = [
        {"name": n, "learned_by": getattr(c, "learned_by", ""), "about": first_line(c)}
        for n, c in families(True).items()
    ]
    print_rows(rows, said.json)
    return 0


def _can(as_json: bool) -> int:
    """Print the table of capabilities, as Markdown or as JSON."""
    from genus.compare.capabilities import as_markdown, capabilities

    table = capabilities()
    if as_json:
        print(json_text(table.rename_axis("name").reset_index().to_dict("records")))
    else:
        print(as_markdown(table))
    return 0


def data(args: list[str]) -> int:
    """list the named data sets"""
    parser = parser_of(
        "data", "List the named data sets.", "genus data\ngenus compare digits --report report.html"
    )
    said = parse(parser, args)
    import genus.data

    print_rows(genus.data.names(), said.json)
    return 0


def fit(args: list[str]) -> int:
    """learn a model from data and save it"""
    cls = model_of(args)
    examples = """\
genus fit VAE digits --out run
genus fit GaussianMixture table.csv --out run --n_components 20
genus fit VAE digits --out run --trainer.epochs 5 --encoder MLP --encoder.width 256
genus fit VAE digits --out run --print_config > vae.yaml; genus fit --config vae.yaml
genus fit VAE digits --out run --resume    go on from run.checkpoint, also with more epochs"""
    about = (
        "Learn a model from the training rows of DATA and save it. "
        "Ctrl-C keeps what is learned (exit code 130)."
    )
    if cls is None:
        about += " `genus fit MODEL --help` lists the arguments of that model."
    parser = parser_of("fit", about, examples)
    parser.add_argument("model", nargs="?", default=SUPPRESS, help="a family of `genus models`")
    parser.add_argument("data", nargs="?", default=SUPPRESS, help="a name, a file or a folder")
    parser.add_argument("--out", metavar="RUN", help="the file to write")
    parser.add_argument("--budget", help="time to learn: 60s, 2m, 1h")
    parser.add_argument("--device", help="where to learn: cpu, cuda, cuda:1")
    parser.add_argument(
        "--all_rows",
        action="store_true",
        help="learn from the test rows too (nothing is left to evaluate on)",
    )
    parser.add_argument(
        "--resume",
        action="store_true",
        help="go on from the checkpoint beside RUN, if there is one",
    )
    data_options(parser)
    if cls is not None:
        model_arguments(parser, cls)
    said = parse(parser, args)
    if cls is None:
        raise UsageError(
            "a model is missing: genus fit MODEL DATA --out RUN (`genus models` lists them)"
        )
    for name, option in (("data", "data"), ("out", "--out")):
        if said.get(name) is None:
            raise UsageError(f"{option} is missing: genus fit MODEL DATA --out RUN")

    from genus.compare.run import parse_seconds
    from genus.learn.fit import time_limit

    made = parser.instantiate(said)
    params = {k: made[k] for k in parameters_of(cls)}
    if "random_state" in params and params["random_state"] is None:
        params["random_state"] = 0
    model: Any = cls(**params)
    run, rows = out_path(said.out), load_rows(said)
    descends = hasattr(model, "losses")
    resume: Any = None
    if descends:
        given = model.trainer
        checkpoint = given.checkpoint or run.with_suffix(".checkpoint")
        model.trainer = given.replace(checkpoint=checkpoint)
        resume = said.resume or None
    elif said.resume and run.exists():
        resume = str(run)
    x = rows.X if said.all_rows else part_of(rows, "train")
    begun = time.perf_counter()
    with time_limit(parse_seconds(said.budget)):
        model.fit(x, space=said.space or rows.space, resume=resume, device=said.device)
    seconds = time.perf_counter() - begun
    if descends:
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
    text = (
        f"{facts['model']} learned from {len(x):,} rows ({facts['space']}) "
        f"in {seconds:.1f} s: saved as {run}"
    )
    print(json.dumps(facts) if said.json else text)
    if interrupted:
        more = "; --resume goes on" if resume or descends else ""
        print(f"genus: interrupted: the model as it was is saved{more}", file=sys.stderr)
    return 130 if interrupted else 0


def sample(args: list[str]) -> int:
    """draw rows from a model"""
    examples = """\
genus sample run -n 64 --out samples.png
genus sample run -n 1000 --out rows.csv --random_state 7
genus sample run -n 5"""
    parser = parser_of(
        "sample", "Draw rows from a saved model, to a file or as CSV on stdout.", examples
    )
    parser.add_argument("run", help="a saved model")
    parser.add_argument("-n", "--n", type=int, default=64, help="how many")
    parser.add_argument("--out", help="x.png (images), .csv, .json, .npy, .npz or .parquet")
    parser.add_argument(
        "--random_state", type=int, default=0, help="seed: the same gives the same rows"
    )
    said = parse(parser, args)
    if said.n < 1:
        raise UsageError(f"-n {said.n}: a positive number of rows is needed")
    from genus.report.writing import check_ending

    model = open_model(said.run)
    if said.out:
        check_ending(said.out, model.space_)
    needs(model, "sample")
    hand_over(model.sample(said.n, random_state=said.random_state), model, said)
    return 0


def evaluate(args: list[str]) -> int:
    """judge a model on held-out rows"""
    examples = "genus evaluate run digits\ngenus evaluate run table.csv --json"
    about = (
        "Judge a saved model on the test rows of DATA: "
        "held-out likelihood, and whether its samples look real."
    )
    parser = parser_of("evaluate", about, examples)
    parser.add_argument("run", help="a saved model")
    parser.add_argument("data", help="the data that it was learned from")
    parser.add_argument(
        "--samples", type=int, default=1000, help="samples compared with real rows, at most"
    )
    parser.add_argument("--random_state", type=int, default=0, help="seed of samples and tests")
    data_options(parser)
    said = parse(parser, args)
    from genus.data import Parquet
    from genus.evaluate import SampleTest, likelihood_summary

    model = open_model(said.run)
    rows = data_for(model, said)
    train, test = part_of(rows, "train"), part_of(rows, "test")
    facts: dict[str, Any] = {
        "model": type(model).__name__,
        "data": rows.name,
        "test_rows": len(test),
    }
    lines = [f"{facts['model']} on {len(test):,} held-out rows of {rows.name}"]
    if hasattr(model, "log_prob"):
        found = likelihood_summary(model.log_prob(test))
        facts |= _likelihood_facts(found)
        lines.append(f"log-likelihood  {found} nats a row ({found.kind} of a {found.measure})")
        lines.append(f"bits/dim        {found.bits_per_dim:.4f} ± {found.bits_stderr:.4f}")
    if isinstance(test, Parquet):  # samples are compared with a few rows from all over
        train, test = train.some(FEW), test.some(FEW)
    if hasattr(model, "sample"):
        seed = said.random_state
        judge = SampleTest(
            model.space_, train, test, labels_of(rows), rows=said.samples, random_state=seed
        )
        quality = judge(model.sample(judge.n, random_state=seed))
        facts |= _quality_facts(quality)
        lines += _quality_lines(quality)
    print(json_text(facts) if said.json else "\n".join(lines))
    return 0


def _likelihood_facts(found: Likelihood) -> dict[str, Any]:
    return {
        "nats": found.nats,
        "nats_stderr": found.stderr,
        "kind": found.kind,
        "measure": found.measure,
        "bits_per_dim": found.bits_per_dim,
        "bits_stderr": found.bits_stderr,
        "detail": found.detail,
    }


def _quality_facts(q: SampleQuality) -> dict[str, Any]:
    return {
        "samples": q.n,
        "c2st": q.classifier.accuracy,
        "c2st_stderr": q.classifier.stderr,
        "mmd_p": q.mmd.p_value,
        "frechet": q.frechet.distance,
        "frechet_floor": q.frechet.floor,
        "frechet_spread": list(q.frechet.spread),
        "frechet_embedding": q.frechet.embedding,
        "precision": q.overlap.precision,
        "recall": q.overlap.recall,
        "density": q.overlap.density,
        "coverage": q.overlap.coverage,
        "memorisation": q.memorisation.word,
    }


def _quality_lines(q: SampleQuality) -> list[str]:
    c2st, frechet = q.classifier, q.frechet
    told = f"{c2st.accuracy:.3f} ± {c2st.stderr:.3f} told apart"
    return [
        f"C2ST            {told} ({q.n} of each; 0.5: guessing)",
        f"MMD             p = {q.mmd.p_value:.3f}",
        f"Fréchet         {frechet.distance:.4g} in {frechet.embedding} "
        f"(real against real {frechet.spread[0]:.4g} to {frechet.spread[1]:.4g})",
        f"precision       {q.overlap.precision:.3f}, recall {q.overlap.recall:.3f}",
        f"density         {q.overlap.density:.3f}, coverage {q.overlap.coverage:.3f}",
        f"memorisation    {q.memorisation.word}",
    ]


def score(args: list[str]) -> int:
    """print the log-probability of every row of a file"""
    examples = """\
genus score run rows.csv > scores.csv    the columns of the table stand beside
genus score run rows.csv --lowest 10    the rows least like the data: outliers"""
    parser = parser_of(
        "score",
        "Print the log-probability of every row, in nats: low ones do not belong. CSV on stdout.",
        examples,
    )
    parser.add_argument("run", help="a saved model")
    parser.add_argument("file", help="rows: a file, a folder or a name")
    parser.add_argument("--lowest", type=int, help="only so many rows, the least probable first")
    data_options(parser, space=False)
    said = parse(parser, args)
    import numpy as np

    from genus.data import Parquet
    from genus.report.writing import with_whole_numbers

    model = open_model(said.run)
    needs(model, "log_prob")
    rows, table = rows_for(model, said)

    def scores(found: Any, order: np.ndarray) -> dict[str, Any]:
        return {
            "row": order,
            "nats": found.nats[order],
            "stderr": np.broadcast_to(found.stderr, (len(found),))[order],
            "bits_per_dim": found.bits_per_dim[order],
        }

    if isinstance(rows, Parquet) and said.lowest is None and not said.json:
        begin = 0
        for chunk in rows.chunks():
            found = model.log_prob(chunk)
            some = scores(found, np.arange(len(found)))
            some["row"] = some["row"] + begin
            print_scores(some, None, found, as_json=False, header=begin == 0)
            begin += len(chunk)
        return 0
    found = model.log_prob(rows)
    order = np.arange(len(found))
    if said.lowest is not None:
        order = np.argsort(found.nats, kind="stable")[: said.lowest]
    if table is not None:
        table = with_whole_numbers(table, model.space_).iloc[order]
    print_scores(scores(found, order), table, found, said.json)
    return 0


def complete(args: list[str]) -> int:
    """fill in the missing cells of a file"""
    examples = """\
genus complete run holes.csv --out filled.csv
genus complete run holes.csv --how mean --out filled.csv
genus complete run holes.npy --out filled.png --random_state 3"""
    parser = parser_of(
        "complete",
        "Fill in missing cells (empty or NaN) with draws from p(missing | observed), "
        "or with its mean or mode.",
        examples,
    )
    parser.add_argument("run", help="a saved model")
    parser.add_argument("file", help="rows with missing cells: a file")
    parser.add_argument(
        "--out",
        help="x.png (images), .csv, .json, .npy, .npz or .parquet; without it CSV on stdout",
    )
    parser.add_argument(
        "--how",
        choices=("draw", "mean", "mode"),
        default="draw",
        help="a draw, or expected numbers and likeliest words, or likeliest values",
    )
    parser.add_argument(
        "--random_state", type=int, default=0, help="seed: another gives other completions"
    )
    data_options(parser, space=False)
    said = parse(parser, args)
    from genus.report.writing import check_ending

    model = open_model(said.run)
    if said.out:
        check_ending(said.out, model.space_)
    needs(model, "complete")
    rows, whole = rows_for(model, said)
    filled = model.complete(rows, how=said.how, random_state=said.random_state)
    if whole is not None:  # columns that the model was not fitted on go through as they are
        for name in filled.columns:
            whole[name] = filled[name].to_numpy()
        filled = whole
    hand_over(filled, model, said)
    return 0


def compare(args: list[str]) -> int:
    """compare models on data, and write the report"""
    examples = """\
genus compare digits --report report.html
genus compare table.csv --models GaussianMixture VAE --budget 60s --report report.html
genus compare digits --models VAE --VAE.latent_dim 2 --VAE.trainer.epochs 20 --json"""
    about = (
        "Fit models on the same rows, judge them on the same others, and say which describes the "
        "data best. Baselines are always added."
    )
    parser = parser_of("compare", about, examples)
    parser.add_argument("data", nargs="?", default=SUPPRESS, help="a name, a file or a folder")
    parser.add_argument(
        "--models",
        nargs="+",
        help="families of `genus models`, or `all`; left out, those that suit the data",
    )
    parser.add_argument("--report", metavar="FILE", help="write the page to this .html file")
    parser.add_argument(
        "--budget",
        help="time for each fit: 60s, 2m, 1h; without it as long as each model wants. "
        "Judging comes on top: each model's line says how long (--samples 0 leaves most of it out)",
    )
    parser.add_argument(
        "--samples", type=int, default=1000, help="samples compared with real rows, at most"
    )
    parser.add_argument("--max_test", type=int, default=2000, help="test rows used, at most")
    parser.add_argument("--jobs", type=int, default=1, help="models fitted at once")
    parser.add_argument("--random_state", type=int, default=0, help="seed of everything")
    data_options(parser)
    classes: dict[str, Any] = {}
    if not {"-h", "--help"} & set(args):
        from genus.compare.entries import families

        classes = families()
        for cls in classes.values():
            model_arguments(parser, cls, prefix=f"{cls.__name__}.", shown=False)
    said = parse(parser, args)
    if said.get("data") is None:
        raise UsageError("data are missing: genus compare DATA --report report.html")
    from genus.compare.entries import resolve
    from genus.compare.run import compare as run

    made = parser.instantiate(said)
    names: list[str] = []
    for entry in said.models or []:
        names += [name for name in entry.split(",") if name]
    changed = {}  # the arguments that differ from their defaults, of each family
    for name, cls in classes.items():
        usual = parameters_of(cls)
        own = {k: v for k, v in made[name].items() if v != usual[k]} if usual else {}
        if own:
            changed[name] = own
    chosen: Any = names or None
    if changed:
        chosen = resolve(chosen)
        for _, model in chosen:
            model.set_params(**changed.get(type(model).__name__, {}))
        absent = set(changed) - {type(model).__name__ for _, model in chosen}
        if absent:
            raise UsageError(f"--{min(absent)}... is set, but {min(absent)} is not among --models")
    if said.report:
        if not said.report.lower().endswith((".html", ".htm")):
            raise UsageError(f"--report {said.report}: the page is HTML: name it .html")
        writable(said.report)
    found = run(
        chosen,
        load_rows(said),
        space=said.space,
        budget=said.budget,
        samples=said.samples,
        max_test=said.max_test,
        jobs=said.jobs,
        random_state=said.random_state,
        progress=lambda line: print(line, file=sys.stderr, flush=True),
    )
    print(json_text(found.to_json()) if said.json else found)
    if said.report:
        found.report(said.report)
        print(f"The report is in {said.report}", file=sys.stderr)
    for r in found.rows:
        if "interrupted" in (r.error or "") or getattr(r.model, "interrupted_", False):
            return 130
    return 1 if all(r.error for r in found.rows) else 0


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
