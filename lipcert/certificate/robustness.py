"""Robust accuracy: how far around a sample the predicted class is proven to stay what it is.

If f_c(x) - f_j(x) >= m and the margin f_c - f_j has the Lipschitz constant L, it is above zero wherever |d| < m / L
(Hein, Andriushchenko 2017; Tsuzuku, Sato, Sugiyama 2018). Quotients are rounded down to a number below the true one, so
that the closed ball of that radius is proven. All radii are in the norm of the inputs, of float64 data taken as exact.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from lipcert.arithmetic.rounding import down, mul_up, up
from lipcert.certificate.arithmetic import Arithmetic
from lipcert.certificate.boxes import Bounds, node_box
from lipcert.certificate.claim import Attack, BallClaim, Claim, Equilibrium, MarginClaim, RobustnessClaim, SampleClaim
from lipcert.certificate.verify import check_underflow, value_at, verify, verify_box
from lipcert.errors import NotProvedError
from lipcert.graph import Graph, Groupwise, State
from lipcert.problem import Ball, Everywhere, Margin, Margins, Norm, OutputChoice, Problem, Query, Region, pose
from lipcert.problem.outputs import AllOutputs

LARGEST = float(np.finfo(np.float64).max)

ROOM = 2.0**-40
"""Of outputs, by which margins are taken to be smaller: for a checker whose sums run in another order."""

CHUNK = 2**24
"""Entries of a node at many samples that are evaluated at a time."""


@dataclass(frozen=True, eq=False)
class Classifier:
    """The class is the largest output; perturbations are measured in `norm`."""

    graph: Graph
    norm: Norm
    output: str = ""

    def posed(self, outputs: OutputChoice, region: Region | None = None) -> Problem:
        """What a claim about these outputs is about; of several ones in l2."""
        return pose(self.graph, Query(self.norm, 2.0, region or Everywhere(), outputs, output=self.output))


@np.errstate(over="ignore", invalid="ignore")  # overflow ends in inf or NaN, which proves nothing
def outputs_at(
    problem: Problem, points: np.ndarray, equilibria: Iterable[tuple[Equilibrium, ...]], by: Arithmetic
) -> Bounds:
    """(K, outputs) bounds on the outputs at points (K, inputs); `equilibria` of implicit layers, for each point."""
    check_underflow()
    if any(isinstance(node, State) for node in problem.graph.nodes):
        each = [value_at(problem, x, by, there) for x, there in zip(points, equilibria, strict=True)]
        ends = [np.array(end).reshape(len(points), problem.size_out) for end in zip(*each, strict=True)]
        return (ends[0], ends[1]) if ends else (np.zeros((0, problem.size_out)),) * 2
    step = max(1, CHUNK // max(problem.graph.size(i) for i in range(len(problem.graph.nodes))))
    parts = [_values(problem, points[i : i + step], by) for i in range(0, max(1, len(points)), step)]
    return np.concatenate([low for low, _ in parts]), np.concatenate([high for _, high in parts])


def _values(problem: Problem, points: np.ndarray, by: Arithmetic) -> Bounds:
    boxes: list[Bounds] = []
    for i, node in enumerate(problem.graph.nodes):
        if i == problem.x:
            boxes.append((points, points))
        elif isinstance(node, Groupwise) and len(points):
            sides = (np.broadcast_to(side, (len(points), side.shape[-1])) for side in boxes[node.input])
            each = [node.function.enclose(low, high) for low, high in zip(*sides, strict=True)]
            boxes.append((np.array([low for low, _ in each]), np.array([high for _, high in each])))
        else:
            boxes.append(node_box(problem, i, boxes, {}, by))
    low, high = boxes[problem.y]
    shape = (len(points), problem.size_out)
    return np.broadcast_to(low, shape), np.broadcast_to(high, shape)


def margins_of(outputs: Bounds, classes: np.ndarray) -> np.ndarray:
    """(K, outputs) what the outputs of the classes are above each other one, at least; infinite for itself."""
    low, high = outputs
    own, each = low[np.arange(len(low)), classes][:, None], np.arange(low.shape[1])
    with np.errstate(invalid="ignore", over="ignore"):
        margins = down(own - high)
    return np.where(each == classes[:, None], math.inf, np.where(np.isnan(margins), -math.inf, margins))


def radii_of(margins: np.ndarray, constants: np.ndarray) -> np.ndarray:
    """(...) radii of closed balls in which all margins (..., outputs) of these constants are above zero; 0: none."""
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        each = down(np.minimum(margins / constants, LARGEST))
    each = np.where(margins > 0, np.where(constants == 0, LARGEST, each), 0.0)
    return np.asarray(np.maximum(np.nan_to_num(each, nan=0.0, posinf=LARGEST).min(axis=-1), 0.0))


def misclassified(outputs: Bounds, labels: np.ndarray) -> np.ndarray:
    """(K,) whether the label's output is proven not to be above all others: a tie is none of its own."""
    low, high = outputs
    own, each = high[np.arange(len(high)), labels][:, None], np.arange(high.shape[1])
    return np.asarray(np.any((low >= own) & (each != labels[:, None]), axis=1))


