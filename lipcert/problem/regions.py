"""Regions of the input space over which a claim is made, and the boxes that contain them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lipcert.arithmetic.rounding import down, norm_up, up
from lipcert.errors import UsageError
from lipcert.problem.norms import Norm, norm_name


@dataclass(frozen=True)
class Everywhere:
    """All of R^n."""

    def bounds(self, size: int) -> tuple[np.ndarray, np.ndarray]:
        return np.full(size, -math.inf), np.full(size, math.inf)

    def contains(self, x: np.ndarray) -> bool:
        return bool(np.all(np.isfinite(x)))

    def describe(self) -> str:
        return "everywhere"


@dataclass(frozen=True, eq=False)
class Ball:
    """{x : |x - center|_norm <= eps}: float64 numbers, taken as exact, in the model's input units."""

    center: np.ndarray
    eps: float
    norm: Norm

    def __post_init__(self) -> None:
        if self.center.ndim != 1:
            raise UsageError(f"--center is an array of shape {list(self.center.shape)}, not a vector")
        if not (math.isfinite(self.eps) and self.eps >= 0):
            raise UsageError(f"--eps: {self.eps} is not a radius", hint="use a finite number >= 0")
        if not np.all(np.isfinite(self.center)):
            raise UsageError("--center holds NaN or Inf", hint="check the data file")

    def bounds(self, size: int) -> tuple[np.ndarray, np.ndarray]:
        """The smallest box around the ball, rounded outward."""
        _check_size(self.center.shape[-1], size, "--center")
        if self.eps == 0:
            return self.center, self.center
        with np.errstate(over="ignore"):  # an infinite end is one
            return down(self.center - self.eps), up(self.center + self.eps)

    def contains(self, x: np.ndarray) -> bool:
        """Whether x is certainly inside."""
        offset = up(np.abs(x - self.center))
        offset[x == self.center] = 0.0
        return bool(np.all(np.isfinite(x)) and norm_up(offset, self.norm) <= self.eps)

    def describe(self) -> str:
        return f"l{norm_name(self.norm)} ball of radius {repr(self.eps).removesuffix('.0')}"


@dataclass(frozen=True, eq=False)
class Box:
    """{x : lower <= x <= upper}."""

    lower: np.ndarray
    upper: np.ndarray

    def __post_init__(self) -> None:
        if self.lower.ndim != 1 or self.upper.ndim != 1:
            raise UsageError("--box: the bounds are not vectors")
        if self.lower.shape != self.upper.shape:
            raise UsageError(f"--box: bounds of {self.lower.size} and {self.upper.size} numbers")
        if not (np.all(np.isfinite(self.lower)) and np.all(np.isfinite(self.upper))):
            raise UsageError("--box holds NaN or Inf", hint="for an unbounded region leave the option out")
        if np.any(self.lower > self.upper):
            i = int(np.argmax(self.lower > self.upper))
            raise UsageError(f"--box: lower {self.lower[i]:g} is above upper {self.upper[i]:g} at input {i}")

    def bounds(self, size: int) -> tuple[np.ndarray, np.ndarray]:
        _check_size(self.lower.shape[-1], size, "--box")
        return self.lower, self.upper

    def contains(self, x: np.ndarray) -> bool:
        return bool(np.all(self.lower <= x) and np.all(x <= self.upper))

    def describe(self) -> str:
        return f"box, widest side {float(np.max(self.upper - self.lower, initial=0.0)):g}"


Region = Everywhere | Ball | Box


@dataclass(frozen=True, eq=False)
class Balls(Ball):
    """Many balls of one radius, `center` (K, n): for boxes around the outputs of all of them at a time, alone."""

    def __post_init__(self) -> None:
        Ball(self.center.reshape(-1), self.eps, self.norm)  # checks the numbers

    def contains(self, x: np.ndarray) -> bool:
        raise TypeError("a point is in one ball or another")

    def describe(self) -> str:
        return f"{len(self.center)} l{norm_name(self.norm)} balls of radius {repr(self.eps).removesuffix('.0')}"


@dataclass(frozen=True, eq=False)
class Boxes(Box):
    """Many boxes, `lower` and `upper` (K, n), as Balls."""

    def __post_init__(self) -> None:
        Box(self.lower.reshape(-1), self.upper.reshape(-1))

    def contains(self, x: np.ndarray) -> bool:
        raise TypeError("a point is in one box or another")

    def describe(self) -> str:
        return f"{len(self.lower)} boxes"


def together(regions: Sequence[Region]) -> Balls | Boxes:
    """Many regions as one; UsageError where they are not boxes, or balls of one radius in one norm."""
    balls = [region for region in regions if isinstance(region, Ball)]
    boxes = [region for region in regions if isinstance(region, Box)]
    if len(boxes) == len(regions) > 0:
        return Boxes(np.array([box.lower for box in boxes]), np.array([box.upper for box in boxes]))
    if len({(ball.eps, ball.norm, ball.center.size) for ball in balls}) != 1 or len(balls) < len(regions):
        raise UsageError("regions of several kinds", hint="give boxes, or balls of one radius in one norm")
    return Balls(np.array([ball.center for ball in balls]), balls[0].eps, balls[0].norm)


def rows_of(region: Region) -> tuple[int, ...]:
    """The axis in front of what differs from region to region: (K,) of many, () of one."""
    if isinstance(region, Balls):
        return region.center.shape[:1]
    return region.lower.shape[:1] if isinstance(region, Boxes) else ()


def _check_size(given: int, wanted: int, option: str) -> None:
    if given != wanted:
        raise UsageError(
            f"{option}: {given} numbers for an input of {wanted}",
            hint="check --row, --skip-columns and the model's input shape (`lipcert inspect`)",
        )
