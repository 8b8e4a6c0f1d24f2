"""Train digits_relu.onnx: a 64-64-32-10 perceptron with ReLU."""

from torch import nn
from training import Recipe, produce

RECIPE = Recipe(name="digits_relu", image_shape=(64,), minimum_accuracy=0.95)


def build() -> nn.Module:
    """Return the untrained network."""
    return nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))


if __name__ == "__main__":
    produce(build, RECIPE)
