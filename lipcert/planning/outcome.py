"""What a run found."""

from __future__ import annotations

from dataclasses import dataclass, field

from lipcert.certificate import Claim, Witness


@dataclass(frozen=True)
class Attempt:
    """One claim that a method made, or its reason for making none.

    `status` is certified (verified), refused (the verifier said no), or skipped.
    """

    method: str
    status: str
    upper: float | None
    seconds: float
    reason: str = ""


@dataclass
class Outcome:
    """The best verified claim and witness so far; anytime."""

    claim: Claim | None = None
    method: str | None = None
    witness: Witness | None = None
    lower: float = 0.0
    attempts: list[Attempt] = field(default_factory=list)
    seconds: float = 0.0
    interrupted: bool = False
    timed_out: bool = False

    @property
    def upper(self) -> float | None:
        return None if self.claim is None else self.claim.value

    @property
    def gap(self) -> float | None:
        """upper / lower; None where the lower bound is 0 or there is no upper one."""
        return self.upper / self.lower if self.upper is not None and self.lower > 0 else None
