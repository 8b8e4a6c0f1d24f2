"""Train digits_implicit.onnx: an implicit network of 40 states, well-posed by construction, of small linf constant."""

from pathlib import Path

import onnx
import torch
from torch import Tensor, nn
from training import OPSET, Recipe, produce, save

import lipcert.nn

RECIPE = Recipe(name="digits_implicit", image_shape=(64,), minimum_accuracy=0.95, spectral_penalty=0.2)
STATES = 40
MU = 0.5


class Implicit(nn.Module):
    """logits = C z + c, where z = relu(A z + B image + b) and A has a matrix measure of at most MU."""

    def __init__(self) -> None:
        super().__init__()
        self.lift = nn.Linear(64, STATES)
        self.core = lipcert.nn.FixedPoint(lipcert.nn.Nemon(STATES, mu=MU), nn.ReLU())
        self.head = nn.Linear(STATES, 10)

    def forward(self, image: Tensor) -> Tensor:
        """Return the logits of a batch of images."""
        logits: Tensor = self.head(self.core(self.lift(image)))
        return logits


def bound(model: nn.Module) -> Tensor:
    """Return a bound on the linf Lipschitz constant of an Implicit."""
    assert isinstance(model, Implicit)
    return lipcert.nn.implicit_bound(model.core.weight(), model.lift.weight, model.head.weight)


def penalty(model: nn.Module) -> Tensor:
    """Return its logarithm, for the loss."""
    return bound(model).log()


def export(model: nn.Module, recipe: Recipe, path: Path) -> None:
    """Write the model with a function for its implicit layer."""
    lipcert.nn.export(
        model,
        torch.zeros(2, *recipe.image_shape),
        path,
        opset_version=OPSET,
        input_names=["image"],
        output_names=["logits"],
        dynamic_shapes=({0: torch.export.Dim("batch")},),
    )
    save(onnx.load(path), path)
    print(f"linf bound in training: {float(bound(model).detach()):.2f}")


if __name__ == "__main__":
    produce(Implicit, RECIPE, penalty=penalty, export=export)
