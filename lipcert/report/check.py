"""Re-verifying a report: the model is imported again, and everything it claims is proven from the evidence.

Imports the trusted kernel and the frontend only; no method, no torch and no solver is loaded.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from lipcert.certificate import (
    verify,
    verify_box,
    verify_extremes,
    verify_monotone,
    verify_not_monotone,
    verify_witness,
)
from lipcert.certificate.arithmetic import Arithmetic
from lipcert.certificate.claim import RobustnessClaim
from lipcert.certificate.encoding import (
    decode_box,
    decode_claim,
    decode_extremes,
    decode_monotone,
    decode_query,
    decode_robustness,
    decode_slope,
    decode_witness,
)
from lipcert.certificate.robustness import Classifier, verify_robustness
from lipcert.errors import CertificateError, NotProvedError, UsageError
from lipcert.frontend import Model
from lipcert.problem import Problem, Query, parse_norm, pose
from lipcert.problem.samples import Samples
from lipcert.report.monotone import MonotoneReport
from lipcert.report.reach import ReachReport, boxes_by
from lipcert.report.reading import AnyReport
from lipcert.report.report import Report, describe_templates
from lipcert.report.robustness import RobustnessReport, accuracies, row
from lipcert.templates import Template, parse_template


@dataclass(frozen=True)
class CheckResult:
    """What a check proved: the report's bounds hold, since upper <= its upper and lower >= its lower."""

    upper: float
    lower: float
    query: Query
    arithmetic: str
    templates: tuple[Template, ...] = ()
    """Of the user's: what was proven holds if they are true."""


def check_report(report: Report, model: Model, *, strict: bool = False) -> CheckResult:
    """Prove the report's bounds for this model again, or raise CertificateError saying what fails.

    `strict` proves in ball arithmetic (Arb) instead of float64 with error terms.
    """
    _check_identity(report, model)
    stated_templates(report)
    status = report.data["result"].get("status")
    if status not in ("certified", "conditional") or report.upper is None:
        raise CertificateError(
            f"the report is {status}: it claims no certified bound", hint="run `lipcert bound` again"
        )
    if report.data["model"].get("templates", []) != describe_templates(model.templates):
        raise CertificateError("the report is conditional on other templates than the model is loaded with")
    problem = _problem(report, model)
    query = problem.query
    by = _arithmetic(strict)
    upper = _check_upper(report, problem, by)
    lower = _check_lower(report, problem, by)
    _check_gap(report)
    claim = decode_claim(report.data.get("certificate"))
    return CheckResult(upper, lower, query, _name(by, claim.linear), model.templates)


@dataclass(frozen=True)
class ReachCheck:
    """What a check of a reach report proved: a box inside the reported one, and the attained values."""

    lower: np.ndarray
    upper: np.ndarray
    query: Query
    arithmetic: str
    templates: tuple[Template, ...] = ()


def check_reach(report: ReachReport, model: Model, *, strict: bool = False) -> ReachCheck:
    """Prove the report's box for this model again, or raise CertificateError saying what fails."""
    _check_identity(report, model)
    stated_templates(report)
    if report.data["model"].get("templates", []) != describe_templates(model.templates):
        raise CertificateError("the report is conditional on other templates than the model is loaded with")
    problem = _problem(report, model)
    by = _arithmetic(strict)
    claim = decode_box(report.data.get("certificate"))
    status = report.data["result"].get("status")
    finite = np.any(np.isfinite(claim.lower)) or np.any(np.isfinite(claim.upper))
    if not finite or status not in ("certified", "conditional"):
        raise CertificateError(f"the report is {status}: it claims no finite bound", hint="run `lipcert reach` again")
    if report.data["result"].get("boxes") != boxes_by(claim):
        raise CertificateError("result.boxes is not what the certificate says")
    low, high = verify_box(problem, claim, by)
    check_ends(report)
    if report.data.get("attained") is not None:
        verify_extremes(problem, decode_extremes(report.data["attained"]), by)
    return ReachCheck(low, high, decode_query(report.data["query"]), _name(by, claim.linear), model.templates)


def check_ends(report: ReachReport) -> None:
    """CertificateError where the numbers for readers are not those of the certificate."""
    stated = [[None if not math.isfinite(v) else v for v in end.tolist()] for end in (report.lower, report.upper)]
    if [report.data["result"].get("lower"), report.data["result"].get("upper")] != stated:
        raise CertificateError("result.lower and result.upper are not those of the certificate")


