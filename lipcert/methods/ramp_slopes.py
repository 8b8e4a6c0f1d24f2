"""Slopes of the lines below open ramps, row by row, so that linear bounds get tight: in torch, on any device.

Xu, Zhang, Wang, Wang, Jana, Lin, Hsieh, Fast and complete (alpha-CROWN, ICLR 2021). Any slopes in [0, 1] are sound:
what is found here in float32 is evidence that the kernel bounds again.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from lipcert.activations import Relu
from lipcert.certificate.boxes import Bounds
from lipcert.certificate.claim import RampSlopes, Slopes
from lipcert.certificate.derivative import transpose
from lipcert.certificate.planes import Net
from lipcert.graph import Affine, Elementwise
from lipcert.operators.torch_view import realise
from lipcert.problem import Problem, dual

if TYPE_CHECKING:
    import torch

    Tensor = torch.Tensor

ITERATIONS = 20
RATE = 0.25
DECAY = 0.95
ENTRIES = 2**24
"""Of coefficients that are kept at a time."""


class SlopeSearch:
    """Chooses slopes for rows of one node after another; `slopes` has those chosen so far."""

    def __init__(self, problem: Problem, device: torch.device, tick: Callable[[], None]) -> None:
        """`problem` is that of the graph with ramps; `tick` raises when there is no time left."""
        self.problem, self.device, self.tick = problem, device, tick
        self.slopes: list[Slopes] = []
        self._maps: dict[tuple[int, int], Callable[[Tensor], Tensor]] = {}

    def choose(self, net: Net, node: int, rows: np.ndarray, box: Bounds) -> Slopes | None:
        """Slopes for the rows that stay open, where there are ramps behind them."""
        low, high = box[0][0, rows], box[1][0, rows]
        if node != self.problem.y:
            rows = rows[(low < 0) & (high > 0)]
        ramps = self._ramps(net, node)
        if not rows.size or not ramps:
            return None
        wide = sum(int(np.prod(body.shape)) for body in net.nodes[:node])
        step = max(1, ENTRIES // (2 * wide))
        found: list[dict[int, np.ndarray]] = []
        for i in range(0, len(rows), step):
            found.append(self._optimise(net, node, rows[i : i + step], ramps))
        parts = []
        for at, entries in ramps.items():
            # rows come twice: from above, then from below
            both = [np.split(part[at], 2) for part in found]
            above, below = (np.concatenate([pair[k] for pair in both]) for k in (0, 1))
            parts.append(RampSlopes(at, entries.astype(float), below, above))
        chosen = Slopes(node, rows.astype(float), tuple(parts))
        self.slopes.append(chosen)
        return chosen

    def _ramps(self, net: Net, node: int) -> dict[int, np.ndarray]:
        """The open ramps before a node, each with its open entries."""
        found = {}
        for at, body in enumerate(net.nodes[:node]):
            if isinstance(body, Elementwise) and isinstance(body.activation, Relu) and at in net.lines:
                low, high = net.boxes[body.input]
                entries = np.flatnonzero((low[0] < 0) & (high[0] > 0))
                if entries.size:
                    found[at] = entries
        return found

    def _optimise(self, net: Net, node: int, rows: np.ndarray, ramps: dict[int, np.ndarray]) -> dict[int, np.ndarray]:
        import torch

        count = 2 * len(rows)
        start = torch.zeros(count, int(np.prod(net.nodes[node].shape)), device=self.device)
        index = torch.as_tensor(np.concatenate([rows, rows]), device=self.device)
        signs = torch.ones(count, device=self.device)
        signs[len(rows) :] = -1
        start[torch.arange(count, device=self.device), index] = signs
        with torch.no_grad():
            head = self._first(net, node, start)
        slopes = {}
        for at, entries in ramps.items():
            initial = self._tensor(net.lines[at][0][1].low_slope[0, entries].clip(0, 1))
            slopes[at] = initial.expand(count, -1).clone().requires_grad_()
        best = {at: slope.detach().clone() for at, slope in slopes.items()}
        least = torch.full((count,), torch.inf, device=self.device)
        optimiser = torch.optim.Adam(list(slopes.values()), lr=RATE)
        schedule = torch.optim.lr_scheduler.ExponentialLR(optimiser, DECAY)
        for _ in range(ITERATIONS):
            self.tick()
            optimiser.zero_grad()
            upper = self._upper(net, head, slopes, ramps)
            if not upper.requires_grad:  # nothing of the ramps comes to these rows
                break
            with torch.no_grad():
                better = upper < least
                least = torch.where(better, upper, least)
                for at, slope in slopes.items():
                    best[at][better] = slope.detach()[better]
            upper.sum().backward()
            optimiser.step()
            schedule.step()
            with torch.no_grad():
                for slope in slopes.values():
                    slope.clamp_(0, 1)
        return {at: slope.double().cpu().numpy() for at, slope in best.items()}

    def _first(self, net: Net, node: int, start: Tensor) -> tuple[dict[int, Tensor], Tensor]:
        """One step back, which is the same whatever the slopes."""
        body = net.nodes[node]
        assert isinstance(body, Affine)
        waiting: dict[int, Tensor] = {}
        for k, source in enumerate(body.inputs):
            part = self._map(node, k)(start)
            waiting[source] = waiting[source] + part if source in waiting else part
        return waiting, start @ self._tensor(body.bias.value)

    def _upper(
        self, net: Net, head: tuple[dict[int, Tensor], Tensor], slopes: dict[int, Tensor], ramps: dict[int, np.ndarray]
    ) -> Tensor:
        waiting, total = dict(head[0]), head[1]
        for position in range(max(waiting), -1, -1):
            if position not in waiting:
                continue
            coefficients = waiting.pop(position)
            body = net.nodes[position]
            parts: list[tuple[int, Tensor]] = []
            if isinstance(body, Affine):
                total = total + coefficients @ self._tensor(body.bias.value)
                parts = [(source, self._map(position, k)(coefficients)) for k, source in enumerate(body.inputs)]
            elif position in net.lines:
                above, below = coefficients.clamp(min=0), coefficients.clamp(max=0)
                for source, lines in net.lines[position]:
                    low_slope, low_offset = self._tensor(lines.low_slope[0]), self._tensor(lines.low_offset[0])
                    if position in slopes:
                        import torch

                        entries = torch.as_tensor(ramps[position], device=self.device)
                        low_slope = low_slope.expand(len(total), -1).index_copy(1, entries, slopes[position])
                        low_offset = low_offset.index_fill(0, entries, 0.0)
                    total = total + above @ self._tensor(lines.high_offset[0]) + below @ low_offset
                    parts.append((source, above * self._tensor(lines.high_slope[0]) + below * low_slope))
            else:
                total = total + self._most(net, position, coefficients)
            for source, part in parts:
                waiting[source] = waiting[source] + part if source in waiting else part
        return total

    def _most(self, net: Net, position: int, coefficients: Tensor) -> Tensor:
        import torch

        if position == net.x and net.ball is not None:
            around = torch.linalg.vector_norm(coefficients, ord=dual(net.ball.norm), dim=1)
            return coefficients @ self._tensor(net.ball.center) + net.ball.eps * around
        low, high = (self._tensor(side[0]) for side in net.boxes[position])
        return coefficients.clamp(min=0) @ high + coefficients.clamp(max=0) @ low

    def _map(self, position: int, k: int) -> Callable[[Tensor], Tensor]:
        """Operator k of a node, transposed."""
        import torch

        if (position, k) not in self._maps:
            body = self.problem.graph.nodes[position]
            assert isinstance(body, Affine)
            self._maps[position, k] = realise(transpose(body.operators[k]), self.device, torch.float32)
        return self._maps[position, k]

    def _tensor(self, v: np.ndarray) -> Tensor:
        import torch

        return torch.tensor(v, dtype=torch.float32, device=self.device)
