"""`lipcert gate`: every network of a policy against its limits, for CI."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from lipcert.gate.verdicts import GateRun


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--config", metavar="FILE", help="The policy  [default: lipcert.toml, or pyproject.toml]")
@click.option("--select", multiple=True, metavar="NAME", help="Only this check or model, or a pattern (repeatable).")
@click.option("--update-baseline", is_flag=True, help="Write what is proven to the baseline, and compare with that.")
@click.option("--offline-check", "offline", is_flag=True, help="Only check the certificates that are kept.")
@click.option("--cache", metavar="FOLDER", help="Where certificates are kept  [default: .lipcert-cache]")
@click.option("--jobs", "-j", type=click.IntRange(1, 256), default=1, show_default=True, help="Processes to use.")
@click.option("--exit-zero", is_flag=True, help="Exit with status 0 whatever the verdicts are.")
@click.option("--json", "json_path", metavar="FILE", help="Write the verdicts as JSON (- for stdout).")
@click.option("--junit", metavar="FILE", help="Write them as JUnit XML.")
@click.option("--sarif", metavar="FILE", help="Write what does not pass as SARIF 2.1.0.")
@click.option("--html", metavar="FILE", help="Write a page about them that opens offline.")
@click.option("--quiet", "-q", is_flag=True, help="Print what does not pass only.")
@click.option("--debug", is_flag=True, help="Show tracebacks.")
def gate(
    config: str | None,
    select: tuple[str, ...],
    update_baseline: bool,
    offline: bool,
    cache: str | None,
    jobs: int,
    exit_zero: bool,
    json_path: str | None,
    junit: str | None,
    sarif: str | None,
    html: str | None,
    quiet: bool,
    debug: bool,
) -> int:
    """Hold every network of a policy to its limits.

    The policy is lipcert.toml, or [tool.lipcert] of pyproject.toml (docs/gate.md; `lipcert init` writes a first one).
    Certificates are kept: where neither the model nor the question has changed, they are checked, not found again.
    """
    from lipcert.cli.progress import progress
    from lipcert.errors import UsageError
    from lipcert.gate.policy import find_policy, read_policy
    from lipcert.gate.run import run_gate
    from lipcert.report.writing import check_writable

    outputs = {"--json": json_path, "--junit": junit, "--sarif": sarif, "--html": html}
    for option, path in outputs.items():
        if path is not None:
            check_writable(path, option)
    named = [path for path in outputs.values() if path is not None]
    if len(set(named)) < len(named):
        raise UsageError("--json, --junit, --sarif and --html write the same file", hint="name different ones")
    if update_baseline and offline:
        raise UsageError("--update-baseline writes what is proven, --offline-check only checks", hint="use one of them")
    policy = read_policy(find_policy(Path()) if config is None else Path(config))
    with progress("gate", enabled=not quiet) as say:
        run = run_gate(
            policy,
            select=select,
            cache=None if cache is None else Path(cache),
            jobs=jobs,
            offline=offline,
            update_baseline=update_baseline,
            on_done=lambda item, proof: say(f"gate: {item.id} is done", None),
        )
    _report(run, outputs, quiet)
    return 0 if exit_zero else run.exit_status


def _report(run: GateRun, outputs: dict[str, str | None], quiet: bool) -> None:
    """To the terminal, to files, and to GitHub where it runs this."""
    from lipcert.gate.document import to_json
    from lipcert.gate.github import report_to_github
    from lipcert.gate.junit import to_junit
    from lipcert.gate.page import to_html
    from lipcert.gate.sarif import to_sarif
    from lipcert.gate.terminal import print_run
    from lipcert.report.writing import write_text

    for (option, path), write in zip(outputs.items(), (to_json, to_junit, to_sarif, to_html), strict=True):
        if path is not None:
            write_text(write(run), path, option)
    to_stdout = "-" in outputs.values()
    if not to_stdout:
        print_run(run, quiet)
    report_to_github(run, annotate=not to_stdout)
