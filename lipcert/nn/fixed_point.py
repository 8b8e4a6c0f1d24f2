"""An implicit layer, z = phi(A z + u): its fixed point, gradients by the implicit function theorem, ONNX export.

Bai, Kolter, Koltun, "Deep Equilibrium Models" (NeurIPS 2019) for the gradients; the averaged iteration and its step are
those of Jafarpour, Davydov, Proskurnikov, Bullo (NeurIPS 2021). The exported form is that of docs/implicit-onnx.md.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from lipcert.errors import ModelError, UsageError
from lipcert.nn.iteration import Map, Solution, anderson, averaged

HALVINGS = 10
"""How often a step that does not converge is halved, unless the step is given."""

EXPORTED_ITERATIONS = 10
"""An exported Loop may take this many times the module's iterations: it cannot raise an error."""

RANDOM_INJECTIONS = 64

SOLVERS = ("averaged", "anderson")

CONVOLUTIONS: dict[type[nn.Module], Callable[..., Tensor]] = {
    nn.Conv1d: nn.functional.conv1d,
    nn.Conv2d: nn.functional.conv2d,
    nn.Conv3d: nn.functional.conv3d,
}


class FixedPoint(nn.Module):
    """z = activation(linear(z) + u), for a batch of injections u.

    `linear` is a torch.nn.Linear or a convolution (stride 1, zero padding) without bias, or a module with an (n, n)
    `weight`, such as lipcert.nn.Nemon. Put the bias into u. The step of the averaged iteration is taken from the
    weight's diagonal, and halved where that does not converge; `tolerance` is on max |f(z) - z| / (1 + max |z|).
    Gradients solve the adjoint equation, so that memory does not grow with the iterations; they are exact up to the
    tolerance, first order only. ModelError where the iteration does not converge.

        >>> layer = FixedPoint(Nemon(20, mu=0.5), nn.ReLU())
        >>> z = layer(torch.randn(8, 20))
    """

    def __init__(
        self,
        linear: nn.Module,
        activation: nn.Module,
        *,
        step: float | None = None,
        tolerance: float = 1e-6,
        iterations: int = 1000,
        solver: str = "averaged",
    ) -> None:
        super().__init__()
        if step is not None and not 0 < step <= 1:
            raise UsageError(f"FixedPoint: step {step}", hint="use a step above 0, at most 1")
        if not tolerance > 0 or iterations < 1:
            raise UsageError(f"FixedPoint: tolerance {tolerance}, iterations {iterations}", hint="use positive numbers")
        if solver not in SOLVERS:
            raise UsageError(f"FixedPoint: solver {solver!r}", hint=f"use {' or '.join(SOLVERS)}")
        _check_linear(linear)
        self.linear = linear
        self.activation = activation
        self.step = step
        self.tolerance = tolerance
        self.iterations = iterations
        self.solver = solver
        self.stored_weight: nn.Parameter | None
        self.register_parameter("stored_weight", None)  # what lipcert.nn.export puts in the place of linear's
        self._halvings = 0
        self._last: tuple[float, float] | None = None  # the step and the tolerance that the last call converged with

    def forward(self, u: Tensor) -> Tensor:
        """The fixed point, of u's shape: (..., n), or (batch, channels, *size) for a convolution."""
        weight = self.weight()
        if torch.onnx.is_in_onnx_export():
            return self._symbolic(u, weight)
        self._check_shape(u, weight)
        with torch.no_grad():
            fixed, given = weight.detach(), u.detach()
            state = self._solve(lambda z: self.activation(self._product(fixed, z) + given), given, fixed)
        if not torch.is_grad_enabled():
            return state
        argument = self._product(weight, state) + u
        kept = argument.detach().clone()  # the activation may work in place
        value: Tensor = self.activation(argument)
        if not value.requires_grad:
            return state
        return _Implicit.apply(value, lambda gradient: self._adjoint(gradient, kept, fixed))

    def extra_repr(self) -> str:
        """What torch prints of the module."""
        return f"step={self.step}, tolerance={self.tolerance}, iterations={self.iterations}, solver={self.solver!r}"

    def current_step(self, weight: Tensor | None = None) -> float:
        """The step of the next call: 1 / (1 - min(0, min a_ii)), halved as often as was needed so far."""
        if self.step is not None:
            return self.step
        weight = self.weight() if weight is None else weight
        least = min(0.0, float(_diagonal(weight.detach(), self.linear).min()))
        return 0.5**self._halvings / (1 - least)

    def weight(self) -> Tensor:
        """A, computed anew where it is parametrised."""
        weight = self.linear.weight if self.stored_weight is None else self.stored_weight
        assert isinstance(weight, Tensor)
        return weight

    def _product(self, weight: Tensor, z: Tensor) -> Tensor:
        convolution = _convolution(self.linear)
        if convolution is None:
            return nn.functional.linear(z, weight)
        layer: Any = self.linear
        return convolution(z, weight, padding=layer.padding, dilation=layer.dilation, groups=layer.groups)

    def _check_shape(self, u: Tensor, weight: Tensor) -> None:
        axes = 2 + _rank(self.linear) if _rank(self.linear) else max(1, u.dim())
        fits = u.dim() == axes and u.shape[1 if _rank(self.linear) else -1] == len(weight)
        if not fits or (u.numel() and self._product(weight.detach(), u.detach()).shape != u.shape):
            raise UsageError(
                f"FixedPoint: u of shape {tuple(u.shape)} for a weight of shape {tuple(weight.shape)}",
                hint="use (..., n), or (batch, channels, *size) and a convolution whose padding keeps the size",
            )

    def _solve(self, f: Map, u: Tensor, weight: Tensor) -> Tensor:
        start = torch.zeros_like(u)
        tolerance, kept = self._attainable(weight), self._halvings
        best: Solution | None = None
        while True:
            step = self.current_step(weight)
            found = self._one_step(f, start, step, tolerance)
            if found.residual <= tolerance:
                if self.solver == "averaged":  # Anderson acceleration converges with steps that a Loop cannot take
                    self._last = step, tolerance
                return found.state
            if best is None or found.residual < best.residual:
                best = found
            if self.step is not None or self._halvings == HALVINGS:
                self._halvings = kept
                raise ModelError(
                    f"FixedPoint: no convergence: residual {best.residual:.3g}, tolerance {tolerance:.3g}",
                    hint="is the layer well-posed? Allow more iterations or a smaller step, or use lipcert.nn.Nemon",
                )
            self._halvings += 1

    def _one_step(self, f: Map, start: Tensor, step: float, tolerance: float) -> Solution:
        if self.solver == "anderson":
            rows = start.reshape(1, -1) if start.dim() == 1 else start
            shape = rows.shape
            flat = rows.flatten(1) if _convolution(self.linear) else rows.flatten(0, -2)
            found = anderson(
                lambda z: f(z.reshape(shape).reshape(start.shape)).reshape(flat.shape),
                flat,
                step,
                tolerance,
                self.iterations,
            )
            if found.residual <= tolerance:
                return Solution(found.state.reshape(start.shape), found.residual, found.iterations)
        return averaged(f, start, step, tolerance, self.iterations)

    def _attainable(self, weight: Tensor) -> float:
        """The tolerance, or what rounding in A z leaves where that is more."""
        rows = float(weight.flatten(1).abs().sum(1).max()) if weight.numel() else 0.0
        return max(self.tolerance, torch.finfo(weight.dtype).eps * (4 + rows))

    def _adjoint(self, gradient: Tensor, argument: Tensor, weight: Tensor) -> Tensor:
        """h = gradient + A' (phi'(argument) h), by the same iteration, at scale 1."""
        with torch.enable_grad():
            at = argument.clone().requires_grad_()
            slope = torch.autograd.grad(self.activation(at.clone()).sum(), at)[0]
            probe = torch.zeros_like(argument, requires_grad=True)
            product = self._product(weight, probe)
        scale = gradient.abs().max()
        if not scale > 0:
            return gradient
        right = gradient / scale

        def transposed(h: Tensor) -> Tensor:
            return right + torch.autograd.grad(product, probe, slope * h, retain_graph=True)[0]

        return scale * self._solve(transposed, right, weight)

    def settle(self, u: Tensor) -> None:
        """Find the exported Loop's step: the averaged iteration converges for u and random injections of its size."""
        generator = torch.Generator(u.device).manual_seed(0)
        shape = (RANDOM_INJECTIONS, *(u.shape[1:] if u.dim() > 1 else u.shape))
        size = float(u.abs().max()) if u.numel() else 1.0
        solver, iterations = self.solver, self.iterations
        self.solver, self.iterations = "averaged", EXPORTED_ITERATIONS * iterations
        try:
            with torch.no_grad():
                self(u)
                for scale in (size, 10 * size):
                    self(scale * torch.randn(shape, generator=generator, dtype=u.dtype, device=u.device))
        finally:
            self.solver, self.iterations = solver, iterations

    def exported_attributes(self) -> dict[str, Any]:
        """Those of the exported node, for the step that the averaged iteration converged with last."""
        if not hasattr(torch.onnx, "ops"):
            raise UsageError("FixedPoint: the export needs torch.onnx.ops.symbolic", hint="use torch 2.8 or later")
        if self._last is None:
            raise UsageError(
                "FixedPoint: the exporter hides the weights, and the step is not known yet",
                hint="use lipcert.nn.export, or call the layer, solver='averaged', on data before the export",
            )
        step, tolerance = self._last
        return {
            **_onnx_product(self.linear),
            **_onnx_activation(self.activation),
            "step": step,
            "iterations": EXPORTED_ITERATIONS * self.iterations,
            "tolerance": step * tolerance,
        }

    def _symbolic(self, u: Tensor, weight: Tensor) -> Tensor:
        attributes = self.exported_attributes()
        return torch.onnx.ops.symbolic(
            "lipcert::FixedPoint", (u, weight), attributes, dtype=u.dtype, shape=u.shape, version=1
        )


