"""Reading a report of any kind."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lipcert.errors import UsageError
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


@dataclass(frozen=True)
class Stored:
    """A report, with the path and the digest of its file where it is from one."""

    report: AnyReport
    path: str = ""
    sha256: str = ""

    @property
    def name(self) -> str:
        """In messages."""
        return self.path or "the report"


def read_stored(path: str | Path) -> Stored:
    """Read a file; "-" is standard input. UsageError where there is none, CertificateError where it is no report."""
    hint = "name a report that `lipcert bound --json` wrote"
    try:
        data = sys.stdin.read().encode("utf-8") if str(path) == "-" else Path(path).read_bytes()
        report = parse_any(data.decode("utf-8"), str(path))
    except UnicodeError:
        raise UsageError(f"{path}: not a JSON report", hint=hint) from None
    except (OSError, ValueError) as error:  # ValueError: a null character in the path
        reason = getattr(error, "strerror", None) or str(error)
        raise UsageError(f"{path}: {reason}", hint=hint) from None
    return Stored(report, str(path), hashlib.sha256(data).hexdigest())


def parse_any(text: str, source: str) -> AnyReport:
    """CertificateError where the text is none."""
    data = parse_document(text, source, (SCHEMA, *_KINDS))
    kind = _KINDS.get(data["schema"])
    return parse_report(text, source) if kind is None else kind(data)