def room_of(outputs: Bounds) -> np.ndarray:
    """(K, 1) the room of outputs at samples."""
    low, high = outputs
    return np.asarray(ROOM * np.maximum(np.abs(low), np.abs(high)).max(axis=1, keepdims=True))


def surpassed(outputs: Bounds, classes: np.ndarray) -> np.ndarray:
    """(K,) whether another output is proven to be above that of the class, and not just in this order of sums."""
    low, high = outputs
    own = high[np.arange(len(high)), classes][:, None]
    with np.errstate(invalid="ignore"):
        return np.asarray(np.any(low - 2 * room_of(outputs) > own, axis=1))


def constants_of(classifier: Classifier, claim: RobustnessClaim, by: Arithmetic) -> np.ndarray:
    """(outputs, outputs) proven Lipschitz constants of margins everywhere; infinite where none is claimed."""
    everything = classifier.posed(AllOutputs())
    found = np.full((everything.size_out,) * 2, math.inf)
    if len(claim.shared) > 1:
        raise NotProvedError(f"{len(claim.shared)} claims are said to be about all outputs")
    for shared in claim.shared:
        verify(everything, shared, by)
        found[:] = shared_constant(shared)
    for margin in claim.margins:
        verify(classifier.posed(_pair(margin)), margin.claim, by)
        for i, j in ((margin.first, margin.second), (margin.second, margin.first)):
            found[i, j] = min(found[i, j], margin.claim.value)
    np.fill_diagonal(found, 0.0)
    return found


def shared_constant(claim: Claim) -> float:
    """Of every margin, from that of all outputs in l2."""
    return float(mul_up(float(up(math.sqrt(2.0))), claim.value))


def radius_in(ball: BallClaim, predicted: int, margins: np.ndarray) -> float:
    """Up to ball.eps, the radius that follows from what the ball claims; `margins` (outputs,) at its center."""
    above = np.insert(ball.box.lower > 0, predicted, True)
    constants = np.where(above, 0.0, math.inf)
    for margin in ball.margins:
        constants[margin.second] = min(constants[margin.second], margin.claim.value)
    return min(ball.eps, float(radii_of(np.where(above, math.inf, margins), constants)))


def check_ball(classifier: Classifier, point: np.ndarray, predicted: int, ball: BallClaim, by: Arithmetic) -> None:
    """NotProvedError where the ball's claims are not proven."""
    region = Ball(point, ball.eps, classifier.norm)
    verify_box(classifier.posed(Margins(predicted), region), ball.box, by)
    for margin in ball.margins:
        if margin.first != predicted:
            raise NotProvedError(f"a margin of class {margin.first} is given for a sample of class {predicted}")
        verify(classifier.posed(_pair(margin), region), margin.claim, by)


