"""What `lipcert inspect` says of implicit layers: whether each has one solution, why, and how fast it is found."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass

import numpy as np

from lipcert.certificate.arithmetic import Arithmetic
from lipcert.certificate.implicit import NEARLY, Layer, check_unique, contraction, layers_of, majorant, majorant_weights
from lipcert.errors import NotProvedError
from lipcert.graph import Graph
from lipcert.methods import OutOfTime, Progress
from lipcert.methods.implicit.multipliers import find_multipliers, margin
from lipcert.planning.solve import patience

ACCURACY = 1e-8

SECONDS = 60.0
"""Of which half may go by in search of multipliers."""


@dataclass(frozen=True)
class WellPosedness:
    """Of one implicit layer. `condition`: inf, 2, or none that was found, and then the facts that tell why."""

    origin: str
    neurons: int
    condition: str
    measure: float
    """mu of the slopes times A in l-infinity, at its best weights: proven from above where `condition` is inf."""

    margin: float
    """1 - mu; for l2, what is left of the form in units of its diagonal: proven to be above 0."""

    symmetric: float
    """The largest eigenvalue of (A + A') / 2, computed."""

    rate: float
    """By which a step shortens the distance to the solution: averaged steps (inf), forward-backward steps (2)."""

    step: float

    @property
    def iterations(self) -> int | None:
        """Steps to 1e-8 of the distance at the start."""
        if not 0 <= self.rate < 1:
            return None
        return 1 if self.rate == 0 else math.ceil(math.log(ACCURACY) / math.log(self.rate))


def well_posedness(graph: Graph) -> list[WellPosedness]:
    """Of every implicit layer; NotProvedError where a fixed point has another form."""
    by = Arithmetic()
    by.tick = patience(Progress(time.monotonic() + SECONDS))
    return [_of_layer(layer, by) for layer in layers_of(graph, by).values()]


def _of_layer(layer: Layer, by: Arithmetic) -> WellPosedness:
    a = layer.matrix.value
    symmetric = float(np.linalg.eigvalsh((a + a.T) / 2)[-1])
    weights = _best_weights(layer)
    measure = float(np.linalg.eigvals(majorant(layer)).real.max())
    if weights is not None and (proven := contraction(layer, weights)) < 1:
        diagonal = np.diag(a)
        share = 1 / (1 + np.max(np.maximum(*(-diagonal * s for s in layer.slopes())), initial=0.0))
        rate = 1 - share * (1 - max(proven, 0.0))
        return WellPosedness(layer.origin, layer.size, "inf", proven, 1 - proven, symmetric, rate, share)
    try:
        multipliers = find_multipliers(layer, by.tick)
    except OutOfTime:
        multipliers = None
    if multipliers is None:
        return WellPosedness(layer.origin, layer.size, "none", measure, -math.inf, symmetric, math.inf, 0.0)
    try:
        check_unique(layer, multipliers, by)
    except NotProvedError:
        return WellPosedness(layer.origin, layer.size, "none", measure, -math.inf, symmetric, math.inf, 0.0)
    root = np.sqrt(multipliers)
    turned = np.eye(layer.size) - root[:, None] * a / root
    least, size = float(np.linalg.eigvalsh((turned + turned.T) / 2)[0]), float(np.linalg.norm(turned, 2))
    rate = math.sqrt(max(0.0, 1 - (least / size) ** 2)) if least > 0 else math.inf
    left = margin(layer, multipliers)
    return WellPosedness(layer.origin, layer.size, "2", measure, left, symmetric, rate, least / size**2)


def _best_weights(layer: Layer) -> np.ndarray | None:
    """Nearly the Perron vector of the majorant, and positive; where that is worse, what the kernel tries."""
    some = majorant_weights(layer)
    if some is None:
        return None
    values, vectors = np.linalg.eig(majorant(layer))
    perron = np.abs(vectors[:, int(np.argmax(values.real))].real)
    tried = [perron / max(perron.max(), 1e-300) + 1e-9 * some / some.max(), some, majorant_weights(layer, NEARLY)]
    return min((w for w in tried if w is not None), key=lambda w: contraction(layer, w))
