"""Command lines: options made of a model's constructor, and errors of one line."""

from __future__ import annotations

import difflib
import inspect
import re
import typing
from argparse import SUPPRESS, RawDescriptionHelpFormatter
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from genus.model import Model


class UsageError(Exception):
    """The command line says something that cannot be meant."""


def parser_of(name: str, about: str, examples: str) -> Any:
    """A command's parser: what it is about, and examples that keep their lines."""
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
    parser.add_argument(
        "--config", action="config", metavar="FILE", help="options from a YAML file"
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    return parser


def data_options(parser: Any, space: bool = True) -> None:
    """Add the options that say how DATA is to be read."""
    how = typing.Literal["sample", "threshold", "dynamic"] | None
    parser.add_argument(
        "--binarize", type=how, default=None, help="make bits of grey pixels, see genus.data.load"
    )
    if space:
        parser.add_argument(
            "--space",
            help="a kind, where the inferred one is not wanted: "
            "binary, ordinal, categorical, continuous",
        )


def parse(parser: Any, args: list[str]) -> Any:
    """The options of a command line; errors are told in one line, with exit code 2."""
    from jsonargparse import ArgumentError

    try:
        return parser.parse_args(_joined([_with_underscores(a) for a in args]))
    except ArgumentError as e:
        raise UsageError(
            f"{parser.prog.removeprefix('genus ')}: {one_line(str(e))} "
            f"(genus {parser.prog.split()[1]} --help)"
        ) from None


def _with_underscores(option: str) -> str:
    """An option's name as it is known, --n_components, where it was written with dashes."""
    if not option.startswith("--"):
        return option
    name, equals, value = option[2:].partition("=")
    return f"--{name.replace('-', '_')}{equals}{value}"


def _joined(args: list[str]) -> list[str]:
    """Options with the negative numbers after them in one word: -1e-3 is no option."""
    out: list[str] = []
    for a in args:
        takes = out and out[-1].startswith("--") and "=" not in out[-1]
        if takes and re.match(r"-\.?\d", a):
            out[-1] += f"={a}"
        else:
            out.append(a)
    return out


def one_line(text: str) -> str:
    """jsonargparse's tree of errors in a line: the option, what was given, what was expected."""
    key = re.findall(r'Parser key "([^"]+)"', text)
    given = re.findall(r"(?:Given|Got) value: (.*)", text)
    wanted = list(dict.fromkeys(re.findall(r"Expected an? <class '(?:\w+\.)*(\w+)'>", text)))
    if key and given and wanted:
        options = " or ".join({"NoneType": "null"}.get(w, w) for w in wanted)
        return f"--{'.'.join(dict.fromkeys(key))}={given[0]}: {options} is needed"
    return " ".join(text.split())[:300]


def model_of(args: list[str]) -> type[Model] | None:
    """The class that a `fit` command line, or its --config file, names."""
    from genus.compare.entries import families

    known = families()
    for a in args:
        if a in known:
            return known[a]
        if a in families(True):
            raise UsageError(
                f"fit: {a} is a model of p(y | X), for use from Python: genus.{a}().fit(X, y)"
            )
    if "--config" in args[:-1]:
        try:
            text = Path(args[args.index("--config") + 1]).read_text(encoding="utf-8")
        except OSError as e:
            raise UsageError(f"fit: --config: {e}") from None
        named = re.search(r'^\s*"?model"?\s*:\s*["\']?(\w+)', text, flags=re.MULTILINE)
        if named and named[1] in known:
            return known[named[1]]
    if args and not args[0].startswith("-"):
        small = {name.lower(): name for name in known}
        near = difflib.get_close_matches(args[0].lower(), small, 1, 0.5)
        hint = f"did you mean {small[near[0]]}?" if near else f"choose from {', '.join(known)}"
        raise UsageError(f"fit: there is no model {args[0]!r}: {hint}")
    return None


def parameters_of(cls: type[Model]) -> dict[str, Any]:
    """The arguments of a model and their defaults, settings objects in place of None."""
    from genus.learn.trainer import Trainer

    params: dict[str, Any] = cls().get_params(deep=False)
    if "trainer" in params:
        params["trainer"] = params["trainer"] or Trainer()
    return params


def model_arguments(parser: Any, cls: type[Model], prefix: str = "", shown: bool = True) -> None:
    """An option for each argument of a model: dotted for settings, such as --trainer.epochs."""
    from jsonargparse import set_parsing_settings

    from genus.learn.trainer import Trainer
    from genus.networks.blueprints import MLP, Conv, ResNet
    from genus.networks.dit import DiT
    from genus.networks.unet import UNet

    set_parsing_settings(subclasses_disabled=[Trainer])  # so that YAML says trainer: {epochs: 5}
    hints = typing.get_type_hints(cls.__init__)
    about = _argument_docs(cls)
    for name, default in parameters_of(cls).items():
        kind = hints.get(name, Any)
        if name == "trainer":
            kind = Trainer
        elif "Callable" in str(kind):
            kind = MLP | Conv | ResNet | UNet | DiT | None
        text = about.get(name, name) if shown else SUPPRESS
        parser.add_argument(f"--{prefix}{name}", type=kind, default=default, help=text)


def _argument_docs(cls: type) -> dict[str, str]:
    """What the docstrings of a class and its bases say of each argument."""
    found: dict[str, str] = {}
    for base in reversed(cls.__mro__):
        for name, text in _PARAMETER.findall(inspect.cleandoc(base.__doc__ or "")):
            found[name] = " ".join(text.split()).replace("``", "").replace("%", "%%")
    return found


# "name : type" on a line of its own, and the indented lines below it
_PARAMETER = re.compile(r"^(\w+) : .+\n((?:    .+\n?)+)", flags=re.MULTILINE)
