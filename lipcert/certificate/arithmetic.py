"""The primitives that a proof needs, in float64 with error terms; `balls` has the same ones in ball arithmetic.

Each takes and returns float64 data; what differs is how the rounding inside is accounted for.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from lipcert.arithmetic.enclosure import Enclosure
from lipcert.arithmetic.rounding import inflate, norm_up
from lipcert.certificate.definite import GramForm, gram_form
from lipcert.operators import LinearOperator, enclosed
from lipcert.problem import Norm

KEPT_ENTRIES = 2**23
"""Entries of written-out operators that are kept at a time: 128 MiB with their radii."""


class Arithmetic:
    """Float64 with proven error terms."""

    name = "float64"

    def __init__(self) -> None:
        self.tick: Callable[[], None] = lambda: None
        """Called between pieces of long proofs; a method may raise from it."""
        self.found: dict[Any, float] = {}
        """For methods: what they found with this arithmetic, by whatever key they like; proofs do not read it."""
        self._dense: dict[int, tuple[LinearOperator, Enclosure]] = {}

    def apply(self, op: LinearOperator, x: Enclosure) -> Enclosure:
        """Enclosure of A x."""
        return enclosed.apply(op, x)

    def magnitude(self, op: LinearOperator, v: np.ndarray, adjoint: bool = False) -> np.ndarray:
        """Upper bound on |A| v or |A|' v, v >= 0, factor by factor."""
        return enclosed.magnitude_up(op, v, adjoint)

    def dense(self, op: LinearOperator) -> Enclosure:
        """The matrix of the operator; the latest ones are kept, up to a budget."""
        if id(op) not in self._dense:
            self._dense[id(op)] = (op, self._write_out(op))
            while len(self._dense) > 1 and sum(m.value.size for _, m in self._dense.values()) > KEPT_ENTRIES:
                del self._dense[next(iter(self._dense))]
        return self._dense[id(op)][1]

    def product(self, matrix: np.ndarray, v: np.ndarray) -> np.ndarray:
        """Upper bound on matrix @ v, both non-negative."""
        return inflate(matrix @ v, matrix.shape[1]) if np.any(v) else np.zeros(matrix.shape[0])

    def norms(self, v: np.ndarray, q: Norm) -> Any:
        """Upper bound on the l_q norms of non-negative vectors along the last axis."""
        return norm_up(v, q)

    def proves_spectral(self, matrix: Enclosure, sigma: float) -> bool:
        """Whether |W|_2 <= sigma is proven for every W enclosed."""
        return matrix.is_finite and gram_form(matrix).proves(sigma)

    def proves_complex(
        self, re: np.ndarray, im: np.ndarray, spread: np.ndarray, error: np.ndarray, sigma: float
    ) -> bool:
        """Whether |F|_2 <= sigma for every complex F (m, n) within `spread` of re + i im.

        `error`: row sums of the error of the real form [[A, -B], [B, A]] of F F' = A + i B (symbol._gram_error).
        """
        both, turned = np.hstack([re, im]), np.hstack([im, -re])
        a, b = both @ both.T, turned @ both.T
        gram = np.block([[a, -b], [b, a]])
        return GramForm(np.tril(gram) + np.tril(gram, -1).T, error).proves(sigma)

    def _write_out(self, op: LinearOperator) -> Enclosure:
        return enclosed.dense(op)
