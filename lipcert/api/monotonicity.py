"""Outputs that increase, or decrease, with chosen inputs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lipcert.api.models import load
from lipcert.api.queries import asked_query, posed
from lipcert.errors import UsageError
from lipcert.frontend import Model
from lipcert.problem import OutputChoice, Region
from lipcert.report.monotone import MonotoneReport

if TYPE_CHECKING:
    import onnx
    import torch


def monotone(
    model: str | Path | onnx.ModelProto | torch.nn.Module | Model,
    chosen: Sequence[int],
    *,
    increasing: bool = True,
    tolerance: float = 0.0,
    example: Any = None,
    center: Any = None,
    eps: float | None = None,
    ball: Any = math.inf,
    region: Region | None = None,
    outputs: int | list[int] | OutputChoice | None = None,
    output: str = "",
    timeout: float | None = None,
) -> MonotoneReport:
    """Certify that the outputs increase (or decrease) with the chosen entries of the input over a region.

    The share of the region on which that is proven, and a counterexample where it fails; `tolerance` allows slopes
    that are wrong by as much.

        >>> report = lipcert.monotone("models/digits_relu.onnx", [10], center=np.zeros(64), eps=0.01, outputs=3)
        >>> report.status in ("certified", "refuted", "inconclusive")
        True
    """
    from lipcert.planning.monotone import solve_monotone
    from lipcert.report.monotone import build_monotone

    loaded = load(model, example=example)
    problem = posed(loaded, asked_query(outputs, None, output), region, center, eps, ball)
    if loaded.templates:
        raise UsageError("monotone: a template says nothing of signs", hint="leave --template out")
    if not chosen:
        raise UsageError("monotone: no inputs are chosen", hint="name some, for example 0,3")
    outcome = solve_monotone(problem, tuple(chosen), increasing, tolerance=tolerance, timeout=timeout)
    return build_monotone(loaded, problem.query, outcome)
