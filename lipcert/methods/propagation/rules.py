"""What every kind of node does to boxes, and the lines that bound it: many cases at a time.

Ramps have rules of their own on the device; of other activations and of groups the kernel's functions are asked, in
float64 on the CPU.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from lipcert.activations import Activation, Relu
from lipcert.activations.groupwise import GroupFunction
from lipcert.activations.piecewise import PiecewiseLinear
from lipcert.activations.softmax import Margins
from lipcert.certificate import relaxation
from lipcert.graph import Affine
from lipcert.methods.propagation.planes import Lines, Net
from lipcert.methods.propagation.regions import pick

if TYPE_CHECKING:
    import torch

    from lipcert.methods.propagation.planes import Bounds

    Tensor = torch.Tensor


def affine_box(net: Net, position: int) -> Bounds:
    """By midpoint and radius; what reads from something unbounded is unbounded."""
    import torch

    body = net.nodes[position]
    assert isinstance(body, Affine)
    middle: Tensor | None = None
    radius: Tensor | None = None
    for k, source in enumerate(body.inputs):
        low, high = net.boxes[source]
        center, spread = (low + high) / 2, (high - low) / 2
        known = torch.isfinite(spread)
        if not known.all():
            lost = net.maps.magnitude(position, k)((~known).to(low.dtype)) > 0
            center, spread = torch.where(known, center, 0.0), torch.where(known, spread, 0.0)
        moved, reach = net.maps.forward(position, k)(center), net.maps.magnitude(position, k)(spread)
        if not known.all():
            reach = torch.where(lost, torch.inf, reach)
        middle = moved if middle is None else middle + moved
        radius = reach if radius is None else radius + reach
    assert middle is not None
    assert radius is not None
    bias = net.maps.bias(position)
    middle = middle if bias is None else middle + bias
    return middle - radius, middle + radius


def product_box(a: Bounds, b: Bounds) -> Bounds:
    import torch

    corners = [x * y for x in a for y in b]
    return (
        torch.minimum(torch.minimum(corners[0], corners[1]), torch.minimum(corners[2], corners[3])),
        torch.maximum(torch.maximum(corners[0], corners[1]), torch.maximum(corners[2], corners[3])),
    )


def activation_box(activation: Activation, box: Bounds) -> Bounds:
    if isinstance(activation, Relu):
        return box[0].clamp(min=0), box[1].clamp(min=0)
    return _on_cpu(activation.enclose, box)


def activation_slopes(activation: Activation, box: Bounds, ends: Bounds | None = None) -> Bounds:
    """The least and the largest; at an end of a piece, those of its side."""
    low, high = box
    if isinstance(activation, Relu):
        above, below = low > 0, high >= 0
        if ends is not None:
            wide = low < high
            above, below = above | ((low == 0) & (ends[0] == 0) & wide), below & ~((high == 0) & (ends[1] == 0) & wide)
        return above.to(low.dtype), below.to(low.dtype)
    if ends is not None and isinstance(activation, PiecewiseLinear):
        first, last = (side.cpu().numpy() for side in ends)
        return _on_cpu(lambda low, high: activation.slopes_within(low, high, low == first, high == last), box)
    return _on_cpu(activation.slopes, box)


def activation_lines(activation: Activation, box: Bounds, values: Bounds) -> Lines:
    """Level ones at the ends of the values where none are finite."""
    import torch

    low, high = box
    if isinstance(activation, Relu):
        width = (high - low).clamp(min=torch.finfo(low.dtype).tiny)
        above = torch.where(low >= 0, 1.0, torch.where(high <= 0, 0.0, high / width)).to(low.dtype)
        below = torch.where(low >= 0, 1.0, torch.where(high <= 0, 0.0, (high > -low).to(low.dtype))).to(low.dtype)
        offset = torch.where((low < 0) & (high > 0), -low * above, 0.0)
        return Lines(below, None, above, offset)
    found = relaxation.lines(activation, *(side.double().cpu().numpy() for side in box))
    low_slope, low_offset, high_slope, high_offset = (
        torch.tensor(v, dtype=low.dtype, device=low.device)
        for v in (found.low_slope, found.low_offset, found.high_slope, found.high_offset)
    )
    below_known = torch.isfinite(low_slope) & torch.isfinite(low_offset)
    above_known = torch.isfinite(high_slope) & torch.isfinite(high_offset)
    return Lines(
        torch.where(below_known, low_slope, 0.0),
        torch.where(below_known, low_offset, values[0]),
        torch.where(above_known, high_slope, 0.0),
        torch.where(above_known, high_offset, values[1]),
    )


def product_lines(left: Bounds, right: Bounds) -> tuple[Lines, Lines]:
    """McCormick's planes below and above u v."""
    low = -left[0] * right[0]  # u v >= right_low u + left_low v - left_low right_low
    high = -left[0] * right[1]  # u v <= right_high u + left_low v - left_low right_high
    first = Lines(right[0], low, right[1], high)
    return first, Lines(left[0], None, left[0], None)


