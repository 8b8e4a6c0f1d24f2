"""The l-infinity Lipschitz bound of an implicit layer by the Metzler majorant, differentiable.

Of y = C z + D x, z = phi(A z + B x + b), slopes in [0, 1]: with M = diag(a_ii) + |offdiag(A)|, a Metzler matrix of
spectral abscissa below 1, |dz| <= (I - M)^-1 |B| |dx|. Never above the product |C| |B| / (1 - mu) of Jafarpour,
Davydov, Proskurnikov, Bullo (NeurIPS 2021), whatever the weights of mu.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lipcert.errors import UsageError

if TYPE_CHECKING:
    from torch import Tensor


def implicit_bound(a: Tensor, b: Tensor, c: Tensor, d: Tensor | None = None) -> Tensor:
    """An upper bound, up to rounding, on the l-infinity constant of x -> y; weights as torch.nn.Linear stores them.

    `a` is (n, n), `b` (n, inputs), `c` (outputs, n), `d` (outputs, inputs). Differentiable: add it, or its logarithm,
    to a loss. UsageError where the contraction condition fails; lipcert.nn.Nemon meets it by construction. For a proof,
    export the network and use lipcert.bound.

        >>> implicit_bound(core.weight, lift.weight, head.weight).log().backward()
    """
    import torch

    states = a.shape[0]
    shapes = a.shape == (states, states) and b.shape[0] == states == c.shape[1]
    if not shapes or (d is not None and d.shape != (c.shape[0], b.shape[1])):
        found = [tuple(part.shape) for part in (a, b, c, d) if part is not None]
        raise UsageError(f"implicit_bound: weights of shapes {found}", hint="use (n, n), (n, in), (out, n), (out, in)")
    diagonal = torch.diagonal(a)
    gap = torch.eye(states, dtype=a.dtype, device=a.device) - a.abs() + torch.diag(diagonal.abs() - diagonal)
    rows = b.abs().sum(1)
    with torch.no_grad():
        # I - M is an M-matrix exactly if this is positive, which also says that the solution below bounds
        weights, singular = torch.linalg.solve_ex(gap, torch.ones_like(rows))
        holds = not int(singular) and bool((weights > 0).all())
    if not holds:
        raise UsageError(
            "implicit_bound: the l-infinity contraction condition fails: mu_inf(A) >= 1 for all weights",
            hint="use lipcert.nn.Nemon for A",
        )
    bounds = c.abs() @ torch.linalg.solve(gap, rows)
    return (bounds if d is None else bounds + d.abs().sum(1)).max()
