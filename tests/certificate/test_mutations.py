"""However a report is edited, `check` refuses it in one line, or accepts no less than what is true.

What counts as true is found without the evidence that was edited: the value that the evidence proved before the edit
where only its numbers changed, and what the network attains, by sampling, in any case.
"""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Iterable
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest

import lipcert
from lipcert.certificate import Claim, verify
from lipcert.certificate.encoding import decode_query, encode_query
from lipcert.errors import CertificateError, LipcertError, NotProvedError
from lipcert.problem import Query, pose
from lipcert.report import CheckResult, Report, parse_report
from tests.helpers.mutations import Mutation, evidence_of, mutations, part_edits, query_edits, shape_of
from tests.helpers.reports import ENOUGH, Case, all_cases
from tests.helpers.sampling import merge, steepest_jacobians, steepest_pairs

TOLERANCE = 1e-8
"""Permitted relative difference between what evidence proves, and the same with its slack edited away."""

MOST = 300
"""Edits of one certificate that are tried, at most."""


@cache
def cases() -> dict[str, Case]:
    return {case.name: case for case in all_cases()}


def check_text(text: str, case: Case, strict: bool = False) -> tuple[Report, CheckResult] | str:
    """What a check makes of a report's text, or the line in which it refuses it."""
    try:
        report = parse_report(text, "report.json")
        return report, lipcert.check(report, case.model, strict=strict)
    except CertificateError as error:
        return str(error)


def is_refused(text: str, case: Case, strict: bool = False) -> bool:
    return isinstance(check_text(text, case, strict), str)


class Truth:
    """What may be accepted about the network of a case."""

    def __init__(self, case: Case) -> None:
        self.case = case
        self._proven: dict[str, float | None] = {}
        self._attained: dict[str, float] = {}

    def proven(self, query: Query) -> float | None:
        """What the evidence proves, as it was, for a query; None where it proves nothing."""
        key = json.dumps(encode_query(query))
        if key not in self._proven:
            try:
                problem = pose(self.case.model.graph, query)
                self._proven[key] = verify(problem, Claim(ENOUGH, self.case.claim.evidence, self.case.claim.anywhere))
            except LipcertError:
                self._proven[key] = None
        return self._proven[key]

    def attained(self, query: Query) -> float:
        """A slope that the network has somewhere in the region."""
        key = json.dumps(encode_query(query))
        if key not in self._attained:
            problem, rng = pose(self.case.model.graph, query), np.random.default_rng(0)
            seen = merge(steepest_jacobians(problem, rng, 100), steepest_pairs(problem, rng, 100))
            self._attained[key] = seen[query.norm_in, query.norm_out]
        return self._attained[key]


def faults(found: Iterable[Mutation], case: Case, strict: bool = False) -> list[str]:
    """What is wrong with the way in which `check` takes these edits."""
    truth = Truth(case)
    judged = ((label, judge(text, case, truth, strict)) for label, text in found)
    return [f"{label}: {fault}" for label, fault in judged if fault]


def judge(text: str, case: Case, truth: Truth, strict: bool) -> str | None:
    """Nothing, where a report is refused in one line, or accepted for what is true; else what is wrong."""
    try:
        outcome = check_text(text, case, strict)
    except Exception as error:
        return f"raises {type(error).__name__}: {error}"
    if isinstance(outcome, str):
        return None if outcome.strip() and "\n" not in outcome else f"refused in words that are not one line: {outcome}"
    report, result = outcome
    query = decode_query(report.data["query"])
    proven, least = truth.proven(query), truth.attained(query)
    forms = [r.data["certificate"].get("pairs") for r in (report, case.report)]  # another form proves other numbers
    if forms[0] == forms[1] and shape_of(evidence_of(report.data)) == shape_of(evidence_of(case.report.data)):
        if proven is None:
            return f"accepted {result.upper}, though the evidence proves nothing"
        least = max(least, proven)
    if not least * (1 - TOLERANCE) <= result.upper <= (report.upper or 0.0) < math.inf:
        return f"accepted {report.upper} (proven {result.upper}), the truth is {least}"
    most = math.inf if proven is None else proven * (1 + TOLERANCE)
    if not (0 <= report.lower <= result.lower <= most or report.lower == result.lower == 0):
        return f"accepted the lower bound {report.lower} (proven {result.lower}), the truth is below {most}"
    return None


@pytest.mark.parametrize("name", cases())
def test_the_reports_are_accepted_before_they_are_edited(name: str) -> None:
    case = cases()[name]
    for strict in (False, True):
        outcome = check_text(case.report.to_json(), case, strict)
        assert not isinstance(outcome, str), outcome
        assert outcome[1].upper == pytest.approx(case.claim.value, rel=1e-9)


@pytest.mark.parametrize("name", ["spectral to l2", "stacked in a ball"])
def test_no_edit_of_a_report_makes_check_accept_less_than_the_truth(name: str) -> None:
    """Everything in it, over all of space and over a ball."""
    case = cases()[name]
    edits = list(mutations(case.report.data))
    assert len(edits) > 1000
    assert not faults(edits, case)


