"""The networks that are measured: the repository's own, and those of the data folder where there is one."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.section import Settings

if TYPE_CHECKING:
    from lipcert.frontend import Model
    from lipcert.problem import Ball


@dataclass(frozen=True)
class Images:
    """A file of images and how to read it: pixels / scale is what the networks take."""

    file: str
    skip_columns: int
    scale: float
    layout: str = "chw"


DIGITS = Images("digits_test.csv", 1, 16.0)
MNIST = Images("mnist_100.csv", 1, 255.0)
CIFAR = Images("cifar10_100.csv", 1, 255.0, "hwc")

OWN: dict[str, Images | None] = {
    "digits_relu": DIGITS,
    "digits_tanh": DIGITS,
    "digits_conv": DIGITS,
    "digits_resnet": DIGITS,
}
OUTSIDE: dict[str, Images | None] = {
    "acasxu_1_1": None,
    "acasxu_3_3": None,
    "mnistfc_256x2": MNIST,
    "mnistfc_256x4": MNIST,
    "mnist_sigmoid_6x200": MNIST,
    "mnist_convnet_avgpool": MNIST,
    "mlp_L5_W64": MNIST,
    "mlp_L17_W32": MNIST,
    "cnn_C3_CH8": MNIST,
    "cnn_C5_CH16": MNIST,
    "cifar_base_kw": CIFAR,
    "cifar_resnet_2b": CIFAR,
}
"""The images of each network; None: balls are around zero."""


def find(name: str, settings: Settings) -> Path | None:
    """The file of a network, or None after a line that says that it is skipped."""
    folder = settings.models if name in OWN else settings.data / "models" if settings.data else None
    if folder is None:
        settings.say(f"skipped {name}: no data folder (--data, or LIPCERT_TEST_DATA)")
        return None
    path = folder / f"{name}.onnx"
    if not path.is_file():
        settings.say(f"skipped {name}: the {'models' if name in OWN else 'data'} folder has no {path.name}")
        return None
    return path


def ball(name: str, model: Model, eps: float, settings: Settings, row: int = 0) -> Ball:
    """The l-infinity ball of radius `eps` around an image of the network's file, or around zero."""
    import math

    import numpy as np

    from lipcert.problem import Ball
    from lipcert.problem.reading import read_ball

    images = (OWN | OUTSIDE)[name]
    shape = model.inputs[0].shape
    if images is None:
        return Ball(np.zeros(math.prod(shape)), eps, math.inf)
    folder = settings.models if name in OWN else (settings.data or Path()) / "images"
    return read_ball(
        str(folder / images.file),
        eps,
        math.inf,
        shape,
        row=row,
        skip_columns=images.skip_columns,
        scale=images.scale,
        layout=images.layout,
    )
