"""Pieces of a region, many at a time: boxes, rows of the Jacobian, and whether they hold an input."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from lipcert.certificate import derivative, planes
from lipcert.certificate.arithmetic import Arithmetic
from lipcert.certificate.derivative import chain_rule
from lipcert.certificate.linear_bounds import piece_nets
from lipcert.certificate.pieces import Cut, ends
from lipcert.methods.propagation.jacobian import Rows, bound_rows, norm_bounds, row_bounds
from lipcert.methods.propagation.maps import Maps
from lipcert.methods.propagation.multipliers import SideSearch
from lipcert.methods.propagation.network import Network
from lipcert.methods.propagation.planes import Lines, Net, first_step, one_hot, upper_bounds
from lipcert.methods.propagation.regions import pick, regions_on
from lipcert.problem import Everywhere, Norm, Problem

if TYPE_CHECKING:
    import torch

    Tensor = torch.Tensor

MARGIN = 1e-9
"""Relative, by which a piece has to be empty: the kernel has to see it."""


@dataclass(frozen=True, eq=False)
class Planes:
    """slopes x + offsets is at least 0 at every input of the piece: (K, n), (K,)."""

    slopes: np.ndarray
    offsets: np.ndarray


class PieceBounds:
    """Of one region, in double precision: what is found shall hold in the kernel, too."""

    def __init__(self, problem: Problem, whole: planes.Net, device: torch.device, by: Arithmetic) -> None:
        """`whole` is the kernel's net over the region."""
        import torch

        assert not isinstance(problem.query.region, Everywhere)
        self.problem, self.kernel, self.device, self.by = problem, whole, device, by
        self.network = Network(problem, device, torch.float64, by)
        self.posed = self.network.posed
        self.rule = chain_rule(self.posed, by)
        self.maps = Maps(self.rule.nodes, device, torch.float64)
        self.whole = self._on_device(whole)
        self.sides = SideSearch(self.network, self.whole)

    def _on_device(self, kernel: planes.Net) -> Net:
        region, tensor = self.network.problem.query.region, self.network.maps.tensor
        assert not isinstance(region, Everywhere)
        regions = regions_on([region], self.network.device, self.network.dtype)
        net = Net(kernel.nodes, self.network.maps, regions, kernel.x)
        net.boxes = [(tensor(low), tensor(high)) for low, high in kernel.boxes]
        net.slopes = {i: (tensor(low), tensor(high)) for i, (low, high) in kernel.slopes.items()}
        for i, each in kernel.lines.items():
            net.lines[i] = [
                (
                    source,
                    Lines(
                        tensor(lines.low_slope),
                        tensor(lines.low_offset) if np.any(lines.low_offset) else None,
                        tensor(lines.high_slope),
                        tensor(lines.high_offset) if np.any(lines.high_offset) else None,
                    ),
                )
                for source, lines in each
            ]
        return net

    def nets(self, cuts: list[tuple[Cut, ...]]) -> Net:
        """The pieces that are left of the region by cuts, a case each."""
        return self.network.pieces(self.whole, ends(cuts, self.posed.graph))

    def rows(self, net: Net, outputs: np.ndarray, steps: int) -> Rows:
        """The Jacobian's rows of `outputs` (pieces, rows)."""
        import torch

        chosen = torch.as_tensor(outputs, device=self.network.device)
        return bound_rows(self.network, self.rule, self.maps, net, chosen, steps)

    def norms(self, rows: Rows, norm_in: Norm, norm_out: Norm) -> np.ndarray:
        """(pieces,) bounds on the norms of the Jacobians."""
        return np.asarray(norm_bounds(rows, norm_in, norm_out).cpu().numpy())

    def norms_of_rows(self, rows: Rows, norm_in: Norm) -> np.ndarray:
        """(pieces, rows) bounds on the norms of the rows, as maps to one output."""
        return np.asarray(row_bounds(rows, norm_in).cpu().numpy())

    def time_kernel(self, cuts: list[tuple[Cut, ...]], outputs: Sequence[tuple[int, ...]], steps: int) -> float:
        """Seconds for each of these pieces."""
        began = time.monotonic()
        bounded = piece_nets(self.problem, ends(cuts, self.posed.graph), self.kernel, self.by)
        derivative.bound_rows(self.posed, self.rule, bounded.net, np.array(outputs), steps, self.by)
        return (time.monotonic() - began) / max(1, len(cuts))

    def cut_planes(self, net: Net, cuts: Sequence[tuple[Cut, ...]]) -> list[Planes]:
        """For each piece those of its cuts, by linear bounds."""
        import torch

        every = [cut for path in cuts for cut in path]
        case = np.array([b for b, path in enumerate(cuts) for _ in path], dtype=int)
        slopes, offsets = np.zeros((len(every), self.posed.size_in)), np.zeros(len(every))
        nodes = np.array([cut.node for cut in every], dtype=int)
        assert net.regions is not None
        for node in np.unique(nodes).tolist():
            mine = np.flatnonzero(nodes == node)
            sign = np.array([-1.0 if every[k].below else 1.0 for k in mine])
            signs, cases = net.maps.tensor(sign), torch.as_tensor(case[mine], device=net.maps.device)
            entries = torch.as_tensor([every[k].entry for k in mine], device=net.maps.device)
            found: dict[int, Tensor] = {}
            start = {node: one_hot(net, node, entries, signs)}
            bound = upper_bounds(net, start, cases, torch.zeros_like(signs), at_node=found.__setitem__)
            if net.x in found:
                bound = bound - net.regions.most(found[net.x], net.boxes[net.x], cases)
                slopes[mine] = found[net.x].cpu().numpy()
            offsets[mine] = bound.cpu().numpy() - sign * np.array([every[k].at for k in mine])
        return [Planes(slopes[case == b], offsets[case == b]) for b in range(len(cuts))]

    def output_planes(self, net: Net, outputs: np.ndarray, signs: np.ndarray) -> np.ndarray:
        """(B, n) slopes of planes above sign times an output of each piece."""
        import torch

        device, n = net.maps.device, self.posed.size_in
        found: dict[int, Tensor] = {}
        every = torch.arange(len(outputs), device=device)
        start, total = first_step(net, self.posed.y, torch.as_tensor(outputs, device=device), net.maps.tensor(signs))
        upper_bounds(net, start, every, total, at_node=found.__setitem__)
        return np.asarray(found[net.x].cpu().numpy()) if net.x in found else np.zeros((len(outputs), n))

    def are_empty(self, net: Net, cuts: Sequence[tuple[Cut, ...]], multipliers: Sequence[np.ndarray]) -> np.ndarray:
        """(B,) whether multipliers of its cuts show that a piece holds no input (pieces.infeasibility)."""
        import torch

        count = len(cuts)
        total, scale = np.zeros(count), np.zeros(count)
        weights: dict[int, np.ndarray] = {}
        for b, path in enumerate(cuts):
            for cut, weight in zip(path, multipliers[b].tolist(), strict=True):
                row = weights.setdefault(cut.node, np.zeros((count, self.posed.graph.size(cut.node))))
                sign = -1.0 if cut.below else 1.0
                if not row[b, cut.entry]:
                    row[b, cut.entry] = sign * weight
                    total[b] -= sign * weight * cut.at
                    scale[b] += abs(weight * cut.at)
        start = {node: net.maps.tensor(row) for node, row in weights.items()}
        every = torch.arange(count, device=net.maps.device)
        size = net.maps.tensor(scale)
        for node, moved in start.items():
            low, high = (pick(side, every) for side in net.boxes[node])
            size = size + (moved.abs() * torch.nan_to_num(torch.maximum(low.abs(), high.abs()))).sum(dim=1)
        excess = upper_bounds(net, start, every, net.maps.tensor(total))
        return np.asarray((excess < -MARGIN * size).cpu().numpy())


