"""Arrays of Arb balls (python-flint): exact conversion from floats, outward conversion back, matrix products."""

from __future__ import annotations

from typing import Any

import numpy as np
from flint import arb, arb_mat

from lipcert.arithmetic.enclosure import Enclosure
from lipcert.arithmetic.rounding import ETA, U, up


def matrix_product(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """a @ b for arrays of balls, by Arb's own matrix product."""
    product = arb_matrix(a) * arb_matrix(b)
    flat = np.empty(a.shape[0] * b.shape[1], dtype=object)
    flat[:] = product.entries()
    return flat.reshape(a.shape[0], b.shape[1])


def arb_matrix(balls: np.ndarray) -> arb_mat:
    rows, columns = balls.shape
    return arb_mat(rows, columns, balls.reshape(-1).tolist())


def as_balls(v: np.ndarray) -> np.ndarray:
    """Floats as balls of radius zero."""
    flat = np.empty(v.size, dtype=object)
    flat[:] = [arb(x) for x in v.reshape(-1).tolist()]
    return flat.reshape(v.shape)


def to_balls(data: Enclosure) -> np.ndarray:
    """The enclosure, radius included."""
    if data.is_exact:
        return as_balls(data.value)
    flat = np.empty(data.value.size, dtype=object)
    pairs = zip(data.value.reshape(-1).tolist(), data.full_radius().reshape(-1).tolist(), strict=True)
    flat[:] = [arb(x, r) for x, r in pairs]
    return flat.reshape(data.shape)


def to_enclosure(balls: np.ndarray) -> Enclosure:
    """A float64 enclosure that contains every ball."""
    flat = [as_ball(b) for b in balls.reshape(-1)]
    middle = np.array([float(b) for b in flat])  # the midpoint, rounded to nearest
    spread = np.array([float(b.rad()) for b in flat])
    radius = up(up(spread) + up(np.abs(middle) * U + ETA))
    exact = np.zeros(len(flat), dtype=bool)
    for i in np.flatnonzero(spread == 0).tolist():
        exact[i] = flat[i] == arb(middle[i])
    return Enclosure(middle.reshape(balls.shape), np.where(exact, 0.0, radius).reshape(balls.shape))


def as_ball(entry: Any) -> arb:
    """Sums over nothing leave plain integers behind."""
    return entry if isinstance(entry, arb) else arb(entry)
