"""What an ONNX tensor is during import: live (depends on an input), a float constant, integers, or a condition."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lipcert.arithmetic.enclosure import Enclosure
from lipcert.errors import ModelError
from lipcert.operators import Shape, size_of


@dataclass(frozen=True)
class Live:
    """The value of a graph node, seen as a tensor of `shape`."""

    node: int
    shape: Shape

    @property
    def size(self) -> int:
        return size_of(self.shape)


@dataclass(frozen=True, eq=False)
class Known:
    """A float tensor that depends on no input: stored (radius zero) or computed from stored ones (enclosed)."""

    data: Enclosure

    @property
    def shape(self) -> Shape:
        return self.data.shape

    @property
    def size(self) -> int:
        return size_of(self.shape)


@dataclass(frozen=True, eq=False)
class Integers:
    """An integer or boolean constant: shapes, axes, indices; exact."""

    data: np.ndarray

    @property
    def shape(self) -> Shape:
        return self.data.shape


@dataclass(frozen=True)
class Condition:
    """A boolean that depends on an input: score > 0, or score >= 0."""

    score: Live
    strict: bool

    @property
    def shape(self) -> Shape:
        return self.score.shape

    @property
    def size(self) -> int:
        return self.score.size


Value = Live | Known | Integers | Condition


@dataclass(frozen=True, eq=False)
class Refused:
    """A tensor that is not known, since a node before it is not understood."""

    because: ModelError
