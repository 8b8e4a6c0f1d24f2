"""The committed bounds that `max_increase` compares with: small JSON whose diff a reviewer reads."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lipcert.errors import UsageError
from lipcert.report.terminal import shown
from lipcert.report.writing import write_text

SCHEMA = "lipcert/baseline/1"

UPDATE = "`lipcert gate --update-baseline` writes it"

DIGITS = 6
DIGEST = 16


@dataclass(frozen=True)
class Entry:
    """A bound that was proven, and of which query (the first digits of its digest)."""

    bound: float
    query: str

    @staticmethod
    def of(bound: float, query: str) -> Entry:
        """The bound rounded up, so that what another machine proves makes no diff."""
        return Entry(float(shown(bound, DIGITS, up=True)), query[:DIGEST])

    def is_of(self, query: str) -> bool:
        return self.query == query[:DIGEST]


def read_baseline(path: Path) -> dict[str, Entry] | None:
    """Entries by the id of their item; None where there is no file."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"), parse_constant=_refuse)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise UsageError(f"baseline: {path}: {error.strerror}", hint="check the path") from None
    except (ValueError, RecursionError) as error:
        raise UsageError(f"baseline: {path}: not JSON: {error}", hint=UPDATE) from None
    bounds = data.get("bounds") if isinstance(data, dict) and data.get("schema") == SCHEMA else None
    if not isinstance(bounds, dict):
        raise UsageError(f"baseline: {path}: not a {SCHEMA} file", hint=UPDATE)
    return {name: _entry(entry, f"baseline: {path}: {name}") for name, entry in bounds.items()}


def write_baseline(path: Path, entries: Mapping[str, Entry]) -> None:
    """Sorted, an entry a line."""
    lines = (
        f"    {json.dumps(name)}: {json.dumps({'bound': e.bound, 'query': e.query}, allow_nan=False)}"
        for name, e in sorted(entries.items())
    )
    body = ",\n".join(lines)
    bounds = f"{{\n{body}\n  }}" if body else "{}"
    write_text(f'{{\n  "schema": {json.dumps(SCHEMA)},\n  "bounds": {bounds}\n}}\n', str(path), "baseline")


def _entry(data: Any, where: str) -> Entry:
    parts: dict[str, Any] = data if isinstance(data, dict) else {}
    bound: Any = parts.get("bound")
    if type(bound) not in (int, float) or not 0 <= bound <= sys.float_info.max:
        raise UsageError(f"{where}: bound is not a finite number >= 0", hint=UPDATE)
    if not isinstance(parts.get("query"), str):
        raise UsageError(f"{where}: query is not a text", hint=UPDATE)
    return Entry(float(bound), parts["query"])


def _refuse(name: str) -> float:
    raise ValueError(f"{name} is not a JSON number")
