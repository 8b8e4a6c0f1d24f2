"""What a run is reported as: a dataclass, JSON by a published schema, and a terminal table."""

from lipcert.report.check import CheckResult, check_report
from lipcert.report.report import Report, parse_report

__all__ = ["CheckResult", "Report", "check_report", "parse_report"]
