"""`lipcert compare`: the same question about two networks."""

from __future__ import annotations

from typing import Any

import click

from lipcert.cli.asking import asked_for, bound_options
from lipcert.cli.region import read_region


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("before")
@click.argument("after")
@bound_options
@click.option("--norms", is_flag=True, help="Norms of the layers, too.")
@click.option("--max-increase", "limit", type=float, metavar="X", help="Exit with status 1 if above (1 + X) x before.")
@click.option("--json", "json_path", metavar="FILE", help="Write both reports and what they prove (- for stdout).")
@click.option("--html", metavar="FILE", help="Write a page about both that opens offline.")
@click.option("--quiet", "-q", is_flag=True, help="Print the two certified numbers only.")
@click.option("--debug", is_flag=True, help="Show tracebacks.")
def compare(
    before: str,
    after: str,
    norms: bool,
    limit: float | None,
    json_path: str | None,
    html: str | None,
    quiet: bool,
    debug: bool,
    **options: Any,
) -> int:
    """Bound the networks BEFORE and AFTER (ONNX files), and say whether it is proven that the constant changed.

    --max-increase compares bounds: of a loose bound before, it allows more. --timeout is for each network.
    """
    import math

    from lipcert import api
    from lipcert.cli.progress import progress
    from lipcert.errors import UsageError
    from lipcert.report.side_by_side import print_comparison
    from lipcert.report.writing import check_writable, write_text

    if limit is not None and not (math.isfinite(limit) and limit >= 0):
        raise UsageError(f"--max-increase: {limit} is not a share", hint="use a finite number >= 0, as 0.05 for 5 %")
    asked = asked_for(options)
    if json_path is not None:
        check_writable(json_path)
    if html is not None:
        check_writable(html, "--html")
        if html in (json_path, before, after):
            raise UsageError(f"--html would write over {html}", hint="name another file")
    with progress("import", enabled=not quiet) as say:
        first, second = (
            api.load(path, templates=options["templates"], unrolled=options["unrolled"]) for path in (before, after)
        )
        compared = api.compare(
            first,
            second,
            norms=norms,
            region=read_region(first, options, options["norm_in"] or options["norm"]),
            on_step=lambda what, outcome: say(what, outcome.upper),
            **asked,
        )
    bounds = compared.before.upper, compared.after.upper
    if "-" not in (json_path, html):
        if quiet:
            print(*("inconclusive" if value is None else repr(value) for value in bounds))
        else:
            print_comparison(compared, limit, json_path, html)
    if json_path is not None:
        write_text(compared.to_json() + "\n", json_path, "--json")
    if html is not None:
        from lipcert.report.html import render_sheets
        from lipcert.report.html.comparison import comparison_sheet

        write_text(render_sheets([comparison_sheet(compared, limit)]), html, "--html")
    if None in bounds:
        return 4
    return 1 if limit is not None and compared.exceeds(limit) else 0
