"""The options that say where: a ball, a box or a VNN-LIB file, and which outputs. Shared by commands."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from lipcert.frontend import Model
    from lipcert.problem import OutputChoice, Region
    from lipcert.problem.reading import RegionText

F = TypeVar("F", bound=Callable[..., Any])

_OPTIONS = (
    click.option("--center", metavar="X", help="Ball around X: an npy, npz or csv file, or numbers (0: all)."),
    click.option("--eps", type=float, metavar="R", help="Radius of the ball, in the model's input units."),
    click.option(
        "--ball", metavar="P", help="Norm of the ball: 1, 2 or inf (default: bound: the norm of inputs; reach: inf)."
    ),
    click.option("--row", type=int, help="Row of the file that --center names, from 0."),
    click.option("--skip-columns", type=click.IntRange(min=0), default=0, help="Leading numbers of the row to skip."),
    click.option("--scale", type=float, default=1.0, help="Divide the center by this, e.g. 255."),
    click.option("--layout", type=click.Choice(["chw", "hwc"]), default="chw", help="How the file stores an image."),
    click.option("--box", metavar="LO,HI", help="A box: two numbers for all inputs, or two files."),
    click.option("--spec", metavar="FILE", help="The input box of a VNN-LIB file."),
    click.option("--outputs", metavar="I,J,..", help="Only these outputs, from 0."),
    click.option("--margin", metavar="I,J", help="Output I minus output J."),
)


def region_options(command: F) -> F:
    """Add the options to a command."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def read_region(model: Model, options: dict[str, Any], norm: str) -> Region:
    """What the options say; `norm` is that of a ball for which --ball does not name one."""
    return _text(options).read(model.input_shape(options["inputs"]), norm)


def read_rows(options: dict[str, Any]) -> range:
    """What --rows says."""
    from lipcert.errors import UsageError
    from lipcert.problem.reading import parse_rows

    rows = parse_rows(options["rows"])
    if options["row"] is not None:
        raise UsageError("--row and --rows both choose rows", hint="use one of them")
    if options["center"] is None:
        raise UsageError("--rows are those of the file of --center, which is not given")
    return rows


def read_regions(model: Model, options: dict[str, Any], norm: str, rows: range) -> Sequence[Region]:
    """As read_region, around each of these rows of the file of --center."""
    return _text(options).read_rows(model.input_shape(options["inputs"]), norm, rows)


def folder_for(name: str, rows: range) -> Path:
    """Where the reports of rows go; it is made with the first of them."""
    from lipcert.errors import UsageError
    from lipcert.report.writing import check_writable

    path = Path(name)
    if name == "-" or (path.exists() and not path.is_dir()):
        raise UsageError(f"--json: {name} is no folder, which it is with --rows", hint="name a folder")
    for row in rows if path.exists() else ():
        check_writable(str(path / f"row{row}.json"))
    if not path.exists():
        check_writable(name)
    return path


def _text(options: dict[str, Any]) -> RegionText:
    from dataclasses import fields

    from lipcert.problem.reading import RegionText

    return RegionText(**{part.name: options[part.name] for part in fields(RegionText)})


def read_outputs(options: dict[str, Any]) -> OutputChoice | None:
    from lipcert.errors import UsageError
    from lipcert.problem import parse_margin, parse_outputs

    if options["outputs"] is not None and options["margin"] is not None:
        raise UsageError("--outputs and --margin both choose outputs", hint="use one of them")
    if options["outputs"] is not None:
        return parse_outputs(options["outputs"])
    return None if options["margin"] is None else parse_margin(options["margin"])
