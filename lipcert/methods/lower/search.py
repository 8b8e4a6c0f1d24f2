"""Where is the network steepest? Batched gradient ascent with restarts on the device, polished in float64.

The ascent maximises the ratio |f(x + h d) - f(x - h d)|_q / (2 h |d|_p) over x and d while h shrinks: on piecewise
linear networks the Jacobian norm itself has no gradient, the ratio has. Each candidate is then a point and the
steepest direction of its Jacobian; the best one is proven by certificate.witness.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from lipcert.activations.templated import TemplatedGroups
from lipcert.certificate import Witness
from lipcert.graph import Groupwise, Node, State
from lipcert.methods.base import Progress
from lipcert.methods.boxes import is_implicit
from lipcert.methods.implicit import at_witness
from lipcert.methods.lower.directions import Jacobian, steepest_directions
from lipcert.problem import Ball, Box, Problem, Region

if TYPE_CHECKING:
    import torch

RESTARTS = 32
STEPS = 40
POLISHED = 8
WORK = 2**30
"""Multiplications that one step of the search may take."""

NEWTON = 4
"""Solutions of linear systems that the solution of an implicit layer takes."""

TOLD = 3
"""Witnesses of implicit networks, each of which needs a box for its solution."""

SECONDS = 4.0
"""The ascent takes at most this long, and the polish half of that ..."""

SHARE = 0.1
"""... and no more than this part of what is left."""


def find_witness(problem: Problem, progress: Progress, device: str = "auto", seed: int = 0) -> list[Witness]:
    """Candidate witnesses, the most promising first; each is inside the region."""
    implicit = is_implicit(problem)
    if any(_is_templated(node) for node in problem.graph.nodes) or (implicit and not problem.equilibria):
        return []  # the kernel does not enclose their values
    if implicit and progress.remaining() < 0 and _affordable(problem) == 1:
        return []  # one solution takes long, and its box longer
    random = np.random.default_rng(seed)
    points = _starting_points(problem, random)
    points = points[:: max(1, len(points) // _affordable(problem))]
    points = np.concatenate([points, _ascend(problem, points, random, progress, device)])
    points = np.array([x for x in points if problem.query.region.contains(x)])
    found = _polish(problem, points, random, _at_most(progress, min(SECONDS, SHARE * progress.remaining()) / 2))
    return list(_located(problem, found, progress)) if implicit else found


def _located(problem: Problem, found: list[Witness], progress: Progress) -> Iterator[Witness]:
    """The first ones with boxes for solutions, while there is time."""
    for told, witness in enumerate(found[:TOLD]):
        if told and progress.remaining() < 0:
            return
        yield at_witness(problem, witness, progress.arithmetic)


def _is_templated(node: Node) -> bool:
    return isinstance(node, Groupwise) and isinstance(node.function, TemplatedGroups)


def _affordable(problem: Problem) -> int:
    """How many points at a time: one evaluation of a large network takes as long as all of them of a small one."""
    work = problem.graph.work
    work += sum(NEWTON * problem.graph.size(i) ** 3 for i, n in enumerate(problem.graph.nodes) if isinstance(n, State))
    return int(np.clip(WORK // max(1, work), 1, RESTARTS))


def _starting_points(problem: Problem, random: np.random.Generator) -> np.ndarray:
    """Points of the region; everywhere: Gaussian at several scales, the origin and the unit cube."""
    n, region = problem.size_in, problem.query.region
    if isinstance(region, Ball | Box):
        inside = project(region, region_center(region) + random.uniform(-1, 1, (RESTARTS, n)) * half_widths(region, n))
        inside[0] = region_center(region)
        return inside
    scales = np.repeat([0.1, 0.3, 1.0, 3.0], RESTARTS // 4)[:, None]
    points = scales * random.standard_normal((RESTARTS, n))
    points[0] = 0.0
    points[1 : RESTARTS // 4] = random.uniform(0, 1, (RESTARTS // 4 - 1, n))
    return points


def _ascend(
    problem: Problem, points: np.ndarray, random: np.random.Generator, progress: Progress, device: str
) -> np.ndarray:
    """Adam on the log of the finite-difference ratio, projected to the region; returns the final points."""
    import torch

    from lipcert.methods.adam import Adam
    from lipcert.methods.device import choose_device
    from lipcert.methods.lower.torch_network import TorchNetwork

    network = TorchNetwork(problem, choose_device(device), torch.float32)
    p, q, region = problem.query.norm_in, problem.query.norm_out, problem.query.region
    widths = half_widths(region, problem.size_in)
    free = not isinstance(region, Ball | Box)
    scale = torch.as_tensor(np.ones(problem.size_in) if free else widths, dtype=torch.float32, device=network.device)
    x = torch.as_tensor(points, dtype=torch.float32, device=network.device)
    d = torch.as_tensor(random.standard_normal(points.shape), dtype=torch.float32, device=network.device)
    variables = [torch.zeros_like(x).requires_grad_(), d.requires_grad_()]
    optimiser = Adam(variables, 0.1)
    steps = np.geomspace(0.3, 1e-3, STEPS)
    stop = _at_most(progress, min(SECONDS, SHARE * progress.remaining()))
    for h in steps:
        if stop.remaining() < 0:
            break
        offset, direction = variables
        here = x + offset * scale
        move = h * scale * direction / direction.norm(dim=1, keepdim=True).clamp_min(1e-30) * math.sqrt(len(scale))
        if not free:
            move = move.clamp(-h * scale, h * scale)
        rise = _norm(network(here + move) - network(here - move), q)
        optimiser.descend(-(rise / _norm(2 * move, p).clamp_min(1e-30)).clamp_min(1e-30).log().sum())
        if not free:
            with torch.no_grad():
                offset.clamp_(-1, 1)
    with torch.no_grad():
        final = (x + variables[0] * scale).double().cpu().numpy()
    final = final[np.all(np.isfinite(final), axis=1)]
    return final if free else project(region, final)


def _polish(problem: Problem, points: np.ndarray, random: np.random.Generator, stop: Progress) -> list[Witness]:
    """The steepest directions at the points, and the best few points again with more iterations."""
    p, q = problem.query.norm_in, problem.query.norm_out
    if stop.remaining() < 0:
        points = np.concatenate([points[:1], points[1:][-POLISHED:]])  # the centre, and the results of the ascent
    if not len(points):
        return []
    jacobian = Jacobian(problem, points)
    _, gains = steepest_directions(jacobian, random.standard_normal(points.shape), p, q, 6, stop)
    best = points[np.argsort(-gains)[:POLISHED]]
    jacobian = Jacobian(problem, best)
    found: list[tuple[float, Witness]] = []
    for _ in range(3):  # a power iteration between other norms than l2 can stop at a local maximum
        directions, gains = steepest_directions(jacobian, random.standard_normal(best.shape), p, q, 30, stop)
        found += [
            (gain, Witness(x, d)) for gain, x, d in zip(gains.tolist(), best, directions, strict=True) if np.any(d)
        ]
        if stop.remaining() < 0:
            break
    return [witness for _, witness in sorted(found, key=lambda pair: -pair[0])[:POLISHED]]


def _at_most(progress: Progress, seconds: float) -> Progress:
    return Progress(min(progress.deadline, time.monotonic() + seconds))


def region_center(region: Ball | Box) -> np.ndarray:
    return region.center if isinstance(region, Ball) else region.lower / 2 + region.upper / 2


def half_widths(region: Region, n: int) -> np.ndarray:
    if isinstance(region, Ball):
        return np.full(n, region.eps)
    if isinstance(region, Box):
        return (region.upper - region.lower) / 2
    return np.ones(n)


def project(region: Region, points: np.ndarray) -> np.ndarray:
    """Points moved inside the region, with a margin for rounding."""
    if isinstance(region, Box):
        return np.clip(points, region.lower, region.upper)
    assert isinstance(region, Ball)
    offset = points - region.center
    size = np.linalg.norm(offset, ord=region.norm, axis=1, keepdims=True)
    shrink = np.minimum(1.0, region.eps * (1 - 1e-9) / np.maximum(size, 1e-300))
    inside = region.center + offset * shrink
    # where eps is below the rounding of the center, only the center is certainly inside
    return np.array([x if region.contains(x) else region.center for x in inside])


def _norm(v: torch.Tensor, q: float) -> torch.Tensor:
    import torch

    return torch.linalg.vector_norm(v, ord=q, dim=1)
