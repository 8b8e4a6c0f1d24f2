"""Lipschitz constants: of one network, over many regions, of two networks, of each layer."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lipcert.api.models import load
from lipcert.api.queries import asked_query, posed
from lipcert.certificate.claim import Rows
from lipcert.errors import UnsupportedModelError, UsageError
from lipcert.frontend import Model
from lipcert.problem import Ball, OutputChoice, Region
from lipcert.report import Report
from lipcert.templates import Template

if TYPE_CHECKING:
    import onnx
    import torch

    from lipcert.planning import Outcome
    from lipcert.planning.layers import LayerNorms
    from lipcert.report.comparison import Comparison


def bound(
    model: str | Path | onnx.ModelProto | torch.nn.Module | Model,
    *,
    example: Any = None,
    norm: Any = 2,
    norm_in: Any = None,
    norm_out: Any = None,
    center: Any = None,
    eps: float | None = None,
    ball: Any = None,
    region: Region | None = None,
    outputs: int | list[int] | OutputChoice | None = None,
    inputs: list[str] | None = None,
    output: str = "",
    method: str = "auto",
    timeout: float | None = None,
    gap: float | None = None,
    device: str = "auto",
    solver: str = "native",
    exact: bool = False,
    checkpoint: str | Path | None = None,
    templates: Sequence[str | Path | Template] = (),
    on_step: Callable[[str, Outcome], None] = lambda what, outcome: None,
) -> Report:
    """Certify how much the outputs can change per change of the inputs, in the norms 1, 2 or inf.

    Everywhere, or over a `region`: a ball of radius `eps` around `center` (one number fills it; in the norm `ball`, by
    default norm_in; in the model's input units), or a lipcert.problem Box. `outputs` picks output entries, or a
    Margin(i, j). Stops after `timeout` seconds (default 60), or when upper / lower is at most `gap`; the best verified
    bound is reported. Over a region, `exact` branches until upper / lower is at most `gap` (default 1.01); with a
    `checkpoint` file its trees are kept there while it runs, and where there is one, its run goes on.
    `solver` finds the multipliers of LipSDP: native, clarabel, scs or mosek. With `templates`, which stand for custom
    ops as in `load`, the status is conditional, never certified.

        >>> report = lipcert.bound("models/digits_relu.onnx", norm=2, center=np.zeros(64), eps=0.01)
        >>> report.status, report.lower <= report.upper
        ('certified', True)
    """
    from lipcert.planning import solve
    from lipcert.report.checkpoint import read_checkpoint, write_checkpoint
    from lipcert.report.report import build_report
    from lipcert.report.writing import check_writable

    loaded = load(model, example=example, templates=templates)
    asked = asked_query(outputs, inputs, output, norm, norm_in, norm_out)
    problem = posed(loaded, asked, region, center, eps, ball)
    query = problem.query
    resume = None
    if checkpoint is not None:
        check_writable(str(checkpoint), "--checkpoint")
        resume = read_checkpoint(checkpoint, loaded, query)

    def save(outcome: Outcome, trees: tuple[Rows, ...]) -> None:
        if checkpoint is not None:
            write_checkpoint(checkpoint, build_report(loaded, query, outcome), trees)

    try:
        outcome = solve(
            problem,
            method=method,
            timeout=timeout,
            gap=gap,
            device=device,
            solver=solver,
            exact=exact,
            resume=resume,
            on_step=on_step,
            save=save,
        )
    except UnsupportedModelError as error:
        raise UnsupportedModelError(f"{loaded.path}: {error.message}", hint=error.hint) from None
    return build_report(loaded, query, outcome)


def bound_many(
    model: str | Path | onnx.ModelProto | torch.nn.Module | Model,
    regions: Sequence[Region],
    *,
    example: Any = None,
    norm: Any = 2,
    norm_in: Any = None,
    norm_out: Any = None,
    outputs: int | list[int] | OutputChoice | None = None,
    inputs: list[str] | None = None,
    output: str = "",
    method: str = "auto",
    timeout: float | None = None,
    gap: float | None = None,
    device: str = "auto",
    solver: str = "native",
    exact: bool = False,
    templates: Sequence[str | Path | Template] = (),
    on_step: Callable[[str, Outcome], None] = lambda what, outcome: None,
) -> Iterator[Report]:
    """As `bound`, over many regions (lipcert.problem Balls in one norm, or Boxes): a report for each, when it is done.

    What is searched for on the device is searched for over many of them at once; `timeout` is for each.

        >>> balls = [lipcert.problem.Ball(np.full(64, v), 0.01, 2.0) for v in (0.0, 0.5)]
        >>> [report.status for report in lipcert.bound_many("models/digits_relu.onnx", balls)]
        ['certified', 'certified']
    """
    from lipcert.planning.many import solve_many
    from lipcert.report.report import build_report

    loaded = load(model, example=example, templates=templates)
    asked = asked_query(outputs, inputs, output, norm, norm_in, norm_out)
    kinds = {(type(region), region.norm if isinstance(region, Ball) else 0.0) for region in regions}
    if len(kinds) > 1:
        raise UsageError("bound_many: regions of several kinds", hint="give boxes, or balls in one norm")
    if not regions:
        return
    first = posed(loaded, asked, regions[0])
    for region in regions:
        region.bounds(first.size_in)
    problems = [replace(first, query=replace(asked, region=region)) for region in regions]
    outcomes = solve_many(
        problems,
        method=method,
        timeout=timeout,
        gap=gap,
        device=device,
        solver=solver,
        exact=exact,
        on_step=on_step,
    )
    try:
        for problem, outcome in zip(problems, outcomes, strict=True):
            yield build_report(loaded, problem.query, outcome)
    except UnsupportedModelError as error:
        raise UnsupportedModelError(f"{loaded.path}: {error.message}", hint=error.hint) from None


def compare(
    before: str | Path | onnx.ModelProto | torch.nn.Module | Model,
    after: str | Path | onnx.ModelProto | torch.nn.Module | Model,
    *,
    example: Any = None,
    norms: bool = False,
    templates: Sequence[str | Path | Template] = (),
    on_step: Callable[[str, Outcome], None] = lambda what, outcome: None,
    **asked: Any,
) -> Comparison:
    """Bound two networks as `bound` does, with its arguments, and say whether the constant certainly changed.

    It increased where the one after attains more than the bound of the one before, and decreased the other way round;
    else nothing is proven. `norms` adds the norms of the layers. Each network gets `timeout` seconds.
    UsageError where their inputs or their chosen outputs differ in size.

        >>> compared = lipcert.compare("models/digits_tanh.onnx", "models/digits_relu.onnx", method="product")
        >>> compared.change in ("increased", "decreased", "undecided")
        True
    """
    from lipcert.planning import Outcome
    from lipcert.report.comparison import build_comparison

    models = [load(model, example=example, templates=templates) for model in (before, after)]
    choice = asked_query(asked.get("outputs"), asked.get("inputs"), asked.get("output", ""))
    problems = [posed(model, choice) for model in models]
    for what in ("size_in", "size_out"):
        sizes = [getattr(problem, what) for problem in problems]
        if sizes[0] != sizes[1]:
            put = "inputs" if what == "size_in" else "outputs"
            paths = " and ".join(model.path for model in models)
            raise UsageError(
                f"{paths} have {put} of {sizes[0]} and {sizes[1]} numbers", hint=f"choose {put} that correspond"
            )
    first, second = (bound(model, on_step=on_step, **asked) for model in models)
    if not norms:
        return build_comparison(first, second)

    def say(what: str) -> None:
        on_step(what, Outcome())

    timeout = asked.get("timeout")
    before_layers, after_layers = (layer_norms(model, timeout=timeout, on_step=say) for model in models)
    return build_comparison(first, second, (before_layers, after_layers))


def layer_norms(
    model: str | Path | onnx.ModelProto | torch.nn.Module | Model,
    *,
    example: Any = None,
    timeout: float | None = None,
    on_step: Callable[[str], None] = lambda what: None,
) -> list[LayerNorms]:
    """Certified l1, l2 and linf norms of each linear operator of a network, with what l2 attains.

    After `timeout` seconds (default 60) only quick rules are used.

        >>> [layer.l2 >= layer.attained for layer in lipcert.layer_norms("models/digits_relu.onnx")]
        [True, True, True]
    """
    from lipcert.planning import DEFAULT_TIMEOUT
    from lipcert.planning.layers import layer_norms as norms_of

    loaded = load(model, example=example)
    found = []
    for layer in norms_of(loaded.graph, DEFAULT_TIMEOUT if timeout is None else timeout):
        found.append(layer)
        on_step(f"norms: {layer.origin}")
    return found
