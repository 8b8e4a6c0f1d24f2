"""The Python API: what `help(lipcert)` shows."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lipcert.certificate.claim import Rows
from lipcert.errors import CertificateError, UnsupportedModelError, UsageError
from lipcert.frontend import Model, load_file, load_proto, model_digest
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
    together,
)
from lipcert.problem.samples import Samples, Source, check_labels, given_samples, read_samples, stated_source
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
from lipcert.report.reach import ReachReport, ReachReports
from lipcert.report.reading import AnyReport, Stored, read_stored
from lipcert.report.robustness import RobustnessReport
from lipcert.templates import Template, read_template

if TYPE_CHECKING:
    import onnx
    import torch

    from lipcert.planning import Outcome
    from lipcert.planning.layers import LayerNorms
    from lipcert.planning.robustness import RobustnessOutcome
    from lipcert.report.comparison import Comparison


def load(
    model: str | Path | onnx.ModelProto | torch.nn.Module | Model,
    *,
    example: Any = None,
    templates: Sequence[str | Path | Template] = (),
    unrolled: bool = False,
) -> Model:
    """Import a network: an ONNX file, an onnx.ModelProto, or a torch module (through its own ONNX export).

    `example` is an input tensor (or a tuple of them) for a torch module. The import is compared with onnxruntime.
    `templates` are quadratic constraints (TOML files, see sdp_templates) that stand for custom ops: what is proven of
    such a model is conditional on them. Loops are read as the fixed points that they tend to; `unrolled` reads their
    steps one by one.
    Raises ModelError where the model cannot be read or differs, UnsupportedModelError where it is not understood.

        >>> model = lipcert.load("models/digits_relu.onnx")
        >>> model.inputs[0].shape, model.parameters
        ((1, 64), 6570)
    """
    if isinstance(model, Model):
        if templates:
            raise UsageError("templates: the model is loaded already", hint="give them to lipcert.load")
        if unrolled and not model.unrolled:
            raise UsageError("unrolled: the model is loaded already", hint="give it to lipcert.load")
        return model
    read = [t if isinstance(t, Template) else read_template(t) for t in templates]
    if isinstance(model, str | Path):
        return load_file(model, templates=read, unrolled=unrolled)
    import onnx

    if isinstance(model, onnx.ModelProto):
        return load_proto(model, templates=read, unrolled=unrolled)
    if hasattr(model, "forward"):
        from lipcert.frontend.torch_export import export

        return load_proto(export(model, example), templates=read, unrolled=unrolled)
    raise UsageError(f"cannot load a {type(model).__name__}", hint="give a path, an onnx.ModelProto or a torch module")


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
    asked = Query(
        *_norms(norm, norm_in, norm_out), outputs=_outputs(outputs), inputs=tuple(inputs or ()), output=output
    )
    problem = _posed(loaded, asked, region, center, eps, ball)
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
    asked = Query(
        *_norms(norm, norm_in, norm_out), outputs=_outputs(outputs), inputs=tuple(inputs or ()), output=output
    )
    kinds = {(type(region), region.norm if isinstance(region, Ball) else 0.0) for region in regions}
    if len(kinds) > 1:
        raise UsageError("bound_many: regions of several kinds", hint="give boxes, or balls in one norm")
    if not regions:
        return
    first = _posed(loaded, asked, regions[0], None, None, None)
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
    choice = Query(
        outputs=_outputs(asked.get("outputs")), inputs=tuple(asked.get("inputs") or ()), output=asked.get("output", "")
    )
    problems = [_posed(model, choice, None, None, None, None) for model in models]
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
        return check_robustness(report, loaded, _stated_samples(report, loaded, data, labels), strict=strict)
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


def certify(
    model: str | Path | onnx.ModelProto | torch.nn.Module | Model,
    data: Any,
    labels: Any = None,
    *,
    eps: float | Sequence[float],
    example: Any = None,
    norm: Any = 2,
    output: str = "",
    local: bool = False,
    labels_column: int | None = None,
    rows: tuple[int, int] | None = None,
    skip_columns: int = 0,
    scale: float = 1.0,
    layout: str = "chw",
    timeout: float | None = None,
    local_timeout: float | None = None,
    device: str = "auto",
    attack_steps: int = 40,
    restarts: int = 10,
    checkpoint: str | Path | None = None,
    on_step: Callable[[str, RobustnessOutcome], None] = lambda what, outcome: None,
) -> RobustnessReport:
    """Certify which samples keep their label in all of the ball of each radius `eps` around them (in l_norm).

    `data` (samples first) and `labels` are arrays, or npy, npz or csv files; labels may be a column of the csv.
    Radii follow from proven Lipschitz constants of margins everywhere, for which there are `timeout` seconds; with
    `local`, samples that these do not do for are proven ball by ball, `local_timeout` seconds each. An attack (PGD)
    shows from above how much is missing. With a `checkpoint` file a run goes on where it was stopped.

        >>> x, y = np.full((2, 64), 0.5), np.array([8, 8])
        >>> report = lipcert.certify("models/digits_relu.onnx", x, y, eps=[0.01, 0.1], timeout=0)
        >>> report.certified_accuracy[0.01] <= report.attack_accuracy[0.01]
        True
    """
    from lipcert.certificate.robustness import Classifier
    from lipcert.planning.robustness import LOCAL_SECONDS, Asked, solve_robustness
    from lipcert.planning.solve import DEFAULT_TIMEOUT
    from lipcert.report.checkpoint import SampleCheckpoint
    from lipcert.report.robustness import build_robustness, describe_query
    from lipcert.report.writing import check_writable

    asked = Asked(
        parse_norm(norm, "norm"),
        _radii(eps),
        output,
        local,
        DEFAULT_TIMEOUT if timeout is None else timeout,
        LOCAL_SECONDS if local_timeout is None else local_timeout,
        device,
        attack_steps,
        restarts,
    )
    if checkpoint is not None:
        check_writable(str(checkpoint), "--checkpoint")
    loaded = load(model, example=example)
    if loaded.templates:
        raise UsageError("certify: attacks do not know what a template stands for", hint="leave it out")
    _check_output(loaded, output)
    source = Source(_path(data), _path(labels), labels_column, rows, skip_columns, scale, layout)
    samples = _samples(loaded, source, data, labels)
    classifier = Classifier(loaded.graph, asked.norm, output)
    check_labels(samples, classifier.posed(AllOutputs()).size_out)
    kept, resume = None, None
    if checkpoint is not None:
        query = describe_query(source, samples, asked.norm, asked.eps, output)
        kept = SampleCheckpoint(checkpoint, loaded, {**query, "local": local})
        resume = kept.read()
    try:
        outcome = solve_robustness(
            classifier,
            samples.points,
            samples.labels,
            samples.first,
            asked,
            resume=resume,
            on_step=on_step,
            save=lambda outcome: None if kept is None else kept.save(outcome),
        )
    except UnsupportedModelError as error:
        raise UnsupportedModelError(f"{loaded.path}: {error.message}", hint=error.hint) from None
    if kept is not None:
        kept.save(outcome, last=True)
    return build_robustness(loaded, source, samples, asked, outcome)


def _radii(eps: float | Sequence[float]) -> tuple[float, ...]:
    try:
        return tuple(np.asarray(eps, dtype=np.float64).reshape(-1).tolist())
    except (TypeError, ValueError):
        raise UsageError(f"eps: {eps!r} is no radius, nor a list of them") from None


def _stated_samples(report: RobustnessReport, model: Model, data: Any, labels: Any) -> Samples:
    """The data of a report of certify: those given, else those that it names."""
    source = stated_source(report.data["query"].get("data"))
    if data is None and not source.data:
        raise UsageError("the report is about arrays", hint="give its data and labels")
    source = replace(source, data=_path(data) or source.data, labels=_path(labels) or source.labels)
    return _samples(model, source, data, labels)


def _path(given: Any) -> str:
    """Of a file; "" for arrays and nothing."""
    return str(given) if isinstance(given, str | Path) else ""


def _samples(model: Model, source: Source, data: Any, labels: Any) -> Samples:
    shape = model.inputs[0].shape if len(model.inputs) == 1 else (sum(size_of(t.shape) for t in model.inputs),)
    if data is None or isinstance(data, str | Path):
        if not (labels is None or isinstance(labels, str | Path)):
            raise UsageError("labels: data are a file, and so shall these be")
        return read_samples(source, shape)
    return given_samples(source, data, labels, shape)


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
    asked = Query(outputs=_outputs(outputs), inputs=tuple(inputs or ()), output=output)
    problem = _posed(loaded, asked, region, center, eps, ball, as_run=True)
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
    asked = Query(outputs=_outputs(outputs), inputs=tuple(inputs or ()), output=output)
    if not regions:
        raise UsageError("reach_many: no regions", hint="give balls or boxes")
    together(regions)  # says what does not fit
    problem = _posed(loaded, asked, regions[0], None, None, None, as_run=True)
    for region in regions:
        region.bounds(problem.size_in)
    boxes = solve_reach_many(problem, regions, timeout=timeout, device=device, on_row=on_row)
    return ReachReports(loaded, [replace(problem.query, region=region) for region in regions], boxes)


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
    problem = _posed(loaded, Query(outputs=_outputs(outputs), output=output), region, center, eps, ball)
    if loaded.templates:
        raise UsageError("monotone: a template says nothing of signs", hint="leave --template out")
    if not chosen:
        raise UsageError("monotone: no inputs are chosen", hint="name some, for example 0,3")
    outcome = solve_monotone(problem, tuple(chosen), increasing, tolerance=tolerance, timeout=timeout)
    return build_monotone(loaded, problem.query, outcome)


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


def _posed(
    model: Model,
    asked: Query,
    region: Region | None,
    center: Any,
    eps: float | None,
    ball: Any,
    *,
    as_run: bool = False,
) -> Problem:
    """The query over the region, posed for the model."""
    _check_output(model, asked.output)
    size = sum(size_of(t.shape) for t in model.inputs if not asked.inputs or t.name in asked.inputs)
    return pose(model.graph, replace(asked, region=_region(region, center, eps, ball, asked, size)), as_run=as_run)


def _norms(norm: Any, norm_in: Any, norm_out: Any) -> tuple[float, float]:
    return (
        parse_norm(norm, "norm") if norm_in is None else parse_norm(norm_in, "norm_in"),
        parse_norm(norm, "norm") if norm_out is None else parse_norm(norm_out, "norm_out"),
    )


def _check_output(model: Model, output: str) -> None:
    """UnsupportedModelError with the reason why an output is not read."""
    if output in model.lost_outputs:
        raise UnsupportedModelError(
            f"{model.path}: output {output!r} is not read: {model.lost_outputs[output]}",
            hint=f"choose one of {', '.join(t.name for t in model.outputs)}",
        )


def _region(region: Region | None, center: Any, eps: float | None, ball: Any, query: Query, size: int) -> Region:
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


def _outputs(outputs: int | list[int] | tuple[int, ...] | OutputChoice | None) -> OutputChoice:
    if outputs is None:
        return AllOutputs()
    if isinstance(outputs, OutputChoice):
        return outputs
    indices = (outputs,) if isinstance(outputs, int) else tuple(outputs)
    if not indices:
        raise UsageError("outputs: none are chosen", hint="leave it out for all outputs")
    return SomeOutputs(indices)
