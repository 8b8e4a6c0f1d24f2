"""What does not pass as SARIF 2.1.0 (OASIS), for code scanning. Rule ids stay: alerts are told apart by them."""

from __future__ import annotations

import hashlib
import json
from typing import Any
from urllib.parse import quote

from lipcert.gate.terminal import numbers
from lipcert.gate.verdicts import GateRun, Result, Verdict, sentence
from lipcert.report.report import describe_tool

SCHEMA = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"

RULES = {
    Verdict.FAIL: (
        "lipcert/limit-exceeded",
        "LimitExceeded",
        "A proven bound is above its limit",
        "The certified Lipschitz constant of the network is above `max`. Where a value above the limit is attained, no "
        "better bound can pass, and the network has to change; else a longer `timeout` may prove a smaller bound.",
    ),
    Verdict.REGRESSED: (
        "lipcert/regressed",
        "Regressed",
        "A proven bound has grown over its baseline",
        "The certified Lipschitz constant is above that of the committed baseline by more than `max_increase`. If that "
        "is wanted, run `lipcert gate --update-baseline` and commit the file.",
    ),
    Verdict.INCONCLUSIVE: (
        "lipcert/inconclusive",
        "Inconclusive",
        "Nothing was proven",
        "No bound was proven in the time that the policy gives. That never passes, unless the policy says so.",
    ),
    Verdict.ERROR: (
        "lipcert/error",
        "Error",
        "The question could not be asked",
        "A model, a file of data, a certificate or the baseline could not be used.",
    ),
}


def to_sarif(run: GateRun) -> str:
    """A log with a result for each verdict that is not a pass; those point at their check in the policy."""
    indices = {verdict: index for index, verdict in enumerate(RULES)}
    tool = describe_tool()
    log = {
        "$schema": SCHEMA,
        "version": "2.1.0",
        "runs": [
            {
                "tool": {
                    "driver": {
                        "name": tool["name"],
                        "semanticVersion": tool["version"],
                        "rules": [_rule(*texts) for texts in RULES.values()],
                    }
                },
                "invocations": [{"executionSuccessful": run.exit_status in (0, 1, 4), "exitCode": run.exit_status}],
                "results": [_result(run, result, indices[result.verdict]) for result in run.results if result.failed],
                "columnKind": "utf16CodeUnits",
            }
        ],
    }
    return json.dumps(log, indent=2, allow_nan=False) + "\n"


def _rule(identity: str, name: str, short: str, full: str) -> dict[str, Any]:
    return {
        "id": identity,
        "name": name,
        "shortDescription": {"text": short},
        "fullDescription": {"text": full},
        "help": {"text": full},
        "defaultConfiguration": {"level": "error"},
    }


def _result(run: GateRun, result: Result, index: int) -> dict[str, Any]:
    rule = RULES[result.verdict][0]
    digest = hashlib.sha256(f"{rule} {result.item.id}".encode()).hexdigest()
    return {
        "ruleId": rule,
        "ruleIndex": index,
        "level": "error",
        "message": {"text": sentence(result)},
        "locations": [
            {
                "physicalLocation": {
                    "artifactLocation": {"uri": quote(run.relative(run.policy))},
                    "region": {"startLine": result.item.check.line},
                },
                "logicalLocations": [{"fullyQualifiedName": result.item.id, "kind": "resource"}],
            }
        ],
        "relatedLocations": [
            {
                "physicalLocation": {"artifactLocation": {"uri": quote(run.relative(result.item.model))}},
                "message": {"text": "the model"},
            }
        ],
        # GitHub tells alerts apart by the first: in the form of a hash of a line, but it does not move with one.
        "partialFingerprints": {"primaryLocationLineHash": f"{digest[:16]}:1", "lipcertItem/v1": digest},
        "properties": numbers(result),
    }
