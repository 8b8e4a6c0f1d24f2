"""The verdicts as JSON, `lipcert/gate/1` (its schema is lipcert/report/schema/gate-1.json)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from lipcert.gate.verdicts import GateRun, Result, Verdict
from lipcert.report.report import describe_tool

SCHEMA = "lipcert/gate/1"


def to_json(run: GateRun) -> str:
    """The document, with a line break at its end."""
    document = {
        "schema": SCHEMA,
        "tool": describe_tool(),
        "policy": run.relative(run.policy),
        "exit_status": run.exit_status,
        "seconds": round(run.seconds, 6),
        "counts": {verdict.value: run.count(verdict) for verdict in Verdict},
        "results": [_result(run, result) for result in run.results],
    }
    return json.dumps(document, indent=2, allow_nan=False) + "\n"


def _result(run: GateRun, result: Result) -> dict[str, Any]:
    item, proof = result.item, result.proof
    return {
        "id": item.id,
        "check": item.check.name,
        "model": run.relative(item.model),
        "row": item.row,
        "verdict": result.verdict.value,
        "exit_status": result.exit_status,
        "message": result.message or None,
        "status": proof.status,
        "bound": proof.upper,
        "attained": proof.lower,
        "limit": result.limit,
        "baseline": result.baseline,
        "method": proof.method,
        "seconds": round(proof.seconds, 6),
        "cached": proof.cached,
        "certificate": None if proof.certificate is None else run.relative(Path(proof.certificate)),
        "query": proof.query or None,
    }
