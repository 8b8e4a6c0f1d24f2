"""GitHub Actions: a summary of the job, and annotations at the checks that do not pass."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from lipcert.errors import UsageError
from lipcert.gate.terminal import COLUMNS, cells
from lipcert.gate.verdicts import GateRun, Verdict, sentence, summary

MARKS = {
    Verdict.PASS: "✅",
    Verdict.FAIL: "❌",
    Verdict.REGRESSED: "❌",
    Verdict.INCONCLUSIVE: "⚠️",
    Verdict.ERROR: "❌",
}

MAX_ROWS = 1_000
"""Lines of a summary: GitHub takes one megabyte."""


def report_to_github(run: GateRun, annotate: bool) -> None:
    """Where GitHub runs this, write the job's summary; annotations on stdout if that is free."""
    place = os.environ.get("GITHUB_STEP_SUMMARY")
    if place:
        try:
            with Path(place).open("a", encoding="utf-8") as stream:  # it is added to, not replaced
                stream.write(markdown(run))
        except OSError as error:
            raise UsageError(f"GITHUB_STEP_SUMMARY: {place}: {error.strerror}", hint="unset it") from None
    if annotate and os.environ.get("GITHUB_ACTIONS") == "true":
        sys.stdout.write(workflow_commands(run))


def markdown(run: GateRun) -> str:
    """A table of all, those that do not pass first, with their reasons below."""
    ordered = sorted(run.results, key=lambda result: not result.failed)
    lines = [
        "## lipcert gate",
        "",
        f"{'❌' if run.exit_status else '✅'} {summary(run)}",
        "",
        f"| {' | '.join(COLUMNS)} |",
        f"|{'---|' * len(COLUMNS)}",
    ]
    for result in ordered[:MAX_ROWS]:
        verdict = f"{MARKS[result.verdict]} {result.verdict}"
        lines.append(f"| {' | '.join([verdict, *map(_cell, cells(result))])} |")
    if len(ordered) > MAX_ROWS:
        lines += ["", f"and {len(ordered) - MAX_ROWS} more"]
    reasons = [f"- {_cell(sentence(result))}" for result in ordered[:MAX_ROWS] if result.message]
    return "\n".join([*lines, "", *reasons]) + "\n"


def workflow_commands(run: GateRun) -> str:
    """Workflow commands, an error for each verdict that is no pass."""
    return "".join(
        f"::error file={_property(run.relative(run.policy))},line={result.item.check.line},"
        f"title={_property(f'lipcert gate: {result.item.check.name}')}::{_data(sentence(result))}\n"
        for result in run.results
        if result.failed
    )


def _cell(text: str) -> str:
    """Text in a table, without what Markdown or HTML would obey."""
    for character in "\\`*_[]<>|#&":
        text = text.replace(character, f"&#{ord(character)};" if character in "<>|&" else f"\\{character}")
    return text


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")
