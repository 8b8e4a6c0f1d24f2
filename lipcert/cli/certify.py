"""`lipcert certify`: robust accuracy on data, proven from below and attacked from above."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from lipcert.report.robustness import RobustnessReport


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("model")
@click.option("--data", required=True, metavar="FILE", help="Samples: npy or npz (samples first), or csv (a row each).")
@click.option("--labels", metavar="FILE", help="Their classes, from 0: npy, npz or csv.")
@click.option("--labels-column", type=click.IntRange(min=0), metavar="I", help="Column of the csv that holds them.")
@click.option("--rows", metavar="A:B", help="Only rows A to B - 1 of the files.")
@click.option("--skip-columns", type=click.IntRange(min=0), default=0, help="Leading columns of the csv to skip.")
@click.option("--scale", type=float, default=1.0, help="Divide the data by this, e.g. 255.")
@click.option("--layout", type=click.Choice(["chw", "hwc"]), default="chw", help="How the file stores an image.")
@click.option("--norm", default="2", show_default=True, metavar="P", help="Of perturbations: 1, 2 or inf.")
@click.option("--eps", required=True, metavar="R,..", help="Radii of the balls, in the model's input units.")
@click.option("--output", default="", metavar="NAME", help="Which output, where the model has several.")
@click.option("--local", is_flag=True, help="Prove samples ball by ball where constants of all R^n do not do.")
@click.option(
    "--timeout", type=click.FloatRange(min=0), metavar="S", help="Seconds for constants of margins  [default: 60]"
)
@click.option(
    "--local-timeout", type=click.FloatRange(min=0), metavar="S", help="Seconds for each sample's balls  [default: 10]"
)
@click.option("--attack-steps", type=click.IntRange(min=1), default=40, show_default=True, help="Of the attack (PGD).")
@click.option("--restarts", type=click.IntRange(min=1), default=10, show_default=True, help="Of the attack.")
@click.option("--device", default="auto", show_default=True, help="auto, cpu or cuda: where to search.")
@click.option("--unrolled", is_flag=True, help="Read Loops step by step, not as the fixed points that they tend to.")
@click.option("--checkpoint", metavar="FILE", help="Keep what is proven in FILE; go on from there if it exists.")
@click.option(
    "--min-certified",
    "limits",
    multiple=True,
    metavar="R:SHARE",
    help="Exit with status 1 if less than this share is certified at radius R (repeatable), e.g. 0.25:0.9.",
)
@click.option("--json", "json_path", metavar="FILE", help="Write the report with its certificate (- for stdout).")
@click.option("--table", metavar="FILE", help="Write a line for each sample, .csv or .parquet.")
@click.option("--quiet", "-q", is_flag=True, help="Print a line for each radius only: it, certified, under attack.")
@click.option("--debug", is_flag=True, help="Show tracebacks.")
def certify(
    model: str,
    eps: str,
    rows: str | None,
    limits: tuple[str, ...],
    json_path: str | None,
    table: str | None,
    unrolled: bool,
    quiet: bool,
    debug: bool,
    **options: Any,
) -> int:
    """Certify on how much of the data MODEL keeps the right class however inputs are perturbed by up to a radius.

    Beside it stands the accuracy under an attack: the truth lies between the two. Exit status 4 if interrupted.
    """
    from lipcert import api
    from lipcert.cli.progress import progress_bar
    from lipcert.problem import parse_norm
    from lipcert.problem.reading import parse_rows
    from lipcert.report.robustness_summary import print_robustness
    from lipcert.report.table import check_table, write_table
    from lipcert.report.writing import check_writable, write_json

    options["norm"] = parse_norm(options["norm"], "--norm")
    radii = _radii(eps)
    least = dict(_limit(text, radii) for text in limits)
    if json_path is not None:
        check_writable(json_path)
    if table is not None:
        check_table(table)
    chosen = None if rows is None else parse_rows(rows)
    with progress_bar("import", enabled=not quiet) as say:
        report = api.certify(
            api.load(model, unrolled=unrolled),
            eps=radii,
            rows=None if chosen is None else (chosen.start, chosen.stop),
            on_step=lambda what, outcome: say(what, len(outcome.samples), outcome.asked),
            **options,
        )
    if json_path is not None:
        write_json(report, json_path)
    if table is not None:
        write_table(report, table)
    if json_path != "-":
        print_robustness(report, least, json_path, quiet)
    return exit_status(report, least)


def exit_status(report: RobustnessReport, least: dict[float, float]) -> int:
    """0 finished and within the limits, 1 below one, 4 interrupted (which never passes)."""
    if report.status != "certified":
        return 4
    return 1 if any(report.certified_accuracy[radius] < share for radius, share in least.items()) else 0


def _radii(text: str) -> list[float]:
    from lipcert.errors import UsageError

    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise UsageError(f"--eps: {text!r} is not a list of numbers", hint="for example 0.1,0.25") from None


def _limit(text: str, radii: list[float]) -> tuple[float, float]:
    from lipcert.errors import UsageError

    try:
        radius, share = (float(part) for part in text.split(":"))
    except ValueError:
        radius, share = math.nan, math.nan
    if not 0 <= share <= 1:
        raise UsageError(f"--min-certified: {text!r} is not RADIUS:SHARE", hint="for example 0.25:0.9")
    if radius not in radii:
        raise UsageError(f"--min-certified: {radius:g} is none of --eps", hint="name one of these radii")
    return radius, share
