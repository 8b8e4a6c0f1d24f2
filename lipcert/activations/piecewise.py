"""Piecewise linear activations: kinks and jumps between pieces that are straight.

Their bounds need no more than float operations, rounded outward where a product or a sum is not exact.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lipcert.activations.base import Activation
from lipcert.arithmetic.enclosure import Enclosure, exact
from lipcert.arithmetic.rounding import down, two_product, two_sum, up

Entries = float | np.ndarray
"""One number for all entries, or one for each (along the last axis)."""


@dataclass(frozen=True, eq=False)
class Piece:
    """rate x + offset, the rate known to lie in [least, most] (`rate` being its float64 value)."""

    rate: Entries
    offset: Entries = 0.0
    least: Entries | None = None
    most: Entries | None = None

    @property
    def rates(self) -> tuple[Entries, Entries]:
        return self.rate if self.least is None else self.least, self.rate if self.most is None else self.most


class PiecewiseLinear(Activation):
    """pieces[i] between breaks[i - 1] and breaks[i]; at a break itself the left piece, unless `value` says otherwise.

    Pieces may be empty (breaks[i - 1] >= breaks[i]), entry by entry. `jumps` tells at which breaks neighbours differ.
    """

    def __init__(self, breaks: Sequence[Entries], pieces: Sequence[Piece], jumps: Sequence[float] = ()) -> None:
        self._breaks, self._pieces, self._jumps = tuple(breaks), tuple(pieces), tuple(jumps)
        points = np.unique(np.concatenate([np.reshape(b, -1) for b in breaks])) if breaks else np.zeros(0)
        self.kinks = tuple(points[np.isfinite(points)][:100].tolist())

    def value(self, x: np.ndarray) -> np.ndarray:
        return self._select(x, [_line(piece.rate, piece.offset, x) for piece in self._pieces])

    def derivative(self, x: np.ndarray) -> np.ndarray:
        return self._select(x, [np.broadcast_to(piece.rate, np.shape(x)) for piece in self._pieces])

    def torch(self, x: Any) -> Any:
        import torch

        def like(entries: Entries) -> Any:
            return torch.tensor(np.array(entries), dtype=x.dtype, device=x.device)

        first, *others = self._pieces
        result = x * like(first.rate) + like(first.offset)
        for edge, piece in zip(self._breaks, others, strict=True):
            result = torch.where(x > like(edge), x * like(piece.rate) + like(piece.offset), result)
        return result

    def enclose(self, lower: np.ndarray, upper: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        low, high = np.full(np.shape(lower), math.inf), np.full(np.shape(lower), -math.inf)
        for piece, left, right, touched in self._touched(lower, upper):
            for end in (np.clip(lower, left, right), np.clip(upper, left, right)):
                for rate in piece.rates:
                    low = np.where(touched, np.minimum(low, _line(rate, piece.offset, end, -math.inf)), low)
                    high = np.where(touched, np.maximum(high, _line(rate, piece.offset, end, math.inf)), high)
        return _unless_nan(low, high, lower, upper)

    def slopes(self, lower: np.ndarray, upper: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        closed = np.zeros(np.shape(lower), dtype=bool)
        return self.slopes_within(lower, upper, closed, closed)

    def slopes_within(
        self, lower: np.ndarray, upper: np.ndarray, above: np.ndarray, below: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """The same; where `above`, of the pieces that begin at or after the lower end; `below`: up to the upper one."""
        low, high = np.full(np.shape(lower), math.inf), np.full(np.shape(lower), -math.inf)
        for piece, left, right, touched in self._touched(lower, upper):
            outside = (above & (lower >= right)) | (below & (upper <= left))
            touched = touched & ~(outside & (lower < upper))
            least, most = piece.rates
            low = np.where(touched, np.minimum(low, least), low)
            high = np.where(touched, np.maximum(high, most), high)
        for jump in self._jumps:
            inside = (lower <= jump) & (upper >= jump)
            low, high = np.where(inside, -math.inf, low), np.where(inside, math.inf, high)
        return _unless_nan(low, high, lower, upper)

    def obstacle(self, lower: np.ndarray, upper: np.ndarray) -> str:
        return "it jumps at " + " and ".join(f"{jump:g}" for jump in self._jumps) if self._jumps else ""

    def _touched(self, lower: np.ndarray, upper: np.ndarray) -> list[tuple[Piece, Entries, Entries, np.ndarray]]:
        """Each piece, its ends, and where a closed interval has a point in its closure."""
        edges = (-math.inf, *self._breaks, math.inf)
        ends = zip(self._pieces, edges[:-1], edges[1:], strict=True)
        return [(p, left, right, (left < right) & (lower <= right) & (upper >= left)) for p, left, right in ends]

    def _select(self, x: np.ndarray, pieces: Sequence[np.ndarray]) -> np.ndarray:
        result = pieces[0]
        for edge, piece in zip(self._breaks, pieces[1:], strict=True):
            result = np.where(x > edge, piece, result)
        return np.array(result)


class PRelu(PiecewiseLinear):
    """x for x >= 0, alpha x below; one alpha for each entry."""

    name = "prelu"

    def __init__(self, alpha: Enclosure) -> None:
        left = Piece(alpha.value, least=alpha.lower(), most=alpha.upper())
        super().__init__((0.0,), (left, Piece(1.0)))

    def describe(self) -> str:
        return f"{self.name}(one alpha an entry)"


class LeakyRelu(PRelu):
    """x for x >= 0, alpha x below (ONNX LeakyRelu; any finite alpha)."""

    name = "leaky_relu"

    def __init__(self, alpha: float) -> None:
        super().__init__(exact(alpha))
        self.alpha = alpha

    def describe(self) -> str:
        return f"{self.name}({self.alpha:g})"


class Relu(LeakyRelu):
    """max(x, 0)."""

    name = "relu"

    def __init__(self) -> None:
        super().__init__(0.0)

    # bounds on many boxes ask for these all the time, and for a ramp they take no rounding

    def enclose(self, lower: np.ndarray, upper: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return _unless_nan(np.maximum(lower, 0.0), np.maximum(upper, 0.0), lower, upper)

    def slopes_within(
        self, lower: np.ndarray, upper: np.ndarray, above: np.ndarray, below: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        wide = np.less(lower, upper)
        flat = np.less_equal(lower, 0) & ~(above & np.equal(lower, 0) & wide)
        steep = np.greater_equal(upper, 0) & ~(below & np.equal(upper, 0) & wide)
        return _unless_nan(np.where(flat, 0.0, 1.0), np.where(steep, 1.0, 0.0), lower, upper)

    def describe(self) -> str:
        return self.name


class Abs(PiecewiseLinear):
    """|x|."""

    name = "abs"

    def __init__(self) -> None:
        super().__init__((0.0,), (Piece(-1.0), Piece(1.0)))


class Clip(PiecewiseLinear):
    """min(max(x, low), high): constant `high` where low > high. Infinite bounds are no bounds."""

    name = "clip"

    def __init__(self, low: Entries, high: Entries) -> None:
        low = np.minimum(low, high)
        super().__init__((low, high), (Piece(0.0, low), Piece(1.0), Piece(0.0, high)))
        self.low, self.high = low, high

    def describe(self) -> str:
        if np.size(self.low) == np.size(self.high) == 1:
            return f"{self.name}({float(self.low):g}, {float(self.high):g})"
        return f"{self.name}(per entry)"


class HardSigmoid(Activation):
    """max(0, min(1, alpha x + beta))."""

    name = "hard_sigmoid"

    def __init__(self, alpha: float = 0.2, beta: float = 0.5) -> None:
        self.alpha, self.beta = alpha, beta
        self._clip = Clip(0.0, 1.0)
        self.kinks = tuple(sorted((edge - beta) / alpha for edge in (0.0, 1.0))) if alpha else ()

    def value(self, x: np.ndarray) -> np.ndarray:
        return self._clip.value(_line(self.alpha, self.beta, x))

    def derivative(self, x: np.ndarray) -> np.ndarray:
        return self.alpha * self._clip.derivative(_line(self.alpha, self.beta, x))

    def torch(self, x: Any) -> Any:
        return self._clip.torch(x * self.alpha + self.beta)

    def enclose(self, lower: np.ndarray, upper: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return self._clip.enclose(*self._argument(lower, upper))

    def slopes(self, lower: np.ndarray, upper: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        low, high = self._clip.slopes(*self._argument(lower, upper))
        return (self.alpha * low, self.alpha * high) if self.alpha >= 0 else (self.alpha * high, self.alpha * low)

    def describe(self) -> str:
        return f"{self.name}({self.alpha:g}, {self.beta:g})"

    def _argument(self, lower: np.ndarray, upper: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        low, high = (lower, upper) if self.alpha >= 0 else (upper, lower)
        return _line(self.alpha, self.beta, low, -math.inf), _line(self.alpha, self.beta, high, math.inf)


class ThresholdedRelu(PiecewiseLinear):
    """x for x > alpha, else 0: it jumps at alpha, unless alpha is 0."""

    name = "thresholded_relu"

    def __init__(self, alpha: float = 1.0) -> None:
        super().__init__((alpha,), (Piece(0.0), Piece(1.0)), (alpha,) if alpha else ())
        self.alpha = alpha

    def describe(self) -> str:
        return f"{self.name}({self.alpha:g})"


class Sign(PiecewiseLinear):
    """-1, 0 or 1: it jumps at 0."""

    name = "sign"

    def __init__(self) -> None:
        super().__init__((0.0,), (Piece(0.0, -1.0), Piece(0.0, 1.0)), (0.0,))

    def value(self, x: np.ndarray) -> np.ndarray:
        return np.sign(x)

    def torch(self, x: Any) -> Any:
        return x.sign()


class Shrink(PiecewiseLinear):
    """x + bias for x < -lambd, x - bias for x > lambd, else 0: it jumps at both, unless bias = lambd.

    For lambd < 0 the first condition wins (onnxruntime): one jump, at -lambd, unless bias = 0.
    """

    name = "shrink"

    def __init__(self, lambd: float = 0.5, bias: float = 0.0) -> None:
        self.lambd, self.bias = lambd, bias
        sides = Piece(1.0, bias), Piece(1.0, -bias)
        if lambd < 0:
            super().__init__((-lambd,), sides, (-lambd,) if bias else ())
        else:
            jumps = () if bias == lambd else (-lambd, lambd) if lambd else (0.0,)
            super().__init__((-lambd, lambd), (sides[0], Piece(0.0), sides[1]), jumps)

    @np.errstate(over="ignore")
    def value(self, x: np.ndarray) -> np.ndarray:
        middle = np.where(x > self.lambd, x - self.bias, 0.0)
        return np.where(x < -self.lambd, x + self.bias, middle)

    def describe(self) -> str:
        return f"{self.name}(lambd={self.lambd:g}, bias={self.bias:g})"


@np.errstate(over="ignore", under="ignore", invalid="ignore")
def _line(rate: Entries, offset: Entries, x: np.ndarray, outward: float | None = None) -> np.ndarray:
    """rate x + offset; with `outward`, rounded towards it where an operation is not exact. A rate of 0 is constant."""
    product = np.where(np.equal(rate, 0), 0.0, rate * x)
    if outward is None:
        return product + offset
    rounded = two_product(rate, x)[1] != 0
    product = np.where(rounded & np.not_equal(rate, 0) & np.isfinite(x), _step(product, outward), product)
    total, error = two_sum(product, offset)
    return np.where((error == 0) | np.isinf(product) | np.isinf(offset), total, _step(total, outward))


def _step(x: np.ndarray, outward: float) -> np.ndarray:
    return down(x) if outward < 0 else up(x)


def _unless_nan(
    low: np.ndarray, high: np.ndarray, lower: np.ndarray, upper: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    unknown = np.isnan(lower) | np.isnan(upper)
    return np.where(unknown, -math.inf, low), np.where(unknown, math.inf, high)
