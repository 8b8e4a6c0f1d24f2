"""Boxes, lines and slopes of a network over many regions, or pieces of one, at a time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from lipcert.certificate.arithmetic import Arithmetic
from lipcert.certificate.linear_bounds import Pieces, in_ramps, ramped
from lipcert.certificate.norms import row_norms
from lipcert.errors import NotProvedError
from lipcert.graph import Affine, Elementwise, Groupwise, Input, Product, linear_terms
from lipcert.graph.stretch import stops
from lipcert.methods.propagation.maps import Maps
from lipcert.methods.propagation.planes import Net, entry_bounds
from lipcert.methods.propagation.regions import Regions
from lipcert.methods.propagation.rules import (
    activation_box,
    activation_lines,
    activation_slopes,
    affine_box,
    group_box,
    product_box,
    product_lines,
)
from lipcert.problem import Norm, Problem, dual

if TYPE_CHECKING:
    import torch

    from lipcert.methods.propagation.planes import Bounds

    Tensor = torch.Tensor
    Improve = Callable[[Net, int, Bounds], Bounds]
    """A nearer box of an affine node, given the net up to it and its box so far."""


MARGIN = 1e-9
"""Relative, by which a box has to be empty."""


@dataclass(eq=False)
class Network:
    """The graph of a problem with ramps, its operators on a device; which region the problem has does not matter."""

    problem: Problem
    device: torch.device
    dtype: torch.dtype
    by: Arithmetic

    def __post_init__(self) -> None:
        self.posed = in_ramps(self.problem, self.by)
        self.groups = ramped(self.problem.graph, self.by).groups
        self.maps = Maps(self.posed.graph.nodes, self.device, self.dtype)
        if any(not isinstance(n, Affine | Elementwise | Groupwise | Input | Product) for n in self.posed.graph.nodes):
            raise NotProvedError("linear bounds do not go through fixed points")
        self._reach: dict[tuple[int, Norm], Tensor | None] = {}

    def net(self, regions: Regions, improve: Improve = lambda net, i, box: box) -> Net:
        """Linear bounds over the regions, a case each."""
        net = Net(self.posed.graph.nodes, self.maps, regions, self.posed.x)
        centers: dict[int, Tensor] = {}
        if regions.balls is not None:
            centers[self.posed.x] = regions.balls.centers
        for i, node in enumerate(net.nodes):
            box = self._box(net, i, centers)
            if isinstance(node, Affine):
                box = improve(net, i, self._by_planes(net, i, box, None))
            self._append(net, i, box, None)
        return net

    def pieces(self, whole: Net, pieces: Pieces) -> Net:
        """The same over pieces of a region (linear_bounds.Pieces), given the net over the whole of it."""
        import torch

        net = Net(self.posed.graph.nodes, self.maps, whole.regions, self.posed.x)
        net.empty = torch.zeros(pieces.count, dtype=torch.bool, device=self.device)
        moved: set[int] = set()
        for i, node in enumerate(net.nodes):
            if i not in pieces.ends and not any(source in moved for source in node.inputs):
                net.boxes.append(whole.boxes[i])
                if i in whole.lines:
                    net.lines[i] = whole.lines[i]
                if i in whole.slopes:
                    net.slopes[i] = whole.slopes[i]
                continue
            moved.add(i)
            ends = self._ends(pieces, i)
            box = self._box(net, i, {}) if any(s in moved for s in node.inputs) else whole.boxes[i]
            box = within(box, whole.boxes[i])
            if isinstance(node, Affine):
                box = self._by_planes(net, i, box, ends)
            self._append(net, i, box if ends is None else _cut(box, ends, net.empty), pieces)
        return net

    def _ends(self, pieces: Pieces, i: int) -> Bounds | None:
        if i not in pieces.ends:
            return None
        low, high = pieces.ends[i]
        return self.maps.tensor(low), self.maps.tensor(high)

    def _box(self, net: Net, i: int, centers: dict[int, Tensor]) -> Bounds:
        """By intervals."""
        node = net.nodes[i]
        if isinstance(node, Affine):
            box = self._affine(net, i, centers)
        elif isinstance(node, Elementwise):
            box = activation_box(node.activation, net.boxes[node.input])
        elif isinstance(node, Product):
            box = product_box(net.boxes[node.left], net.boxes[node.right])
        elif isinstance(node, Groupwise):
            box = group_box(node.function, net.boxes[node.input])
        elif i == net.x:
            assert net.regions is not None
            box = net.regions.low, net.regions.high
        else:
            free = self.maps.tensor(np.full((1, self.posed.graph.size(i)), np.inf))
            box = -free, free
        if i in self.groups:
            function, source = self.groups[i]
            box = within(box, group_box(function, net.boxes[source]))
        return box

    def _append(self, net: Net, i: int, box: Bounds, pieces: Pieces | None) -> None:
        """The box of a node, its lines and slopes."""
        node = net.nodes[i]
        if isinstance(node, Elementwise):
            source = net.boxes[node.input]
            ends = None if pieces is None else self._ends(pieces, node.input)
            net.slopes[i] = activation_slopes(node.activation, source, ends)
            net.lines[i] = [(node.input, activation_lines(node.activation, source, box))]
        elif isinstance(node, Product):
            planes = product_lines(net.boxes[node.left], net.boxes[node.right])
            net.lines[i] = [(node.left, planes[0]), (node.right, planes[1])]
        net.boxes.append(box)

    def _affine(self, net: Net, i: int, centers: dict[int, Tensor]) -> Bounds:
        """By intervals; of what is affine in x alone, in the dual of the ball's norm."""
        box = affine_box(net, i)
        body = self.posed.graph.nodes[i]
        assert isinstance(body, Affine)
        if net.regions is None or net.regions.balls is None or not all(s in centers for s in body.inputs):
            return box
        first, *others = (self.maps.forward(i, k)(centers[source]) for k, source in enumerate(body.inputs))
        bias = self.maps.bias(i)
        center = sum(others, first) if bias is None else sum(others, first) + bias
        centers[i] = center
        reach = self._row_norms(i, net.regions.balls.norm)
        if reach is None:
            return within(box, (center, center))
        return within(box, (center - net.regions.balls.eps * reach, center + net.regions.balls.eps * reach))

    def _row_norms(self, i: int, norm: Norm) -> Tensor | None:
        """(n,) of the stretch from x to a node; None where it does not depend on x."""
        if (i, norm) not in self._reach:
            op = linear_terms(self.posed.graph, i, stops(self.posed.graph, i)).get(self.posed.x)
            self._reach[i, norm] = None if op is None else self.maps.tensor(row_norms(op, dual(norm), self.by))
        return self._reach[i, norm]

    def _by_planes(self, net: Net, i: int, box: Bounds, ends: Bounds | None) -> Bounds:
        """The entries that matter, bounded by planes; what a cut makes linear needs none."""
        import torch

        wanted = self.wanted(i, box if ends is None else within(box, ends), ends)
        if net.empty is not None:
            wanted = wanted & ~net.empty[:, None]
        case, rows = torch.nonzero(wanted, as_tuple=True)
        if not len(case):
            return box
        self.by.tick()
        ones = torch.ones(len(rows), dtype=self.dtype, device=self.device)
        low, high = (side.expand(len(wanted), -1).clone() for side in box)
        high[case, rows] = torch.fmin(high[case, rows], entry_bounds(net, i, rows, ones, case))
        low[case, rows] = torch.fmax(low[case, rows], -entry_bounds(net, i, rows, -ones, case))
        return torch.minimum(low, high), torch.maximum(low, high)

    def wanted(self, i: int, box: Bounds, ends: Bounds | None = None) -> Tensor:
        """(B, n): outputs, and what a nonlinear node reads and is not linear over it."""
        import torch

        graph = self.posed.graph
        loose = torch.zeros_like(box[0], dtype=torch.bool)
        if i == self.posed.y or any(i == source for _, _, source in graph.groups):
            return ~loose
        for node in graph.nodes[i + 1 :]:
            if isinstance(node, Elementwise) and node.input == i:
                low, high = activation_slopes(node.activation, box, ends)
                loose |= ~(low == high)
            elif isinstance(node, Groupwise | Product) and i in node.inputs:
                return torch.ones_like(loose)
        return loose


def within(box: Bounds, other: Bounds) -> Bounds:
    """Where both are; roundings may have them apart."""
    import torch

    low, high = torch.fmax(box[0], other[0]), torch.fmin(box[1], other[1])
    return torch.minimum(low, high), torch.maximum(low, high)


def _cut(box: Bounds, ends: Bounds, empty: Tensor) -> Bounds:
    """A box cut at the ends; a case of which nothing is left, by more than roundings, is empty."""
    import torch

    low, high = torch.maximum(box[0], ends[0]), torch.minimum(box[1], ends[1])
    room = MARGIN * (low.abs() + high.abs())
    empty |= (low > high + room).any(dim=1)
    # the ends stay where they are: a cut is at a kink
    return low, torch.maximum(low, high)
