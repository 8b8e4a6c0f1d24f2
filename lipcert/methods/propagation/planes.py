"""Linear bounds carried back through a network, as certificate/planes does, with nothing for what is rounded.

A case is a region, a piece of one, or a row of a Jacobian. Differentiable in the slopes that are chosen.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from lipcert.certificate.planes import Body
from lipcert.graph import Affine
from lipcert.methods.propagation.maps import Maps
from lipcert.methods.propagation.regions import Regions, pick

if TYPE_CHECKING:
    import torch

    Tensor = torch.Tensor
    Bounds = tuple[Tensor, Tensor]

ENTRIES = 2**20
"""Of coefficients that are kept at a time, on the CPU, whose caches they fit: on a GPU a share of its free memory."""

MEMORY_SHARE = 0.25
"""Of what is free on a GPU; coefficients are there a few times."""


@dataclass(frozen=True, eq=False)
class Lines:
    """As certificate.relaxation.Lines, (B, n) or (1, n); an offset that is None is zero."""

    low_slope: Tensor
    low_offset: Tensor | None
    high_slope: Tensor
    high_offset: Tensor | None

    def of(self, some: Callable[[Tensor], Tensor]) -> Lines:
        """The lines of some cases."""
        low, high = (None if v is None else some(v) for v in (self.low_offset, self.high_offset))
        return Lines(some(self.low_slope), low, some(self.high_slope), high)


@dataclass(eq=False)
class Net:
    """Nodes, and for each case their boxes, lines and slopes."""

    nodes: Sequence[Body]
    maps: Maps
    regions: Regions | None = None
    x: int = -1
    boxes: list[Bounds] = field(default_factory=list)
    lines: dict[int, list[tuple[int, Lines]]] = field(default_factory=dict)
    slopes: dict[int, Bounds] = field(default_factory=dict)
    empty: Tensor | None = None
    """(B,) of pieces: of which nothing is left."""


@dataclass(frozen=True, eq=False)
class Chosen:
    """For rows (K, E): slopes of lines through zero below ramps, at these entries of a node, where `open` (B, E)."""

    slopes: Tensor
    entries: Tensor
    open: Tensor


def rows_at_a_time(width: int, device: torch.device, dtype: torch.dtype) -> int:
    """How many rows of coefficients of this width, at its widest, fit."""
    import torch

    entries = ENTRIES
    if device.type == "cuda":
        size = torch.finfo(dtype).bits // 8
        entries = int(MEMORY_SHARE * torch.cuda.mem_get_info(device)[0]) // (8 * size)
    return max(1, entries // max(1, width))


def widest(nodes: Sequence[Body]) -> int:
    return max(int(np.prod(node.shape)) for node in nodes)


def entry_bounds(net: Net, node: int, rows: Tensor, signs: Tensor, case: Tensor) -> Tensor:
    """(K,) upper bounds on sign times entry of a node."""
    import torch

    step = rows_at_a_time(widest(net.nodes[: node + 1]), net.maps.device, net.maps.dtype)
    found = []
    for i in range(0, len(rows), step):
        part = slice(i, i + step)
        start, total = first_step(net, node, rows[part], signs[part])
        found.append(upper_bounds(net, start, case[part], total))
    return torch.cat(found) if found else signs


def first_step(net: Net, node: int, rows: Tensor, signs: Tensor) -> tuple[dict[int, Tensor], Tensor]:
    """Coefficients of what an affine node reads, for rows of it; of any other node, its own."""
    import torch

    body = net.nodes[node]
    if isinstance(body, Affine):
        start: dict[int, Tensor] = {}
        seed: Tensor | None = None
        for k, source in enumerate(body.inputs):
            matrix = net.maps.matrix(node, k)
            if matrix is not None:
                part = matrix[rows] * signs[:, None]
            else:
                seed = one_hot(net, node, rows, signs) if seed is None else seed
                part = net.maps.back(node, k)(seed)
            start[source] = start[source] + part if source in start else part
        bias = net.maps.bias(node)
        return start, torch.zeros_like(signs) if bias is None else bias[rows] * signs
    return {node: one_hot(net, node, rows, signs)}, torch.zeros_like(signs)


def one_hot(net: Net, node: int, rows: Tensor, signs: Tensor) -> Tensor:
    import torch

    size = int(np.prod(net.nodes[node].shape))
    found = torch.zeros(len(rows), size, dtype=net.maps.dtype, device=net.maps.device)
    return found.scatter_(1, rows[:, None], signs[:, None])


def upper_bounds(
    net: Net,
    start: dict[int, Tensor],
    case: Tensor,
    total: Tensor,
    chosen: dict[int, Chosen] | None = None,
    at_node: Callable[[int, Tensor], None] = lambda node, coefficients: None,
) -> Tensor:
    """(K,) upper bounds on total + sum of start[node] . node, rows (K, n) of the cases (K,).

    `at_node` is told the coefficients of every node that is met on the way.
    """
    import torch

    waiting = dict(start)
    for position in range(max(waiting, default=-1), -1, -1):
        if position not in waiting:
            continue
        coefficients = waiting.pop(position)
        at_node(position, coefficients)
        body = net.nodes[position]
        parts: list[tuple[int, Tensor]] = []
        if isinstance(body, Affine):
            bias = net.maps.bias(position)
            total = total if bias is None else total + coefficients @ bias
            parts = [(source, net.maps.back(position, k)(coefficients)) for k, source in enumerate(body.inputs)]
        elif position in net.lines:
            upwards = coefficients > 0
            for source, lines in net.lines[position]:
                low_slope = pick(lines.low_slope, case)
                if chosen and position in chosen:
                    low_slope = _replaced(low_slope, chosen[position], case)
                slope = torch.where(upwards, pick(lines.high_slope, case), low_slope)
                parts.append((source, coefficients * slope))
                total = _plus(total, coefficients, upwards, lines, case)
        elif position == net.x and net.regions is not None:
            total = total + net.regions.most(coefficients, net.boxes[position], case)
        else:
            low, high = (pick(side, case) for side in net.boxes[position])
            ends = torch.where(coefficients > 0, high, low) * coefficients
            total = total + torch.where(coefficients == 0, 0.0, ends).sum(
                dim=1
            )  # of what is unbounded nothing is asked
        for source, part in parts:
            waiting[source] = waiting[source] + part if source in waiting else part
    return total


def _plus(total: Tensor, coefficients: Tensor, upwards: Tensor, lines: Lines, case: Tensor) -> Tensor:
    """With the offsets of the lines above where coefficients are positive, below where they are not."""
    import torch

    if lines.high_offset is None and lines.low_offset is None:
        return total
    high = 0.0 if lines.high_offset is None else pick(lines.high_offset, case)
    low = 0.0 if lines.low_offset is None else pick(lines.low_offset, case)
    return total + (torch.where(upwards, high, low) * coefficients).sum(dim=1)


def _replaced(slope: Tensor, by: Chosen, case: Tensor) -> Tensor:
    import torch

    found = slope if len(slope) == len(case) else slope.expand(len(case), -1)
    mine = torch.where(pick(by.open, case), by.slopes, found[:, by.entries])
    return found.index_copy(1, by.entries, mine)
