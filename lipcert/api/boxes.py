"""Reach sets: boxes around the outputs over one region, or over many."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lipcert.api.models import load
from lipcert.api.queries import asked_query, posed
from lipcert.errors import UsageError
from lipcert.frontend import Model
from lipcert.problem import OutputChoice, Region, together
from lipcert.report.reach import ReachReport, ReachReports
from lipcert.templates import Template

if TYPE_CHECKING:
    import onnx
    import torch


def reach(
    model: str | Path | onnx.ModelProto | torch.nn.Module | Model,
    *,
    example: Any = None,
    center: Any = None,
    eps: float | None = None,
    ball: Any = math.inf,
    region: Region | None = None,
    outputs: int | list[int] | OutputChoice | None = None,
    inputs: list[str] | None = None,
    output: str = "",
    timeout: float | None = None,
    exact: bool = False,
    templates: Sequence[str | Path | Template] = (),
) -> ReachReport:
    """Certify where the outputs can go over a region: a box around them, and values in it that are attained.

    A ball of radius `eps` around `center` (in the norm `ball`, by default l-infinity), or a lipcert.problem Box.
    `exact` branches over the region until no box is wider than what is attained in it by more than a hundredth.

        >>> report = lipcert.reach("models/digits_relu.onnx", center=np.zeros(64), eps=0.01)
        >>> bool(np.all(report.lower <= report.upper))
        True
    """
    from lipcert.planning.reach import solve_reach
    from lipcert.report.reach import build_reach

    loaded = load(model, example=example, templates=templates)
    asked = asked_query(outputs, inputs, output)
    problem = posed(loaded, asked, region, center, eps, ball, as_run=True)
    return build_reach(loaded, problem.query, solve_reach(problem, timeout=timeout, exact=exact))


def reach_many(
    model: str | Path | onnx.ModelProto | torch.nn.Module | Model,
    regions: Sequence[Region],
    *,
    example: Any = None,
    outputs: int | list[int] | OutputChoice | None = None,
    inputs: list[str] | None = None,
    output: str = "",
    timeout: float | None = None,
    device: str = "auto",
    templates: Sequence[str | Path | Template] = (),
    on_row: Callable[[int], None] = lambda row: None,
) -> ReachReports:
    """As `reach`, over many regions (lipcert.problem Balls of one radius and norm, or Boxes), without attained values.

    Quick boxes of all of them first, many at a time; then tighter ones, row after row, until `timeout` seconds have
    passed (default 60, for all; 0: the quick ones alone). `device` (auto, cpu or cuda) is where
    searches run; `on_row` is told how many rows are done.

        >>> balls = [lipcert.problem.Ball(np.full(64, v), 0.01, math.inf) for v in (0.0, 0.5)]
        >>> lipcert.reach_many("models/digits_relu.onnx", balls).upper.shape
        (2, 10)
    """
    from lipcert.planning.reach_many import solve_reach_many
    from lipcert.report.reach import ReachReports

    loaded = load(model, example=example, templates=templates)
    asked = asked_query(outputs, inputs, output)
    if not regions:
        raise UsageError("reach_many: no regions", hint="give balls or boxes")
    together(regions)  # says what does not fit
    problem = posed(loaded, asked, regions[0], as_run=True)
    for region in regions:
        region.bounds(problem.size_in)
    boxes = solve_reach_many(problem, regions, timeout=timeout, device=device, on_row=on_row)
    return ReachReports(loaded, [replace(problem.query, region=region) for region in regions], boxes)
