"""Verdicts: what is proven of an item, against its limit and its baseline."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from lipcert.gate.baseline import Entry
from lipcert.gate.items import Item
from lipcert.gate.proofs import Proof
from lipcert.report.terminal import shown

DIGITS = 6


class Verdict(StrEnum):
    """Of one item. A pass is proven."""

    PASS = "pass"
    FAIL = "fail"
    """The bound is above max."""
    REGRESSED = "regressed"
    """It is above the baseline, by more than max_increase."""
    INCONCLUSIVE = "inconclusive"
    """Nothing is proven."""
    ERROR = "error"
    """The question could not be asked: a model, a file or a baseline is at fault."""


EXIT_STATUS = {Verdict.PASS: 0, Verdict.FAIL: 1, Verdict.REGRESSED: 1, Verdict.INCONCLUSIVE: 4}


@dataclass(frozen=True)
class Result:
    """The verdict on an item, with the numbers that it rests on."""

    item: Item
    proof: Proof
    verdict: Verdict
    limit: float | None
    """What the bound was compared with: max, or what the baseline allows; the smaller of the two where it passes."""
    baseline: float | None
    message: str
    """Why, in a sentence."""
    exit_status: int

    @property
    def failed(self) -> bool:
        return self.exit_status != 0


@dataclass(frozen=True)
class GateRun:
    """A finished run. `root` is the folder that paths in reports are relative to: that of the repository."""

    policy: Path
    root: Path
    results: tuple[Result, ...]
    seconds: float

    @property
    def exit_status(self) -> int:
        """3 or 2 where a question could not be asked, else 1 where a limit is exceeded, else 4 where one is open."""
        statuses = {result.exit_status for result in self.results}
        return next((status for status in (3, 2, 1, 4) if status in statuses), 0)

    def count(self, verdict: Verdict) -> int:
        return sum(result.verdict is verdict for result in self.results)

    def relative(self, path: Path) -> str:
        """A path as reports name it."""
        path = path.absolute()
        return path.relative_to(self.root).as_posix() if path.is_relative_to(self.root) else path.as_posix()


def judge(item: Item, proof: Proof, baseline: Entry | None) -> Result:
    """The verdict on what is proven; `baseline` is the item's entry, None where it has none."""
    check = item.check
    if proof.status == "error":
        return _result(item, proof, Verdict.ERROR, proof.note, exit_status=proof.exit_status)
    if proof.upper is None:
        allowed = check.allow_inconclusive and proof.status == "inconclusive"
        note = f"{proof.note}; the policy allows that" if allowed else proof.note
        return _result(item, proof, Verdict.INCONCLUSIVE, note, exit_status=0 if allowed else 4)
    before = baseline.bound if baseline is not None and baseline.is_of(proof.query) else None
    limits = []
    if check.maximum is not None:
        limits.append(check.maximum)
        if proof.upper > check.maximum:
            message = f"the bound {_up(proof.upper)} is above max {check.maximum:.{DIGITS}g}"
            return _exceeded(item, proof, Verdict.FAIL, message, check.maximum, before)
    if check.max_increase is not None:
        if before is None:
            lacks = "has another question under this name" if baseline is not None else "does not have it"
            return _result(item, proof, Verdict.ERROR, f"the baseline {lacks}: {UPDATE}", exit_status=2)
        limits.append(before * (1 + check.max_increase))
        if proof.upper > limits[-1]:
            grown = 100 * (proof.upper / before - 1) if before > 0 else math.inf
            allowed_growth = f"{100 * check.max_increase:g} % are allowed"
            message = (
                f"the bound {_up(proof.upper)} is {grown:.3g} % above the baseline {_up(before)}, {allowed_growth}"
            )
            return _exceeded(item, proof, Verdict.REGRESSED, message, limits[-1], before)
    notes = (CONDITIONAL if proof.status == "conditional" else "", proof.note)
    return _result(item, proof, Verdict.PASS, "; ".join(filter(None, notes)), min(limits), before)


CONDITIONAL = "conditional: proven if the templates are true of their ops"

UPDATE = "run `lipcert gate --update-baseline`, and commit the file"


def _exceeded(item: Item, proof: Proof, verdict: Verdict, message: str, limit: float, before: float | None) -> Result:
    """Says whether a tighter bound could pass."""
    attained = shown(proof.lower, DIGITS, up=False)
    if proof.lower > limit:
        certainty = f"{attained} is attained, so that no better bound can pass"
    else:
        certainty = f"not proven to be below, {attained} is attained: a tighter bound might pass"
    notes = (f"{message}: {certainty}", CONDITIONAL if proof.status == "conditional" else "")
    return _result(item, proof, verdict, "; ".join(filter(None, notes)), limit, before)


def _up(bound: float) -> str:
    return shown(bound, DIGITS, up=True)


def _result(
    item: Item,
    proof: Proof,
    verdict: Verdict,
    message: str,
    limit: float | None = None,
    baseline: float | None = None,
    exit_status: int | None = None,
) -> Result:
    status = EXIT_STATUS[verdict] if exit_status is None else exit_status
    return Result(item, proof, verdict, limit, baseline, message, status)


def counts(run: GateRun) -> str:
    """How many of each verdict, of those that there are."""
    return ", ".join(f"{run.count(verdict)} {word}" for verdict, word in WORDS.items() if run.count(verdict)) or "none"


def summary(run: GateRun) -> str:
    """One line: how many of each verdict, and how many certificates were kept ones."""
    cached = sum(result.proof.cached for result in run.results)
    questions = f"{len(run.results)} question{'s' if len(run.results) != 1 else ''}"
    return f"{questions}: {counts(run)}; {cached} from kept certificates; {run.seconds:.1f} s"


WORDS = {
    Verdict.PASS: "passed",
    Verdict.FAIL: "failed",
    Verdict.REGRESSED: "regressed",
    Verdict.INCONCLUSIVE: "inconclusive",
    Verdict.ERROR: "could not be asked",
}


def sentence(result: Result) -> str:
    """The verdict with what it is about: for a log, or an annotation."""
    return f"{result.item.id}: {result.verdict}" + (f": {result.message}" if result.message else "")


def unfinished(items: Iterable[Item], note: str) -> dict[str, Proof]:
    """Proofs of items that were not come to."""
    return {item.id: Proof("unfinished", note=note) for item in items}
