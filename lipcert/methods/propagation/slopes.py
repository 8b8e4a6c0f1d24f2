"""Slopes of the lines below open ramps, row by row, so that linear bounds get tight: many regions at a time.

Xu, Zhang, Wang, Wang, Jana, Lin, Hsieh, Fast and complete (alpha-CROWN, ICLR 2021). Any slopes in [0, 1] are sound:
what is found here is evidence that the kernel bounds again.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from lipcert.activations import Relu
from lipcert.certificate.claim import RampSlopes, Slopes
from lipcert.graph import Elementwise
from lipcert.methods.adam import Adam
from lipcert.methods.propagation.network import Network
from lipcert.methods.propagation.planes import Chosen, Net, first_step, rows_at_a_time, upper_bounds

if TYPE_CHECKING:
    import torch

    from lipcert.methods.propagation.planes import Bounds

    Tensor = torch.Tensor

ITERATIONS = 20
RATE = 0.25
DECAY = 0.95


@dataclass(frozen=True, eq=False)
class _Ramps:
    """Of one node the entries (E,) that are open in some region, and in which (B, E)."""

    entries: Tensor
    open: Tensor


class SlopeSearch:
    """Improves the boxes of one node after another; `slopes` has what it chose so far, region by region."""

    def __init__(self, network: Network, regions: int) -> None:
        self.network = network
        self.slopes: list[list[Slopes]] = [[] for _ in range(regions)]

    def improve(self, net: Net, node: int, box: Bounds) -> Bounds:
        """The box of a node by chosen slopes, of the entries that stay open where there are ramps behind them."""
        import torch

        ramps = self._ramps(net, node)
        wanted = self.network.wanted(node, box)
        if node != self.network.posed.y:
            wanted &= (box[0] < 0) & (box[1] > 0)
        case, rows = torch.nonzero(wanted, as_tuple=True)
        if not ramps or not len(case):
            return box
        wide = sum(int(np.prod(body.shape)) for body in net.nodes[:node])
        step = max(1, rows_at_a_time(wide, self.network.device, self.network.dtype) // 2)
        high, low = box[1].clone(), box[0].clone()
        parts: list[tuple[dict[int, Tensor], dict[int, Tensor]]] = []
        for i in range(0, len(rows), step):
            some, about = rows[i : i + step], case[i : i + step]
            best, least = self._optimise(net, node, some, about, ramps)
            count = len(some)
            high[about, some] = torch.fmin(high[about, some], least[:count])
            low[about, some] = torch.fmax(low[about, some], -least[count:])
            parts.append(({at: v[:count] for at, v in best.items()}, {at: v[count:] for at, v in best.items()}))
        above, below = ({at: torch.cat([part[k][at] for part in parts]) for at in ramps} for k in (0, 1))
        self._keep(node, rows, case, ramps, above, below)
        return torch.minimum(low, high), torch.maximum(low, high)

    def _ramps(self, net: Net, node: int) -> dict[int, _Ramps]:
        """The open ramps before a node."""
        import torch

        found = {}
        for at, body in enumerate(net.nodes[:node]):
            if isinstance(body, Elementwise) and isinstance(body.activation, Relu) and at in net.lines:
                low, high = net.boxes[body.input]
                crossing = (low < 0) & (high > 0)
                entries = torch.nonzero(crossing.any(dim=0))[:, 0]
                if len(entries):
                    found[at] = _Ramps(entries, crossing[:, entries])
        return found

    def _keep(
        self,
        node: int,
        rows: Tensor,
        case: Tensor,
        ramps: dict[int, _Ramps],
        above: dict[int, Tensor],
        below: dict[int, Tensor],
    ) -> None:
        of_row, of_case = rows.cpu().numpy(), case.cpu().numpy()
        given = {
            at: [v.double().cpu().numpy() for v in (ramp.open, ramp.entries, below[at], above[at])]
            for at, ramp in ramps.items()
        }
        for b in np.unique(of_case).tolist():
            mine = of_case == b
            parts = []
            for at, (open_, entries, low, high) in given.items():
                kept = open_[b] > 0
                if kept.any():
                    parts.append(RampSlopes(at, entries[kept], low[mine][:, kept], high[mine][:, kept]))
            if parts:
                self.slopes[b].append(Slopes(node, of_row[mine].astype(float), tuple(parts)))

    def _optimise(
        self, net: Net, node: int, rows: Tensor, case: Tensor, ramps: dict[int, _Ramps]
    ) -> tuple[dict[int, Tensor], Tensor]:
        """Slopes for the rows from above, then from below, and the bounds that they give."""
        import torch

        both, cases = torch.cat([rows, rows]), torch.cat([case, case])
        signs = torch.ones(len(both), dtype=self.network.dtype, device=self.network.device)
        signs[len(rows) :] = -1
        with torch.no_grad():
            start, total = first_step(net, node, both, signs)
        slopes = {}
        for at, ramp in ramps.items():
            initial = net.lines[at][0][1].low_slope[:, ramp.entries].clamp(0, 1)
            slopes[at] = initial[cases if len(initial) > 1 else torch.zeros_like(cases)].requires_grad_()
        best = {at: slope.detach().clone() for at, slope in slopes.items()}
        least = torch.full_like(signs, torch.inf)
        optimiser = Adam(list(slopes.values()), RATE, DECAY)
        for _ in range(ITERATIONS):
            self.network.by.tick()
            chosen = {at: Chosen(slope, ramps[at].entries, ramps[at].open) for at, slope in slopes.items()}
            upper = upper_bounds(net, start, cases, total, chosen)
            with torch.no_grad():
                better = upper < least
                least = torch.where(better, upper, least)
                for at, slope in slopes.items():
                    best[at][better] = slope[better]
            if not upper.requires_grad:  # nothing of the ramps comes to these rows
                break
            optimiser.descend(upper.sum())
            with torch.no_grad():
                for slope in slopes.values():
                    slope.clamp_(0, 1)
        return best, least
