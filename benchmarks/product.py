"""The product method in a warm process: how soon each verified claim is there, and how tight the bounds are."""

from __future__ import annotations

import math
import statistics
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.networks import find
from benchmarks.section import Column, Row, Section, Settings, goal, milliseconds, number
from benchmarks.tightness import tightness

if TYPE_CHECKING:
    from lipcert.certificate import Claim
    from lipcert.frontend import Model

NETWORKS = ("acasxu_1_1", "mnistfc_256x2", "mnistfc_256x4")
NORMS = {"l2": 2.0, "linf": math.inf}

PLAIN_GOAL = 0.050
"""Seconds for all plain claims (not centered), proven."""

CLAIMS = (
    Column("network", "network"),
    Column("norm", "norm"),
    Column("claim", "claim"),
    Column("upper", "upper", number),
    Column("find", "find", milliseconds),
    Column("verify", "verify", milliseconds),
    Column("after", "proven after", milliseconds),
    Column("fastest", "fastest", milliseconds),
    Column("first_run", "first run", milliseconds),
)
PLAIN = (
    Column("network", "network"),
    Column("norm", "norm"),
    Column("upper", "upper", number),
    Column("first", "first claim", milliseconds),
    Column("plain", "plain bound", milliseconds),
    Column("fastest", "fastest", milliseconds),
    Column("all", "all claims", milliseconds),
    Column("first_run", "plain, first run", milliseconds),
    Column("met", f"plain under {milliseconds(PLAIN_GOAL)}", goal),
)


@dataclass(frozen=True)
class Step:
    """One claim of a run, with the seconds that went into it.

    `verify` is None where the claim is no better than the best one and left alone; `after` counts from the start.
    """

    label: str
    centered: bool
    upper: float
    find: float
    verify: float | None
    after: float


def suite(settings: Settings) -> list[Section]:
    each = Section("claims", "Product method: each claim, global", CLAIMS)
    plain = Section("plain", "Product method: the plain bound, verified, global", PLAIN)
    each.notes.append("first run: the same claim in the first run of this process, with lazy imports and cold caches")
    for name in NETWORKS:
        path = find(name, settings)
        if path is None:
            continue
        for norm, value in NORMS.items():
            settings.say(f"product method on {name}, {norm}")
            runs = [_claims(path, value) for _ in range(settings.repeat + 1)]
            each.rows += _claim_rows(name, norm, runs)
            plain.rows.append(_plain_row(name, norm, runs))
    return [each, plain, tightness(settings, "product")]


def _claims(path: Path, norm: float) -> list[Step]:
    """Go through the method's claims as lipcert.planning does, on a model that nothing is cached for."""
    from lipcert.certificate import verify
    from lipcert.frontend import load_file
    from lipcert.methods import Progress
    from lipcert.methods.product import ProductMethod
    from lipcert.problem import Query, pose

    model: Model = load_file(path, check=False)
    started = began = time.perf_counter()
    problem = pose(model.graph, Query(norm_in=norm, norm_out=norm))
    best = math.inf
    steps: list[Step] = []
    for claim in ProductMethod().claims(problem, Progress()):
        found = now = time.perf_counter()
        if claim.value < best:
            verify(problem, claim)
            best, now = claim.value, time.perf_counter()
        checked = now - found if now > found else None
        label = _label(claim, steps)
        steps.append(Step(label, claim.evidence.center, claim.value, found - began, checked, now - started))
        began = now
    return steps


def _label(claim: Claim, before: list[Step]) -> str:
    """Such as "plain SpectralChain", numbered where there is more than one."""
    label = f"{'centered' if claim.evidence.center else 'plain'} {type(claim.evidence).__name__}"
    count = sum(step.label.startswith(label) for step in before)
    return f"{label} {count + 1}" if count else label


def _claim_rows(name: str, norm: str, runs: list[list[Step]]) -> list[Row]:
    first, *rest = runs
    rows = []
    for i, step in enumerate(first):
        same = [run[i] for run in rest]
        verified = [s.verify for s in same if s.verify is not None]
        rows.append(
            {
                "network": name,
                "norm": norm,
                "claim": step.label,
                "upper": step.upper,
                "find": statistics.median(s.find for s in same),
                "verify": statistics.median(verified) if verified else None,
                "after": statistics.median(s.after for s in same),
                "fastest": min(s.after for s in same),
                "first_run": step.after,
            }
        )
    return rows


def _plain_row(name: str, norm: str, runs: list[list[Step]]) -> Row:
    def plain(run: list[Step]) -> float:
        return max(step.after for step in run if not step.centered)

    first, *rest = runs
    middle = statistics.median(plain(run) for run in rest)
    return {
        "network": name,
        "norm": norm,
        "upper": min(step.upper for step in first if not step.centered),
        "first": statistics.median(run[0].after for run in rest),
        "plain": middle,
        "fastest": min(plain(run) for run in rest),
        "all": statistics.median(run[-1].after for run in rest),
        "first_run": plain(first),
        "met": middle < PLAIN_GOAL,
    }
