"""The facts about each nonlinearity: one file per family, one class per activation."""

from lipcert.activations.base import Activation
from lipcert.activations.exponential import Celu, Elu, Exp, Selu, Softplus
from lipcert.activations.gated import Gelu, GeluTanh, HardSwish, Mish, Silu
from lipcert.activations.hyperbolic import Acosh, Asinh, Atanh, Cosh, Sinh
from lipcert.activations.piecewise import Abs, Clip, HardSigmoid, LeakyRelu, PRelu, Relu, Shrink, Sign, ThresholdedRelu
from lipcert.activations.powers import Log, Power, Reciprocal, Sqrt
from lipcert.activations.scaled import Scaled
from lipcert.activations.sigmoidal import Atan, Erf, Sigmoid, Softsign, Tanh
from lipcert.activations.trigonometric import Acos, Asin, Cos, Sin, Tan

__all__ = [
    "Abs",
    "Acos",
    "Acosh",
    "Activation",
    "Asin",
    "Asinh",
    "Atan",
    "Atanh",
    "Celu",
    "Clip",
    "Cos",
    "Cosh",
    "Elu",
    "Erf",
    "Exp",
    "Gelu",
    "GeluTanh",
    "HardSigmoid",
    "HardSwish",
    "LeakyRelu",
    "Log",
    "Mish",
    "PRelu",
    "Power",
    "Reciprocal",
    "Relu",
    "Scaled",
    "Selu",
    "Shrink",
    "Sigmoid",
    "Sign",
    "Silu",
    "Sin",
    "Sinh",
    "Softplus",
    "Softsign",
    "Sqrt",
    "Tan",
    "Tanh",
    "ThresholdedRelu",
]
