"""Small random chains whose layers obey one template."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from lipcert.certificate import verify
from lipcert.methods import Progress
from lipcert.methods.lipsdp import LipSdpMethod
from lipcert.problem import Problem, Query, pose
from lipcert.templates import shipped
from tests.templates.lmi import Layer, graph_of


def chain(seed: int, name: str, group: int, sizes: Sequence[int]) -> tuple[list[Layer], np.ndarray]:
    """Layers that read as many entries as `sizes` says between its ends, and the last matrix."""
    rng = np.random.default_rng(seed)
    layers: list[Layer] = []
    n = sizes[0]
    for m in sizes[1:-1]:
        parameters = {key: _vectors(key, rng, m // group, group) for key in shipped()[name].parameters}
        layers.append(Layer(rng.normal(size=(m, n)) / n**0.5, shipped()[name], group, parameters))
        n = layers[-1].returned
    return layers, rng.normal(size=(sizes[-1], n)) / n**0.5


def _vectors(key: str, rng: np.random.Generator, groups: int, size: int) -> np.ndarray:
    if key == "h":
        normals = rng.normal(size=(groups, size))
        return normals / np.linalg.norm(normals, axis=1, keepdims=True)
    return np.full((groups, size), {"a": 0.0, "b": 1.0}[key])


def problem_of(layers: Sequence[Layer], last: np.ndarray) -> Problem:
    return pose(graph_of(layers, last), Query())


def proven(problem: Problem) -> float:
    """LipSDP's bound, verified."""
    return verify(problem, list(LipSdpMethod().claims(problem, Progress()))[-1])