def attacks_hold(
    classifier: Classifier, points: np.ndarray, labels: np.ndarray, attacks: Sequence[Attack], by: Arithmetic
) -> np.ndarray:
    """(K,) whether an attack on each point, one of each, is certainly in its ball and certainly misclassified there."""
    problem = classifier.posed(AllOutputs())
    if any(attack.point.shape != (problem.size_in,) for attack in attacks):
        raise NotProvedError(f"an attack does not have {problem.size_in} numbers")
    near = np.array([attack.point for attack in attacks]).reshape(len(attacks), problem.size_in)
    balls = [Ball(x, attack.eps, classifier.norm) for x, attack in zip(points, attacks, strict=True)]
    inside = np.array([ball.contains(x) for ball, x in zip(balls, near, strict=True)], dtype=bool)
    holds = np.zeros(len(attacks), dtype=bool)
    outputs = outputs_at(problem, near[inside], [a.equilibria for a, i in zip(attacks, inside, strict=True) if i], by)
    holds[inside] = misclassified(outputs, labels[inside])
    return holds


def verify_robustness(
    classifier: Classifier, points: np.ndarray, claim: RobustnessClaim, by: Arithmetic | None = None
) -> np.ndarray:
    """Prove the claims about samples, of which points (samples, inputs) are the data; NotProvedError names the first.

    Returns the constants of margins (outputs, outputs). That labels are those of the data is for the caller to see.
    """
    by = by or Arithmetic()
    problem = classifier.posed(AllOutputs())
    if points.shape != (len(claim.samples), problem.size_in) or not np.all(np.isfinite(points)):
        raise NotProvedError(f"the samples are not {len(claim.samples)} of {problem.size_in} finite numbers")
    for sample in claim.samples:
        if not (0 <= sample.predicted < problem.size_out and 0 <= sample.label < problem.size_out):
            raise NotProvedError(f"sample {sample.index}: there is no such class")
    constants = constants_of(classifier, claim, by)
    outputs = outputs_at(problem, points, [sample.equilibria for sample in claim.samples], by)
    classes = np.array([sample.predicted for sample in claim.samples], dtype=int)
    margins = margins_of(outputs, classes)
    proven = radii_of(margins, constants[classes])
    wrong = surpassed(outputs, classes)
    for k, sample in enumerate(claim.samples):
        try:
            if wrong[k]:
                raise NotProvedError(f"another output is above {sample.predicted}")
            if sample.predicted == sample.label and not np.all(margins[k] > 0):
                raise NotProvedError(f"output {sample.label} is not proven to be above all others")
            _check_sample(classifier, points[k], sample, margins[k], float(proven[k]), by)
        except NotProvedError as reason:
            raise NotProvedError(f"sample {sample.index}: {reason.message}") from None
    _check_attacks(classifier, points, claim, by)
    return constants


def _check_attacks(classifier: Classifier, points: np.ndarray, claim: RobustnessClaim, by: Arithmetic) -> None:
    which = [k for k, sample in enumerate(claim.samples) for _ in sample.attacks]
    attacks = [attack for sample in claim.samples for attack in sample.attacks]
    labels = np.array([claim.samples[k].label for k in which], dtype=int)
    holds = attacks_hold(classifier, points[which], labels, attacks, by)
    if not np.all(holds):
        sample = claim.samples[which[int(np.argmin(holds))]]
        raise NotProvedError(f"sample {sample.index}: an attack is not proven to be one on label {sample.label}")


def _check_sample(
    classifier: Classifier, point: np.ndarray, sample: SampleClaim, margins: np.ndarray, radius: float, by: Arithmetic
) -> None:
    fresh = type(by)  # what is kept about one ball is of no use for the next
    for ball in sample.balls if np.all(margins > 0) else ():
        check_ball(classifier, point, sample.predicted, ball, fresh())
        radius = max(radius, radius_in(ball, sample.predicted, margins))
    if not sample.radius <= radius:
        raise NotProvedError(f"a radius of {radius:.17g} is proven, and {sample.radius:.17g} is claimed")


def _pair(margin: MarginClaim) -> Margin:
    if margin.first == margin.second:
        raise NotProvedError(f"the margin of output {margin.first} against itself")
    return Margin(margin.first, margin.second)
