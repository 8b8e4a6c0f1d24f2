"""The document of a reach run: a box around the outputs, what is attained in it, and all that a check needs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, overload

import numpy as np

from lipcert.certificate import BoxClaim
from lipcert.certificate.encoding import decode_array, encode, encode_query
from lipcert.report.display import Displayed
from lipcert.report.report import (
    describe_environment,
    describe_model,
    describe_tool,
    loops_meant,
)

if TYPE_CHECKING:
    from lipcert.frontend import Model
    from lipcert.planning.reach import ReachOutcome
    from lipcert.planning.reach_many import ManyBoxes
    from lipcert.problem import Query

REACH_SCHEMA = "lipcert/reach/1"


def boxes_by(claim: BoxClaim) -> str:
    """What a box is proven by, in words."""
    if claim.trees:
        return f"linear bounds over {sum(len(tree.splits) // 2 + 1 for tree in claim.trees)} pieces"
    return "linear bounds" if claim.linear else "intervals"


@dataclass(frozen=True)
class ReachReport(Displayed):
    """A finished run. `data` is the JSON document; the properties are its headline."""

    data: dict[str, Any]

    @property
    def status(self) -> str:
        """certified; conditional where the model has templates; inconclusive where no end is finite."""
        return str(self.data["result"].get("status"))

    @property
    def lower(self) -> np.ndarray:
        """Proven lower bounds of the outputs over the region, rounded down."""
        return decode_array(self.data["certificate"]["lower"], "certificate.lower")

    @property
    def upper(self) -> np.ndarray:
        """Proven upper bounds."""
        return decode_array(self.data["certificate"]["upper"], "certificate.upper")

    @property
    def attained(self) -> tuple[np.ndarray, np.ndarray] | None:
        """Values that each output certainly goes down and up to in the region; None where they were not looked for."""
        found = self.data["attained"]
        if found is None:
            return None
        return decode_array(found["lower"], "attained.lower"), decode_array(found["upper"], "attained.upper")

    def to_json(self, indent: int | None = 2) -> str:
        return json.dumps(self.data, indent=indent, allow_nan=False)

    def __repr__(self) -> str:
        return f"ReachReport(status={self.status!r}, lower={self.lower}, upper={self.upper})"


@dataclass(frozen=True)
class ReachReports(Sequence[ReachReport]):
    """Runs over many regions: their boxes as arrays, and a report for each, which is built when it is asked for."""

    model: Model
    queries: Sequence[Query]
    boxes: ManyBoxes

    def __len__(self) -> int:
        return len(self.queries)

    @overload
    def __getitem__(self, row: int) -> ReachReport: ...
    @overload
    def __getitem__(self, row: slice) -> ReachReports: ...
    def __getitem__(self, row: int | slice) -> ReachReport | ReachReports:
        from lipcert.planning.reach import ReachOutcome

        if isinstance(row, slice):
            return replace(self, queries=self.queries[row], boxes=replace(self.boxes, claims=self.boxes.claims[row]))
        each = self.boxes.seconds / len(self)
        return build_reach(self.model, self.queries[row], ReachOutcome(self.boxes.claims[row], None, each))

    @property
    def lower(self) -> np.ndarray:
        """(regions, outputs) proven lower bounds, minus infinity where nothing is proven."""
        return np.array([claim.lower for claim in self.boxes.claims])

    @property
    def upper(self) -> np.ndarray:
        """(regions, outputs) proven upper bounds."""
        return np.array([claim.upper for claim in self.boxes.claims])

    @property
    def statuses(self) -> list[str]:
        """Of each region, as ReachReport.status."""
        return [_status(self.model, claim) for claim in self.boxes.claims]


def _status(model: Model, claim: BoxClaim) -> str:
    if not (np.any(np.isfinite(claim.lower)) or np.any(np.isfinite(claim.upper))):
        return "inconclusive"
    return "conditional" if model.templates else "certified"


def build_reach(model: Model, query: Query, outcome: ReachOutcome) -> ReachReport:
    """Put a run into the words of the schema."""
    claim, extremes = outcome.claim, outcome.extremes
    meant = loops_meant(model)
    return ReachReport(
        {
            "schema": REACH_SCHEMA,
            "tool": describe_tool(),
            "model": describe_model(model),
            "query": encode_query(query),
            "result": {
                "status": _status(model, claim),
                "lower": [_number(v) for v in claim.lower.tolist()],
                "upper": [_number(v) for v in claim.upper.tolist()],
                "boxes": boxes_by(claim),
                "seconds": round(outcome.seconds, 6),
                "claim": (
                    "over the region every output of the real-valued function that the file denotes lies in "
                    "certificate.lower to certificate.upper (the numbers here, exactly; null: unbounded)"
                    + (f"{meant}, or its steps where their number is fixed" if meant else "")
                ),
            },
            "attained": None if extremes is None else encode(extremes),
            "certificate": encode(claim),
            "environment": describe_environment(),
        }
    )


def _number(value: float) -> float | None:
    return value if np.isfinite(value) else None
