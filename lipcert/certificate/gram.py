"""Gram iteration: |W|_2^(2^K) <= |H_K|_F with H_k = H_{k-1} H_{k-1}', H_0 = W, rescaled at every step.

Delattre, Barthelemy, Araujo, Allauzen, "Efficient Bound of Lipschitz Constant for Convolutional Layers by Gram
Iteration" (ICML 2023); their next paper (2024) does it at every frequency of a convolution. Here the iterates carry a
bound on their total error in Frobenius norm, so that the result is proven; scales are powers of two.
"""

from __future__ import annotations

import math

import numpy as np

from lipcert.arithmetic.enclosure import Enclosure
from lipcert.arithmetic.rounding import ETA, gamma, inflate, mul_up, norm_up, sqrt_up, up
from lipcert.arithmetic.threads import one_thread
from lipcert.certificate.arithmetic import Arithmetic
from lipcert.certificate.lattice import Lattice
from lipcert.certificate.symbol import (
    MAX_AXES,
    MAX_CELLS,
    Group,
    at_a_time,
    circle_phases,
    cos_tau,
    enclosed_groups,
    phases_of_106_bits,
    symbol_kernel,
)
from lipcert.errors import NotProvedError
from lipcert.operators import Shape

MAX_ITERATIONS = 30
"""More change nothing: the bound is within rank^(2^-(K+1)) of the norm."""


def gram_bound(matrix: Enclosure, iterations: int) -> float:
    """Upper bound on the l2 norm of every matrix enclosed, from `iterations` steps."""
    _check(iterations)
    value = matrix if matrix.shape[0] <= matrix.shape[1] else matrix.rearrange(np.transpose)
    spread = float(norm_up(value.full_radius().reshape(-1), 2.0))
    if not (matrix.is_finite and math.isfinite(spread)):
        raise NotProvedError("the matrix is not finite")
    return float(_iterated(value.value[None], np.zeros((1, *value.shape)), spread, iterations)[0])


def gram_symbol_bound(conv: Lattice, iterations: int, grid: Shape, by: Arithmetic) -> float:
    """Upper bound on the l2 norm of a convolution from Gram iteration at frequencies of its symbol.

    An empty `grid` stands for the circle that the maps fit on; else there are so many frequencies along each axis, and
    the bound holds for maps of any size, enlarged by the 1 / cos(tau) of certificate.symbol.
    """
    _check(iterations)
    kernel = symbol_kernel(conv)
    periods, share = kernel.periods, 1.0
    if grid:
        if len(grid) != len(kernel.extents) or min(grid) < 1:
            raise NotProvedError(f"a grid of {grid} frequencies for {len(kernel.extents)} axes")
        periods = grid
        # a frequency is within pi / n of the closest one along each axis
        with phases_of_106_bits():
            share = cos_tau(kernel.degrees, grid)
        if share <= 0:
            raise NotProvedError(f"a grid of {grid} frequencies is too coarse")
    points = math.prod(periods)
    if points > MAX_CELLS or len(kernel.extents) > MAX_AXES:
        raise NotProvedError(f"Gram iteration at {points} frequencies of {len(kernel.extents)} axes is over the limit")
    if not (conv.weights.is_finite and math.isfinite(conv.deviation)):
        raise NotProvedError("the kernel is not finite")
    largest = 0.0
    with phases_of_106_bits(), one_thread():
        for group in enclosed_groups(kernel):
            largest = max(largest, _largest_over(group, periods, iterations, by))
    return float(up(up(largest / share) + conv.deviation)) if largest or conv.deviation else 0.0


def _largest_over(group: Group, periods: Shape, iterations: int, by: Arithmetic) -> float:
    largest = 0.0
    spread = 1.5 * float(norm_up(group.spread.reshape(-1), 2.0))  # it is one of Re, and of Im
    for phases in circle_phases(group.kernel, periods, at_a_time(group)):
        by.tick()
        largest = max(largest, float(_iterated(*group.symbols(phases), spread, iterations).max()))
    return largest


@np.errstate(over="ignore", invalid="ignore")  # overflow ends in inf or NaN, which is refused
def _iterated(re: np.ndarray, im: np.ndarray, spread: float, iterations: int) -> np.ndarray:
    """Upper bounds on |F|_2 for every F within `spread` (Frobenius) of re + i im, shapes (points, m, n)."""
    scales = []
    error = np.full(len(re), spread)
    for _ in range(iterations):
        scale = _power_of_two(_frobenius(re, im) + error)
        scales.append(scale)
        re, im, error = (a / _beside(scale, a) for a in (re, im, error))  # exact, but for what underflows
        n = re.shape[2]
        size = _frobenius(re, im)
        error = inflate(error + 2 * math.sqrt(2 * re.shape[1] * n) * ETA, 4)
        # |F F' - G G'| <= (2 |G| + e) e; each entry of G G' is two sums of 2 n products
        error = inflate((2 * size + error) * error + 2 * gamma(2 * n + 2) * size * size + 8 * n * n * ETA, 12)
        turned = np.swapaxes(re, 1, 2), np.swapaxes(im, 1, 2)
        re, im = re @ turned[0] + im @ turned[1], im @ turned[0] - re @ turned[1]
    bound = up(_frobenius(re, im) + error)
    for scale in reversed(scales):
        bound = mul_up(scale, sqrt_up(bound))
    if not np.all(np.isfinite(bound)):
        raise NotProvedError("Gram iteration overflows")
    return np.asarray(bound)


def _frobenius(re: np.ndarray, im: np.ndarray) -> np.ndarray:
    """Upper bounds on the Frobenius norms along the first axis."""
    return np.asarray(norm_up(np.abs(np.concatenate([re, im], axis=1).reshape(len(re), -1)), 2.0))


def _power_of_two(x: np.ndarray) -> np.ndarray:
    """The power of two at or below x, 1 for zero."""
    exponent = np.frexp(np.where(x > 0, x, 1.0))[1]
    return np.ldexp(1.0, np.clip(exponent - 1, -1000, 1000))


def _beside(scale: np.ndarray, array: np.ndarray) -> np.ndarray:
    return scale.reshape(-1, *(1 for _ in array.shape[1:]))


def _check(iterations: int) -> None:
    if not 1 <= iterations <= MAX_ITERATIONS:
        raise NotProvedError(f"Gram iteration of {iterations} steps")
