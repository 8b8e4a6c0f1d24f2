"""Why a rule did not match."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Miss:
    """What the rule looks for, and the first thing that speaks against it."""

    what: str
    reason: str
