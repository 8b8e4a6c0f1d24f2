"""The published JSON Schema of reports: the contract that CI tools read."""

from __future__ import annotations

import json
from importlib.resources import files
from typing import Any


def report_schema() -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of `lipcert/report/1`, as written by `lipcert bound --json`."""
    return json.loads((files(__name__) / "report-1.json").read_text(encoding="utf-8"))
