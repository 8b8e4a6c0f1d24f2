"""auto_LiRPA: linear bounds on an l-infinity ball (Xu et al., NeurIPS 2020), of the Jacobian, too (Shi et al., 2022).

Versions with Jacobian bounds (0.4 and newer) are installed from the authors' repository; PyPI ends at 0.3, which has
none. It works in torch's default float32 without error bounds.
"""

from __future__ import annotations

import contextlib
import io
import logging
import math
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from importlib import util
from typing import TYPE_CHECKING, Any

from benchmarks.peers.answers import Answer, Way
from benchmarks.peers.layers import Layers, Modules

if TYPE_CHECKING:
    import numpy as np
    import torch

    from lipcert.problem import Ball, Box

NAME = "auto_LiRPA"

ENTRIES, ROWS = "Jacobian entries", "l1 norm of rows"
"""Its ways to Lipschitz constants."""

CROWN, ALPHA = "CROWN", "CROWN-Optimized"
"""Its ways to boxes."""

Ends = tuple["np.ndarray", "np.ndarray"]


def available() -> str | None:
    if not util.find_spec("auto_LiRPA"):
        return "not installed (Jacobian bounds need 0.4 or newer, from its repository; PyPI ends at 0.3)"
    try:
        with _quiet():
            found = util.find_spec("auto_LiRPA.jacobian")
    except Exception as error:  # an old version beside a new torch or numpy fails in many ways
        return f"installed, but its import fails: {type(error).__name__}: {error}"
    return None if found else "installed, but this version has no Jacobian bounds (they came with 0.4)"


def version() -> str:
    import auto_LiRPA

    return auto_LiRPA.__version__


def local_linf(layers: Layers, center: np.ndarray, eps: float) -> Iterator[Way]:
    """Ways to bound the l-infinity Lipschitz constant on the ball."""
    for optimise, suffix in ((False, "CROWN"), (True, "optimised")):
        yield f"{ENTRIES}, {suffix}", partial(_entries, layers, center, eps, optimise)
        yield f"{ROWS}, {suffix}", partial(_rows, layers, center, eps, optimise)


def _entries(layers: Layers, center: np.ndarray, eps: float, optimise: bool) -> Answer:
    """The largest absolute row sum of the entrywise bounds of the Jacobian."""
    import torch
    from auto_LiRPA.jacobian import JacobianOP

    class Jacobian(torch.nn.Module):
        def __init__(self, network: torch.nn.Module) -> None:
            super().__init__()
            self.network = network

        def forward(self, x: torch.Tensor) -> Any:
            return JacobianOP.apply(self.network(x), x)

    x = _point(center)
    with _quiet():
        model = _bounded(Jacobian(layers.sequential(torch.float32)), x)
        low, high = model.compute_jacobian_bounds(_around(x, eps), optimize=optimise)
    return float(torch.maximum(low.abs(), high.abs()).flatten(2).sum(dim=2).max().detach()), ""


def _rows(layers: Layers, center: np.ndarray, eps: float, optimise: bool) -> Answer:
    """The l1 norm of each output's gradient, bounded as one quantity: the library's own way to Lipschitz constants.

    The mask that picks the output is one tensor that changes in place: a later call does not look at a new one.
    """
    import torch
    from auto_LiRPA import BoundedTensor
    from auto_LiRPA.jacobian import GradNorm, JacobianOP

    class RowNorm(torch.nn.Module):
        def __init__(self, network: torch.nn.Module) -> None:
            super().__init__()
            self.network = network
            self.norm = GradNorm(norm=1)

        def forward(self, x: torch.Tensor, mask: torch.Tensor) -> Any:
            return self.norm(JacobianOP.apply(self.network(x).matmul(mask), x))

    x = _point(center)
    outputs = len(layers.biases[-1])
    mask = torch.zeros(outputs, 1)
    mask[0, 0] = 1
    bounds = []
    with _quiet():
        model = _bounded(RowNorm(layers.sequential(torch.float32)), (BoundedTensor(x), mask))
        for i in range(outputs):
            mask.zero_()
            mask[i, 0] = 1
            _, high = model.compute_jacobian_bounds((_around(x, eps), mask), optimize=optimise, bound_lower=False)
            bounds.append(float(high.max().detach()))
    return max(bounds), ""


def boxes(modules: Modules, region: Ball | Box) -> Iterator[tuple[str, Callable[[], Ends]]]:
    """Ways to bound the outputs on a ball in linf or a box: fixed lines, and lines whose slopes are searched for."""
    for method in (CROWN, ALPHA):
        yield method, partial(_box, modules, region, method)


def _box(modules: Modules, region: Ball | Box, method: str) -> Ends:
    """By a module of its own: what a call finds depends on the calls before."""
    import torch

    from lipcert.problem import Ball

    with _quiet():
        if isinstance(region, Ball):
            x = _point(region.center, modules.shape)
            inside = _around(x, region.eps)
        else:
            low, high = _point(region.lower, modules.shape), _point(region.upper, modules.shape)
            x = (low + high) / 2
            inside = _between(x, low, high)
        model = _bounded(modules.sequential(torch.float32), x)
        low, high = model.compute_bounds(x=(inside,), method=method)
    return low.detach().numpy()[0], high.detach().numpy()[0]


def _point(center: np.ndarray, shape: tuple[int, ...] = (-1,)) -> torch.Tensor:
    import torch

    return torch.tensor(center, dtype=torch.float32).reshape(1, *shape)


def _bounded(module: torch.nn.Module, example: Any) -> Any:
    from auto_LiRPA import BoundedModule

    return BoundedModule(module, example, device="cpu")


def _around(x: torch.Tensor, eps: float) -> Any:
    from auto_LiRPA import BoundedTensor, PerturbationLpNorm

    return BoundedTensor(x, PerturbationLpNorm(norm=math.inf, eps=eps))


def _between(x: torch.Tensor, low: torch.Tensor, high: torch.Tensor) -> Any:
    from auto_LiRPA import BoundedTensor, PerturbationLpNorm

    return BoundedTensor(x, PerturbationLpNorm(norm=math.inf, x_L=low, x_U=high))


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without its log, its prints and torch's warnings."""
    before = logging.root.manager.disable
    logging.disable(logging.INFO)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
