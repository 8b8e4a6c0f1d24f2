"""Convolution in any dimension: strides, zero padding, dilations, groups.

Both directions loop over the taps of the kernel and multiply matrices, so that the rounding is that of plain sums of
products in some order, and arrays of balls work as well as floats.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any, Self

import numpy as np

from lipcert.operators.base import Leaf, Shape, size_of


class Convolution(Leaf):
    """Cross-correlation of (channels, *space) maps with `weights` (out, in / groups, *kernel), as ONNX Conv.

    `pads` holds (begin, end) for each spatial axis; `copies` independent maps are stacked in the vector.
    """

    weights: np.ndarray

    def __init__(
        self,
        weights: np.ndarray,
        in_shape: Shape,
        *,
        strides: Shape,
        pads: tuple[tuple[int, int], ...],
        dilations: Shape,
        groups: int = 1,
        copies: int = 1,
        radius: Any = 0.0,
    ) -> None:
        self.weights, self.radius = weights, radius
        self.in_shape, self.strides, self.pads = in_shape, strides, pads
        self.dilations, self.groups, self.copies = dilations, groups, copies
        self.kernel: Shape = weights.shape[2:]
        if in_shape[0] != weights.shape[1] * groups or weights.shape[0] % groups:
            raise ValueError(f"kernel {weights.shape} with {groups} groups does not fit maps {in_shape}")
        space = tuple(
            (d + p[0] + p[1] - dil * (k - 1) - 1) // s + 1
            for d, p, dil, k, s in zip(in_shape[1:], pads, dilations, self.kernel, strides, strict=True)
        )
        if min(space, default=1) < 1:
            raise ValueError(f"kernel {self.kernel} is larger than the padded map {in_shape[1:]}")
        self.out_shape: Shape = (weights.shape[0], *space)
        self.in_size, self.out_size = copies * size_of(in_shape), copies * size_of(self.out_shape)

    def with_weights(self, weights: np.ndarray) -> Self:
        return self.with_enclosure(weights, 0.0)

    def with_enclosure(self, weights: np.ndarray, radius: Any) -> Self:
        """The same convolution with another kernel, known up to `radius`."""
        return self._like(weights, radius, self.copies)

    def _like(self, weights: np.ndarray, radius: Any, copies: int) -> Self:
        return type(self)(
            weights,
            self.in_shape,
            strides=self.strides,
            pads=self.pads,
            dilations=self.dilations,
            groups=self.groups,
            copies=copies,
            radius=radius,
        )

    def taps(self) -> Iterator[tuple[Shape, tuple[slice, ...]]]:
        """Each kernel position with the slices of the padded map that it multiplies."""
        for tap in itertools.product(*(range(k) for k in self.kernel)):
            yield (
                tap,
                tuple(
                    slice(t * d, t * d + s * (o - 1) + 1, s)
                    for t, d, s, o in zip(tap, self.dilations, self.strides, self.out_shape[1:], strict=True)
                ),
            )

    def matrix(self) -> np.ndarray:
        one_map = self._one_map()
        return one_map if self.copies == 1 else np.kron(np.eye(self.copies), one_map)

    def _one_map(self) -> np.ndarray:
        """Each weight placed at the (output, input) pairs that it connects."""
        group_in, group_out = self.weights.shape[1], self._out_per_group
        pixels = np.full(self._padded_shape[1:], -1)
        pixels[self._interior[2:]] = np.arange(size_of(self.in_shape[1:])).reshape(self.in_shape[1:])
        matrix = np.zeros((self.weights.shape[0], self._positions, self.in_shape[0], size_of(self.in_shape[1:])))
        for tap, window in self.taps():
            pixel = pixels[window].reshape(-1)
            position = np.flatnonzero(pixel >= 0)
            for g, weights in enumerate(self._tap_matrix(tap)):
                rows, columns = slice(g * group_out, (g + 1) * group_out), slice(g * group_in, (g + 1) * group_in)
                matrix[rows, position, columns, pixel[position]] = weights
        return matrix.reshape(size_of(self.out_shape), size_of(self.in_shape))

    def matvec(self, x: np.ndarray) -> np.ndarray:
        maps = x.reshape(-1, *self.in_shape)
        padded = np.zeros((len(maps), *self._padded_shape), dtype=x.dtype)
        padded[self._interior] = maps
        out = np.zeros((len(maps), self.groups, self._out_per_group, self._positions), dtype=self._dtype(x))
        for tap, window in self.taps():
            patch = padded[(slice(None), slice(None), *window)]
            patch = patch.reshape(len(maps), self.groups, self.weights.shape[1], self._positions)
            out += self._tap_matrix(tap) @ patch
        return out.reshape(*x.shape[:-1], self.out_size)

    def rmatvec(self, y: np.ndarray) -> np.ndarray:
        maps = y.reshape(-1, self.groups, self._out_per_group, self._positions)
        padded = np.zeros((len(maps), *self._padded_shape), dtype=self._dtype(y))
        for tap, window in self.taps():
            patch = np.swapaxes(self._tap_matrix(tap), -1, -2) @ maps
            padded[(slice(None), slice(None), *window)] += patch.reshape(
                len(maps), self.in_shape[0], *self.out_shape[1:]
            )
        return padded[self._interior].reshape(*y.shape[:-1], self.in_size)

    def _tap_matrix(self, tap: Shape) -> np.ndarray:
        at_tap: tuple[Any, ...] = (..., *tap)
        return self.weights[at_tap].reshape(self.groups, self._out_per_group, self.weights.shape[1])

    def _dtype(self, x: np.ndarray) -> np.dtype:
        return np.result_type(x.dtype, self.weights.dtype)

    @property
    def _out_per_group(self) -> int:
        return self.weights.shape[0] // self.groups

    @property
    def _positions(self) -> int:
        return size_of(self.out_shape[1:])

    @property
    def _padded_shape(self) -> Shape:
        return (self.in_shape[0], *(d + p[0] + p[1] for d, p in zip(self.in_shape[1:], self.pads, strict=True)))

    @property
    def _interior(self) -> tuple[slice, ...]:
        space = (slice(p[0], p[0] + d) for d, p in zip(self.in_shape[1:], self.pads, strict=True))
        return (slice(None), slice(None), *space)

    @property
    def block(self) -> Convolution:
        return self if self.copies == 1 else self._like(self.weights, self.radius, 1)

    @property
    def parts(self) -> tuple[Any, ...]:
        return (
            self.weights,
            self.radius,
            self.in_shape,
            self.strides,
            self.pads,
            self.dilations,
            self.groups,
            self.copies,
        )

    @property
    def fan_in(self) -> int:
        return self.weights.shape[1] * size_of(self.kernel)

    @property
    def fan_out(self) -> int:
        return self._out_per_group * size_of(self.kernel)
