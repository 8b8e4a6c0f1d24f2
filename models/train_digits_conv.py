"""Train digits_conv.onnx: two convolutions (the second strided), average pooling and a dense head."""

from torch import nn
from training import Recipe, produce

RECIPE = Recipe(name="digits_conv", image_shape=(1, 8, 8), minimum_accuracy=0.97, learning_rate=1e-2)


def build() -> nn.Module:
    """Return the untrained network; its images shrink from 8x8 to 4x4 (stride) to 2x2 (pooling)."""
    return nn.Sequential(
        nn.Conv2d(1, 16, kernel_size=3, padding=1),
        nn.ReLU(),
        nn.Conv2d(16, 32, kernel_size=4, stride=2, padding=1),
        nn.ReLU(),
        nn.AvgPool2d(2),
        nn.Flatten(),
        nn.Linear(32 * 2 * 2, 10),
    )


if __name__ == "__main__":
    produce(build, RECIPE)
