"""Textbook ways for y = C z + c, z = relu(A z + B x + b), in float64 without error bounds.

Ours, not their authors' code. NEMON: Jafarpour, Davydov, Proskurnikov, Bullo (NeurIPS 2021). Embedded network: the same
authors (2022), as immrax's natural inclusion functions have it. Interval propagation of the unrolled averaged
iteration: what a tool for feed-forward networks does with the exported Loop.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

Interval = tuple[np.ndarray, np.ndarray]

UNROLLED = 200
LIMIT = 20_000
TOLERANCE = 1e-11


@dataclass(frozen=True, eq=False)
class Arrays:
    """The weights, in float64."""

    a: np.ndarray
    b: np.ndarray
    bias: np.ndarray
    c: np.ndarray
    offset: np.ndarray

    @property
    def states(self) -> int:
        return len(self.a)

    def injection(self, x: np.ndarray) -> np.ndarray:
        return np.asarray(x @ self.b.T + self.bias)

    def outputs(self, z: np.ndarray) -> np.ndarray:
        return np.asarray(z @ self.c.T + self.offset)


def majorant(a: np.ndarray) -> np.ndarray:
    """The Metzler majorant: diagonal as it is, absolute values beside it."""
    found = np.abs(a)
    np.fill_diagonal(found, np.diag(a))
    return found


def perron(a: np.ndarray) -> tuple[float, np.ndarray]:
    """The least mu_inf of A over all weights, and weights eta that (nearly) have it: |z| = max |z_i| / eta_i."""
    metzler = majorant(a)
    values, vectors = np.linalg.eig(metzler)
    eta = np.abs(vectors[:, np.argmax(values.real)].real)
    eta = np.maximum(eta, 1e-12 * eta.max())
    return float(values.real.max()), eta


def nemon(net: Arrays) -> float | None:
    """|C| |B| / (1 - mu) with Perron weights; None where mu >= 1."""
    mu, eta = perron(net.a)
    return _product(net, eta) if mu < 1 else None


def nemon_searched(net: Arrays) -> float | None:
    """The same with the best of three weights, of which the last makes |B| 1 / eta and 1 - mu agree."""
    metzler = majorant(net.a)
    if not np.linalg.eigvals(metzler).real.max() < 1:
        return None
    gap = np.eye(net.states) - metzler
    rows = np.abs(net.b).sum(axis=1)
    weights = [perron(net.a)[1], np.linalg.solve(gap, np.ones(net.states)), np.linalg.solve(gap, rows)]
    return min(_product(net, eta) for eta in weights)


def _product(net: Arrays, eta: np.ndarray) -> float:
    measure = (majorant(net.a) @ eta / eta).max()
    if not measure < 1:
        return float("inf")
    inward = (np.abs(net.b).sum(axis=1) / eta).max()
    return float((np.abs(net.c) @ eta).max() * inward / (1 - measure))


def m_matrix(net: Arrays) -> float | None:
    """| |C| (I - M)^-1 |B| |_inf; None where mu >= 1."""
    metzler = majorant(net.a)
    if not np.linalg.eigvals(metzler).real.max() < 1:
        return None
    states = np.linalg.solve(np.eye(net.states) - metzler, np.abs(net.b).sum(axis=1))
    return float((np.abs(net.c) @ states).max())


def embedded(net: Arrays, low: np.ndarray, high: np.ndarray) -> Interval | None:
    """The outputs' box from the embedded network and the natural inclusion of the head; None where mu >= 1."""
    if not np.linalg.eigvals(majorant(net.a)).real.max() < 1:
        return None
    diagonal = np.diag(net.a)
    rest = net.a - np.diag(diagonal)
    above, below = np.diag(diagonal) + np.maximum(rest, 0), np.minimum(rest, 0)
    u_low, u_high = affine(net.b, low, high)
    share = 1 / (1 - min(0.0, float(diagonal.min())))
    z_low = z_high = np.zeros(net.states)
    for _ in range(LIMIT):
        move_low = np.maximum(above @ z_low + below @ z_high + u_low + net.bias, 0) - z_low
        move_high = np.maximum(above @ z_high + below @ z_low + u_high + net.bias, 0) - z_high
        z_low, z_high = z_low + share * move_low, z_high + share * move_high
        if max(np.abs(move_low).max(), np.abs(move_high).max()) <= TOLERANCE * (1 + np.abs(z_high).max()):
            break
    y_low, y_high = affine(net.c, z_low, z_high)
    return y_low + net.offset, y_high + net.offset


