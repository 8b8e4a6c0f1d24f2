"""Outputs over pieces, from below and from above, with multipliers of the cuts that made the pieces (beta-CROWN).

Wang, Zhang, Xu, Lin, Jana, Hsieh, Kolter, Beta-CROWN (NeurIPS 2021). A cut s (v - t) >= 0 times a number of at least 0
joins the output, and goes back through the network together with it. These numbers and the slopes of the lines below
open ramps are searched for together; what is found is evidence (certificate.pieces).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from lipcert.activations import Relu
from lipcert.certificate.pieces import Cut
from lipcert.graph import Elementwise
from lipcert.methods.adam import Adam
from lipcert.methods.propagation.network import Network
from lipcert.methods.propagation.planes import Chosen, Net, first_step, upper_bounds
from lipcert.methods.propagation.regions import pick

if TYPE_CHECKING:
    import torch

    Tensor = torch.Tensor

RATE = 0.25
DECAY = 0.9
ITERATIONS = 12


@dataclass(frozen=True, eq=False)
class Sides:
    """An output over a piece from below [0] and from above [1]: what shows it, and what is left to be gained."""

    values: np.ndarray
    """(2,): the least that it may be, and the most."""

    multipliers: np.ndarray
    """(2, cuts)."""

    slopes: dict[int, np.ndarray]
    """(2, E): of lines below a ramp, at its entries that are open over the whole region."""

    coefficients: dict[int, np.ndarray]
    """(2, n): of what an elementwise node returns."""

    points: np.ndarray
    """(2, inputs): where the planes are extreme."""


class SideSearch:
    """Of one region, whose pieces are bounded a batch at a time."""

    def __init__(self, network: Network, whole: Net) -> None:
        import torch

        self.network, self.y = network, network.posed.y
        nodes = list(enumerate(whole.nodes[: self.y + 1]))
        self.readers = {body.input: at for at, body in nodes if isinstance(body, Elementwise) and at in whole.lines}
        self.entries: dict[int, Tensor] = {}
        for at, body in nodes:
            if isinstance(body, Elementwise) and isinstance(body.activation, Relu) and at in whole.lines:
                low, high = whole.boxes[body.input]
                open_ = torch.nonzero(((low < 0) & (high > 0))[0])[:, 0]
                if len(open_):
                    self.entries[at] = open_

    def search(
        self,
        net: Net,
        cuts: Sequence[tuple[Cut, ...]],
        outputs: np.ndarray,
        known: Sequence[Sides | None],
        iterations: int = ITERATIONS,
    ) -> list[Sides]:
        """One output of each piece; `known` has what was found of the pieces that they were cut from."""
        import torch

        count, maps = len(cuts), net.maps
        every = torch.arange(count, device=maps.device).repeat(2)
        signs = torch.ones(2 * count, dtype=maps.dtype, device=maps.device)
        signs[:count] = -1
        rows = torch.as_tensor(outputs, device=maps.device).repeat(2)
        plain, offset = first_step(net, self.y, rows, signs)
        cutting = _Cutting(net, cuts, known)
        slopes, open_ = {}, {}
        for at, entries in self.entries.items():
            body = net.nodes[at]
            assert isinstance(body, Elementwise)
            low, high = (side[:, entries] for side in net.boxes[body.input])
            open_[at] = ((low < 0) & (high > 0)).expand(count, -1)
            usual = pick(net.lines[at][0][1].low_slope[:, entries].clamp(0, 1), every).expand(2 * count, -1).clone()
            for b, sides in enumerate(known):
                if sides is not None:
                    old = maps.tensor(sides.slopes[at])
                    for side in (0, 1):
                        row = usual[side * count + b]
                        usual[side * count + b] = torch.where(open_[at][b], old[side], row)
            slopes[at] = usual.requires_grad_()
        told: dict[int, Tensor] = {}

        def bound(weights: Tensor, given: dict[int, Tensor]) -> Tensor:
            start, total = cutting.joined(plain, offset, weights)
            chosen = {at: Chosen(v, self.entries[at], open_[at]) for at, v in given.items()}
            return upper_bounds(net, start, every, total, chosen, at_node=told.__setitem__)

        weights = cutting.initial
        with torch.no_grad():
            best = bound(weights, slopes)
            cutting.rescale({node: told[at] for node, at in self.readers.items() if at in told})
        scaled = (weights / cutting.scale).requires_grad_()
        kept = weights.clone(), {at: v.detach().clone() for at, v in slopes.items()}
        optimiser = Adam([scaled, *slopes.values()], RATE, DECAY ** (ITERATIONS / iterations))
        for step in range(iterations + 1):
            self.network.by.tick()
            weights = scaled * cutting.scale
            upper = bound(weights, slopes)
            with torch.no_grad():
                better = upper < best
                best = torch.where(better, upper, best)
                for mine, new in ((kept[0], weights), *((kept[1][at], slopes[at]) for at in slopes)):
                    mine[better] = new[better]
            if step == iterations or not upper.requires_grad:
                break
            optimiser.descend(upper.sum())
            with torch.no_grad():
                scaled.clamp_(min=0)
                for v in slopes.values():
                    v.clamp_(0, 1)
        with torch.no_grad():
            told.clear()
            bound(*kept)
        return self._sides(net, cuts, rows[:count], best, kept[0], kept[1], told)

    def _sides(
        self,
        net: Net,
        cuts: Sequence[tuple[Cut, ...]],
        outputs: Tensor,
        best: Tensor,
        weights: Tensor,
        slopes: dict[int, Tensor],
        told: dict[int, Tensor],
    ) -> list[Sides]:
        import torch

        count = len(cuts)
        every = torch.arange(count, device=outputs.device)
        low, high = net.boxes[net.x]
        moved = told.get(net.x, torch.zeros(2 * count, low.shape[1], dtype=low.dtype, device=low.device))
        low, high = low.repeat(2, 1) if len(low) > 1 else low, high.repeat(2, 1) if len(high) > 1 else high
        points = torch.where(moved > 0, high, torch.where(moved < 0, low, low / 2 + high / 2)).cpu().numpy()
        values, given = best.cpu().numpy().reshape(2, count).T * [-1, 1], weights.cpu().numpy()
        box = [side.expand(count, -1)[every, outputs].cpu().numpy() for side in net.boxes[self.y]]
        values = np.stack([np.fmax(values[:, 0], box[0]), np.fmin(values[:, 1], box[1])], axis=1)
        lines = {at: v.cpu().numpy() for at, v in slopes.items()}
        back = {at: told[at].cpu().numpy() for at in self.readers.values() if at in told}
        return [
            Sides(
                values[b],
                given[[b, count + b], : len(path)],
                {at: v[[b, count + b]] for at, v in lines.items()},
                {at: v[[b, count + b]] for at, v in back.items()},
                points[[b, count + b]],
            )
            for b, path in enumerate(cuts)
        ]


class _Cutting:
    """The cuts of pieces as (2 B, K) multipliers; of the cuts of an entry the last one counts, the others get 0."""

    def __init__(self, net: Net, cuts: Sequence[tuple[Cut, ...]], known: Sequence[Sides | None]) -> None:
        import torch

        self.net, self.count = net, len(cuts)
        width = max(map(len, cuts), default=0)
        initial, self._at = np.zeros((2, self.count, width)), np.zeros((self.count, width))
        found: dict[int, list[tuple[int, int, int, float]]] = {}
        for b, path in enumerate(cuts):
            last = {(cut.node, cut.entry): k for k, cut in enumerate(path) if cut.node != net.x}
            for (node, entry), k in last.items():
                sign = -1.0 if path[k].below else 1.0
                found.setdefault(node, []).append((b, k, entry, sign))
                self._at[b, k] = sign * path[k].at
            sides = known[b]
            if sides is not None:
                size = min(sides.multipliers.shape[1], len(path))
                initial[:, b, :size] = sides.multipliers[:, :size]
                kept = np.isin(np.arange(width), list(last.values()))
                initial[:, b, ~kept] = 0.0
        tensor, device = net.maps.tensor, net.maps.device
        self.initial = tensor(initial.reshape(2 * self.count, width))
        self.scale = torch.ones_like(self.initial)
        self.at = tensor(np.concatenate([self._at, self._at]))
        self.places: dict[int, tuple[Tensor, Tensor, Tensor, Tensor]] = {}
        for node, entries in found.items():
            rows, places, which = (torch.as_tensor([e[i] for e in entries] * 2, device=device) for i in range(3))
            rows[len(entries) :] += self.count
            self.places[node] = rows, places, which, tensor(np.array([e[3] for e in entries] * 2))

    def joined(self, plain: dict[int, Tensor], offset: Tensor, weights: Tensor) -> tuple[dict[int, Tensor], Tensor]:
        """Coefficients and offsets with the cuts, each at least 0 in its piece."""
        import torch

        start = dict(plain)
        for node, (b, k, entry, sign) in self.places.items():
            size = int(np.prod(self.net.nodes[node].shape))
            zero = torch.zeros(len(offset), size, dtype=offset.dtype, device=offset.device)
            part = zero.index_put((b, entry), sign * weights[b, k])
            start[node] = start[node] + part if node in start else part
        return start, offset - (weights * self.at).sum(dim=1)

    def rescale(self, coefficients: dict[int, Tensor]) -> None:
        """How large multipliers may be: as what comes back to the nodes that read a cut one."""
        for node, (b, k, _, _) in self.places.items():
            if node in coefficients:
                size = coefficients[node].square().mean(dim=1).sqrt()
                self.scale[b, k] = size[b].clamp(min=1e-30)
