"""What a person reads of a gate run."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table
from rich.text import Text

from lipcert.gate.verdicts import DIGITS, GateRun, Result, Verdict, sentence, summary
from lipcert.report.terminal import plain, show, shown

STYLES = {
    Verdict.PASS: "bold green",
    Verdict.FAIL: "bold red",
    Verdict.REGRESSED: "bold red",
    Verdict.INCONCLUSIVE: "bold yellow",
    Verdict.ERROR: "bold red",
}

COLUMNS = ("verdict", "check", "model", "bound", "limit", "attained", "method", "seconds")


def print_run(run: GateRun, quiet: bool) -> None:
    """A line for each question, the reasons below, and the summary; with quiet, the reasons alone."""
    if not quiet:
        table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim", pad_edge=False)
        for name in COLUMNS:
            table.add_column(name, justify="right" if name in ("bound", "limit", "attained", "seconds") else "left")
        for result in run.results:
            table.add_row(Text(result.verdict.value, style=STYLES[result.verdict]), *map(plain, cells(result)))
        show(table)
    for result in run.results:
        if result.message:
            Console(highlight=False, soft_wrap=True).print(plain(sentence(result)))
    if not quiet:
        print(summary(run))


def cells(result: Result) -> tuple[str, ...]:
    """Those of the columns after the first; bounds are rounded to where they stay true."""
    item, proof = result.item, result.proof
    return (
        item.check.name,
        item.shown if item.row is None else f"{item.shown} row {item.row}",
        "none" if proof.upper is None else shown(proof.upper, DIGITS, up=True),
        "" if result.limit is None else f"{result.limit:.{DIGITS}g}",
        "" if proof.upper is None else shown(proof.lower, DIGITS, up=False),
        proof.method or "",
        f"{proof.seconds:.2f}{' kept' if proof.cached else ''}",
    )


def numbers(result: Result) -> dict[str, str]:
    """The numbers of a verdict in full, by name."""
    proof = result.proof
    found = {
        "bound": proof.upper,
        "attained": None if proof.upper is None else proof.lower,
        "limit": result.limit,
        "baseline": result.baseline,
    }
    return {name: repr(value) for name, value in found.items() if value is not None}