@pytest.mark.one_in(4)
@pytest.mark.parametrize("name", cases())
def test_no_edit_of_a_certificate_makes_check_accept_less_than_the_truth(name: str) -> None:
    """Evidence of every kind."""
    case = cases()[name]
    edits = list(part_edits(case.report.data, "certificate"))
    assert not faults(edits[:: 1 + len(edits) // MOST], case)


@pytest.mark.parametrize("name", [name for name in cases() if name.endswith("to linf")])
def test_no_edit_of_a_certificate_makes_a_strict_check_accept_less_than_the_truth(name: str) -> None:
    case = cases()[name]
    edits = list(part_edits(case.report.data, "certificate"))
    assert not faults(edits[:: 1 + 2 * len(edits) // MOST], case, strict=True)


@pytest.mark.one_in(2)
@pytest.mark.parametrize("name", [name for name in cases() if name.endswith(("to l2", "a ball", "centered"))])
def test_no_other_query_makes_check_accept_less_than_the_truth(name: str) -> None:
    """The same evidence for another region, other norms or outputs."""
    case = cases()[name]
    assert not faults(query_edits(case.report.data), case)


@pytest.mark.one_in(3)
@pytest.mark.parametrize("name", cases())
def test_evidence_about_another_model_proves_nothing_false(name: str) -> None:
    """The certificate, witness or whole report of other cases, in the place of this one's."""
    case = cases()[name]
    edits = []
    turn = list(cases()).index(name) % 4
    for other in list(cases().values())[turn::4]:
        for part in ("certificate", "query"):
            edits.append((f"{part} of {other.name}", {**case.report.data, part: other.report.data[part]}))
        changed = copy.deepcopy(case.report.data)
        changed["result"] = other.report.data["result"]
        edits.append((f"result of {other.name}", changed))
        edits.append((f"all but the model of {other.name}", {**other.report.data, "model": case.report.data["model"]}))
        if other.model.sha256 != case.model.sha256:
            assert is_refused(other.report.to_json(), case)
    assert not faults(((label, json.dumps(data)) for label, data in edits), case)


FORGERIES: dict[str, dict[str, Any]] = {
    "a sum without terms": {"is": "Terms", "proofs": []},
    "a product without factors": {"is": "Factors", "proofs": []},
    "a negative sigma": {"is": "Spectral", "sigma": (-1e9).hex()},
    "a sigma of zero": {"is": "Spectral", "sigma": (0.0).hex()},
    "a sigma that is not a number": {"is": "Spectral", "sigma": "nan"},
    "an infinite sigma": {"is": "Spectral", "sigma": "inf"},
    "no taps": {"is": "Taps", "sigmas": []},
    "taps of a dense matrix": {"is": "Taps", "sigmas": [(0.0).hex()]},
    "the overlap of a dense matrix": {"is": "Overlap", "sigma": (9.0).hex()},
    "terms of a dense matrix": {"is": "Terms", "proofs": [{"is": "Entrywise"}]},
    "factors of a dense matrix": {"is": "Factors", "proofs": [{"is": "Entrywise"}]},
}


@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize("forgery", FORGERIES)
def test_a_forged_proof_of_a_norm_is_refused(forgery: str, strict: bool) -> None:
    case = cases()["spectral to l2"]
    steps = len(case.report.data["certificate"]["evidence"]["steps"])
    for chosen in (range(steps), range(1), range(steps - 1, steps)):
        data = copy.deepcopy(case.report.data)
        for i in chosen:
            data["certificate"]["evidence"]["steps"][i]["groups"][0]["proof"] = FORGERIES[forgery]
        assert is_refused(json.dumps(data), case, strict)


def with_groups(case: Case, edit: Any) -> str:
    data = copy.deepcopy(case.report.data)
    steps = data["certificate"]["evidence"]["steps"]
    edit(steps)
    return json.dumps(data)


@pytest.mark.parametrize(
    "edit",
    [
        lambda steps: steps[-1]["groups"].pop(),
        lambda steps: steps[-1]["groups"].append({"is": "Group", "sources": [], "proof": {"is": "Entrywise"}}),
        lambda steps: steps[-1]["groups"].append(steps[-1]["groups"][0]),
        lambda steps: steps[-1]["groups"][0]["sources"].append(0),
        lambda steps: steps[-1].update(groups=[]),
        lambda steps: steps[-1].update(node=0),
        lambda steps: steps[-1].update(node=-1),
        lambda steps: steps[-1].update(node=10**30),
        lambda steps: steps.pop(0),
        lambda steps: steps.append(steps[0]),
        lambda steps: steps.append(steps[-1]),
        lambda steps: steps.reverse(),
        lambda steps: steps.clear(),
    ],
)
def test_a_chain_with_a_missing_or_repeated_link_is_refused(edit: Any) -> None:
    case = cases()["spectral to l2"]
    assert is_refused(with_groups(case, edit), case)


@pytest.mark.parametrize("status", ["conditional", "inconclusive", "refused", "Certified", "", None, 1, [], {}])
def test_only_a_certified_report_is_checked(status: Any) -> None:
    case = cases()["spectral to l2"]
    data = {**case.report.data, "result": {**case.report.data["result"], "status": status}}
    assert is_refused(json.dumps(data), case)


def test_a_refusal_says_what_fails_and_by_how_much() -> None:
    case = cases()["spectral to l2"]
    lowered = replace(case.claim, value=case.claim.value / 2)
    with pytest.raises(NotProvedError, match=r"proves 1\.38\d+.* above the claimed 0\.69\d+ .*1\.00e\+00"):
        verify(pose(case.model.graph, case.query), lowered)


def test_a_verifier_that_believes_everything_would_be_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The tests above have teeth."""
    case = cases()["spectral to l2"]
    monkeypatch.setattr("lipcert.report.check.verify", lambda problem, claim, by: claim.value)
    found = faults(part_edits(case.report.data, "certificate"), case)
    assert sum("the truth is" in fault for fault in found) > 5
    monkeypatch.undo()
    monkeypatch.setattr("lipcert.report.check.verify_witness", lambda problem, witness, by: ENOUGH)
    found = faults(part_edits(case.report.data, "result"), case)
    assert sum("accepted the lower bound" in fault for fault in found) > 5
