"""Numbers, models and queries in the words that every kind of display shares."""

from __future__ import annotations

import math
from collections.abc import Sequence
from decimal import ROUND_CEILING, ROUND_FLOOR, Context, Decimal
from typing import Any

from lipcert.problem import Query, norm_name
from lipcert.report.monotone import MonotoneReport

ARITHMETICS = {"float64": "float64 with proven error terms", "balls": "ball arithmetic (Arb)"}
ARITHMETICS["balls, linear bounds in float64"] = f"{ARITHMETICS['balls']}; linear bounds in {ARITHMETICS['float64']}"
"""Of a check, by name."""


def shown(bound: float | None, digits: int, up: bool) -> str:
    """A bound in decimal digits, rounded in the direction in which it stays true."""
    if bound is None:
        return "none"
    if math.isinf(bound):
        return str(bound)
    rounding = ROUND_CEILING if up else ROUND_FLOOR
    value = Context(prec=digits, rounding=rounding).create_decimal(Decimal(bound)).normalize()
    return f"{value:f}" if 0 <= value.adjusted() < digits else f"{value:g}"  # 100, not 1e+2


def model(described: dict[str, Any]) -> str:
    """The model section of a report in one line."""
    inputs = ", ".join(f"{t['name']} {t['shape']}" for t in described["inputs"])
    outputs = ", ".join(f"{t['name']} {t['shape']}" for t in described["outputs"])
    return f"{described['path']}   {inputs} -> {outputs}, {described['parameters']:,} parameters"


def query(asked: Query) -> str:
    """Norms, and where."""
    return f"l{norm_name(asked.norm_in)} -> l{norm_name(asked.norm_out)}, {where(asked)}"


def where(asked: Query) -> str:
    """Region, outputs and inputs."""
    inputs = f", inputs {', '.join(asked.inputs)} (any value of the others)" if asked.inputs else ""
    return f"{asked.region.describe()}, {asked.outputs.describe()}{inputs}"


def share(report: MonotoneReport) -> str:
    """How much of the region a sign is proven on."""
    return "all of" if report.share == 1 else f"{shown(100 * report.share, 6, up=False)} % of"


def assumption(name: str, ops: Sequence[str]) -> str:
    """What a conditional bound rests on."""
    return f"that the template {name} is true of {', '.join(ops)}: nothing here proves that"
