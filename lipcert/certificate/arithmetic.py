"""The primitives that a proof needs, in float64 with error terms; `balls` has the same ones in ball arithmetic.

Each takes and returns float64 data; what differs is how the rounding inside is accounted for.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np

from lipcert.arithmetic.enclosure import Enclosure
from lipcert.arithmetic.rounding import down, inflate, norm_up, up
from lipcert.arithmetic.threads import over_parts
from lipcert.certificate.definite import (
    GramForm,
    SymmetricBlocks,
    are_positive_definite,
    gram_form,
    hermitian_forms_prove,
)
from lipcert.operators import LinearOperator, enclosed
from lipcert.problem import Norm

KEPT_ENTRIES = 2**23
"""Entries of written-out operators that are kept at a time: 128 MiB with their radii."""


T = TypeVar("T")


def _same(a: Any, b: Any) -> bool:
    return a is b or (isinstance(a, int | float | str | bytes) and type(a) is type(b) and a == b)


class Arithmetic:
    """Float64 with proven error terms."""

    name = "float64"

    def __init__(self) -> None:
        self.tick: Callable[[], None] = lambda: None
        """Called between pieces of long proofs; a method may raise from it."""
        self.found: dict[Any, Any] = {}
        """For methods: what they found with this arithmetic, by whatever key they like; proofs do not read it."""
        self._dense: dict[int, tuple[LinearOperator, Enclosure]] = {}
        self._gram: tuple[Enclosure, GramForm] | None = None
        self._proven: dict[tuple[str, bytes], float] = {}
        self._kept: list[tuple[tuple[Any, ...], Any]] = []

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
        return matrix.is_finite and self.gram(matrix).proves(sigma)

    def proves_positive(self, form: SymmetricBlocks) -> bool:
        """Whether every symmetric matrix within the form's error is proven positive definite."""
        return form.is_positive_definite()

    def prove_positive(self, matrices: np.ndarray, errors: np.ndarray) -> bool:
        """The same of many small matrices (k, n, n), whose errors have these row sums (k, n)."""
        return bool(np.all(are_positive_definite(matrices, errors)))

    def gram(self, matrix: Enclosure) -> GramForm:
        """The Gram form of a finite matrix; the latest one is kept."""
        if self._gram is None or self._gram[0] is not matrix:
            self._gram = (matrix, gram_form(matrix))
        return self._gram[1]

    def once(self, rule: str, op: LinearOperator, sigma: float, proves: Callable[[], bool]) -> bool:
        """Whether the rule proves that the norm of `op` is at most sigma, asked once; then so is all that is larger."""
        key = (rule, op.digest)
        if key in self._proven and self._proven[key] <= sigma < np.inf:
            return True
        if not proves():
            return False
        self._proven[key] = sigma
        return True

    def proves_complex(
        self, re: np.ndarray, im: np.ndarray, spread: np.ndarray, error: np.ndarray, sigma: float
    ) -> np.ndarray:
        """For each of many re + i im (points, m, n): whether |F|_2 <= sigma for every complex F within `spread` of it.

        `error`: row sums of the error of the real form [[A, -B], [B, A]] of F F' = A + i B (symbol._gram_error).
        """
        if not sigma >= 0:
            return np.zeros(len(re), dtype=bool)
        if re.shape[1] == 1:  # F F' is one number, for which the error has room
            squares = (re * re + im * im).sum(axis=(1, 2))
            return up(squares + error[0]) <= down(sigma * sigma)
        return over_parts(lambda a, b: hermitian_forms_prove(a, b, error, sigma), re, im)

    def kept(self, about: tuple[Any, ...], compute: Callable[[], T]) -> T:
        """What was computed before about the very same objects (and equal numbers and names), or computed now."""
        for known, result in self._kept:
            if len(known) == len(about) and all(map(_same, known, about)):
                return result
        result = compute()
        self._kept.append((about, result))
        return result

    def _write_out(self, op: LinearOperator) -> Enclosure:
        return enclosed.dense(op)
