"""The published JSON Schemas (draft 2020-12) of reports: the contract that CI tools read."""

from __future__ import annotations

import json
from functools import cache
from importlib.resources import files
from typing import Any

from lipcert.errors import CertificateError


def report_schema() -> dict[str, Any]:
    """That of `lipcert/report/1`, as written by `lipcert bound --json`."""
    return _read("report-1.json")


def reach_schema() -> dict[str, Any]:
    """That of `lipcert/reach/1`, as written by `lipcert reach --json`."""
    return _with_definitions(_read("reach-1.json"))


def monotone_schema() -> dict[str, Any]:
    """That of `lipcert/monotone/1`, as written by `lipcert monotone --json`."""
    return _with_definitions(_read("monotone-1.json"))


def check_document(data: dict[str, Any]) -> None:
    """CertificateError where a report is not as its published schema says. What it claims is not looked into."""
    from jsonschema.exceptions import best_match

    try:
        error = best_match(_validator(data["schema"]).iter_errors(data))
    except RecursionError:
        raise CertificateError("nested too deeply") from None
    if error is not None:
        raise CertificateError(f"{error.json_path.removeprefix('$.')}: {error.message}")


@cache
def _validator(name: str) -> Any:
    from jsonschema import Draft202012Validator

    return Draft202012Validator(SCHEMAS[name]())


def compare_schema() -> dict[str, Any]:
    """That of `lipcert/compare/1`, as written by `lipcert compare --json`."""
    schema, report = _with_definitions(_read("compare-1.json")), report_schema()
    inner = {name: part for name, part in report.items() if name not in ("$schema", "$id", "$defs")}
    return {**schema, "$defs": {**schema["$defs"], "report": inner}}


def gate_schema() -> dict[str, Any]:
    """That of `lipcert/gate/1`, as written by `lipcert gate --json`."""
    return _read("gate-1.json")


def robustness_schema() -> dict[str, Any]:
    """That of `lipcert/certify/1`, as written by `lipcert certify --json`."""
    schema = _with_definitions(_read("certify-1.json"))
    return {**schema, "$defs": {**reach_schema()["$defs"], **schema["$defs"]}}


def _with_definitions(schema: dict[str, Any]) -> dict[str, Any]:
    """A schema that stands alone: with the definitions that it shares with report-1.json."""
    return {**schema, "$defs": {**report_schema()["$defs"], **schema["$defs"]}}


def _read(name: str) -> dict[str, Any]:
    return json.loads((files(__name__) / name).read_text(encoding="utf-8"))


SCHEMAS = {
    "lipcert/report/1": report_schema,
    "lipcert/reach/1": reach_schema,
    "lipcert/monotone/1": monotone_schema,
    "lipcert/certify/1": robustness_schema,
}
"""Of the reports that lipcert shows, by name."""
