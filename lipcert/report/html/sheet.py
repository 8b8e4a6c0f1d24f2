"""A report as the sections of a page: what its kind shows, then what all kinds share."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lipcert.errors import CertificateError
from lipcert.report import wording
from lipcert.report.chart import MAX_BARS, Bar, Chart
from lipcert.report.check import CheckResult, MonotoneCheck, ReachCheck, RobustnessCheck
from lipcert.report.html.body import MAX_ROWS, Body, build_body
from lipcert.report.html.content import Section, Sheet, Table
from lipcert.report.reading import AnyReport, Stored
from lipcert.report.wording import ARITHMETICS, shown

if TYPE_CHECKING:
    from lipcert.planning.layers import LayerNorms

NOT_CHECKED = "not checked again when this page was made"


@dataclass(frozen=True)
class Shown:
    """A report to show, which is consistent.

    With a `model` (its path) at hand: `checked`, what was proven again, None where the report claims nothing; and the
    norms of its `layers`.
    """

    stored: Stored
    model: str = ""
    checked: CheckResult | ReachCheck | MonotoneCheck | RobustnessCheck | None = None
    layers: tuple[LayerNorms, ...] | None = None


def build_sheet(item: Shown) -> Sheet:
    """CertificateError where what the report stores cannot be decoded."""
    report, model = item.stored.report, item.stored.report.data["model"]
    try:
        body = build_body(report)
    except CertificateError as error:
        raise CertificateError(f"{item.stored.name}: {error.message}", hint=error.hint) from None
    return Sheet(
        kind=body.kind,
        model=model["path"],
        path=item.stored.path,
        verdict=body.verdict,
        checked=_checked(item),
        facts=(("Model", wording.model(model)), ("Query", body.asked), *_assumes(model)),
        sections=(*body.sections, _layers(item), _says(item, body), _again(item, body), _origin(report)),
    )


def _assumes(model: dict[str, Any]) -> tuple[tuple[str, str], ...]:
    return tuple(("Assumes", wording.assumption(t["name"], t["ops"])) for t in model.get("templates", []))


def _checked(item: Shown) -> str:
    """What this page knows of the certificate by itself."""
    if not item.model:
        return NOT_CHECKED
    if item.checked is None:
        return f"nothing to check: the report claims nothing about {item.model}"
    again = f"proven again when this page was made, for {item.model}, in {ARITHMETICS[item.checked.arithmetic]}"
    return f"{again}, if what it assumes is true" if item.checked.templates else again


MEANING = {
    "certified": "Certified means proven, with a certificate from which lipcert check proves it again.",
    "conditional": (
        "Conditional means proven if the quadratic constraints of the templates named above are true of the ops that "
        "they stand for. Nothing here proves that they are."
    ),
    "refuted": "Refuted means that at the counterexample the claim is proven to be false.",
}
"""Of a status."""


def _says(item: Shown, body: Body) -> Section:
    report = item.stored.report
    meaning = MEANING.get(report.status, "Inconclusive means not proven, and not disproven. It never passes.")
    if not item.model:
        meaning += " This page repeats what the report says: a report that nobody checks may say anything."
    loops = any(note.startswith("Loop node") for note in report.data["model"]["notes"])
    fixed = ("Of the Loops that the notes of the import name, the fixed point is meant.",) if loops else ()
    return Section("What this says, and what it does not", bullets=(meaning, *body.says, *fixed))


def _again(item: Shown, body: Body) -> Section:
    stored, described = item.stored, item.stored.report.data["model"]
    model = item.model or described["path"]
    command = f"lipcert check {shlex.quote(stored.path)} {shlex.quote(model)}"
    files = [(described["path"], described["sha256"]), *list(described["external_data"].items())[:MAX_ROWS]]
    if stored.sha256:
        files.append((stored.path, stored.sha256))
    return Section(
        "Check it again",
        text=(
            "The command needs the model file with the digest below, and proves everything from the certificate, by a "
            "small kernel that trusts none of the methods. It ends with exit status 0 if all is proven again, "
            "with 1 if the certificate is refused. --strict proves in ball arithmetic.",
            body.run,
        ),
        command=command if stored.path else f"lipcert.check(report, {model!r})",
        table=Table("Digests, SHA-256", ("file", "digest"), tuple(files)),
    )


def _layers(item: Shown) -> Section:
    heading = "Norms of the layers"
    if item.layers is None:
        return Section(heading, text=("Left out: they are computed and proven from the model, with --model.",))
    bars = tuple(
        Bar(
            f"{i}. {layer.operator}",
            f"{shown(layer.attained, 5, up=False)} to {shown(layer.l2, 5, up=True)}",
            0.0,
            layer.l2,
            (0.0, layer.attained),
        )
        for i, layer in enumerate(item.layers[:MAX_BARS], 1)
    )
    rows = tuple(
        (
            f"{i}. {layer.operator}",
            layer.origin,
            shown(layer.l1, 6, up=True),
            shown(layer.l2, 7, up=True),
            shown(layer.attained, 7, up=False),
            shown(layer.linf, 6, up=True),
            layer.rule,
        )
        for i, layer in enumerate(item.layers[:MAX_ROWS], 1)
    )
    columns = ("operator", "ONNX node", "l1", "l2", "l2 attained", "linf", "l2 by")
    table = Table("Norms of each operator", columns, rows, (2, 3, 4, 5), len(item.layers) - len(rows))
    text = (
        "Computed from the model when this page was made. l1, l2 and linf are proven upper bounds; what l2 attains is "
        "proven from below.",
    )
    chart = Chart("l2 norms of the layers", bars, "up to the proven norm", "attained") if bars else None
    return Section(heading, text=text, chart=chart, table=table)


def _origin(report: AnyReport) -> Section:
    data, model = report.data, report.data["model"]
    rows = [("made by", f"{data['tool']['name']} {data['tool']['version']}"), ("schema", data["schema"])]
    rows += [("ONNX", f"{model['nodes']} nodes, opset {model['opset']}")]
    if (compared := model.get("import_check")) is not None:
        worst, tolerance = f"{compared['worst']:.1e}", f"{compared['tolerance']:.0e}"
        agree = f"{compared['tensors']} tensors at {compared['points']} points"
        rows.append(
            ("import check", f"{agree} agree with onnxruntime, worst difference {worst} (tolerance {tolerance})")
        )
    rows += [("note of the import", note) for note in model["notes"][:MAX_ROWS]]
    versions = Table("Versions", ("package", "version"), tuple(data["environment"].items())[:MAX_ROWS])
    return Section("Where it is from", table=Table("As the report has it", ("", ""), tuple(rows)), more=versions)
