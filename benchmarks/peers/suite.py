"""lipcert beside its peers: same network, same query, same process."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from benchmarks.measure import Timing, timed
from benchmarks.networks import ball, find
from benchmarks.peers import eclipse, lirpa
from benchmarks.peers.answers import Way
from benchmarks.section import Column, Row, Section, Settings, number, ratio, seconds

if TYPE_CHECKING:
    from pathlib import Path

    from lipcert.planning import Outcome
    from lipcert.problem import Query

DENSE = ("digits_relu", "mlp_L5_W64", "mlp_L17_W32")
LOCAL = ("mnistfc_256x2",)
EPS = 0.01

COLUMNS = (
    Column("network", "network"),
    Column("query", "query"),
    Column("peer", "peer"),
    Column("theirs", "theirs\n(uncertified)", number),
    Column("ours", "ours\n(certified)", number),
    Column("lower", "attained", number),
    Column("bounds", "bounds,\nours/theirs", ratio),
    Column("their_seconds", "their\ntime", seconds),
    Column("our_seconds", "our\ntime", seconds),
    Column("times", "times,\nours/theirs", ratio),
    Column("remark", "remark"),
)


@dataclass(frozen=True)
class Ours:
    """What lipcert says: the upper bound and its time; the attained lower bound."""

    outcome: Outcome
    timing: Timing
    lower: float


def suite(settings: Settings) -> list[Section]:
    section = Section("peers", "Beside peers (ratios below 1: lipcert is tighter, faster)", COLUMNS)
    section.notes.append(
        "our time: all claims of --method auto, found and verified; the attained value's search apart. "
        "their time: from the weights; importing either is not counted"
    )
    section.notes.append("only lipcert's bound is certified; a peer's value below the attained one is wrong")
    for peer in (eclipse, lirpa):
        reason = peer.available()
        section.notes.append(f"{peer.NAME} {peer.version()}" if reason is None else f"{peer.NAME}: {reason}")
        if reason is not None:
            settings.say(f"skipped {peer.NAME}: {reason}")
    if eclipse.available() is None:
        for name in DENSE:
            section.rows += _dense(name, settings)
    if lirpa.available() is None:
        for name in LOCAL:
            section.rows += _local(name, settings)
    return [section]


def _dense(name: str, settings: Settings) -> list[Row]:
    path = find(name, settings)
    if path is None:
        return []
    import lipcert
    from benchmarks.peers.layers import layers
    from lipcert.problem import Query

    model = lipcert.load(path)
    settings.say(f"{name}, l2 global: lipcert")
    ours = _ours(path, Query(), settings)
    ways = eclipse.global_l2(layers(model.graph))
    return _rows(name, "l2 global", ours, eclipse.NAME, ways, settings)


def _local(name: str, settings: Settings) -> list[Row]:
    path = find(name, settings)
    if path is None:
        return []
    import numpy as np

    import lipcert
    from benchmarks.peers.layers import layers
    from lipcert.problem import Ball, Query

    model = lipcert.load(path)
    around = ball(name, model, EPS, settings)
    center = around.center.astype(np.float32).astype(np.float64)  # the same ball for a peer that works in float32
    query = f"linf, ball {EPS}"
    settings.say(f"{name}, {query}: lipcert")
    ours = _ours(path, Query(math.inf, math.inf, Ball(center, EPS, math.inf)), settings)
    ways = lirpa.local_linf(layers(model.graph), center, EPS)
    return _rows(name, query, ours, lirpa.NAME, ways, settings)


def _ours(path: Path, query: Query, settings: Settings) -> Ours:
    from lipcert.frontend import load_file
    from lipcert.planning import solve
    from lipcert.problem import pose

    fresh = [load_file(path, check=False).graph for _ in range(settings.repeat)]  # a graph keeps what was computed
    graphs = iter(fresh)
    outcome, timing = timed(lambda: solve(pose(next(graphs), query), lower=False), settings.repeat)
    attained = solve(pose(fresh[0], query), method="product").lower
    return Ours(outcome, timing, attained)


def _rows(name: str, query: str, ours: Ours, peer: str, ways: Iterable[Way], settings: Settings) -> list[Row]:
    upper = ours.outcome.upper
    rows = []
    for way, bound in ways:
        settings.say(f"{name}, {query}: {peer}, {way}")
        try:
            (theirs, said), timing = timed(bound, settings.repeat)
        except Exception as error:  # whatever a peer raises is its result
            rows.append({"network": name, "query": query, "peer": f"{peer}: {way}", "ours": upper, "lower": ours.lower})
            rows[-1]["remark"] = f"failed: {type(error).__name__}: {error}"
            continue
        unsound = not theirs >= ours.lower
        rows.append(
            {
                "network": name,
                "query": query,
                "peer": f"{peer}: {way}",
                "theirs": theirs,
                "ours": upper,
                "lower": ours.lower,
                "bounds": None if upper is None else upper / theirs,
                "their_seconds": timing.median,
                "their_fastest": timing.fastest,
                "our_seconds": ours.timing.median,
                "our_fastest": ours.timing.fastest,
                "times": ours.timing.median / timing.median,
                "unsound": unsound,
                "remark": f"UNSOUND: {1 - theirs / ours.lower:.1e} below the attained value" if unsound else said,
            }
        )
    return rows
