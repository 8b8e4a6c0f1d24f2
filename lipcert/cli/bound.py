"""`lipcert bound`: a certified Lipschitz constant, a witness beside it, and the report."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from lipcert.cli.asking import asked_for, bound_options
from lipcert.cli.region import read_region

if TYPE_CHECKING:
    from lipcert.report import Report


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("model")
@bound_options
@click.option("--rows", metavar="A:B", help="Rows A to B - 1 of the file of --center, one after another.")
@click.option("--checkpoint", metavar="FILE", help="Keep what is proven in FILE; go on from there if it exists.")
@click.option("--max", "limit", type=float, metavar="L", help="Exit with status 1 if the bound is above L.")
@click.option(
    "--json",
    "json_path",
    metavar="FILE",
    help="Write the report with its certificate (- for stdout); with --rows, a folder.",
)
@click.option("--certificate", metavar="FILE", help="The same, written only where something is certified.")
@click.option("--quiet", "-q", is_flag=True, help="Print the certified number only.")
@click.option("--debug", is_flag=True, help="Show tracebacks.")
def bound(
    model: str,
    json_path: str | None,
    certificate: str | None,
    limit: float | None,
    quiet: bool,
    debug: bool,
    **options: Any,
) -> int:
    """Certify how much the outputs of MODEL (an ONNX file) can change per change of its inputs."""
    import math

    from lipcert import api
    from lipcert.cli.progress import progress
    from lipcert.errors import UsageError
    from lipcert.report.terminal import print_bound
    from lipcert.report.writing import check_writable, write_json

    if limit is not None and not (math.isfinite(limit) and limit >= 0):
        raise UsageError(f"--max: {limit} is not a limit", hint="use a finite number >= 0")
    asked = asked_for(options)
    if options["rows"] is not None:
        from lipcert.cli.rows import bound_rows

        if certificate is not None:
            raise UsageError("--certificate names one file", hint="with --rows, use --json FOLDER")
        return bound_rows(model, options, asked, json_path, limit, quiet)
    if json_path is not None:
        check_writable(json_path)
    if certificate is not None:
        check_writable(certificate, "--certificate")
        if certificate == json_path:
            raise UsageError(f"--json and --certificate both write {json_path}", hint="use one of them")
    to_stdout = "-" in (json_path, certificate)
    with progress("import", enabled=not quiet) as say:
        loaded = api.load(model, templates=options["templates"], unrolled=options["unrolled"])
        report = api.bound(
            loaded,
            region=read_region(loaded, options, options["norm_in"] or options["norm"]),
            checkpoint=options["checkpoint"],
            on_step=lambda what, outcome: say(what, outcome.upper),
            **asked,
        )
    written = json_path or (certificate if report.upper is not None else None)
    if not to_stdout:
        print_bound(report, limit, written, quiet)
    if json_path is not None:
        write_json(report, json_path)
    if certificate is not None and report.upper is not None:
        write_json(report, certificate, "--certificate")
    return exit_status(report, limit)


def exit_status(report: Report, limit: float | None) -> int:
    """0 certified within the limit, 1 above it, 4 inconclusive (which never passes)."""
    if report.upper is None:
        return 4
    return 1 if limit is not None and report.upper > limit else 0
