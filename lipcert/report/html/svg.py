"""A chart as SVG. Places along the axis are in percent: text keeps its size on a narrow screen."""

from __future__ import annotations

from markupsafe import Markup, escape

from lipcert.errors import printable
from lipcert.report.chart import Axis, Bar, Chart

ROW, TOP, THICK, FOOT = 46, 18, 14, 26
"""Pixels: a bar with its text, the text alone, the bar alone, the axis."""


def draw(chart: Chart) -> Markup:
    """An image to screen readers, labelled with the title: the numbers are in the table beside it."""
    axis, height = chart.axis, ROW * len(chart.bars)
    parts = [
        *(_bar(bar, axis, ROW * i) for i, bar in enumerate(chart.bars)),
        *(_tick(x, label, height + 18) for x, label in axis.ticks),
    ]
    return _tag("svg", *parts, role="img", aria_label=chart.title, class_="chart", width="100%", height=height + FOOT)


def _bar(bar: Bar, axis: Axis, y: int) -> Markup:
    spans = [(bar.low, bar.high, "outer")]
    if bar.inner is not None:
        spans.append((*bar.inner, "inner"))
    lines = ((_percent(x), y + TOP - 2, y + TOP + THICK + 2) for x, _ in axis.ticks)
    return _tag(
        "g",
        *(_tag("line", x1=x, x2=x, y1=top, y2=foot, class_="grid") for x, top, foot in lines),
        _tag("text", bar.label, x=0, y=y + TOP - 4, class_="label"),
        _tag("text", bar.value, x="100%", y=y + TOP - 4, class_="value"),
        *(_span(axis.place(low), axis.place(high), y + TOP, name) for low, high, name in spans),
    )


def _span(start: float, end: float, y: int, name: str) -> Markup:
    shape = _tag("rect", class_=name, x=_percent(start), width=_percent(end - start), y=y, height=THICK)
    # an interval of no width is seen, too
    return shape + _tag("line", x1=_percent(end), x2=_percent(end), y1=y, y2=y + THICK, class_=f"{name} end")


def _tick(x: float, label: str, y: int) -> Markup:
    anchor = "start" if x < 0.05 else "end" if x > 0.95 else "middle"
    return _tag("text", label, x=_percent(x), y=y, class_="tick", text_anchor=anchor)


def _percent(share: float) -> str:
    return f"{100 * share:.3f}%"


def _tag(name: str, *content: Markup | str, **attributes: str | int) -> Markup:
    """An element; text and attributes are escaped. `class_` and `aria_label` are class and aria-label."""
    named = ((key.rstrip("_").replace("_", "-"), value) for key, value in attributes.items())
    head = Markup("").join(Markup(' {}="{}"').format(key, printable(str(value))) for key, value in named)
    body = Markup("").join(part if isinstance(part, Markup) else escape(printable(part)) for part in content)
    return Markup("<{0}{1}>{2}</{0}>").format(name, head, body)
