"""Multipliers of the l2 condition of well-posedness: for which its form is positive definite."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy.linalg import LinAlgError, eigh

from lipcert.certificate.implicit import Layer, well_posed_form

STEPS = 300


def margin(layer: Layer, multipliers: np.ndarray) -> float:
    """The smallest eigenvalue of the form, in units of the multipliers."""
    scale = 1 / np.sqrt(multipliers)
    return float(np.linalg.eigvalsh(scale[:, None] * well_posed_form(layer, multipliers)[0][0] * scale)[0])


def find_multipliers(layer: Layer, tick: Callable[[], None] = lambda: None) -> np.ndarray | None:
    """Positive numbers; None where none are found. `tick` is called before each step, and may raise.

    The smallest eigenvalue of the form is concave in them: steps of the projected subgradient on their logarithms.
    """
    n = layer.size
    logs = np.zeros(n)
    best, found = -np.inf, None
    low, high = layer.slopes()
    for k in range(STEPS):
        tick()
        t = np.exp(logs - logs.mean())
        form = well_posed_form(layer, t)[0][0]
        scale = 1 / np.sqrt(t)
        try:
            values, vectors = eigh(scale[:, None] * form * scale, subset_by_index=[0, 0])
        except LinAlgError:
            return found
        if values[0] > best:
            best, found = float(values[0]), t
            if best > 0:
                return found
        dw = scale * vectors[:, 0]
        dv = layer.matrix.value @ dw
        gradient = 2 * (dw - low * dv) * (dw - high * dv) * t
        logs = logs + gradient / (np.abs(gradient).max() + 1e-300) / np.sqrt(1 + k / 10) * 0.3
    return None
