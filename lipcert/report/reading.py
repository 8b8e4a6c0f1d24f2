"""Reading a report of any kind."""

from __future__ import annotations

from lipcert.report.monotone import MONOTONE_SCHEMA, MonotoneReport
from lipcert.report.reach import REACH_SCHEMA, ReachReport
from lipcert.report.report import SCHEMA, Report, parse_document, parse_report

AnyReport = Report | ReachReport | MonotoneReport


def parse_any(text: str, source: str) -> AnyReport:
    """CertificateError where the text is none."""
    data = parse_document(text, source, (SCHEMA, REACH_SCHEMA, MONOTONE_SCHEMA))
    if data["schema"] == REACH_SCHEMA:
        return ReachReport(data)
    return MonotoneReport(data) if data["schema"] == MONOTONE_SCHEMA else parse_report(text, source)
