"""A chart as SVG. Places along the axis are in percent: text keeps its size on a narrow screen."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup, escape

from lipcert.errors import printable
from lipcert.report.chart import Axis, Bar, Chart, Steps

ROW, TOP, THICK, FOOT = 46, 18, 14, 26
"""Pixels: a bar with its text, the text alone, the bar alone, the axis."""


PLOT, UNITS = 200, 1000
"""Pixels of the height of a curve; its own units, which stretch with the screen."""


def draw(chart: Chart | Steps) -> Markup:
    """An image to screen readers, labelled with the title: the numbers are in the table beside it."""
    return _curve(chart) if isinstance(chart, Steps) else _bars(chart)


def _curve(chart: Steps) -> Markup:
    axis, foot = chart.axis, TOP + PLOT
    upright = ((_percent(x), _percent(x), TOP, foot) for x, _ in axis.ticks)
    level = [(share, foot - round(PLOT * share)) for share in (0.0, 0.25, 0.5, 0.75, 1.0)]
    areas = (("outer", chart.possible), ("inner", chart.certain))
    return _tag(
        "svg",
        _tag(
            "svg",
            *(_area(corners, axis, name) for name, corners in areas),
            viewBox=f"0 0 {UNITS} {UNITS}",
            preserveAspectRatio="none",
            y=TOP,
            width="100%",
            height=PLOT,
        ),
        *(_tag("line", x1=x1, x2=x2, y1=y1, y2=y2, class_="grid") for x1, x2, y1, y2 in upright),
        *(_tag("line", x1=0, x2="100%", y1=y, y2=y, class_="grid") for _, y in level),
        *(_tag("text", f"{share:.0%}", x="100%", y=y - 3, class_="value over") for share, y in level[1:]),
        *(_tick(x, label, foot + 16) for x, label in axis.ticks),
        _tag("text", chart.across, x="50%", y=foot + 34, class_="tick", text_anchor="middle"),
        role="img",
        aria_label=chart.title,
        class_="chart",
        width="100%",
        height=foot + 40,
    )


def _area(corners: Sequence[tuple[float, float]], axis: Axis, name: str) -> Markup:
    """Below a falling step function."""
    steps = "".join(f"H{UNITS * axis.place(x):.1f}V{UNITS * (1 - share):.1f}" for x, share in corners)
    return _tag("path", d=f"M0 {UNITS}{steps}H{UNITS}V{UNITS}Z", class_=name)


def _bars(chart: Chart) -> Markup:
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
