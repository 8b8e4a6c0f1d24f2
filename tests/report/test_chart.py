"""Charts: every end has its place on the axis, whatever the numbers are."""

from __future__ import annotations

import math
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lipcert.errors import CertificateError, UsageError
from lipcert.problem import Margin, Query, SomeOutputs
from lipcert.report.chart import Bar, Chart, accuracy_curve, bound_chart, output_name
from lipcert.report.report import Report
from lipcert.report.robustness import RobustnessReport
from lipcert.report.wording import shown
from tests.helpers.displays import all_reports, bound_report

FLOATS = st.floats(allow_nan=False, allow_infinity=True)


def chart(*ends: tuple[float, float]) -> Chart:
    return Chart("", tuple(Bar("", "", low, high) for low, high in ends), "")


@given(st.lists(FLOATS, min_size=1, max_size=6))
def test_places_keep_the_order_of_values(values: list[float]) -> None:
    axis = chart(*((v, v) for v in values)).axis
    places = [axis.place(v) for v in sorted(values)]
    assert all(0 <= p <= 1 for p in places)
    assert places == sorted(places)
    assert all(0 <= p <= 1 for p, _ in axis.ticks)


@given(st.floats(min_value=5e-324, max_value=sys.float_info.max), st.floats(min_value=5e-324, max_value=1e308))
def test_bars_from_zero_have_an_axis_from_zero(first: float, second: float) -> None:
    axis = chart((0.0, first), (0.0, second)).axis
    assert axis.place(0.0) == 0.0
    assert (axis.place(first) < axis.place(second)) == (first < second) or math.isclose(first, second, rel_tol=1e-6)


def test_ticks_are_round_numbers() -> None:
    assert [label for _, label in chart((0.0, 109.9)).axis.ticks] == ["0", "50", "100", "150"]
    assert [label for _, label in chart((-0.3, 0.1)).axis.ticks] == ["-0.3", "-0.2", "-0.1", "0", "0.1"]
    assert [label for _, label in chart((0.0, 2e5), (0.0, 3.0)).axis.ticks] == ["1e0", "1e2", "1e4", "1e6"]


@pytest.mark.parametrize("ends", [(), ((0.0, 0.0),), ((-math.inf, math.inf),), ((-1.7e308, 1.7e308),), ((7.0, 7.0),)])
def test_every_chart_has_an_axis(ends: tuple[tuple[float, float], ...]) -> None:
    axis = chart(*ends).axis
    assert axis.low < axis.high
    assert axis.place(-math.inf) == 0
    assert axis.place(math.inf) == 1


def test_outputs_have_their_numbers_in_the_model() -> None:
    assert output_name(Query(outputs=SomeOutputs((7, 2))), 1) == "output 2"
    assert output_name(Query(outputs=Margin(7, 2)), 0) == "output 7 minus 2"
    assert output_name(Query(), 5) == "output 5"
    with pytest.raises(CertificateError, match="no output 2"):
        output_name(Query(outputs=SomeOutputs((7, 2))), 2)


RADII = st.one_of(st.sampled_from((0.0, 0.1, 0.25, math.inf)), st.floats(min_value=0.0, max_value=1.0))
SAMPLES = st.lists(st.tuples(RADII, st.booleans(), st.sampled_from((None, 0.0, 0.1, 0.25))), max_size=8)


@given(SAMPLES, st.lists(st.floats(min_value=0.0, max_value=2.0), max_size=8))
def test_a_curve_of_accuracy_claims_no_more_than_is_proven(
    samples: list[tuple[float, bool, float | None]], places: list[float]
) -> None:
    rows = [
        {"radius": radius, "label": 1, "predicted": int(right), "attacked": attacked}
        for radius, right, attacked in samples
    ]
    radii = [
        {"eps": eps, "standing": sum(a is None or a > eps for _, _, a in samples), "certified": 0}
        for eps in (0.1, 0.25)
    ]
    result = {"finished": len(samples), "radii": radii}
    curve = accuracy_curve(RobustnessReport({"query": {"norm": "2"}, "samples": rows, "result": result}))
    count = max(1, len(samples))
    for place in (*places, 0.0, 0.1, 0.25, *(r for r, _, _ in samples)):
        certain = [share for at, share in curve.certain if at <= place][-1]
        proven = sum(right and radius > place for radius, right, _ in samples) / count
        at_least = sum(right and radius >= place + curve.axis.high / 999 for radius, right, _ in samples) / count
        assert at_least <= certain <= proven or place >= curve.axis.high or place == 0
        possible = [share for at, share in curve.possible if at <= place][-1]
        assert (
            possible
            == sum(a is None or (a > 0 and not any(a <= e <= place for e in (0.1, 0.25))) for _, _, a in samples)
            / count
        )


def test_numbers_are_written_out_where_their_digits_are_known() -> None:
    assert [shown(v, 4, up=True) for v in (100.0, 20.0, 1234.0, 12345.0, 0.00001, 99.999)] == [
        "100", "20", "1234", "1.235e+4", "0.00001001", "100"
    ]  # fmt: skip


def test_a_plot_draws_what_the_report_says() -> None:
    matplotlib = pytest.importorskip("matplotlib")
    matplotlib.use("agg")
    from matplotlib import pyplot

    report = bound_report()
    axes = report.plot()
    widths = [bar.get_width() for bar in axes.patches]
    assert np.allclose(widths, [report.upper, report.lower])
    assert report.plot(axes) is axes
    for other in all_reports():
        other.plot().figure.canvas.draw()
    pyplot.close("all")


def test_a_plot_without_matplotlib_is_one_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(UsageError, match="plot needs matplotlib"):
        bound_report().plot()


def test_nothing_proven_is_nothing_drawn() -> None:
    report = Report({"result": {"status": "inconclusive", "upper": None}})
    with pytest.raises(UsageError, match="inconclusive"):
        bound_chart(report)
