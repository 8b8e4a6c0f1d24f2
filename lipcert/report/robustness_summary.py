"""What `lipcert certify` shows, and `lipcert check` of its reports."""

from __future__ import annotations

from statistics import median

from rich.table import Table
from rich.text import Text

from lipcert.report import wording
from lipcert.report.check import RobustnessCheck
from lipcert.report.robustness import RobustnessReport
from lipcert.report.terminal import ARITHMETICS, grid, plain, show, shown


def print_robustness(report: RobustnessReport, least: dict[float, float], json_path: str | None, quiet: bool) -> None:
    """A line for each radius; `least` are shares that are wanted of some."""
    certified, attack = report.certified_accuracy, report.attack_accuracy
    if quiet:
        for radius, share in certified.items():
            print(f"{radius!r} {share!r} {attack[radius]!r}")
        return
    result, model = report.data["result"], report.data["model"]
    finished = result["finished"]
    table = grid()
    table.add_row("model", plain(wording.model(model)))
    table.add_row("data", plain(_data_line(report)))
    for note in (*result["notes"], *(n for n in model["notes"] if n.startswith("Loop node"))):
        table.add_row("note", plain(note))
    if finished:
        _add_accuracies(table, report, least)
    table.add_row("method", _method_line(report))
    if report.status != "certified":
        table.add_row(Text("interrupted", style="bold yellow"), f"after {finished} of {_asked(report)} samples")
    if json_path is not None:
        table.add_row("report", plain(f"{json_path}   (re-verify: lipcert check {json_path} {model['path']})"))
    show(table)


def _add_accuracies(table: Table, report: RobustnessReport, least: dict[float, float]) -> None:
    certified, attack, result = report.certified_accuracy, report.attack_accuracy, report.data["result"]
    table.add_row("clean", f"{_percent(report.clean_accuracy)}   {result['clean']} of {result['finished']}")
    for radius, share in certified.items():
        style = "bold green" if report.status == "certified" else "bold yellow"
        line = Text(f"{_percent(share):>8}", style=style)
        line.append(f"   under attack {_percent(attack[radius]):>8}", style="default")
        if radius in least:
            kept = share >= least[radius]
            limit = (
                f"   within --min-certified {least[radius]:g}"
                if kept
                else f"   below --min-certified {least[radius]:g}"
            )
            line.append(limit, style="green" if kept else "bold red")
        table.add_row(f"certified at {radius:g}", line)
    radii = [row["radius"] for row in report.samples if row["predicted"] == row["label"]]
    if radii:
        table.add_row("radii", f"median {shown(median(radii), 4, up=False)} of what is classified right")


def print_robustness_check(
    report: RobustnessReport, result: RobustnessCheck, report_path: str, model_path: str, data_path: str | None
) -> None:
    """The verdict of `lipcert check`, about the data of `data_path`, or else those that the report names."""
    table = grid()
    table.add_row("report", plain(f"{report_path}, about {model_path}"))
    table.add_row("data", plain(_data_line(report, data_path)))
    accuracies = ", ".join(f"{_percent(share)} at {radius:g}" for radius, share in report.certified_accuracy.items())
    attacks = sum(row["attacked"] is not None for row in report.samples)
    table.add_row(
        Text("verified", style="bold green"), f"radii of {result.samples} samples, {attacks} attacks: {accuracies}"
    )
    table.add_row("arithmetic", ARITHMETICS[result.arithmetic])
    show(table)


def _data_line(report: RobustnessReport, path: str | None = None) -> str:
    query = report.data["query"]
    path = path or query["data"]["data"] or "arrays"
    return f"{path}, {_asked(report)} samples; closed balls in l{query['norm']}"


def _asked(report: RobustnessReport) -> int:
    return int(report.data["query"]["data"]["samples"])


def _method_line(report: RobustnessReport) -> str:
    result, margins = report.data["result"], report.data["margins"]
    methods = [margin["method"] for margin in margins]
    counts = ", ".join(f"{methods.count(method)} by {method}" for method in sorted(set(methods)))
    shared = "one constant for all margins" if report.data["certificate"]["shared"] else "no constants of margins"
    everywhere = f"constants of {len(margins)} margins ({counts})" if margins else shared
    local = ", then ball by ball" if result["local"] else ""
    ended = "   time for constants was up" if result["timed_out"] else ""
    return f"{everywhere}{local}, {result['seconds']:.2f} s{ended}"


def _percent(share: float) -> str:
    """To a hundredth; all, or none, only where it is so."""
    shown_share = share if share in (0.0, 1.0) else min(max(share, 1e-4), 1 - 1e-4)
    return f"{100 * shown_share:.2f} %"
