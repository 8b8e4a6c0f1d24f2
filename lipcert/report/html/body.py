"""The parts of a page that depend on the kind of report: one builder for each schema.

A new kind of report adds a builder to BUILDERS; what all kinds share is in sheet.py.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from lipcert.certificate.encoding import decode_query
from lipcert.problem import Query, norm_name
from lipcert.report import wording
from lipcert.report.chart import (
    accuracy_curve,
    attempts_chart,
    bound_chart,
    output_name,
    percent,
    reach_chart,
    share_chart,
)
from lipcert.report.html.content import TONES, Section, Table, Verdict
from lipcert.report.html.points import counterexample, extremes, witness
from lipcert.report.monotone import MONOTONE_SCHEMA, MonotoneReport
from lipcert.report.reach import REACH_SCHEMA, ReachReport
from lipcert.report.reading import AnyReport
from lipcert.report.report import SCHEMA, Report
from lipcert.report.robustness import ROBUSTNESS_SCHEMA, RobustnessReport
from lipcert.report.wording import shown

MAX_ROWS = 200
"""Of a table; the report has the rest."""

FLOATS = "Float32 rounding of a deployed program is not covered, nor are inputs outside of the region."


@dataclass(frozen=True)
class Body:
    """`says`: what the result means and what not. `run`: what the exit status of the command was."""

    kind: str
    verdict: Verdict
    asked: str
    sections: tuple[Section, ...]
    says: tuple[str, ...]
    run: str


def build_body(report: AnyReport) -> Body:
    """Of a consistent report."""
    return BUILDERS[report.data["schema"]](report)


def _bound(report: Report) -> Body:
    result, query = report.data["result"], decode_query(report.data["query"])
    upper, lower = shown(report.upper, 8, up=True), shown(report.lower, 8, up=False)
    ended = ", interrupted" if result["interrupted"] else ", time was up" if result["timed_out"] else ""
    by = f"by {result['method'] or 'no method'}, {result['seconds']:.2f} s{ended}"
    gap = f", gap {report.upper / report.lower:.5g}x" if report.upper is not None and report.lower > 0 else ""
    attained = f"attained at least {lower} at a witness{gap}; " if report.lower > 0 else ""
    if report.upper is None:
        reasons = dict.fromkeys(f"{a['method']}: {a['reason']}" for a in report.data["attempts"] if a["reason"])
        verdict = _verdict(report, "No bound was verified", attained + ("; ".join(reasons) or by))
    else:
        verdict = _verdict(report, f"Lipschitz constant at most {upper}", f"{attained}{by}")
    scale = [] if report.upper is None else [_scale(report, upper, lower)]
    sections = (*scale, *witness(report, query), _methods(report))
    says = _bound_says(query, report, upper)
    return Body("Lipschitz bound", verdict, wording.query(query), sections, says, _BOUND_RUN)


_BOUND_RUN = "lipcert bound ended with exit status 0 if it had a bound (1 if above --max), with 4 if inconclusive."


def _bound_says(query: Query, report: Report, upper: str) -> tuple[str, ...]:
    norms = f"l{norm_name(query.norm_in)} to l{norm_name(query.norm_out)}"
    where = _sentence(wording.where(query))
    if report.upper is None:
        return (where, "Nothing was proven from above. That is no statement that the constant is large.")
    attained = (
        "Attained: at the witness the slope is proven to be at least the lower number. The constant is between the two."
    )
    return (
        f"The norm, from {norms}, of the network's Clarke Jacobian is at most {upper} all over the region. So outputs "
        f"move by at most {upper} times the distance of two inputs in it. {where}",
        f"This is about the real-valued function that the file denotes in exact arithmetic. {FLOATS}",
        *((attained,) if report.lower > 0 else ()),
        "It says nothing about whether the network's answers are right.",
    )


def _scale(report: Report, upper: str, lower: str) -> Section:
    rows = ("bound, proven from above", upper), ("attained at the witness, proven from below", lower)
    return Section(
        "Bound and attained value",
        chart=bound_chart(report),
        table=Table("The Lipschitz constant lies between these", ("", "value"), rows, numbers=(1,)),
    )


def _methods(report: Report) -> Section:
    attempts = report.data["attempts"]
    rows = []
    for name in dict.fromkeys(a["method"] for a in attempts):
        mine = [a for a in attempts if a["method"] == name]
        verified = [a["upper"] for a in mine if a["status"] in ("certified", "conditional")]
        seconds = f"{sum(a['seconds'] for a in mine):.2f}"
        best = shown(min(verified), 8, up=True) if verified else "none"
        rows.append((name, str(len(mine)), str(len(verified)), best, seconds))
    every = [
        (str(i), a["method"], a["status"], shown(a["upper"], 8, up=True), f"{a['seconds']:.3f}", a["reason"] or "")
        for i, a in enumerate(attempts[:MAX_ROWS], 1)
    ]
    return Section(
        "Methods",
        chart=attempts_chart(report),
        table=Table(
            "What each method did",
            ("method", "claims", "verified", "best verified", "seconds"),
            tuple(rows),
            (1, 2, 3, 4),
        ),
        more=Table(
            "Every claim, in order",
            ("#", "method", "status", "claimed", "seconds", "reason, as the report has it"),
            tuple(every),
            (0, 3, 4),
            len(attempts) - len(every),
        ),
    )


def _reach(report: ReachReport) -> Body:
    attained, query, size = report.attained, decode_query(report.data["query"]), report.lower.size
    result = report.data["result"]
    finite = int(np.sum(np.isfinite(report.lower) & np.isfinite(report.upper)))
    headline = f"{finite} of {size} outputs are bounded on both sides"
    verdict = _verdict(report, headline, f"by {result['boxes']}, {result['seconds']:.2f} s")
    rows = []
    for j in range(min(size, MAX_ROWS)):
        seen = ("", "")
        if attained is not None:
            seen = shown(float(attained[0][j]), 8, up=True), shown(float(attained[1][j]), 8, up=False)
        low, high = shown(float(report.lower[j]), 8, up=False), shown(float(report.upper[j]), 8, up=True)
        rows.append((output_name(query, j), low, high, *seen))
    columns = ("output", "at least", "at most", "goes down to", "goes up to")
    table = Table("Proven ends, and values that are attained", columns, tuple(rows), (1, 2, 3, 4), size - len(rows))
    says = (
        f"Over the region every output lies in its interval. {_sentence(wording.where(query))}",
        f"This is about the real-valued function that the file denotes in exact arithmetic. {FLOATS}",
        *(("Attained: at some points of the region the output goes that far.",) if attained is not None else ()),
        "The box is about each output by itself: not every combination of values in it need be possible.",
    )
    sections = (Section("Box of the outputs", chart=reach_chart(report), table=table), *extremes(report, query))
    run = "lipcert reach ended with exit status 0 if an end was finite, with 4 if none was."
    return Body("Reach box", verdict, wording.where(query), sections, says, run)


def _monotone(report: MonotoneReport) -> Body:
    result, query, found = report.data["result"], decode_query(report.data["query"]), report.data["counterexample"]
    way = "increasing" if result["increasing"] else "decreasing"
    allowed = f", slopes wrong by up to {result['tolerance']:g} allowed" if result["tolerance"] else ""
    entries = ", ".join(map(str, result["inputs"]))
    headline = f"Proven {way} on {wording.share(report)} the region"
    detail = f"{result['seconds']:.2f} s"
    rows = [("share of the region, at least", shown(report.share, 8, up=False))]
    if found is not None:
        rising = result["increasing"]
        value = shown(result["derivative"] if rising else -result["derivative"], 6, up=rising)
        side = "at most" if rising else "at least"
        name = f"{output_name(query, found['output'])} by input {found['input']}"
        detail = f"the derivative of {name} is {side} {value} at a point; {detail}"
        rows.append((f"derivative of {name}, {side}", value))
    sections = [
        Section(
            "Share of the region",
            chart=share_chart(report),
            table=Table("The share, and what is against it", ("", "value"), tuple(rows), (1,)),
        )
    ]
    if found is not None:
        sections.append(counterexample(report, query))
    says = (
        f"On {wording.share(report)} the box around the region, at least, every chosen output is {way} in inputs "
        f"{entries}{allowed}. {_sentence(wording.where(query))}",
        f"This is about the real-valued function that the file denotes in exact arithmetic. {FLOATS}",
        "Where the sign is not proven, and no counterexample is shown, it is not known.",
    )
    run = "lipcert monotone ended with exit status 0 if certified, 1 if refuted, 4 if inconclusive."
    asked = f"{way}{allowed} in inputs {entries}, {wording.where(query)}"
    return Body("Monotonicity", _verdict(report, headline, detail), asked, tuple(sections), says, run)


def _robustness(report: RobustnessReport) -> Body:
    result, query, attack = report.data["result"], report.data["query"], report.attack_accuracy
    finished, clean = result["finished"], percent(report.clean_accuracy, up=False)
    at = [f"{percent(share, up=False)} at {radius:g}" for radius, share in report.certified_accuracy.items()]
    headline = f"Certified accuracy {', '.join(at)}"
    detail = (
        f"{clean} without perturbation; {finished} of {query['data']['samples']} samples, {result['seconds']:.1f} s"
    )
    rows = [
        (f"{radius:g}", percent(share, up=False), percent(attack[radius], up=True))
        for radius, share in report.certified_accuracy.items()
    ]
    each = tuple(
        (
            str(r["index"]),
            str(r["label"]),
            str(r["predicted"]),
            f"{shown(r['radius'], 6, up=False)}",
            _radius(r["attacked"]),
        )
        for r in report.samples[:MAX_ROWS]
    )
    columns = ("sample", "label", "predicted", "proven radius", "attacked at")
    sections = (
        Section(
            "Accuracy",
            chart=accuracy_curve(report),
            table=Table("Shares of the samples", ("radius", "certified", "under attack"), tuple(rows), (0, 1, 2)),
            more=Table("Every sample", columns, each, (0, 3, 4), len(report.samples) - len(each)),
        ),
    )
    says = (
        "Certified: the sample's label is proven to be the class in all of the closed ball around it.",
        "Under attack: no point of the ball is proven to have another class. The robust accuracy lies between the two.",
        f"This is about the real-valued function that the file denotes in exact arithmetic. {FLOATS}",
        "The numbers are about these samples, and say nothing of others.",
    )
    run = (
        "lipcert certify ended with exit status 0 if all samples were done and within the limits, 1 below one, else 4."
    )
    asked = f"l{query['norm']} balls around the samples of {query['data']['data']}"
    return Body("Robust accuracy", _verdict(report, headline, detail), asked, sections, says, run)


def _radius(attacked: float | None) -> str:
    return "" if attacked is None else f"{attacked:g}"


def _verdict(report: AnyReport, headline: str, detail: str) -> Verdict:
    return Verdict(report.status, TONES.get(report.status, "fair"), headline, detail)


def _sentence(text: str) -> str:
    return f"Region and outputs: {text}."


BUILDERS: dict[str, Callable[[Any], Body]] = {
    SCHEMA: _bound,
    REACH_SCHEMA: _reach,
    MONOTONE_SCHEMA: _monotone,
    ROBUSTNESS_SCHEMA: _robustness,
}
"""By schema: what a page shows of a report."""
