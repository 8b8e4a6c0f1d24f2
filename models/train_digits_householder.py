"""Train digits_householder.onnx: a 64-64-64-10 perceptron with Householder activations of trained angles."""

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm
from training import Recipe, produce

RECIPE = Recipe(
    name="digits_householder",
    image_shape=(64,),
    minimum_accuracy=0.95,
    spectral_penalty=0.0,
    sharpness=16.0,
    largest_folded=512,
)


class Householder(nn.Module):
    """Reflect the pairs on one side of a line through the origin (Singla, Singla and Feizi 2021)."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.angle = nn.Parameter(torch.full((features // 2,), torch.pi / 2))

    def forward(self, features: Tensor) -> Tensor:
        """Return each pair (x, y), one from each half, or its reflection at the line of half the pair's angle."""
        x, y = features.chunk(2, dim=-1)
        sine, cosine = torch.sin(self.angle), torch.cos(self.angle)
        selector = x * torch.sin(self.angle / 2) - y * torch.cos(self.angle / 2)
        reflected_x, reflected_y = x * cosine + y * sine, x * sine - y * cosine
        return torch.cat([torch.where(selector <= 0, reflected_x, x), torch.where(selector <= 0, reflected_y, y)], -1)


def build() -> nn.Module:
    """Return the untrained network; its weights are spectrally normalised."""
    return nn.Sequential(
        spectral_norm(nn.Linear(64, 64)),
        Householder(64),
        spectral_norm(nn.Linear(64, 64)),
        Householder(64),
        spectral_norm(nn.Linear(64, 10)),
    )


if __name__ == "__main__":
    produce(build, RECIPE)
