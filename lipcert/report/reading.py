"""Reading a report of any kind."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from lipcert.report.monotone import MONOTONE_SCHEMA, MonotoneReport
from lipcert.report.reach import REACH_SCHEMA, ReachReport
from lipcert.report.report import SCHEMA, Report, parse_document, parse_report
from lipcert.report.robustness import ROBUSTNESS_SCHEMA, RobustnessReport

AnyReport = Report | ReachReport | MonotoneReport | RobustnessReport

_KINDS: dict[str, Callable[[dict[str, Any]], AnyReport]] = {
    REACH_SCHEMA: ReachReport,
    MONOTONE_SCHEMA: MonotoneReport,
    ROBUSTNESS_SCHEMA: RobustnessReport,
}


def parse_any(text: str, source: str) -> AnyReport:
    """CertificateError where the text is none."""
    data = parse_document(text, source, (SCHEMA, *_KINDS))
    kind = _KINDS.get(data["schema"])
    return parse_report(text, source) if kind is None else kind(data)
