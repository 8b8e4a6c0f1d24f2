"""Verdicts: what is proven of an item, against its limit and its baseline."""

from __future__ import annotations

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
    allowed_by_baseline = None
    if check.max_increase is not None:
        if baseline is None:
            return _result(item, proof, Verdict.ERROR, f"it is not in the baseline: {UPDATE}", exit_status=2)
        if not baseline.is_of(proof.query):
            reason = f"the baseline is of another question under this name: {UPDATE}"
            return _result(item, proof, Verdict.ERROR, reason, exit_status=2)
        allowed_by_baseline = baseline.bound * (1 + check.max_increase)
    before = None if baseline is None else baseline.bound
    bound = shown(proof.upper, DIGITS, up=True)
    if check.maximum is not None and proof.upper > check.maximum:
        message = f"the bound {bound} is above max {check.maximum:g}: {_certainty(proof, check.maximum)}"
        return _result(item, proof, Verdict.FAIL, message, check.maximum, before)
    if allowed_by_baseline is not None and before is not None and proof.upper > allowed_by_baseline:
        grown = f"{100 * (proof.upper / before - 1):.3g} %" if before > 0 else "all of it"
        message = (
            f"the bound {bound} is {grown} above the baseline {before:.{DIGITS}g}, "
            f"{100 * (check.max_increase or 0):g} % are allowed: {_certainty(proof, allowed_by_baseline)}"
        )
        return _result(item, proof, Verdict.REGRESSED, message, allowed_by_baseline, before)
    limits = [limit for limit in (check.maximum, allowed_by_baseline) if limit is not None]
    return _result(item, proof, Verdict.PASS, proof.note, min(limits), before)


UPDATE = "run `lipcert gate --update-baseline`, and commit the file"


def _certainty(proof: Proof, limit: float) -> str:
    """Whether a tighter bound could pass."""
    attained = shown(proof.lower, DIGITS, up=False)
    if proof.lower > limit:
        return f"{attained} is attained, so that no better bound can pass"
    return f"not proven to be below, {attained} is attained: a tighter bound might pass"


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


def summary(run: GateRun) -> str:
    """One line: how many of each verdict, and how many certificates were kept ones."""
    counts = ", ".join(f"{run.count(verdict)} {word}" for verdict, word in WORDS.items() if run.count(verdict))
    cached = sum(result.proof.cached for result in run.results)
    questions = f"{len(run.results)} question{'s' if len(run.results) != 1 else ''}"
    return f"{questions}: {counts or 'none'}; {cached} from kept certificates; {run.seconds:.1f} s"


WORDS = {
    Verdict.PASS: "passed",
    Verdict.FAIL: "failed",
    Verdict.REGRESSED: "regressed",
    Verdict.INCONCLUSIVE: "inconclusive",
    Verdict.ERROR: "could not be asked",
}


def sentence(result: Result) -> str:
    """The verdict with what it is about: for a log, or an annotation."""
    status = ", conditional on templates" if result.proof.status == "conditional" else ""
    return f"{result.item.id}: {result.verdict}{status}" + (f": {result.message}" if result.message else "")


def unfinished(items: Iterable[Item], note: str) -> dict[str, Proof]:
    """Proofs of items that were not come to."""
    return {item.id: Proof("unfinished", note=note) for item in items}
