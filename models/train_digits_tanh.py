"""Train digits_tanh.onnx: a 64-48-48-10 perceptron with tanh."""

from torch import nn
from training import Recipe, produce

RECIPE = Recipe(name="digits_tanh", image_shape=(64,), minimum_accuracy=0.95)


def build() -> nn.Module:
    """Return the untrained network."""
    return nn.Sequential(nn.Linear(64, 48), nn.Tanh(), nn.Linear(48, 48), nn.Tanh(), nn.Linear(48, 10))


if __name__ == "__main__":
    produce(build, RECIPE)
