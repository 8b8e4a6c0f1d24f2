"""Train digits_avgpool.onnx: three convolutions with batch normalisation and average pooling, and a dense head."""

from torch import nn
from training import Recipe, produce

RECIPE = Recipe(
    name="digits_avgpool",
    image_shape=(1, 8, 8),
    minimum_accuracy=0.97,
    learning_rate=5e-3,
    spectral_penalty=1e-2,
)


def build() -> nn.Module:
    """Return the untrained network; the last norm, behind a pooling layer, is not folded into a convolution."""
    return nn.Sequential(
        nn.Conv2d(1, 8, kernel_size=3, padding=1, bias=False),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.AvgPool2d(2),
        nn.Conv2d(8, 16, kernel_size=3, padding=1, bias=False),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        nn.AvgPool2d(3, stride=1, padding=1, count_include_pad=False),
        nn.BatchNorm2d(16),
        nn.AvgPool2d(2),
        nn.Flatten(),
        nn.Linear(16 * 2 * 2, 10),
    )


if __name__ == "__main__":
    produce(build, RECIPE)