def unrolled(net: Arrays, low: np.ndarray, high: np.ndarray, step: float, steps: int = UNROLLED) -> Interval:
    """Interval propagation of z <- z + step (relu(A z + u) - z), from zero; infinite where it overflows."""
    u_low, u_high = affine(net.b, low, high)
    z_low = z_high = np.zeros(net.states)
    with np.errstate(over="ignore", invalid="ignore"):
        for _ in range(steps):
            v_low, v_high = affine(net.a, z_low, z_high)
            z_low = (1 - step) * z_low + step * np.maximum(v_low + u_low + net.bias, 0)
            z_high = (1 - step) * z_high + step * np.maximum(v_high + u_high + net.bias, 0)
        y_low, y_high = affine(net.c, z_low, z_high)
    return np.nan_to_num(y_low + net.offset, nan=-np.inf), np.nan_to_num(y_high + net.offset, nan=np.inf)


def affine(matrix: np.ndarray, low: np.ndarray, high: np.ndarray) -> Interval:
    """The natural inclusion of x -> matrix x."""
    above, below = np.maximum(matrix, 0), np.minimum(matrix, 0)
    return above @ low + below @ high, above @ high + below @ low


def step_for(net: Arrays, x: np.ndarray) -> float:
    """1 / (1 - min(0, min a_ii)), halved until the averaged iteration converges at x."""
    step = 1 / (1 - min(0.0, float(np.diag(net.a).min())))
    while step > 1e-4:
        found = averaged(net, x[None], step, 1e-10)
        if found is not None:
            return step
        step /= 2
    raise ValueError("the averaged iteration does not converge")


def averaged(net: Arrays, x: np.ndarray, step: float, tolerance: float = TOLERANCE) -> np.ndarray | None:
    """Fixed points of a batch; None where the iteration does not converge."""
    u = net.injection(x)
    z = np.zeros_like(u)
    for count in range(LIMIT):
        move = np.maximum(z @ net.a.T + u, 0) - z
        z = z + step * move
        size, moved = np.abs(z).max(initial=0.0), np.abs(move).max(initial=0.0)
        if moved <= tolerance * (1 + size):
            return np.asarray(z)
        if not size < 1e9 or (count > 500 and moved > 1e3 * (1 + size)):
            break
    return None


def fixed_points(net: Arrays, x: np.ndarray, step: float) -> np.ndarray:
    """Of a batch near its mean: chord steps with the pattern of the mean, the averaged iteration for what they miss."""
    middle = averaged(net, x.mean(axis=0)[None], step)
    if middle is None:
        raise ValueError("the averaged iteration does not converge")
    active = (middle[0] @ net.a.T + net.injection(x.mean(axis=0)) > 0).astype(float)
    chord = np.linalg.inv(np.eye(net.states) - active[:, None] * net.a)
    u = net.injection(x)
    z = np.broadcast_to(middle, u.shape).copy()
    going = np.arange(len(x))
    for _ in range(100):
        move = np.maximum(z[going] @ net.a.T + u[going], 0) - z[going]
        going, move = _open(going, move, z)
        if not len(going):
            return z
        with np.errstate(over="ignore", invalid="ignore"):
            z[going] += move @ chord.T
    rest = averaged(net, x[going], step)
    if rest is None:
        raise ValueError("the averaged iteration does not converge")
    z[going] = rest
    return z


def _open(going: np.ndarray, move: np.ndarray, z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    left = ~(np.abs(move).max(axis=1) <= TOLERANCE * (1 + np.abs(z[going]).max(axis=1)))
    return going[left], move[left]


def jacobian_norms(net: Arrays, x: np.ndarray, step: float) -> np.ndarray:
    """The l-infinity norms of the Jacobians at points: lower bounds of the constant, but for rounding and kinks."""
    z = averaged(net, x, step, 1e-11)
    if z is None:
        return np.zeros(len(x))
    slopes = (z @ net.a.T + net.injection(x) > 0).astype(float)
    found = []
    for s in slopes:
        on = s > 0
        inner = np.linalg.solve(np.eye(int(on.sum())) - net.a[np.ix_(on, on)], net.b[on])
        found.append(np.abs(net.c[:, on] @ inner).sum(axis=1).max(initial=0.0))
    return np.array(found)
