"""`lipcert check`: prove someone else's report again."""

from __future__ import annotations

import click


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("report")
@click.argument("model")
@click.option("--strict", is_flag=True, help="Prove in ball arithmetic (Arb), all but linear bounds.")
@click.option("--quiet", "-q", is_flag=True, help="Print nothing; the exit status says it.")
@click.option("--debug", is_flag=True, help="Show tracebacks.")
def check(report: str, model: str, strict: bool, quiet: bool, debug: bool) -> int:
    """Prove the bounds of REPORT (JSON) for MODEL (ONNX) again, with the trusted kernel alone.

    Exit status 0 if they hold, 1 if the certificate is refused.
    """
    from lipcert import api
    from lipcert.report.terminal import print_check

    stored = api.read_report(report)
    result = api.check(stored, model, strict=strict)
    if not quiet:
        print_check(stored, result, report, model)
    return 0
