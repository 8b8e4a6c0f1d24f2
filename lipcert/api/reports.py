"""Reports that were written: read, checked against the model, shown as a page."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lipcert.api.bounds import layer_norms
from lipcert.api.models import load
from lipcert.api.robustness import stated_samples
from lipcert.errors import CertificateError, UnsupportedModelError, UsageError
from lipcert.frontend import Model, model_digest
from lipcert.report import CheckResult, Report, check_report
from lipcert.report.check import (
    MonotoneCheck,
    ReachCheck,
    RobustnessCheck,
    check_digest,
    check_monotone,
    check_reach,
    check_robustness,
    stated_templates,
    stated_unrolled,
)
from lipcert.report.monotone import MonotoneReport
from lipcert.report.reach import ReachReport
from lipcert.report.reading import AnyReport, Stored, read_stored
from lipcert.report.robustness import RobustnessReport

if TYPE_CHECKING:
    import onnx


def check(
    report: AnyReport | str | Path,
    model: str | Path | onnx.ModelProto | Model,
    *,
    strict: bool = False,
    data: Any = None,
    labels: Any = None,
) -> CheckResult | ReachCheck | MonotoneCheck | RobustnessCheck:
    """Prove a report's bounds again, from its evidence and the model; raises CertificateError saying what fails.

    `strict` proves in ball arithmetic (Arb) instead of float64 with error terms. `data` and `labels` are those of
    `certify`, which are else read from the files that its report names.

        >>> report = lipcert.bound("models/digits_relu.onnx")
        >>> lipcert.check(report, "models/digits_relu.onnx").upper <= report.upper
        True
    """
    if not isinstance(report, Report | ReachReport | MonotoneReport | RobustnessReport):
        report = read_report(report)
    if (data is not None or labels is not None) and not isinstance(report, RobustnessReport):
        raise UsageError("--data and --labels are for reports of certify, which this one is not")
    loaded = model if isinstance(model, Model) else _stated_model(report, model)
    if isinstance(report, RobustnessReport):
        return check_robustness(report, loaded, stated_samples(report, loaded, data, labels), strict=strict)
    if isinstance(report, ReachReport):
        return check_reach(report, loaded, strict=strict)
    if isinstance(report, MonotoneReport):
        return check_monotone(report, loaded, strict=strict)
    return check_report(report, loaded, strict=strict)


def _stated_model(report: AnyReport, model: str | Path | onnx.ModelProto) -> Model:
    """The model, read as the report says."""
    check_digest(report, model_digest(model), str(model) if isinstance(model, str | Path) else "<memory>")
    try:
        return load(model, templates=stated_templates(report), unrolled=stated_unrolled(report))
    except (UsageError, UnsupportedModelError) as error:
        raise CertificateError(f"the model cannot be read as the report says: {error.message}") from None


def read_report(path: str | Path) -> AnyReport:
    """Read a report written with `lipcert bound --json` or another command's; "-" reads standard input."""
    return read_stored(path).report


def render_html(
    reports: Sequence[AnyReport | Stored | str | Path],
    model: str | Path | None = None,
    *,
    timeout: float | None = None,
    on_step: Callable[[str], None] = lambda what: None,
) -> str:
    """A page about reports of any kind: one HTML file, with no script, that opens offline.

    With their `model` at hand, every report is proven again (CertificateError where that fails), and so are the norms
    of its layers, in `timeout` seconds as for `layer_norms`. Without, the page says that nothing was checked again.

        >>> page = lipcert.render_html([lipcert.bound("models/digits_relu.onnx", method="product")])
        >>> "<script" in page
        False
    """
    from lipcert.report.consistency import check_consistent
    from lipcert.report.html import Shown, render_page

    if not reports:
        raise UsageError("render_html: no reports are given")
    stored = [_stored(report) for report in reports]
    for each in stored:
        check_consistent(each.report, each.name)
    if model is None:
        return render_page([Shown(each) for each in stored])
    items: list[Shown] = []
    for each in stored:
        on_step(f"check {each.name}")
        try:
            checked = _check_claims(each.report, model)
        except CertificateError as error:
            raise CertificateError(f"{each.name}: {error.message}", hint=error.hint) from None
        items.append(Shown(each, str(model), checked))
    first = stored[0].report
    loaded = load(model, templates=stated_templates(first), unrolled=stated_unrolled(first))
    layers = layer_norms(loaded, timeout=timeout, on_step=on_step)
    return render_page([replace(item, layers=tuple(layers)) for item in items])


def _stored(report: AnyReport | Stored | str | Path) -> Stored:
    if isinstance(report, Stored):
        return report
    return read_stored(report) if isinstance(report, str | Path) else Stored(report)


def _check_claims(
    report: AnyReport, model: str | Path
) -> CheckResult | ReachCheck | MonotoneCheck | RobustnessCheck | None:
    """As `check`; None where the report is about this model, and claims nothing that could be checked."""
    if report.status == "inconclusive" and not isinstance(report, MonotoneReport):
        check_digest(report, model_digest(model), str(model))
        return None
    return check(report, model)
