"""The steepest direction of a Jacobian between l_p and l_q: a nonlinear power iteration (Boyd 1974)."""

from __future__ import annotations

import numpy as np

from lipcert.certificate.arithmetic import Arithmetic
from lipcert.certificate.implicit import layers_of
from lipcert.graph import Affine, Elementwise, FixedPoint, Groupwise, Product, State
from lipcert.methods.base import Progress
from lipcert.methods.implicit.solution import solve_rows, values_at
from lipcert.problem import Norm, Problem


class Jacobian:
    """The float64 Jacobian of y in x at a batch of points, as products; one side is taken at kinks."""

    def __init__(self, problem: Problem, points: np.ndarray) -> None:
        self.problem, graph = problem, problem.graph
        by = Arithmetic()
        self._layers = layers_of(graph, by)
        self._values = values_at(problem, points, by) if self._layers else problem.values(points)
        self._slopes = {
            i: node.activation.derivative(self._values[node.input])
            for i, node in enumerate(graph.nodes)
            if isinstance(node, Elementwise)
        }

    def forward(self, d: np.ndarray) -> np.ndarray:
        """J d for each point: (batch, size_in) -> (batch, size_out)."""
        return self.moved(d).get(self.problem.y, np.zeros((len(d), self.problem.size_out)))

    def moved(self, d: np.ndarray) -> dict[int, np.ndarray]:
        """The same for every node that moves with x."""
        moved: dict[int, np.ndarray] = {self.problem.x: d}
        for i, node in enumerate(self.problem.graph.nodes):
            if isinstance(node, State):
                layer = self._layers[i]
                given = [op.matvec(moved[s]) for s, op in layer.sources if s in moved]
                slopes = self._slopes[layer.neurons]
                inner = [solve_rows(layer.matrix.value, slopes, sum(given[1:], given[0]))] if given else []
                parts = [layer.scale.matvec(slopes * dv) for dv in inner]
            elif isinstance(node, FixedPoint):
                parts = [moved[node.state]] if node.state in moved else []
            elif isinstance(node, Affine):
                parts = [op.matvec(moved[s]) for s, op in zip(node.inputs, node.operators, strict=True) if s in moved]
            elif isinstance(node, Elementwise):
                parts = [self._slopes[i] * moved[node.input]] if node.input in moved else []
            elif isinstance(node, Groupwise):
                known = node.input in moved
                parts = [node.function.jvp(self._values[node.input], moved[node.input])] if known else []
            elif isinstance(node, Product):
                factors = ((node.left, node.right), (node.right, node.left))
                parts = [moved[s] * self._values[other] for s, other in factors if s in moved]
            else:
                parts = []
            if parts:
                moved[i] = sum(parts[1:], parts[0])
        return moved

    def backward(self, g: np.ndarray) -> np.ndarray:
        """J' g for each point: (batch, size_out) -> (batch, size_in)."""
        pull: dict[int, np.ndarray] = {self.problem.y: g}

        def pass_on(source: int, part: np.ndarray) -> None:
            pull[source] = pull[source] + part if source in pull else part

        for i in reversed(range(len(self.problem.graph.nodes))):
            if i not in pull:
                continue
            node = self.problem.graph.nodes[i]
            if isinstance(node, FixedPoint):  # past its body
                layer = self._layers[node.state]
                slopes = self._slopes[layer.neurons]
                matrices = np.swapaxes(np.eye(layer.size) - layer.matrix.value * slopes[:, None, :], 1, 2)
                inner = slopes * layer.scale.rmatvec(pull[i])
                inner = np.linalg.solve(matrices, inner[:, :, None])[:, :, 0]
                for source, op in layer.sources:
                    pass_on(source, op.rmatvec(inner))
            elif isinstance(node, Affine):
                for source, op in zip(node.inputs, node.operators, strict=True):
                    pass_on(source, op.rmatvec(pull[i]))
            elif isinstance(node, Elementwise):
                pass_on(node.input, self._slopes[i] * pull[i])
            elif isinstance(node, Groupwise):
                pass_on(node.input, node.function.vjp(self._values[node.input], pull[i]))
            elif isinstance(node, Product):
                pass_on(node.left, self._values[node.right] * pull[i])
                pass_on(node.right, self._values[node.left] * pull[i])
        return pull.get(self.problem.x, np.zeros((len(g), self.problem.size_in)))


def outputs_at(problem: Problem, points: np.ndarray) -> np.ndarray:
    """(K, size_out) at points (K, size_in), not rounded safely."""
    by = Arithmetic()
    return (values_at(problem, points, by) if layers_of(problem.graph, by) else problem.values(points))[problem.y]


def steepest_directions(
    jacobian: Jacobian, starts: np.ndarray, p: Norm, q: Norm, iterations: int, stop: Progress
) -> tuple[np.ndarray, np.ndarray]:
    """Directions d, |d|_p = 1, and |J d|_q for each point, improved from `starts` by power iteration."""
    d = attaining(starts, p)
    best, best_gain = d, np.zeros(len(d))
    for _ in range(iterations):
        image = jacobian.forward(d)
        gain = np.linalg.norm(image, ord=q, axis=-1)
        better = gain > best_gain
        best, best_gain = np.where(better[:, None], d, best), np.where(better, gain, best_gain)
        if stop.remaining() < 0:
            break
        d = attaining(jacobian.backward(dual_vector(image, q)), p)
    return best, best_gain


def dual_vector(y: np.ndarray, q: Norm) -> np.ndarray:
    """g of dual norm 1 with g'y = |y|_q, for each row."""
    if q == 1:
        return np.where(y >= 0, 1.0, -1.0)
    if q == 2:
        return y / np.maximum(np.linalg.norm(y, axis=-1, keepdims=True), 1e-300)
    return _largest_only(y)


def attaining(g: np.ndarray, p: Norm) -> np.ndarray:
    """d with |d|_p = 1 that maximises g'd, for each row."""
    if p == 1:
        return _largest_only(g)
    if p == 2:
        return g / np.maximum(np.linalg.norm(g, axis=-1, keepdims=True), 1e-300)
    return np.where(g >= 0, 1.0, -1.0)


def _largest_only(v: np.ndarray) -> np.ndarray:
    best = np.argmax(np.abs(v), axis=-1)[..., None]
    unit = np.zeros_like(v)
    np.put_along_axis(unit, best, np.where(np.take_along_axis(v, best, axis=-1) >= 0, 1.0, -1.0), axis=-1)
    return unit
