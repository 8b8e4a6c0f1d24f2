"""A comparison as a page: both bounds on one scale, what is proven of the change, and the layers."""

from __future__ import annotations

from typing import Any

from lipcert.certificate.encoding import decode_query
from lipcert.report import wording
from lipcert.report.chart import MAX_BARS, Bar, Chart
from lipcert.report.comparison import Comparison
from lipcert.report.html.content import Section, Sheet, Table, Verdict
from lipcert.report.side_by_side import CHANGES, cells, claim, exceeds, limit_said
from lipcert.report.wording import shown

TONES = {"increased": "bad", "decreased": "good"}
"""Of a change; of others, fair."""

MAX_ROWS = 200
"""Of a table; the JSON has the rest."""

SAYS = (
    "Bounds are proven (conditional ones if what is assumed above is true), and so is what each network attains. The "
    "constant increased where the network after attains more than the bound of the one before, and decreased the other "
    "way round. Otherwise nothing is proven of the change: bounds of which one is looser differ, too.",
    "This is about the real-valued functions that the files denote in exact arithmetic, in their own input units.",
)


def comparison_sheet(compared: Comparison, limit: float | None = None) -> Sheet:
    """Of a comparison that was made in this process: its bounds were verified then."""
    before, after = compared.before, compared.after
    models = [report.data["model"] for report in (before, after)]
    above = exceeds(compared, limit)
    said = "" if limit is None or above is None else limit_said(above, limit)
    tone = "bad" if above else TONES.get(compared.change, "fair")
    uppers = [shown(report.upper, 8, up=True) for report in (before, after)]
    detail = "; ".join(filter(None, (CHANGES[compared.change][1], said)))
    return Sheet(
        kind="Comparison",
        model=f"{models[0]['path']} and {models[1]['path']}",
        path="",
        verdict=Verdict(claim(compared), tone, f"bound {uppers[0]} before, {uppers[1]} after", detail),
        checked="every bound was verified when this page was made",
        facts=(
            *((name, wording.model(model)) for name, model in zip(("Before", "After"), models, strict=True)),
            ("Query", wording.query(decode_query(after.data["query"]))),
            *(("Assumes", wording.assumption(t["name"], t["ops"])) for t in models[1].get("templates", [])),
        ),
        sections=(
            _bounds(compared),
            *(() if compared.data["layers"] is None else (_layers(compared.data["layers"]),)),
            Section("What this says, and what it does not", bullets=SAYS),
            Section(
                "Digests, SHA-256",
                table=Table("The files", ("file", "digest"), tuple((m["path"], m["sha256"]) for m in models)),
            ),
        ),
    )


def _bounds(compared: Comparison) -> Section:
    bars = tuple(
        Bar(
            name,
            f"{shown(report.lower, 7, up=False)} to {shown(report.upper, 7, up=True)}",
            0.0,
            report.upper,
            (0.0, report.lower),
        )
        for name, report in (("before", compared.before), ("after", compared.after))
        if report.upper is not None
    )
    chart = Chart("The Lipschitz constants lie between these", bars, "up to the bound", "attained") if bars else None
    table = Table("Both networks", ("", "before", "after", "after / before"), tuple(cells(compared)), (1, 2, 3))
    return Section("Bounds and attained values", chart=chart, table=table)


def _layers(pairs: list[list[dict[str, Any] | None]]) -> Section:
    rows, bars = [], []
    for i, pair in enumerate(pairs, 1):
        low, high = (None if layer is None else layer["l2"] for layer in pair)
        rows.append((str(i), *_layer(pair[0]), *_layer(pair[1]), f"{high / low:.5g}" if low and high else ""))
        bars += [
            Bar(f"{i}. {name}", shown(layer["l2"], 6, up=True), 0.0, layer["l2"], (0.0, layer["attained"]))
            for name, layer in zip(("before", "after"), pair, strict=True)
            if layer is not None and layer["l2"] is not None and layer["attained"] is not None
        ]
    columns = ("#", "before", "l2", "attained", "after", "l2", "attained", "after / before")
    table = Table("l2 norms of the layers, in the order of the files", columns, tuple(rows[:MAX_ROWS]), (2, 3, 5, 6, 7))
    chart = Chart("l2 norms of the layers", tuple(bars[:MAX_BARS]), "up to the proven norm", "attained")
    return Section("Layers", chart=chart if bars else None, table=table)


def _layer(layer: dict[str, Any] | None) -> tuple[str, str, str]:
    if layer is None:
        return "", "", ""
    return layer["operator"], shown(layer["l2"], 6, up=True), shown(layer["attained"], 6, up=False)
