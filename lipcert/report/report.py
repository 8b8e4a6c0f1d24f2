"""The report of a run, `lipcert/report/1`: what CI tools read, and what `lipcert check` re-verifies."""

from __future__ import annotations

import json
import math
import platform
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from lipcert.certificate.encoding import encode, encode_query
from lipcert.errors import CertificateError
from lipcert.report.display import Displayed
from lipcert.templates import Template

if TYPE_CHECKING:
    from lipcert.frontend import Model
    from lipcert.planning import Outcome
    from lipcert.problem import Query

SCHEMA = "lipcert/report/1"


@dataclass(frozen=True)
class Report(Displayed):
    """A finished run. `data` is the JSON document; the properties are its headline."""

    data: dict[str, Any]

    @property
    def status(self) -> str:
        """certified, conditional, inconclusive or refused."""
        return self.data["result"].get("status", "refused")

    @property
    def upper(self) -> float | None:
        """The certified (or conditional) Lipschitz constant, rounded up; None where there is none."""
        return self.data["result"].get("upper")

    @property
    def lower(self) -> float:
        """A value attained at the witness, rounded down; 0.0 where none was found."""
        return self.data["result"].get("lower", 0.0)

    @property
    def gap(self) -> float | None:
        """upper / lower, None where lower is 0."""
        return self.data["result"].get("gap")

    @property
    def method(self) -> str | None:
        return self.data["result"].get("method")

    def to_json(self, indent: int | None = 2) -> str:
        return json.dumps(self.data, indent=indent, allow_nan=False)

    def __repr__(self) -> str:
        return f"Report(status={self.status!r}, upper={self.upper}, lower={self.lower}, method={self.method!r})"


def build_report(model: Model, query: Query, outcome: Outcome) -> Report:
    """Put a run into the words of the schema."""
    return Report(
        {
            "schema": SCHEMA,
            "tool": describe_tool(),
            "model": describe_model(model),
            "query": encode_query(query),
            "result": _result(outcome, model),
            "attempts": [
                {
                    "method": a.method,
                    "status": "conditional" if a.status == "certified" and model.templates else a.status,
                    "upper": a.upper,
                    "seconds": round(a.seconds, 6),
                    "reason": a.reason or None,
                }
                for a in outcome.attempts
            ],
            "certificate": None if outcome.claim is None else encode(outcome.claim),
            "environment": describe_environment(),
        }
    )


def describe_model(model: Model) -> dict[str, Any]:
    described: dict[str, Any] = {
        "path": model.path,
        "sha256": model.sha256,
        "external_data": model.external_data,
        "inputs": [{"name": t.name, "shape": list(t.shape)} for t in model.inputs],
        "outputs": [{"name": t.name, "shape": list(t.shape)} for t in model.outputs],
        "parameters": model.parameters,
        "nodes": model.node_count,
        "opset": model.opset,
        "notes": list(model.notes),
    }
    if model.unrolled:
        described["unrolled"] = True
    if model.templates:
        described["templates"] = describe_templates(model.templates)
    if model.check is not None:
        described["import_check"] = {
            "worst": model.check.worst,
            "tolerance": model.check.tolerance,
            "tensors": model.check.tensors,
            "points": model.check.points,
        }
    return described


def loops_meant(model: Model) -> str:
    """What to add to a claim where Loops are read as their fixed points."""
    loops = any(note.startswith("Loop node") for note in model.notes)
    return "; of the Loops that model.notes names, the fixed point is meant" if loops else ""


def describe_templates(templates: Sequence[Template]) -> list[dict[str, Any]]:
    """What a bound is conditional on, with the whole text of each file."""
    return [{"name": t.name, "title": t.title, "ops": list(t.activations), "text": t.text} for t in templates]


def _result(outcome: Outcome, model: Model) -> dict[str, Any]:
    proven = "conditional" if model.templates else "certified"
    return {
        "status": "inconclusive" if outcome.claim is None else proven,
        "upper": outcome.upper,
        "lower": outcome.lower,
        "gap": outcome.gap,
        "method": outcome.method,
        "seconds": round(outcome.seconds, 6),
        "witness": None if outcome.witness is None else encode(outcome.witness),
        "interrupted": outcome.interrupted,
        "timed_out": outcome.timed_out,
        "claim": (
            "the supremum over the region of the Clarke Jacobian's norm (everywhere: the Lipschitz constant), of the "
            "real-valued function that the file denotes in exact arithmetic; "
            "float32 rounding of a deployed program is not covered"
            + loops_meant(model)
            + (
                "; conditional: if the quadratic constraints of model.templates are true of the ops that they name"
                if model.templates
                else ""
            )
        ),
    }


def describe_tool() -> dict[str, str]:
    return {"name": "lipcert", "version": version("lipcert")}


def describe_environment() -> dict[str, str]:
    packages = ("numpy", "onnx", "onnxruntime", "torch", "python-flint")
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        **{name: version(name) for name in packages},
    }


def parse_document(text: str, source: str, schemas: Sequence[str]) -> dict[str, Any]:
    """A JSON document of one of these schemas; CertificateError where it is none."""
    try:
        data = json.loads(text, parse_constant=_no_constant, parse_float=_float, parse_int=_int)
    except (ValueError, RecursionError) as error:
        raise CertificateError(
            f"{source}: not JSON: {error}", hint="give a report that `lipcert bound --json` wrote"
        ) from None
    if not isinstance(data, dict) or data.get("schema") not in schemas:
        raise CertificateError(
            f"{source}: not a {' or '.join(schemas)} report",
            hint="give a report that `lipcert bound --json` or `lipcert reach --json` wrote",
        )
    for part in ("model", "query", "result"):
        if not isinstance(data.get(part), dict):
            raise CertificateError(f"{source}: {part} is missing")
    return data


def parse_report(text: str, source: str) -> Report:
    """Read a report; CertificateError where it is not one, or lacks what a check needs."""
    data = parse_document(text, source, (SCHEMA,))
    for name in ("upper", "lower"):
        value = data["result"].get(name)
        number = type(value) in (int, float) and 0 <= value <= sys.float_info.max
        if not (number or (value is None and name == "upper")):
            raise CertificateError(f"{source}: result.{name} is not a finite number >= 0")
    return Report(data)


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not a JSON number")


def _float(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise ValueError(f"{text} is beyond float64")
    return value


def _int(text: str) -> int:
    _float(text)
    return int(text)