@dataclass(frozen=True)
class MonotoneCheck:
    """What a check of a monotonicity report proved: the share, and the counterexample where it has one."""

    share: float
    query: Query
    arithmetic: str
    templates: tuple[Template, ...] = ()


def check_monotone(report: MonotoneReport, model: Model, *, strict: bool = False) -> MonotoneCheck:
    """Prove the report's share and counterexample for this model again, or raise CertificateError saying what fails."""
    _check_identity(report, model)
    problem, by, result = _problem(report, model), _arithmetic(strict), report.data["result"]
    claim = decode_monotone(report.data.get("certificate"))
    stated = (list(claim.inputs), claim.increasing, claim.tolerance, claim.share)
    if stated != tuple(result.get(name) for name in ("inputs", "increasing", "tolerance", "share")):
        raise CertificateError("result is not what the certificate says")
    share = verify_monotone(problem, claim, by)
    found = report.data.get("counterexample")
    if found is not None:
        value = verify_not_monotone(problem, claim, decode_slope(found), by)
        if not (isinstance(result.get("derivative"), float) and value <= result["derivative"] < -claim.tolerance):
            raise CertificateError("result.derivative is not that of the counterexample")
    status = "certified" if claim.share == 1 else "refuted" if found is not None else "inconclusive"
    if report.status != status:
        raise CertificateError(f"the report says {report.status}, its evidence {status}")
    return MonotoneCheck(share, problem.query, _name(by, True))


@dataclass(frozen=True)
class RobustnessCheck:
    """What a check of a robustness report proved: every radius and every attack of its samples."""

    samples: int
    arithmetic: str
    templates: tuple[Template, ...] = ()


def check_robustness(
    report: RobustnessReport, model: Model, samples: Samples, *, strict: bool = False
) -> RobustnessCheck:
    """Prove the report's samples, which are these, for this model again, or raise CertificateError with what fails."""
    _check_identity(report, model)
    _check_unrolled(report, model)
    if model.templates:
        raise CertificateError("robust accuracy is not proven of a model with templates")
    query = report.data["query"]
    if not isinstance(query.get("data"), dict) or query["data"].get("sha256") != samples.sha256:
        raise CertificateError("the report is about other data", hint="give --data and --labels as in the report's run")
    if query["data"].get("samples") != len(samples.labels):
        raise CertificateError(f"query.data.samples: the data are {len(samples.labels)} samples")
    claim = decode_robustness(report.data.get("certificate"))
    places = [sample.index - samples.first for sample in claim.samples]
    if places != sorted(set(places)) or not all(0 <= k < len(samples.labels) for k in places):
        raise CertificateError("the samples of the certificate are not rows of the data, in order")
    if any(sample.label != samples.labels[k] for k, sample in zip(places, claim.samples, strict=True)):
        raise CertificateError("the labels of the certificate are not those of the data")
    _check_stated(report, claim)
    if report.status != ("certified" if len(places) == len(samples.labels) else "inconclusive"):
        raise CertificateError(f"the report says {report.status}, with {len(places)} of {len(samples.labels)} samples")
    by = _arithmetic(strict)
    try:
        classifier = Classifier(model.graph, parse_norm(query.get("norm")), str(query.get("output", "")))
        verify_robustness(classifier, samples.points[places], claim, by)
    except UsageError as error:
        raise CertificateError(f"the query does not fit the model: {error.message}") from None
    return RobustnessCheck(len(places), _name(by, any(sample.balls for sample in claim.samples)))


def _check_stated(report: RobustnessReport, claim: RobustnessClaim) -> None:
    """CertificateError where the report says something else than its certificate."""
    eps, result, margins = report.data["query"].get("eps"), report.data["result"], report.data.get("margins")
    if not isinstance(eps, list) or not all(isinstance(radius, float) for radius in eps):
        raise CertificateError("query.eps: not a list of numbers")
    if not (eps and all(0 < radius < math.inf for radius in eps) and eps == sorted(set(eps))):
        raise CertificateError("query.eps: not increasing radii above zero")
    stated = {name: result.get(name) for name in ("finished", "clean", "radii")}
    rows = [row(sample, tuple(eps)) for sample in claim.samples]
    if stated != accuracies(claim, tuple(eps)) or report.data.get("samples") != rows:
        raise CertificateError("result and samples are not what the certificate says")
    known = [{"first": m.first, "second": m.second, "upper": m.claim.value} for m in claim.margins]
    if not isinstance(margins, list) or not all(isinstance(margin, dict) for margin in margins):
        raise CertificateError("margins: not a list of objects")
    if [{name: value for name, value in margin.items() if name != "method"} for margin in margins] != known:
        raise CertificateError("margins are not what the certificate says")


