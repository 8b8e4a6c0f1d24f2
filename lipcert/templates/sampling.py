"""Random increments of an activation against a template that claims to hold for it: for tests, and no proof."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType

import numpy as np

from lipcert.templates.template import SMALL, Template

DRAWS = 40
"""Matrices of a complete template that are drawn."""

CLOSENESS = (1.0, 0.1, 1e-2)
"""How far apart pairs are: the rounding of an increment is about 1e-16 over this."""


def sampled_violation(
    template: Template,
    activation: Callable[[np.ndarray], np.ndarray],
    group_size: int,
    *,
    rng: np.random.Generator,
    samples: int = 4000,
    parameters: Mapping[str, np.ndarray] = MappingProxyType({}),
) -> float:
    """The worst violation that was seen, relative to |Q| |(dv, dw)|^2; about 1e-13 is rounding.

    `activation` maps (samples, group_size) to (samples, out). Multipliers that are free may have either sign, so that
    their part must vanish; equalities are tried too, relative to |(V, W)| |(dv, dw)|.
    """
    dv, dw = increments(activation, group_size, rng, samples)
    z = np.concatenate([dv, dw], axis=1)
    squares = np.maximum((z * z).sum(axis=1), np.finfo(float).tiny)
    worst = 0.0
    for matrix, free in _generators(template, group_size, rng, parameters):
        values = ((z @ matrix) * z).sum(axis=1) / (squares * max(np.linalg.norm(matrix, 2), SMALL))
        worst = max(worst, float(-values.min()), float(values.max()) if free else 0.0)
    v, w = template.equalities(group_size, **parameters)
    missing = np.concatenate([v, -w], axis=1)
    if np.any(missing):
        found = np.linalg.norm(z @ missing.T, axis=1) / (np.sqrt(squares) * np.linalg.norm(missing, 2))
        worst = max(worst, float(found.max()))
    return worst


def increments(
    activation: Callable[[np.ndarray], np.ndarray], group_size: int, rng: np.random.Generator, samples: int
) -> tuple[np.ndarray, np.ndarray]:
    """Increments (dv, dw) of pairs far and near, in all or single directions, some with tied or exchanged entries."""
    x = rng.normal(size=(samples, group_size)) * rng.choice([0.1, 1.0, 10.0], (samples, 1))
    step = rng.normal(size=x.shape) * np.abs(x).max(axis=1, keepdims=True) * rng.choice(CLOSENESS, (samples, 1))
    alone = rng.integers(4, size=samples) == 0
    step[alone] *= np.eye(group_size)[rng.integers(group_size, size=int(alone.sum()))]
    tied = rng.integers(8, size=samples) == 0
    x[tied] = x[tied].mean(axis=1, keepdims=True)
    y = x + step
    exchanged = rng.integers(8, size=samples) == 0
    y[exchanged] = rng.permuted(x[exchanged], axis=1)
    return y - x, activation(y) - activation(x)


def _generators(
    template: Template, group_size: int, rng: np.random.Generator, parameters: Mapping[str, np.ndarray]
) -> Iterator[tuple[np.ndarray, bool]]:
    """Matrices of which every one of the template is a sum, and whether their sign is free; a few if it is complete."""
    if template.is_complete:
        for _ in range(DRAWS):
            yield _complete_matrix(template, group_size, rng, parameters), False
        return
    signs = template.signs(group_size)
    for key, matrix in template.basis(group_size, **parameters).items():
        yield matrix, signs[key] == "free"


def _complete_matrix(
    template: Template, group_size: int, rng: np.random.Generator, parameters: Mapping[str, np.ndarray]
) -> np.ndarray:
    """A matrix on the boundary of those that a complete template allows."""
    total = group_size + template.returned(group_size)
    matrix = rng.normal(size=(total, total))
    matrix = matrix + matrix.T
    part = matrix[group_size:, group_size:]
    values, vectors = np.linalg.eigh(part)
    part[:] = -(vectors * np.abs(values) * rng.integers(2, size=values.size)) @ vectors.T
    # the least multiple of |dv|^2 with which every extreme Jacobian is allowed
    ends = [c.columns for c in template.conditions(group_size, **parameters) if c.sign > 0]
    least = min(np.linalg.eigvalsh(end.T @ matrix @ end)[0] for end in ends)
    matrix[:group_size, :group_size] -= least * np.eye(group_size)
    return matrix
