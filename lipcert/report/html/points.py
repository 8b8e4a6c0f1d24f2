"""Witnesses and counterexamples on a page: beside the middle of the region, as images where the input is one."""

from __future__ import annotations

import numpy as np

from lipcert.certificate.encoding import decode_array
from lipcert.errors import CertificateError
from lipcert.problem import Ball, Box, Everywhere, Query
from lipcert.report.chart import output_name
from lipcert.report.html.content import Section, Table
from lipcert.report.html.images import ImageShape, grey_or_colour, image_shape, signed
from lipcert.report.monotone import MonotoneReport
from lipcert.report.reach import ReachReport
from lipcert.report.reading import AnyReport
from lipcert.report.report import Report


def witness(report: Report, query: Query) -> tuple[Section, ...]:
    """Nothing where there is none."""
    found = report.data["result"]["witness"]
    if found is None:
        return ()
    point, direction = (decode_array(found[name], f"witness.{name}") for name in ("point", "direction"))
    return (_pictures(report, query, "Witness", point, direction),)


def counterexample(report: MonotoneReport, query: Query) -> Section:
    """Of a report that has one."""
    point = decode_array(report.data["counterexample"]["point"], "counterexample.point")
    return _pictures(report, query, "Counterexample", point, None)


MAX_EXTREMES = 6
"""Outputs whose extreme points are shown."""


@np.errstate(over="ignore", invalid="ignore")
def extremes(report: ReachReport, query: Query) -> tuple[Section, ...]:
    """The points at which outputs go farthest, as they differ from the middle; nothing where the input is no image."""
    shape, _ = _shape(report, query)
    found, middle = report.data["attained"], _middle(query)
    if shape is None or found is None or middle is None:
        return ()
    ends = {name: decode_array(found[name], f"attained.{name}") for name in ("lowest", "highest")}
    if any(end.shape != (report.lower.size, middle.size) for end in ends.values()):
        raise CertificateError("attained: not a point for each output")
    shown = {
        f"{output_name(query, j)} {name}": _checked(end[j] - middle, shape, f"attained.{name}")
        for j in range(min(report.lower.size, MAX_EXTREMES))
        for name, end in ends.items()
    }
    heading, text = "Points where outputs go farthest", "How inputs differ from the middle of the region there."
    pictures = tuple(signed(flat, shape, name) for name, flat in shown.items())
    table = _numbers(shown, left_out=2 * report.lower.size - len(shown))
    return (Section(heading, text=(text,), pictures=pictures, table=table),)


@np.errstate(over="ignore", invalid="ignore")
def _pictures(
    report: AnyReport, query: Query, heading: str, point: np.ndarray, direction: np.ndarray | None
) -> Section:
    """The point beside the middle of the region, and what differs; in words where the input is no image."""
    shape, kept = _shape(report, query)
    if shape is None:
        return Section(heading, text=(f"The point is in the report. It is not shown: {kept}.",))
    point = _checked(point, shape, heading.lower())
    plain, differing = {heading: point}, {}
    if (middle := _middle(query)) is not None:
        plain = {"Middle of the region": _checked(middle, shape, "region"), heading: point}
        differing[f"{heading} minus middle"] = _checked(point - middle, shape, heading.lower())
    if direction is not None:
        differing["Direction of the slope"] = _checked(direction, shape, "direction")
    low, high = (float(end(list(plain.values()))) for end in (np.min, np.max))
    pictures = [grey_or_colour(flat, low, high, shape, name) for name, flat in plain.items()]
    pictures += [signed(flat, shape, name) for name, flat in differing.items()]
    return Section(heading, text=(_TEXT[heading],), pictures=tuple(pictures), table=_numbers(plain | differing))


def _checked(flat: np.ndarray, shape: ImageShape, what: str) -> np.ndarray:
    if flat.shape != (shape.size,) or not np.all(np.isfinite(flat)):
        raise CertificateError(f"{what}: not {shape.size} finite numbers, as the model's input has")
    return flat


def _numbers(shown: dict[str, np.ndarray], left_out: int = 0) -> Table:
    """Of points, or of what differs."""
    rows = []
    for name, flat in shown.items():
        values = np.min(flat), np.max(flat), np.linalg.norm(flat), np.max(np.abs(flat))
        rows.append((name, *(f"{float(v):.6g}" for v in values)))
    columns = ("", "smallest", "largest", "l2 norm", "linf norm")
    return Table("The same in numbers", columns, tuple(rows), (1, 2, 3, 4), left_out)


_TEXT = {
    "Witness": "The point at which the attained value is proven, and the direction along which outputs move so much.",
    "Counterexample": "The point at which the derivative has the wrong sign.",
}


def _shape(report: AnyReport, query: Query) -> tuple[ImageShape | None, str]:
    """How the input is an image, or why it is none."""
    varying = [t for t in report.data["model"]["inputs"] if not query.inputs or t["name"] in query.inputs]
    if len(varying) != 1:
        return None, f"{len(varying)} inputs vary"
    shape = image_shape(varying[0]["shape"])
    return shape, f"the input's shape {varying[0]['shape']} does not say that it is an image"


def _middle(query: Query) -> np.ndarray | None:
    if isinstance(query.region, Everywhere):
        return None
    return query.region.center if isinstance(query.region, Ball) else _between(query.region)


def _between(box: Box) -> np.ndarray:
    return box.lower / 2 + box.upper / 2
