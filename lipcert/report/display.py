"""How a report shows itself in a notebook. Everything that draws is imported when it is asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from lipcert.report.reading import AnyReport


class Displayed:
    """What reports of every kind have in common."""

    def _repr_html_(self) -> str:
        """The verdict, what was asked and the chart, as a notebook shows it."""
        from lipcert.report.html import render_fragment

        return render_fragment(cast("AnyReport", self))

    def plot(self, axes: Axes | None = None) -> Axes:
        """Draw what is proven and what is attained by matplotlib, into new axes unless some are given.

        Needs the extra `plot`. UsageError where that is missing, or nothing was proven that could be drawn.
        """
        from lipcert.report.chart import chart_of
        from lipcert.report.plot import draw

        return draw(chart_of(cast("AnyReport", self)), axes)
