"""What a policy asks, one by one: a check of a model, at a row of its data where it has rows."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path

from lipcert.errors import UsageError
from lipcert.gate.policy import Check, Policy
from lipcert.problem.reading import RegionText

MAX_ITEMS = 10_000


@dataclass(frozen=True)
class Item:
    """One question, whose answer has a verdict. `id` is stable: it is what the baseline knows it by."""

    id: str
    check: Check
    model: Path
    shown: str
    """The model, relative to the policy's folder."""
    row: int | None = None

    @property
    def region(self) -> RegionText:
        region = self.check.region
        return region if self.row is None else replace(region, row=self.row)


def items_of(policy: Policy) -> list[Item]:
    """In the order of the policy; UsageError where a pattern finds nothing or is refused."""
    items: list[Item] = []
    for check in policy.checks:
        found: dict[Path, None] = {}
        for pattern in check.models:
            try:
                found.update(dict.fromkeys(policy.root.files(pattern)))
            except UsageError as error:
                where = f"{policy.path}, line {check.line}: check {check.name!r}: models"
                raise UsageError(f"{where}: {error.message}", hint=error.hint) from None
        for model in found:
            shown = policy.root.shown(model)
            name = f"{check.name}:{shown}"
            if check.rows is None:
                items.append(Item(name, check, model, shown))
            else:
                items.extend(Item(f"{name}:{row}", check, model, shown, row) for row in check.rows[: MAX_ITEMS + 1])
        if len(items) > MAX_ITEMS:
            raise UsageError(f"{policy.path}: more than {MAX_ITEMS} questions", hint="name fewer models or rows")
    return items


def selected(items: Sequence[Item], patterns: Sequence[str]) -> list[Item]:
    """Those whose id, check or model a pattern matches; UsageError where one matches none."""
    chosen: set[str] = set()
    for pattern in patterns:
        hits = [i.id for i in items if any(fnmatchcase(name, pattern) for name in (i.id, i.check.name, i.shown))]
        if not hits:
            names = dict.fromkeys(name for i in items for name in (i.check.name, i.shown, i.id))
            close = difflib.get_close_matches(pattern, list(names), n=1)
            hint = f"did you mean {close[0]}?" if close else "give a check, a model, or a pattern of them"
            raise UsageError(f"--select: nothing is called {pattern!r}", hint=hint)
        chosen.update(hits)
    return [i for i in items if i.id in chosen]
