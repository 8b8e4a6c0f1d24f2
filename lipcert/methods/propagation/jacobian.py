"""Rows of the Clarke Jacobian over many regions at a time, as certificate/derivative bounds them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from lipcert.certificate.derivative import PLANES, ChainRule, Gain, Mixed, Start
from lipcert.graph import Affine, Elementwise, Groupwise
from lipcert.methods.propagation.maps import Maps
from lipcert.methods.propagation.network import Network
from lipcert.methods.propagation.planes import Net, entry_bounds, upper_bounds
from lipcert.methods.propagation.regions import pick
from lipcert.methods.propagation.rules import affine_box, chords, derivative_cells, ends_of, product_box, product_planes
from lipcert.problem import Norm, dual

if TYPE_CHECKING:
    import torch

    from lipcert.methods.propagation.planes import Bounds

    Tensor = torch.Tensor


@dataclass(frozen=True, eq=False)
class Rows:
    """The cases are (region, row), row after row of a region."""

    net: Net
    each: int
    gradient: int

    def entries(self) -> Bounds:
        """Bounds on the entries, each (regions, rows, inputs)."""
        low, high = self.net.boxes[self.gradient]
        return low.reshape(-1, self.each, low.shape[1]), high.reshape(-1, self.each, high.shape[1])


def bound_rows(network: Network, rule: ChainRule, maps: Maps, values: Net, outputs: Tensor, steps: int) -> Rows:
    """The rows `outputs` (regions, rows); `maps` are those of the chain rule's nodes, `steps` as in the kernel."""
    import torch

    assert rule.gradient is not None
    regions, each = outputs.shape
    which = torch.arange(regions, device=outputs.device).repeat_interleave(each)
    planes = bool(steps & PLANES) and rule.bends
    net = _values_for(rule, maps, values, which) if planes else Net(rule.nodes, maps, boxes=list(values.boxes))
    for i, node in rule.steps:
        if isinstance(node, Start):
            row = torch.zeros(regions * each, network.posed.size_out, dtype=maps.dtype, device=maps.device)
            row.scatter_(1, outputs.reshape(-1, 1), 1.0)
            box = row, row
        elif isinstance(node, Affine):
            box = affine_box(net, i)
            box = _tightened(net, i, box, _where(rule, i, box, steps, values, which))
        elif isinstance(node, Gain):
            low, high = (pick(side, which) for side in _slopes_of(node, values))
            box = product_box((low, high), net.boxes[node.input])
            chord = chords((low, high), net.boxes[node.input])
            net.lines[i] = [(node.input, chord)]
            if planes and (source := rule.moves_with(node)) is not None:
                body, v = rule.nodes[node.at], values.boxes[source]
                cells = derivative_cells(body.activation, v) if isinstance(body, Elementwise) else ends_of(v)
                found = product_planes(cells, net.boxes[node.input], chord, which)
                net.lines[i] = [(node.input, found[0]), (source, found[1])]
        else:
            assert isinstance(node, Mixed)
            box = _mixed(network, node, values, net.boxes[node.input], which)
        net.boxes.append(box)
    return Rows(net, each, rule.gradient)


def _values_for(rule: ChainRule, maps: Maps, values: Net, which: Tensor) -> Net:
    """The values of the network over the region of each row."""

    def rows(v: Tensor) -> Tensor:
        return pick(v, which)

    net = Net(rule.nodes, maps, x=values.x)
    net.regions = None if values.regions is None else values.regions.of(which)
    net.boxes = [(rows(low), rows(high)) for low, high in values.boxes]
    net.lines = {i: [(s, lines.of(rows)) for s, lines in each] for i, each in values.lines.items()}
    return net


def _slopes_of(node: Gain, values: Net) -> Bounds:
    return values.boxes[node.other] if node.other is not None else values.slopes[node.at]


