"""The published JSON Schemas (draft 2020-12) of reports: the contract that CI tools read."""

from __future__ import annotations

import json
from importlib.resources import files
from typing import Any


def report_schema() -> dict[str, Any]:
    """That of `lipcert/report/1`, as written by `lipcert bound --json`."""
    return _read("report-1.json")


def reach_schema() -> dict[str, Any]:
    """That of `lipcert/reach/1`, as written by `lipcert reach --json`."""
    return _with_definitions(_read("reach-1.json"))


def monotone_schema() -> dict[str, Any]:
    """That of `lipcert/monotone/1`, as written by `lipcert monotone --json`."""
    return _with_definitions(_read("monotone-1.json"))


def robustness_schema() -> dict[str, Any]:
    """That of `lipcert/certify/1`, as written by `lipcert certify --json`."""
    schema = _with_definitions(_read("certify-1.json"))
    return {**schema, "$defs": {**reach_schema()["$defs"], **schema["$defs"]}}


def _with_definitions(schema: dict[str, Any]) -> dict[str, Any]:
    """A schema that stands alone: with the definitions that it shares with report-1.json."""
    return {**schema, "$defs": {**report_schema()["$defs"], **schema["$defs"]}}


def _read(name: str) -> dict[str, Any]:
    return json.loads((files(__name__) / name).read_text(encoding="utf-8"))
