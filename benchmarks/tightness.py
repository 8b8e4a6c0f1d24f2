"""How far the certified bound is from the attained one, for every network: l2 globally, linf on a small ball."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from benchmarks.networks import OUTSIDE, OWN, ball, find
from benchmarks.section import Column, Row, Section, Settings, number, ratio, seconds

if TYPE_CHECKING:
    from lipcert.report import Report

EPS = 0.01

COLUMNS = (
    Column("network", "network"),
    Column("query", "query"),
    Column("upper", "upper", number),
    Column("lower", "lower", number),
    Column("gap", "gap", ratio),
    Column("seconds", "time", seconds),
    Column("best", "best after", seconds),
    Column("timed_out", "", lambda late: "time was up" if late else ""),
)


def tightness(settings: Settings, method: str) -> Section:
    """Upper, lower and gap of `method` for every network that is there, each query once."""
    section = Section("tightness", f"Tightness of --method {method}: upper proven, lower attained", COLUMNS)
    section.notes.append(f"local: the linf ball of {EPS} around the first test image (acasxu: around 0); one run each")
    section.notes.append("best after: when the reported bound was there, the lower bound's search not counted")
    for name in (*OWN, *OUTSIDE):
        section.rows += _rows(name, method, settings)
    return section


def _rows(name: str, method: str, settings: Settings) -> list[Row]:
    path = find(name, settings)
    if path is None:
        return []
    import lipcert

    model = lipcert.load(path)
    queries: dict[str, dict[str, Any]] = {
        "l2 global": {"norm": 2},
        f"linf, ball {EPS}": {"norm": math.inf, "region": ball(name, model, EPS, settings)},
    }
    rows = []
    for query, options in queries.items():
        settings.say(f"{name}, {query}")
        report = lipcert.bound(model, method=method, **options)
        result = report.data["result"]
        rows.append(
            {"network": name, "query": query, "best": _best_after(report)}
            | {key: result[key] for key in ("upper", "lower", "gap", "seconds", "timed_out")}
        )
    return rows


def _best_after(report: Report) -> float:
    """Seconds spent on claims up to the last one that was certified."""
    attempts = report.data["attempts"]
    last = max((i for i, a in enumerate(attempts) if a["status"] == "certified"), default=-1)
    return sum(a["seconds"] for a in attempts[: last + 1])
