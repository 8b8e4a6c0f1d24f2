"""Witnesses and counterexamples on a page: beside the middle of the region, as images where the input is one."""

from __future__ import annotations

import numpy as np

from lipcert.certificate.encoding import decode_array
from lipcert.errors import CertificateError
from lipcert.problem import Ball, Box, Everywhere, Query
from lipcert.report.html.content import Section, Table
from lipcert.report.html.images import ImageShape, grey_or_colour, image_shape, signed
from lipcert.report.monotone import MonotoneReport
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


def _pictures(
    report: AnyReport, query: Query, heading: str, point: np.ndarray, direction: np.ndarray | None
) -> Section:
    """The point beside the middle of the region, and what differs; in words where the input is no image."""
    shape, kept = _shape(report, query)
    if shape is None:
        return Section(heading, text=(f"The point is in the report. It is not shown: {kept}.",))
    size = shape.channels * shape.height * shape.width
    middle = _middle(query)
    named = {"middle of the region": middle, heading.lower(): point, "direction": direction}
    given = {name: flat for name, flat in named.items() if flat is not None}
    if any(flat.shape != (size,) or not np.all(np.isfinite(flat)) for flat in given.values()):
        raise CertificateError(f"{heading.lower()}: not {size} finite numbers, which the model's input has")
    points = [flat for flat in (middle, point) if flat is not None]
    low, high = float(np.min(points)), float(np.max(points))
    pictures = [grey_or_colour(point, low, high, shape, heading)]
    if middle is not None:
        pictures.insert(0, grey_or_colour(middle, low, high, shape, "Middle of the region"))
        given["difference"] = point - middle
        pictures.append(signed(point - middle, shape, f"{heading} minus middle"))
    if direction is not None:
        pictures.append(signed(direction, shape, "Direction of the slope"))
    columns = ("", "smallest", "largest", "l2 norm", "linf norm")
    table = Table("The same in numbers", columns, tuple(_numbers(name, given[name]) for name in given), (1, 2, 3, 4))
    return Section(heading, text=(_TEXT[heading],), pictures=tuple(pictures), table=table)


_TEXT = {
    "Witness": "The point at which the attained value is proven, and the direction along which outputs move so much.",
    "Counterexample": "The point at which the derivative has the wrong sign.",
}


def _numbers(name: str, flat: np.ndarray) -> tuple[str, ...]:
    norms = float(np.linalg.norm(flat)), float(np.max(np.abs(flat), initial=0.0))
    return (name, *(f"{v:.6g}" for v in (float(np.min(flat)), float(np.max(flat)), *norms)))


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
