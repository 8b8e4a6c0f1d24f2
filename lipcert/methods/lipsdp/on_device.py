"""The interior-point method in torch float64 on a device, all matrices dense: for a GPU, where products cost little.

The same directions, steps and end as in interior_point. What it finds is proven on the CPU like anything else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from lipcert.methods.lipsdp.interior_point import CLOSE, LANCZOS, MAX_ITERATIONS, Iterate, feasible_start
from lipcert.methods.lipsdp.program import Program
from lipcert.methods.lipsdp.structure import Structured

if TYPE_CHECKING:
    import torch
    from torch import Tensor

SMALL = 300
"""Up to this size all eigenvalues are computed for the length of a step."""


def solve_on(
    program: Program, device: torch.device, tick: Callable[[], None] = lambda: None, close: float = CLOSE
) -> Iterator[Iterate]:
    """Iterates from the closed-form start on, each feasible and nearer to the optimum."""
    import torch

    scaled = feasible_start(program)
    if scaled is None:
        return
    data = _data(scaled, device)
    y = torch.ones(scaled.variables, dtype=torch.float64, device=device)
    yield _iterate(scaled, y, np.inf)
    p = data.linear(y) - data.constant
    factor, z_factor = _factor(p), None
    if factor is None:
        return
    s = torch.cholesky_inverse(factor)
    z = s * (data.b @ data.b) / (data.b @ data.adjoint(s))
    z_factor = _factor(z)
    for _ in range(MAX_ITERATIONS):
        tick()
        if factor is None or z_factor is None:
            return
        mu = (p * z).sum() / len(p)
        newton = _newton(data, z, s)
        if newton is None:
            return
        _, dp, forward = newton.direction(0.0 * mu, None)
        dz = -z - _symmetric(z @ forward)
        a_p, a_z = min(1.0, _to_boundary(factor, dp)), min(1.0, _to_boundary(z_factor, dz))
        affine = float(((p + a_p * dp) * (z + a_z * dz)).sum() / len(p))
        sigma = min(1.0, (max(affine, 0.0) / float(mu)) ** max(1.0, 3 * min(a_p, a_z) ** 2))
        second = _symmetric(dz @ forward)
        dy, dp, forward = newton.direction(sigma * mu, second)
        dz = sigma * mu * s - z - _symmetric(z @ forward) - second
        share = 0.9 + 0.09 * min(a_p, a_z)
        if program.has_loops and bool((dy < 0).any()):  # multipliers below zero prove nothing there
            room = min(1.0, 0.9 * float((-y[dy < 0] / dy[dy < 0]).min()))
            dp, dy = dp * room, dy * room
        p, factor, a_p = _moved(p, factor, dp, share)
        z, z_factor, _ = _moved(z, z_factor, dz, share)
        if factor is None:
            return
        s = torch.cholesky_inverse(factor)
        y = y + a_p * dy
        objective = float(data.b @ y)
        gap = float((p * z).sum()) / objective
        infeasible = abs(float((data.b - data.adjoint(z)) @ y)) / objective
        yield _iterate(scaled, y, gap + infeasible)
        if gap < close and infeasible < close:
            return


@dataclass(frozen=True, eq=False)
class _Data:
    """minimise b'y subject to sum_j y_j F_j - constant > 0 with F = U'U - R'R, summed over groups."""

    rows: Tensor
    units: Tensor
    row_group: Tensor
    unit_group: Tensor
    constant: Tensor
    b: Tensor

    def linear(self, y: Tensor) -> Tensor:
        """sum_j y_j F_j."""
        total = self.units.T @ (self.units * y[self.unit_group, None])
        return _symmetric(total - self.rows.T @ (self.rows * y[self.row_group, None]))

    def adjoint(self, x: Tensor) -> Tensor:
        """tr(F_j X) for each j, X symmetric."""
        found = self.b.new_zeros(len(self.b))
        found.index_add_(0, self.unit_group, ((self.units @ x) * self.units).sum(1))
        return found.index_add_(0, self.row_group, ((self.rows @ x) * self.rows).sum(1), alpha=-1)

    def schur(self, z: Tensor, s: Tensor) -> Tensor:
        """tr(F_j Z F_k S)."""
        uz, us, rz, rs = self.units @ z, self.units @ s, self.rows @ z, self.rows @ s
        total = self._summed((uz @ self.units.T) * (us @ self.units.T), self.unit_group, self.unit_group)
        mixed = self._summed((uz @ self.rows.T) * (us @ self.rows.T), self.unit_group, self.row_group)
        total += self._summed((rz @ self.rows.T) * (rs @ self.rows.T), self.row_group, self.row_group)
        return _symmetric(total - mixed - mixed.T)

    def _summed(self, matrix: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
        count = len(self.b)
        half = matrix.new_zeros(count, matrix.shape[1]).index_add_(0, rows, matrix)
        return half.new_zeros(count, count).index_add_(1, columns, half)


def _data(scaled: Structured, device: torch.device) -> _Data:
    import torch

    def moved(a: np.ndarray) -> Tensor:
        return torch.as_tensor(np.ascontiguousarray(a), device=device)

    return _Data(
        rows=moved(scaled.blocks.dense()),
        units=moved(scaled.unit_rows()),
        row_group=moved(scaled.row_group.astype(np.int64)),
        unit_group=moved(scaled.coordinate_group.astype(np.int64)),
        constant=moved(scaled.constant),
        b=moved(scaled.b),
    )


@dataclass(frozen=True, eq=False)
class _Newton:
    data: _Data
    z: Tensor
    s: Tensor
    scale: Tensor
    solver: Tensor
    adjoint_s: Tensor

    def direction(self, target: Tensor, second: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        """Steps of y and P towards P Z = target I, and dP S; `second` corrects for the product of the steps."""
        import torch

        right = target * self.adjoint_s - self.data.b
        if second is not None:
            right = right - self.data.adjoint(second)
        dy = self.scale * torch.cholesky_solve((self.scale * right)[:, None], self.solver)[:, 0]
        dp = self.data.linear(dy)
        return dy, dp, dp @ self.s


def _newton(data: _Data, z: Tensor, s: Tensor) -> _Newton | None:
    schur = data.schur(z, s)
    scale = 1 / schur.diagonal().clamp_min(1e-300).sqrt()
    schur = schur * scale[:, None] * scale
    schur.diagonal().add_(1e-14)
    solver = _factor(schur)
    return None if solver is None else _Newton(data, z, s, scale, solver, data.adjoint(s))


def _factor(matrix: Tensor) -> Tensor | None:
    import torch

    factor, info = torch.linalg.cholesky_ex(matrix)
    return factor if int(info) == 0 and bool(factor.isfinite().all()) else None


def _symmetric(matrix: Tensor) -> Tensor:
    return (matrix + matrix.T) / 2


def _moved(matrix: Tensor, factor: Tensor, step: Tensor, share: float) -> tuple[Tensor, Tensor | None, float]:
    """The matrix moved by a share of the way to the boundary, less until it has a factor."""
    length = min(1.0, share * _to_boundary(factor, step))
    for _ in range(4):
        moved = matrix + length * step
        found = _factor(moved)
        if found is not None:
            return moved, found, length
        length *= 0.8
    return matrix, None, 0.0


def _to_boundary(factor: Tensor, step: Tensor) -> float:
    """About the largest a with L L' + a step positive semidefinite, a little less."""
    import torch

    if len(factor) <= SMALL:
        half = torch.linalg.solve_triangular(factor, step, upper=False)
        seen = torch.linalg.solve_triangular(factor, half.T.contiguous(), upper=False)
        least = float(torch.linalg.eigvalsh(_symmetric(seen))[0])
    else:
        least = _least(factor, step)
    return np.inf if least >= 0 else -1 / least


def _least(factor: Tensor, step: Tensor) -> float:
    """About the least eigenvalue of L^-1 step L'^-1, or less: Lanczos, reorthogonalised, and what it is not sure of."""
    import torch

    generator = torch.Generator().manual_seed(0)
    start = torch.randn(len(factor), generator=generator, dtype=torch.float64).to(factor.device)
    basis, diagonal, below = [start / start.norm()], [], []
    for _ in range(LANCZOS):
        half = torch.linalg.solve_triangular(factor.T, basis[-1][:, None], upper=True)
        v = torch.linalg.solve_triangular(factor, step @ half, upper=False)[:, 0]
        diagonal.append(float(basis[-1] @ v))
        known = torch.stack(basis)
        for _ in range(2):
            v = v - known.T @ (known @ v)
        below.append(float(v.norm()))
        if not below[-1] > 0:
            break
        basis.append(v / below[-1])
    small = np.diag(diagonal) + np.diag(below[:-1], 1) + np.diag(below[:-1], -1)
    values, vectors = np.linalg.eigh(small)
    return float(values[0] - abs(below[-1] * vectors[-1, 0]))


def _iterate(scaled: Structured, y: Tensor, gap: float) -> Iterate:
    found = y.cpu().numpy()
    inputs = scaled.inputs * found[: scaled.first]
    return Iterate(inputs, scaled.multipliers * found[scaled.first :], float(inputs.sum()), gap)
