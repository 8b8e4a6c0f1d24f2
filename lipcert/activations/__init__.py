"""The facts about each nonlinearity: one file per family, one class per activation."""

from lipcert.activations.base import Activation
from lipcert.activations.piecewise import LeakyRelu, Relu
from lipcert.activations.sigmoidal import Sigmoid, Tanh

__all__ = ["Activation", "LeakyRelu", "Relu", "Sigmoid", "Tanh"]
