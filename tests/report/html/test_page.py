"""Pages hold what the report says, and nothing of it as markup."""

from __future__ import annotations

import copy
import json
import re
from typing import Any

import numpy as np
import pytest

from lipcert.errors import CertificateError
from lipcert.planning.layers import layer_norms
from lipcert.report import check_report
from lipcert.report.consistency import check_consistent
from lipcert.report.html import Shown, render_fragment, render_page
from lipcert.report.html.body import BUILDERS
from lipcert.report.reading import AnyReport, Stored, parse_any
from lipcert.report.report import Report
from lipcert.report.schema import SCHEMAS
from tests.helpers.displays import HOSTILE, all_reports, bound_report, hostile_report, reach_report, small_model
from tests.helpers.pages import harmless


def page_of(*reports: AnyReport, **options: Any) -> str:
    return render_page([Shown(Stored(report), **options) for report in reports])


@pytest.mark.parametrize("report", all_reports(), ids=lambda report: type(report).__name__)
def test_a_page_says_what_the_report_does(report: AnyReport) -> None:
    check_consistent(report, "report")
    text = harmless(page_of(report))
    assert report.status in text
    assert report.data["model"]["sha256"] in text
    assert "not checked again when this page was made" in text
    assert "Float32 rounding of a deployed program is not covered" in text
    assert page_of(report) == page_of(report)


def test_bounds_are_rounded_so_that_they_stay_true() -> None:
    """Upper ones up, lower ones down, wherever they are shown."""
    data = copy.deepcopy(bound_report().data)
    data["result"] |= {"upper": 1.00000000001, "lower": 0.99999999999, "gap": 1.00000000002}
    text = harmless(page_of(Report(data)))
    assert "at most 1.0000001" in text
    assert "attained at least 0.99999999" in text
    ends = [float(v) for v in re.findall(r"\[(\S+), (\S+)\]", harmless(page_of(reach_report())))[0]]
    assert ends[0] <= reach_report().lower[0]
    assert ends[1] >= reach_report().upper[0]


def test_what_was_proven_again_is_said() -> None:
    model, report = small_model(), bound_report()
    layers = tuple(layer_norms(model.graph, 5.0))
    shown = Shown(Stored(report, "r.json", "f" * 64), "small.onnx", check_report(report, model), layers)
    text = harmless(render_page([shown]))
    assert "proven again when this page was made, for small.onnx, in float64 with proven error terms" in text
    assert "lipcert check r.json small.onnx" in text
    assert "f" * 64 in text
    assert "1. dense 5x4" in text
    assert "Left out" not in text


def test_paths_are_quoted_in_the_command() -> None:
    shown = Shown(Stored(bound_report(), "a; rm -rf $(x).json"))
    assert "lipcert check 'a; rm -rf $(x).json' small.onnx" in harmless(render_page([shown]))


def test_several_reports_have_an_overview() -> None:
    page = page_of(*all_reports())
    harmless(page)
    for i in range(1, 4):
        assert page.count(f'href="#report-{i}"') == page.count(f'id="report-{i}"') == 1


def test_an_inconclusive_report_claims_nothing() -> None:
    data = copy.deepcopy(bound_report().data)
    data["result"] |= {"status": "inconclusive", "upper": None, "gap": None, "method": None}
    data |= {"certificate": None, "attempts": []}
    report = Report(data)
    check_consistent(report, "report")
    text = harmless(page_of(report))
    assert "No bound was verified" in text
    assert "certified" not in text.lower()
    harmless(render_fragment(report))


def test_a_conditional_report_says_on_what() -> None:
    data = copy.deepcopy(bound_report().data)
    data["result"]["status"] = "conditional"
    data["model"]["templates"] = [{"name": "mine", "title": "t", "ops": ["Snake"], "text": _template()}]
    report = Report(data)
    check_consistent(report, "report")
    text = harmless(page_of(report))
    assert "that the template mine is true of Snake: nothing here proves that" in text
    assert "Certified" not in text


def _template() -> str:
    from lipcert.templates.library import folder

    return next(iter(sorted(folder().glob("*.toml")))).read_text(encoding="utf-8")


def test_a_fragment_stands_alone() -> None:
    for report in all_reports():
        fragment = report._repr_html_()
        harmless(fragment)
        selectors = re.findall(r"^([^@{}\n]+)\{", fragment, re.MULTILINE)
        assert all(".lipcert" in part for selector in selectors for part in selector.split(","))


def test_every_kind_of_report_has_a_page_and_a_schema() -> None:
    assert set(BUILDERS) == set(SCHEMAS) == {report.data["schema"] for report in all_reports()}


def test_text_of_a_report_is_text() -> None:
    report = hostile_report()
    check_consistent(report, "report")
    for page in (page_of(report, model=HOSTILE), page_of(report, *all_reports()), render_fragment(report)):
        text = harmless(page)
        assert "<script>" in text
        assert "{{ 7 * 7 }}" in text
        assert "\u202e" not in page


VALUES: tuple[Any, ...] = (HOSTILE, "", "\x00\x1b[2J", None, True, [], {}, [[]], -1, 0, 3, 1e308, -1e308, 5e-324, "inf")


@pytest.mark.parametrize("report", all_reports(), ids=lambda report: type(report).__name__)
def test_a_damaged_report_is_refused_or_shown_as_text(report: AnyReport) -> None:
    """Any value in any place: one error that names the file, or a page on which nothing runs."""
    rng, errors = np.random.default_rng(0), []
    places = [place for place in _places(report.data) if place[0] != "certificate" or rng.random() < 0.1]
    for place in places:
        data = copy.deepcopy(report.data)
        _at(data, place[:-1])[place[-1]] = VALUES[rng.integers(len(VALUES))]
        try:
            damaged = parse_any(json.dumps(data), "r.json")
            check_consistent(damaged, "r.json")
            harmless(render_page([Shown(Stored(damaged, "r.json"))]))
        except CertificateError as error:
            errors.append(error.message)
    assert all(message.startswith("r.json: ") for message in errors)
    assert len(places) / 4 < len(errors) < len(places)


def _places(data: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    parts = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ()
    return [(*path, key) for key, _ in parts] + [p for key, part in parts for p in _places(part, (*path, key))]


def _at(data: Any, path: tuple[Any, ...]) -> Any:
    for key in path:
        data = data[key]
    return data


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('"seconds": 1e999', "beyond float64"),
        (f'"seconds": 1{"0" * 400}', "beyond float64"),
        ('"seconds": "<b>"', "not of type 'number'"),
    ],
)
def test_numbers_that_are_none_are_refused(text: str, words: str) -> None:
    stored = re.sub(r'"seconds": [\d.e-]+', text, bound_report().to_json(), count=1)
    with pytest.raises(CertificateError, match=words):
        check_consistent(parse_any(stored, "r.json"), "r.json")


def test_numbers_that_contradict_each_other_are_refused() -> None:
    for result in ({"lower": 1e9}, {"status": "inconclusive"}, {"upper": None}):
        data = copy.deepcopy(bound_report().data)
        data["result"] |= result
        with pytest.raises(CertificateError, match=r"r\.json"):
            check_consistent(Report(data), "r.json")
    box = copy.deepcopy(reach_report())
    box.data["result"]["lower"][0] -= 1.0
    with pytest.raises(CertificateError, match="not those of the certificate"):
        check_consistent(box, "r.json")
