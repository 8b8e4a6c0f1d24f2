"""Train digits_resnet.onnx: a small residual network with batch normalisation and a global mean pool."""

import torch
from torch import Tensor, nn
from training import Recipe, produce

RECIPE = Recipe(
    name="digits_resnet",
    image_shape=(1, 8, 8),
    minimum_accuracy=0.97,
    learning_rate=5e-3,
    spectral_penalty=1e-2,
)
CHANNELS = 12


class Block(nn.Module):
    """A residual block that normalises before each convolution.

    The exporter folds the second norm into the convolution before it; the first, fed by a fork, stays.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm1 = nn.BatchNorm2d(channels)
        self.conv1 = nn.Conv2d(channels, channels, kernel_size=3, padding=1)
        self.norm2 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, kernel_size=3, padding=1)

    def forward(self, features: Tensor) -> Tensor:
        """Return the features plus the block's correction to them."""
        inner = self.conv1(torch.relu(self.norm1(features)))
        correction: Tensor = self.conv2(torch.relu(self.norm2(inner)))
        return features + correction


class ResNet(nn.Module):
    """A strided stem, two residual blocks, a last norm, the mean over all positions and a dense head."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, channels, kernel_size=3, stride=2, padding=1)
        self.blocks = nn.Sequential(Block(channels), Block(channels))
        self.norm = nn.BatchNorm2d(channels)
        self.head = nn.Linear(channels, 10)

    def forward(self, image: Tensor) -> Tensor:
        """Return the logits of a batch of images."""
        features = torch.relu(self.norm(self.blocks(self.stem(image))))
        logits: Tensor = self.head(features.mean((2, 3)))
        return logits


def build() -> nn.Module:
    """Return the untrained network."""
    return ResNet(CHANNELS)


if __name__ == "__main__":
    produce(build, RECIPE)
