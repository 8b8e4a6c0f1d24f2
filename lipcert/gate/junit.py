"""The verdicts as JUnit XML, which Jenkins, GitLab and others read: a suite for each check, a case for each model."""

from __future__ import annotations

from itertools import groupby

from junitparser import Error, Failure, Skipped, xunit2

from lipcert.gate.terminal import numbers
from lipcert.gate.verdicts import GateRun, Result, Verdict


def to_junit(run: GateRun) -> str:
    """What exceeds a limit is a failure, what is not proven an error; skipped where the policy allows that."""
    document = xunit2.JUnitXml("lipcert gate")
    for name, results in groupby(run.results, key=lambda result: result.item.check.name):
        suite = xunit2.TestSuite(name)
        suite.add_testcases([_case(result) for result in results])
        suite.time = round(sum(case.time for case in suite), 3)
        document.add_testsuite(suite)
    document.update_statistics()
    document.time = round(document.time or 0.0, 3)
    return document.tostring().decode("utf-8") + "\n"


def _case(result: Result) -> xunit2.TestCase:
    item, proof = result.item, result.proof
    name = item.shown if item.row is None else f"{item.shown} row {item.row}"
    case = xunit2.TestCase(name, classname=f"lipcert.{item.check.name}", time=round(proof.seconds, 3))
    if result.verdict in (Verdict.FAIL, Verdict.REGRESSED):
        case.result = [Failure(result.message, result.verdict.value)]
    elif result.failed:
        case.result = [Error(result.message, result.verdict.value)]
    elif result.verdict is Verdict.INCONCLUSIVE:
        case.result = [Skipped(result.message, result.verdict.value)]
    told = ", ".join(f"{name} {value}" for name, value in numbers(result).items())
    case.system_out = told if result.failed or not result.message else f"{told}\n{result.message}"
    return case