class _Implicit(torch.autograd.Function):
    """The value as it is; its gradient goes through `adjoint` first."""

    @staticmethod
    def forward(ctx: Any, value: Tensor, adjoint: Callable[[Tensor], Tensor]) -> Tensor:
        ctx.adjoint = adjoint
        return value.view_as(value)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        if torch.is_grad_enabled():  # create_graph: what follows would be differentiated, and the adjoint not
            raise UsageError("FixedPoint: it has first derivatives only", hint="leave out create_graph=True")
        return ctx.adjoint(gradient), None


def _check_linear(linear: nn.Module) -> None:
    name = type(linear).__name__
    if not isinstance(getattr(linear, "weight", None), Tensor):
        raise UsageError(f"FixedPoint: {name} has no weight", hint="use torch.nn.Linear, Conv2d or lipcert.nn.Nemon")
    if getattr(linear, "bias", None) is not None:
        raise UsageError(f"FixedPoint: {name} has a bias", hint="use bias=False, and add it to u")
    layer: Any = linear
    if _convolution(linear):
        if set(layer.stride) != {1} or layer.padding_mode != "zeros" or layer.in_channels != layer.out_channels:
            raise UsageError(
                f"FixedPoint: {linear}", hint="use stride 1, padding with zeros, and as many channels out as in"
            )
    elif layer.weight.dim() != 2 or layer.weight.shape[0] != layer.weight.shape[1]:
        raise UsageError(f"FixedPoint: {name} with a weight of shape {tuple(layer.weight.shape)}", hint="use (n, n)")


