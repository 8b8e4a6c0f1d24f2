"""What a page is made of, before it is HTML. Every string is plain text, possibly hostile: templates escape it."""

from __future__ import annotations

from dataclasses import dataclass

from lipcert.report.chart import Chart, Steps


@dataclass(frozen=True)
class Table:
    """`numbers`: columns that are aligned as such. Rows that are not shown are counted in `left_out`."""

    caption: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    numbers: tuple[int, ...] = ()
    left_out: int = 0


@dataclass(frozen=True)
class Picture:
    """An image as a data URI."""

    uri: str
    alt: str
    caption: str


@dataclass(frozen=True)
class Section:
    """A heading and what is below it. The table says in numbers what a chart or pictures show."""

    heading: str
    text: tuple[str, ...] = ()
    bullets: tuple[str, ...] = ()
    chart: Chart | Steps | None = None
    pictures: tuple[Picture, ...] = ()
    table: Table | None = None
    more: Table | None = None
    """Folded away."""
    command: str = ""


@dataclass(frozen=True)
class Verdict:
    """The first thing on a page. `tone`: good, fair or bad."""

    status: str
    tone: str
    headline: str
    detail: str


@dataclass(frozen=True)
class Sheet:
    """A report. `checked` says whether it was proven again; `facts` are pairs of a name and what it is."""

    kind: str
    model: str
    path: str
    verdict: Verdict
    checked: str
    facts: tuple[tuple[str, str], ...]
    sections: tuple[Section, ...]


TONES = {"certified": "good", "refuted": "bad", "refused": "bad"}
"""Of a status; of others, fair."""
