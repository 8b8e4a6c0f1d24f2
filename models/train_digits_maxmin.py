"""Train digits_maxmin.onnx: a 64-64-64-10 perceptron with MaxMin, its layers orthonormalised by Björck in the graph."""

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize
from training import Recipe, produce

RECIPE = Recipe(
    name="digits_maxmin",
    image_shape=(64,),
    minimum_accuracy=0.95,
    spectral_penalty=0.0,
    sharpness=16.0,
    largest_folded=512,
)
ITERATIONS = 8


class Bjorck(nn.Module):
    """The nearest matrix with orthonormal rows, by the iteration of Björck and Bowie (1971).

    Division by the Frobenius norm puts all singular values in [0, 1], where the iteration takes them to 1.
    """

    def forward(self, weight: Tensor) -> Tensor:
        """Return the orthonormalised weight."""
        weight = weight / torch.linalg.vector_norm(weight)
        for _ in range(ITERATIONS):
            weight = 1.5 * weight - 0.5 * weight @ weight.T @ weight
        return weight


class MaxMin(nn.Module):
    """The maximum and the minimum of the two halves (Anil, Lucas and Grosse 2019)."""

    def forward(self, features: Tensor) -> Tensor:
        """Return the maxima, then the minima."""
        left, right = features.chunk(2, dim=-1)
        return torch.cat([torch.maximum(left, right), torch.minimum(left, right)], dim=-1)


def orthonormal(inputs: int, outputs: int) -> nn.Linear:
    """Return a dense layer whose weight is orthonormalised at every use."""
    layer = nn.Linear(inputs, outputs)
    nn.init.orthogonal_(layer.weight)
    parametrize.register_parametrization(layer, "weight", Bjorck())
    return layer


def build() -> nn.Module:
    """Return the untrained network, which is 1-Lipschitz in l2 once the iteration has converged."""
    return nn.Sequential(orthonormal(64, 64), MaxMin(), orthonormal(64, 64), MaxMin(), orthonormal(64, 10))


if __name__ == "__main__":
    produce(build, RECIPE)
