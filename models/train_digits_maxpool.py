"""Train digits_maxpool.onnx: two convolutions, max pooling without and with overlap, and a dense head."""

from torch import nn
from training import Recipe, produce

RECIPE = Recipe(name="digits_maxpool", image_shape=(1, 8, 8), minimum_accuracy=0.97, learning_rate=5e-3)


def build() -> nn.Module:
    """Return the untrained network; its images shrink from 8x8 to 4x4 to 2x2."""
    return nn.Sequential(
        nn.Conv2d(1, 8, kernel_size=3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(8, 16, kernel_size=3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(3, stride=2, padding=1),
        nn.Flatten(),
        nn.Linear(16 * 2 * 2, 10),
    )


if __name__ == "__main__":
    produce(build, RECIPE)