def some_cases(net: Net, kept: np.ndarray) -> Net:
    """Some of the pieces of a net."""
    import torch

    index = torch.as_tensor(kept, device=net.maps.device)

    def some(v: Tensor) -> Tensor:
        return v if len(v) == 1 else v[index]

    found = Net(net.nodes, net.maps, net.regions, net.x)
    found.boxes = [(some(low), some(high)) for low, high in net.boxes]
    found.slopes = {i: (some(low), some(high)) for i, (low, high) in net.slopes.items()}
    found.lines = {i: [(s, lines.of(some)) for s, lines in each] for i, each in net.lines.items()}
    return found


def distance(net: Net, node: int, source: int) -> np.ndarray:
    """(B, n) how far apart the lines of an elementwise node are, at the middle of the box or at zero."""
    import torch

    (_, lines), *_ = net.lines[node]
    low, high = net.boxes[source]
    apart = torch.zeros_like(low)
    for v in (low / 2 + high / 2, torch.minimum(torch.maximum(torch.zeros_like(low), low), high)):
        gap = (lines.high_slope - lines.low_slope) * v
        gap = gap if lines.high_offset is None else gap + lines.high_offset
        gap = gap if lines.low_offset is None else gap - lines.low_offset
        apart = torch.maximum(apart, gap)
    return np.asarray(apart.cpu().numpy())


def as_arrays(net: Net) -> planes.Net:
    """Boxes and slopes as the kernel has them."""
    found = planes.Net(net.nodes, x=net.x)
    found.boxes = [(low.cpu().numpy(), high.cpu().numpy()) for low, high in net.boxes]
    found.slopes = {i: (low.cpu().numpy(), high.cpu().numpy()) for i, (low, high) in net.slopes.items()}
    return found


def rows_as_arrays(rows: Rows) -> derivative.Rows:
    """Boxes of rows as the kernel has them."""
    return derivative.Rows(as_arrays(rows.net), rows.each, rows.gradient)
