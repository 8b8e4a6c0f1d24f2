"""Which boxes a method uses: linear bounds where there is time for them, else intervals."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from lipcert.activations import Relu
from lipcert.certificate.arithmetic import Arithmetic
from lipcert.certificate.boxes import Bounds, propagate
from lipcert.certificate.claim import Claim, Slopes
from lipcert.certificate.linear_bounds import boxes_of, paired, whole_net
from lipcert.certificate.planes import Net
from lipcert.errors import NotProvedError
from lipcert.graph import Affine, Elementwise, State
from lipcert.methods.base import OutOfTime, Progress
from lipcert.problem import Everywhere, Problem

SHARE = 0.25
"""Of the time that is left, which linear bounds may take."""

SLOPES_SHARE = 0.1
"""Of it, which the search for slopes may take."""

MULTIPLICATIONS_A_SECOND = 1e9
"""Of coefficients on their way back; half of them are for what is rounded."""


@dataclass(frozen=True, eq=False)
class Chosen:
    """Boxes of all nodes, and whether they are by linear bounds, and by which: what claims say."""

    boxes: list[Bounds]
    linear: bool
    slopes: tuple[Slopes, ...] = ()

    def claim(self, claim: Claim) -> Claim:
        """The claim, made with these boxes."""
        return replace(claim, linear=self.linear, slopes=self.slopes)


@dataclass(frozen=True, eq=False)
class ChosenNet:
    """The net over the whole region, the slopes of its lines, and whether it is of the graph in pairs."""

    net: Net
    slopes: tuple[Slopes, ...]
    pairs: bool = False


def in_pairs(problem: Problem, by: Arithmetic) -> Problem | None:
    """The same with softmax and the like in pairs, if there are any and planes may be used for them."""
    if isinstance(problem.query.region, Everywhere) or is_implicit(problem):
        return None
    try:
        return paired(problem, by)
    except NotProvedError:
        return None


def choose_boxes(problem: Problem, progress: Progress) -> Chosen:
    """Linear bounds if the region is bounded and they take a share of the time that is left."""
    by = progress.arithmetic
    try:
        intervals = propagate(problem, by)
    except NotProvedError:
        if not problem.equilibria:
            raise
        intervals = propagate(replace(problem, equilibria=()), by)  # these are in boxes of planes only
    implicit = is_implicit(problem) and not problem.equilibria
    if not progress.linear or isinstance(problem.query.region, Everywhere) or implicit:
        return Chosen(intervals, False)
    if (known := _found(problem, by).get("net")) is not None:
        return Chosen(boxes_of(problem, known.net, by), True, known.slopes)
    if _work(problem, intervals) / MULTIPLICATIONS_A_SECOND > SHARE * progress.remaining():
        return Chosen(intervals, False)
    before, by.tick = by.tick, _until(progress, (1 - 2 * SHARE) * progress.remaining())
    try:
        whole_net(problem, by)  # kept
        chosen = choose_net(problem, progress)
        return Chosen(boxes_of(problem, chosen.net, by), True, chosen.slopes)
    except (OutOfTime, NotProvedError):  # numbers that overflow
        return Chosen(intervals, False)
    finally:
        by.tick = before


def choose_net(problem: Problem, progress: Progress) -> ChosenNet:
    """Linear bounds by slopes that are searched for, for a share of the time that is left; once for a region.

    NotProvedError as linear_bounds.whole_net.
    """
    found = _found(problem, progress.arithmetic)
    if "net" not in found:
        found["net"] = _search_slopes(problem, progress)
    return found["net"]


def _found(problem: Problem, by: Arithmetic) -> dict[str, ChosenNet]:
    """The net that was chosen before, as "net"."""
    return by.kept(("chosen net", problem.graph, problem.query.region), dict)


def _search_slopes(problem: Problem, progress: Progress) -> ChosenNet:
    """Without any where nothing is open."""
    by = progress.arithmetic
    plain = ChosenNet(whole_net(problem, by), ())
    if is_implicit(problem) or not _has_open_ramps(plain.net):  # the search does not follow fixed points
        return plain
    before, by.tick = by.tick, _until(progress, (1 - SLOPES_SHARE) * progress.remaining())
    try:
        slopes = progress.slopes
        if slopes is None:
            (slopes,) = find_slopes([problem], progress.device, by)
        return ChosenNet(whole_net(problem, by, slopes), slopes)
    except OutOfTime:
        return plain
    finally:
        by.tick = before


def find_slopes(problems: Sequence[Problem], device: str, by: Arithmetic) -> list[tuple[Slopes, ...]]:
    """For each of some problems that differ in their regions, balls in one norm or boxes; NotProvedError as whole_net.

    `by.tick` is asked on the way.
    """
    import torch

    from lipcert.methods.device import choose_device
    from lipcert.methods.propagation import Network, SlopeSearch, regions_on

    where = choose_device(device)
    network = Network(problems[0], where, torch.float32, by)
    regions = [p.query.region for p in problems if not isinstance(p.query.region, Everywhere)]
    search = SlopeSearch(network, len(regions))
    network.net(regions_on(regions, where, torch.float32), search.improve)
    return [tuple(slopes) for slopes in search.slopes]


def is_implicit(problem: Problem) -> bool:
    """Whether it has fixed points."""
    return any(isinstance(node, State) for node in problem.graph.nodes)


def _has_open_ramps(net: Net) -> bool:
    """Whether the slope of some line below a ramp is free."""
    ramps = [i for i, n in enumerate(net.nodes) if isinstance(n, Elementwise) and isinstance(n.activation, Relu)]
    return any(np.any(net.slopes[i][0] < net.slopes[i][1]) for i in ramps)


def _work(problem: Problem, boxes: list[Bounds]) -> float:
    """Multiplications: what every entry whose slope is open costs on its way back."""
    graph = problem.graph
    total = passed = 0.0
    for i, node in enumerate(graph.nodes):
        if isinstance(node, Affine):
            passed += sum(operator.work for operator in node.operators)
            if i == problem.y or any(i in other.inputs and not isinstance(other, Affine) for other in graph.nodes):
                low, high = boxes[i]
                total += 4.0 * float(np.count_nonzero(low < high)) * passed
    return total


def _until(progress: Progress, left: float) -> Callable[[], None]:
    """A tick that raises OutOfTime when no more than this is left."""

    def tick() -> None:
        if progress.remaining() < left:
            raise OutOfTime

    return tick
