"""`lipcert report`: a stored report for people, on the terminal or as a page."""

from __future__ import annotations

import click


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("reports", nargs=-1, required=True, metavar="REPORT...")
@click.option("--html", metavar="FILE", help="Write a page that opens offline (- for stdout).")
@click.option("--model", metavar="MODEL", help="Prove the reports again for this ONNX file, and norms of its layers.")
@click.option("--timeout", type=click.FloatRange(min=0), metavar="S", help="Seconds for these norms  [default: 60]")
@click.option("--debug", is_flag=True, help="Show tracebacks.")
def report(reports: tuple[str, ...], html: str | None, model: str | None, timeout: float | None, debug: bool) -> int:
    """Show each REPORT (JSON) again. What it says is repeated, and not proven again without --model.

    The exit status is that of the runs, the worst of them: 0 certified, 1 refuted, 4 inconclusive; or 1 where --model
    refuses a certificate.
    """
    from lipcert import api
    from lipcert.cli.progress import progress
    from lipcert.errors import UsageError
    from lipcert.report.consistency import check_consistent
    from lipcert.report.reading import read_stored
    from lipcert.report.terminal import print_report
    from lipcert.report.writing import check_writable, write_text

    if html is None and (model is not None or timeout is not None):
        raise UsageError("--model and --timeout are for --html", hint="to prove a report again: lipcert check")
    if timeout is not None and model is None:
        raise UsageError("--timeout is for the norms of --model, which is not given")
    if html is not None and html != "-" and html in (*reports, model):
        raise UsageError(f"--html would write over {html}", hint="name another file")
    if "-" in reports and len(reports) > 1:
        raise UsageError("several reports cannot come from stdin", hint="name their files")
    stored = [read_stored(path) for path in reports]
    if html is None:
        for each in stored:
            check_consistent(each.report, each.path)
        for each in stored:
            print_report(each.report, each.path)
    else:
        check_writable(html, "--html")
        with progress("check", enabled=model is not None) as say:
            page = api.render_html(stored, model, timeout=timeout, on_step=lambda what: say(what, None))
        write_text(page, html, "--html")
        if html != "-":
            click.echo(
                f"page  {html}   "
                + ("(not proven again: --model does that)" if model is None else f"(proven again for {model})")
            )
    return max(STATUSES.get(each.report.status, 4) for each in stored)


STATUSES = {"certified": 0, "conditional": 0, "refuted": 1}
"""Of the run that a report is from; of others, 4."""