def _where(rule: ChainRule, i: int, box: Bounds, steps: int, values: Net, which: Tensor) -> Tensor:
    """The entries of an affine node that are worth planes."""
    import torch

    low, high = box
    crossing = (low < 0) & (high > 0)
    wanted = torch.zeros_like(crossing)
    level = steps % PLANES
    if level == 0 or (level == 1 and i == rule.gradient):
        return wanted
    if i == rule.gradient:
        return crossing if level == 2 else low < high
    for node in rule.nodes[i + 1 :]:
        if isinstance(node, Gain) and node.input == i:
            first, last = _slopes_of(node, values)
            bent = steps & PLANES and rule.moves_with(node) is not None
            wanted |= (low < high if bent else crossing) & pick(first < last, which)
        elif isinstance(node, Mixed) and node.input == i:
            wanted |= low < high
    return wanted


def _tightened(net: Net, i: int, box: Bounds, wanted: Tensor) -> Bounds:
    import torch

    case, rows = torch.nonzero(wanted, as_tuple=True)
    if not len(case):
        return box
    ones = torch.ones(len(rows), dtype=net.maps.dtype, device=net.maps.device)
    low, high = box[0].clone(), box[1].clone()
    high[case, rows] = torch.fmin(high[case, rows], entry_bounds(net, i, rows, ones, case))
    low[case, rows] = torch.fmax(low[case, rows], -entry_bounds(net, i, rows, -ones, case))
    return torch.minimum(low, high), torch.maximum(low, high)


def _mixed(network: Network, node: Mixed, values: Net, box: Bounds, which: Tensor) -> Bounds:
    """|J' a| <= what the groups say of |a|, case by case, on the CPU."""
    body = network.posed.graph.nodes[node.at]
    assert isinstance(body, Groupwise)
    low, high = (side.double().cpu().numpy() for side in values.boxes[body.input])
    bounds = [body.function.jacobian(a, b) for a, b in zip(low, high, strict=True)]
    size = np.maximum(*(np.abs(side.double().cpu().numpy()) for side in box))
    cases = which.cpu().numpy()
    found = network.maps.tensor(np.array([bounds[cases[c] % len(bounds)].backward(v) for c, v in enumerate(size)]))
    return -found, found


def row_sums(rows: Rows) -> Tensor:
    """(regions, rows) upper bounds on the l1 norms of the rows."""
    import torch

    low, high = rows.net.boxes[rows.gradient]
    ones = torch.ones_like(low)
    lines = chords((-ones, ones), (low, high))
    case = torch.arange(len(ones), device=low.device)
    assert lines.high_offset is not None
    found = upper_bounds(rows.net, {rows.gradient: lines.high_slope}, case, lines.high_offset.sum(dim=1))
    return torch.fmin(found, torch.maximum(low.abs(), high.abs()).sum(dim=1)).reshape(-1, rows.each)


def row_bounds(rows: Rows, norm_in: Norm) -> Tensor:
    """(regions, rows) upper bounds on the norm of each row as a map to one output."""
    import torch

    if norm_in == math.inf:
        return row_sums(rows)
    size = torch.maximum(*(side.abs() for side in rows.entries()))
    found: Tensor = torch.linalg.vector_norm(size, ord=dual(norm_in), dim=2)
    return found


def norm_bounds(rows: Rows, norm_in: Norm, norm_out: Norm) -> Tensor:
    """(regions,) upper bounds on the norms of the Jacobians."""
    import torch

    size = torch.maximum(*(side.abs() for side in rows.entries()))
    if norm_in == 1:
        found: Tensor = torch.linalg.vector_norm(size, ord=norm_out, dim=1).amax(dim=1)
        return found
    found = torch.linalg.vector_norm(row_bounds(rows, norm_in), ord=norm_out, dim=1)
    if norm_in == norm_out == 2 and rows.each > 1:
        low, high = rows.entries()
        radius = (high - low) / 2
        schur = (radius.sum(dim=2).amax(dim=1) * radius.sum(dim=1).amax(dim=1)).sqrt()
        spread = torch.minimum(schur, torch.linalg.vector_norm(radius, dim=(1, 2)))
        middle = (low + high) / 2
        known = torch.isfinite(middle).all(dim=2).all(dim=1)
        size = torch.linalg.matrix_norm(torch.where(known[:, None, None], middle, 0.0), ord=2)
        found = torch.where(known, torch.minimum(found, size + spread), found)
    return found
