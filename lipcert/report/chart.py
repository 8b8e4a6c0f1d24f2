"""Charts as plain data: intervals on one axis, proven and attained, drawn in HTML and by matplotlib."""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass

import numpy as np

from lipcert.certificate.encoding import decode_query
from lipcert.errors import CertificateError, UsageError
from lipcert.problem import Margin, Query, SomeOutputs
from lipcert.report.monotone import MonotoneReport
from lipcert.report.reach import ReachReport
from lipcert.report.reading import AnyReport
from lipcert.report.report import Report
from lipcert.report.robustness import RobustnessReport
from lipcert.report.wording import shown

MAX_BARS = 40
"""Intervals that are drawn; tables hold more."""

WIDE = 50.0
"""A ratio of values that begin at zero from which their axis is logarithmic."""

CORNERS = 1000
"""Of a curve, at most."""

TICKS = 5
"""On an axis, about."""


@dataclass(frozen=True)
class Bar:
    """An interval, and one that is certainly needed in it. Ends are infinite where nothing is proven."""

    label: str
    value: str
    low: float
    high: float
    inner: tuple[float, float] | None = None


@dataclass(frozen=True)
class Axis:
    """From low to high: exponents of ten where it is logarithmic."""

    low: float
    high: float
    logarithmic: bool
    ticks: tuple[tuple[float, str], ...]
    """Places from 0 to 1, and what stands there."""

    def place(self, value: float) -> float:
        """From 0 to 1; beyond the ends, the end."""
        if self.logarithmic:
            value = math.log10(value) if value > 0 else -math.inf
        if math.isinf(value):
            return float(value > 0)
        # halves, since the difference of large numbers may be infinite
        return min(1.0, max(0.0, (value / 2 - self.low / 2) / (self.high / 2 - self.low / 2)))


@dataclass(frozen=True)
class Chart:
    """`outer` and `inner` say what the intervals are."""

    title: str
    bars: tuple[Bar, ...]
    outer: str
    inner: str = ""

    @property
    def axis(self) -> Axis:
        """One that holds all finite ends; zero too, where that is not far."""
        ends = [v for bar in self.bars for v in (bar.low, bar.high, *(bar.inner or ())) if math.isfinite(v)]
        positive = [v for v in ends if v > 0]
        if positive and min(ends) == 0 and max(ends) > WIDE * min(positive):
            return _logarithmic(min(positive), max(ends))
        return _linear(min(ends, default=0.0), max(ends, default=0.0))


@dataclass(frozen=True)
class Steps:
    """Two shares that fall along an axis from zero: one that is certain, below one that is possible.

    Corners (place, share) say from where on the share is what; the first is at zero.
    """

    title: str
    across: str
    """What the axis is."""

    axis: Axis
    certain: tuple[tuple[float, float], ...]
    possible: tuple[tuple[float, float], ...]
    outer: str
    inner: str


def chart_of(report: AnyReport) -> Chart | Steps:
    """The one that says most about a report of this kind; UsageError where nothing was proven."""
    if isinstance(report, ReachReport):
        return reach_chart(report)
    if isinstance(report, RobustnessReport):
        return accuracy_curve(report)
    return share_chart(report) if isinstance(report, MonotoneReport) else bound_chart(report)


def bound_chart(report: Report) -> Chart:
    """The bound, and what is attained, on one scale."""
    if report.upper is None:
        raise UsageError("the report is inconclusive: there is no bound to draw")
    value = f"at most {shown(report.upper, 8, up=True)}"
    bar = Bar("Lipschitz constant", value, 0.0, report.upper, (0.0, report.lower))
    return Chart("The bound, and what is attained", (bar,), "up to the bound", "attained at the witness")


def attempts_chart(report: Report) -> Chart | None:
    """Verified bounds in the order in which they were found; None where there is none."""
    seen = (0.0, report.lower) if report.lower > 0 else None
    verified = [
        Bar(f"{i}. {a['method']}", f"{shown(a['upper'], 7, up=True)}, {a['seconds']:.3g} s", 0.0, a["upper"], seen)
        for i, a in enumerate(report.data["attempts"], 1)
        if a["status"] in ("certified", "conditional")
    ]
    if not verified:
        return None
    return Chart(
        "Verified bounds, one after another", tuple(verified[-MAX_BARS:]), "up to the bound", "attained" if seen else ""
    )