def _convolution(linear: nn.Module) -> Callable[..., Tensor] | None:
    """The function of a convolution. Of a subclass too: the exporter wraps modules that have two names in one."""
    return next((function for kind, function in CONVOLUTIONS.items() if isinstance(linear, kind)), None)


def _rank(linear: nn.Module) -> int:
    """The axes of a convolution; 0 for a matrix."""
    layer: Any = linear
    return len(layer.kernel_size) if _convolution(linear) else 0


def _diagonal(weight: Tensor, linear: nn.Module) -> Tensor:
    """The entries a_ii: those of a kernel that join a channel with itself, at the same place."""
    if not _convolution(linear):
        return torch.diagonal(weight)
    begins = _begins(linear)
    middle = weight
    for begin, dilation, size in zip(begins, _tuple(linear, "dilation"), weight.shape[2:], strict=True):
        if begin % dilation or begin // dilation >= size:
            return torch.zeros(1, dtype=weight.dtype, device=weight.device)
        middle = middle.select(2, begin // dilation)
    rows = torch.arange(len(middle), device=weight.device)
    return middle[rows, rows % middle.shape[1]]


def _tuple(linear: nn.Module, name: str) -> tuple[int, ...]:
    value = getattr(linear, name)
    return tuple(int(v) for v in value)


def _begins(linear: nn.Module) -> list[int]:
    """The zeros before each axis."""
    layer: Any = linear
    if layer.padding == "same":
        return [d * (k - 1) // 2 for d, k in zip(layer.dilation, layer.kernel_size, strict=True)]
    return [0] * len(layer.kernel_size) if layer.padding == "valid" else [int(p) for p in layer.padding]


def _onnx_product(linear: nn.Module) -> dict[str, Any]:
    """The attributes that say what A z is."""
    if not _convolution(linear):
        return {"kind": "linear"}
    layer: Any = linear
    begins = _begins(linear)
    totals = [d * (k - 1) for d, k in zip(layer.dilation, layer.kernel_size, strict=True)]
    ends = [t - b for t, b in zip(totals, begins, strict=True)]  # the sum that keeps the size, as forward has checked
    return {
        "kind": "conv",
        "pads": [*begins, *ends],
        "dilations": list(_tuple(linear, "dilation")),
        "group": int(layer.groups),
    }


def _onnx_activation(activation: nn.Module) -> dict[str, Any]:
    """The ONNX op of an activation, as the attributes of FixedPoint name it."""
    plain: dict[type[nn.Module], str] = {
        nn.Identity: "Identity",
        nn.ReLU: "Relu",
        nn.SELU: "Selu",
        nn.Softsign: "Softsign",
        nn.Tanh: "Tanh",
        nn.Sigmoid: "Sigmoid",
    }
    for kind, name in plain.items():
        if isinstance(activation, kind) and type(activation).forward is kind.forward:
            return {"activation": name}
    match activation:
        case nn.LeakyReLU():
            return {"activation": "LeakyRelu", "activation_alpha": float(activation.negative_slope)}
        case nn.ELU():
            return {"activation": "Elu", "activation_alpha": float(activation.alpha)}
        case nn.CELU():
            return {"activation": "Celu", "activation_alpha": float(activation.alpha)}
        case nn.Hardsigmoid():
            return {"activation": "HardSigmoid", "activation_alpha": 1 / 6}
        case nn.Softplus() if activation.beta == 1:
            return {"activation": "Softplus"}
    raise UsageError(
        f"FixedPoint: {activation} has no exported form",
        hint=f"use {', '.join(kind.__name__ for kind in plain)}, LeakyReLU, ELU, CELU, Hardsigmoid or Softplus(beta=1)",
    )
