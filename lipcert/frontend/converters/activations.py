"""Elementwise nonlinearities."""

from __future__ import annotations

import math

import numpy as np

from lipcert import activations as facts
from lipcert.activations import Activation
from lipcert.arithmetic.enclosure import Enclosure
from lipcert.frontend.builder import GraphBuilder, broadcast_shape
from lipcert.frontend.opnode import OpNode
from lipcert.frontend.recognisers import read_logarithm
from lipcert.frontend.registry import converter
from lipcert.frontend.values import Known, Live, Value
from lipcert.operators import LinearOperator, Selection

MAX_EXPONENTS = 16
MAX_POWER = 64

_PLAIN: dict[str, tuple[tuple[int, ...], type[Activation]]] = {
    "Abs": ((6, 13), facts.Abs),
    "Acos": ((7, 22), facts.Acos),
    "Acosh": ((9, 22), facts.Acosh),
    "Asin": ((7, 22), facts.Asin),
    "Asinh": ((9, 22), facts.Asinh),
    "Atan": ((7, 22), facts.Atan),
    "Atanh": ((9, 22), facts.Atanh),
    "Cos": ((7, 22), facts.Cos),
    "Cosh": ((9, 22), facts.Cosh),
    "Erf": ((9, 13), facts.Erf),
    "Exp": ((6, 13), facts.Exp),
    "HardSwish": ((14, 22), facts.HardSwish),
    "Mish": ((18, 22), facts.Mish),
    "Reciprocal": ((6, 13), facts.Reciprocal),
    "Relu": ((6, 13, 14), facts.Relu),
    "Sigmoid": ((6, 13), facts.Sigmoid),
    "Sign": ((9, 13), facts.Sign),
    "Sin": ((7, 22), facts.Sin),
    "Sinh": ((9, 22), facts.Sinh),
    "Softplus": ((1, 22), facts.Softplus),
    "Softsign": ((1, 22), facts.Softsign),
    "Sqrt": ((6, 13), facts.Sqrt),
    "Tan": ((7, 22), facts.Tan),
    "Tanh": ((6, 13), facts.Tanh),
}
"""Ops without parameters: the opsets that define them, and the activation."""


def _register(op_type: str, since: tuple[int, ...], make: type[Activation]) -> None:
    @converter(op_type, *since)
    def plain(build: GraphBuilder, node: OpNode) -> Value:
        return apply(build, node, make())


def apply(build: GraphBuilder, node: OpNode, activation: Activation) -> Value:
    """The activation of input 0; a constant outside its domain is an error of the file."""
    value = node.real(0)
    result = build.elementwise(node, value, activation)
    if isinstance(result, Known) and not result.data.is_finite:
        node.malformed("a constant overflows, or lies outside the domain of the function")
    return result


for _op, (_since, _make) in _PLAIN.items():
    _register(_op, _since, _make)


@converter("Log", 6, 13)
def log(build: GraphBuilder, node: OpNode) -> Value:
    value = node.real(0)
    return read_logarithm(build, node, value) if isinstance(value, Live) else apply(build, node, facts.Log())


@converter("LeakyRelu", 6, 16)
def leaky_relu(build: GraphBuilder, node: OpNode) -> Value:
    return apply(build, node, facts.LeakyRelu(_parameter(node, "alpha", 0.01)))


@converter("PRelu", 7, 9, 16)
def prelu(build: GraphBuilder, node: OpNode) -> Value:
    value, alpha = node.real(0), node.known(1, "slope")
    if broadcast_shape(node, value.shape, alpha.shape) != value.shape:
        node.malformed(f"a slope of shape {list(alpha.shape)} does not broadcast to {list(value.shape)}")
    if alpha.size == 1 and alpha.data.is_exact:
        return apply(build, node, facts.LeakyRelu(float(alpha.data.value.reshape(-1)[0])))
    spread = alpha.data.rearrange(lambda a: np.broadcast_to(a, value.shape).reshape(-1))
    if isinstance(value, Known):
        flat = build.elementwise(node, Known(value.data.reshape((value.size,))), facts.PRelu(spread))
        assert isinstance(flat, Known)
        return Known(flat.data.reshape(value.shape))
    return apply(build, node, facts.PRelu(spread))


@converter("Elu", 6, 22)
def elu(build: GraphBuilder, node: OpNode) -> Value:
    return apply(build, node, facts.Elu(_parameter(node, "alpha", 1.0)))


@converter("Selu", 6, 22)
def selu(build: GraphBuilder, node: OpNode) -> Value:
    alpha, gamma = _parameter(node, "alpha", 1.67326319217681884765625), _parameter(node, "gamma", 1.05070102214813232)
    return apply(build, node, facts.Selu(alpha, gamma))


