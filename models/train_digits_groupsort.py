"""Train digits_groupsort.onnx: a 64-64-64-10 perceptron with GroupSort and spectral normalisation in the graph."""

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm
from training import Recipe, produce

RECIPE = Recipe(
    name="digits_groupsort",
    image_shape=(64,),
    minimum_accuracy=0.95,
    spectral_penalty=0.0,
    sharpness=16.0,
    largest_folded=512,
)
GROUP = 4


class GroupSort(nn.Module):
    """Sort each group of neighbours (Anil, Lucas and Grosse 2019)."""

    def forward(self, features: Tensor) -> Tensor:
        """Return the features, ascending within each group."""
        groups = features.reshape(-1, features.shape[-1] // GROUP, GROUP)
        return torch.sort(groups, dim=-1).values.reshape(features.shape)


def build() -> nn.Module:
    """Return the untrained network; each weight W is used as W / (u' W v), with u and v from power iterations."""
    return nn.Sequential(
        spectral_norm(nn.Linear(64, 64)),
        GroupSort(),
        spectral_norm(nn.Linear(64, 64)),
        GroupSort(),
        spectral_norm(nn.Linear(64, 10)),
    )


if __name__ == "__main__":
    produce(build, RECIPE)
