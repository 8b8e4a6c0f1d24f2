"""Constants computed in the graph, once more in as many digits as they need.

Enclosures grow by |A| |B| with every matrix product: a Bjorck orthonormalisation of a 256 x 256 matrix multiplies its
radius by a hundred at each step, though the iteration itself forgets errors. Where that shows, the constant is computed
again from the stored weights in Arb balls, whose precision is raised until nothing of the growth is left.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from lipcert.frontend.opnode import OpNode
from lipcert.frontend.values import Integers, Known, Value

LOOSE = 2.0**-46
"""Radius, relative to the largest entry, from which a constant is computed again."""

TIGHT = 2.0**-51
_PRECISIONS = (256, 512, 1024)

Balls = np.ndarray


class PreciseConstants:
    """How each inexact constant was made, and its balls where they have been needed."""

    def __init__(self) -> None:
        self._made: dict[int, tuple[Known, OpNode]] = {}
        self._balls: dict[tuple[int, int], Balls | None] = {}
        self._closer: dict[int, Known] = {}
        self._enough = _PRECISIONS[0]
        """Bits that the constants so far needed."""

    def record(self, op: OpNode, result: Known) -> None:
        """Remember that `op` made the constant."""
        passed_on = any(given is result for given in op.inputs)
        if not result.data.is_exact and not passed_on:
            self._made[id(result)] = (result, op)

    def refined(self, value: Known) -> Known:
        """A closer enclosure of a constant that is loose; itself where it is not, or its ops are not known here."""
        if _looseness(value) <= LOOSE:
            return value
        if id(value) not in self._closer:
            self._closer[id(value)] = self._refine(value)
        return self._closer[id(value)]

    def _refine(self, value: Known) -> Known:
        from flint import ctx

        from lipcert.arithmetic.balls import to_enclosure

        before, closest = ctx.prec, value
        try:
            for precision in [p for p in _PRECISIONS if p >= self._enough]:
                ctx.prec = self._enough = precision
                balls = self._compute(value, precision)
                if balls is None:
                    break
                closest = Known(to_enclosure(balls))
                if _looseness(closest) <= TIGHT:
                    break
        finally:
            ctx.prec = before
        return closest

    def _compute(self, value: Known, precision: int) -> Balls | None:
        """The constant in balls of the current precision; None where an op on the way is not known here."""
        from lipcert.arithmetic.balls import as_balls

        if value.data.is_exact:
            return as_balls(value.data.value)
        key = (id(value), precision)
        if self._balls.get(key) is None:
            if id(value) not in self._made:
                return None
            op = self._made[id(value)][1]
            rule = _RULES.get(op.op_type)
            inputs = [self._input(v, precision) for v in op.inputs]
            if rule is None or op.domain or any(given is None for given in inputs):
                return None
            self._balls[key] = np.asarray(rule(op, inputs), dtype=object).reshape(value.shape)
        return self._balls[key]

    def _input(self, value: Value | None, precision: int) -> Any:
        if isinstance(value, Known):
            return self._compute(value, precision)
        return value if isinstance(value, Integers) else None


def _looseness(value: Known) -> float:
    size = float(np.max(np.abs(value.data.value), initial=0.0))
    radius = float(np.max(value.data.full_radius(), initial=0.0))
    return radius / size if size else radius


def _matmul(a: Balls, b: Balls) -> Balls:
    from lipcert.arithmetic.balls import matrix_product

    if a.ndim == b.ndim == 2:
        return matrix_product(a, b)
    return a @ b


def _gemm(op: OpNode, inputs: list[Balls]) -> Balls:
    a = inputs[0].T if op.attr("transA", 0) else inputs[0]
    b = inputs[1].T if op.attr("transB", 0) else inputs[1]
    product = _matmul(a, b) * float(op.attr("alpha", 1.0))
    return product + inputs[2] * float(op.attr("beta", 1.0)) if len(inputs) > 2 else product


def _root(values: Balls) -> Balls:
    return np.frompyfunc(lambda ball: ball.sqrt(), 1, 1)(values)


def _sum(op: OpNode, values: Balls, since: int) -> Balls:
    from lipcert.frontend.converters.reductions import axes_of

    axes = axes_of(op, values.shape, since)
    return values if axes is None else np.sum(values, axis=axes)


def _same(op: OpNode, inputs: list[Balls]) -> Balls:
    return inputs[0]


_RULES: dict[str, Callable[[OpNode, list[Any]], Balls]] = {
    "Add": lambda op, v: v[0] + v[1],
    "Sub": lambda op, v: v[0] - v[1],
    "Mul": lambda op, v: v[0] * v[1],
    "Div": lambda op, v: v[0] / v[1],
    "Neg": lambda op, v: -v[0],
    "Reciprocal": lambda op, v: 1 / v[0],
    "Sqrt": lambda op, v: _root(v[0]),
    "MatMul": lambda op, v: _matmul(v[0], v[1]),
    "Gemm": _gemm,
    "Transpose": lambda op, v: v[0].transpose(op.attr("perm", None)),
    "ReduceSum": lambda op, v: _sum(op, v[0], 13),
    "ReduceSumSquare": lambda op, v: _sum(op, v[0] * v[0], 18),
    "ReduceL2": lambda op, v: _root(np.asarray(_sum(op, v[0] * v[0], 18))),
    **dict.fromkeys(("Identity", "Cast", "Flatten", "Reshape", "Squeeze", "Unsqueeze"), _same),
}
"""The result's entries, to be given the shape of the float result."""