def _problem(report: AnyReport, model: Model) -> Problem:
    _check_unrolled(report, model)
    try:
        return pose(model.graph, decode_query(report.data["query"]), as_run=isinstance(report, ReachReport))
    except UsageError as error:
        raise CertificateError(f"the query does not fit the model: {error.message}") from None


def _check_unrolled(report: AnyReport, model: Model) -> None:
    if stated_unrolled(report) != model.unrolled:
        raise CertificateError("the report and the model that is loaded differ in whether Loops are read step by step")


def stated_unrolled(report: AnyReport) -> bool:
    """Whether the report is about the steps of the model's Loops."""
    stated = report.data["model"].get("unrolled", False)
    if type(stated) is not bool:
        raise CertificateError("model.unrolled: not true or false")
    return stated


def stated_templates(report: AnyReport) -> list[Template]:
    """The templates that the report's bound is conditional on, as it quotes them."""
    stated, status = report.data["model"].get("templates", []), report.status
    if status in ("certified", "conditional") and (status == "conditional") != bool(stated):
        raise CertificateError(f"the report is {status}, and it names {'some' if stated else 'no'} templates")
    if not isinstance(stated, list) or not all(isinstance(e, dict) and isinstance(e.get("text"), str) for e in stated):
        raise CertificateError("model.templates: not a list of templates with their texts")
    try:
        return [parse_template(entry["text"], f"model.templates[{i}]") for i, entry in enumerate(stated)]
    except UsageError as error:
        raise CertificateError(f"the report's template is malformed: {error.message}") from None


def _arithmetic(strict: bool) -> Arithmetic:
    if not strict:
        return Arithmetic()
    from lipcert.certificate.balls import BallArithmetic

    return BallArithmetic()


def _name(by: Arithmetic, linear: bool) -> str:
    """The arithmetic of a check: linear bounds are in float64 in either."""
    return f"{by.name}, linear bounds in float64" if linear and by.name != "float64" else by.name


def _check_identity(report: AnyReport, model: Model) -> None:
    described = report.data["model"]
    check_digest(report, model.sha256, model.path)
    if described.get("external_data", {}) != model.external_data:
        raise CertificateError("the model's external data differ from those that the report was made from")


def check_digest(report: AnyReport, sha256: str, path: str) -> None:
    """CertificateError where the report is about another model than the one of this digest."""
    stated = report.data["model"].get("sha256")
    if stated != sha256:
        raise CertificateError(
            f"the report is about another model: sha256 {stated}, {path} has {sha256}",
            hint="give the file that the report was made from",
        )


def _check_upper(report: Report, problem: Problem, by: Arithmetic) -> float:
    claim = decode_claim(report.data.get("certificate"))
    proven = verify(problem, claim, by)
    if not (report.upper is not None and proven <= report.upper):
        raise NotProvedError(f"the evidence proves {proven:.17g}, which is above result.upper = {report.upper}")
    return proven


def _check_lower(report: Report, problem: Problem, by: Arithmetic) -> float:
    if report.lower == 0:
        return 0.0
    if report.data["result"].get("witness") is None:
        raise CertificateError("result.lower has no witness")
    attained = verify_witness(problem, decode_witness(report.data["result"]["witness"]), by)
    if not attained >= report.lower:
        raise NotProvedError(f"the witness attains {attained:.17g}, below result.lower = {report.lower:.17g}")
    return attained


def _check_gap(report: Report) -> None:
    gap, upper, lower = report.gap, report.upper, report.lower
    expected = upper / lower if upper is not None and lower > 0 else None
    same = gap == expected or (
        isinstance(gap, float) and expected is not None and abs(gap - expected) <= 1e-9 * expected
    )
    if not same:
        raise CertificateError(f"result.gap is {gap}, but upper / lower is {expected}")
