"""Whether a stored report can be shown: it is as its schema says, and does not contradict itself. Nothing is proven."""

from __future__ import annotations

from lipcert.certificate.encoding import decode_query
from lipcert.errors import CertificateError
from lipcert.report.chart import output_name
from lipcert.report.check import check_ends, stated_templates
from lipcert.report.monotone import MonotoneReport
from lipcert.report.reach import ReachReport
from lipcert.report.reading import AnyReport
from lipcert.report.report import Report
from lipcert.report.robustness import RobustnessReport
from lipcert.report.schema import check_document


def check_consistent(report: AnyReport, source: str) -> None:
    """CertificateError with what is wrong with the report from this source."""
    try:
        check_document(report.data)
        if isinstance(report, RobustnessReport):
            _check_accuracies(report)
            return
        query = decode_query(report.data["query"])
        stated_templates(report)
        if isinstance(report, Report):
            _check_bound(report)
        elif isinstance(report, ReachReport):
            _check_box(report)
        elif isinstance(report, MonotoneReport) and (found := report.data["counterexample"]) is not None:
            output_name(query, found["output"])
    except CertificateError as error:
        raise CertificateError(f"{source}: {error.message}", hint="give a report as lipcert wrote it") from None


def _check_bound(report: Report) -> None:
    proven = report.status in ("certified", "conditional")
    if proven != (report.upper is not None):
        raise CertificateError(f"result: {report.status}, and upper is {report.upper}")
    if report.upper is not None and report.lower > report.upper:
        raise CertificateError("result: lower is above upper")


def _check_box(report: ReachReport) -> None:
    check_ends(report)
    size, attained = report.lower.size, report.attained
    if report.upper.size != size or (attained is not None and not attained[0].size == attained[1].size == size):
        raise CertificateError("the box and what is attained in it are not about the same outputs")


def _check_accuracies(report: RobustnessReport) -> None:
    if not 0 <= report.clean_accuracy <= 1:
        raise CertificateError("result: more samples are right than there are")
    for radius, share in report.certified_accuracy.items():
        if not 0 <= share <= report.attack_accuracy[radius] <= 1:
            raise CertificateError(f"result: at radius {radius:g} more is certified than stands")
