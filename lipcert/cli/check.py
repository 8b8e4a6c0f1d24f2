"""`lipcert check`: prove someone else's report again."""

from __future__ import annotations

import click


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("report")
@click.argument("model")
@click.option("--strict", is_flag=True, help="Prove in ball arithmetic (Arb), all but linear bounds.")
@click.option("--data", metavar="FILE", help="Of a report of certify: its data  [default: as the report names them]")
@click.option("--labels", metavar="FILE", help="The same for its labels.")
@click.option("--quiet", "-q", is_flag=True, help="Print nothing; the exit status says it.")
@click.option("--debug", is_flag=True, help="Show tracebacks.")
def check(report: str, model: str, strict: bool, data: str | None, labels: str | None, quiet: bool, debug: bool) -> int:
    """Prove the bounds of REPORT (JSON) for MODEL (ONNX) again, with the trusted kernel alone.

    Exit status 0 if they hold, 1 if the certificate is refused.
    """
    from lipcert import api
    from lipcert.report.check import RobustnessCheck
    from lipcert.report.robustness import RobustnessReport
    from lipcert.report.robustness_summary import print_robustness_check
    from lipcert.report.terminal import print_check

    stored = api.read_report(report)
    result = api.check(stored, model, strict=strict, data=data, labels=labels)
    if quiet:
        return 0
    if isinstance(stored, RobustnessReport) or isinstance(result, RobustnessCheck):
        assert isinstance(stored, RobustnessReport)
        assert isinstance(result, RobustnessCheck)
        print_robustness_check(stored, result, report, model, data)
    else:
        print_check(stored, result, report, model)
    return 0
