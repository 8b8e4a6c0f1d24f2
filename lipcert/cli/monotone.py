"""`lipcert monotone`: do the outputs increase with chosen inputs over a region?"""

from __future__ import annotations

from typing import Any

import click

from lipcert.cli.region import read_outputs, read_region, region_options


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("model")
@click.option("--inputs", "chosen", required=True, metavar="I,J,..", help="Entries of the input, from 0.")
@click.option("--increasing/--decreasing", default=True, show_default=True, help="Which sign derivatives shall have.")
@click.option("--tolerance", type=float, default=0.0, show_default=True, help="Allow slopes this wrong.")
@region_options
@click.option("--output", default="", metavar="NAME", help="Which output, where the model has several.")
@click.option("--timeout", type=click.FloatRange(min=0), metavar="S", help="Seconds to spend at most  [default: 60]")
@click.option("--json", "json_path", metavar="FILE", help="Write the report with its certificate (- for stdout).")
@click.option("--quiet", "-q", is_flag=True, help="Print the certified share only.")
@click.option("--debug", is_flag=True, help="Show tracebacks.")
def monotone(model: str, chosen: str, json_path: str | None, quiet: bool, debug: bool, **options: Any) -> int:
    """Certify that the outputs of MODEL increase (or decrease) with chosen inputs over a region.

    Says on which share of the region that is proven, and shows a point where it fails. Exit status 1 if there is one.
    """
    from lipcert import api
    from lipcert.problem.outputs import integers
    from lipcert.report.terminal import print_monotone
    from lipcert.report.writing import check_writable, write_json

    if json_path is not None:
        check_writable(json_path)
    entries = integers(chosen, "--inputs")
    loaded = api.load(model)
    report = api.monotone(
        loaded,
        entries,
        increasing=options["increasing"],
        tolerance=options["tolerance"],
        region=read_region(loaded, {**options, "inputs": ()}, "inf"),
        outputs=read_outputs(options),
        output=options["output"],
        timeout=options["timeout"],
    )
    if json_path != "-":
        print_monotone(report, json_path, quiet)
    if json_path is not None:
        write_json(report, json_path)
    return {"certified": 0, "refuted": 1}.get(report.status, 4)
