"""Robust accuracy: certified over the samples of a data set, and attacked."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lipcert.api.models import load
from lipcert.api.queries import check_output
from lipcert.errors import UnsupportedModelError, UsageError
from lipcert.frontend import Model
from lipcert.operators import size_of
from lipcert.problem import AllOutputs, parse_norm
from lipcert.problem.samples import Samples, Source, check_labels, given_samples, read_samples, stated_source
from lipcert.report.robustness import RobustnessReport

if TYPE_CHECKING:
    import onnx
    import torch

    from lipcert.planning.robustness import RobustnessOutcome


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
    check_output(loaded, output)
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


def stated_samples(report: RobustnessReport, model: Model, data: Any, labels: Any) -> Samples:
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