def reach_chart(report: ReachReport) -> Chart:
    """The box, an interval for each output, and what is attained in it."""
    query, attained = decode_query(report.data["query"]), report.attained
    bars = []
    for j, (low, high) in enumerate(zip(report.lower[:MAX_BARS].tolist(), report.upper.tolist(), strict=False)):
        seen = None if attained is None else (float(attained[0][j]), float(attained[1][j]))
        value = f"[{shown(low, 6, up=False)}, {shown(high, 6, up=True)}]"
        inner = seen if seen is not None and seen[0] <= seen[1] else None  # one value, up to rounding
        bars.append(Bar(output_name(query, j), value, low, high, inner))
    return Chart("Where outputs can go", tuple(bars), "not beyond, proven", "attained" if attained is not None else "")


def share_chart(report: MonotoneReport) -> Chart:
    """The share of the region on which the sign is proven."""
    value = f"{shown(100 * report.share, 6, up=False)} %"
    bar = Bar("Share of the region", value, 0.0, 1.0, (0.0, report.share))
    return Chart("Where the sign is proven", (bar,), "the region", "proven")


def accuracy_curve(report: RobustnessReport) -> Steps:
    """By radius: certified accuracy, and above it that under attack; the truth lies between."""
    samples, attacked = report.samples, report.attack_accuracy
    count = max(1, len(samples))
    radii = np.sort([float(r["radius"]) for r in samples if r["predicted"] == r["label"]])
    spread = float(np.quantile(radii[np.isfinite(radii)], 0.95)) if np.isfinite(radii).any() else 0.0
    axis = _linear(0.0, max(1.1 * max(attacked, default=0.0), spread))
    ends = np.floor(np.minimum(radii, axis.high) * (CORNERS / axis.high)) * (
        axis.high / CORNERS
    )  # not beyond its radius
    places, first = np.unique(ends, return_index=True)
    left = (len(radii) - np.append(first[1:], len(radii))[: len(first)]) / count
    standing = sum(r["attacked"] != 0 for r in samples) / count
    return Steps(
        title="Accuracy by radius",
        across=f"radius of the closed ball, l{report.data['query']['norm']}",
        axis=axis,
        certain=((0.0, len(radii) / count), *zip(places.tolist(), left.tolist(), strict=True)),
        possible=((0.0, standing), *attacked.items()),
        outer="up to the accuracy under attack",
        inner="certified",
    )


def percent(share: float, *, up: bool) -> str:
    """Of a share that is proven from one side."""
    return f"{shown(100 * share, 4, up=up)} %"


def output_name(query: Query, j: int) -> str:
    """What entry j of the query's outputs is; CertificateError where there is none."""
    chosen = query.outputs
    count = 1 if isinstance(chosen, Margin) else len(chosen.indices) if isinstance(chosen, SomeOutputs) else j + 1
    if not j < count:
        raise CertificateError(f"there is no output {j} among the {count} of the query")
    if isinstance(chosen, Margin):
        return chosen.describe()
    return f"output {chosen.indices[j] if isinstance(chosen, SomeOutputs) else j}"


def _linear(low: float, high: float) -> Axis:
    if low == high:
        low, high = min(low, 0.0), max(high, 0.0)
    if low == high:
        high = 1.0
    step = _step(high / TICKS - low / TICKS)
    first, last = math.floor(low / step) * step, math.ceil(high / step) * step
    if not math.isfinite(first - last):
        largest = sys.float_info.max
        first, last = -largest if low < 0 else 0.0, largest if high > 0 else 0.0
        return Axis(first, last, False, ((0.0, f"{first:.2g}"), (1.0, f"{last:.2g}")))
    axis = Axis(first, last, False, ())
    values = [first + i * step for i in range(round(last / step - first / step) + 1)]
    return Axis(first, last, False, tuple((axis.place(v), f"{_tidy(v, step):.6g}") for v in values))


def _tidy(value: float, step: float) -> float:
    """Zero is not 1e-17."""
    return 0.0 if abs(value) < step / 2 else value


def _step(rough: float) -> float:
    """1, 2 or 5 times a power of ten, not below."""
    power = 10.0 ** math.floor(math.log10(max(rough, 1e-300)))
    return next((k * power for k in (1, 2, 5) if k * power >= rough), 10 * power)


def _logarithmic(low: float, high: float) -> Axis:
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    first -= first == math.log10(low)  # the smallest value is not at the very end, where nothing would be seen of it
    stride = max(1, math.ceil((last - first) / TICKS))
    last = first + stride * math.ceil((last - first) / stride)
    exponents = range(first, last + 1, stride)
    return Axis(first, last, True, tuple(((e - first) / (last - first), f"1e{e}") for e in exponents))
