"""The verdicts as a page for people: one HTML file that opens offline."""

from __future__ import annotations

import shlex
from pathlib import Path

from lipcert.gate.terminal import COLUMNS, cells
from lipcert.gate.verdicts import CONDITIONAL, DIGITS, GateRun, Result, counts, sentence, summary
from lipcert.report.chart import MAX_BARS, Bar, Chart
from lipcert.report.html import render_sheets
from lipcert.report.html.content import Section, Sheet, Table, Verdict
from lipcert.report.wording import shown

MAX_ROWS = 1_000
"""Of a table; the JSON has the rest."""

SAYS = (
    "Bounds and attained values are proven, conditional ones under their condition: every certificate was checked in "
    "this run, kept ones too. A bound above its limit does not prove that the network exceeds it; an attained value "
    "above it does.",
    "A bound is about the real-valued function that the file denotes in exact arithmetic. Float32 rounding of a "
    "deployed program is not covered, nor are inputs outside of a region.",
    "Inconclusive means that nothing was proven. It passes only where the policy says so.",
)


def to_html(run: GateRun) -> str:
    """What does not pass comes first."""
    ordered = sorted(run.results, key=lambda result: not result.failed)
    policy = run.relative(run.policy)
    sheet = Sheet(
        kind="Gate",
        model=policy,
        path="",
        verdict=_verdict(run),
        checked="every certificate was checked in this run",
        facts=(("Policy", policy),),
        sections=(
            *_reasons(ordered),
            _questions(ordered),
            _says(run),
            _again(run, ordered),
        ),
    )
    return render_sheets([sheet])


def _verdict(run: GateRun) -> Verdict:
    status, tone = {0: ("passed", "good"), 4: ("inconclusive", "fair")}.get(run.exit_status, ("failed", "bad"))
    return Verdict(status, tone, counts(run), f"{summary(run)}; exit status {run.exit_status} without --exit-zero")


def _says(run: GateRun) -> Section:
    assumed = [result.item.id for result in run.results if result.proof.status == "conditional"]
    conditional = f"{', '.join(assumed[:MAX_ROWS])}: {CONDITIONAL}. Nothing here proves that they are."
    return Section("What this says, and what it does not", bullets=(*SAYS, *((conditional,) if assumed else ())))


def _reasons(ordered: list[Result]) -> tuple[Section, ...]:
    said = [result for result in ordered if result.message]
    if not said:
        return ()
    left = (f"{len(said) - MAX_ROWS} more are in the JSON.",) if len(said) > MAX_ROWS else ()
    return (Section("Reasons", text=left, bullets=tuple(sentence(result) for result in said[:MAX_ROWS])),)


def _questions(ordered: list[Result]) -> Section:
    rows = tuple((result.verdict.value, *cells(result)) for result in ordered[:MAX_ROWS])
    numbers = tuple(i for i, name in enumerate(COLUMNS) if name in ("bound", "limit", "attained", "seconds"))
    bars = tuple(bar for result in ordered if (bar := _bar(result)) is not None)[:MAX_BARS]
    chart = Chart("Parts of their limits that bounds take: 1 is the limit", bars, "up to the bound", "attained")
    table = Table("Every question", COLUMNS, rows, numbers, len(ordered) - len(rows))
    return Section("Questions", chart=chart if bars else None, table=table)


def _bar(result: Result) -> Bar | None:
    upper, limit = result.proof.upper, result.limit
    if upper is None or not limit:
        return None
    label = f"{result.verdict}: {result.item.id}"
    value = f"{shown(upper, DIGITS, up=True)} of {limit:.{DIGITS}g}"
    return Bar(label, value, 0.0, upper / limit, (0.0, result.proof.lower / limit))


def _again(run: GateRun, ordered: list[Result]) -> Section:
    kept = [(result, result.proof.certificate) for result in ordered if result.proof.certificate is not None]
    rows = tuple(
        (result.item.id, f"lipcert check {_quoted(run, Path(path))} {_quoted(run, result.item.model)}")
        for result, path in kept[:MAX_ROWS]
    )
    return Section(
        "Check it again",
        text=("From the root of the repository, on a machine that has the certificates.",),
        command=f"lipcert gate --offline-check --config {_quoted(run, run.policy)}",
        more=Table("One by one", ("question", "command"), rows, left_out=len(kept) - len(rows)),
    )


def _quoted(run: GateRun, path: Path) -> str:
    return shlex.quote(run.relative(path))
