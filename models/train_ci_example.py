"""Train the three networks of models/ci-example, and write its baseline: before `drifted` was trained again."""

import shutil
from dataclasses import replace

from torch import nn
from training import HERE, Recipe, produce

from lipcert.cli.main import run

FOLDER = HERE / "ci-example"
STEADY = Recipe(name="ci-example/steady", image_shape=(1, 8, 8), minimum_accuracy=0.9, spectral_penalty=1e-2)
BEFORE = replace(STEADY, name="ci-example/drifted", epochs=50)
DRIFTED = replace(BEFORE, spectral_penalty=2e-3)
LOOSE = replace(STEADY, name="ci-example/loose", spectral_penalty=0.0, weight_decay=0.0)


def build() -> nn.Module:
    """Return the untrained network."""
    return nn.Sequential(
        nn.Conv2d(1, 8, kernel_size=3, padding=1),
        nn.ReLU(),
        nn.AvgPool2d(2),
        nn.Conv2d(8, 16, kernel_size=3, padding=1),
        nn.ReLU(),
        nn.AvgPool2d(2),
        nn.Flatten(),
        nn.Linear(16 * 2 * 2, 10),
    )


if __name__ == "__main__":
    for recipe in (STEADY, LOOSE, BEFORE):
        produce(build, recipe)
    shutil.copy(HERE / "digits_test.csv", FOLDER / "digits.csv")
    run(["gate", "--config", str(FOLDER / "lipcert.toml"), "--update-baseline"])
    produce(build, DRIFTED)
