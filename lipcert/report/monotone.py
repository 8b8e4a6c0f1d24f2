"""The document of a monotonicity run: the share that is proven, a counterexample, and all that a check needs."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lipcert.certificate.encoding import encode, encode_query
from lipcert.report.display import Displayed
from lipcert.report.report import describe_environment, describe_model, describe_tool

if TYPE_CHECKING:
    from lipcert.frontend import Model
    from lipcert.planning.monotone import MonotoneOutcome
    from lipcert.problem import Query

MONOTONE_SCHEMA = "lipcert/monotone/1"


@dataclass(frozen=True)
class MonotoneReport(Displayed):
    """A finished run. `data` is the JSON document; the properties are its headline."""

    data: dict[str, Any]

    @property
    def status(self) -> str:
        """certified over the whole region; refuted by a counterexample; else inconclusive."""
        return str(self.data["result"].get("status"))

    @property
    def share(self) -> float:
        """Of the region's box on which the sign is proven, at least."""
        return float(self.data["result"]["share"])

    def to_json(self, indent: int | None = 2) -> str:
        return json.dumps(self.data, indent=indent, allow_nan=False)

    def __repr__(self) -> str:
        return f"MonotoneReport(status={self.status!r}, share={self.share!r})"


def build_monotone(model: Model, query: Query, outcome: MonotoneOutcome) -> MonotoneReport:
    """Put a run into the words of the schema."""
    claim, found = outcome.claim, outcome.counterexample
    status = "certified" if claim.share == 1 else "refuted" if found is not None else "inconclusive"
    return MonotoneReport(
        {
            "schema": MONOTONE_SCHEMA,
            "tool": describe_tool(),
            "model": describe_model(model),
            "query": encode_query(query),
            "result": {
                "status": status,
                "inputs": list(claim.inputs),
                "increasing": claim.increasing,
                "tolerance": claim.tolerance,
                "share": claim.share,
                "derivative": None if found is None else outcome.value,
                "seconds": round(outcome.seconds, 6),
                "claim": (
                    "on this share, at least, of the box around the region, wherever it lies in the region, every "
                    "Clarke derivative of every chosen output by every chosen input is at least -tolerance "
                    "(decreasing: at most tolerance); derivative: that of the counterexample is at most this "
                    "(decreasing: at least minus this)"
                ),
            },
            "counterexample": None if found is None else encode(found),
            "certificate": encode(claim),
            "environment": describe_environment(),
        }
    )
