"""Two networks beside each other, `lipcert/compare/1`: whole reports of both, and what their numbers prove together."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import zip_longest
from typing import TYPE_CHECKING, Any

from lipcert.report.report import Report, describe_tool

if TYPE_CHECKING:
    from lipcert.planning.layers import LayerNorms

COMPARE_SCHEMA = "lipcert/compare/1"


@dataclass(frozen=True)
class Comparison:
    """A finished comparison. `data` is the JSON document; `before` and `after` in it are whole reports."""

    data: dict[str, Any]

    @property
    def before(self) -> Report:
        return Report(self.data["before"])

    @property
    def after(self) -> Report:
        return Report(self.data["after"])

    @property
    def change(self) -> str:
        """Of the constant itself: increased or decreased, where that is proven; same, of one model; undecided."""
        return str(self.data["result"]["change"])

    @property
    def ratio(self) -> float | None:
        """The bound after over the bound before; None where there are not both, or the bound before is 0."""
        return self.data["result"]["ratio"]

    def exceeds(self, increase: float) -> bool:
        """Whether the bound after is above (1 + increase) times the bound before, in exact arithmetic."""
        before, after = self.before.upper, self.after.upper
        assert before is not None
        assert after is not None
        return Fraction(after) > (1 + Fraction(increase)) * Fraction(before)

    def to_json(self, indent: int | None = 2) -> str:
        return json.dumps(self.data, indent=indent, allow_nan=False)

    def __repr__(self) -> str:
        return f"Comparison(change={self.change!r}, before={self.before.upper}, after={self.after.upper})"


def build_comparison(
    before: Report, after: Report, layers: tuple[Sequence[LayerNorms], Sequence[LayerNorms]] | None = None
) -> Comparison:
    """Of reports that answer the same query; layers are paired in the order of the files."""
    pairs = None if layers is None else [[_norms(a), _norms(b)] for a, b in zip_longest(*layers)]
    return Comparison(
        {
            "schema": COMPARE_SCHEMA,
            "tool": describe_tool(),
            "result": {"change": _change(before, after), "ratio": _ratio(before.upper, after.upper)},
            "layers": pairs,
            "before": before.data,
            "after": after.data,
        }
    )


def _change(before: Report, after: Report) -> str:
    identity = ("sha256", "external_data")
    if all(before.data["model"][name] == after.data["model"][name] for name in identity):
        return "same"
    if before.upper is not None and after.lower > before.upper:
        return "increased"
    if after.upper is not None and after.upper < before.lower:
        return "decreased"
    return "undecided"


def _ratio(before: float | None, after: float | None) -> float | None:
    if before is None or after is None or before == 0:
        return None
    ratio = after / before
    return ratio if math.isfinite(ratio) else None


def _norms(layer: LayerNorms | None) -> dict[str, Any] | None:
    if layer is None:
        return None
    numbers = {name: getattr(layer, name) for name in ("l1", "l2", "linf", "attained")}
    finite = {name: value if math.isfinite(value) else None for name, value in numbers.items()}
    return {"node": layer.origin, "operator": layer.operator, **finite}
