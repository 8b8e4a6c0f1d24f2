"""`lipcert reach`: a certified box around the outputs."""

from __future__ import annotations

from typing import Any

import click

from lipcert.cli.region import read_outputs, read_region, region_options


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("model")
@region_options
@click.option("--rows", metavar="A:B", help="Rows A to B - 1 of the file of --center, many at a time.")
@click.option("--input", "inputs", multiple=True, metavar="NAME", help="Vary only this input (repeatable).")
@click.option("--output", default="", metavar="NAME", help="Which output, where the model has several.")
@click.option("--device", help="With --rows: auto, cpu or cuda, where to search  [default: auto]")
@click.option("--exact", is_flag=True, help="Branch until boxes are within 1% of what is attained in them.")
@click.option("--timeout", type=click.FloatRange(min=0), metavar="S", help="Seconds to spend at most  [default: 60]")
@click.option("--template", "templates", multiple=True, metavar="FILE", help="A quadratic constraint for a custom op.")
@click.option("--unrolled", is_flag=True, help="Read Loops step by step, not as the fixed points that they tend to.")
@click.option(
    "--json",
    "json_path",
    metavar="FILE",
    help="Write the report with its certificate (- for stdout); with --rows, a folder.",
)
@click.option("--npz", metavar="FILE", help="Write the box as arrays: lower, upper, and what is attained.")
@click.option("--quiet", "-q", is_flag=True, help="Print the box only: a line with lower and upper for each output.")
@click.option("--debug", is_flag=True, help="Show tracebacks.")
def reach(model: str, json_path: str | None, npz: str | None, quiet: bool, debug: bool, **options: Any) -> int:
    """Certify where the outputs of MODEL can go over a region: a lower and an upper bound of each.

    A ball around --center is one in l-infinity, unless --ball says otherwise.
    """
    from lipcert import api
    from lipcert.errors import UsageError
    from lipcert.report.terminal import print_reach
    from lipcert.report.writing import check_writable, write_json, write_npz

    if npz is not None:
        check_writable(npz, "--npz")
        if npz == "-":
            raise UsageError("--npz: arrays are not written to stdout", hint="name a file")
    if options["rows"] is not None:
        from lipcert.cli.rows import reach_rows

        return reach_rows(model, options, json_path, npz, quiet)
    if options["device"] is not None:
        raise UsageError("--device is for many rows", hint="give --rows, or leave it out")
    if json_path is not None:
        check_writable(json_path)
    loaded = api.load(model, templates=options["templates"], unrolled=options["unrolled"])
    report = api.reach(
        loaded,
        region=read_region(loaded, options, "inf"),
        outputs=read_outputs(options),
        inputs=list(options["inputs"]),
        output=options["output"],
        timeout=options["timeout"],
        exact=options["exact"],
    )
    if json_path != "-":
        print_reach(report, json_path, quiet)
    if json_path is not None:
        write_json(report, json_path)
    if npz is not None:
        write_npz(report, npz)
    return 4 if report.status == "inconclusive" else 0
