"""What a person reads in five seconds."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table
from rich.text import Text

from lipcert.certificate.encoding import decode_query
from lipcert.errors import printable
from lipcert.report import wording
from lipcert.report.check import CheckResult, MonotoneCheck, ReachCheck
from lipcert.report.monotone import MonotoneReport
from lipcert.report.reach import ReachReport, ReachReports, boxes_by
from lipcert.report.reading import AnyReport
from lipcert.report.report import Report
from lipcert.report.robustness import RobustnessReport
from lipcert.report.wording import ARITHMETICS, shown


def print_bound(report: Report, limit: float | None, json_path: str | None, quiet: bool) -> None:
    """The verdict of `lipcert bound`; with quiet, the number alone."""
    if quiet:
        print("inconclusive" if report.upper is None else repr(report.upper))
        return
    result, query = report.data["result"], decode_query(report.data["query"])
    table = grid()
    table.add_row("model", plain(wording.model(report.data["model"])))
    table.add_row("query", plain(wording.query(query)))
    _add_loops(table, report.data["model"])
    table.add_row(*_verdict(report))
    for template in report.data["model"].get("templates", []):
        table.add_row("assumes", plain(wording.assumption(template["name"], template["ops"])))
    if report.lower > 0:
        gap = f"   gap {report.gap:.5g}x" if report.gap is not None else ""
        table.add_row("attained", f"{shown(report.lower, 8, up=False)} at a witness, proven{gap}")
    else:
        table.add_row("attained", "no witness with a positive slope was found")
    table.add_row("method", _method_line(result))
    best = [a for a in report.data["attempts"] if a["status"] in ("certified", "conditional")]
    if best and best[-1]["reason"]:
        table.add_row("note", plain(best[-1]["reason"]))
    stopped = [a for a in report.data["attempts"] if a["status"] == "skipped" and a["upper"] is None]
    if report.upper is not None:  # where nothing is, the verdict has the reasons
        for method, reason in dict.fromkeys((a["method"], a["reason"]) for a in stopped):
            table.add_row("note", plain(f"{method}: {reason}"))
    if limit is not None and report.upper is not None:
        table.add_row("limit", _limit_line(report, limit))
    if json_path is not None:
        table.add_row(
            "report", plain(f"{json_path}   (re-verify: lipcert check {json_path} {report.data['model']['path']})")
        )
    show(table)


def _add_loops(table: Table, model: dict[str, Any]) -> None:
    """What Loops are read as: it is what is certified."""
    for note in model.get("notes", []):
        if note.startswith("Loop node"):
            table.add_row("note", plain(note))


class RowTable:
    """One line for each region, as it is done; with quiet, the number alone."""

    COLUMNS = "row", "certified", "attained", "gap", "method", "seconds"

    def __init__(self, path: str, quiet: bool) -> None:
        self.path, self.quiet, self.begun = path, quiet, False

    def add(self, row: int, report: Report, limit: float | None) -> None:
        if self.quiet:
            print("inconclusive" if report.upper is None else repr(report.upper), flush=True)
            return
        if not self.begun:
            self.begun = True
            print(printable(self.path))
            self._print(self.COLUMNS)
        result = report.data["result"]
        bound = report.status if report.upper is None else shown(report.upper, 8, up=True)
        if report.upper is not None and limit is not None and report.upper > limit:
            bound += " !"
        gap = "" if report.gap is None else f"{report.gap:.5g}x"
        low = shown(report.lower, 8, up=False)
        self._print((str(row), bound, low, gap, result["method"] or "", f"{result['seconds']:.2f}"))

    def end(self, reports: Sequence[Report], seconds: float, first: Path | None) -> None:
        """What there is to say of all."""
        if self.quiet:
            return
        done = [report.upper for report in reports if report.upper is not None]
        tight = sum(report.gap is not None and report.gap <= TIGHT for report in reports)
        largest = f", at most {shown(max(done), 8, up=True)}" if done else ""
        print(f"{len(done)} of {len(reports)} certified{largest}; {tight} within 1 % of attained; {seconds:.1f} s")
        if first is not None:
            check = f"lipcert check {printable(str(first))} {printable(self.path)}"
            print(f"reports in {printable(str(first.parent))}   (re-verify: {check})")

    def _print(self, cells: Sequence[str]) -> None:
        print("".join(cell.rjust(width) for cell, width in zip(cells, (5, 14, 14, 11, 10, 9), strict=True)), flush=True)


TIGHT = 1.01
"""A gap at which a bound is as good as exact."""

MAX_LINES = 40
"""Outputs that are listed."""


def print_reach(report: ReachReport, json_path: str | None, quiet: bool) -> None:
    """The box of `lipcert reach`; with quiet, its numbers alone."""
    ends = list(zip(report.lower.tolist(), report.upper.tolist(), strict=True))
    if quiet:
        for low, high in ends:
            print(f"{low!r} {high!r}")
        return
    result, query = report.data["result"], decode_query(report.data["query"])
    table = grid()
    table.add_row("model", plain(wording.model(report.data["model"])))
    table.add_row("query", plain(f"reach, {wording.where(query)}"))
    for note in report.data["model"].get("notes", []):
        if note.startswith("Loop node"):
            table.add_row("note", plain(f"{note}; the box is that of its steps where their number is fixed"))
    style = "bold green" if report.status == "certified" else "bold yellow"
    table.add_row(Text(report.status, style=style), f"by {result['boxes']}, {result['seconds']:.2f} s")
    for template in report.data["model"].get("templates", []):
        table.add_row("assumes", plain(wording.assumption(template["name"], template["ops"])))
    attained = report.attained
    for j, (low, high) in enumerate(ends[:MAX_LINES]):
        seen = ""
        if attained is not None:
            lowest, highest = (float(end[j]) for end in attained)
            seen = f"   attained [{shown(lowest, 6, up=True)}, {shown(highest, 6, up=False)}]"
            if lowest >= highest:  # one value, up to rounding
                seen = f"   attained {shown(lowest, 6, up=True)}"
        table.add_row(f"{j}", f"[{shown(low, 8, up=False)}, {shown(high, 8, up=True)}]{seen}")
    if len(ends) > MAX_LINES:
        table.add_row("...", f"{len(ends) - MAX_LINES} more outputs: --json has them all, -q prints them")
    if json_path is not None:
        table.add_row(
            "report", plain(f"{json_path}   (re-verify: lipcert check {json_path} {report.data['model']['path']})")
        )
    show(table)


def print_reach_rows(reports: ReachReports, rows: range, first: Path | None, quiet: bool) -> None:
    """A line for each row of `lipcert reach --rows`; with quiet, all its lower and upper bounds in turn."""
    low, high = reports.lower, reports.upper
    if quiet:
        for row in np.stack([low, high], axis=2).reshape(len(reports), -1).tolist():
            print(*map(repr, row))
        return
    path, widths = reports.model.path, (high - low).max(axis=1)
    print(printable(path))
    print("".join(name.rjust(width) for name, width in zip(("row", "widest side", "by"), (6, 14, 16), strict=True)))
    for k in range(min(len(reports), MAX_LINES)):
        by = boxes_by(reports.boxes.claims[k])
        print(f"{rows[k]:6d}{shown(float(widths[k]), 6, up=True):>14}{by:>16}")
    if len(reports) > MAX_LINES:
        print(f"   ... {len(reports) - MAX_LINES} more rows: --npz has them all, -q prints them")
    done = [status != "inconclusive" for status in reports.statuses]
    seconds = reports.boxes.seconds
    print(
        f"{sum(done)} of {len(done)} {'conditional' if reports.model.templates else 'certified'}; widest side "
        f"{shown(float(np.median(widths)), 6, up=True)} in the median; {seconds:.2f} s"
    )
    if first is not None:
        check = f"lipcert check {printable(str(first))} {printable(path)}"
        print(f"reports in {printable(str(first.parent))}   (re-verify: {check})")


def print_monotone(report: MonotoneReport, json_path: str | None, quiet: bool) -> None:
    """The verdict of `lipcert monotone`; with quiet, the share alone."""
    if quiet:
        print(repr(report.share))
        return
    result, query = report.data["result"], decode_query(report.data["query"])
    table = grid()
    table.add_row("model", plain(wording.model(report.data["model"])))
    way = "increasing" if result["increasing"] else "decreasing"
    allowed = f" up to {result['tolerance']:g}" if result["tolerance"] else ""
    entries = ", ".join(map(str, result["inputs"]))
    table.add_row("query", plain(f"{way}{allowed} in inputs {entries}, {wording.where(query)}"))
    style = {"certified": "bold green", "refuted": "bold red"}.get(report.status, "bold yellow")
    where = wording.share(report)
    table.add_row(Text(report.status, style=style), f"proven on {where} the region, {result['seconds']:.2f} s")
    found = report.data["counterexample"]
    if found is not None:
        value = result["derivative"] if result["increasing"] else -result["derivative"]
        side = "at most" if result["increasing"] else "at least"
        text = f"d output {found['output']} / d input {found['input']} is {side} {value:.6g} at a point, proven"
        table.add_row("fails", text)
    if json_path is not None:
        table.add_row(
            "report", plain(f"{json_path}   (re-verify: lipcert check {json_path} {report.data['model']['path']})")
        )
    show(table)


def print_report(report: AnyReport, path: str) -> None:
    """A stored report, as when it was made: it is not proven again."""
    if isinstance(report, ReachReport):
        print_reach(report, path, quiet=False)
    elif isinstance(report, MonotoneReport):
        print_monotone(report, path, quiet=False)
    elif isinstance(report, RobustnessReport):
        from lipcert.report.robustness_summary import print_robustness  # which needs this file

        print_robustness(report, {}, path, quiet=False)
    else:
        print_bound(report, None, path, quiet=False)
    print("shown as stored: nothing was checked again")


def print_check(
    report: Report | ReachReport | MonotoneReport,
    result: CheckResult | ReachCheck | MonotoneCheck,
    report_path: str,
    model_path: str,
) -> None:
    """The verdict of `lipcert check`."""
    table = grid()
    if isinstance(report, MonotoneReport) or isinstance(result, MonotoneCheck):
        assert isinstance(report, MonotoneReport)
        assert isinstance(result, MonotoneCheck)
        table.add_row("report", plain(f"{report_path}, about {model_path}"))
        table.add_row("query", plain(wording.where(result.query)))
        beside = ", and the counterexample" if report.data["counterexample"] is not None else ""
        table.add_row(Text("verified", style="bold green"), f"the sign on {wording.share(report)} the region{beside}")
        table.add_row("arithmetic", ARITHMETICS[result.arithmetic])
        show(table)
        return
    if isinstance(report, ReachReport) or isinstance(result, ReachCheck):
        _print_reach_check(report, result, report_path, model_path)
        return
    table.add_row("report", plain(f"{report_path}, about {model_path}"))
    table.add_row("query", plain(wording.query(result.query)))
    upper, proven = shown(report.upper, 10, up=True), shown(result.upper, 10, up=True)
    verdict = Text("verified if", style="bold yellow") if result.templates else Text("verified", style="bold green")
    for template in result.templates:
        table.add_row("assumes", plain(wording.assumption(template.name, template.activations)))
    table.add_row(verdict, f"upper {upper}   the evidence proves {proven}")
    if report.lower > 0:
        lower, attained = shown(report.lower, 10, up=False), shown(result.lower, 10, up=False)
        table.add_row("attained", f"lower {lower}   the witness proves {attained}")
    table.add_row("arithmetic", ARITHMETICS[result.arithmetic])
    show(table)


def _print_reach_check(
    report: Report | ReachReport, result: CheckResult | ReachCheck, report_path: str, model_path: str
) -> None:
    table = grid()
    table.add_row("report", plain(f"{report_path}, about {model_path}"))
    table.add_row("query", plain(f"reach, {wording.where(result.query)}"))
    verdict = Text("verified if", style="bold yellow") if result.templates else Text("verified", style="bold green")
    for template in result.templates:
        table.add_row("assumes", plain(wording.assumption(template.name, template.activations)))
    attained = ", and what is attained in it" if report.data.get("attained") is not None else ""
    table.add_row(verdict, f"the box of {np.size(report.lower)} outputs{attained}")
    table.add_row("arithmetic", ARITHMETICS[result.arithmetic])
    show(table)


def _verdict(report: Report) -> tuple[Text, Text]:
    if report.upper is None:
        reasons = dict.fromkeys(f"{a['method']}: {a['reason']}" for a in report.data["attempts"] if a["reason"])
        return Text("inconclusive", style="bold yellow"), plain("; ".join(reasons) or "no bound was verified")
    style = "bold green" if report.status == "certified" else "bold yellow"
    return Text(report.status, style=style), Text(
        f"Lipschitz constant at most {shown(report.upper, 8, up=True)}", style="bold"
    )


def _limit_line(report: Report, limit: float) -> Text:
    if report.upper is not None and report.upper <= limit:
        return Text(f"within --max {limit!r}", style="green")
    if report.lower > limit:
        return Text(f"exceeds --max {limit!r}: the attained slope is above it", style="bold red")
    return Text(f"not within --max {limit!r} (attained is below it: a tighter bound might pass)", style="bold red")


def _method_line(result: dict[str, Any]) -> str:
    ended = "   interrupted" if result["interrupted"] else "   time is up" if result["timed_out"] else ""
    return f"{result['method'] or 'none'}, {result['seconds']:.2f} s{ended}"


def plain(text: str) -> Text:
    """Text from a file, without what a terminal would obey."""
    return Text(printable(text))


def grid() -> Table:
    """Names at the left, what there is to say of each at the right."""
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim")
    table.add_column(overflow="fold")
    return table


def show(table: Table) -> None:
    """Print to stdout: fitted to a terminal; plain lines, as long as they are, when piped."""
    console = Console(highlight=False)
    if console.is_terminal:
        console.print(table)
        return
    wide = Console(highlight=False, width=10_000)
    with wide.capture() as captured:
        wide.print(table)
    print("\n".join(line.rstrip() for line in captured.get().splitlines()))
