"""What is asked, from the arguments that the functions share: norms, regions, outputs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from lipcert.errors import UnsupportedModelError, UsageError
from lipcert.frontend import Model
from lipcert.operators import size_of
from lipcert.problem import (
    AllOutputs,
    Ball,
    Everywhere,
    OutputChoice,
    Problem,
    Query,
    Region,
    SomeOutputs,
    parse_norm,
    pose,
    rows_of,
)


def posed(
    model: Model,
    asked: Query,
    region: Region | None = None,
    center: Any = None,
    eps: float | None = None,
    ball: Any = None,
    *,
    as_run: bool = False,
) -> Problem:
    """The query over the region, posed for the model."""
    check_output(model, asked.output)
    size = sum(size_of(t.shape) for t in model.inputs if not asked.inputs or t.name in asked.inputs)
    return pose(
        model.graph, replace(asked, region=chosen_region(region, center, eps, ball, asked, size)), as_run=as_run
    )


def asked_query(
    outputs: int | list[int] | tuple[int, ...] | OutputChoice | None,
    inputs: Sequence[str] | None,
    output: str,
    norm: Any = 2,
    norm_in: Any = None,
    norm_out: Any = None,
) -> Query:
    """What is asked, wherever it is: norm_in and norm_out instead of norm, where they are given."""
    first = parse_norm(norm, "norm") if norm_in is None else parse_norm(norm_in, "norm_in")
    second = parse_norm(norm, "norm") if norm_out is None else parse_norm(norm_out, "norm_out")
    return Query(first, second, outputs=chosen_outputs(outputs), inputs=tuple(inputs or ()), output=output)


def check_output(model: Model, output: str) -> None:
    """UnsupportedModelError with the reason why an output is not read."""
    if output in model.lost_outputs:
        raise UnsupportedModelError(
            f"{model.path}: output {output!r} is not read: {model.lost_outputs[output]}",
            hint=f"choose one of {', '.join(t.name for t in model.outputs)}",
        )


def chosen_region(region: Region | None, center: Any, eps: float | None, ball: Any, query: Query, size: int) -> Region:
    if region is not None:
        if center is not None or eps is not None:
            raise UsageError("region and center/eps are given both", hint="give one of them")
        if rows_of(region):
            raise UsageError("region: many at a time", hint="give reach_many or bound_many a list of them")
        return region
    if (center is None) != (eps is None):
        raise UsageError("a ball needs both center and eps")
    if center is None or eps is None:
        return Everywhere()
    if hasattr(center, "detach"):
        center = center.detach().cpu().numpy()
    norm = query.norm_in if ball is None else parse_norm(ball, "ball")
    flat = np.asarray(center, dtype=np.float64).reshape(-1)
    return Ball(np.full(size, flat[0]) if flat.size == 1 else flat, float(eps), norm)


def chosen_outputs(outputs: int | list[int] | tuple[int, ...] | OutputChoice | None) -> OutputChoice:
    if outputs is None:
        return AllOutputs()
    if isinstance(outputs, OutputChoice):
        return outputs
    indices = (outputs,) if isinstance(outputs, int) else tuple(outputs)
    if not indices:
        raise UsageError("outputs: none are chosen", hint="leave it out for all outputs")
    return SomeOutputs(indices)
