"""What `lipcert compare` shows."""

from __future__ import annotations

from typing import Any

from rich.table import Table
from rich.text import Text

from lipcert.certificate.encoding import decode_query
from lipcert.report import wording
from lipcert.report.comparison import Comparison
from lipcert.report.report import Report
from lipcert.report.terminal import grid, plain, show
from lipcert.report.wording import shown

CHANGES = {
    "increased": ("bold red", "after attains more than the bound before"),
    "decreased": ("bold green", "the bound after is below what before attains"),
    "same": ("bold", "the files have one digest"),
    "undecided": ("bold yellow", "the bounds do not prove that the constant grew, nor that it shrank"),
}
"""How a change is shown, and why it is one."""


def print_comparison(compared: Comparison, limit: float | None, json_path: str | None, html: str | None) -> None:
    """The bounds beside each other, what is proven of the change, and the layers where they were asked for."""
    before, after = compared.before, compared.after
    header = grid()
    for name, report in (("before", before), ("after", after)):
        header.add_row(name, plain(wording.model(report.data["model"])))
    header.add_row("query", plain(wording.query(decode_query(after.data["query"]))))
    for template in after.data["model"].get("templates", []):
        header.add_row("assumes", plain(wording.assumption(template["name"], template["ops"])))
    show(header)
    show(_numbers(compared))
    verdict = grid()
    style, why = CHANGES[compared.change]
    verdict.add_row("constant", Text(claim(compared), style=style) + Text(f"   {why}"))
    shapes = [[t["shape"] for t in report.data["model"]["inputs"]] for report in (before, after)]
    if shapes[0] != shapes[1]:
        verdict.add_row("note", f"inputs are {shapes[0]} and {shapes[1]}: entries correspond in C order")
    if limit is not None and (above := exceeds(compared, limit)) is not None:
        verdict.add_row("limit", Text(limit_said(above, limit), style="bold red" if above else "green"))
    for name, path in (("report", json_path), ("page", html)):
        if path is not None:
            verdict.add_row(name, plain(path))
    show(verdict)
    if compared.data["layers"] is not None:
        show(_layers(compared.data["layers"]))
        print("l2: proven upper bounds, with what is attained in brackets; layers in the order of the files")


def claim(compared: Comparison) -> str:
    """The change, and whether it is proven or rests on templates."""
    if compared.change not in ("increased", "decreased"):
        return {"same": "same model", "undecided": "not decided"}[compared.change]
    conditional = "conditional" in (compared.before.status, compared.after.status)
    return f"{compared.change}, {'conditional' if conditional else 'proven'}"


def exceeds(compared: Comparison, limit: float | None) -> bool | None:
    """Whether the bound after is above --max-increase; None where that was not asked, or a bound is missing."""
    if limit is None or compared.before.upper is None or compared.after.upper is None:
        return None
    return compared.exceeds(limit)


def limit_said(above: bool, limit: float) -> str:
    return f"{'above' if above else 'within'} --max-increase {limit!r}"


def cells(compared: Comparison) -> list[tuple[str, str, str, str]]:
    """Rows of what, before, after, and their ratio."""
    both = compared.before, compared.after
    ratio = "" if compared.ratio is None else f"{compared.ratio:.6g}"
    columns = [
        (
            report.status,
            shown(report.upper, 8, up=True),
            shown(report.lower, 8, up=False),
            "" if report.gap is None else f"{report.gap:.5g}x",
            _method(report),
        )
        for report in both
    ]
    names = ("status", "bound", "attained", "gap", "method")
    return [
        (name, first, second, ratio if name == "bound" else "")
        for name, first, second in zip(names, *columns, strict=True)
    ]


def _numbers(compared: Comparison) -> Table:
    table = Table(box=None, header_style="dim")
    for column in ("", "before", "after", "after / before"):
        table.add_column(column, justify="left" if column == "" else "right", no_wrap=True)
    for row in cells(compared):
        table.add_row(*row)
    return table


def _method(report: Report) -> str:
    return f"{report.method or 'none'}, {report.data['result']['seconds']:.2f} s"


def _layers(pairs: list[list[dict[str, Any] | None]]) -> Table:
    table = Table(box=None, header_style="dim")
    for column in ("#", "before", "l2", "after", "l2", "after / before"):
        table.add_column(column, no_wrap=column == "l2")
    for i, (first, second) in enumerate(pairs, 1):
        low, high = (None if layer is None else layer["l2"] for layer in (first, second))
        ratio = f"{high / low:.5g}" if low and high else ""
        table.add_row(str(i), *_layer(first), *_layer(second), ratio)
    return table


def _layer(layer: dict[str, Any] | None) -> tuple[Text, str]:
    if layer is None:
        return Text(""), ""
    return plain(layer["operator"]), f"{shown(layer['l2'], 6, up=True)} ({shown(layer['attained'], 6, up=False)})"
