"""Charts by matplotlib, which is the extra `plot`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lipcert.errors import UsageError, printable
from lipcert.report.chart import Chart, Steps

if TYPE_CHECKING:
    from matplotlib.axes import Axes

INNER, OUTER = "#1f5fa8", "#b9d3ee"


def draw(chart: Chart | Steps, axes: Axes | None = None) -> Axes:
    """Bars, or a curve."""
    rows = 8 if isinstance(chart, Steps) else len(chart.bars)
    axes = _new(rows) if axes is None else axes
    axes.set_title(chart.title)
    if isinstance(chart, Steps):
        _curve(chart, axes)
    else:
        _bars(chart, axes)
    below = -0.8 / (1 + rows)
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, below), ncols=2, frameon=False)
    return axes


def _curve(chart: Steps, axes: Axes) -> None:
    for corners, colour, name in ((chart.possible, OUTER, chart.outer), (chart.certain, INNER, chart.inner)):
        places, shares = zip(*corners, (chart.axis.high, corners[-1][1]), strict=True)
        axes.fill_between(places, shares, step="post", color=colour, label=name, linewidth=0)
    axes.set_xlim(chart.axis.low, chart.axis.high)
    axes.set_ylim(0, 1)
    axes.set_xlabel(chart.across)


def _bars(chart: Chart, axes: Axes) -> None:
    """A horizontal bar for each interval; ends that are not finite are those of the axis."""
    axis = chart.axis
    low, high = (10.0**end if axis.logarithmic else end for end in (axis.low, axis.high))
    axes.set_xscale("log" if axis.logarithmic else "linear")
    axes.set_xlim(low, high)
    for i, bar in enumerate(chart.bars):
        spans = [(bar.low, bar.high, OUTER, chart.outer)]
        if bar.inner is not None:
            spans.append((*bar.inner, INNER, chart.inner))
        for start, end, colour, name in spans:
            left, right = (min(max(v, low), high) for v in (start, end))
            label = name if i == 0 else None
            axes.barh(i, right - left, left=left, height=0.6, color=colour, edgecolor=INNER, label=label)
    # a dollar sign would begin a formula
    axes.set_yticks(range(len(chart.bars)), [printable(bar.label).replace("$", r"\$") for bar in chart.bars])
    axes.set_ylim(len(chart.bars) - 0.4, -0.6)


def _new(rows: int) -> Axes:
    try:
        from matplotlib import pyplot
    except ImportError:
        raise UsageError("plot needs matplotlib, which is not installed", hint="pip install 'lipcert[plot]'") from None
    _, axes = pyplot.subplots(figsize=(7.0, 1.8 + 0.35 * rows), layout="constrained")
    return axes
