"""Sheets as HTML, by templates that escape everything: a report is untrusted, and no script runs on a page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from importlib.metadata import version
from importlib.resources import files
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from lipcert.errors import printable
from lipcert.report.consistency import check_consistent
from lipcert.report.html import svg
from lipcert.report.html.content import Sheet
from lipcert.report.html.sheet import Shown, build_sheet
from lipcert.report.reading import AnyReport, Stored


def render_page(items: Sequence[Shown]) -> str:
    """One page with every report, which opens offline: nothing in it is fetched from anywhere."""
    return render_sheets([build_sheet(item) for item in items])


def render_sheets(sheets: Sequence[Sheet]) -> str:
    """The same of what is laid out already."""
    return _render("page.html.j2", sheets=sheets)


def render_fragment(report: AnyReport) -> str:
    """A part of a page, for notebooks: the verdict, what was asked, and the first chart."""
    check_consistent(report, "the report")
    sheet = build_sheet(Shown(Stored(report)))
    shown = replace(sheet, sections=sheet.sections[:1], checked="lipcert.check proves it again, from the model file")
    return _render("fragment.html.j2", sheet=shown)


def _render(template: str, **values: Any) -> str:
    style = Markup(files(__package__).joinpath("style.css").read_text(encoding="utf-8"))
    return _environment().get_template(template).render(style=style, version=version("lipcert"), **values)


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("lipcert.report.html"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_visible,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["svg"] = svg.draw
    return environment


def _visible(value: Any) -> Any:
    """Text without characters that steer how it is shown; markup of ours as it is."""
    return value if isinstance(value, Markup) else printable(str(value))