@converter("Celu", 12, 28)
def celu(build: GraphBuilder, node: OpNode) -> Value:
    alpha = _parameter(node, "alpha", 1.0)
    if alpha == 0:
        node.malformed("alpha is 0")
    return apply(build, node, facts.Celu(alpha))


@converter("HardSigmoid", 6, 22)
def hard_sigmoid(build: GraphBuilder, node: OpNode) -> Value:
    return apply(build, node, facts.HardSigmoid(_parameter(node, "alpha", 0.2), _parameter(node, "beta", 0.5)))


@converter("Gelu", 20)
def gelu(build: GraphBuilder, node: OpNode) -> Value:
    approximate = node.attr("approximate", "none")
    if approximate not in ("none", "tanh"):
        node.malformed(f"approximate is {approximate!r}")
    return apply(build, node, facts.GeluTanh() if approximate == "tanh" else facts.Gelu())


@converter("Swish", 24)
def swish(build: GraphBuilder, node: OpNode) -> Value:
    """x sigmoid(alpha x)."""
    alpha = _parameter(node, "alpha", 1.0)
    if alpha == 0:
        return build.scale(node, node.real(0), Enclosure(np.array(0.5)))
    return apply(build, node, facts.Silu() if alpha == 1 else facts.Scaled(facts.Silu(), alpha))


@converter("ThresholdedRelu", 10, 22)
def thresholded_relu(build: GraphBuilder, node: OpNode) -> Value:
    return apply(build, node, facts.ThresholdedRelu(_parameter(node, "alpha", 1.0)))


@converter("Shrink", 9)
def shrink(build: GraphBuilder, node: OpNode) -> Value:
    return apply(build, node, facts.Shrink(_parameter(node, "lambd", 0.5), _parameter(node, "bias", 0.0)))


@converter("Clip", 6, 11, 12, 13)
def clip(build: GraphBuilder, node: OpNode) -> Value:
    if node.since < 11:
        low, high = float(node.attr("min", -math.inf)), float(node.attr("max", math.inf))
    else:
        low = node.scalar(1, "lower limit") if node.has_input(1) else -math.inf
        high = node.scalar(2, "upper limit") if node.has_input(2) else math.inf
    if math.isinf(low) and math.isinf(high):
        return node.real(0)
    return apply(build, node, facts.Clip(low, high))


@converter("Pow", 7, 12, 13, 15)
def power(build: GraphBuilder, node: OpNode) -> Value:
    """Powers with constant exponents: integers, and halves of them."""
    value, exponent = node.real(0), node.input(1)
    if isinstance(exponent, Known) and not exponent.data.is_exact:
        node.refuse("its exponent is computed, with rounding", "store it in the model")
    given = exponent.data.value if isinstance(exponent, Known) else getattr(exponent, "data", None)
    if given is None or given.size == 0:
        node.refuse("its exponent is no stored constant", "only powers with stored exponents are supported")
    shape = broadcast_shape(node, value.shape, given.shape)
    node.sized(shape)
    value = build.spread(node, value, shape)
    exponents = np.broadcast_to(given, shape).reshape(-1).astype(float)
    distinct = np.unique(exponents)
    if len(distinct) == 1:
        return _power(build, node, value, float(distinct[0]))
    if len(distinct) > MAX_EXPONENTS:
        node.refuse(f"{len(distinct)} different exponents", f"at most {MAX_EXPONENTS} are supported")
    parts: list[tuple[Live | Known, LinearOperator]] = []
    for n in distinct.tolist():
        entries = np.flatnonzero(exponents == n)
        part = build.rearrange(node, value, lambda t, entries=entries: t.reshape(-1)[entries])  # type: ignore[misc]
        place = np.full(exponents.size, -1)
        place[entries] = np.arange(entries.size)
        parts.append((_power(build, node, part, n), Selection(place, entries.size)))
    return build.affine(node, parts, shape)


def _power(build: GraphBuilder, node: OpNode, value: Live | Known, n: float) -> Live | Known:
    if n == 1:
        return value
    if n == 0:
        return Known(Enclosure(np.ones(value.shape)))
    whole = abs(n) if n == int(n) else 2 * abs(n)
    if not (2 * n == int(2 * n) and whole <= MAX_POWER):
        node.refuse(f"exponent {n:g}", f"only integers and halves up to {MAX_POWER} are supported")
    chain: list[Activation] = [facts.Sqrt()] if n != int(n) else []
    if whole > 1:
        chain.append(facts.Power(int(whole)))
    if n < 0:
        chain.append(facts.Reciprocal())
    for activation in chain:
        value = build.elementwise(node, value, activation)
    if isinstance(value, Known) and not value.data.is_finite:
        node.malformed("a constant overflows, or lies outside the domain of the function")
    return value


def _parameter(node: OpNode, name: str, default: float) -> float:
    value = float(node.attr(name, float(np.float32(default))))
    if not math.isfinite(value):
        node.malformed(f"{name} is {value}")
    return value