def group_box(function: GroupFunction | Margins, box: Bounds) -> Bounds:
    """Case by case."""

    def enclose(low: np.ndarray, high: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        found = [function.enclose(a, b) for a, b in zip(low, high, strict=True)]
        return np.array([a for a, _ in found]), np.array([b for _, b in found])

    return _on_cpu(enclose, box)


def chords(slopes: Bounds, box: Bounds) -> Lines:
    """Lines below min(l a, h a) and above max(l a, h a) over the box (certificate.derivative)."""
    low_slope, low_offset = _chord(slopes[1], slopes[0], box)
    high_slope, high_offset = _chord(slopes[0], slopes[1], box)
    return Lines(low_slope, low_offset, high_slope, high_offset)


def _chord(before: Tensor, after: Tensor, box: Bounds) -> tuple[Tensor, Tensor]:
    """Slope and offset of the chord of the function with slope `before` below zero and `after` above it."""
    import torch

    a, b = box
    width = (b - a).clamp(min=torch.finfo(a.dtype).tiny)
    sure = (a >= 0) | (b <= 0) | (before == after)
    slope = torch.where(a >= 0, after, torch.where(sure, before, (after * b - before * a) / width))
    return slope, torch.where(sure, 0.0, (before - slope) * a)


Cells = list[tuple["Bounds", "Bounds"]]
"""Where v goes, with the slopes s there: boxes (B, n) of v and of s."""


def ends_of(box: Bounds) -> Cells:
    """Of s = v."""
    return [((end, end), (end, end)) for end in box]


def derivative_cells(activation: Activation, box: Bounds) -> Cells:
    """Of s = phi'(v)."""
    low, high = box
    ends = [low + share * (high - low) for share in np.linspace(0, 1, relaxation.CELLS + 1)]
    return [(cell, _on_cpu(activation.slopes, cell)) for cell in pairwise(ends)]


def product_planes(cells: Cells, box: Bounds, chord: Lines, which: Tensor) -> tuple[Lines, Lines]:
    """Below and above p = s a, a in the box of each row (certificate.relaxation)."""
    import torch

    (start, _), first = ([pick(side, which) for side in pair] for pair in cells[0])
    (_, end), last = ([pick(side, which) for side in pair] for pair in cells[-1])
    center, middle = (box[0] + box[1]) / 2, (start + end) / 2
    steep = (last[0] + last[1] - first[0] - first[1]) / 2
    r = torch.nan_to_num(center * steep / (end - start), nan=0.0, posinf=0.0, neginf=0.0)
    q = ((first[0] + first[1] + last[0] + last[1]) / 4).expand_as(r)
    most, least = torch.full_like(r, -torch.inf), torch.full_like(r, torch.inf)
    for v, s in cells:
        drift = [r * pick(side, which) for side in v]
        ends = [pick(side, which) for side in s]
        for a in box:
            values = ends[0] * a - q * a, ends[1] * a - q * a
            most = torch.maximum(most, torch.maximum(*values) - torch.minimum(*drift))
            least = torch.minimum(least, torch.minimum(*values) - torch.maximum(*drift))
    at = q * center + r * middle
    high = chord.high_slope * center + (0.0 if chord.high_offset is None else chord.high_offset)
    low = chord.low_slope * center + (0.0 if chord.low_offset is None else chord.low_offset)
    above, below = torch.isfinite(most) & (at + most < high), torch.isfinite(least) & (at + least > low)
    zero = torch.zeros_like(r)
    in_a = Lines(
        torch.where(below, q, chord.low_slope),
        torch.where(below, least, zero if chord.low_offset is None else chord.low_offset),
        torch.where(above, q, chord.high_slope),
        torch.where(above, most, zero if chord.high_offset is None else chord.high_offset),
    )
    return in_a, Lines(torch.where(below, r, 0.0), None, torch.where(above, r, 0.0), None)


def _on_cpu(function: Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]], box: Bounds) -> Bounds:
    import torch

    like = box[0]
    found = function(*(side.double().cpu().numpy() for side in box))
    first, last = (torch.tensor(v, dtype=like.dtype, device=like.device) for v in found)
    return first, last
